"""Say in words what a comparison found, for the terminal and the page."""

import pandas as pd

from humanline.report.compare.numbers import (
    DIFFERS,
    EQUAL,
    KINDS,
    ONLY_A,
    ONLY_B,
    UNTESTED,
    Comparison,
)

_FEW = 3  # names in a list of the terminal


def sentence(found: Comparison) -> str:
    """Say in one sentence whether the sides agree, and what that leaves out."""
    if number := len(found.differing):
        verb = "numbers differ" if number > 1 else "number differs"
        if found.is_same:
            return f"They differ: all runs are equal, but what follows is not: {number} {verb}."
        return f"They differ: {number} {verb} by more than chance and another machine explain."
    alone = lacking(found)
    counts = found.counts.drop(columns=[ONLY_A, ONLY_B])
    times = counts.reindex(["time"], fill_value=0)
    others = counts.drop(index="time", errors="ignore")
    if others[EQUAL].sum() == others.to_numpy().sum():
        is_timed = times[EQUAL].sum() < times.to_numpy().sum()
        which = "but times " if is_timed else ""
        told = f"all numbers {which if found.is_same else 'that were compared '}are equal"
    else:
        told = "no number differs by more than chance and another machine explain"
    told = f"They agree{' in what both have' if alone else ''}: {told}"
    for status, side in ((ONLY_A, "A"), (ONLY_B, "B")):
        if own := [_short(what, names) for one, what, names in alone if one == status]:
            told += f"; only {side} has: {'; '.join(own)}"
    rest = ""
    if untested := int(others[UNTESTED].sum()):
        words = "numbers have" if untested > 1 else "number has"
        rest += f" {untested} {words} no interval and could not be tested."
    if not found.is_same:
        rest += " Intervals, p-values and curves are compared only if all runs are equal."
    return f"{told}.{rest}"


def reason(found: Comparison, made: pd.DataFrame) -> str:
    """Say what may be behind a difference; empty if nothing differs.

    Args:
        found: the comparison.
        made: what differs in how the sides were made, as `made.differences` lists it.
    """
    if not len(found.differing):
        return ""
    causes = made.loc[made["is_cause"], "what"]
    if len(causes):
        return f"They were not made in the same way, which may be why: {_listed(list(causes))}."
    return "Nothing that is known of how they were made explains it: look for a fault."


def hint(found: Comparison) -> str:
    """Say if most runs are equal and a few are not, which another machine does not explain."""
    runs = found.rows[found.rows["kind"] == "run"]
    runs = runs[~runs["status"].isin([ONLY_A, ONLY_B])]
    other = runs[runs["status"] != EQUAL]
    if other.empty or len(other) >= len(runs) / 20:
        return ""
    return (
        f"{len(runs) - len(other)} of {len(runs)} runs are equal, as on one machine, so look why "
        f"the others are not: {_listed(list(other['row']))}."
    )


def lacking(found: Comparison) -> list[tuple[str, str, list[str]]]:
    """List what one side lacks.

    Returns:
        A status, what is only there ("tables", "rows of ablation"), and its names.
    """
    rows = found.rows[found.rows["status"].isin([ONLY_A, ONLY_B])]
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows.to_dict("records"):
        groups.setdefault((row["status"], _what(row)), []).append(_name(row))
    return [(*key, names) for key, names in sorted(groups.items())]


def _what(row: dict) -> str:
    match row["kind"], row["row"], row["column"]:
        case "cell" | "run" as kind, _, _:
            return f"{kind}s"
        case "verdict", _, _:
            return "verdicts"
        case "comparison", _, _:
            return "comparisons of claims"
        case _, "all", "all":
            return "tables"
        case _, "all", _:
            return f"columns of {row['where']}"
    return f"rows of {row['where']}"


def _name(row: dict) -> str:
    if row["kind"] == "number" and row["row"] == "all":
        return row["where"] if row["column"] == "all" else row["column"]
    return str(row["row"])


def once(rows: pd.DataFrame) -> pd.DataFrame:
    """List numbers, the surest difference first; one that is in several tables has one row."""
    rows = rows.sort_values("p_corrected", kind="stable")
    # Tables of one task name a cell without its task.
    is_number = rows["kind"] == "number"
    cell = rows["row"].mask(is_number, rows["row"].str.split().str[-1])
    groups = rows.assign(row=cell).groupby(
        ["kind", "row", "column", "a", "b"], sort=False, dropna=False, as_index=False
    )
    return groups.agg({"where": ", ".join, "p_corrected": "first"})


def terminal(found: Comparison, made: pd.DataFrame, page: str) -> str:
    """Write the lines for the terminal; what decides is the last one.

    Args:
        found: the comparison.
        made: what differs in how the sides were made.
        page: where the page is.
    """
    counts = found.counts.rename(index=KINDS)
    counts = counts.loc[:, counts.sum() > 0]
    table = counts.astype(str).replace("0", "").rename_axis(index=None, columns=None)
    lines = [table.to_string()]
    for row in once(found.rows[found.rows["status"] == DIFFERS]).head(5).to_dict("records"):
        values = f"A {number(row['a'])}, B {number(row['b'])}"
        lines.append(f"differs: {row['where']}: {row['row']}, {row['column']}: {values}")
    alone = lacking(found) if len(found.differing) else []  # else the last line says it
    for status in (ONLY_A, ONLY_B):
        if own := [_short(what, names) for one, what, names in alone if one == status]:
            lines.append(f"{status}: {'; '.join(own)}")
    lines += [hint(found), f"page: {page}", f"{sentence(found)} {reason(found, made)}".strip()]
    return "\n".join(filter(None, lines))


def _short(what: str, names: list[str]) -> str:
    """Name a few things, or say how many they are; the page names all."""
    return f"{len(names)} {what}" if len(names) > _FEW else f"{what}: {', '.join(names)}"


def _listed(names: list[str]) -> str:
    rest = len(names) - _FEW
    return ", ".join(names[:_FEW]) + (f" and {rest} more" if rest > 0 else "")


def number(value: object) -> str:
    """Write a number of any table, or a verdict."""
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return "" if value is None else str(value)
