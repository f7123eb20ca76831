"""Choose learning rates on tuning seeds, with the same candidates for every variant."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

from humanline.files.json_files import write_text
from humanline.files.typed_files import csv_text, read_columns, read_record
from humanline.files.validation import ConfigError, validate
from humanline.scoring.score_files import JUDGE_AGAIN, Correctness, Judgement
from humanline.study.experiments import Cell
from humanline.study.runs.rates import TunedRates
from humanline.study.runs.resolved import Run
from humanline.study.tasks import find_task

_HEADER = """\
# Learning rates of the {scale} scale, chosen by `snakemake tune --config scale={scale}`.
# Every variant was tried at the same rates, on validation prompts and on the same tuning seeds. No
# table reports these seeds. A variant whose best rate was the lowest or highest tried the next one,
# too; `at_edge` says that the best is still the last one. `score` is the mean over seeds, in per
# cent: the length-controlled win rate if a judge scores the task, else Pass@1 after the last step.
# The highest mean was chosen.
"""


def choose_learning_rates(
    runs: Sequence[Run], folder: Path, *, seeds: list[int], scale: str
) -> None:
    """Write `scores.csv`, one row per tuning run, and `learning_rates.yaml`.

    A search never changes the configuration it was run with: to use the rates, copy the second file
    to the path that `learning_rates` in the scale's file names.

    Args:
        runs: the tuning runs, each at one of the candidate rates.
        folder: where to write.
        seeds: the tuning seeds.
        scale: the scale's name.

    Raises:
        ConfigError: if no table is tuned, or a run's score is missing or damaged.
    """
    scores = _scores(runs)
    if scores.empty:
        raise ConfigError(
            f"scale {scale}: no table is tuned, so there is no rate to choose; write"
            " tuned: true into one of experiments.yaml"
        )
    write_text(folder / "scores.csv", csv_text(scores))
    path = folder / "learning_rates.yaml"
    content = {"seeds": seeds, "chosen": _choose(scores)}
    validate(TunedRates, content, path)  # the check that a scale makes when it reads the file
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    write_text(path, _HEADER.format(scale=scale) + text)


def best_rates(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Find the best rate of each variant among some tuning runs, by task and variant.

    Raises:
        ConfigError: if a run's score is missing or damaged.
    """
    return {
        task: {variant: choice["learning_rate"] for variant, choice in choices.items()}
        for task, choices in (_choose(_scores(runs)) if runs else {}).items()
    }


def _scores(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect the headline figure of every tuning run, in per cent."""
    return pd.DataFrame(
        [
            {
                "task": run.cell.task,
                "variant": _without_rate(run.cell).variant,
                "learning_rate": run.cell.overrides["learning_rate"],
                "seed": run.cell.seed,
                "score": final_score(run),
            }
            for run in runs
        ]
    )


def _choose(scores: pd.DataFrame) -> dict:
    """Choose the best rate of each variant by mean score, and list the scores of all rates."""
    chosen: dict = {}
    for (task, variant), rows in scores.groupby(["task", "variant"], sort=False):
        means = rows.groupby("learning_rate")["score"].mean()
        rates = means.index.to_numpy(dtype=float)
        best = int(means.argmax())
        is_edge = len(rates) > 1 and best in (0, len(rates) - 1)
        chosen.setdefault(task, {})[variant] = {
            "learning_rate": float(rates[best]),
            "score": {float(r): round(float(m), 2) for r, m in zip(rates, means, strict=True)},
        } | ({"at_edge": True} if is_edge else {})
    return chosen


def _without_rate(cell: Cell) -> Cell:
    overrides = {k: v for k, v in cell.overrides.items() if k != "learning_rate"}
    return cell.model_copy(update={"overrides": overrides})


def final_score(run: Run) -> float:
    """Read a run's headline figure in per cent, after its last step."""
    if find_task(run.cell.task).scoring == "judge":
        record = read_record(run.paths.summary, Judgement, JUDGE_AGAIN)
        return record.length_controlled_win_rate
    grades = read_columns(run.paths.grades, Correctness)
    return 100 * grades.loc[grades["step"] == grades["step"].max(), "correct"].mean()
