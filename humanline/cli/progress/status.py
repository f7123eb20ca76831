"""The state of the workflows of this folder, told from another terminal."""

import json
import os
import shutil
import socket
import time
from contextlib import suppress
from pathlib import Path

from humanline.cli.progress.board import Snapshot
from humanline.cli.progress.joblog import visible
from humanline.cli.progress.lines import duration, lines
from humanline.cli.progress.names import words
from humanline.files.validation import ConfigError

STATE = "humanline-state"  # how a state's file in Snakemake's folder begins; each run has its own
_FRESH = 300.0  # seconds; on another machine, a run lives that has written its state since then
GOES_ON = "the same `snakemake` command goes on from there"


def write(path: Path, state: Snapshot) -> None:
    """Write a workflow's state; a reader never sees a part of it."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(state), encoding="utf-8")
    os.replace(new, path)


def begin(folder: Path) -> Path:
    """Name the file of this process's state, and remove those of runs that have ended."""
    for path in _files(folder):
        with suppress(OSError):
            if not _is_running(path):
                path.unlink()
    return folder / f"{STATE}-{socket.gethostname()}-{os.getpid()}.json"


def describe(folder: Path = Path(".snakemake")) -> str:
    """Tell the states of the workflows that run in this folder, and of the one that ended last.

    Args:
        folder: Snakemake's folder.

    Raises:
        ConfigError: if none was started here, or its state cannot be read.
    """
    files = _files(folder)
    if not files:
        raise ConfigError(
            f"{folder}/{STATE}*: no workflow was started here; run this where you run snakemake"
        )
    running, ended = [], []
    for path in files:
        try:
            state: Snapshot = json.loads(path.read_text(encoding="utf-8"))
            if _lives(state, path):
                running.append("\n".join(_lines(state)))
            else:
                # Not by `changed`: a killed run lived on after the last of its jobs began.
                ended.append((path.stat().st_mtime, "\n".join(_over(state))))
        except FileNotFoundError:  # another run began, and has removed it
            pass
        except (OSError, ValueError, LookupError, TypeError):  # of another version, too
            raise ConfigError(
                f"{path}: cannot be read; remove it, a running workflow writes it again"
            ) from None
    return "\n".join([*running, *(told for _, told in sorted(ended)[-1:])])


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{STATE}*.json"))


def _is_running(path: Path) -> bool:
    try:
        return _lives(json.loads(path.read_text(encoding="utf-8")), path)
    except (ValueError, LookupError, TypeError):
        return False


def _lives(state: Snapshot, path: Path) -> bool:
    return not state["ended"] and _is_alive(state, path)


def _lines(state: Snapshot) -> list[str]:
    return lines(state, width=max(40, shutil.get_terminal_size((120, 24)).columns))


def _over(state: Snapshot) -> list[str]:
    done, jobs = state["jobs"]
    took = duration(state["changed"] - state["started"])
    how = state["ended"] or "was killed"
    found = [f"{state['name']}: {how} after {took}, {done} of {jobs} jobs done"]
    for job in state["failed"]:
        found.append(f"failed: {words(job['stage'], job['of'])}; see {job['log']}")
        found.append(f"  {job['cause'][-1]}")
    if how == "failed":
        found += [f"Snakemake's log: {path}" for path in state.get("logs", ())]
    elif how != "done":
        found.append(GOES_ON)
    return [visible(line) for line in found]


def _is_alive(state: Snapshot, path: Path) -> bool:
    """Say whether the workflow's process lives; on another machine, its file tells."""
    if state["host"] != socket.gethostname():
        return time.time() - path.stat().st_mtime < _FRESH
    try:
        os.kill(state["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
