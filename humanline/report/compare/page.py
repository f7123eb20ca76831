"""Write what `humanline compare` found: a page for people, and a CSV file with every number."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from humanline.files.json_files import write_text
from humanline.report.compare.made import differences
from humanline.report.compare.numbers import (
    ALPHA,
    DIFFERS,
    EQUAL,
    KINDS,
    ONLY_A,
    ONLY_B,
    WITHIN,
    Comparison,
    compare_sides,
)
from humanline.report.compare.sides import Side, find_sides
from humanline.tables.statistics.agreement import USUAL

AGREE, DIFFER = 0, 1  # exit statuses
_SHOWN = 30  # rows of a list on the page; the CSV file has all
_PAGE = """\
# {a} (A) compared with {b} (B), scale {scale}

**{sentence}** {reason}

{counts}

*equal*: but for the last digit. *within*: not equal, but no more different than chance and another
machine make it. *differs*: by more. *not tested*: without an interval, or a time.
{differing}{missing}
## Verdicts

{verdicts}

A verdict that is undecided on one side alone does not count as a difference: chance decides that.
Supported on one side and contradicted on the other does.

## How much the runs differ

{spread}

## Cells

{cells}

Brackets: 95 % intervals of B - A, not corrected for their number.

## How they were made

{made}

## How this was decided

Runs of the same seed are compared with each other; without common seeds, means are compared. On
another processor a run differs in the last digits, and so after training. Usual is up to {run:g}
standard deviations over seeds in a run by itself, and {shared:g} in all seeds of a cell alike. A
cell's spread over seeds is drawn towards that of the task's other cells. Derived numbers are
compared by the standard errors of both sides. Holm's correction keeps the chance of any *differs*,
if nothing but the machine has changed, at {alpha:.0%}. docs/statistics.md says more.

All numbers: [comparison.csv](comparison.csv).
"""


def compare(
    first: str, second: str | None, results: Path, scale: str, output: Path | None = None
) -> int:
    """Compare two sides, write `comparison.md` and `comparison.csv`, and print what was found.

    Args:
        first, second, results, scale: as in `find_sides`.
        output: the folder to write in; None: `comparison` in the scale's results.

    Returns:
        The exit status: 0 if the sides agree, 1 if they differ.

    Raises:
        ConfigError: if they cannot be compared.
    """
    with TemporaryDirectory() as place:
        a, b = find_sides(first, second, results=results, scale=scale, place=Path(place))
    found = compare_sides(a, b)
    folder = output or results / a.scale / "comparison"
    made = differences(a, b)
    write_text(folder / "comparison.csv", found.rows.to_csv(index=False))
    write_text(folder / "comparison.md", _page(a, b, found, made))
    print(_told(a, b, found, made))
    print(f"page: {folder / 'comparison.md'}")
    return DIFFER if len(found.differing) else AGREE


def _told(a: Side, b: Side, found: Comparison, made: pd.DataFrame) -> str:
    """Write the lines for the terminal."""
    counts = found.counts
    lines = [f"A: {a.name}\nB: {b.name}\nscale: {a.scale}"]
    for kind, row in counts.iterrows():
        parts = ", ".join(f"{n} {status}" for status, n in row.items() if n)
        lines.append(f"{KINDS[str(kind)]}: {parts}")
    worst = _once(found.differing).head(5)
    lines += [f"differs: {_line(row)}" for row in worst.to_dict("records")]
    lines.append(f"{_sentence(found)} {_reason(found, made)}".strip())
    return "\n".join(lines)


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    """List numbers, the surest difference first; one that is in several tables has one row."""
    rows = rows.sort_values("p_corrected", kind="stable")
    # Tables of one task name a cell without its task.
    is_number = rows["kind"] == "number"
    cell = rows["row"].mask(is_number, rows["row"].str.split().str[-1])
    groups = rows.assign(row=cell).groupby(
        ["kind", "row", "column", "a", "b"], sort=False, dropna=False, as_index=False
    )
    return groups.agg({"where": ", ".join, "p_corrected": "first"})


def _line(row: dict) -> str:
    values = f"{_number(row['a'])} against {_number(row['b'])}"
    return f"{row['where']}: {row['row']}, {row['column']}: {values}"


def _sentence(found: Comparison) -> str:
    """Say in one sentence whether the sides agree."""
    if number := len(found.differing):
        return (
            f"They differ: {number} number{'s' * (number > 1)} by more than chance and another "
            "machine explain."
        )
    counts = found.counts
    tested = counts.drop(index="other", errors="ignore")
    alone = counts[[ONLY_A, ONLY_B]].to_numpy().sum()
    rest = f" in what both have; {alone} rows are on one side only" if alone else ""
    if tested[EQUAL].sum() == tested.drop(columns=[ONLY_A, ONLY_B]).to_numpy().sum():
        return f"They agree exactly{rest}."
    return f"They agree{rest}."


def _reason(found: Comparison, made: pd.DataFrame) -> str:
    """Say what may be behind a difference."""
    if not len(found.differing):
        return ""
    causes = made.loc[made["is_cause"], "what"]
    if len(causes):
        shown = ", ".join(causes.head(3)) + (
            f" and {len(causes) - 3} more" if len(causes) > 3 else ""
        )
        return f"They were not made in the same way, which may be why: {shown}."
    return "Nothing that is known of how they were made explains it: look for a fault."


def _page(a: Side, b: Side, found: Comparison, made: pd.DataFrame) -> str:
    rows = found.rows
    counts = found.counts.rename(index=KINDS)
    counts = counts.loc[:, counts.sum() > 0].rename_axis("What").reset_index()
    return _PAGE.format(
        a=_code(a.name),
        b=_code(b.name),
        scale=a.scale,
        sentence=_sentence(found),
        reason=_reason(found, made),
        counts=_markdown(counts.rename(columns=str)),
        differing=_section("What differs", _listed(found.differing)),
        missing=_section("What one side lacks", _alone(rows)),
        verdicts=_verdicts(rows),
        spread=_spread(found),
        cells=_cells(rows[rows["kind"] == "cell"]),
        made=_made(made),
        run=USUAL.run,
        shared=USUAL.shared,
        alpha=ALPHA,
    )


def _section(title: str, text: str) -> str:
    return f"\n## {title}\n\n{text}\n" if text else ""


def _listed(rows: pd.DataFrame) -> str:
    """List the numbers that differ, the surest first."""
    if rows.empty:
        return ""
    once = _once(rows)
    shown = once.head(_SHOWN)
    table = pd.DataFrame(
        {
            "Where": shown["where"],
            "Row": shown["row"],
            "Number": shown["column"],
            "A": shown["a"].map(_number),
            "B": shown["b"].map(_number),
            "p, corrected": shown["p_corrected"].map(lambda p: "" if pd.isna(p) else f"{p:.2g}"),
        }
    )
    return _markdown(table) + _more(len(once))


def _more(number: int) -> str:
    return f"\n\nAnd {number - _SHOWN} more, in comparison.csv." if number > _SHOWN else ""


def _alone(rows: pd.DataFrame) -> str:
    """List what one side lacks, by where it is."""
    alone = rows[rows["status"].isin([ONLY_A, ONLY_B])]
    lines = []
    for (status, where), group in alone.groupby(["status", "where"], sort=False):
        names = ", ".join(group["row"].head(_SHOWN)) + (", ..." if len(group) > _SHOWN else "")
        lines.append(f"- {status}, {where}: {names}")
    return "\n".join(lines)


def _verdicts(rows: pd.DataFrame) -> str:
    verdicts = rows[rows["kind"] == "verdict"]
    verdicts = verdicts[~(verdicts[["a", "b"]] == "exploratory").all(axis=1)]
    if verdicts.empty:
        return "No verdict is on both sides."
    words = {EQUAL: "the same", DIFFERS: "**opposite**", WITHIN: "undecided on one side"}
    same = verdicts["status"].map(lambda status: words.get(status, status))
    one_sided = (verdicts[["a", "b"]] == "exploratory").any(axis=1)
    same = same.mask(one_sided, "exploratory on one side")
    table = pd.DataFrame(
        {
            "Claim": verdicts["row"],
            "A": verdicts["a"].fillna("none"),
            "B": verdicts["b"].fillna("none"),
            "": same,
        }
    )
    return _markdown(table)


def _spread(found: Comparison) -> str:
    if not found.spread:
        return "Not known: seeds in common, with scores on both sides, are needed."
    lines = [
        f"- {task}: by {spread:.2f} of what another seed changes"
        + (
            f"; a cell that differs by {found.smallest[task]:.1f} points would have been found"
            if task in found.smallest
            else ""
        )
        for task, spread in found.spread.items()
    ]
    lines.append(f"\nBetween machines up to {USUAL.run:g} is usual, on one machine 0.")
    return "\n".join(lines)


def _cells(rows: pd.DataFrame) -> str:
    both = rows[rows["a"].notna() & rows["b"].notna()]
    if both.empty:
        return "No scores are on both sides, so tables were compared."
    table = pd.DataFrame(
        {
            "Cell": both["row"],
            "A": both["a"].map(_number),
            "B": both["b"].map(_number),
            "B - A": [_interval(row) for row in both.to_dict("records")],
            "": both["status"].replace({EQUAL: "equal"}),
        }
    )
    return _markdown(table)


def _interval(row: dict) -> str:
    bounds = "" if pd.isna(row["low"]) else f" [{row['low']:+.2f}, {row['high']:+.2f}]"
    return f"{row['difference']:+.2f}{bounds}"


def _made(made: pd.DataFrame) -> str:
    if made.empty:
        return "Nothing is known to differ: code, configuration, seeds, packages, machine."
    shown = made.head(_SHOWN)[["what", "a", "b"]]
    table = _markdown(shown.rename(columns={"what": "What differs", "a": "A", "b": "B"}))
    rest = len(made) - _SHOWN
    return table + (f"\n\nAnd {rest} more." if rest > 0 else "")


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _code(name: str) -> str:
    return f"`{name}`"


def _markdown(frame: pd.DataFrame) -> str:
    cells = frame.map(lambda value: str(value).replace("|", "\\|"))
    return cells.to_markdown(index=False, disable_numparse=True)
