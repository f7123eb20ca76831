"""A scale's pilot: how much each contrast of a primary claim varies from seed to seed.

`snakemake power` measures it on seeds of its own. A scale that adopts it, as it adopts learning
rates, has its claims refused if they could hardly be decided. Snakefiles import this module, so it
is cheap.
"""

from datetime import date
from pathlib import Path

from pydantic import Field

from humanline.files.validation import ConfigError, Strict
from humanline.study.claims import Comparison
from humanline.study.experiments import Cell
from humanline.study.tasks import TaskName
from humanline.study.values import SeedList


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
    date: date
    commit: str | None = Field(None, description="commit of the code that measured it")
    seeds: SeedList = Field(description="the pilot's seeds")
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

    def spread(self, comparison: Comparison) -> Spread | None:
        """Find the spread of a comparison's contrast; None: the pilot lacks it."""
        return self.contrasts.get(comparison.test.task, {}).get(comparison.contrast)


def on_seed(cell: Cell, seed: int) -> Cell:
    """Return a cell with another seed."""
    return cell.model_copy(update={"seed": seed})
