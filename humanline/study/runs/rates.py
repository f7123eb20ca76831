"""Learning rates: which cells are tuned, and where every other cell's rate comes from."""

import math
from dataclasses import dataclass
from functools import cached_property

from pydantic import ConfigDict, Field

from humanline.files.validation import Strict
from humanline.study.experiments import Cell, Experiments
from humanline.study.scale.scale import Scale
from humanline.study.tasks import TaskName
from humanline.study.values import SeedList

# What an untuned cell shares with the tuned one whose learning rate it takes.
_KINSHIP = ("objective", "data", "humanline", "trust_region")


class TunedRate(Strict):
    """What tuning chose for a variant; what else the file says of it is for people."""

    model_config = ConfigDict(extra="allow")
    learning_rate: float = Field(gt=0, description="the chosen learning rate")


class TunedRates(Strict):
    """A file of tuned learning rates: the search writes it, and a scale adopts it."""

    seeds: SeedList | None = Field(None, description="the tuning seeds")
    chosen: dict[TaskName, dict[str, TunedRate]] = Field(description="by task and variant")


@dataclass(frozen=True)
class Rates:
    """The learning rates of a scale.

    Args:
        scale: whose rates are tried, and whose default is taken where none was chosen.
        experiments: whose tables are tuned, or not.
        chosen: by task and variant, what tuning chose; see `TunedRates`.
    """

    scale: Scale
    experiments: Experiments
    chosen: dict[str, dict[str, dict]]

    def tune_cells(self, task: str) -> list[Cell]:
        """Every tuned variant of a task, at every candidate rate, on the tuning seeds."""
        return [
            cell.model_copy(update={"overrides": cell.overrides | {"learning_rate": rate}})
            for cell in self._tuned[task]
            for rate in self.scale.tasks[task].training.tune_learning_rates
        ]

    @cached_property
    def _tuned(self) -> dict[str, list[Cell]]:
        """The cells of each task that get a learning rate of their own, on the tuning seeds."""
        tuned: dict[str, dict[str, Cell]] = {task: {} for task in self.scale.tasks}
        for table, spec in self.experiments.tables.items():
            for cell in self.experiments.cells(table, self.scale.seeds.tune) * spec.tuned:
                fixed = {"learning_rate", "learning_rate_factor"} & set(cell.overrides)
                if cell.objective != "base" and not fixed:
                    tuned.setdefault(cell.task, {})[cell.name] = cell
        return {task: list(cells.values()) for task, cells in tuned.items()}

    def rate(self, cell: Cell) -> float:
        """A cell's learning rate: its own, else the tuned one, else the task's default.

        A cell that was not tuned takes the rate of its `source`.
        """
        default = self.scale.tasks[cell.task].training.learning_rate
        tuned = self.chosen.get(cell.task, {}).get(self.source(cell), {})
        rate = cell.overrides.get("learning_rate", tuned.get("learning_rate", default))
        return rate * cell.overrides.get("learning_rate_factor", 1.0)

    def source(self, cell: Cell) -> str:
        """Where a cell's learning rate comes from: a tuned variant's name, or own or default.

        A cell that was not tuned takes the rate of a tuned one that has its objective, data and
        method, and is nearest in how often it samples and syncs.
        """
        if "learning_rate" in cell.overrides:
            return "own"
        tuned = self.chosen.get(cell.task, {})
        if cell.variant in tuned:
            return cell.variant
        kin = [
            other
            for other in self._tuned[cell.task]
            if other.variant in tuned
            and all(getattr(other, field) == getattr(cell, field) for field in _KINSHIP)
        ]
        kin.sort(key=lambda other: _unlike(other, cell))
        return kin[0].variant if kin else "default"


def _unlike(one: Cell, other: Cell) -> tuple:
    """How far two cells of a kind are apart, what matters most first."""
    intervals = [math.log(cell.sync_interval or math.inf) for cell in (one, other)]
    return (
        one.sample_every != other.sample_every,
        one.sync_alpha != other.sync_alpha,
        0.0 if one.sync_interval == other.sync_interval else abs(intervals[0] - intervals[1]),
    )
