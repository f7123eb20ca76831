"""The files that one stage writes and the next ones read: what a row of each is.

A row that is not so is refused, by file and line, by who writes it and by who reads it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from humanline.files.typed_files import Columns, Row, read_rows
from humanline.files.validation import ConfigError, fault
from humanline.study.tasks import find_task

if TYPE_CHECKING:
    import pandas as pd

LogProbability = Annotated[float, Field(le=0)]


class Prompt(Row):
    """Of a task's data, whatever the task."""

    prompt: str


class Problem(Prompt):
    """Of a graded task's data."""

    answer: str


class Instruction(Prompt):
    """Of a judged task's data."""

    reference: str


def prompts_of(task: str) -> type[Prompt]:
    """What a row of a task's data is; raise a `ConfigError` for another task."""
    kinds: dict[str, type[Prompt]] = {"judge": Instruction, "grade": Problem}
    return kinds[find_task(task).scoring]


class Group(Prompt):
    """Offline data: several completions of a prompt, with a score each."""

    completions: Annotated[list[str], Field(min_length=2)]
    scores: list[float]

    @model_validator(mode="after")
    def _all_are_scored(self) -> Self:
        numbers = len(self.scores), len(self.completions)
        if numbers[0] != numbers[1]:
            raise fault("scores", "{} of {} completions; give one for each".format(*numbers))
        return self


class Likelihood(Prompt):
    """How likely a model finds the completions of a group: a number for each, in nats."""

    mean_token_log_probability: Annotated[list[LogProbability], Field(min_length=1)]


class Sample(Prompt):
    """A completion of a model that is evaluated."""

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
    """What a row of a task's samples is; raise a `ConfigError` for another task."""
    kinds: dict[str, type[Sample]] = {"judge": JudgedSample, "grade": GradedSample}
    return kinds[find_task(task).scoring]


class Surprisal(Columns):
    """How much more likely the policy of the figures finds an output than its reference, in nats.

    Each source, the policy among them, has one for each of the policy's prompts.
    """

    source: str
    prompt_id: int
    surprisal: float

    @classmethod
    def fault(cls, frame: "pd.DataFrame") -> str | None:
        """Sources with other prompts than the policy's."""
        prompts = {name: sorted(own) for name, own in frame.groupby("source")["prompt_id"]}
        expected = sorted(set(prompts.get("policy", ())))
        if not expected or any(own != expected for own in prompts.values()):
            return "sources differ in their prompts"
        return None


def read_samples(path: Path, model: type[Sample]) -> dict[int, list[dict]]:
    """Read a run's samples by step, the first step first, and in the file's order within one.

    Raises:
        ConfigError: also if steps differ in their prompts, as those of several runs would.
    """
    steps: dict[int, list[dict]] = {}
    for row in read_rows(path, model):
        steps.setdefault(row["step"], []).append(row)
    _, own = model.key
    given = [name for name in model.model_fields if name not in ("step", "completion")]
    first, *others = steps
    expected = {row[own]: [row[name] for name in given] for row in steps[first]}
    for step in others:
        if expected != {row[own]: [row[name] for name in given] for row in steps[step]}:
            raise ConfigError(
                f"{path}: the prompts of step {step} are not those of step {first}; generate the "
                "samples again"
            )
    return dict(sorted(steps.items()))


def read_likelihoods(path: Path, groups: Sequence[dict]) -> list[dict]:
    """Read a row for each of the groups, or raise a `ConfigError` about the first that differs."""
    rows = read_rows(path, Likelihood)
    if len(rows) != len(groups):
        raise ConfigError(f"{path}: {len(rows)} rows for {len(groups)} groups; make it again")
    for number, (row, group) in enumerate(zip(rows, groups, strict=True), 1):
        same = row["prompt"] == group["prompt"]
        if not same or len(row["mean_token_log_probability"]) != len(group["completions"]):
            raise ConfigError(
                f"{path}: row {number}: of another prompt, or of more or fewer completions than "
                "that of the groups; make it again"
            )
    return rows
