"""The process that compares answers for `grading`: a line of JSON in, an outcome out.

A child does the work. Before each answer it sets a timer whose signal it does not catch: the system
ends it after `SECONDS` of computing, also within a power of huge numbers, where Python would not
look at a signal. The parent then says timed_out, and forks another, which costs milliseconds.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path

from humanline.scoring.math.answers import TooLargeError, equal

SECONDS = 0.5  # of computing time for an answer
MEMORY = 2**31  # bytes of address space that a child may take on top of what it begins with


def main() -> None:
    """Answer until the input ends, or nobody reads the output."""
    equal("\\frac{1}{2}", "x + 1")  # imports, and builds the parser's tables
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
    # Whoever started this may have the signal ignored or blocked.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    # Unbuffered, so that whoever comes after this child finds what it has not read.
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
    if sys.platform == "linux":  # elsewhere the limit is not kept to
        own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        soft = own + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (soft if hard < 0 else min(soft, hard), hard))


if __name__ == "__main__":
    main()
