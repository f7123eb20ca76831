"""The lines that show a workflow's state, from a snapshot and the logs of its running jobs."""

import time

from humanline.cli.progress.board import Running, Snapshot
from humanline.cli.progress.joblog import Reading, read, visible

_STAGE = 11  # characters of the longest names of stages
_LEFT = 15  # characters of the longest time left, ``99 h 59 min left``, and a space
_LATE = 0.99  # a job that takes longer than expected is shown as this part done


def lines(state: Snapshot, *, width: int = 100, height: int = 1000) -> list[str]:
    """Write a line for the whole, and two for each running job.

    Args:
        state: the workflow's state.
        width: characters of a line at most.
        height: lines at most; a job's second line is left out first, then jobs.
    """
    now = time.time()
    found = [(job, read(job["log"], job["started"])) for job in state["running"]]
    whole = head(state, [left_of(job, reading, now) for job, reading in found], now)
    jobs = [job_line(job, reading, now) for job, reading in found]
    if 1 + 2 * len(jobs) <= height:
        more = [_second_line(job, reading, width) for job, reading in found]
        body = [line for pair in zip(jobs, more, strict=True) for line in pair if line]
    elif len(jobs) < height:
        body = jobs
    else:
        shown = max(0, height - 2)
        body = [*jobs[:shown], f"  and {len(jobs) - shown} more jobs"]
    return [_cut(line, width) for line in (whole, *body)]


def head(state: Snapshot, left: list[float | None], now: float) -> str:
    """Write the line for the whole.

    Args:
        state: the workflow's state.
        left: the seconds that are left of each running job.
        now: the time, in seconds since the epoch.
    """
    (done, jobs), (scored, cells) = state["jobs"], state["cells"]
    counts = [f"{scored} of {cells} cells"] if cells else []
    counts.append(f"{done} of {jobs} jobs")
    failed = [f"{len(state['failed'])} failed"] if state["failed"] else []
    gone = f"{duration(now - state['started'])} gone"
    words = ", ".join([*counts, *failed, gone, left_words(time_left(state, left))])
    return f"{state['name']}: {words}"


def time_left(state: Snapshot, left: list[float | None]) -> float | None:
    """Estimate the seconds until the workflow ends; None: unknown.

    Args:
        state: the workflow's state.
        left: the seconds that are left of each running job.
    """
    known = [seconds for seconds in left if seconds is not None]
    if state["waiting"] is None or (len(left) > len(known) and not known and not state["waiting"]):
        return None
    unknown = (len(left) - len(known)) * (sum(known) / len(known) if known else 0)
    busy = min(state["parallel"], max(1, state["jobs"][1] - state["jobs"][0]))
    return max([(state["waiting"] + sum(known) + unknown) / busy, *known])


def job_line(job: Running, reading: Reading | None, now: float) -> str:
    """Write a running job's line: stage, percent, time left, and what it is about."""
    part, left = fraction(job, reading, now), left_of(job, reading, now)
    percent = "" if part is None else f"{100 * part:.0f}%"
    if reading is None and left is None:
        words = "starts"
    elif left == 0 and part == _LATE:
        words = "late"
    else:
        words = left_words(left, "? left")
    return f"{job['stage']:{_STAGE}} {percent:>4} {words:>{_LEFT}}  {job['of']}".rstrip()


def _second_line(job: Running, reading: Reading | None, width: int) -> str:
    """Write a running job's latest metrics and the path of its log, of which the end counts."""
    metrics = f"  {reading.metrics_words}" if reading and reading.metrics else ""
    if not job["log"]:
        return metrics
    before = f"{metrics}  log: "
    return before + _end(job["log"], max(20, width - len(before)))


def fraction(job: Running, reading: Reading | None, now: float) -> float | None:
    """Compute which part of a job is done: by the steps of its training, or else by its time."""
    if reading and reading.fraction is not None and not reading.name:
        return reading.fraction
    if job["expected"]:
        return min(_LATE, (now - job["started"]) / job["expected"])
    return reading.fraction if reading else None


def left_of(job: Running, reading: Reading | None, now: float) -> float | None:
    """Estimate the seconds that are left of a job; None: unknown."""
    by_time = None if job["expected"] is None else max(0.0, job["expected"] - now + job["started"])
    if reading and reading.left is not None and (by_time is None or not reading.name):
        return reading.left
    return by_time


def left_words(seconds: float | None, unknown: str = "time left unknown") -> str:
    """Say the time that is left."""
    return unknown if seconds is None else f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    """Say a time: ``8 s``, ``12 min``, ``3 h 20 min`` or ``2 days 4 h``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def _cut(text: str, width: int) -> str:
    text = visible(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else f"…{text[1 - width :]}"
