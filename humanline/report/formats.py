"""Write tables as files: CSV for machines, Markdown and LaTeX for people, and their provenance.

People see a `Narrow` table: few columns with short names, what is the same in all rows above them,
and notes below. The CSV has all columns with all digits.
"""

import itertools
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from humanline.files.json_files import write_json, write_text
from humanline.files.typed_files import csv_text
from humanline.report.escapes import latex_text, markdown_text

# Number formats of the columns that people see; z: no minus before a zero.
_FORMATS = {
    "seeds": "d",
    "steps": "d",
    "score": ".1f",
    "win_rate": ".1f",
    "length_controlled_win_rate": ".1f",
    "pass_at_1": ".1f",
    "ratio_to_offline": ".2f",
    "ratio_to_online": ".2f",
    "difference_to_offline": "+z.1f",
    "difference_to_online": "+z.1f",
    "p_beats_plain": "p",
    "steps_to_online": "d",
    "mean_length": ".0f",
    "data_log_probability": ".2f",
    "unclipped": ".2f",
    "training_seconds": ".0f",
    "ratio_of_seconds": ".2f",
    "speed_up": ".1f",
    "sampling_share": ".0%",
    "peak_memory_mib": ",.0f",
    "seeds_to_decide": ".0f",
}
UNKNOWN = "\N{EN DASH}"  # in place of a figure
_TOGETHER = re.compile(r"\[[^\]]*\]|\d (?:%|points|of \d+)")


MOST_COLUMNS = 7  # of a narrow table: as many as fit beside each other on a page
# Of LaTeX: an article's line, the least width of a column of texts, and the space between columns,
# all in points; and the lines of rows that a page holds beside caption and notes.
_LINE, _TEXT, _SPACE, _ROWS = 345, 85, 6, 30


@dataclass(frozen=True)
class Narrow:
    """A table for people, as texts.

    Args:
        caption: at most three sentences.
        rows: texts with short headers, in at most seven columns.
        constant: what is the same in all rows, by header: ``{"Seeds": "10"}``.
        best: the best figures, as number of the row and header.
        notes: what a reader of the figures must know, a sentence or a few each; one about a column
            begins with the words of its header.
        texts: headers of the columns whose texts may be long, so that they may break.
        groups: header of the first column if rows that are equal there are a group with a title.
        sources: of the headers of figures, the names of their columns in the CSV.
    """

    caption: str
    rows: pd.DataFrame
    constant: dict[str, str] = field(default_factory=dict)
    best: frozenset[tuple[int, str]] = frozenset()
    notes: tuple[str, ...] = ()
    texts: frozenset[str] = frozenset()
    groups: str | None = None
    sources: dict[str, str] = field(default_factory=dict)

    def without_notes_of(self, headers: Iterable[str]) -> "Narrow":
        """Leave out the notes that explain some headers: ``Length: ...``."""
        starts = tuple(f"{header.partition(',')[0]}: " for header in headers)
        return replace(self, notes=tuple(n for n in self.notes if not n.startswith(starts)))

    def __post_init__(self) -> None:
        if len(self.rows.columns) > MOST_COLUMNS:
            raise ValueError(f"{len(self.rows.columns)} columns; at most {MOST_COLUMNS} fit")


def write_table(
    frame: pd.DataFrame, shown: Narrow, directory: Path, name: str, *, provenance: dict
) -> None:
    """Write a table as NAME.csv, .md, .tex and .provenance.json.

    Args:
        frame: the table with all columns, for machines.
        shown: the same table for people.
        directory: the folder; it is made if it does not exist.
        name: stem of the files' names and of the LaTeX label.
        provenance: how the table was made, JSON-serialisable.
    """
    write_text(directory / f"{name}.csv", csv_text(frame), sealed=True)
    write_text(directory / f"{name}.md", markdown(shown, f"{name}.csv"))
    write_text(directory / f"{name}.tex", latex(shown, name))
    write_json(directory / f"{name}.provenance.json", provenance, sealed=True)


def amount(value: float | None, compare: str, low: float = math.nan, high: float = math.nan) -> str:
    """Write a ratio or a difference with its unit and interval: ``1.39x [1.36, 1.41]``.

    Args:
        value: the figure; a dash if it is not known.
        compare: ``ratio``, or ``difference`` of percentage points.
        low, high: its interval, if it has one.
    """
    if value is None or pd.isna(value):
        return UNKNOWN
    spec, unit = (".2f", "x") if compare == "ratio" else ("+z.1f", " points")
    bounds = "" if pd.isna(low) else f" [{low:{spec}}, {high:{spec}}]"
    return f"{value:{spec}}{unit}{bounds}"


def p_text(p: float) -> str:
    """Write a p-value with two significant digits."""
    return _format(p, "p")


def is_figure(column: str) -> bool:
    """Whether a column of a wide table has figures that people see, or ends of their intervals."""
    return column.removesuffix("_low").removesuffix("_high") in _FORMATS


def figure(row: dict, column: str) -> str:
    """Format a figure with its interval, if that is known: ``+1.2 [-0.5, 3.0]``.

    A plus sign stands before a difference, not within its interval, which is short so.

    Args:
        row: a row of a wide table.
        column: the figure's column.
    """
    spec = _FORMATS[column]
    text = _format(row[column], spec)
    low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
    if pd.notna(low):
        spec = spec.removeprefix("+")
        text += f" [{_format(low, spec)}, {_format(high, spec)}]"
    return text


def _format(value: Any, spec: str) -> str:
    if pd.isna(value):
        return UNKNOWN
    if spec == "p":
        return "<0.001" if value < 0.001 else format(value, "#.2g")
    if spec == "d":
        return str(int(value))  # a CSV has 4.0 beside an empty cell
    return format(value, spec)


def markdown(shown: Narrow, csv: str) -> str:
    """Write a narrow table in Markdown, with a link to the file that has all columns.

    Args:
        shown: the table.
        csv: the file, relative to the folder of the Markdown.
    """
    escaped = replace(shown, rows=shown.rows.map(markdown_text))
    rows = _marked(escaped, lambda text: f"**{text}**")
    above = " ".join(f"{header}: {text}." for header, text in shown.constant.items())
    notes = [*map(markdown_text, shown.notes), f"All columns: [{csv}]({csv})."]
    parts = [
        markdown_text(shown.caption),
        markdown_text(above),
        _piped(rows),
        "\n".join(f"- {note}" for note in notes),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def pipe_table(rows: pd.DataFrame) -> str:
    """Write plain texts as a table of Markdown."""
    return _piped(rows.map(markdown_text))


def _piped(rows: pd.DataFrame) -> str:
    """Write Markdown as a table; a line breaks before an interval, not within it."""
    # Without disable_numparse, tabulate would read "0.50" as a number and drop its last digit.
    return rows.map(_joined).to_markdown(index=False, disable_numparse=True)


def _joined(text: str) -> str:
    """Put spaces that do not break into intervals, counts and figures with a unit."""
    return _TOGETHER.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def _marked(shown: Narrow, mark: Callable[[str], str]) -> pd.DataFrame:
    """Mark the best figures: the first word of a cell, so not its interval."""
    rows = shown.rows.copy()
    for row, header in shown.best:
        best, space, rest = str(rows.at[row, header]).partition(" ")
        rows.at[row, header] = mark(best) + space + rest
    return rows


def latex(shown: Narrow, name: str) -> str:
    """Write a narrow table in LaTeX, as wide as the text and, in an article, in 8 points.

    The last columns are left out if they do not fit. Rows go on in another float if a page cannot
    hold them.

    Args:
        shown: the table.
        name: its label, after ``tab:``.
    """
    shown, width = _fitted(shown)
    escaped = replace(shown, rows=shown.rows.map(latex_text))
    rows = _marked(escaped, lambda text: rf"\textbf{{{text}}}")
    above = "; ".join(f"{header}: {text}" for header, text in shown.constant.items())
    caption = [rf"\caption{{{latex_text(shown.caption)}}}", rf"\label{{tab:{name}}}", r"\medskip"]
    lines = ["% Needs the packages booktabs and tabularx."]
    for page in _pages(shown, width):
        lines += [r"\begin{table}", r"\centering"]
        lines += [rf"Table~\ref{{tab:{name}}}, continued.\\[6pt]"] if page.start else caption
        lines += [r"\footnotesize", rf"\setlength{{\tabcolsep}}{{{_SPACE // 2}pt}}"]
        if above and not page.start:
            lines.append(rf"\parbox{{\linewidth}}{{{latex_text(above)}.}}\\[3pt]")
        lines += _tabular(rows.iloc[page], shown)
        if shown.notes and page.stop == len(rows):
            notes = " ".join(map(latex_text, shown.notes))
            lines.append(rf"\\[3pt]\parbox{{\linewidth}}{{{notes}}}")
        lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def _fitted(shown: Narrow) -> tuple[Narrow, float]:
    """Leave out the last columns that do not fit; return how wide a column of texts is, too."""
    headers = [str(header) for header in shown.rows if header != shown.groups]
    least = sum(min(_TEXT, _width(shown, header)) for header in shown.texts)
    left: list[str] = []
    while True:
        taken = sum(_width(shown, header) for header in headers if header not in shown.texts)
        width = float(_LINE - taken - _SPACE * (len(headers) - 1))
        if width >= least or headers[-1] in shown.texts:
            break
        left.insert(0, headers.pop())
    width /= max(1, len(shown.texts))
    if not left:
        return shown, width
    told = shown.without_notes_of(left)
    return replace(
        told,
        rows=shown.rows.drop(columns=left),
        best=frozenset(own for own in shown.best if own[1] not in left),
        notes=(*told.notes, f"In the CSV alone: {'; '.join(left)}."),
    ), width


def _width(shown: Narrow, header: str) -> float:
    """Estimate the width of a column in points, at 8 points."""
    texts = [*header.split(), *shown.rows[header]]
    return max(sum(_WIDTHS.get(character, 4.3) for character in text) for text in texts)


# Of characters at 8 points; the others are about as wide as a digit.
_WIDTHS = dict.fromkeys(" .,:;[]()'ijlt", 2.6) | dict.fromkeys("+<>=m%ABCDGKMOPRSUW", 6.6)


def _pages(shown: Narrow, width: float) -> Iterator[slice]:
    """Divide rows into pages by the lines that they need; a column of texts has a width."""
    start = lines = 0
    for number, row in enumerate(shown.rows.to_dict("records")):
        texts = (len(row[header]) * 4.3 / width for header in shown.texts)
        need = max(1, *map(math.ceil, texts)) if shown.texts else 1
        if lines and lines + need > _ROWS:
            yield slice(start, number)
            start, lines = number, 0
        lines += need
    yield slice(start, len(shown.rows))


def _tabular(rows: pd.DataFrame, shown: Narrow) -> list[str]:
    """Write rows of LaTeX as a table that fills the line: columns of texts take what is left."""
    wide = r">{\raggedright\arraybackslash}X"
    headers = [str(header) for header in rows if header != shown.groups]
    columns = "".join(wide if header in shown.texts else "l" for header in headers)
    lines: list[str] = []
    titles = rows[shown.groups] if shown.groups else [None] * len(rows)
    for title, group in itertools.groupby(
        zip(titles, rows[headers].itertuples(index=False), strict=True), key=lambda pair: pair[0]
    ):
        if title is not None:
            lines += [r"\addlinespace"] * bool(lines)
            lines.append(rf"\multicolumn{{{len(headers)}}}{{@{{}}l}}{{\emph{{{title}}}}} \\")
        lines += [rf"{' & '.join(row)} \\" for _, row in group]
    return [
        rf"\begin{{tabularx}}{{\linewidth}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        rf"{' & '.join(_header(header, shown) for header in headers)} \\",
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabularx}",
    ]


def _header(header: str, shown: Narrow) -> str:
    """Break a header that is longer than what stands below it."""
    if header in shown.texts:
        return latex_text(header)
    width = max(map(len, [*header.split(), *shown.rows[header]]))
    lines = textwrap.wrap(header, width)
    text = r"\\".join(map(latex_text, lines))
    return text if len(lines) == 1 else rf"\shortstack[l]{{{text}}}"
