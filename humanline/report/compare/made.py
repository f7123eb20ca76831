"""What differs in how two sides were made: code, configuration, seeds, packages and machines."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from humanline.report.compare.sides import SCORES, Side
from humanline.report.origins.mixed import commit_words

# What can change numbers by more than another machine does.
_CAUSES = ("configuration", "code", "seeds", "package", "learning rate", "prompts", "steps")
_NAMES = 3  # names of tables or cells in one row

_HASHES = ("configuration of tables", "code or options of runs")

Fact = tuple[str, str]  # a kind, and what the fact is about: a table, a cell, a package, nothing


def differences(a: Side, b: Side) -> pd.DataFrame:
    """List what differs in how the sides were made.

    Args:
        a, b: the sides.

    Returns:
        A row per fact that both sides know and that is not the same: what, a and b, for people;
        is_cause: whether it can change numbers by more than another machine does. What differs in
        the same way in many tables or cells has one row.
    """
    facts = [dict(_facts(side)) for side in (a, b)]
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for kind, name in facts[0].keys() & facts[1].keys():
        values = facts[0][kind, name], facts[1][kind, name]
        if values[0] != values[1]:
            shown = ("a hash", "another") if kind in _HASHES else values
            grouped.setdefault((kind, *shown), []).append(name)
    rows = [
        {"what": f"{kind}: {_several(names)}".removesuffix(": "), "a": one, "b": other}
        for (kind, one, other), names in sorted(grouped.items())
    ]
    frame = pd.DataFrame(rows, columns=["what", "a", "b"])
    causes = [what.startswith(_CAUSES) for what in frame["what"]]
    return frame.assign(is_cause=np.array(causes, dtype=bool))


def summary(side: Side) -> str:
    """Say in a few words how a side was made: its scale, seeds, commit and processor."""
    facts = dict(_facts(side))
    told = [f"scale {side.scale}"]
    if side.scores is not None:
        told.append(f"{len(side.scores)} runs")
    if commit := facts.get(("commit", "")):
        told.append(f"commit {commit}")
    return ", ".join([*told, *filter(None, [facts.get(("processor", ""))])])


def _several(names: list[str]) -> str:
    shown = sorted(names)[:_NAMES]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _facts(side: Side) -> Iterator[tuple[Fact, str]]:
    """Tell what is known of how a side was made."""
    records = side.provenance
    common = {"commit": [_commit(record.get("git")) for record in records.values()]}
    for what in ("processor", "cores", "platform", "python"):
        common[what] = [_get(record, "machine", what) for record in records.values()]
    for what, values in common.items():
        if any(values):
            yield (what, ""), _words(values)
    for name in sorted({name for one in records.values() for name in _get(one, "packages") or {}}):
        versions = [_get(record, "packages", name) for record in records.values()]
        yield ("package", name), _words(versions)
    for name, record in records.items():
        if value := record.get("config_hash"):
            yield ("configuration of tables", name), str(value)
        if seeds := _get(record, "seeds", "report"):
            yield ("seeds of tables", name), _words(seeds)
    for name, value in (_get(records, SCORES, "runs") or {}).items():
        yield ("code or options of runs", name), str(value)
    for cell, rates in _rates(side).items():
        yield ("learning rate", cell), _words(rates)
    if side.scores is not None:
        for task, runs in side.scores.groupby("task", sort=False):
            for column, what in (("n_prompts", "prompts of"), ("step", "steps of")):
                if column in runs:
                    yield (what, str(task)), _words(runs[column])


def _rates(side: Side) -> dict[str, set[float]]:
    """Collect the learning rates of every cell of a table."""
    rates: dict[str, set[float]] = {}
    for record in side.provenance.values():
        for run, own in (record.get("runs") or {}).items():
            if isinstance(own, dict) and "learning_rate" in own:
                cell = re.sub(r"-s\d+$", "", run)
                rates.setdefault(cell, set()).add(own["learning_rate"])
    return rates


def _commit(git: dict | None) -> str | None:
    if not git or not (git.get("commit") or git.get("version")):
        return None
    return commit_words(git)  # type: ignore[arg-type]  # read from JSON


def _get(record: Any, *names: str) -> Any:
    """Look up a field of nested records; None if one of them is not there."""
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _words(values: Iterable) -> str:
    """List the values that are known, each once."""
    known = {value for value in values if value is not None}
    return ", ".join(map(str, sorted(known, key=lambda value: (str(type(value)), value))))
