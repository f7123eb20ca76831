"""What a killed workflow leaves on this machine: Snakemake's locks, and jobs that have not ended.

A run that is killed cannot take its locks away, and Snakemake does not know whether who made them
is still there. The kernel does: it gives up a process's own lock on a file when the process ends,
however it ends. So each run holds one, and each of its jobs another.
"""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where a killed run's locks stay
    fcntl = None  # type: ignore[assignment]  # a module or None has no type to declare

VARIABLE = "HUMANLINE_JOBS"  # names the file that jobs on this machine hold a lock on
JOBS = "humanline-jobs"  # that file, in Snakemake's folder
_RUNS = "humanline-runs"
_held: list[IO] = []  # open files: a lock lasts as long as its file is open


def take_over(folder: Path) -> None:
    """Remove Snakemake's locks in `folder` if no run is left to need them, and hold our own.

    Jobs of a killed run, which might write what this run is to write, are waited for. Nothing is
    removed where another run of the workflow lives, or another machine's may have made the locks.
    """
    if fcntl is None:
        return
    folder.mkdir(exist_ok=True)
    runs = _opened(folder / _RUNS)
    try:
        fcntl.flock(runs, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(runs, fcntl.LOCK_SH)  # Snakemake says whether both may run
        return
    except OSError:  # a file system without locks
        return
    _wait_for_jobs(folder / JOBS)
    locks = list((folder / "locks").glob("*.lock"))
    runs.seek(0)
    if runs.read() == socket.gethostname():
        for lock in locks:
            lock.unlink(missing_ok=True)
    elif not locks:
        runs.truncate(0)
        runs.write(socket.gethostname())
        runs.flush()
    fcntl.flock(runs, fcntl.LOCK_SH)


def outlive(folder: Path) -> None:
    """Tell that jobs of this run are on other machines, and live on if it is killed.

    Then its locks stay, until a person has looked and takes them away.
    """
    (folder / _RUNS).write_text("a cluster")


def _wait_for_jobs(path: Path) -> None:
    with open(path, "a") as jobs:
        try:
            fcntl.flock(jobs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reason = "jobs of a run that was killed have not ended yet; waiting for them"
            print(f"humanline: {reason}", file=sys.stderr, flush=True)
            fcntl.flock(jobs, fcntl.LOCK_EX)


def hold_as_job() -> None:
    """Tell that this process is a job, as long as it lives, where the environment asks for it."""
    path = os.environ.get(VARIABLE)
    if path and fcntl:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(_opened(Path(path)), fcntl.LOCK_SH)


def _opened(path: Path):
    file = open(path, "a+")  # noqa: SIM115
    _held.append(file)
    return file
