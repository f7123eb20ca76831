"""A scale's pilot: how much each contrast of a primary claim varies from seed to seed.

`snakemake power` measures it on seeds of its own. A scale that adopts it, as it adopts learning
rates, has its claims refused if they could hardly be decided. Snakefiles import this module, so it
is cheap.
"""

from datetime import date

from pydantic import Field

from humanline.files.validation import Strict
from humanline.study.claims import Comparison
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

    def spread(self, comparison: Comparison) -> Spread | None:
        """Find the spread of a comparison's contrast; None: the pilot lacks it."""
        return self.contrasts.get(comparison.test.task, {}).get(comparison.contrast)
