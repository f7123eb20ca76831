r"""Grade math: compare the last ``\boxed{}`` of a completion with the gold answer.

A process of its own compares the answers, with limits of computing time and memory. So no answer
can stall a training step, however long SymPy would take, and several threads may grade.
"""

import atexit
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import Literal

from humanline.scoring.math import grading_process
from humanline.scoring.math.answers import LONGEST

# The outcomes of a grading. timed_out: the answer took too long to compare, or is longer or larger
# than `answers` reads.
Outcome = Literal["correct", "wrong", "no_box", "timed_out"]
OUTCOMES: tuple[Outcome, ...] = ("correct", "wrong", "no_box", "timed_out")

_THINKING = re.compile(r"<\s*(/?)\s*think(?:ing)?\s*>", re.I)
_BOXES = (r"\boxed", r"\fbox")
_BRACES = re.compile(r"\\.|[{}]", re.S)
_BARE = re.compile(r"\s*\$?([^\s{}$]+)")


def grade(completion: str, answer: str) -> Outcome:
    """Grade a completion by its last box after its thinking.

    Args:
        completion: the model's text.
        answer: the gold answer, LaTeX without delimiters.

    Returns:
        One of `OUTCOMES`.

    Raises:
        RuntimeError: if the grading process cannot run.
    """
    box = last_box(_after_thinking(completion))
    if box is None:
        return "no_box"
    if len(box.strip()) > max(LONGEST, len(answer)):  # not worth sending
        return "timed_out"
    return _compare(box, answer)


def is_correct(completion: str, answer: str) -> bool:
    """Say whether `grade` finds a completion correct."""
    return grade(completion, answer) == "correct"


def last_box(text: str) -> str | None:
    r"""Return the content of the last ``\boxed`` or ``\fbox``; None if it is missing or cut off."""
    start = max(text.rfind(box) for box in _BOXES)
    if start < 0:
        return None
    start += len(next(box for box in _BOXES if text.startswith(box, start)))
    opening = start + len(text[start:]) - len(text[start:].lstrip())
    if not text.startswith("{", opening):
        bare = _BARE.match(text, start)
        return bare and bare[1].rstrip(".,;:!?")
    depth = 0
    for brace in _BRACES.finditer(text, opening):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[opening + 1 : brace.start()]
    return None


def _after_thinking(text: str) -> str:
    """Remove the text between <think> and </think>; either tag may be missing."""
    kept: list[str] = []
    start, inside = 0, False
    for tag in _THINKING.finditer(text):
        if tag[1]:  # if <think> is missing, the chat template has written it
            kept = kept if inside else []
        elif not inside:
            kept.append(text[start : tag.start()])
        start, inside = tag.end(), not tag[1]
    return "\n".join(kept if inside else [*kept, text[start:]])


@lru_cache(maxsize=100_000)
def _compare(box: str, answer: str) -> Outcome:
    # Cached, because training grades the same answers many times, at a millisecond each.
    return _PROCESS.compare(box, answer)


class _Process:
    """The process of `grading_process`. It starts at the first use, and again after a fork."""

    def __init__(self):
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def compare(self, box: str, answer: str) -> Outcome:
        """Ask the process; if it has died, for example for lack of memory, ask a new one."""
        with self._lock:
            for _ in range(2):
                try:
                    if (reply := self._ask(json.dumps([box, answer]))) in OUTCOMES:
                        return reply
                except BaseException:  # such as Ctrl-C: the next request must not read this reply
                    self._end()
                    raise
                self._end()
        raise RuntimeError(
            "the process that grades math ends at once; see what it printed above, and whether"
            " `python -c 'import math_verify, latex2sympy2_extended'` works"
        )

    def _ask(self, request: str) -> str:
        process = self._process or self._start()
        assert process.stdin and process.stdout  # `_start` asks for both pipes
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()
        except BrokenPipeError:
            return ""

    def _start(self) -> subprocess.Popen[str]:
        path = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", grading_process.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
            start_new_session=True,  # Ctrl-C must reach this process alone
        )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout)):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def forget(self) -> None:
        """Forget the process after a fork: it belongs to the parent, which may be using it."""
        self._lock, self._process = threading.Lock(), None


_PROCESS = _Process()
os.register_at_fork(after_in_child=lambda: _PROCESS.forget())
atexit.register(_PROCESS._end)
