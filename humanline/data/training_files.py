"""The files that training leaves for later stages: record, log and progress.

`TrainingRecord` is all of `train.json`. A reader takes one of its parent classes, so it can still
read records that lack newer fields.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict  # of pydantic; before Python 3.12 it takes no other

from humanline.data.stage_files import LogProbability
from humanline.files.typed_files import Columns, Count, NonNegative, number_fault
from humanline.files.validation import Record
from humanline.study.experiments import Cell

if TYPE_CHECKING:
    import pandas as pd

TRAIN_AGAIN = "train that run again"
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Total(Record):
    """Wall-clock seconds of a training, with sampling and labelling. Its parts are other fields."""

    model_config = ConfigDict(extra="allow")
    total: NonNegative


class Seconds(Total):
    """Wall-clock seconds of a training, and those of its sampling and labelling."""

    sample: NonNegative


class Point(Record):
    """The moment of a checkpoint: optimizer step, and seconds since the run's start."""

    step: Count
    seconds: NonNegative


class Trained(Record):
    """A part of `train.json`: the steps that were trained, and the folder of checkpoints."""

    steps: Positive
    checkpoints: str


class Timed(Record):
    """A part of `train.json`: the training's wall-clock seconds."""

    seconds: Total


class Spent(Record):
    """The cost of a run up to a step."""

    seconds: Seconds
    timeline: list[Point]
    sampled_tokens: Count


class ProgressNote(Spent):
    """`progress.json` of a checkpoint: its step, and the cost up to it.

    `run` is the name of the run's folder of checkpoints, which hashes what determines the run.
    """

    run: str
    step: Count


class RunCost(Spent, Timed):
    """A part of `train.json`: the cost of the whole training."""

    steps: Positive
    peak_memory_mib: Count


class Manifest(Record):
    """All that determines a run's model, except code and machine; see `Hashes.manifest`."""

    model_config = ConfigDict(extra="allow")
    learning_rate: Annotated[float, Field(gt=0)]


class Git(TypedDict, total=False):
    """The state of a source tree; see `provenance.git_state`."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]  # pydantic's
    commit: str | None
    modified: bool | None
    version: str


class Machine(TypedDict, total=False):
    """A machine; see `provenance.describe`."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]  # pydantic's
    python: str
    processor: str
    accelerator: str
    cores: int | None


class Provenance(Record):
    """The code, packages and machine that made a file; see `provenance.describe`."""

    git: Git
    packages: dict[str, str]
    machine: Machine = Field(default_factory=Machine)


class Described(Timed):
    """A part of `train.json`: manifest, provenance and time, for the report."""

    manifest: Manifest
    provenance: Provenance


class TrainingRecord(Trained, RunCost, Described):
    """`train.json`: the whole record of a training."""

    cell: Cell
    devices: Positive
    # Offline runs only: groups in the data, and groups whose completions all have the same score.
    groups: Positive | None = None
    groups_without_difference: Count | None = None


class LogRow(Columns):
    """A row of `metrics.csv`: metrics that the trainer logs every few steps.

    Not every step has every metric, or a number of tokens.
    """

    remedy: ClassVar[str] = TRAIN_AGAIN
    step: Count
    num_tokens: NonNegative | None

    @classmethod
    def fault(cls, frame: "pd.DataFrame") -> str | None:
        """Look for a number that is not finite, in any metric."""
        metrics = frame.select_dtypes("number").columns
        return next(filter(None, (number_fault(frame[m], gaps=True) for m in metrics)), None)


class Predictors(Record):
    """`predictors.json`: what may predict how well offline data train; see `predictors.measure`."""

    # Of the offline data under the run's initial model, in nats.
    mean_token_log_probability: LogProbability
    # The share of tokens that pass a gradient, a mean over training; null without bounds.
    unclipped: Share | None
    unclipped_chosen: Share | None
    unclipped_rejected: Share | None
    # The `capacity_distance` between the human curve and the curve that the data imply for the
    # trained policy; null if there are no gains, or no losses.
    distance_gains: float | None
    distance_losses: float | None
    # The mean log-ratio of a token under the trained policy and the initial model, in nats, in the
    # best and the worst completion of each group; null if no group's scores differ.
    log_ratio_chosen: float | None
    log_ratio_rejected: float | None
