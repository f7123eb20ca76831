"""Read and check, for the tables, the files that the stages wrote in run directories.

A fault is a `ConfigError` of one line: the file, the field and the remedy.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from humanline.data.training_files import TRAIN_AGAIN, LogRow, RunCost, Timed
from humanline.files.typed_files import read_columns, read_record
from humanline.files.validation import ConfigError
from humanline.scoring import annotations
from humanline.scoring.length_control import (
    Difficulty,
    length_control_warning,
    length_controlled_win_rate,
)
from humanline.scoring.score_files import (
    GRADE_AGAIN,
    JUDGE_AGAIN,
    CurvePoint,
    Notices,
    WinRates,
    grades_of,
)
from humanline.study.experiments import Cell
from humanline.study.tasks import find_task

RunFolder = tuple[Cell, Path]  # a cell and the folder of its run


@dataclass(frozen=True)
class Judged:
    """A judged run. Arrays are over prompts (P,), the same in all runs of a seed."""

    win: np.ndarray  # the judge's preference for the run over the baseline, in [0, 1], or nan
    length: np.ndarray  # characters of the run's outputs
    baseline_length: np.ndarray  # characters of the baseline's outputs
    win_rate: float  # per cent, by alpaca_eval
    alpaca_eval_lc_win_rate: float  # per cent
    mean_length: float  # characters
    difficulty: Difficulty | None = None  # the prompts' difficulties if they are AlpacaEval's

    @property
    def n_prompts(self) -> int:
        """How many prompts it was scored on."""
        return len(self.win)

    @property
    def left_out(self) -> int:
        """Number of prompts without a verdict of the judge."""
        return int(np.isnan(self.win).sum())

    @property
    def length_control_warning(self) -> str | None:
        """Why the length-controlled win rate may mislead; None if nothing points to it."""
        lengths = self.baseline_length, self.length
        return length_control_warning(self.win, *lengths, self.length_controlled_win_rate())

    def length_controlled_win_rate(self) -> float:
        """Compute the win rate at equal lengths, in [0, 1]."""
        lengths = self.baseline_length, self.length
        return length_controlled_win_rate(self.win, *lengths, difficulty=self.difficulty)

    def length_controlled_replicates(self, weights: np.ndarray) -> np.ndarray:
        """Compute the win rate at equal lengths for each row of weights, (R,), in [0, 1].

        Args:
            weights: how often each prompt counts, (R, P); 0 leaves it out.
        """
        lengths = self.baseline_length, self.length
        return length_controlled_win_rate(self.win, *lengths, weights, self.difficulty)


@dataclass(frozen=True)
class Graded:
    """A graded run. A problem_id names the same problem in all runs of a seed."""

    correct: pd.DataFrame  # share of correct samples, optimizer steps by problems
    notices: dict[str, int]  # counts, over all steps, of the outcomes that the task reports

    @property
    def final(self) -> np.ndarray:
        """Share of correct samples after the last step, by problem (P,)."""
        return self.correct.iloc[-1].to_numpy()

    @property
    def n_prompts(self) -> int:
        """How many prompts it was scored on."""
        return self.correct.shape[1]


def by_variant(runs: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
    """Group runs by variant. The base model is first; the others keep their order.

    Within a variant, runs are in the order of their seeds. Variants may have different seeds.

    Raises:
        ConfigError: if there are no runs.
    """
    if not runs:
        raise ConfigError("no runs to compare; give the table cells in experiments.yaml")
    variants: dict[str, list[RunFolder]] = {}
    for cell, directory in sorted(runs, key=lambda run: run[0].objective != "base"):
        variants.setdefault(cell.variant, []).append((cell, directory))
    for group in variants.values():
        group.sort(key=lambda run: run[0].seed)
    return variants


def read_judged(variants: dict[str, list[RunFolder]]) -> dict[str, list[Judged]]:
    """Read `annotations.json` and `metrics.json` of judged runs.

    Raises:
        ConfigError: if a file is missing or damaged, or two runs of a seed have other prompts or
            baselines. Whether the seeds share them is the scale's to say: `Run.shares_prompts`.
    """
    found = {directory: _judged(directory) for group in variants.values() for _, directory in group}
    remedy = "judge both runs on the same prompts and baseline answers"
    for folders in _by_seed(variants):
        asked = {directory / "annotations.json": found[directory][1] for directory in folders}
        _check_same(asked, "instruction and output_1", remedy)
    return {
        name: [found[directory][0] for _, directory in group] for name, group in variants.items()
    }


def _by_seed(variants: dict[str, list[RunFolder]]) -> list[list[Path]]:
    """Group the folders of all runs by seed."""
    folders: dict[int, list[Path]] = {}
    for group in variants.values():
        for cell, directory in group:
            folders.setdefault(cell.seed, []).append(directory)
    return list(folders.values())


def _judged(directory: Path) -> tuple[Judged, bytes]:
    """Read a judged run, and hash what it was asked: many runs' texts would fill the memory."""
    table = _annotations(directory)
    digest = hashlib.sha256()
    for instruction, baseline in zip(table["instruction"], table["output_1"], strict=True):
        digest.update(f"{len(instruction)} {instruction}{len(baseline)} {baseline}".encode())
    rates = read_record(directory / "metrics.json", WinRates, JUDGE_AGAIN)
    win, baseline_length, length = annotations.columns(table)
    judged = Judged(
        win=win,
        length=length,
        baseline_length=baseline_length,
        win_rate=rates.win_rate,
        alpaca_eval_lc_win_rate=rates.length_controlled_winrate,
        mean_length=rates.avg_length,
        difficulty=annotations.difficulty_of(table),
    )
    return judged, digest.digest()


def _annotations(directory: Path) -> pd.DataFrame:
    """Read a run's annotations, in an order that depends on its prompts alone."""
    path = directory / "annotations.json"
    table = annotations.read_annotations(path, JUDGE_AGAIN)
    generator = table["generator_2"].iloc[0] if "generator_2" in table else None
    if generator not in (None, directory.name):
        raise ConfigError(f"{path}: field generator_2: {generator!r}, another run's; {JUDGE_AGAIN}")
    metrics = directory / "metrics.json"
    expected = read_record(metrics, Notices, JUDGE_AGAIN).n_left_out
    if (found := int(table["preference"].isna().sum())) != expected:
        raise ConfigError(
            f"{path}: field preference: not always a number from 1 to 2: {found} are null, but"
            f" {metrics.name} says {expected}; {JUDGE_AGAIN}"
        )
    # pandas sorts few texts slowly, and a table has thousands of runs.
    keys = list(zip(table["instruction"], table["output_1"], strict=True))
    return table.iloc[sorted(range(len(keys)), key=keys.__getitem__)]


def read_graded(
    variants: dict[str, list[RunFolder]], *, whole_curves: bool = False
) -> dict[str, list[Graded]]:
    """Read `grades.csv` of graded runs of one task.

    Args:
        variants: runs by variant.
        whole_curves: require the same evaluated steps in all runs of a variant.

    Raises:
        ConfigError: if a file is missing or damaged, or two runs have other problems or last steps.
    """
    runs = {
        name: [_graded(directory / "grades.csv", cell.task) for cell, directory in group]
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


def _graded(path: Path, task: str) -> Graded:
    """Read a graded run's grades, with steps and problems sorted."""
    table = read_columns(path, grades_of(task))
    correct = table.groupby(["step", "problem_id"])["correct"].mean().unstack()
    if correct.isna().any(axis=None):
        raise ConfigError(f"{path}: field problem_id: problems differ between steps; {GRADE_AGAIN}")
    # Older files have no outcomes.
    outcome = table.get("outcome", pd.Series("", table.index))
    return Graded(correct, {name: int(outcome.eq(name).sum()) for name in notice_names(task)})


def scores(cell: Cell, directory: Path) -> dict[int, float]:
    """Read a run's score by evaluated optimizer step, in per cent.

    The score is the length-controlled win rate if a judge scores the task, and Pass@1 if its
    completions are graded.
    """
    if find_task(cell.task).scoring == "grade":
        correct = _graded(directory / "grades.csv", cell.task).correct.mean(axis=1)
        return dict(zip(correct.index.astype(int), 100 * correct, strict=True))
    table = read_columns(directory / "curve.csv", CurvePoint)
    return dict(zip(table["step"].astype(int), table["length_controlled_win_rate"], strict=True))


def notice_names(task: str) -> list[str]:
    """List the columns of a task's `notices`."""
    found = find_task(task)
    if found.scoring == "judge":
        return ["left_out", "length_control_warnings"]
    return [notice.outcome for notice in found.notices]


def notices(cell: Cell, directory: Path) -> dict[str, int]:
    """Read the counts that a reader of a run's score must know, by column of a table."""
    if find_task(cell.task).scoring == "grade":
        return _graded(directory / "grades.csv", cell.task).notices
    found = read_record(directory / "metrics.json", Notices, JUDGE_AGAIN)
    return {
        "left_out": found.n_left_out,
        "length_control_warnings": int(bool(found.length_control_warning)),
    }


@dataclass(frozen=True)
class Cost:
    """The cost of a run's training."""

    seconds: float  # wall-clock, with sampling and labelling
    sampling_seconds: float  # sampling and labelling
    timeline: dict[int, float]  # seconds from the start to an optimizer step
    sampled_tokens: int  # completions
    trained_tokens: int  # prompts and completions
    peak_memory_mib: float


def training_seconds(cell: Cell, directory: Path) -> float:
    """Read the wall-clock seconds of a run's training; NaN for a base model."""
    if cell.objective == "base":
        return math.nan
    return read_record(directory / "train.json", Timed, TRAIN_AGAIN).seconds.total


def read_cost(directory: Path) -> Cost:
    """Read the cost of a trained run from `train.json` and `metrics.csv`."""
    record = read_record(directory / "train.json", RunCost, TRAIN_AGAIN)
    timeline = {point.step: point.seconds for point in record.timeline}
    return Cost(
        seconds=record.seconds.total,
        sampling_seconds=record.seconds.sample,
        timeline=timeline | {record.steps: record.seconds.total},
        sampled_tokens=record.sampled_tokens,
        # Some steps log no count: a trainer that samples counts only when it samples.
        trained_tokens=int(read_metrics(directory)["num_tokens"].max()),
        peak_memory_mib=record.peak_memory_mib,
    )


def read_metrics(directory: Path) -> pd.DataFrame:
    """Read the metrics that a run's trainer logged every few steps."""
    return read_columns(directory / "metrics.csv", LogRow)


def unclipped(directory: Path, side: str = "") -> float:
    """Return the share (0 to 1) of tokens that pass a gradient, averaged over training.

    Of clipping these are the tokens within the bounds; of sampling, each token counts by its chance
    to pass.

    Args:
        directory: the run's folder.
        side: "_chosen" or "_rejected" (of groups: by the sign of the advantage); empty: their mean.
    """
    shares = read_metrics(directory).filter(regex=rf"^humanline/unclipped{side}")
    return float(cast(float, shares.mean(axis=None)))  # typed as any scalar, dates among them


def _check_same(values: Mapping[Path, list | bytes], field: str, remedy: str) -> None:
    """Raise unless all files have the same values."""
    for path in values:
        first = next(iter(values))
        if values[path] != values[first]:
            raise ConfigError(f"{path}: field {field}: not the same as in {first}; {remedy}")
