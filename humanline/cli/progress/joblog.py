"""What a job's log says: how far it is, its latest metrics, and why it failed.

Jobs write nothing for this. Progress bars and the trainer's metrics are in their logs anyway.
"""

import ast
import contextlib
import os
import re
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from humanline.files.json_files import NotWrittenError

ERROR = "humanline: error: "  # how the line of a user's error begins
LINES = 15  # number of a failed job's log lines to print
VIEW = "HUMANLINE_VIEW"  # environment variable; 1: the workflow's view says why a job failed
# Of a failed job without a line in its log.
SILENT = "its log says nothing; perhaps it was killed, as when memory runs out"
WIDTH = 300  # characters of a line that are printed
_LONGEST = 2000  # the same of a user's error, which ends with the remedy
_TAIL = 8192  # bytes; a line of metrics and the bars around it have 2,000
_ALL = 1 << 17  # bytes that are searched for the cause of a failure
# A bar of the training has no name; `sampling: 25%|...` has one.
_BAR = re.compile(
    r"(?:^|[\r\n])\s*(?:(?P<name>[\w ]+): +)?\d+%\|[^|\r\n]*\| "
    r"(?P<done>\d+)/(?P<total>\d+) \[[\d:]+<(?P<left>[\d:?]+)"
)
_COLOUR = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # and other sequences of terminals
_SHORT_WORK = ("Loading weights", "Writing model shards")
_TOOK = re.compile(r"^\w+: ([\d.]+) s\s*\Z", re.M)
_METRICS = re.compile(r"\{'loss'[^{}]*\}")
# What is shown of the metrics, and how it is named.
_SHOWN = {
    "loss": "loss",
    "reward": "reward",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "mean_token_accuracy": "accuracy",
}


@dataclass(frozen=True)
class Reading:
    """What a running job's log says.

    Args:
        name: what the last progress bar counts; empty: steps of training.
        fraction: the part that is done, by the last progress bar.
        left: seconds that are left of that bar, as it says itself.
        metrics: the trainer's latest metrics that are shown, by their short names.
        took: the seconds of a command that has ended, as it says itself.
    """

    name: str = ""
    fraction: float | None = None
    left: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    took: float | None = None

    @property
    def metrics_words(self) -> str:
        """The metrics in words: ``loss 0.12, reward 0.6``."""
        return ", ".join(f"{name} {value:.3g}" for name, value in self.metrics.items())


def read(log: str | None, since: float) -> Reading | None:
    """Read the end of a running job's log.

    Args:
        log: its path.
        since: the time of the job's start, in seconds since the epoch.

    Returns:
        None if the job has no log yet; a log of an earlier job at that path does not count.
    """
    try:
        if not log or os.stat(log).st_mtime < since - 2:  # clocks of file systems are coarse
            return None
        text = _end_of(log, _TAIL)
    except OSError:
        return None
    ended = _TOOK.search(text)
    took = float(ended[1]) if ended else None
    bars = [bar for bar in _BAR.finditer(text) if bar["name"] not in _SHORT_WORK]
    if not bars:
        return Reading(metrics=_metrics(text), took=took)
    unnamed = [bar for bar in bars if not bar["name"]]
    bar = (unnamed or bars)[-1]
    fraction = int(bar["done"]) / max(1, int(bar["total"]))
    return Reading(bar["name"] or "", fraction, _seconds(bar["left"]), _metrics(text), took)


def _end_of(path: str | Path, size: int) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        return file.read().decode(errors="replace")


def _seconds(text: str) -> float | None:
    """Read tqdm's ``1:02:03``; None if it does not know."""
    if "?" in text:
        return None
    total = 0
    for part in text.split(":"):
        total = 60 * total + int(part or 0)
    return float(total)


def _metrics(text: str) -> dict[str, float]:
    """Read the latest value of each metric that is shown; not every line has all."""
    found: dict[str, float] = {}
    for line in _METRICS.findall(text):
        with contextlib.suppress(ValueError, SyntaxError, TypeError):  # `nan` without quotes
            values = ast.literal_eval(line)
            found |= {
                short: float(values[name]) for name, short in _SHOWN.items() if name in values
            }
    return found


def cause(log: str | None) -> list[str]:
    """Find why a job failed: the one line of a user's error, or else the log's last lines.

    Args:
        log: the path of the job's log.

    Returns:
        A whole error, or lines of at most `WIDTH` characters, the last one last; none if there is
        no log.
    """
    try:
        text = _end_of(log, _ALL) if log else ""
    except OSError:
        return []
    # Of a progress bar, only the last state.
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    lines = [line for line in lines if line]
    own = [line for line in lines if line.startswith(ERROR)]
    if own:
        return [visible(own[-1][:_LONGEST])]
    return [visible(line[:WIDTH]) for line in lines[-LINES:]]


def visible(text: str) -> str:
    """Make a text safe for a terminal: without colours, other control characters as escapes.

    Characters that change the direction of text are escaped, too; ends of lines stay.
    """
    shown = _COLOUR.sub("", text).expandtabs(4)
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in shown
    )


def show_tail(log: Path) -> None:
    """Print the last lines of a failed command's log, unless the workflow's view will do so."""
    if os.environ.get(VIEW) == "1":
        return
    with open(log, errors="replace") as lines:
        tail = deque(lines, LINES)
    print(f"humanline: failed; the last lines of {log}:", file=sys.stderr)
    sys.stderr.writelines(f"  {visible(line)}" for line in tail)


@contextlib.contextmanager
def logging_to(path: str | os.PathLike[str] | None):
    """Redirect output to a file, also that of subprocesses and C libraries."""
    if not path:
        yield None
        return
    sys.stdout.flush(), sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # Without waiting for a reader, if it is a pipe.
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise NotWrittenError(error.errno, error.strerror, path) from error
    os.set_blocking(opened, True)
    with open(opened, "w", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield path
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # the log's disk is full
                    stream.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
