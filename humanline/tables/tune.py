"""Learning rates: chosen on tuning seeds, with the same candidates for every variant."""

import pandas as pd
import yaml

from humanline.data.stage_files import Judgement, read_record
from humanline.files.json_files import write_text
from humanline.files.validation import ConfigError
from humanline.study.config import how_scored
from humanline.study.experiments import Cell
from humanline.study.study import Study

_HEADER = """\
# Learning rates of the {scale} scale, chosen by `snakemake tune --config scale={scale}`.
# Every variant was tried at the same rates on the same tuning seeds, which no table reports, and
# on validation prompts. `score` is the mean over seeds, in per cent: length-controlled win rate
# for instruction following, Pass@1 of the last step for math. The highest mean was chosen.
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
    content = {"seeds": study.scale.seeds.tune, "chosen": _choose(scores)}
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    write_text(directory / "learning_rates.yaml", _HEADER.format(scale=study.scale.scale) + text)


def _choose(scores: pd.DataFrame) -> dict:
    """The best rate of each variant by mean score, beside the scores of all rates."""
    chosen: dict = {}
    for (task, variant), rows in scores.groupby(["task", "variant"], sort=False):
        means = rows.groupby("learning_rate")["score"].mean()
        chosen.setdefault(task, {})[variant] = {
            "learning_rate": float(means.idxmax()),
            "score": {float(rate): round(float(mean), 2) for rate, mean in means.items()},
        }
    return chosen


def _without_rate(cell: Cell) -> Cell:
    overrides = {k: v for k, v in cell.overrides.items() if k != "learning_rate"}
    return cell.model_copy(update={"overrides": overrides})


def final_score(study: Study, cell: Cell) -> float:
    """A run's headline figure in per cent."""
    directory = study.directory(cell)
    if how_scored(cell.task) == "judge":
        return read_record(directory / "metrics.json", Judgement).length_controlled_win_rate
    path = directory / "grades.csv"
    try:
        grades = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); grade that run again") from None
    if not {"step", "correct"} <= set(grades) or grades.empty or grades["step"].isna().any():
        raise ConfigError(f"{path}: fields step and correct: missing; grade that run again")
    if not grades["correct"].isin([0, 1]).all():
        raise ConfigError(f"{path}: field correct: not always 0 or 1; grade that run again")
    return 100 * grades.loc[grades["step"] == grades["step"].max(), "correct"].mean()
