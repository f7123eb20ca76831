"""The files that one stage writes and the next ones read: what a row of each is.

A row that is not so is refused, by file and line, by who writes it and by who reads it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, model_validator

from humanline.data.feedback import Record
from humanline.files.json_files import read_json, read_lines, write_jsonl
from humanline.files.validation import ConfigError, fault, validate
from humanline.study.tasks import find_task

if TYPE_CHECKING:
    import pandas as pd

LogProbability = Annotated[float, Field(le=0)]


class Row(Record):
    """A row of JSON Lines. No two rows of a file have the same values of its `key`, if any."""

    key: ClassVar[tuple[str, ...]] = ("prompt",)


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
    return {"judge": Instruction, "grade": Problem}[find_task(task).scoring]


class Group(Prompt):
    """Offline data: several completions of a prompt, with a score each."""

    completions: Annotated[list[str], Field(min_length=2)]
    scores: list[float]

    @model_validator(mode="after")
    def _all_are_scored(self):
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


class Trained(Record):
    """Of `train.json`: how far the run came, and the folder of its checkpoints beside the file."""

    steps: Annotated[int, Field(gt=0)]
    checkpoints: str


class Manifest(Record):
    """Of a run's manifest what is told beside its results; see `Study.manifest`."""

    learning_rate: Annotated[float, Field(gt=0)]


class Provenance(Record):
    """Of a run's provenance what is told beside its results; see `provenance.describe`."""

    git: dict
    packages: dict[str, str]


class TrainingRecord(Record):
    """Of `train.json` what is told beside results."""

    manifest: Manifest
    seconds: dict[str, Annotated[float, Field(ge=0)]]
    provenance: Provenance


class Judgement(Record):
    """Of `metrics.json`: a judged run's headline figure, in per cent."""

    length_controlled_win_rate: Annotated[float, Field(ge=0, le=100)]


class Predictors(Record):
    """Of `predictors.json`; see `predictors.measure`."""

    mean_token_log_probability: LogProbability
    unclipped: Annotated[float, Field(ge=0, le=1)] | None
    distance_gains: float | None
    distance_losses: float | None


def write_rows(path: Path, model: type[Row], rows: Iterable[dict]) -> None:
    """Write rows of a kind as JSON Lines; raise a `ConfigError` that names the first fault."""
    rows = list(rows)
    if not rows:
        raise ConfigError(f"{path}: no rows to write; see what this stage was given")
    _check(path, model, enumerate(rows, 1))
    write_jsonl(path, rows)


def read_rows(path: Path, model: type[Row]) -> list[dict]:
    """Read rows of a kind, or raise a `ConfigError` that names file, line and field."""
    needed = (name for name, field in model.model_fields.items() if field.is_required())
    lines = read_lines(path, tuple(needed))
    _check(path, model, lines)
    return [row for _, row in lines]


def read_record(path: Path, model: type[Record]) -> Record:
    """Read a JSON file of a kind, or raise a `ConfigError` that names file and field."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not an object; make it again")
    return validate(model, content, path)


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


def read_surprisals(path: Path) -> "pd.DataFrame":
    """Read surprisals, columns source, prompt_id and surprisal, or raise a `ConfigError`."""
    import pandas as pd

    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: cannot be read ({reason}); make it again") from None
    return check_surprisals(path, frame)


def check_surprisals(path: Path, frame: "pd.DataFrame") -> "pd.DataFrame":
    """The frame, if each source has a finite surprisal for each of the policy's prompts."""
    import numpy as np
    import pandas as pd

    for name in ("source", "prompt_id", "surprisal"):
        if name not in frame:
            raise ConfigError(f"{path}: field {name}: missing; make it again")
    values = pd.to_numeric(frame["surprisal"], errors="coerce")
    if len(rows := np.flatnonzero(~np.isfinite(values))):
        given = frame["surprisal"].iloc[rows[0]]
        place = f"{path}: row {rows[0]}: field surprisal"
        raise ConfigError(f"{place}: {given!r} is no finite number; make it again")
    prompts = {name: sorted(own) for name, own in frame.groupby("source")["prompt_id"]}
    expected = sorted(set(prompts.get("policy", ())))
    if not expected or any(own != expected for own in prompts.values()):
        raise ConfigError(f"{path}: sources differ in their prompts; make it again")
    return frame


def _check(path: Path, model: type[Row], lines: Iterable[tuple[int, dict]]) -> None:
    seen: dict[tuple, int] = {}
    for number, row in lines:
        place = f"{path}: line {number}"
        validate(model, row, place)
        key = tuple(row[name] for name in model.key)
        if key and key in seen:
            fields = " and ".join(model.key)
            raise ConfigError(f"{place}: {fields}: as in line {seen[key]}; remove one of the two")
        seen[key] = number
