"""Check that every table, figure and claim can run at a scale, before any job runs."""

from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from humanline.files.validation import ConfigError
from humanline.study.claims import ClaimError, Claims, comparisons
from humanline.study.experiments import (
    COMMON_OVERRIDES,
    Cell,
    Experiments,
    HumanlineDefaults,
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
    for index, row in enumerate(table.cells):
        task = table.task_of(row)
        for cell in row.cells(task, defaults[task], seed=0):
            if reason := _cell_fault(cell, scale, scale_file):
                return f"cells.{index}.{reason}"
    return None


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
    for place, row in ({"policy": spec.policy} | rows).items():
        if row.task:
            return f"{place}.task: the figure has one task for all; remove it"
        first, *others = row.cells(spec.task, experiments.defaults[spec.task], seed=0)
        if others:
            return f"{place}: stands for {1 + len(others)} runs; give each key one value"
        if reason := _cell_fault(first, scale, scale_file):
            return f"{place}.{reason}"
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


def possible_at(scale: Scale, experiments: Experiments) -> Experiments:
    """Drop the optional tables whose tasks or base models a scale lacks; give rows its LoRA."""
    models = {(task, name) for task, part in scale.tasks.items() for name in part.base_models}
    tables = {
        name: table
        for name, table in experiments.tables.items()
        if not table.optional
        or (set(table.tasks) <= set(scale.tasks) and table.base_models <= models)
    }
    defaults = dict(experiments.defaults)
    for name, task in scale.tasks.items():
        if task.training.lora and name in defaults:
            defaults[name] = defaults[name].model_copy(update={"lora": task.training.lora})
    return experiments.model_copy(update={"tables": tables, "defaults": defaults})


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
    try:
        found = comparisons(claims, defaults)
    except ClaimError as error:
        return str(error)
    for place, comparison in found:
        if not common_seeds(comparison.cells):
            apart = [pair for pair in comparison.pairs if not common_seeds(pair)]
            cell, against = [*apart, *comparison.pairs][0]
            both = f"{cell.variant} and {against.variant} ({cell.task})"
            where = "tables of experiments.yaml have no seed with both"
            remedy = "add them, or remove this; tables that are extra do not count"
            return f"{place}: {where} {both}; {remedy}"
    return None
