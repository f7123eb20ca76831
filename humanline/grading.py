"""Grading of math: is the answer in ``\\boxed{}`` equal to the gold answer?"""

from functools import lru_cache

_BOX = "\\boxed{"


def is_correct(completion: str, answer: str) -> bool:
    """Grade a completion with math-verify. The last box counts; no box is wrong.

    Args:
        completion: the model's text.
        answer: the gold answer, LaTeX without delimiters.
    """
    box = _last_box(completion)
    return box is not None and _equal(box, answer)


def _last_box(completion: str) -> str | None:
    """The last ``\\boxed{...}`` whose braces match, which answers nest deeply; None without one."""
    start = completion.rfind(_BOX)
    while start >= 0:
        depth = 0
        for end in range(start + len(_BOX) - 1, len(completion)):
            depth += {"{": 1, "}": -1}.get(completion[end], 0)
            if depth == 0:
                return completion[start : end + 1]
        start = completion.rfind(_BOX, 0, start)
    return None


@lru_cache(maxsize=100_000)
def _equal(box: str, answer: str) -> bool:
    # Cached: training grades the same answers over and over, at a millisecond each.
    from math_verify import parse, verify

    return verify(parse(f"${answer}$"), parse(f"${box}$"))
