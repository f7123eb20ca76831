"""The lines that show a workflow's state, from a snapshot and the logs of its running jobs."""

import time

from humanline.cli.progress.board import Running, Snapshot
from humanline.cli.progress.joblog import Reading, read

_STAGE = 11  # characters of the longest names of stages
_TAIL = 50  # characters for percent, time left and metrics
_LATE = 0.99  # a job that takes longer than expected is shown as this part done


def lines(state: Snapshot, *, width: int = 100, height: int = 1000) -> list[str]:
    """Write a line for the whole and one for each running job, and the paths of their logs.

    Args:
        state: the workflow's state.
        width: characters of a line at most.
        height: lines at most; paths of logs are left out first, then jobs.
    """
    now = time.time()
    found = [(job, read(job["log"], job["started"])) for job in state["running"]]
    left = [left_of(job, reading, now) for job, reading in found]
    jobs = [job_line(job, reading, now, width) for job, reading in found]
    logs = [f"  log: {_end(job['log'], width - 7)}" if job["log"] else "" for job, _ in found]
    whole = head(state, left, now)
    if 1 + 2 * len(jobs) <= height:
        body = [line for pair in zip(jobs, logs, strict=True) for line in pair if line]
    elif len(jobs) < height:
        body = jobs
    else:
        shown = max(0, height - 2)
        body = [*jobs[:shown], f"  and {len(jobs) - shown} more jobs"]
    return [line[:width] for line in (whole, *body)]


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


def job_line(job: Running, reading: Reading | None, now: float, width: int) -> str:
    """Write a running job's line: stage, cell, percent, time left and the latest metrics."""
    part, left = fraction(job, reading, now), left_of(job, reading, now)
    percent = "    " if part is None else f"{100 * part:3.0f}%"
    metrics = reading.metrics_words if reading else ""
    tail = "  ".join(filter(None, [percent, left_words(left), metrics]))
    room = min(90, max(34, width - _STAGE - _TAIL))  # the same in all lines
    return f"{job['stage']:{_STAGE}} {_cut(job['of'], room):{room}} {tail}"


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


def left_words(seconds: float | None) -> str:
    """Say the time that is left."""
    return "time left unknown" if seconds is None else f"{duration(seconds)} left"


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
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else f"…{text[1 - width :]}"
