"""The lifeline of a workflow's jobs: they end when it does, even if it is killed.

A killed process tells nobody. But the kernel releases its locks on a file. So a workflow locks two
bytes of a file, and each of its jobs waits for both in a thread. The workflow releases the first
byte when its jobs shall stop: the job then gets SIGTERM. The second one is released when the
workflow has ended: then the job gets SIGKILL.
"""

import ctypes
import os
import secrets
import select
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where jobs outlive a killed workflow
    fcntl = None  # type: ignore[assignment]  # a module or None has no type to declare

VARIABLE = "HUMANLINE_LIFELINE"  # environment variable: the number of a workflow's bytes, the file
FILE = "humanline-lifelines"  # the file's name, in Snakemake's folder
PARENT = "the parent"  # the variable's value for a process whose parent is the workflow
_PR_SET_PDEATHSIG = 1  # of Linux' prctl
_STOP, _END = 0, 1  # the two bytes
_held: dict[int, IO[bytes]] = {}  # by number; a lock is lost when its process closes the file
_watched: list[IO[bytes]] = []


def hold(folder: Path) -> None:
    """Hold a lifeline for the jobs that this process will start.

    Args:
        folder: Snakemake's folder, ``.snakemake``.
    """
    if fcntl is None:
        return
    number = secrets.randbelow(2**30)
    path = (folder / FILE).absolute()
    with suppress(OSError):  # a file system without locks; jobs then outlive a killed workflow
        file = open(path, "a+b")  # noqa: SIM115
        for byte in (_STOP, _END):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 2 * number + byte)
        _held[number] = file
        os.environ[VARIABLE] = f"{number}:{path}"


def is_held() -> bool:
    """Say whether the jobs of this process have a lifeline."""
    return bool(_held)


def stop_jobs() -> None:
    """Send SIGTERM to the jobs of this process."""
    for number, file in _held.items():
        fcntl.lockf(file, fcntl.LOCK_UN, 1, 2 * number + _STOP)


def stop_jobs_on_signals() -> None:
    """Stop the jobs, too, when this process gets SIGTERM or SIGINT; then do what it did before.

    Snakemake waits for its jobs after these signals, but does not send them on. A thread other than
    the main one gets no signals, so a workflow that Python calls there has none to send on.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, _stopping_first(signal.getsignal(name)))


def _stopping_first(before):
    def handle(number, frame):
        stop_jobs()
        if callable(before):
            before(number, frame)

    return handle


def watch() -> None:
    """End this process with the workflow that the environment names, if it names one."""
    value = os.environ.get(VARIABLE)
    if value == PARENT:
        _die_with_parent()
    elif value and fcntl:
        number, _, path = value.partition(":")
        threading.Thread(target=_wait, args=(path, int(number)), daemon=True).start()


def _wait(path: str, number: int) -> None:
    """Wait for the two bytes, and end this process.

    The thread asks for shared locks, so that all jobs get them at once.
    """
    with suppress(OSError):
        # It stays open: a workflow within a workflow would lose its own locks if it were closed.
        _watched.append(file := open(path, "rb"))  # noqa: SIM115
        for byte, name in ((_STOP, signal.SIGTERM), (_END, signal.SIGKILL)):
            fcntl.lockf(file, fcntl.LOCK_SH, 1, 2 * number + byte)
            os.kill(os.getpid(), name)


def _die_with_parent() -> None:
    """End this process with its parent, also if that has ended: then nobody writes its input."""
    die_with(os.getppid())
    poll = select.poll()
    poll.register(sys.stdin, select.POLLHUP)
    if any(event & select.POLLHUP for _, event in poll.poll(0)):
        os.kill(os.getpid(), signal.SIGKILL)


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends. For Linux, where workers are.

    Args:
        parent: the parent's process id; if it has another parent now, this process ends at once.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
