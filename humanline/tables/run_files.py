"""What the stages left in run directories, read and checked for the tables.

A fault is a `ConfigError` of one line: the file, the field and the remedy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from humanline.files.json_files import read_json
from humanline.files.validation import ConfigError
from humanline.scoring import annotations
from humanline.scoring.length_control import (
    Difficulty,
    length_control_warning,
    length_controlled_win_rate,
)
from humanline.study.experiments import Cell
from humanline.study.tasks import Task, find_task

Run = tuple[Cell, Path]


@dataclass(frozen=True)
class Judged:
    """A judged run. Arrays are over prompts (P,), the same in all runs."""

    win: np.ndarray  # the judge's preference for the run over the baseline, in [0, 1]; nan: none
    length: np.ndarray  # characters
    baseline_length: np.ndarray
    win_rate: float  # per cent, as alpaca_eval sums it up
    alpaca_eval_lc_win_rate: float
    mean_length: float
    difficulty: Difficulty | None = None  # of the prompts, where they are AlpacaEval's

    @property
    def n_prompts(self) -> int:
        return len(self.win)

    @property
    def left_out(self) -> int:
        """How many prompts the judge had no verdict on."""
        return int(np.isnan(self.win).sum())

    @property
    def length_control_warning(self) -> str | None:
        """Why the length-controlled win rate may say more than the rows do."""
        lengths = self.baseline_length, self.length
        return length_control_warning(self.win, *lengths, self.length_controlled_win_rate())

    def length_controlled_win_rate(self, weights: np.ndarray | None = None) -> float | np.ndarray:
        """In [0, 1]; with weights (R, P) that of each bootstrap replicate, (R,)."""
        return length_controlled_win_rate(
            self.win, self.baseline_length, self.length, weights, self.difficulty
        )


@dataclass(frozen=True)
class Graded:
    """A graded run."""

    correct: pd.DataFrame  # share of correct samples, optimizer steps by problems
    notices: dict[str, int]  # how often the outcomes that the task tells of, of all steps

    @property
    def final(self) -> np.ndarray:
        """Share of correct samples after the last step, by problem (P,)."""
        return self.correct.iloc[-1].to_numpy()

    @property
    def n_prompts(self) -> int:
        return self.correct.shape[1]


def by_variant(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by variant, in the order of first appearance but the base model first.

    Within a variant runs are in the order of their seeds, which all variants must share.
    """
    if not runs:
        raise ConfigError("no runs to compare; give the table cells in experiments.yaml")
    variants: dict[str, list[Run]] = {}
    for cell, directory in sorted(runs, key=lambda run: run[0].objective != "base"):
        variants.setdefault(cell.variant, []).append((cell, directory))
    for group in variants.values():
        group.sort(key=lambda run: run[0].seed)
    seeds = {name: [cell.seed for cell, _ in group] for name, group in variants.items()}
    first = next(iter(seeds))
    for name, own in seeds.items():
        if own != seeds[first]:
            folder = variants[name][0][1].parent
            raise ConfigError(
                f"{folder}: {name} has seeds {own}, but {first} has {seeds[first]};"
                " make the runs that are missing"
            )
    return variants


def read_judged(variants: dict[str, list[Run]]) -> dict[str, list[Judged]]:
    """Read `annotations.json` and `metrics.json` of judged runs."""
    tables = {
        directory: _annotations(directory) for group in variants.values() for _, directory in group
    }
    _check_same(
        {
            directory / "annotations.json": list(
                zip(table.instruction, table.output_1, strict=True)
            )
            for directory, table in tables.items()
        },
        "instruction and output_1",
        "judge both runs on the same prompts and baseline answers",
    )
    return {
        name: [_judged(directory, tables[directory]) for _, directory in group]
        for name, group in variants.items()
    }


def _judged(directory: Path, table: pd.DataFrame) -> Judged:
    def metric(field: str) -> float:
        bounds = (0, math.inf) if field == "avg_length" else (0, 100)
        return _number(directory / "metrics.json", (field,), "judge that run again", bounds)

    win, baseline_length, length = annotations.columns(table)
    return Judged(
        win=win,
        length=length,
        baseline_length=baseline_length,
        win_rate=metric("win_rate"),
        alpaca_eval_lc_win_rate=metric("length_controlled_winrate"),
        mean_length=metric("avg_length"),
        difficulty=annotations.difficulty_of(table),
    )


def _annotations(directory: Path) -> pd.DataFrame:
    """A run's annotations in an order that depends on its prompts alone."""
    path, again = directory / "annotations.json", "judge that run again"
    table = annotations.read_annotations(path, again)
    generator = table["generator_2"].iloc[0] if "generator_2" in table else None
    if generator not in (None, directory.name):
        raise ConfigError(f"{path}: field generator_2: {generator!r}, another run's; {again}")
    metrics = directory / "metrics.json"
    expected = _left_out(metrics)
    if (found := int(table["preference"].isna().sum())) != expected:
        raise ConfigError(
            f"{path}: field preference: not always a number from 1 to 2: {found} are null, but"
            f" {metrics.name} says {expected}; {again}"
        )
    return table.sort_values(["instruction", "output_1"], kind="stable")


def read_graded(
    variants: dict[str, list[Run]], *, whole_curves: bool = False
) -> dict[str, list[Graded]]:
    """Read `grades.csv` of graded runs of a task, which all end with the same step.

    Args:
        whole_curves: ask for the same steps before the last, too, within a variant.
    """
    runs = {
        name: [_graded(directory / "grades.csv", find_task(cell.task)) for cell, directory in group]
        for name, group in variants.items()
    }
    problems: dict[Path, list] = {}
    ends: dict[Path, list] = {}
    for name, group in variants.items():
        paths = [directory / "grades.csv" for _, directory in group]
        graded = dict(zip(paths, (run.correct for run in runs[name]), strict=True))
        problems |= {path: list(correct.columns) for path, correct in graded.items()}
        steps = {path: list(correct.index) for path, correct in graded.items()}
        if group[0][0].objective != "base":
            ends |= {path: own[-1:] for path, own in steps.items()}
        if whole_curves:
            _check_same(steps, "step", "train and grade both runs with the same steps")
    _check_same(ends, "step", "train and grade both runs with the same steps")
    _check_same(problems, "problem_id", "grade both runs on the same problems")
    return runs


def _graded(path: Path, task: Task) -> Graded:
    """A graded run's grades; steps and problems are sorted."""
    again = "grade that run again"
    anything = (-math.inf, math.inf)
    table = _csv(path, {"step": (0, math.inf), "problem_id": anything, "correct": anything}, again)
    if not (good := table["correct"].isin([0, 1])).all():
        row = int(np.argmin(good))
        reason = f"not always 0 or 1, but {table['correct'].iloc[row]} in row {row}"
        raise ConfigError(f"{path}: field correct: {reason}; {again}")
    # Grades of before outcomes were written have none.
    outcome = table.get("outcome", pd.Series("", table.index))
    known = outcome.isin(task.outcomes) if "outcome" in table else outcome.eq("")
    if not (
        good := known & (outcome.eq("") | outcome.eq(task.outcomes[0]).eq(table["correct"] == 1))
    ).all():
        row = int(np.argmin(good))
        reason = f"{outcome.iloc[row]} is no outcome of {table['correct'].iloc[row]} in row {row}"
        raise ConfigError(f"{path}: field outcome: {reason}; {again}")
    correct = table.groupby(["step", "problem_id"])["correct"].mean().unstack()
    if correct.isna().any(axis=None):
        raise ConfigError(f"{path}: field problem_id: problems differ between steps; {again}")
    counts = {notice.outcome: int(outcome.eq(notice.outcome).sum()) for notice in task.notices}
    return Graded(correct, counts)


def scores(cell: Cell, directory: Path) -> dict[int, float]:
    """A run's score by evaluated optimizer step, in per cent, as one number a seed.

    The length-controlled win rate where a judge scores, Pass@1 where completions are graded.
    """
    task = find_task(cell.task)
    if task.scoring == "grade":
        correct = _graded(directory / "grades.csv", task).correct
        return {int(step): 100 * value for step, value in correct.mean(axis=1).items()}
    path = directory / "curve.csv"
    bounds = {"step": (0, math.inf), "length_controlled_win_rate": (0, 100)}
    table = _csv(path, bounds, "judge that run again")
    return dict(zip(table["step"].astype(int), table["length_controlled_win_rate"], strict=True))


def notice_names(task: str) -> list[str]:
    """The columns of `notices` of a task's runs."""
    found = find_task(task)
    if found.scoring == "judge":
        return ["left_out", "length_control_warnings"]
    return [notice.outcome for notice in found.notices]


def notices(cell: Cell, directory: Path) -> dict[str, int]:
    """What a reader of a run's score has to know: counts by the name of a table's column."""
    task = find_task(cell.task)
    if task.scoring == "grade":
        return _graded(directory / "grades.csv", task).notices
    path = directory / "metrics.json"
    return {
        "left_out": _left_out(path),
        "length_control_warnings": int(bool(_object(path).get("length_control_warning"))),
    }


def _left_out(path: Path) -> int:
    """How many pairs a run's metrics say are left out; 0 where they are silent, as once."""
    count = _object(path).get("n_left_out", 0)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        reason = f"{count!r} is no count; judge that run again"
        raise ConfigError(f"{path}: field n_left_out: {reason}")
    return count


def _object(path: Path) -> dict:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not an object of fields; make it again")
    return content


@dataclass(frozen=True)
class Cost:
    """What a run's training took."""

    seconds: float  # wall-clock, sampling and labelling included
    sampling_seconds: float
    timeline: dict[int, float]  # seconds until an optimizer step
    sampled_tokens: int
    trained_tokens: int  # through the policy and back, prompts included
    peak_memory_mib: float


def training_seconds(cell: Cell, directory: Path) -> float:
    """Wall-clock seconds of a run's training; NaN for a base model."""
    if cell.objective == "base":
        return math.nan
    return _number(directory / "train.json", ("seconds", "total"), "train that run again")


def read_cost(directory: Path) -> Cost:
    """Read what a trained run took from `train.json` and `metrics.csv`."""
    path, again = directory / "train.json", "train that run again"

    def number(*keys: str) -> float:
        return _number(path, keys, again)

    timeline = _timeline(path, again)
    seconds = number("seconds", "total")
    return Cost(
        seconds=seconds,
        sampling_seconds=number("seconds", "sample"),
        timeline=timeline | {int(number("steps")): seconds},
        sampled_tokens=int(number("sampled_tokens")),
        # Some steps log none: GRPO counts when it samples.
        trained_tokens=int(read_metrics(directory)["num_tokens"].max()),
        peak_memory_mib=number("peak_memory_mib"),
    )


def read_metrics(directory: Path) -> pd.DataFrame:
    """What a run's trainer logged, a row for every few steps."""
    path, again = directory / "metrics.csv", "train that run again"
    table = _csv(path, {"step": (0, math.inf)}, again)
    # Some steps log no number of tokens, and some metrics are of some steps only.
    bounds = dict.fromkeys(table.select_dtypes("number").columns, (-math.inf, math.inf))
    _check_columns(path, table, {"num_tokens": (0, math.inf)} | bounds, again, gaps=True)
    return table


def unclipped(directory: Path) -> float:
    """Share of tokens within a humanline run's bounds, mean over training and completions."""
    return float(read_metrics(directory).filter(regex=r"^humanline/unclipped").mean(axis=None))


# The least and the greatest value of every column that is read.
Bounds = dict[str, tuple[float, float]]


def _csv(path: Path, bounds: Bounds, remedy: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: cannot be read ({reason}); {remedy}") from None
    _check_columns(path, table, bounds, remedy)
    return table


def _number(
    path: Path, keys: tuple[str, ...], remedy: str, bounds: tuple[float, float] = (0, math.inf)
) -> float:
    value = read_json(path)
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    field = f"{path}: field {'.'.join(keys)}"
    if not _is_number(value):
        raise ConfigError(f"{field}: missing or no number; {remedy}")
    if not bounds[0] <= value <= bounds[1]:
        raise ConfigError(
            f"{field}: {value:g} is not from {bounds[0]:g} to {bounds[1]:g}; {remedy}"
        )
    return float(value)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _timeline(path: Path, remedy: str) -> dict[int, float]:
    """Seconds of training until some of the optimizer steps."""
    rows = _object(path).get("timeline")
    for number, row in enumerate(rows if isinstance(rows, list) else [None]):
        values = [row.get(name) if isinstance(row, dict) else None for name in ("step", "seconds")]
        if not all(_is_number(value) and value >= 0 for value in values):
            what = f"row {number} has no step and seconds, both numbers"
            raise ConfigError(f"{path}: field timeline: {what}; {remedy}")
    return {row["step"]: row["seconds"] for row in rows}


def _check_columns(
    path: Path, table: pd.DataFrame, bounds: Bounds, remedy: str, *, gaps: bool = False
) -> None:
    """Raise unless a table has rows and its columns have finite numbers within bounds, or gaps."""
    if len(table) == 0:
        raise ConfigError(f"{path}: no rows; {remedy}")
    for column, (low, high) in bounds.items():
        if column not in table:
            raise ConfigError(f"{path}: field {column}: missing; {remedy}")
        values = pd.to_numeric(table[column], errors="coerce")
        good = np.isfinite(values) & values.between(low, high)
        if gaps:
            good |= table[column].isna()
        if not good.all():
            row = int(np.argmin(good))
            value = table[column].iloc[row]
            reason = f"{value} is no number from {low:g} to {high:g}"
            raise ConfigError(f"{path}: row {row}: field {column}: {reason}; {remedy}")


def _check_same(values: dict[Path, list], field: str, remedy: str) -> None:
    """Raise unless all files have the same values."""
    for path in values:
        first = next(iter(values))
        if values[path] != values[first]:
            raise ConfigError(f"{path}: field {field}: not the same as in {first}; {remedy}")
