"""The rows of the files that one stage writes and later stages read.

Writers and readers both refuse a wrong row, with file and line.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from humanline.files.typed_files import Columns, Row, read_rows
from humanline.files.validation import ConfigError, require_as_many
from humanline.study.tasks import find_task

if TYPE_CHECKING:
    import pandas as pd

LogProbability = Annotated[float, Field(le=0)]


class Prompt(Row):
    """A row of any task's data."""

    prompt: str


class Problem(Prompt):
    """A row of a graded task's data."""

    answer: str


class Instruction(Prompt):
    """A row of a judged task's data."""

    reference: str


def prompts_of(task: str) -> type[Prompt]:
    """Find the model of a row of a task's data.

    Raises:
        ConfigError: if the task is unknown.
    """
    kinds: dict[str, type[Prompt]] = {"judge": Instruction, "grade": Problem}
    return kinds[find_task(task).scoring]


class Group(Prompt):
    """A row of offline data: several completions of a prompt, each with a score."""

    completions: Annotated[list[str], Field(min_length=2)]
    scores: list[float]

    @model_validator(mode="after")
    def _all_are_scored(self) -> Self:
        require_as_many("scores", self.scores, self.completions, "completions")
        return self


class Likelihood(Prompt):
    """A model's mean log-probability per token, in nats, of each completion of a group."""

    mean_token_log_probability: Annotated[list[LogProbability], Field(min_length=1)]


class Sample(Prompt):
    """A completion from a model under evaluation."""

    key = ("step", "prompt")
    step: Annotated[int, Field(ge=0)]
    completion: str


class JudgedSample(Sample, Instruction):
    """A sample of a judged task."""


class GradedSample(Sample, Problem):
    """A sample of a graded task."""

    key = ("step", "prompt_id")
    prompt_id: Annotated[int, Field(ge=0)]


def samples_of(task: str) -> type[Sample]:
    """Find the model of a row of a task's samples.

    Raises:
        ConfigError: if the task is unknown.
    """
    kinds: dict[str, type[Sample]] = {"judge": JudgedSample, "grade": GradedSample}
    return kinds[find_task(task).scoring]


class Surprisal(Columns):
    """The log-ratio of policy to reference, in nats, of one output for the figures.

    Every source has one row for each of the policy's prompts; the policy itself is a source.
    """

    source: str
    prompt_id: int
    surprisal: float

    @classmethod
    def fault(cls, frame: "pd.DataFrame") -> str | None:
        """Find out whether a source has other prompts than the policy."""
        prompts = {name: sorted(own) for name, own in frame.groupby("source")["prompt_id"]}
        expected = sorted(set(prompts.get("policy", ())))
        if not expected or any(own != expected for own in prompts.values()):
            return "sources differ in their prompts"
        return None


def read_samples(path: Path, model: type[Sample]) -> dict[int, list[dict]]:
    """Read a run's samples.

    Returns:
        Rows by step, in the order of steps; rows of one step are in the file's order.

    Raises:
        ConfigError: if a row is wrong, or if two steps have different prompts.
    """
    steps: dict[int, list[dict]] = {}
    for row in read_rows(path, model):
        steps.setdefault(row["step"], []).append(row)
    _, own = model.key
    given = [name for name in model.model_fields if name not in ("step", "completion")]
    first, *others = steps
    if not others:
        return steps
    expected = {row[own]: [row[name] for name in given] for row in steps[first]}
    for step in others:
        if expected != {row[own]: [row[name] for name in given] for row in steps[step]}:
            raise ConfigError(
                f"{path}: the prompts of step {step} are not those of step {first}; generate the "
                "samples again"
            )
    return dict(sorted(steps.items()))


def read_likelihoods(path: Path, groups: Sequence[dict]) -> list[dict]:
    """Read the likelihoods of groups, one row for each.

    Raises:
        ConfigError: if the numbers of rows differ, or at the first row that does not fit its group.
    """
    rows = read_rows(path, Likelihood)
    if len(rows) != len(groups):
        raise ConfigError(f"{path}: {len(rows)} rows for {len(groups)} groups; make it again")
    for number, (row, group) in enumerate(zip(rows, groups, strict=True), 1):
        same = row["prompt"] == group["prompt"]
        if not same or len(row["mean_token_log_probability"]) != len(group["completions"]):
            raise ConfigError(
                f"{path}: row {number}: prompt or number of completions differs from those of the "
                "group; make it again"
            )
    return rows
