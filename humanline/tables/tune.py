"""Learning rates: chosen on tuning seeds, with the same candidates for every variant."""

import pandas as pd
import yaml

from humanline.files.json_files import write_text
from humanline.files.records import read_columns, read_record
from humanline.files.validation import ConfigError, validate
from humanline.scoring.score_files import JUDGE_AGAIN, Correctness, Judgement
from humanline.study.experiments import Cell
from humanline.study.study import Study, TunedRates
from humanline.study.tasks import find_task

_HEADER = """\
# Learning rates of the {scale} scale, chosen by `snakemake tune --config scale={scale}`.
# Every variant was tried at the same rates on the same tuning seeds, which no table reports, and
# on validation prompts. `score` is the mean over seeds, in per cent: length-controlled win rate
# where a judge scores, else Pass@1 of the last step. The highest mean was chosen.
"""


def choose_learning_rates(study: Study) -> None:
    """Write `tune/scores.csv`, one row per tuning run, and `tune/learning_rates.yaml`.

    The latter is what `learning_rates` of the scale's file points to, once somebody adopts it by
    copying it there: a search never changes the configuration it was run with.
    """
    scores = pd.DataFrame(
        [
            {
                "task": cell.task,
                "variant": _without_rate(cell).variant,
                "learning_rate": cell.overrides["learning_rate"],
                "seed": cell.seed,
                "score": final_score(study, cell),
            }
            for task in study.scale.tasks
            for cell in study.tune_cells(task)
        ]
    )
    if scores.empty:
        raise ConfigError(
            f"scale {study.scale.scale}: no table is tuned, so there is no rate to choose; write"
            " tuned: true into one of experiments.yaml"
        )
    directory = study.results / "tune"
    write_text(directory / "scores.csv", scores.to_csv(index=False))
    path = directory / "learning_rates.yaml"
    content = {"seeds": study.scale.seeds.tune, "chosen": _choose(scores)}
    validate(TunedRates, content, path)  # as who adopts it will
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    write_text(path, _HEADER.format(scale=study.scale.scale) + text)


def _choose(scores: pd.DataFrame) -> dict:
    """The best rate of each variant by mean score, beside the scores of all rates."""
    chosen: dict = {}
    for (task, variant), rows in scores.groupby(["task", "variant"], sort=False):
        means = rows.groupby("learning_rate")["score"].mean()
        rates = means.index.to_numpy(dtype=float)
        chosen.setdefault(task, {})[variant] = {
            "learning_rate": float(rates[means.argmax()]),
            "score": {float(r): round(float(m), 2) for r, m in zip(rates, means, strict=True)},
        }
    return chosen


def _without_rate(cell: Cell) -> Cell:
    overrides = {k: v for k, v in cell.overrides.items() if k != "learning_rate"}
    return cell.model_copy(update={"overrides": overrides})


def final_score(study: Study, cell: Cell) -> float:
    """A run's headline figure in per cent."""
    directory = study.directory(cell)
    if find_task(cell.task).scoring == "judge":
        record = read_record(directory / "metrics.json", Judgement, JUDGE_AGAIN)
        return record.length_controlled_win_rate
    grades = read_columns(directory / "grades.csv", Correctness)
    return 100 * grades.loc[grades["step"] == grades["step"].max(), "correct"].mean()
