"""Grading of math: is the answer in ``\\boxed{}`` equal to the gold answer?"""

import re
from functools import lru_cache

_LAST_BOX = re.compile(r"\\boxed\{(?:[^{}]|\{[^{}]*\})*\}")


def is_correct(completion: str, answer: str) -> bool:
    """Grade a completion with math-verify. The last box counts; no box is wrong.

    Args:
        completion: the model's text.
        answer: the gold answer, LaTeX without delimiters.
    """
    boxes = _LAST_BOX.findall(completion)
    return bool(boxes) and _equal(boxes[-1], answer)


@lru_cache(maxsize=100_000)
def _equal(box: str, answer: str) -> bool:
    # Cached: training grades the same answers over and over, at a millisecond each.
    from math_verify import parse, verify

    return verify(parse(f"${answer}$"), parse(f"${box}$"))
