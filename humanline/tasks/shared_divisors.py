"""Greatest common divisors, of reasoning-gym: the largest number that divides two others.

The prompt is the two numbers, such as ``"12 18"``, and the whole completion is the answer, ``"6"``.
"""

import math
import random

from humanline.files.validation import Record, validate
from humanline.study.tasks import Task
from humanline.trainers.rows.formats import Text

# Between two seeds: reasoning-gym draws problem i with its seed plus i.
_STRIDE = 2**32


def draw_prompts(count: int, seed: int) -> list[dict]:
    """Draw pairs of numbers up to 99, with their divisors as answers."""
    import reasoning_gym

    options = {"min_value": 1, "max_value": 99, "seed": _STRIDE * seed}
    drawn = reasoning_gym.create_dataset("gcd", size=count, **options)
    return [
        {"prompt": " ".join(map(str, row["metadata"]["numbers"])), "answer": row["answer"]}
        for row in drawn
    ]


def write_completion(prompt: str, rng: random.Random, carelessness: float) -> str:
    """Write the divisor, or with probability `carelessness` another number up to 9."""
    divisor = math.gcd(*map(int, prompt.split()))
    if rng.random() < carelessness:
        return str(rng.choice([number for number in range(1, 10) if number != divisor]))
    return str(divisor)


def read_row(row: dict, place: str) -> dict:
    """Read a row of a dataset or file of one's own: `prompt` and `answer`."""
    found = validate(_Numbers, row, place)
    return {"prompt": found.prompt, "answer": found.answer}


class _Numbers(Record):
    prompt: Text
    answer: Text


def grade_completion(completion: str, answer: str) -> str:
    """Compare all that a completion says with the answer, blanks around it left out."""
    return "correct" if completion.strip() == answer else "wrong"


TASK = Task(
    label="divisors",
    scoring="grade",
    rewards=("grade",),
    read_row=read_row,
    draw_prompts=draw_prompts,
    write_completion=write_completion,
    grade_completion=grade_completion,
)
