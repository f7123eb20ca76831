"""Runs of one table that were made differently: other commits, packages or machines.

Stages record what made a run's files: its record `train.json` has the provenance of the training,
and the seal of each file has the code's hash and the commit. Runs of several commits are no mixture
if the code of their stages is the same.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from humanline.data.training_files import TRAIN_AGAIN, Described, Git, Provenance
from humanline.files.seals import made
from humanline.files.typed_files import read_record
from humanline.study.runs.hashes import code_of_stage
from humanline.study.runs.resolved import Run

_UNKNOWN, _THEN = "unknown", ", then "  # what trained a run, then what sampled and scored it
_TITLES = {
    "commits": "commits",
    "packages": "package versions",
    "python": "versions of Python",
    "machines": "machines",
}


def differences(runs: Sequence[Run]) -> dict:
    """Find in what the making of some runs differs; those that are still to be made are left out.

    Returns:
        By ``commits``, ``packages``, ``python`` and ``machines`` the number of runs of each, where
        there are several, and ``commits`` also of one commit with different changes. With
        ``commits`` also ``same_code``: whether all stages of all runs have one code, the present
        one. Empty: they were all made alike.

    Raises:
        ConfigError: if a run's record or a seal is missing or damaged.
    """
    runs = [run for run in runs if not run.is_trained or run.paths.record.exists()]
    records = [record_of(run).provenance for run in runs if run.is_trained]
    sealed = [(run, _seals(run)) for run in runs]
    found: dict = {
        "commits": Counter(_THEN.join(_commits(*own)) for own in sealed if own[0].is_trained),
        "python": _counted(records, lambda own: str(own.machine.get("python", _UNKNOWN))),
        "machines": _counted(records, _machine),
    }
    names = {name for record in records for name in record.packages}
    versions = {
        name: Counter(record.packages.get(name, "none") for record in records)
        for name in sorted(names)
    }
    is_mixed = _has_several_codes(sealed)
    told: dict = {
        name: dict(own)
        for name, own in found.items()
        if len(own) > 1 or (name == "commits" and is_mixed)
    }
    if several := {name: dict(own) for name, own in versions.items() if len(own) > 1}:
        told["packages"] = several
    if "commits" in told:
        told["same_code"] = not is_mixed and all(_is_of_present_code(*own) for own in sealed)
    return told


def notes(found: dict) -> list[str]:
    """Write the differences as notes below a table; nothing where the code is the same.

    Args:
        found: the result of `differences`.
    """
    told = []
    if "commits" in found and not found["same_code"]:
        number = len({commit for own in found["commits"] for commit in own.split(_THEN)})
        told.append(
            f"Runs of {number} commit{'s' * (number > 1)}, maybe of different code:"
            f" {_listed(found['commits'])}."
        )
    for name, versions in found.get("packages", {}).items():
        told.append(f"Runs with {len(versions)} versions of {name}: {_listed(versions)}.")
    for name in ("python", "machines"):
        if own := found.get(name):
            told.append(f"Runs of {len(own)} {_TITLES[name]}: {_listed(own)}.")
    return told


def record_of(run: Run) -> Described:
    """Read the record of a run's training; a file that several tables have is read once.

    Raises:
        ConfigError: if it is missing or damaged.
    """
    path = run.paths.record
    found = path.stat() if path.exists() else None
    return _record(path, found and (found.st_mtime_ns, found.st_size))


@lru_cache(maxsize=8192)
def _record(path: Path, stamp: tuple[int, int] | None) -> Described:
    """Read a record; the stamp changes when its file does."""
    return read_record(path, Described, TRAIN_AGAIN)


def _commits(run: Run, seals: dict[str, dict]) -> list[str]:
    """List the commits that trained, sampled and scored a run, each once."""
    later = (seals[command].get("git") for command in ("generate", "score"))
    git = filter(None, [record_of(run).provenance.git, *later])
    return list(dict.fromkeys(map(commit_words, git))) or [_UNKNOWN]


def commits_of(runs: Sequence[Run]) -> list[str]:
    """List the commits that trained some runs, by their records, in the order of the runs."""
    git = (record_of(run).provenance.git for run in runs if run.is_trained)
    return list(dict.fromkeys(map(commit_words, git)))


def commit_words(git: Git) -> str:
    """Write the state of a source tree: ``4b69d05``, and whether files differed from it.

    Of an installed package: ``none (version 0.2.0)``.
    """
    changes = " with changes" if git.get("modified") else ""
    if commit := git.get("commit"):
        return f"{commit[:7]}{changes}"
    return f"none (version {git['version']}{changes})" if git.get("version") else _UNKNOWN


def _seals(run: Run) -> dict[str, dict]:
    """Read from the seals of a run's files what made them, by command."""
    files = {"generate": run.paths.samples, "score": run.paths.scored}
    if run.is_trained:
        files["train"] = run.paths.record
    return {command: made(path) for command, path in files.items()}


def _is_of_present_code(run: Run, seals: dict[str, dict]) -> bool:
    """Whether the code that trained, sampled and scored a run is that of this process."""
    return all(
        own.get("code") == code_of_stage(command, run.cell.task, run)
        for command, own in seals.items()
    )


def _has_several_codes(sealed: Sequence[tuple[Run, dict[str, dict]]]) -> bool:
    """Whether seals say that a stage had several codes for one task and objective."""
    codes: dict[tuple, set[str]] = {}
    for run, seals in sealed:
        for command, own in seals.items():
            objective = run.cell.objective if command == "train" else None  # it has its own code
            if code := own.get("code"):
                codes.setdefault((command, run.cell.task, objective), set()).add(code)
    return any(len(own) > 1 for own in codes.values())


def _machine(record: Provenance) -> str:
    """Name a processor and a GPU."""
    names = [record.machine.get(name) for name in ("processor", "accelerator")]
    return ", ".join(str(name) for name in names if name) or _UNKNOWN


def _counted(records: Iterable[Provenance], key: Callable[[Provenance], str]) -> Counter:
    return Counter(map(key, records))


def _listed(counts: dict[str, int]) -> str:
    return "; ".join(f"{name} ({number})" for name, number in counts.items())
