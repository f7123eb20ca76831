"""The page's first screen: what was run, what held, and what is missing to run it again.

The verdicts and numbers are those of claims.csv and comparisons.csv; nothing is computed here but
how to say them.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from humanline.files.typed_files import Columns, read_columns
from humanline.files.validation import ConfigError
from humanline.report.claims import ABOUT, amount_of, paper_words, result_words
from humanline.report.formats import amount, figure, p_text
from humanline.report.page import origin
from humanline.report.page.dots import Dot, Span, axis_below, overview, row_dot, span_of
from humanline.report.page.runs import anchor
from humanline.study.claims import Claim, Comparison, Test
from humanline.study.runs.requests import ClaimsRequest, PageRequest
from humanline.study.tasks import SCORINGS, find_task, title_of
from humanline.study.words import cell_words, comparison_words, labels
from humanline.tables.claims import tested_claims

AGAIN = "make the claims again"

_WORDS = {"supported": "yes", "contradicted": "no", "undecided": "open"}
_GAINS = {
    "ratio": ("offline training with humanline scores {} times as much as without", ".2f"),
    "difference": ("humanline changes the score of offline training by {} points", "+z.1f"),
}
_SOURCES = {
    "abstract": "the paper's abstract",
    "notes": "notes: a public summary, which was not checked against the paper",
    "ours": "ours: a question of this suite",
}
_MEASURES = {"training_seconds": "seconds of training", "curve_mean": "mean of the curve of {}"}
_AXES = {
    "ratio": "how many times as much; 1: the same",
    "difference": "difference in points; 0: the same",
}


class _Verdict(Columns):
    """What the page reads of a row of claims.csv."""

    remedy: ClassVar[str] = AGAIN
    claim: str
    verdict: str
    p_holm: float | None
    p_opposite_holm: float | None


class _Tested(Columns):
    """What the page reads of a row of comparisons.csv."""

    remedy: ClassVar[str] = AGAIN
    claim: str
    comparison: str
    role: str
    result: str
    compare: str
    is_opposite: bool
    estimate: float | None
    estimate_low: float | None
    estimate_high: float | None
    paper_effect: float | None
    paper_source: Any  # a column without any text has no type
    seeds: int
    looks: int
    seeds_to_decide: Any  # may be infinite


class Compared(NamedTuple):
    """A comparison with what was found.

    Attributes:
        comparison: the comparison.
        words: what it asks, in words.
        label: which of its claim's comparisons it is, such as an objective; may be empty.
        row: its row of comparisons.csv.
    """

    comparison: Comparison
    words: str
    label: str
    row: dict


def context(request: PageRequest) -> dict:
    """Make the variables of the template.

    Returns:
        ``facts`` and ``missing``, texts by title; ``takeaway``, a sentence; ``primary`` and
        ``explored``, the claims with and without a verdict; ``dropped``, why others have no test;
        ``about``, what verdicts are about.

    Raises:
        ConfigError: if a file is missing or damaged, or is not of these claims.
    """
    found: dict[str, Any] = {
        "data": None,
        "facts": origin.facts(request),
        "missing": origin.missing(request),
        "takeaway": "No claims at this scale: its configuration has no claims.yaml.",
        "about": ABOUT,
        "primary": [],
        "explored": [],
        "dropped": {},
    }
    if (asked := request.claims) is None:
        return found
    verdicts, compared = _found(asked, request)
    groups: dict[str, list[Compared]] = {claim.id: [] for claim in asked.claims.claims}
    for own in compared:
        groups[own.comparison.claim.id].append(own)
    spans = _spans(compared)
    shown = [_claim(own, verdicts[own.id], groups[own.id], spans) for own in asked.tested]
    told = dict.fromkeys(asked.claims.primary, "untested")
    told |= {own.id: verdicts[own.id]["verdict"] for own in asked.tested if own.primary}
    return found | {
        "takeaway": takeaway(told, compared),
        "alpha": f"{asked.claims.rule.alpha:g}",
        "primary": [own for own in shown if own["word"]],
        "explored": [own for own in shown if not own["word"]],
        "dropped": asked.claims.dropped,
    }


def _found(asked: ClaimsRequest, request: PageRequest) -> tuple[dict[str, dict], list[Compared]]:
    """Return the verdicts, by claim, and the comparisons, in their order.

    They are read, or else computed for the claims whose runs are all there.
    """
    if not request.not_made or request.not_made.has_verdicts:
        return _read(asked, request.paths.tables)
    if not asked.compared:
        return {}, []
    verdicts, compared = (frame.to_dict("records") for frame in tested_claims(asked))
    return {row["claim"]: row for row in verdicts}, _in_words(asked, compared)


def _in_words(asked: ClaimsRequest, rows: Sequence[dict]) -> list[Compared]:
    """Join comparisons with their words and their rows of comparisons.csv."""
    found = [comparison for comparison, _ in asked.compared]
    told = labels(found)
    words = map(comparison_words, found, told)
    return [Compared(*own) for own in zip(found, words, told, map(_complete, rows), strict=True)]


def _read(asked: ClaimsRequest, folder: Path) -> tuple[dict[str, dict], list[Compared]]:
    """Read the verdicts, by claim, and the comparisons, in their order."""
    found = [comparison for comparison, _ in asked.compared]
    path = folder / "comparisons.csv"
    rows = read_columns(path, _Tested).to_dict("records")
    written = [(row["claim"], row["comparison"]) for row in rows]
    if written != [(own.claim.id, own.words) for own in found]:
        raise ConfigError(f"{path}: field comparison: not those of claims.yaml; {AGAIN}")
    path = folder / "claims.csv"
    verdicts = {row["claim"]: row for row in read_columns(path, _Verdict).to_dict("records")}
    for claim in asked.claims.claims:
        known = _WORDS if claim.primary else ("exploratory",)
        if claim.id not in verdicts or verdicts[claim.id]["verdict"] not in known:
            raise ConfigError(f"{path}: field verdict: {claim.id} has none; {AGAIN}")
    return verdicts, _in_words(asked, rows)


def _complete(row: dict) -> dict:
    """Read an empty field as no text."""
    source = row["paper_source"]
    return row | {"paper_source": source if isinstance(source, str) else ""}


# The sentence to take away.


def takeaway(verdicts: dict[str, str], compared: Sequence[Compared]) -> str:
    """Say in one sentence which primary claims hold, and what humanline gained over offline.

    Args:
        verdicts: of the primary claims, by their names.
        compared: the comparisons of all claims.
    """
    gained = _gained(compared)
    return f"{origin.held(verdicts)}{f'; {gained}' if gained else ''}."


def _gained(compared: Sequence[Compared]) -> str:
    """Say what humanline gained over offline training, by the first claim that compares the two.

    Nothing is said if an estimate or its interval is not known.
    """
    found = [own for own in compared if _is_gain(own.comparison)]
    if not found:
        return ""
    # The first primary claim, or the first.
    first = min(found, key=lambda own: not own.comparison.claim.primary)
    claim, compare = first.comparison.claim, first.row["compare"]
    told = [o for o in found if o.comparison.claim is claim and o.row["compare"] == compare]
    numbers = ("estimate", "estimate_low", "estimate_high")
    if not all(math.isfinite(own.row[name]) for own in told for name in numbers):
        return ""
    words, spec = _GAINS[compare]
    amounts = origin.listed(
        f"{own.row['estimate']:{spec}}" + f" ({own.label})" * bool(own.label) for own in told
    )
    return f"in {claim.id}, {words.format(amounts)}"


def _is_gain(comparison: Comparison) -> bool:
    """Say whether a comparison is of offline training's score with humanline and without."""
    if comparison.test.measure != "score" or comparison.role == "mean":
        return False
    cell, against = comparison.cell, comparison.against
    alike = ("objective", "base_model", "data", "data_from", "quartile", "select", "groups")
    return (
        cell.data == "offline"
        and cell.humanline
        and not against.humanline
        and not against.trust_region
        and all(getattr(cell, name) == getattr(against, name) for name in alike)
    )


# The claims.


def _axis_of(comparison: Comparison) -> tuple[str, str, bool]:
    """Return what comparisons with the same axis have in common: of primary claims, no claim."""
    claim, test = comparison.claim, comparison.test
    return "" if claim.primary else claim.id, test.compare, test.measure == "training_seconds"


def _dot(own: Compared) -> Dot:
    comparison, row = own.comparison, own.row
    low, high = comparison.bounds
    ends = {
        "greater": (low, float("inf")),
        "not_less": (low, float("inf")),
        "less": (float("-inf"), high),
        "equivalent": (low, high),
    }
    return Dot(
        label=own.words,
        value=row["estimate"],
        low=row["estimate_low"],
        high=row["estimate_high"],
        paper=row["paper_effect"] if row["paper_source"] else None,
        claimed=ends[comparison.test.expect],
    )


def _spans(compared: Sequence[Compared]) -> dict[tuple[str, str, bool], Span]:
    """Find the axes of all comparisons."""
    groups: dict[tuple[str, str, bool], list[Dot]] = {}
    for own in compared:
        groups.setdefault(_axis_of(own.comparison), []).append(_dot(own))
    return {
        key: span_of(dots, reference=float(key[1] == "ratio"), logarithmic=key[1] == "ratio")
        for key, dots in groups.items()
    }


def _claim(claim: Claim, row: dict, group: Sequence[Compared], spans: dict) -> dict:
    """Describe a claim for the template."""
    rows = [own.row for own in group]
    word, kind = "", "explored"
    if claim.primary:
        word, kind = verdict_words(row["verdict"], rows), _WORDS[row["verdict"]]
    holding = sum(own["result"] == "yes" for own in rows)
    cells = {anchor(cell): cell_words(cell) for own in group for cell in own.comparison.cells}
    return {
        "id": claim.id,
        "text": claim.claim,
        "source": claim.source,
        "word": word,
        "kind": kind,
        "verdict": row["verdict"],
        "hold": f"{holding} of {len(rows)} hold" if claim.primary else "",
        "asked": _asked(group),
        "papers": _papers(rows),
        "about": _about(group),
        "untested": claim.untested,
        "plots": _plots(group, spans),
        "how": _how(claim, row, group),
        "cells": list(cells.items()),
    }


def verdict_words(verdict: str, rows: Iterable[dict]) -> str:
    """Say a verdict as yes, no or open; a "no" says whether the opposite was shown.

    Args:
        verdict: as in claims.csv.
        rows: the claim's rows of comparisons.csv.
    """
    results = {result_words(row) for row in rows if row["role"] != "point"} - {"open"}
    if verdict == "contradicted" and results == {"no, the opposite"}:
        return "no, the opposite"
    return _WORDS[verdict]


def _about(group: Sequence[Compared]) -> str:
    """Say what a claim's comparisons are about: task, measure, base models and seeds."""
    tests = [own.comparison.test for own in group]
    models = dict.fromkeys(cell.base_model or "" for own in group for cell in own.comparison.cells)
    named = [f"the base model “{name}”" if name else "the usual base model" for name in models]
    looks = max(own.row["looks"] for own in group)
    numbers = sorted({own.row["seeds"] for own in group})
    seeds = " or ".join(map(str, numbers)) + (" seed" if numbers == [1] else " seeds")
    return "; ".join(
        [
            origin.listed(title_of(test.task) for test in tests),
            origin.listed(map(_measure, tests)),
            origin.listed(named),
            seeds + (f", {looks} looks" if looks > 1 else ""),
        ]
    )


def _measure(test: Test) -> str:
    score = SCORINGS[find_task(test.task).scoring].score
    return _MEASURES.get(test.measure, "{}").format(score)


def _plots(group: Sequence[Compared], spans: dict) -> list[dict]:
    """Draw a claim's comparisons: rows with one axis below them, for each kind of comparison."""
    plots = []
    for key, own in itertools.groupby(group, key=lambda own: _axis_of(own.comparison)):
        span, found = spans[key], list(own)
        title = _AXES[key[1]].replace("much", "long" if key[2] else "much")
        plots.append(
            {
                "rows": [_row(one, span) for one in found],
                "axis": axis_below(span, title),
                "overview": overview([_dot(one) for one in found], span) if not key[0] else "",
            }
        )
    return plots


def _asked(group: Sequence[Compared]) -> list[tuple[str, str]]:
    """List a claim's estimates, ``mean 1.4x, ...``, by what it asks, if that is several."""
    asked: dict[str, list[str]] = {}
    for own in group:
        told = f"{own.label} {amount(own.row['estimate'], own.row['compare'])}"
        asked.setdefault(own.comparison.test.says or own.comparison.claimed, []).append(told)
    return [(says if len(asked) > 1 else "", ", ".join(told)) for says, told in asked.items()]


def _papers(rows: Iterable[dict]) -> str:
    """List the paper's figures by the marks of their sources: ``1.4, 1.3 (notes)``."""
    found: dict[str, dict[str, None]] = {}
    for text, _, mark in (paper_words(row).partition(" ") for row in rows):
        if mark:
            found.setdefault(mark, {})[text] = None
    return "; ".join(f"{', '.join(texts)} {mark}" for mark, texts in found.items())


def _row(own: Compared, span: Span) -> dict:
    """Describe a comparison for the template."""
    comparison, row = own.comparison, own.row
    is_primary = comparison.claim.primary
    return {
        "words": own.words,
        "role": row["role"],
        "dot": row_dot(_dot(own), span),
        "estimate": amount_of(row),
        "run": anchor(comparison.cell),
        "paper": paper_words(row) if row["paper_source"] else "",
        "kind": row["result"] if row["result"] in ("yes", "no") else "open",
        "result": result_words(row) if is_primary else origin.counted(row["seeds"], "seed"),
        "to_decide": _to_decide(row),
    }


def _to_decide(row: dict) -> str:
    """Say how many seeds would decide what is open, if that is known."""
    if not row["seeds_to_decide"] > 0:
        return ""
    return figure(row, "seeds_to_decide").replace("inf", "more than 1024")


def _how(claim: Claim, row: dict, group: Sequence[Compared]) -> dict[str, str]:
    """Say how a claim came to its verdict, by title."""
    found = {"Source": _SOURCES[claim.source]}
    if claim.paper_value:
        found["In the paper"] = claim.paper_value
    found["Registered"] = f"{claim.registered.date}: {claim.registered.reason}"
    tests = (own.comparison for own in group)
    asked = (filter(None, [test.test.says, test.claimed]) for test in tests)
    found["Tests"] = "; ".join(dict.fromkeys(": ".join(parts) for parts in asked))
    if claim.primary:
        p, p_opposite = p_text(row["p_holm"]), p_text(row["p_opposite_holm"])
        found["p, Holm"] = f"{p} of the claim, {p_opposite} of its opposite"
    return found
