"""The tables of experiments, and the rows that describe their cells.

`Experiments` is workflow/config/experiments.yaml. Snakefiles import this module, so it is cheap.
"""

import itertools
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

from pydantic import Field, model_validator

from humanline.files.validation import ConfigError, Strict, fault
from humanline.study.cells import (
    WITHOUT_BOUNDS,
    Cell,
    Data,
    Perception,
    Selection,
    base_cell,
)
from humanline.study.tasks import TaskName, scoring_of
from humanline.study.values import FileName, Label, Lora, Objective, PositiveInt, SeedList
from humanline.trainers.registry import find_objective, option_names

# The word "none" in a row. It is needed because a key that is left out gets the task's default.
Nothing = Literal["none"]
LowerBound = Annotated[float, Field(le=0)]
UpperBound = Annotated[float, Field(ge=0)]
Alpha = Annotated[float, Field(gt=0, le=1)]
Quartile = Annotated[int, Field(ge=1, le=4)]
Value = TypeVar("Value")
Grid: TypeAlias = Value | Annotated[list[Value], Field(min_length=1)]

MOST_RUNS = 20_000  # of a study: to list more takes minutes before any job, and is a slip

# The prompts of a task: training reads `train`, tuning `validation`, and the tables `evaluation`.
SPLITS = ("train", "validation", "evaluation")


def _is_none(value: Any) -> bool:
    return value is None


class HumanlineDefaults(Strict):
    """The defaults of a task's cells, for options that their row leaves out."""

    sample_every: PositiveInt = Field(description="optimizer steps per round of online sampling")
    sync_interval: PositiveInt = Field(description="k: optimizer steps per sync of the reference")
    log_eps_p: float = Field(le=0, description="lower bound of the log-ratio, nats")
    log_eps_r: float = Field(ge=0, description="upper bound of the log-ratio, nats")
    # Hashes have it only where it is given: the first versions had no such option.
    lora: Lora | None = Field(
        None,
        exclude_if=_is_none,
        description="adapters that train, unless the scale's training.lora gives others; null: the "
        "whole model trains",
    )


# The options that every row may override, besides its objective's hyperparameters.
COMMON_OVERRIDES = ("learning_rate", "learning_rate_factor", "max_grad_norm")
OVERRIDES = (*COMMON_OVERRIDES, *option_names())


class Row(Strict):
    """One entry of a table's `cells`. A list stands for each of its values (a grid)."""

    task: TaskName | None = Field(
        None, description="what it is trained for; null: the table's task"
    )
    base_model: Grid[str | Nothing] | None = Field(
        None, description="a name in the scale's base_models; null or none: the task's own"
    )
    objective: Grid[Objective] = Field(description="the loss")
    data: Grid[Data] = Field(description="sampled once from the base model, or from the policy")
    data_from: Grid[str | Nothing] | None = Field(
        None, description="base model that offline data come from; null or none: the run's own"
    )
    quartile: Grid[Quartile] | None = Field(
        None,
        description="a quarter of the offline prompts, by the mean token log-probability of their "
        "completions under the initial model: lowest (1) to highest (4); null: all prompts",
    )
    select: Grid[Selection | Nothing] | None = Field(
        None,
        description="a quarter of the offline prompts. spread: those whose best and worst "
        "completions differ most in score; score: those whose best completion scores highest; null "
        "or none: all prompts",
    )
    groups: Grid[PositiveInt] | None = Field(
        None, description="number of offline prompts to train on, from the first; null: all"
    )
    sample_every: Grid[PositiveInt] | None = Field(
        None, description="optimizer steps per round of online sampling; null: the task's default"
    )
    last_sampling: Grid[PositiveInt] | None = Field(
        None,
        description="online training that goes on offline: at this optimizer step the policy "
        "samples for the last time, for all steps that are left; null: it samples to the end",
    )
    humanline: Grid[bool] = Field(False, description="clip and sync as humanline does")
    trust_region: Grid[bool] = Field(
        False, description="a baseline: no clipping, and syncs after the update (arXiv 2404.09656)"
    )
    perception: Grid[Perception] = Field(
        "clip",
        description="clip: humanline clipping; sample: humanline sampling around the bounds; "
        "authors: humanline sampling as in the authors' code, without these bounds; second_moment: "
        "not humanline's: the tokens that moved most pass no gradient (arXiv 2510.01161)",
    )
    sync_interval: Grid[PositiveInt | Nothing] | None = Field(
        None, description="k: optimizer steps per sync; none: never; null: the task's default"
    )
    sync_alpha: Grid[Alpha] | None = Field(
        None, description="share of the policy in a soft sync; null: a copy"
    )
    log_eps_p: Grid[LowerBound | Nothing] | None = Field(
        None,
        description="lower bound of the log-ratio, nats; none: no bound; null: the task's default",
    )
    log_eps_r: Grid[UpperBound | Nothing] | None = Field(
        None,
        description="upper bound of the log-ratio, nats; none: no bound; null: the task's default",
    )
    lora: Grid[Lora | Nothing] | None = Field(
        None,
        exclude_if=_is_none,
        description="train adapters of the linear layers, {r: 16}, and not the model's own "
        "weights; none: the whole model; null: the scale's training.lora",
    )
    overrides: dict[str, Grid[float]] = Field(
        {}, description="training options in place of the scale's"
    )

    @model_validator(mode="after")
    def _known_overrides(self) -> Self:
        own = [
            key
            for options in (find_objective(name).options for name in _grid(self.objective))
            for key in options.model_fields
            if key not in options.OF_SCALES
        ]
        known = dict.fromkeys([*OVERRIDES, *own])
        for key, grid in self.overrides.items():
            if key not in known:
                raise fault(f"overrides.{key}", f"unknown key; use one of {', '.join(known)}")
            for value in _grid(grid):
                if key in COMMON_OVERRIDES and not value > 0:
                    raise fault(f"overrides.{key}", f"{value:g} is not positive; change it")
        return self

    @property
    def size(self) -> int:
        """The number of its cells on one seed, with those that are alike."""
        grids = [getattr(self, name) for name in Row.model_fields if name != "overrides"]
        return math.prod(len(_grid(grid)) for grid in (*grids, *self.overrides.values()))

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if self.size > MOST_RUNS:
            raise fault("", f"stands for {self.size} cells, more than {MOST_RUNS}; shorten lists")
        return self

    def cells(self, task: TaskName, defaults: HumanlineDefaults, seed: int) -> list[Cell]:
        """Expand the grid for one seed, in the order of the file.

        Args:
            task: the task's name.
            defaults: humanline's defaults of the task.
            seed: the seed.
        """
        options = self.model_dump(exclude={"task", "overrides", "lora"}) | {"lora": self.lora}
        options |= {f"overrides.{key}": value for key, value in self.overrides.items()}
        grid = [_grid(value) for value in options.values()]
        return [
            _complete(dict(zip(options, point, strict=True)), task, defaults, seed)
            for point in itertools.product(*grid)
        ]


def _grid(value: Any) -> list:
    """List a grid's values."""
    return value if isinstance(value, list) else [value]


def _complete(point: dict, task: TaskName, defaults: HumanlineDefaults, seed: int) -> Cell:
    """Fill in the defaults, and clear the options that have no effect on this cell."""
    overrides = {k: point.pop(k) for k in list(point) if k.startswith("overrides.")}
    point = {k: getattr(defaults, k, None) if v is None else v for k, v in point.items()}
    cleared = [k for k, v in point.items() if v == "none"]
    if point["data"] == "offline":
        cleared += ["sample_every", "last_sampling"]
    else:
        cleared += ["data_from", "quartile", "select", "groups"]
    if not point["humanline"]:
        cleared += ["log_eps_p", "log_eps_r", "perception"]
    if point["perception"] in WITHOUT_BOUNDS:
        cleared += ["log_eps_p", "log_eps_r"]
    if not (point["humanline"] or point["trust_region"]):
        cleared += ["sync_interval", "sync_alpha"]
    point |= dict.fromkeys(cleared)
    if point["sync_interval"] is None:
        point["sync_alpha"] = None
    if point["lora"]:
        point["lora"] = _only_what_counts(point["lora"], point)
    if point["perception"] == "clip":  # the default, so it is not in the cell's name
        point["perception"] = None
    overrides = {key.removeprefix("overrides."): value for key, value in overrides.items()}
    return Cell(task=task, seed=seed, overrides=overrides, **point)


def _only_what_counts(lora: Lora, point: dict) -> Lora:
    """Leave out what is the default or has no effect on a cell: it is not in the cell's name."""
    usual = "adapter" if point["sync_alpha"] else "cached"
    # A reference that never syncs is the model without its adapter, however it is kept.
    is_usual = lora.reference == usual or point["sync_interval"] is None
    alpha = None if lora.alpha == 2 * lora.r else lora.alpha
    return lora.model_copy(
        update={"alpha": alpha, "reference": None if is_usual else lora.reference}
    )


TunedKind = dict[Literal["sync_interval", "sample_every"], PositiveInt]


class Table(Strict):
    """A table: its rows, its seeds, and its view."""

    task: TaskName | None = Field(
        None, description="what its cells are trained for; null: each row has its own task"
    )
    view: Literal["headline", "sweep", "cost"] = Field(
        "sweep",
        description="headline: win rates or Pass@1 of one task; sweep: scores beside what varies; "
        "cost: time, tokens and memory",
    )
    description: str = Field(description="the beginning of its caption")
    # No result depends on it, so no hash of the options has it.
    optional: bool = Field(
        False,
        exclude=True,
        description="true: a scale that lacks one of its tasks or base models leaves the table "
        "out; false: that is an error",
    )
    seeds: SeedList | None = Field(
        None,
        description="its seeds; null: the scale's report seeds for cells that a primary claim "
        "compares, sweep seeds for others and for tables of cost",
    )
    extra: bool = Field(
        False, exclude=True, description="true: no claim needs it; `snakemake all_tables` makes it"
    )
    exploratory: bool = Field(
        False, description="on the tuning seeds and validation prompts, made by `snakemake explore`"
    )
    tuned: bool | Annotated[TunedKind, Field(min_length=1)] = Field(
        False,
        description="true: the learning rate of every variant is tuned; {sync_interval: 4}: of "
        "variants with this value; a variant that is not tuned takes the rate of the nearest tuned "
        "one with the same objective, data and method",
    )
    cells: list[Row] = Field(min_length=1, max_length=5000, description="its rows, in order")

    def tunes(self, cell: Cell) -> bool:
        """Say whether the learning rate of a cell of this table is tuned."""
        if isinstance(self.tuned, bool):
            return self.tuned
        return all(getattr(cell, field) == value for field, value in self.tuned.items())

    @model_validator(mode="after")
    def _rows_have_one_task(self) -> Self:
        for index, row in enumerate(self.cells):
            if bool(row.task) == bool(self.task):
                where = "in the table, too" if row.task else "neither here nor in the table"
                raise fault(f"cells.{index}.task", f"given {where}; give it once")
        if self.exploratory and self.seeds:
            raise fault("seeds", "an exploratory table has the tuning seeds; remove them")
        if self.exploratory and self.extra:
            raise fault("extra", "`snakemake explore` makes exploratory tables; remove it")
        if self.view == "headline" and not self.task:
            raise fault("task", "missing; a headline table is about one task: add it")
        return self

    @property
    def compares_data(self) -> bool:
        """Whether its cells differ in the source or the likelihood of their offline data."""
        return any(row.quartile or row.data_from for row in self.cells)

    @property
    def has_curves(self) -> bool:
        """Whether it comes with learning curves."""
        if self.view != "headline" or self.task is None:
            return False
        return scoring_of(self.task).has_curves

    @property
    def tasks(self) -> list[TaskName]:
        """The tasks of its rows, in order of appearance."""
        return list(dict.fromkeys(map(self.task_of, self.cells)))

    @property
    def base_models(self) -> set[tuple[TaskName, str]]:
        """The base models that its rows name, each with its task."""
        return {
            (self.task_of(row), name)
            for row in self.cells
            for name in (*_grid(row.base_model), *_grid(row.data_from))
            if name and name != "none"
        }

    def task_of(self, row: Row) -> TaskName:
        """Return the task of a row: its own, or the table's."""
        task = row.task or self.task
        assert task is not None  # `_rows_have_one_task` refuses a row without
        return task


class ImpliedCapacity(Strict):
    """The figure of implied capacities: the models whose outputs it shows."""

    task: TaskName = Field(description="what the models are trained for")
    policy: Row = Field(description="the policy; its reference is its base model")
    sources: dict[Label, Row | Literal["base"]] = Field(
        min_length=1, description="other sources of data, by their names in the figure"
    )


class Experiments(Strict):
    """workflow/config/experiments.yaml."""

    defaults: dict[TaskName, HumanlineDefaults] = Field(description="defaults of each task")
    collapse_below: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="a run that scores less than this share of its base model's "
        "score has collapsed; the rule is set before the runs",
    )
    tables: dict[FileName, Table] = Field(
        min_length=1, description="the tables, by the name of their files"
    )

    implied_capacity: ImpliedCapacity | None = Field(
        None, description="the figure of implied capacities; null: no such figure"
    )

    @model_validator(mode="after")
    def _every_task_has_defaults(self) -> Self:
        for name, table in self.tables.items():
            for task in table.tasks:
                if task not in self.defaults:
                    raise fault(f"defaults.{task}", f"missing, but table {name} needs it; add it")
        return self

    @property
    def capacity_figure(self) -> ImpliedCapacity:
        """The figure of implied capacities.

        Raises:
            ConfigError: if there is none.
        """
        if self.implied_capacity is None:
            raise ConfigError("experiments.yaml: implied_capacity: missing; add it for that figure")
        return self.implied_capacity

    def cells(self, table: str, seeds: Callable[[Cell], list[int]]) -> list[Cell]:
        """List a table's cells on the seeds of each, base models first, each cell once."""
        spec = self.tables[table]
        cells = [
            cell.model_copy(update={"seed": seed})
            for row in spec.cells
            for task in [spec.task_of(row)]
            for cell in row.cells(task, self.defaults[task], seed=0)
            for seed in seeds(cell)
        ]
        cells = [cell.base for cell in cells] + cells
        return list({(cell.task, cell.name): cell for cell in cells}.values())

    def perceived(self, seed: int) -> dict[str, Cell]:
        """Find the cells of `capacity_figure`: policy and data sources, by name."""
        spec = self.capacity_figure
        rows = {"policy": spec.policy, **spec.sources}
        defaults = self.defaults[spec.task]
        return {
            name: base_cell(spec.task, seed)
            if row == "base"
            else row.cells(spec.task, defaults, seed)[0]
            for name, row in rows.items()
        }
