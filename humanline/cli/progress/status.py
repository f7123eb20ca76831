"""The state of the workflow of this folder, told from another terminal."""

import json
import os
import shutil
import socket
from pathlib import Path

from humanline.cli.progress.board import Snapshot
from humanline.cli.progress.lines import duration, lines
from humanline.cli.progress.names import words
from humanline.files.validation import ConfigError

STATE = "humanline-state.json"  # in Snakemake's folder
GOES_ON = "the same `snakemake` command goes on from there"


def write(path: Path, state: Snapshot) -> None:
    """Write a workflow's state; a reader never sees a part of it."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(state), encoding="utf-8")
    os.replace(new, path)


def describe(folder: Path = Path(".snakemake")) -> str:
    """Tell the state of the workflow that runs in this folder, or that ran last.

    Args:
        folder: Snakemake's folder.

    Raises:
        ConfigError: if none was started here, or its state cannot be read.
    """
    path = folder / STATE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise ConfigError(
            f"{path}: no workflow was started here; run this where you run snakemake"
        ) from None
    try:
        state: Snapshot = json.loads(text)
        return "\n".join(_lines(state))
    except (ValueError, LookupError, TypeError):  # of another version, too
        raise ConfigError(
            f"{path}: cannot be read; remove it, a running workflow writes it again"
        ) from None


def _lines(state: Snapshot) -> list[str]:
    if state["ended"] or not _is_alive(state):
        return _over(state)
    return lines(state, width=max(40, shutil.get_terminal_size((120, 24)).columns))


def _over(state: Snapshot) -> list[str]:
    done, jobs = state["jobs"]
    took = duration(state["changed"] - state["started"])
    how = state["ended"] or "was killed"
    found = [f"{state['name']}: {how} after {took}, {done} of {jobs} jobs done"]
    for job in state["failed"]:
        found.append(f"failed: {words(job['stage'], job['of'])}; see {job['log']}")
        found.append(f"  {job['cause'][-1]}")
    if state["ended"] != "done":
        found.append(GOES_ON)
    return found


def _is_alive(state: Snapshot) -> bool:
    """Say whether the workflow's process lives; on another machine that is not known."""
    if state["host"] != socket.gethostname():
        return True
    try:
        os.kill(state["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
