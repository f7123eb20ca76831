"""Learning rates: the cells that are tuned, and the rate of every cell."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import ConfigDict, Field

from humanline.files.validation import Strict
from humanline.study.experiments import Cell, Experiments
from humanline.study.scale.scale import Scale
from humanline.study.tasks import TaskName
from humanline.study.values import SeedList

# An untuned cell takes the learning rate of a tuned cell that agrees with it in these fields.
_KINSHIP = ("objective", "data", "humanline", "trust_region")


class TunedRate(Strict):
    """The learning rate that tuning chose for a variant; further keys are notes for people."""

    model_config = ConfigDict(extra="allow")
    learning_rate: float = Field(gt=0, description="the chosen learning rate")


class TunedRates(Strict):
    """A file of tuned learning rates: `tune` writes it, and a scale can name it."""

    seeds: SeedList | None = Field(None, description="the tuning seeds")
    chosen: dict[TaskName, dict[str, TunedRate]] = Field(description="by task and variant")


@dataclass(frozen=True)
class Rates:
    """The learning rates of a scale.

    Args:
        scale: the scale, with the rates to try and the default rates.
        experiments: the tables; each says whether its cells are tuned.
        chosen: the rates that tuning chose, by task and variant; see `TunedRates`.
    """

    scale: Scale
    experiments: Experiments
    chosen: dict[str, dict[str, dict]]

    def tune_cells(self, task: str) -> list[Cell]:
        """List every tuned variant of a task with every candidate rate, on the tuning seeds."""
        rates = self.scale.tasks[task].training.tune_learning_rates
        return [self._at_rate(cell, rate) for cell in self._tuned[task] for rate in rates]

    def wider_cells(self, task: str, best: Mapping[str, float] | None = None) -> list[Cell]:
        """List the tuned variants of a task with the rates beyond those that all of them try.

        Args:
            task: the task's name.
            best: the best rate of each variant so far. A variant tries the rates beyond the lowest
                candidate if that one is its best, and those beyond the highest likewise. None: all.
        """
        training = self.scale.tasks[task].training
        lowest, highest = min(training.tune_learning_rates), max(training.tune_learning_rates)

        def is_next(cell: Cell, rate: float) -> bool:
            edge = self._for_cell(cell, lowest if rate < lowest else highest)
            return best is None or best[cell.variant] == edge

        wider = training.wider_learning_rates or []
        return [
            self._at_rate(cell, rate)
            for cell in self._tuned[task]
            for rate in wider
            if is_next(cell, rate)
        ]

    def _at_rate(self, cell: Cell, rate: float) -> Cell:
        tried = {"learning_rate": self._for_cell(cell, rate)}
        return cell.model_copy(update={"overrides": cell.overrides | tried})

    def _for_cell(self, cell: Cell, rate: float) -> float:
        """Turn a rate for training the whole model into the cell's, which may have LoRA."""
        if cell.lora is None:
            return rate
        factor = self.scale.tasks[cell.task].training.lora_rate_factor
        return float(f"{rate * factor:.12g}")  # 4e-06 times 10 is 4e-05, as people write it

    @cached_property
    def _tuned(self) -> dict[str, list[Cell]]:
        """The cells of each task whose learning rate is tuned, on the tuning seeds."""
        tuned: dict[str, dict[str, Cell]] = {task: {} for task in self.scale.tasks}
        for table, spec in self.experiments.tables.items():
            if not spec.tuned:
                continue
            for cell in self.experiments.cells(table, lambda _: self.scale.seeds.tune):
                fixed = {"learning_rate", "learning_rate_factor"} & set(cell.overrides)
                if cell.objective != "base" and not fixed and spec.tunes(cell):
                    tuned.setdefault(cell.task, {})[cell.name] = cell
        return {task: list(cells.values()) for task, cells in tuned.items()}

    def rate(self, cell: Cell) -> float:
        """Find a cell's learning rate: its own, else that of its `source`, else the task's default.

        A cell with LoRA whose source has none has its rate times `lora_rate_factor`. The cell's
        `learning_rate_factor` multiplies the rate.
        """
        if (rate := cell.overrides.get("learning_rate")) is None:
            nearest = self._nearest(cell)
            rate = self.scale.tasks[cell.task].training.learning_rate
            if nearest:
                rate = self.chosen[cell.task][nearest.variant]["learning_rate"]
            if nearest is None or nearest.lora is None:
                rate = self._for_cell(cell, rate)
        return rate * cell.overrides.get("learning_rate_factor", 1.0)

    def source(self, cell: Cell) -> str:
        """Find where a cell's learning rate comes from.

        An untuned cell takes the rate of a tuned cell with the same objective, data and method:
        the nearest one in its base model and in how often it samples and syncs. LoRA learns from
        the whole model's rate, and not the other way round.

        Returns:
            The name of a tuned variant, ``own`` or ``default``.
        """
        if "learning_rate" in cell.overrides:
            return "own"
        nearest = self._nearest(cell)
        return nearest.variant if nearest else "default"

    def _nearest(self, cell: Cell) -> Cell | None:
        """Find the tuned cell whose rate a cell takes; it may be the cell itself."""
        tuned = self.chosen.get(cell.task, {})
        if cell.variant in tuned:
            return cell
        kin = [
            other
            for other in self._tuned[cell.task]
            if other.variant in tuned
            and all(getattr(other, field) == getattr(cell, field) for field in _KINSHIP)
            and (cell.lora or other.lora is None)
        ]
        return min(kin, key=lambda other: _unlike(other, cell), default=None)


def _unlike(one: Cell, other: Cell) -> tuple:
    """Compute the distance of two similar cells; the most important difference comes first."""
    intervals = [math.log(cell.sync_interval or math.inf) for cell in (one, other)]
    return (
        # LoRA needs another rate than the whole model.
        (one.lora is None) != (other.lora is None),
        # The cell's own base model is nearest, then the task's own.
        one.base_model != other.base_model,
        one.base_model is not None,
        one.sample_every != other.sample_every,
        one.sync_alpha != other.sync_alpha,
        0.0 if one.sync_interval == other.sync_interval else abs(intervals[0] - intervals[1]),
        one.perception != other.perception,
        one.lora != other.lora,
    )
