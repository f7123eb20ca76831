"""Check that every table, figure and claim can run at a scale, before any job runs."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from humanline.files.validation import ConfigError, load_yaml
from humanline.study.checks import bounds, effects
from humanline.study.claims import ClaimError, Claims, Comparison, Test, comparisons
from humanline.study.experiments import (
    COMMON_OVERRIDES,
    Cell,
    Experiments,
    HumanlineDefaults,
    Row,
    Table,
)
from humanline.study.scale.data import GeneratedData
from humanline.study.scale.scale import Scale, TaskConfig
from humanline.trainers.registry import OBJECTIVES, find_objective, with_overrides


def table_fault(
    table: Table, defaults: dict[str, HumanlineDefaults], scale: Scale, scale_file: Path
) -> str | None:
    """Check that a table can run at a scale.

    Args:
        table: the table.
        defaults: humanline's defaults by task.
        scale: the scale.
        scale_file: the scale's file, for the fault.

    Returns:
        The first fault: field, reason and remedy. None: there is no fault.
    """
    if shared := set(table.seeds or []) & set(scale.seeds.validating):
        return f"seeds: {sorted(shared)} are tuning seeds of {scale_file}; use others"
    tasks = map(table.task_of, table.cells)
    rows = [row.cells(t, defaults[t], seed=0) for row, t in zip(table.cells, tasks, strict=True)]
    for index, cells in enumerate(rows):
        for cell in cells:
            if reason := _cell_fault(cell, scale, scale_file):
                return f"cells.{index}.{reason}"
    return effects.table_fault(table, rows)


def figure_fault(experiments: Experiments, scale: Scale, scale_file: Path) -> str | None:
    """Check that the figure of implied capacities can be made at a scale.

    Returns:
        The first fault: field, reason and remedy. None: there is no fault.
    """
    spec = experiments.implied_capacity
    if spec is None:
        return None
    if spec.task not in scale.tasks:
        return f"task: {spec.task} is not in tasks of {scale_file}; add it, or remove the figure"
    if spec.task not in experiments.defaults:
        return f"task: there are no defaults for {spec.task}; add them"
    if taken := {"policy", "on-policy"} & set(spec.sources):
        return f"sources.{min(taken)}: the name stands for the policy's own outputs; rename it"
    rows = {f"sources.{name}": row for name, row in spec.sources.items() if row != "base"}
    policy: Cell | None = None
    for place, row in ({"policy": spec.policy} | rows).items():
        if row.task:
            return f"{place}.task: the figure has one task for all; remove it"
        first, *others = row.cells(spec.task, experiments.defaults[spec.task], seed=0)
        if others:
            return f"{place}: stands for {1 + len(others)} runs; give each key one value"
        if reason := _cell_fault(first, scale, scale_file) or effects.row_fault(row, [first]):
            return f"{place}.{reason}"
        if place != "policy" and first == policy:
            return f"{place}: the policy itself, which the figure has anyway; remove it"
        policy = policy or first
    return None


def _cell_fault(cell: Cell, scale: Scale, scale_file: Path) -> str | None:
    """Find the first fault of a cell: the field of its row, reason and remedy."""
    task = scale.tasks[cell.task]
    training = task.training
    if cell.objective not in training.objectives:
        where = f"tasks.{cell.task}.training.objectives of {scale_file}"
        return f"objective: {cell.objective} is not in {where}; add it there"
    for field in ("base_model", "data_from"):
        name = getattr(cell, field)
        if name and name not in task.base_models:
            where = f"tasks.{cell.task}.base_models of {scale_file}"
            return f"{field}: {name!r} is not in {where}; add it there"
    if cell.humanline and cell.trust_region:
        return "trust_region: true, but humanline is true, too; choose one"
    if cell.last_sampling and (reason := _last_sampling_fault(cell)):
        return f"last_sampling: {cell.last_sampling}, but {reason}"
    if cell.sync_alpha and cell.lora and cell.lora.reference == "cached":
        return "lora.reference: cached keeps no old weights for soft syncs; use adapter"
    if cell.humanline and cell.log_eps_p == cell.log_eps_r == 0:
        return "log_eps_p: 0, and log_eps_r is 0, too: no interval is left; change either"
    if {"learning_rate", "learning_rate_factor"} <= set(cell.overrides):
        return "overrides.learning_rate_factor: given beside learning_rate; remove one"
    options = training.objectives[cell.objective]
    for key in cell.overrides:
        if key not in (*COMMON_OVERRIDES, *type(options).model_fields):
            readers = [name for name, row in OBJECTIVES.items() if key in row.options.model_fields]
            reason = f"only {' or '.join(readers)} reads it, not" if readers else "not read by"
            return f"overrides.{key}: {reason} {cell.objective}; remove it"
    if not (cell.humanline or cell.trust_region):
        for key in find_objective(cell.objective).humanline_only & set(cell.overrides):
            return f"overrides.{key}: only humanline reads it; set humanline: true, or remove it"
    model = task.base_models[cell.base_model] if cell.base_model else task.base_model
    devices = getattr(model, "gpus", None) or scale.devices
    try:
        options = with_overrides(options, cell.overrides)
    except ValidationError as error:
        detail = error.errors()[0]
        reason = f"{detail['msg']}, not {detail['input']:g}; change it"
        return f"overrides.{detail['loc'][0]}: {reason}"
    if found := training.objective_fault(cell.objective, options, devices):
        field, reason = found
        return f"overrides.{field}: {reason}"
    return _prompts_fault(cell, task, options.batch_size, scale_file)


def _last_sampling_fault(cell: Cell) -> str | None:
    """Find out why the last sampling cannot be at the cell's step."""
    row, every = find_objective(cell.objective), cell.sample_every
    if row.view.takes_groups:
        return f"{row.label} samples by TRL's own schedule to the end; remove it"
    if every and cell.last_sampling and cell.last_sampling % every:
        return f"sampling is every {every} steps; make it a multiple"
    return None


def _prompts_fault(cell: Cell, task: TaskConfig, batch_size: int, scale_file: Path) -> str | None:
    """Find out whether the prompts are too few for one sampling: the trainer would take no step."""
    takes_groups = find_objective(cell.objective).view.takes_groups
    if not takes_groups or not isinstance(task.data, GeneratedData):
        return None
    window = min(cell.sample_every or 1, task.training.steps)
    needed = window * batch_size // task.training.group_size
    if needed <= task.data.train:
        return None
    prompts = f"tasks.{cell.task}.data.train of {scale_file}, {task.data.train}"
    taken = f"{cell.objective} takes {needed} prompts at once"
    return f"objective: {taken}, more than {prompts}; raise that"


def possible_at(scale: Scale, experiments: Experiments) -> tuple[Experiments, dict[str, str]]:
    """Leave out what a scale cannot make.

    These are the rows that name one of its absent models, tables without other rows, and optional
    tables whose tasks or base models it does not have. Rows get the scale's LoRA.

    Returns:
        The experiments, and why a table is left out, by its name.
    """
    tables, left_out = {}, {}
    for name, table in experiments.tables.items():
        absent = {pair: why for pair, why in _absent(scale).items() if pair in table.base_models}
        if table.optional and not _has_all(scale, table):
            left_out[name] = "the scale lacks one of its tasks or base models"
        elif rows := [own for row in table.cells if (own := _possible(table, row, absent))]:
            told = f"{table.description} Not at this scale: {_told(absent)}."
            update = {"cells": rows, "description": told} if absent else {}
            tables[name] = table.model_copy(update=update)
        else:
            left_out[name] = _told(absent)
    found = experiments.model_copy(update={"tables": tables})
    return _with_lora(scale, found), left_out


def _with_lora(scale: Scale, experiments: Experiments) -> Experiments:
    """Make the scale's LoRA the default of rows that say nothing of it."""
    lora = {name: task.training.lora for name, task in scale.tasks.items()}
    defaults = {
        name: own.model_copy(update={"lora": lora.get(name) or own.lora})
        for name, own in experiments.defaults.items()
    }
    return experiments.model_copy(update={"defaults": defaults})


Absent = dict[tuple[str, str], str]  # reasons by task and name of a base model


def _absent(scale: Scale) -> Absent:
    """List the base models that a scale says it lacks, and why."""
    return {
        (task, name): reason
        for task, part in scale.tasks.items()
        for name, reason in part.absent_models.items()
    }


def absent_fault(
    scale: Scale, scale_file: Path, experiments: Experiments, claims: Claims | None
) -> str | None:
    """Find an absent model that nothing names, as by a slip of the pen.

    Args:
        scale: the scale.
        scale_file: its file. Names of a file that it extends may be more than are needed.
        experiments: all that experiments.yaml has.
        claims: all that claims.yaml has; None: there is no such file.

    Returns:
        The first fault: field, reason and remedy. None: there is no fault.
    """
    named = set().union(*(table.base_models for table in experiments.tables.values()))
    for claim in claims.claims if claims else []:
        named |= _named(claim.tests)
    if not (unnamed := set(_absent(scale)) - named):
        return None
    parts = load_yaml(scale_file).get("tasks", {})
    written = {(task, name) for task in parts for name in parts[task].get("absent_models") or ()}
    for task, name in sorted(unnamed & written):
        known = sorted(own for of, own in named if of == task)
        return (
            f"tasks.{task}.absent_models.{name}: no row of experiments.yaml and no claim names it; "
            f"use one of {', '.join(known) or 'none'}, or remove it"
        )
    return None


def _told(absent: Absent) -> str:
    """Write why base models are absent, each reason once."""
    names: dict[str, list[str]] = {}
    for (_, name), reason in sorted(absent.items()):
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{' and '.join(own)} ({reason})" for reason, own in names.items())


def _has_all(scale: Scale, table: Table) -> bool:
    """Whether a scale has or knows to lack all tasks and base models of a table."""
    known = {
        (task, name)
        for task, part in scale.tasks.items()
        for name in (*part.base_models, *part.absent_models)
    }
    return set(table.tasks) <= set(scale.tasks) and table.base_models <= known


def _possible(table: Table, row: Row, absent: Absent) -> Row | None:
    """Return a row without its absent models; None: nothing is left of it."""
    kept = _without({name: getattr(row, name) for name in _MODELS}, table.task_of(row), absent)
    return None if kept is None else row.model_copy(update=kept)


_MODELS = ("base_model", "data_from")  # the fields of rows that name base models


def _without(fields: Mapping[str, Any], task: str, absent: Absent) -> dict[str, Any] | None:
    """Return the fields of a row without absent models; None: nothing is left of a grid."""
    kept = dict(fields)
    for name in set(_MODELS) & set(fields):
        grid = fields[name] if isinstance(fields[name], list) else [fields[name]]
        found = [value for value in grid if (task, value) not in absent]
        if not found:
            return None
        kept[name] = found if isinstance(fields[name], list) else found[0]
    return kept


def claims_at(scale: Scale, claims: Claims) -> Claims:
    """Leave out the tests of claims that need a scale's absent models.

    A claim says which are missing. One without other tests is among the dropped ones.
    """
    absent = _absent(scale)
    kept, dropped = [], dict(claims.dropped)
    for claim in claims.claims:
        tests = [own for test in claim.tests if (own := _testable(test, absent))]
        if tests == claim.tests:
            kept.append(claim)
            continue
        needed = {pair: why for pair, why in absent.items() if pair in _named(claim.tests)}
        told = f"at this scale, {_told(needed)}"
        if tests:
            text = f"{claim.untested}; and {told}" if claim.untested else told
            kept.append(claim.model_copy(update={"tests": tests, "untested": text}))
        else:
            dropped[claim.id] = f"not tested {told}"
    return claims.model_copy(update={"claims": kept, "dropped": dropped})


def _testable(test: Test, absent: Absent) -> Test | None:
    """Return a test without its absent models; None: nothing is left of it."""
    sides = {name: getattr(test, name) for name in ("each", "cell", "against")}
    rows = {name: side for name, side in sides.items() if isinstance(side, dict)}
    kept = {name: _without(row, test.task, absent) for name, row in rows.items()}
    # A mean over fewer combinations is another claim.
    if None in kept.values() or (test.over and kept["each"] != test.each):
        return None
    return test.model_copy(update=kept)


def _named(tests: Iterable[Test]) -> set[tuple[str, str]]:
    """Collect the base models that tests name, each with its task."""
    return {
        (test.task, str(value))
        for test in tests
        for side in (test.each, test.cell, test.against)
        if isinstance(side, dict)
        for name in set(_MODELS) & set(side)
        for value in (side[name] if isinstance(side[name], list) else [side[name]])
    }


def require_tables(
    scale: Scale, experiments: Experiments, scale_file: Path, experiments_file: Path
) -> None:
    """Refuse tables and figures that cannot run at this scale.

    Args:
        scale: the scale.
        experiments: the tables and figures.
        scale_file, experiments_file: where they come from, for the error.

    Raises:
        ConfigError: at the first of them.
    """
    for name, table in experiments.tables.items():
        for task in table.tasks:
            if task not in scale.tasks:
                raise ConfigError(
                    f"{scale_file}: tasks.{task}: missing, but table {name} needs it; add it"
                )
        if reason := table_fault(table, experiments.defaults, scale, scale_file):
            raise ConfigError(f"{experiments_file}: tables.{name}.{reason}")
    if reason := figure_fault(experiments, scale, scale_file):
        raise ConfigError(f"{experiments_file}: implied_capacity.{reason}")


def claims_fault(
    claims: Claims,
    defaults: dict[str, HumanlineDefaults],
    common_seeds: Callable[[Iterable[Cell]], list[int]],
) -> str | None:
    """Find the first claim whose cells are wrong, or in no table.

    Args:
        claims: the claims.
        defaults: humanline's defaults by task.
        common_seeds: returns the seeds for which tables have all of some cells.

    Returns:
        The first fault: field, reason and remedy. None: there is no fault.
    """
    if reason := bounds.claims_fault(claims):
        return reason
    try:
        found = comparisons(claims, defaults)
    except ClaimError as error:
        return str(error)
    if reason := effects.claims_fault(claims, defaults):
        return reason
    for place, comparison in found:
        if not _has_finite_bounds(comparison):
            return f"{place}.margin: a bound of the claim is no finite number; change to or margin"
        if not common_seeds(comparison.cells):
            apart = [pair for pair in comparison.pairs if not common_seeds(pair)]
            cell, against = [*apart, *comparison.pairs][0]
            both = f"{cell.variant} and {against.variant} ({cell.task})"
            where = "tables of experiments.yaml have no seed with both"
            remedy = "add them, or remove this; tables that are extra do not count"
            return f"{place}: {where} {both}; {remedy}"
    return None


def _has_finite_bounds(comparison: Comparison) -> bool:
    try:
        tests = [*comparison.hypotheses, *comparison.refutations]
        effect = comparison.paper_effect or 0.0
        return all(map(math.isfinite, (effect, *(bound for bound, _ in tests))))
    except (OverflowError, ValueError):  # the logarithm of 0
        return False
