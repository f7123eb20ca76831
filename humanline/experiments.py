"""Cells, the unit of every experiment: what they are, and how runs are named.

`Experiments` is workflow/config/experiments.yaml, whose tables are views on cells. Two tables that
list the same cell share its run, because a run's name says all there is to a cell. Snakefiles
import this module, so it is cheap.
"""

import itertools
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from humanline.config import Objective, PositiveInt, SeedList, Strict, Task, fault

Data = Literal["offline", "online"]
LowerBound = Annotated[float, Field(le=0)]
UpperBound = Annotated[float, Field(ge=0)]
Value = TypeVar("Value")
Grid = Value | Annotated[list[Value], Field(min_length=1)]

# The prompts of a task: to train on, for tuning to look at, for the tables to look at.
SPLITS = ("train", "validation", "evaluation")


class Cell(Strict):
    """One training run, or for objective ``base`` the model that training starts from."""

    task: Task = Field(description="what it is trained for")
    objective: Objective | Literal["base"] = Field(description="the loss; base: not trained")
    data: Data | None = Field(None, description="sampled from the base model, or from the policy")
    sample_every: int | None = Field(None, ge=1, description="optimizer steps per sampling")
    humanline: bool = Field(False, description="clip and sync as humanline does")
    sync_interval: int | None = Field(None, ge=1, description="k: optimizer steps per sync")
    log_eps_p: float | None = Field(None, le=0, description="lower bound of the log-ratio, nats")
    log_eps_r: float | None = Field(None, ge=0, description="upper bound of the log-ratio, nats")
    overrides: dict[str, float] = Field({}, description="training options unlike the scale's")
    seed: int = Field(description="of the data's order and of sampling")

    @property
    def variant(self) -> str:
        """The readable name without the seed, for example ``dpo-offline-humanline-k4``."""
        if self.objective == "base":
            return "base"
        parts = [self.objective, self.data]
        if self.data == "online":
            parts.append(f"every{self.sample_every}")
        if self.humanline:
            parts += ["humanline", f"k{self.sync_interval}"]
            parts.append(f"clip{_short(self.log_eps_p)}_{_short(self.log_eps_r)}")
        parts += [f"{key}={_short(value)}" for key, value in sorted(self.overrides.items())]
        return "-".join(parts)

    @property
    def name(self) -> str:
        """The run's name: variant and seed."""
        return f"{self.variant}-s{self.seed}"

    @property
    def base(self) -> "Cell":
        """The cell of the model that this run starts from."""
        return Cell(task=self.task, objective="base", seed=self.seed)


def _short(value: float) -> str:
    """A number as short as can be without becoming another."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


class HumanlineDefaults(Strict):
    """What a humanline cell of a task gets where its row says nothing."""

    sample_every: int = Field(ge=1, description="optimizer steps per round of online sampling")
    sync_interval: int = Field(ge=1, description="k: optimizer steps per sync of the reference")
    log_eps_p: float = Field(le=0, description="lower bound of the log-ratio, nats")
    log_eps_r: float = Field(ge=0, description="upper bound of the log-ratio, nats")


OVERRIDES = (
    "learning_rate",
    "beta",
    "epsilon",
    "max_grad_norm",
    "batch_size",
    "desirable_weight",
)


class Row(Strict):
    """One entry of a table's `cells`. A list stands for each of its values (a grid)."""

    objective: Grid[Objective] = Field(description="the loss")
    data: Grid[Data] = Field(description="sampled once from the base model, or from the policy")
    sample_every: Grid[PositiveInt] | None = Field(
        None, description="optimizer steps per round of online sampling; null: the task's default"
    )
    humanline: Grid[bool] = Field(False, description="clip and sync as humanline does")
    sync_interval: Grid[PositiveInt] | None = Field(
        None, description="k: optimizer steps per sync; null: the task's default"
    )
    log_eps_p: Grid[LowerBound] | None = Field(
        None, description="lower bound of the log-ratio, nats; null: the task's default"
    )
    log_eps_r: Grid[UpperBound] | None = Field(
        None, description="upper bound of the log-ratio, nats; null: the task's default"
    )
    overrides: dict[str, float] = Field({}, description="training options unlike the scale's")

    @model_validator(mode="after")
    def _known_overrides(self):
        for key, value in self.overrides.items():
            if key not in OVERRIDES:
                raise fault(f"overrides.{key}", f"unknown key; use one of {', '.join(OVERRIDES)}")
            if key in ("learning_rate", "max_grad_norm") and not value > 0:
                raise fault(f"overrides.{key}", f"{value:g} is not positive; change it")
        return self

    def cells(self, task: Task, defaults: HumanlineDefaults, seed: int) -> list[Cell]:
        """Expand the grid for one seed, in the order of the file."""
        options = self.model_dump(exclude={"overrides"})
        grid = [value if isinstance(value, list) else [value] for value in options.values()]
        return [
            _complete(dict(zip(options, point, strict=True)), self, task, defaults, seed)
            for point in itertools.product(*grid)
        ]


def _complete(point: dict, row: Row, task: Task, defaults: HumanlineDefaults, seed: int) -> Cell:
    """Fill what the row left open, and clear what means nothing for this cell."""
    point = {k: getattr(defaults, k, None) if v is None else v for k, v in point.items()}
    if point["data"] == "offline":
        point["sample_every"] = None
    if not point["humanline"]:
        point |= {"sync_interval": None, "log_eps_p": None, "log_eps_r": None}
    return Cell(task=task, seed=seed, overrides=row.overrides, **point)


class Table(Strict):
    """A table: a task and its rows."""

    task: Task = Field(description="what its cells are trained for")
    seeds: SeedList | None = Field(None, description="its seeds; null: the scale's reporting seeds")
    cells: list[Row] = Field(min_length=1, description="its rows, in order")


class Experiments(Strict):
    """workflow/config/experiments.yaml."""

    defaults: dict[Task, HumanlineDefaults] = Field(description="for what rows leave open")
    tables: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], Table] = Field(
        min_length=1, description="the tables, by name: that of their files"
    )

    @model_validator(mode="after")
    def _every_task_has_defaults(self):
        for name, table in self.tables.items():
            if table.task not in self.defaults:
                raise fault(f"defaults.{table.task}", f"missing, but table {name} needs it; add it")
        return self

    def cells(self, table: str, seeds: list[int]) -> list[Cell]:
        """The cells of a table, base model first, for every seed, without repetition."""
        spec = self.tables[table]
        cells = [Cell(task=spec.task, objective="base", seed=seed) for seed in seeds]
        for row, seed in itertools.product(spec.cells, seeds):
            cells += row.cells(spec.task, self.defaults[spec.task], seed)
        return list({cell.name: cell for cell in cells}.values())
