"""What the stages left in run directories, read and checked for the tables.

A fault is a `ConfigError` of one line: the file, the field and the remedy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from humanline.config import ConfigError
from humanline.experiments import Cell
from humanline.files import read_json

Run = tuple[Cell, Path]


@dataclass(frozen=True)
class Judged:
    """An instruction-following run. Arrays are over prompts (P,), the same in all runs."""

    win: np.ndarray  # the judge's preference for the run over the baseline, in [0, 1]
    length: np.ndarray  # characters
    baseline_length: np.ndarray
    win_rate: float  # per cent, as alpaca_eval sums it up
    alpaca_eval_lc_win_rate: float
    mean_length: float
    training_seconds: float


@dataclass(frozen=True)
class Graded:
    """A math run."""

    correct: pd.DataFrame  # share of correct samples, optimizer steps by problems
    training_seconds: float

    @property
    def final(self) -> np.ndarray:
        """Share of correct samples after the last step, by problem (P,)."""
        return self.correct.iloc[-1].to_numpy()


def by_variant(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by variant, in the order of first appearance but the base model first.

    Within a variant runs are in the order of their seeds, which all variants must share.
    """
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
    """Read `annotations.json`, `metrics.json` and `train.json` of instruction-following runs."""
    tables = {
        directory: _annotations(directory / "annotations.json")
        for group in variants.values()
        for _, directory in group
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
        name: [_judged(cell, directory, tables[directory]) for cell, directory in group]
        for name, group in variants.items()
    }


def _judged(cell: Cell, directory: Path, annotations: pd.DataFrame) -> Judged:
    def metric(field: str) -> float:
        return _number(directory / "metrics.json", (field,), "judge that run again")

    return Judged(
        # alpaca_eval counts from 1, the baseline wins, to 2, the run wins.
        win=annotations["preference"].to_numpy(dtype=float) - 1,
        length=annotations["output_2"].str.len().to_numpy(),
        baseline_length=annotations["output_1"].str.len().to_numpy(),
        win_rate=metric("win_rate"),
        alpaca_eval_lc_win_rate=metric("length_controlled_winrate"),
        mean_length=metric("avg_length"),
        training_seconds=_training_seconds(cell, directory),
    )


def _annotations(path: Path) -> pd.DataFrame:
    """A run's annotations in an order that depends on its prompts alone."""
    again = "judge that run again"
    table = pd.DataFrame(read_json(path))
    _check_columns(path, table, ["instruction", "output_1", "output_2", "preference"], again)
    preference = pd.to_numeric(table["preference"], errors="coerce")
    if not preference.between(1, 2).all():
        raise ConfigError(f"{path}: field preference: not always a number from 1 to 2; {again}")
    return table.sort_values(["instruction", "output_1"], kind="stable")


def read_graded(variants: dict[str, list[Run]]) -> dict[str, list[Graded]]:
    """Read `grades.csv` and `train.json` of math runs."""
    runs = {
        name: [
            Graded(_grades(directory / "grades.csv"), _training_seconds(cell, directory))
            for cell, directory in group
        ]
        for name, group in variants.items()
    }
    problems: dict[Path, list] = {}
    for name, group in variants.items():
        paths = [directory / "grades.csv" for _, directory in group]
        graded = dict(zip(paths, (run.correct for run in runs[name]), strict=True))
        problems |= {path: list(correct.columns) for path, correct in graded.items()}
        steps = {path: list(correct.index) for path, correct in graded.items()}
        _check_same(steps, "step", "train and grade both runs with the same steps")
    _check_same(problems, "problem_id", "grade both runs on the same problems")
    return runs


def _grades(path: Path) -> pd.DataFrame:
    """Share of correct samples, optimizer steps by problems, both sorted."""
    again = "grade that run again"
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: cannot be read ({reason}); {again}") from None
    _check_columns(path, table, ["step", "problem_id", "correct"], again)
    if not table["correct"].isin([0, 1]).all():
        raise ConfigError(f"{path}: field correct: not always 0 or 1; {again}")
    correct = table.groupby(["step", "problem_id"])["correct"].mean().unstack()
    if correct.isna().any(axis=None):
        raise ConfigError(f"{path}: field problem_id: problems differ between steps; {again}")
    return correct


def _training_seconds(cell: Cell, directory: Path) -> float:
    """Wall-clock seconds of a run's training; NaN for the base model."""
    if cell.objective == "base":
        return math.nan
    return _number(directory / "train.json", ("seconds", "total"), "train that run again")


def _number(path: Path, keys: tuple[str, ...], remedy: str) -> float:
    value = read_json(path)
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, int | float):
        raise ConfigError(f"{path}: field {'.'.join(keys)}: missing or no number; {remedy}")
    return float(value)


def _check_columns(path: Path, table: pd.DataFrame, columns: list[str], remedy: str) -> None:
    if len(table) == 0:
        raise ConfigError(f"{path}: no rows; {remedy}")
    if missing := [column for column in columns if column not in table]:
        raise ConfigError(f"{path}: field {missing[0]}: missing; {remedy}")


def _check_same(values: dict[Path, list], field: str, remedy: str) -> None:
    """Raise unless all files have the same values."""
    first, *others = values
    for path in others:
        if values[path] != values[first]:
            raise ConfigError(f"{path}: field {field}: not the same as in {first}; {remedy}")
