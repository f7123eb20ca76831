"""What a run's training leaves for the stages after it: its record, its log and its progress.

`TrainingRecord` is all of `train.json`. Each reader takes one of its parts, the models that it
inherits from, so that records of before a field was invented are still read.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import ConfigDict, Field

from humanline.data.stage_files import LogProbability
from humanline.files.typed_files import Columns, Count, NonNegative, number_fault
from humanline.files.validation import Record
from humanline.study.experiments import Cell

if TYPE_CHECKING:
    import pandas as pd

TRAIN_AGAIN = "train that run again"
Positive = Annotated[int, Field(gt=0)]


class Total(Record):
    """Wall-clock seconds of a training, sampling and labelling included; its parts are besides."""

    model_config = ConfigDict(extra="allow")
    total: NonNegative


class Seconds(Total):
    """With the part of sampling and labelling."""

    sample: NonNegative


class Point(Record):
    """When a checkpoint was kept: the optimizer step, and seconds since the run's start."""

    step: Count
    seconds: NonNegative


class Trained(Record):
    """Of `train.json`: how far the run came, and the folder of its checkpoints beside the file."""

    steps: Positive
    checkpoints: str


class Timed(Record):
    """Of `train.json`: how long the training took."""

    seconds: Total


class Spent(Record):
    """What a run has cost up to a step."""

    seconds: Seconds
    timeline: list[Point]
    sampled_tokens: Count


class ProgressNote(Spent):
    """`progress.json` of a run that trains: its last checkpoint, and what it had cost by then."""

    step: Count


class RunCost(Spent, Timed):
    """Of `train.json`: what the whole training took."""

    steps: Positive
    peak_memory_mib: Count


class Manifest(Record):
    """All that determines a run's model, except the code and the machine; see `study.hashes`."""

    model_config = ConfigDict(extra="allow")
    learning_rate: Annotated[float, Field(gt=0)]


class Provenance(Record):
    """What made a file; see `provenance.describe`."""

    git: dict
    packages: dict[str, str]
    machine: dict = Field(default_factory=dict)


class Described(Timed):
    """Of `train.json`: what is told beside results."""

    manifest: Manifest
    provenance: Provenance


class TrainingRecord(Trained, RunCost, Described):
    """`train.json`: all that a training tells of itself."""

    cell: Cell
    devices: Positive
    # Of offline runs: the groups that they were given, and those that have nothing to learn from.
    groups: Positive | None = None
    groups_without_difference: Count | None = None


class LogRow(Columns):
    """`metrics.csv`: what a run's trainer logged every few steps.

    Some steps log no number of tokens, and some metrics are of some steps only.
    """

    remedy: ClassVar[str] = TRAIN_AGAIN
    step: Count
    num_tokens: NonNegative | None

    @classmethod
    def fault(cls, frame: "pd.DataFrame") -> str | None:
        """A number of another metric that is not finite."""
        metrics = frame.select_dtypes("number").columns
        return next(filter(None, (number_fault(frame[m], gaps=True) for m in metrics)), None)


class Predictors(Record):
    """`predictors.json` of a run; see `predictors.measure`."""

    mean_token_log_probability: LogProbability
    unclipped: Annotated[float, Field(ge=0, le=1)] | None
    distance_gains: float | None
    distance_losses: float | None
