"""The process that compares answers for `grading`: it reads lines of JSON and writes outcomes.

A child does the work. Before each answer it sets a timer and does not catch the timer's signal. So
the system ends the child after `SECONDS` of computing, even within a power of huge numbers, where
Python would not handle a signal. The parent then writes timed_out and forks a new child, which
costs milliseconds.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path

from humanline.scoring.math.answers import TooLargeError, equal

SECONDS = 0.5  # computing time for one answer
MEMORY = 2**31  # bytes of address space that a child may add to what it has at its start


def main() -> None:
    """Answer until the input ends, or nobody reads the output."""
    equal("\\frac{1}{2}", "x + 1")  # import the parser and build its tables before the first fork
    while True:
        child = os.fork()
        if child == 0:
            _serve()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            return
        try:
            _say("timed_out")
        except BrokenPipeError:
            return


def _serve() -> None:
    _limit_memory()
    # The process that started this one may ignore or block the signal.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    # Unbuffered, so that the next child finds the requests that this one has not read.
    requests = os.fdopen(0, "rb", buffering=0, closefd=False)
    while line := requests.readline():
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        outcome = _outcome(*json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(outcome)


def _outcome(box: str, answer: str) -> str:
    try:
        return "correct" if equal(box, answer) else "wrong"
    except (TooLargeError, MemoryError, RecursionError):
        return "timed_out"


def _say(outcome: str) -> None:
    os.write(1, f"{outcome}\n".encode())


def _limit_memory() -> None:
    if sys.platform == "linux":  # other systems do not enforce the limit
        own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        soft = own + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (soft if hard < 0 else min(soft, hard), hard))


if __name__ == "__main__":
    main()
