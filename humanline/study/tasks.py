"""Tasks by name: each is one file of `humanline/tasks`, or a module of the user's own.

Such a file ends in ``TASK = Task(...)``. Snakefiles import this module and the files of the tasks
that a scale has, so they are cheap: what is slow is imported inside functions.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, WithJsonSchema

from humanline.files import user_code
from humanline.files.validation import ConfigError, fault, pick

FOLDER = Path(__file__).parents[1] / "tasks"
_OWN = r"^[a-z]\w*(\.\w+)*$"  # the dotted path of a module, which is a part of files' names
TASKS = tuple(sorted(path.stem for path in FOLDER.glob("[a-z]*.py")))


Function = TypeVar("Function", bound=Callable)


@dataclass(frozen=True)
class Scoring:
    """A way to score completions, of which each task has one.

    Args:
        files: what scoring writes into a run's folder.
        score_file: the one of them whose presence says that the run is scored.
        score: what the tables call a run's score, in per cent.
        has_curves: whether a headline table comes with learning curves.
    """

    files: tuple[str, ...]
    score_file: str
    score: str
    has_curves: bool


# judge: completions are compared with the rows' references. grade: with the rows' answers.
SCORINGS = {
    "judge": Scoring(
        files=("annotations.json", "metrics.json", "curve.csv"),
        score_file="metrics.json",
        score="length-controlled win rate",
        has_curves=False,
    ),
    "grade": Scoring(
        files=("grades.csv",), score_file="grades.csv", score="Pass@1", has_curves=True
    ),
}


@dataclass(frozen=True)
class Notice:
    """An outcome of grading that readers of a table have to know of.

    Args:
        outcome: the outcome, and the name of the table's column that counts it.
        header: of the column, for people.
        text: a sentence of the caption.
    """

    outcome: str
    header: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that the suite knows of a task.

    Functions are defined in the task's own file: what of it counts for a stage of the workflow is
    found by the names of these fields (see `code_hashes`).

    Args:
        label: the task in a table's cells.
        scoring: judge or grade, a key of `SCORINGS`. A judged task's rows are
            ``{"prompt", "reference"}``, a graded task's ``{"prompt", "answer"}``, all text.
        rewards: the kinds of reward that fit besides those that fit every task.
        read_row: what a row of its data on the hub is as a row of the task. It takes the row and
            its place for errors, and raises a `ConfigError` for what is no row.
        draw_prompts: draws so many rows of its generated world with a seed. It may take `lengths`
            of `MiniatureData`. None: it has no generated world.
        write_completion: what its generated world's expert answers to a prompt. It takes the
            prompt, the source of randomness, and the chance of a mistake, from 0 to 1.
        grade_completion: the outcome of a completion with a row's answer, where it is graded.
        outcomes: of grading; the first is success.
        notices: outcomes that tables count.
        has_stored_scores: whether its data on the hub are scored completions, which offline
            training takes in place of samples of the base model.
    """

    label: str
    scoring: Literal["judge", "grade"]
    rewards: tuple[str, ...]
    read_row: Callable[[dict, str], dict]
    draw_prompts: Callable[..., list[dict]] | None = None
    write_completion: Callable[[str, random.Random, float], str] | None = None
    grade_completion: Callable[[str, str], str] | None = None
    outcomes: tuple[str, ...] = ("correct", "wrong")
    notices: tuple[Notice, ...] = ()
    has_stored_scores: bool = False

    def __post_init__(self) -> None:
        pick("scoring", self.scoring, SCORINGS)
        if (self.scoring == "grade") != (self.grade_completion is not None):
            reason = "a graded task needs it, and a judged one has none"
            raise ConfigError(f"grade_completion: {reason}; add or remove it")
        if "grade" in self.rewards and self.scoring != "grade":
            raise ConfigError("rewards: grade is for tasks that are graded; remove it")
        if (self.draw_prompts is None) != (self.write_completion is None):
            reason = "a generated world needs both it and draw_prompts"
            raise ConfigError(f"write_completion: {reason}; add the other, or remove both")
        if self.grade_completion:
            grade = _checked(self.grade_completion, self.outcomes)
            object.__setattr__(self, "grade_completion", grade)
        if unknown := {notice.outcome for notice in self.notices} - set(self.outcomes):
            raise ConfigError(f"notices: {min(unknown)!r} is not in outcomes; add it there")


def _checked(
    grade: Callable[[str, str], str], outcomes: tuple[str, ...]
) -> Callable[[str, str], str]:
    """A task's grading, refusing outcomes that the task does not have."""

    @wraps(grade)
    def checked(completion: str, answer: str) -> str:
        if (outcome := grade(completion, answer)) not in outcomes:
            reason = f"returned {outcome!r}, which is not in outcomes, {', '.join(outcomes)}"
            where = f"grade_completion of {grade.__module__}"
            raise ConfigError(f"{where}: {reason}; add it there, or mend the function")
        return outcome

    return checked


@cache
def find_task(name: str) -> Task:
    """The task of a name, or of the dotted path of a module of the user's own.

    Raises:
        ConfigError: with the known names, or why the module cannot be used.
    """
    if not _is_own(name):
        module = pick("task", name, {known: f"humanline.tasks.{known}" for known in TASKS})
        return import_module(module).TASK
    try:
        found = user_code.load(name, "TASK")
    except ConfigError as error:
        raise ConfigError(f"{error}; mend that module") from error
    user_code.sources(name)  # which are hashed, so that they have to be Python
    if not isinstance(found, Task):
        kind = type(found).__name__
        raise ConfigError(f"{name}: its TASK is {kind}; make it a humanline.study.tasks.Task")
    return found


def _is_own(name: str) -> bool:
    """Whether a name is that of a module of the user's own."""
    return name not in TASKS and bool(re.fullmatch(_OWN, name)) and user_code.is_module(name)


def scoring_of(name: str) -> Scoring:
    """How a task's completions are scored."""
    return SCORINGS[find_task(name).scoring]


def needed(task: str, field: str, function: Function | None) -> Function:
    """A function of a task that others may lack.

    Raises:
        ConfigError: if this one does.
    """
    if function is None:
        raise ConfigError(f"task {task}: its TASK has no {field}; add it, or use another task")
    return function


def score_rule(name: str) -> str:
    """The workflow's rule that scores runs of a task."""
    return f"score_{name.replace('.', '_')}"


def title_of(name: str) -> str:
    """A task in a sentence."""
    return name.split(".")[-1].replace("_", " ")


def _known(name: str) -> str:
    """The name, if it is a task's."""
    if name not in TASKS and not _is_own(name):
        reason = f"use one of {', '.join(TASKS)}, or the dotted path of a module with TASK"
        raise fault("", f"{reason}, but the file says {name!r}; change it")
    try:
        find_task(name)
    except ConfigError as error:
        raise fault("", str(error)) from None
    return name


_SCHEMA = {"type": "string", "anyOf": [{"enum": list(TASKS)}, {"pattern": _OWN}]}
TaskName = Annotated[str, AfterValidator(_known), WithJsonSchema(_SCHEMA)]
