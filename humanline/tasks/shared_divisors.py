"""Greatest common divisors, from reasoning-gym: the largest number that divides two others.

A prompt is two numbers, such as ``"12 18"``. The whole completion is the answer, such as ``"6"``.
"""

import math
import random

from humanline.files.validation import Record, validate
from humanline.study.tasks import Task
from humanline.trainers.rows.formats import Text

# The distance of two seeds in reasoning-gym: it draws problem i with seed + i.
_STRIDE = 2**32


def draw_prompts(count: int, seed: int) -> list[dict]:
    """Draw `count` pairs of numbers up to 99, as ``{"prompt", "answer"}``, both text."""
    import reasoning_gym

    options = {"min_value": 1, "max_value": 99, "seed": _STRIDE * seed}
    drawn = reasoning_gym.create_dataset("gcd", size=count, **options)
    return [
        {"prompt": " ".join(map(str, row["metadata"]["numbers"])), "answer": row["answer"]}
        for row in drawn
    ]


def write_completion(prompt: str, rng: random.Random, carelessness: float) -> str:
    """Write the divisor or, with probability `carelessness`, another number from 1 to 9."""
    divisor = math.gcd(*map(int, prompt.split()))
    if rng.random() < carelessness:
        return str(rng.choice([number for number in range(1, 10) if number != divisor]))
    return str(divisor)


def prompt_words(prompt: str) -> list[str]:
    """Say a prompt in words."""
    return [f"the largest number that divides {' and '.join(prompt.split())}"]


def read_row(row: dict, place: str) -> dict:
    """Read a row of your own dataset or file: `prompt` and `answer`, both text.

    Raises:
        ConfigError: if it is not such a row; the message begins with `place`.
    """
    found = validate(_Numbers, row, place)
    return {"prompt": found.prompt, "answer": found.answer}


class _Numbers(Record):
    prompt: Text
    answer: Text


def grade_completion(completion: str, answer: str) -> str:
    """Compare a completion, without blanks around it, with the answer: ``correct`` or ``wrong``."""
    return "correct" if completion.strip() == answer else "wrong"


TASK = Task(
    label="divisors",
    scoring="grade",
    rewards=("grade",),
    read_row=read_row,
    draw_prompts=draw_prompts,
    write_completion=write_completion,
    prompt_words=prompt_words,
    grade_completion=grade_completion,
)
