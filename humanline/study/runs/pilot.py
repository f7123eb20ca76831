"""A scale's pilot: how much each contrast of a primary claim varies from seed to seed.

`snakemake power` measures it on seeds of its own. A scale that adopts it, as it adopts learning
rates, has its claims refused if they could hardly be decided. It knows the options of the runs that
it measured, so an option that changes afterwards is noticed. Snakefiles import this module, so it
is cheap.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from humanline.files.validation import ConfigError, Strict
from humanline.study.claims import Comparison
from humanline.study.experiments import Cell
from humanline.study.runs.hashes import (
    content_hash,
    engine_options,
    score_hash,
    shared_training,
)
from humanline.study.runs.rates import Rates
from humanline.study.scale.scale import Scale
from humanline.study.tasks import TaskName
from humanline.study.values import Day, SeedList


class Spread(Strict):
    """A contrast of two cells over the pilot's seeds, in points, or the logarithm of a ratio."""

    seeds: int = Field(ge=2, description="number of seeds")
    mean: float = Field(description="mean over seeds; nothing is planned with it")
    sd: float = Field(ge=0, description="standard deviation over seeds")
    prompts: float = Field(
        0.0, ge=0, description="variance that shared prompts add to a mean, however many seeds"
    )


class Pilot(Strict):
    """A pilot: `snakemake power` writes it, and a scale can name it."""

    scale: str = Field(description="the scale whose runs were measured")
    date: Day
    commit: str | None = Field(None, description="commit of the code that measured it")
    seeds: SeedList = Field(description="the pilot's seeds")
    options: dict[str, str] = Field(
        {}, description="hashes of the options that its runs had, by field; see `options_of`"
    )
    contrasts: dict[TaskName, dict[str, Spread]] = Field(description="by task and contrast")

    def require_scale(self, scale: str, file: Path) -> None:
        """Refuse the pilot of another scale: its runs differ in more than their seeds.

        Args:
            scale: the name of the scale that adopts the pilot.
            file: the pilot's file, for the error.
        """
        if self.scale != scale:
            raise ConfigError(
                f"{file}: scale: {self.scale} is not {scale}; make its own by `snakemake power "
                f"--config scale={scale}`, or remove pilot from the scale"
            )

    def changes(self, options: Mapping[str, str]) -> str:
        """Say which options are others now than those that it was measured with.

        Args:
            options: the present ones, by `options_of`.

        Returns:
            A part of a sentence; empty if none has changed. Fields that either side lacks do not
            count: a claim may come or go.
        """
        fields = [name for name, own in options.items() if self.options.get(name, own) != own]
        if not fields:
            return ""
        named = ", ".join(fields[:3]) + (f" and {len(fields) - 3} more" if fields[3:] else "")
        return f"measured on an earlier form of this scale ({named} changed since)"

    def spread(self, comparison: Comparison) -> Spread | None:
        """Find the spread of a comparison's contrast; None: the pilot lacks it."""
        return self.contrasts.get(comparison.test.task, {}).get(comparison.contrast)


def options_of(scale: Scale, rates: Rates, cells: Iterable[Cell]) -> dict[str, str]:
    """Hash the options of some cells that their results depend on, each by its field.

    Seeds and code are left out, and so is what leaves results unchanged, such as how a judge is
    asked.

    Args:
        scale: the scale.
        rates: its learning rates.
        cells: the cells, on any seeds.
    """
    found: dict[str, Any] = {"generation": engine_options(scale.generation)}
    found_rates = {}
    for cell in cells:
        task, place = scale.tasks[cell.task], f"tasks.{cell.task}"
        found[f"{place}.data"] = task.data.model_dump(exclude_none=True)
        for name in (cell.base_model, cell.data_base.base_model):
            field = f"base_models.{name}" if name else "base_model"
            found[f"{place}.{field}"] = task.model(name).model_dump()
        found[f"{place}.reward"] = task.reward.model_dump()
        found[f"{place}.judge"] = score_hash(task.judge)
        found[f"{place}.training"] = shared_training(task.training)
        found[f"{place}.evaluation"] = task.evaluation.model_dump()
        if cell.objective != "base":
            options = task.training.objectives[cell.objective].model_dump()
            found[f"{place}.training.objectives.{cell.objective}"] = options
            found_rates[f"learning_rates.{cell.task}.{cell.variant}"] = rates.rate(cell)
    return {field: content_hash(options) for field, options in (found | found_rates).items()}


def on_seed(cell: Cell, seed: int) -> Cell:
    """Return a cell with another seed."""
    return cell.model_copy(update={"seed": seed})
