"""`humanline compare`: its page, a CSV file with every number, and its exit status."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from humanline.files.json_files import write_text
from humanline.files.typed_files import csv_text
from humanline.files.validation import ConfigError
from humanline.report.compare import told
from humanline.report.compare.made import differences, summary
from humanline.report.compare.numbers import (
    ALPHA,
    DIFFERS,
    EQUAL,
    KINDS,
    ONLY_A,
    ONLY_B,
    OPPOSITES,
    WITHIN,
    Comparison,
    compare_sides,
)
from humanline.report.compare.sides import Side, find_sides
from humanline.report.formats import p_text
from humanline.report.page.dots import Dot, axis_below, row_dot, span_of
from humanline.report.page.page import document
from humanline.study.tasks import TASKS, title_of
from humanline.tables.statistics.agreement import USUAL

AGREE, DIFFER = 0, 1  # exit statuses
_SHOWN = 100  # rows of a list on the page; the CSV file has all
_TEMPLATES = Path(__file__).parent / "templates"
_COLOURS = {DIFFERS: "var(--bad)", EQUAL: "var(--quiet)"}


def compare(
    first: str,
    second: str | None,
    *,
    results: Path,
    scale: str,
    words: Callable[[str], Mapping[str, str]],
    output: Path | None = None,
) -> int:
    """Compare two sides, write `index.html` and `comparison.csv`, and print what was found.

    Args:
        first, second, results, scale: as in `find_sides`.
        words: (a scale's name) -> what its cells are, by their names; empty if that is not known.
        output: the folder to write in; None: `comparison` in the scale's results.

    Returns:
        The exit status: 0 if the sides agree, 1 if they differ.

    Raises:
        ConfigError: if they cannot be compared.
    """
    with TemporaryDirectory() as place:
        a, b = find_sides(first, second, results=results, scale=scale, place=Path(place))
    found, made = compare_sides(a, b), differences(a, b)
    folder = output or results / a.scale / "comparison"
    page = document("compare.html.j2", _TEMPLATES, **_context(a, b, found, made, words(a.scale)))
    try:
        write_text(folder / "comparison.csv", csv_text(found.rows))
        write_text(folder / "index.html", page)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written ({error.strerror}); name another folder with --output"
        ) from None
    print(f"A: {a.name} ({summary(a)})\nB: {b.name} ({summary(b)})")
    print(told.terminal(found, made, str(folder / "index.html")))
    return DIFFER if len(found.differing) else AGREE


def _context(
    a: Side, b: Side, found: Comparison, made: pd.DataFrame, words: Mapping[str, str]
) -> dict:
    """Make the variables of the template."""
    counts = found.counts.rename(index=KINDS)
    counts = counts.loc[:, counts.sum() > 0]
    differing = told.once(found.differing)
    return {
        "sides": [("A", a.name, summary(a)), ("B", b.name, summary(b))],
        "scale": a.scale,
        "agrees": found.differing.empty,
        "sentence": told.sentence(found),
        "reason": f"{told.reason(found, made)} {told.hint(found)}".strip(),
        "statuses": list(counts),
        "counts": list(counts.itertuples(name=None)),
        "differing": [_differing(row, words) for row in differing.head(_SHOWN).to_dict("records")],
        "more": max(0, len(differing) - _SHOWN),
        "lacking": told.lacking(found),
        "verdicts": _verdicts(a, b, found.rows),
        "tasks": [row | {"task": _task(row["task"])} for row in found.tasks.to_dict("records")],
        "cells": _cells(found.rows, words),
        "made": made.to_dict("records"),
        "usual": {kind: asdict(spread) for kind, spread in USUAL.items()},
        "alpha": f"{ALPHA:.0%}",
    }


def _differing(row: dict, words: Mapping[str, str]) -> dict:
    """Describe a number that differs."""
    name = next((part for part in row["row"].split() if part in words), None)
    p = "" if pd.isna(row["p_corrected"]) else p_text(row["p_corrected"])
    values = {"a": told.number(row["a"]), "b": told.number(row["b"]), "p": p}
    return row | values | {"words": words.get(name, "") if name else ""}


def _verdicts(a: Side, b: Side, rows: pd.DataFrame) -> list[dict]:
    """List the verdicts that one side has at least, with what each claim says."""
    texts: dict[str, str] = {}
    for side in (b, a):
        if side.verdicts is not None and "text" in side.verdicts:
            texts |= dict(zip(side.verdicts["claim"], side.verdicts["text"], strict=True))
    said = {EQUAL: "the same", WITHIN: "undecided on one side"}
    found = []
    for row in rows[rows["kind"] == "verdict"].to_dict("records"):
        sides = [row["a"], row["b"]]
        decided = [verdict for verdict in sides if verdict != "exploratory"]
        if not decided:
            continue
        same = "exploratory on one side" if len(decided) == 1 else said.get(row["status"])
        if row["status"] == DIFFERS:
            same = "opposite" if set(sides) == OPPOSITES else "not the same"
        values = ["none" if pd.isna(verdict) else verdict for verdict in sides]
        found.append(
            {
                "claim": row["row"],
                "text": texts.get(row["row"], ""),
                "verdicts": values,
                "same": same or row["status"],
                "differs": row["status"] == DIFFERS,
            }
        )
    return found


def _cells(rows: pd.DataFrame, words: Mapping[str, str]) -> list[dict]:
    """List the cells of each task, with dots if they are not all equal."""
    both = rows[(rows["kind"] == "cell") & ~rows["status"].isin([ONLY_A, ONLY_B])]
    names = both["row"].str.split(n=1, expand=True)
    found = []
    for task, own in both.groupby(names[0] if len(both) else [], sort=False):
        records = own.to_dict("records")
        is_equal = (own["status"] == EQUAL).all()
        dots = [_dot(row) for row in records]
        span = span_of(dots, reference=0.0)
        cells = [
            {
                "words": words.get(names.loc[index, 1], names.loc[index, 1]),
                "differs": row["status"] == DIFFERS,
                "a": f"{row['a']:.2f}",
                "b": f"{row['b']:.2f}",
                "difference": row["difference"],
                "interval": _interval(row),
                "dot": "" if row["status"] == EQUAL else row_dot(dot, span),
            }
            for index, row, dot in zip(own.index, records, dots, strict=True)
        ]
        axis = "" if is_equal else axis_below(span, "B - A, points")
        found.append({"task": _task(task), "cells": cells, "axis": axis, "is_equal": is_equal})
    return found


def _dot(row: dict) -> Dot:
    colour = _COLOURS.get(row["status"], "currentColor")
    return Dot("", row["difference"], row["low"], row["high"], colour)


def _interval(row: dict) -> str:
    if pd.isna(row["low"]) or row["status"] == EQUAL:
        return ""
    return f"[{row['low']:+.1f}, {row['high']:+.1f}]"


def _task(name: object) -> str:
    return title_of(str(name)).capitalize() if name in TASKS else str(name)
