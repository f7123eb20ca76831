"""Handling what a killed workflow leaves on this machine: Snakemake's locks, and running jobs.

A killed run cannot remove its locks, and Snakemake cannot tell whether their owner is alive. The
kernel can: it releases a process's lock on a file when the process ends, for any reason. So each
run holds such a lock, and each of its jobs another.
"""

import json
import os
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where a killed run's locks stay
    fcntl = None  # type: ignore[assignment]  # a module or None has no type to declare

VARIABLE = "HUMANLINE_JOBS"  # environment variable: the file that this machine's jobs lock
JOBS = "humanline-jobs"  # that file's name, in Snakemake's folder
_RUNS = "humanline-runs"
_WORKFLOW = "HUMANLINE_WORKFLOW"  # environment variable: the process and arguments of a `Workflow`
_held: list[IO] = []  # files stay open here, because a lock lasts as long as its file is open


def take_over(folder: Path) -> None:
    """Remove the locks of a killed run, and hold a lock for this run.

    First it waits for jobs of the killed run, as they could write the same files. Locks stay if
    another run is alive, or if another machine may have made them.

    Args:
        folder: Snakemake's folder, ``.snakemake``.
    """
    if fcntl is None:
        return
    folder.mkdir(exist_ok=True)
    runs = _opened(folder / _RUNS)
    try:
        fcntl.flock(runs, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(runs, fcntl.LOCK_SH)  # Snakemake decides whether both may run
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


def keep_locks(folder: Path) -> None:
    """Record that this run's jobs are on other machines, where they go on if the run is killed.

    Then its locks stay until a person removes them.

    Args:
        folder: Snakemake's folder, ``.snakemake``.
    """
    (folder / _RUNS).write_text("a cluster")


@dataclass(frozen=True)
class Workflow:
    """A run of Snakemake that waits for a command, which may run Snakemake again.

    Attributes:
        process: its process id.
        arguments: its arguments.
    """

    process: int
    arguments: tuple[str, ...]

    def is_alive(self) -> bool:
        """Say whether it was not killed meanwhile."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        return True


def waiting_workflow() -> Workflow | None:
    """Find the workflow that runs this process, also through another one; None: there is none."""
    if _WORKFLOW not in os.environ:
        return None
    process, *arguments = json.loads(os.environ[_WORKFLOW])
    return Workflow(process, tuple(arguments))


def announce() -> None:
    """Let `waiting_workflow` find this process, a run of Snakemake, in all that it runs."""
    os.environ[_WORKFLOW] = json.dumps([os.getpid(), *sys.argv[1:]])


def _wait_for_jobs(path: Path) -> None:
    with open(path, "a") as jobs:
        try:
            fcntl.flock(jobs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reason = "jobs of a run that was killed have not ended yet; waiting for them"
            print(f"humanline: {reason}", file=sys.stderr, flush=True)
            fcntl.flock(jobs, fcntl.LOCK_EX)


def hold_as_job() -> None:
    """Hold the lock of jobs until this process ends, if the environment names its file."""
    path = os.environ.get(VARIABLE)
    if path and fcntl:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(_opened(Path(path)), fcntl.LOCK_SH)


def _opened(path: Path):
    file = open(path, "a+")  # noqa: SIM115
    _held.append(file)
    return file
