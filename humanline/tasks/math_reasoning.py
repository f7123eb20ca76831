"""Math reasoning: the answer in a completion's last box is compared with the problem's.

In the generated world, a problem is a chain of sums, and the expert writes the running totals.
"""

import random
from typing import TYPE_CHECKING

from humanline.files.validation import Record, validate
from humanline.study.tasks import Notice, Task, World
from humanline.trainers.rows.formats import Text

if TYPE_CHECKING:
    from humanline.study.scale.data import EnglishData


def draw_prompts(count: int, seed: int) -> list[dict]:
    """Draw `count` sums with their answers, as ``{"prompt", "answer"}``, both text."""
    from humanline.worlds import sums

    return sums.problems(count, seed)


def write_completion(prompt: str, rng: random.Random, carelessness: float) -> str:
    """Write running totals and the boxed answer, which is wrong with probability `carelessness`."""
    from humanline.worlds import sums

    return sums.worked_solution(prompt, rng, carelessness)


def read_row(row: dict, place: str) -> dict:
    """Read a row of MATH-500 as ``{"prompt", "answer"}``, both text.

    Raises:
        ConfigError: if it is not such a row; the message begins with `place`.
    """
    found = validate(_Problem, row, place)
    return {"prompt": found.problem, "answer": found.answer}


class _Problem(Record):
    """A row of MATH-500."""

    problem: Text
    answer: Text


def grade_completion(completion: str, answer: str) -> str:
    """Grade the last box of a completion; return one of `TASK.outcomes` (see `grading.grade`)."""
    from humanline.scoring.math.grading import grade

    return grade(completion, answer)


def draw_english(count: int, seed: int, data: "EnglishData") -> list[dict]:
    """Draw problems in English, with their answers and worked solutions."""
    from humanline.worlds.english import problems

    return problems.draw_rows(
        count, seed, terms=data.terms, digits=data.digits, in_words=data.word_problems
    )


def write_english(row: dict, rng: random.Random, carelessness: float) -> str:
    """Write a worked solution, whose answer is wrong with probability `carelessness`."""
    from humanline.worlds.english import problems

    return problems.write_completion(row, rng, carelessness)


TASK = Task(
    label="math",
    scoring="grade",
    rewards=("math_verify",),
    read_row=read_row,
    draw_prompts=draw_prompts,
    write_completion=write_completion,
    worlds={
        "english": World(
            draw_rows=draw_english,
            write_completion=write_english,
            options=("terms", "digits", "word_problems"),
        )
    },
    grade_completion=grade_completion,
    outcomes=("correct", "wrong", "no_box", "timed_out"),
    notices=(
        Notice(
            outcome="timed_out",
            header="Timed out",
            text="Timed out: answers that ran into the grader's limit and count as wrong, over all"
            " seeds and steps.",
        ),
    ),
)
