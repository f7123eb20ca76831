"""Counts of calls, which say how work grows, and do not depend on how busy the machine is."""

import sys
from collections.abc import Callable


def calls(work: Callable[[], object]) -> int:
    """Count the calls of Python's and C's functions that some work makes."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def is_linear(counts: list[int], most: float = 1.25) -> bool:
    """Say whether counts at sizes N, 2N and 3N rise by about the same; quadratic ones do not."""
    first, second, third = counts
    return third - second <= most * (second - first)
