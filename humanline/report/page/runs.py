"""The part of the page that says how each number was made: every run, and its cell.

A number links to the runs of a cell, ``#run-TASK/VARIANT``, or to one run,
``#run-TASK/VARIANT-sSEED``; `anchor` makes these names.
"""

import csv
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pandas as pd

from humanline.data.training_files import Described
from humanline.files.seals import require_seal
from humanline.files.typed_files import Columns, Count, read_columns
from humanline.files.validation import ConfigError
from humanline.report.origins.mixed import commit_words, record_of
from humanline.report.page.text import shown
from humanline.study.cells import Cell
from humanline.study.runs.hashes import content_hash
from humanline.study.runs.requests import PageRequest
from humanline.study.runs.resolved import Run
from humanline.study.tasks import SCORINGS, find_task
from humanline.study.words import cell_words
from humanline.tables.estimates import score_table

BUDGET = 800_000  # characters of metrics on the page; more are left to metrics.csv
AGAIN = "train that run again"


def anchor(cell: Cell, *, seed: bool = False) -> str:
    """Name the place of the page that says how a number was made, for a link.

    Args:
        cell: the cell of the number.
        seed: whether the number is that of the cell's seed alone.
    """
    return f"run-{cell.task}/{cell.name if seed else cell.variant}"


def context(request: PageRequest) -> dict:
    """Make the variables of the template: ``count`` of runs, ``has_metrics`` and ``data``."""
    scores = _scores(request)
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in request.runs:
        groups.setdefault((run.cell.task, run.cell.variant), []).append(run)
    sets = {name: _Numbered() for name in ("made", "metrics")}
    words = {key: cell_words(runs[0].cell) for key, runs in groups.items()}
    cells = [_cell(runs, scores, sets, words) for runs in groups.values()]
    has_metrics = (
        sum(len(v) for c in cells for r in c["runs"] for v in r.get("metrics", ())) < BUDGET
    )
    if not has_metrics:
        for run in (run for cell in cells for run in cell["runs"]):
            run.pop("metrics", None)
    data = {
        "cells": cells,
        "options": _options(request),
        "results": os.path.relpath(request.paths.results, request.paths.page.parent),
        "scores": {task: SCORINGS[find_task(task).scoring].score for task, _ in groups},
        **{name: list(found) for name, found in sets.items()},
    }
    return {"count": len(request.runs), "has_metrics": has_metrics, "data": data}


class _Numbered(dict):
    """Values that many runs share, each with its number."""

    def __missing__(self, value: object) -> int:
        self[value] = len(self)
        return self[value]


def _options(request: PageRequest) -> str:
    """Write the options of a command that are the same for all runs."""
    folders = {
        "scale": request.scale,
        "config": request.config,
        "results": request.paths.results.parent,
    }
    return " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in folders.items())


def _cell(
    runs: Sequence[Run],
    scores: dict[tuple, dict],
    sets: dict[str, _Numbered],
    words: dict[tuple[str, str], str],
) -> dict:
    """Describe a cell and its runs; `words` says what each cell is, by task and variant."""
    first = runs[0]
    return {
        "task": first.cell.task,
        "label": find_task(first.cell.task).label,
        "variant": first.cell.variant,
        "words": words[first.cell.task, first.cell.variant],
        "rate_from": _rate_from(first, words) if first.is_trained else None,
        "runs": [_run(run, scores, sets) for run in sorted(runs, key=lambda r: r.cell.seed)],
    }


def _rate_from(run: Run, words: dict[tuple[str, str], str]) -> str:
    """Say where a learning rate comes from."""
    told = {
        "own": "given by its row of experiments.yaml",
        "default": "the task's default, not tuned",
        run.cell.variant: "tuned for this cell",
    }
    source = words.get((run.cell.task, run.rate_source), run.rate_source)
    return told.get(run.rate_source, f"tuned for the nearest cell: {source}")


def _run(run: Run, scores: dict[tuple, dict], sets: dict[str, _Numbered]) -> dict:
    """Describe a run; what many runs share is the number of a value in one of `sets`."""
    found = {
        "seed": run.cell.seed,
        **scores.get((run.cell.task, run.cell.variant, run.cell.seed), {}),
    }
    if not run.is_trained:
        return found | {"hash": run.hashes.base_model}
    record = record_of(run)
    names, values = _last_metrics(run.paths.log)
    made_with = content_hash(record.manifest.model_dump())
    if made_with != run.hashes.train:
        found["now"] = run.hashes.train
    return found | {
        "hash": made_with,
        "seconds": record.seconds.total,
        "rate": record.manifest.learning_rate,
        "made": sets["made"][_made(record)],
        "names": sets["metrics"][names],
        "metrics": values,
    }


def machine_words(record: Described) -> str:
    """Say on what machine a run was trained; empty if that is not known."""
    machine = record.provenance.machine
    cores = machine.get("cores")
    counted = f"{cores} core{'s' * (cores != 1)}" if cores else None
    return ", ".join(filter(None, [machine.get("processor"), counted]))


def _made(record: Described) -> str:
    """Say which code trained a run, and on what machine."""
    commit = f"commit {commit_words(record.provenance.git)}"
    return shown(", ".join(filter(None, [commit, machine_words(record)])))


def _last_metrics(path: Path) -> tuple[tuple[str, ...], list[str]]:
    """Read the last value of every metric that a trainer logged, with at least three digits."""
    try:
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error}); {AGAIN}") from None
    require_seal(path)
    last = {name: value for row in rows for name, value in row.items() if name and value}
    return tuple(shown(name, 80) for name in last), [_short(value) for value in last.values()]


def _short(value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        return shown(value, 20)
    return f"{number:.0f}" if 1000 <= abs(number) < 1e9 else f"{number:.3g}"


def _scores(request: PageRequest) -> dict[tuple, dict]:
    """Find every run's score, its standard error and step, by task, variant and seed.

    If runs are still to be made, the table of all scores is, too, or is not of these runs.
    """
    if request.not_made:
        frame = score_table(request.runs)
    else:
        frame = read_columns(request.paths.tables / "scores.csv", _Score)
    rows = frame.to_dict("records")
    return {(row["task"], row["variant"], row["seed"]): _numbers(row) for row in rows}


class _Score(Columns):
    """The part of a row of `scores.csv` that the page shows."""

    remedy: ClassVar[str] = "run `humanline scores` again"
    task: str
    variant: str
    seed: Count
    step: Count
    score: float
    score_se: float | None

    @classmethod
    def fault(cls, frame: pd.DataFrame) -> str | None:
        """Look for a run that is there twice."""
        twice = frame.duplicated(["task", "variant", "seed"])
        if not twice.any():
            return None
        return f"row {int(twice.to_numpy().argmax())}: field variant: its run is there twice"


def _numbers(row: dict) -> dict[str, float]:
    columns = {"score": "score", "error": "score_se", "step": "step"}
    found = {name: row[column] for name, column in columns.items()}
    return {name: float(f"{value:.4g}") for name, value in found.items() if pd.notna(value)}
