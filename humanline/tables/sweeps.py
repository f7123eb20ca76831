"""Sweeps: tables of scores with the settings that vary, over tasks, methods and options."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from humanline.data.training_files import Predictors
from humanline.files.typed_files import read_record
from humanline.study.cells import WITHOUT_BOUNDS, Cell
from humanline.study.experiments import OVERRIDES
from humanline.study.runs.requests import TableRequest
from humanline.tables.estimates import (
    Plain,
    columns,
    compared_p_value,
    comparison,
    final_scores,
    mean_seconds,
    most_seeds,
    plain_of,
)
from humanline.tables.run_results import (
    RunFolder,
    by_variant,
    notice_names,
    notices,
    read_cost,
    unclipped,
)
from humanline.tables.statistics.scores import Scores, difference

_ALWAYS_SHOWN = ("objective", "data", "method")
_P_VALUES = ["p_differs_from_offline", "p_differs_from_online"]  # exploration tests nothing
_COUNTS = ("quartile", "groups", "sample_every", "last_sampling", "k", "lora_r", "batch_size")


def sweep_table(
    table: TableRequest,
    runs: Sequence[RunFolder],
    *,
    compares_data: bool = False,
) -> pd.DataFrame:
    """Make a table of every variant's score, with the settings that vary in the table.

    Each variant is compared with plain offline and plain online training of the same objective and
    base model, if the table has them. This online training samples as often as the task's default.

    Args:
        table: the request, with its resolved runs in any order.
        runs: the table's cells with the folders of their runs.
        compares_data: add the log-probability of offline data under the initial model, from the
            predictors.json of `table.measured`.

    Raises:
        ConfigError: if a run's file is missing or damaged.
    """
    rows = []
    has_lora = any(cell.lora for cell, _ in runs)  # which is there to save memory
    measured = _measured(table) if compares_data else {}
    tasks = list(dict.fromkeys(cell.task for cell, _ in runs))
    for task in tasks:
        variants = by_variant([run for run in runs if run[0].task == task])
        scores = final_scores(variants, shares_prompts=table.shares_prompts(task))
        plain, most = plain_of(variants), most_seeds(scores)
        for name in variants:
            row = _row(table, variants[name], scores, plain, most)
            if has_lora:
                row["peak_memory_mib"] = _peak_memory(variants[name])
            if compares_data:
                row["data_log_probability"] = _data_log_probability(measured, variants[name])
            rows.append(row)
    frame = pd.DataFrame(rows)
    settings = {column for cell, _ in runs for column in _settings(cell)}
    trained = frame[frame["objective"] != "base"]
    may_be_idle = [c for c in frame if c in settings and c not in _ALWAYS_SHOWN]
    idle = [c for c in may_be_idle if trained[c].nunique(dropna=False) < 2]
    frame = frame.drop(columns=idle + _P_VALUES * table.spec.exploratory)
    counts = {*_COUNTS, *(name for task in tasks for name in notice_names(task))}
    return frame.astype({column: "Int64" for column in counts if column in frame})


def _row(
    table: TableRequest,
    group: list[RunFolder],
    scores: dict[str, Scores],
    plain: Plain,
    most: int,
) -> dict:
    cell = group[0][0]
    name = cell.variant
    run, usual = table.run(cell), table.defaults[cell.task].sample_every
    offline, online = plain(cell, "offline"), plain(cell, "online", usual)
    differs = [
        compared_p_value(difference, scores, name, other, "two-sided", most)
        for other in (offline, online)
    ]
    return {
        **_settings(cell),
        "learning_rate": run.learning_rate if run.is_trained else None,
        "rate_of": run.rate_source if run.is_trained else None,
        "seeds": len(group),
        **columns("score", scores[name]),
        **_notices(group),
        **comparison("difference_to_offline", difference, scores, name, offline),
        **comparison("difference_to_online", difference, scores, name, online),
        "p_differs_from_offline": differs[0],
        "p_differs_from_online": differs[1],
        "collapsed": _collapsed(scores[name], scores[cell.base.variant], table),
        "unclipped": np.mean([unclipped(d) for _, d in group]) if cell.humanline else None,
        "training_seconds": mean_seconds(group),
        "variant": name,
    }


def _notices(group: list[RunFolder]) -> dict[str, int]:
    found = [notices(cell, directory) for cell, directory in group]
    return {name: sum(run[name] for run in found) for name in found[0]}


def _settings(cell: Cell) -> dict:
    """Return the settings of a cell that may vary in a sweep, by column."""
    return {
        "task": cell.task,
        "base_model": cell.base_model or "default",
        "objective": cell.objective,
        "data": cell.data,
        "data_from": cell.data_from,
        "quartile": cell.quartile,
        "select": cell.select,
        "groups": cell.groups,
        "sample_every": cell.sample_every,
        "last_sampling": cell.last_sampling,
        "method": _method(cell),
        "k": cell.sync_interval,
        "sync_alpha": cell.sync_alpha,
        "log_eps_p": cell.log_eps_p,
        "log_eps_r": cell.log_eps_r,
        "lora_r": cell.lora and cell.lora.r,
        "lora_alpha": cell.lora and cell.lora.scaling,
        "reference": cell.lora and cell.lora.reference,
        **{name: cell.overrides.get(name) for name in _overridden(cell)},
    }


def _overridden(cell: Cell) -> list[str]:
    """List the options that cells may override, except the learning rate, which has a column."""
    return [name for name in (*OVERRIDES, *cell.overrides) if name != "learning_rate"]


def _method(cell: Cell) -> str | None:
    if cell.objective == "base":
        return None
    if cell.trust_region:
        return "trust region"
    if not cell.humanline:
        return "plain"
    parts = ["humanline"]
    if cell.sync_interval is None:
        parts.append("without syncing")
    if cell.perception in WITHOUT_BOUNDS:
        parts.append({"authors": "authors' sampling"}.get(cell.perception, "second moment"))
    elif cell.log_eps_p is None and cell.log_eps_r is None:
        parts.append("without clipping")
    if cell.perception == "sample":
        parts.append("sampling")
    return " ".join(parts)


def _collapsed(own: Scores, base: Scores, table: TableRequest) -> int:
    """Count the seeds whose score is far below their base model's."""
    limit = table.collapse_below * base.on(own.seeds).values
    return int((own.values < limit).sum())


def _peak_memory(group: list[RunFolder]) -> float | None:
    if group[0][0].objective == "base":
        return None
    return float(np.mean([read_cost(directory).peak_memory_mib for _, directory in group]))


def _measured(table: TableRequest) -> dict[Path, float]:
    """Read the mean token log-probability of offline data by run's folder, in nats."""
    return {
        run.paths.directory: read_record(
            run.paths.predictors, Predictors
        ).mean_token_log_probability
        for run in table.measured
    }


def _data_log_probability(measured: dict[Path, float], group: list[RunFolder]) -> float | None:
    """Return the mean token log-probability of offline data under the initial model, in nats."""
    found = [measured[directory] for _, directory in group if directory in measured]
    return float(np.mean(found)) if found else None
