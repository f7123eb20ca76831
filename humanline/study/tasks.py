"""Tasks by name: each is one file of `humanline/tasks`, or a module of the user's own.

Such a file ends in ``TASK = Task(...)``. Snakefiles import this module and the files of a scale's
tasks, so these must be cheap: they import slow libraries inside functions.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, WithJsonSchema

from humanline.files import user_code
from humanline.files.validation import ConfigError, fault, pick
from humanline.study.scale.data import GeneratedData

FOLDER = Path(__file__).parents[1] / "tasks"
_OWN = r"^[a-z]\w*(\.\w+)*$"  # the dotted path of a module; it is also a part of file names
TASKS = tuple(sorted(path.stem for path in FOLDER.glob("[a-z]*.py")))


Function = TypeVar("Function", bound=Callable)


@dataclass(frozen=True)
class Scoring:
    """A way to score completions. Each task has one.

    Args:
        files: names of the files that scoring writes into a run's folder.
        score_file: the file whose presence says that the run is scored.
        score: the name of a run's score in the tables; scores are per cent.
        has_curves: whether a headline table comes with learning curves.
    """

    files: tuple[str, ...]
    score_file: str
    score: str
    has_curves: bool


# judge: a judge compares completions with references. grade: a function checks them with answers.
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
    """An outcome of grading that tables count in a column of its own.

    Args:
        outcome: the outcome, and the name of that column.
        header: the column's title.
        text: a sentence for the caption.
    """

    outcome: str
    header: str
    text: str


@dataclass(frozen=True, kw_only=True)
class World:
    """A generated world of a task, besides the miniature's.

    Args:
        draw_rows: (number of rows, seed, options of the data) -> rows of the task, independent of
            those of other seeds.
            A row may also have ``key``, which no two splits have in common (by default the
            prompt's words), and ``solution``, which only `write_completion` reads.
        write_completion: (row, source of randomness, probability of a mistake) -> completion by the
            world's expert, which models learn from.
        options: the fields of the data's options that `draw_rows` reads, besides the sizes.
    """

    draw_rows: Callable[[int, int, Any], list[dict]]
    write_completion: Callable[[dict, random.Random, float], str]
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that the suite knows of a task.

    Define the functions in the task's own file. The hash of a stage's code has only those functions
    whose fields the stage reads (see `code_hashes`).

    Args:
        label: the task's short name in table cells.
        scoring: ``judge`` or ``grade``, a key of `SCORINGS`. A judged task has rows ``{"prompt",
            "reference"}``, a graded task ``{"prompt", "answer"}``; all values are text.
        rewards: the kinds of reward that fit this task, besides those that fit every task.
        read_row: (row of the hub's data, its place for errors) -> row of the task; raises a
            `ConfigError` if the row is wrong.
        draw_prompts: (number of rows, seed) -> rows of the generated world; rows of other seeds are
            independent. It may also take `lengths` of `MiniatureData`. None: the task has no
            generated world.
        write_completion: (prompt, source of randomness, probability of a mistake) -> completion by
            the generated world's expert. None: the task has no generated world.
        grade_completion: (completion, answer) -> outcome. None: the task is judged.
        outcomes: the outcomes of grading; the first is success.
        notices: the outcomes that tables count.
        prompt_words: (prompt of the miniature world) -> what it asks for, in words, one text for
            each wish. None: people can read the prompt itself.
        worlds: further generated worlds, by the `kind` of a scale's data.
        has_stored_scores: whether the hub's data are scored completions. If so, offline training
            takes them instead of samples from the base model.

    Raises:
        ConfigError: if a field is missing or does not fit the others.
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
    prompt_words: Callable[[str], list[str]] | None = None
    worlds: Mapping[str, World] = field(default_factory=dict)
    has_stored_scores: bool = False

    def has_data(self, kind: str) -> bool:
        """Whether data of a kind fit: the hub's, the miniature's, or those of a further world."""
        return kind in ("hub", "miniature", *self.worlds)

    def ignored(self, kind: str, given: set[str]) -> set[str]:
        """Find the options that a further world does not read, among those that are given."""
        world = self.worlds.get(kind)
        return given - {*GeneratedData.model_fields, *world.options} if world else set()

    def __post_init__(self) -> None:
        pick("scoring", self.scoring, SCORINGS)
        if not self.label.strip():
            raise ConfigError("label: empty, but tables show it; write one")
        if isinstance(self.rewards, str):  # whose parts would count as names
            raise ConfigError(f"rewards: {self.rewards!r} is one text; write ({self.rewards!r},)")
        if len(self.outcomes) < 2:
            raise ConfigError("outcomes: success and failure are two; name both, success first")
        if (self.scoring == "grade") != (self.grade_completion is not None):
            reason = "a graded task needs it, and a judged one has none"
            raise ConfigError(f"grade_completion: {reason}; add or remove it")
        if "grade" in self.rewards and self.scoring != "grade":
            raise ConfigError("rewards: grade is for tasks that are graded; remove it")
        if (self.draw_prompts is None) != (self.write_completion is None):
            reason = "a generated world needs both it and draw_prompts"
            raise ConfigError(f"write_completion: {reason}; add the other, or remove both")
        if self.prompt_words and not self.draw_prompts:
            reason = "it is for prompts of a generated world, and there is none"
            raise ConfigError(f"prompt_words: {reason}; remove it, or add draw_prompts")
        if self.grade_completion:
            grade = _checked(self.grade_completion, self.outcomes)
            object.__setattr__(self, "grade_completion", grade)
        if unknown := {notice.outcome for notice in self.notices} - set(self.outcomes):
            raise ConfigError(f"notices: {min(unknown)!r} is not in outcomes; add it there")


def _checked(
    grade: Callable[[str, str], str], outcomes: tuple[str, ...]
) -> Callable[[str, str], str]:
    """Wrap a task's grading: refuse outcomes that the task does not list."""

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
    """Find a task by its name, or by the dotted path of the user's module.

    Raises:
        ConfigError: if the name is unknown, with the known names; or if the module has no task.
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
    """Say whether a name is the dotted path of the user's own module."""
    return name not in TASKS and bool(re.fullmatch(_OWN, name)) and user_code.is_module(name)


def scoring_of(name: str) -> Scoring:
    """Find a task's way of scoring.

    Raises:
        ConfigError: if the task is unknown.
    """
    return SCORINGS[find_task(name).scoring]


def needed(task: str, field: str, function: Function | None) -> Function:
    """Return an optional function of a task, or refuse a task without it.

    Args:
        task: the task's name, for the error.
        field: the function's field of `Task`, for the error.
        function: the function, or None.

    Raises:
        ConfigError: if it is None.
    """
    if function is None:
        raise ConfigError(f"task {task}: its TASK has no {field}; add it, or use another task")
    return function


def score_rule(name: str) -> str:
    """Name the workflow's rule that scores a task's runs."""
    return f"score_{name.replace('.', '_')}"


def title_of(name: str) -> str:
    """Write a task's name as words, for a sentence."""
    return name.split(".")[-1].replace("_", " ")


def _known(name: str) -> str:
    """Check a task's name."""
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
