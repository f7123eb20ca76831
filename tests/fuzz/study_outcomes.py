# ruff: noqa: E501 -- lists are read more easily in long lines, and have look-alikes
"""What becomes of a bad configuration or command line: run in a child process, and put into a kind.

A child is forked for every case: a crash, an endless loop or a bomb ends the child alone, and a
fork takes milliseconds.
"""

import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SECONDS = 5.0  # of the CPU, at most; more is slow
HANGS = 60.0  # seconds of the clock until a child that waits is killed; one that works has more
MEMORY = 4 << 30  # bytes that a child may take besides what it begins with
LENGTH = 700  # characters of a line that a person still reads
BEGINNING = "humanline: error: "


@dataclass(frozen=True)
class Edit:
    """A change of a file's content: a function that changes it in place. It is done when it runs."""

    change: Callable[[Any], object]


# New bytes, an edit, what to do with the path, or removal.
Change = bytes | Edit | Callable[[Path], None] | None


@dataclass(frozen=True)
class Case:
    """One input.

    Args:
        kind: what is tried, for the summary.
        name: this very input, for a person.
        files: the files that differ from the study's, by their paths in its folder.
        words: a command line for `main`; None: read the whole study as the workflow does.
        scale: the scale of the study.
        expect: ``refused``; ``right``: it must be accepted; ``either``: a crash alone is wrong.
        told: words that the line must have, such as the file's name.
        quiet: nothing but that line may be printed.
        seconds: those of the CPU that it may take.
    """

    kind: str
    name: str
    files: Mapping[str, Change] = field(default_factory=dict)
    words: tuple[str, ...] | None = None
    scale: str = "smoke"
    expect: str | Callable[[], str] = "refused"
    told: tuple[str, ...] = ()
    quiet: bool = True
    seconds: float = SECONDS

    @property
    def expected(self) -> str:
        """What must become of it; of a field its schema says so, which takes time."""
        return self.expect if isinstance(self.expect, str) else self.expect()


@dataclass(frozen=True)
class Outcome:
    """What became of a case: its kind, what it printed, and the seconds of CPU that it took."""

    kind: str
    text: str
    seconds: float


# Whether what a case has written and printed is right, by its folder, its text, and its success.
Verify = Callable[[Case, Path, str, bool], bool]
BAD = ("traceback", "silent acceptance", "lost", "several lines", "unclear", "wrongly refused", "slow",
       "memory", "hangs", "crash")  # fmt: skip


def run(
    case: Case,
    base: Path,
    folder: Path,
    act: Callable[[Case], int],
    verify: Verify = lambda *_: True,
) -> Outcome:
    """Run a case in a child process.

    Args:
        case: the case.
        base: the folder of the study as it should be.
        folder: a new folder for the child.
        act: does the case in the current folder, and returns an exit status.
        verify: looks at the folder of a case that could be accepted, or was refused in one line.
    """
    copy(base, folder)
    for name, change in case.files.items():
        _change(folder / name, change)
    printed = folder.with_suffix(".txt")
    sys.stdout.flush(), sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _child(case, folder, printed, act)
    status, used, hung = _wait(child)
    text = printed.read_bytes().decode(errors="replace") if printed.exists() else ""
    printed.unlink(missing_ok=True)
    seconds = used.ru_utime + used.ru_stime
    kind = _kind(case, status, text, seconds, hung)
    if kind in ("right result", "refused in one line"):
        is_accepted = kind == "right result"
        if not verify(case, folder, text, is_accepted):
            kind = "silent acceptance" if is_accepted else "lost"
    return Outcome(kind, text, seconds)


def copy(base: Path, folder: Path) -> None:
    """Copy a folder of small files."""
    folder.mkdir(parents=True)
    for path in base.rglob("*"):
        target = folder / path.relative_to(base)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


def _change(path: Path, change: Change) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(change, bytes):
        path.write_bytes(change)
        return
    if isinstance(change, Edit):
        content = yaml.safe_load(path.read_text())
        change.change(content)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if change is not None:
        change(path)


def _child(case: Case, folder: Path, printed: Path, act: Callable[[Case], int]) -> None:
    status = 99
    try:
        out = os.open(printed, os.O_WRONLY | os.O_CREAT)
        os.dup2(out, 1), os.dup2(out, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.setsid()
        os.chdir(folder)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (3 * int(SECONDS), 3 * int(SECONDS) + 1))
        status = act(case)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 98
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status or 0)


def _wait(child: int) -> tuple[int, resource.struct_rusage, bool]:
    """Wait for a child, and kill it with all that it started if it takes too long."""
    until, pause = time.monotonic() + HANGS, 0.001
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return status, used, False
        late = time.monotonic() - until
        if late > 9 * HANGS or (late > 0 and _waits(child)):
            os.killpg(child, signal.SIGKILL)
            _, status, used = os.wait4(child, 0)
            return status, used, True
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)


def _waits(child: int) -> bool:
    """Say whether a process sleeps, so that more time would not help."""
    return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def _kind(case: Case, status: int, text: str, seconds: float, hung: bool) -> str:
    if hung:
        return "hangs"
    if os.WIFSIGNALED(status):
        return {signal.SIGKILL: "memory", signal.SIGXCPU: "slow"}.get(os.WTERMSIG(status), "crash")
    if seconds > 3 * SECONDS - 1:
        return "slow"
    if "MemoryError" in text or "Cannot allocate memory" in text:
        return "memory"
    if "Traceback (most recent call last)" in text:
        return "traceback"
    if seconds > case.seconds:
        return "slow"
    if os.WEXITSTATUS(status) == 0:
        return "silent acceptance" if case.expected == "refused" else "right result"
    if case.expected == "right":
        return "wrongly refused"
    return _told(case, text)


def _told(case: Case, text: str) -> str:
    """Put a refusal into a kind: one line with file or field, and a remedy after a semicolon."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not case.quiet:  # progress and warnings of other libraries come first
        lines = [line for line in lines if BEGINNING in line] if BEGINNING in lines[-1] else []
        lines = [BEGINNING + line.partition(BEGINNING)[2] for line in lines]
    if len(lines) != 1:
        return "several lines"
    line = lines[0]
    clear = line.startswith(BEGINNING) and ";" in line and ":" in line.removeprefix(BEGINNING)
    clear = clear and len(line) <= LENGTH and line.isprintable()
    if not clear or (case.expected == "refused" and any(word not in line for word in case.told)):
        return "unclear"
    return "refused in one line"
