"""Handling what a killed workflow leaves on this machine: Snakemake's locks, and running jobs.

A killed run cannot remove its locks, and Snakemake cannot tell whether their owner is alive. The
kernel can: it releases a process's lock on a file when the process ends, for any reason, and no
other process inherits it with the process id. So each run holds such a lock, and each of its jobs
another.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from humanline.files.validation import ConfigError

try:
    import fcntl
except ImportError:  # Windows, where a killed run's locks stay
    fcntl = None  # type: ignore[assignment]  # a module or None has no type to declare

VARIABLE = "HUMANLINE_JOBS"  # environment variable: the file that this machine's jobs lock
JOBS = "humanline-jobs"  # that file's name, in Snakemake's folder
RUNS = "humanline-runs"  # the file that a run locks; it says which run that is
ELSEWHERE = "a cluster"  # the record's host of a run whose jobs are on other machines
_WORKFLOW = "HUMANLINE_WORKFLOW"  # environment variable: the process and arguments of a `Workflow`
_ROOM = 1 << 16  # bytes
_PATIENCE = 1.0  # seconds; a dry run holds the lock for an instant
_held: list[IO] = []  # files stay open here, because a lock lasts as long as its file is open


def guard() -> None:
    """Let Snakemake lock a folder as `only_run` says, and see no locks of killed runs."""
    from snakemake.persistence import PersistenceBase

    if hasattr(PersistenceBase.lock, "is_guarded"):  # by an earlier workflow of this process
        return
    theirs, warning = PersistenceBase.lock, PersistenceBase.lock_warn_only

    @contextmanager
    def lock(self):
        with _one_line(), only_run(Path(self.path)), theirs(self):
            yield

    @contextmanager
    def lock_warn_only(self):  # of a dry run
        with suppress(OSError, ConfigError), _lock_of(Path(self.path)) as runs:
            _remove_stale(Path(self.path), runs)
        with warning(self):
            yield

    lock.is_guarded = True  # type: ignore[attr-defined]
    PersistenceBase.lock, PersistenceBase.lock_warn_only = lock, lock_warn_only


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        sys.exit(f"humanline: error: {error}")


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Be the only run of a folder, and first remove the locks that a killed run left.

    Before that it waits for jobs of the killed run, as they could write the same files.

    Args:
        folder: Snakemake's folder, ``.snakemake``.

    Raises:
        ConfigError: if another run is alive, if another machine may have made locks, or if the
            folder cannot be written.
    """
    with _lock_of(folder) as runs:
        if runs is not None:
            _wait_for_jobs(folder / JOBS)
            _remove_stale(folder, runs)
            _write_record(runs)
        yield


@contextmanager
def _lock_of(folder: Path) -> Iterator[IO[str] | None]:
    """Lock the file of a folder's run; give None on a file system without locks.

    Raises:
        ConfigError: if another run has locked it.
    """
    if fcntl is None:
        yield None
        return
    with _opened(folder / RUNS) as runs:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(runs, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise _refusal(folder, _record(runs)) from None
                time.sleep(0.02)
            except OSError:  # a file system without locks: Snakemake's own decide
                yield None
                return
        yield runs


def _refusal(folder: Path, record: dict) -> ConfigError:
    process = f"process {record['process']} on {record['host'].split()[0]}, which runs "
    words = " ".join(["snakemake", *record["arguments"]])
    owner = f"{process}`{words}`" if record["process"] else "another run"
    return ConfigError(
        f"{folder}: held by {owner}; wait for it, or stop it: two runs in one folder would write "
        "the same files (`humanline status` tells how far it is)"
    )


def _remove_stale(folder: Path, runs: IO[str] | None) -> None:
    """Remove the locks of a run that was killed on this machine.

    Raises:
        ConfigError: if another machine may have made them.
    """
    locks = list((folder / "locks").glob("*.lock"))
    if runs is None or not locks:
        return
    record = _record(runs)
    if record["host"] != _host():
        jobs = "whose jobs are on other machines" if record["host"] == ELSEWHERE else "of another"
        jobs = jobs if record["host"] else "of an unknown"
        machine = "" if record["host"] == ELSEWHERE else " machine or container"
        raise ConfigError(
            f"{folder / 'locks'}: has locks of a run {jobs}{machine}, and nobody here can tell "
            "whether it lives; if it does not, run `snakemake --unlock`, then the same command"
        )
    for lock in locks:
        lock.unlink(missing_ok=True)


def _record(runs: IO[str]) -> dict:
    """Read which run holds the lock, or held it last; the host is empty if that is unknown."""
    nothing = {"host": "", "process": 0, "arguments": []}
    runs.seek(0)
    try:
        record = nothing | json.loads(runs.read())
    except (ValueError, TypeError, OSError):  # of an earlier version, or cut off
        return nothing
    return record if isinstance(record["host"], str) else nothing


def _write_record(runs: IO[str], host: str | None = None) -> None:
    content = {"host": host or _host(), "process": os.getpid(), "arguments": sys.argv[1:]}
    try:
        os.ftruncate(runs.fileno(), 0)
        os.write(runs.fileno(), json.dumps(content).encode())  # no buffer, which could fail later
    except OSError as error:
        raise _unwritable(Path(runs.name), error) from None


def _host() -> str:
    """Name this machine. Containers have names of their own, and clones often the same."""
    try:
        number = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        number = ""
    return f"{socket.gethostname()} {number}".strip()


def keep_locks(folder: Path) -> None:
    """Record that this run's jobs are on other machines, where they go on if the run is killed.

    Then its locks stay until a person removes them.

    Args:
        folder: Snakemake's folder, ``.snakemake``.
    """
    with _opened(folder / RUNS) as runs:
        _write_record(runs, ELSEWHERE)


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
    if process == os.getpid():  # an earlier workflow of this process, which Python has called
        return None
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
            # On NFS a shared lock needs a file that can be read.
            _held.append(file := open(path, "a+"))  # noqa: SIM115
            fcntl.flock(file, fcntl.LOCK_SH)


def _opened(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(exist_ok=True)
        return open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> ConfigError:
    remedy = "make room, or let this user write there; then the same command goes on"
    return ConfigError(f"{path}: cannot be written ({error.strerror}); {remedy}")


def require_room(folder: Path) -> None:
    """Check that Snakemake can write, before it would end in a traceback.

    Args:
        folder: Snakemake's folder, ``.snakemake``.

    Raises:
        ConfigError: if the disk is full, or nothing may be written there.
    """
    probe = folder / f"humanline-room-{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        probe.write_bytes(b" " * _ROOM)
    except OSError as error:
        raise _unwritable(folder.absolute(), error) from None
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def keep_folder(folder: Path) -> None:
    """Keep the folder of the files that Snakemake is making; a run removes it when it is empty.

    A dry run beside that run, which then found no such folder, ended in a traceback.

    Args:
        folder: Snakemake's folder, ``.snakemake``.
    """
    marks = folder / "incomplete"
    if (folder / "metadata").exists() and not marks.exists():
        return  # Snakemake makes it, and first moves there what an old version has marked
    with suppress(OSError):  # for example, it is of another user
        marks.mkdir(exist_ok=True)
        (marks / "humanline-keeps-this-folder").touch()
