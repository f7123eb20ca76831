"""The part of the page that shows the tables: few columns, and a dot in every row.

A table has the figures of its CSV, which the page links to; nothing is computed here.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from humanline.files.seals import require_seal
from humanline.files.typed_files import read_csv
from humanline.files.validation import ConfigError
from humanline.report.formats import Narrow
from humanline.report.narrow import RUN, again, narrow, row_cells
from humanline.report.origins.mixed import differences, notes
from humanline.report.page.dots import Dot, Span, axis_below, row_dot, span_of
from humanline.report.page.runs import anchor
from humanline.report.style import colour_of
from humanline.study.cells import Cell
from humanline.study.runs.requests import PageRequest, TableRequest

# The columns that may have dots, and what their line stands for, if they have one. Of the columns
# that a table shows with intervals, one with a line has the dots: that known in most rows.
_DOTTED = {
    "ratio_to_offline": "plain offline training",
    "difference_to_offline": "plain offline training",
    "difference_to_online": "plain online training",
    "ratio_of_seconds": "plain online training",
    "length_controlled_win_rate": None,
    "pass_at_1": None,
    "score": None,
}
FIRST = 100  # rows of a table that the browser lays out before it is asked for all
_FILES = {
    "csv": "all columns (CSV)",
    "provenance.json": "code, seeds and machine (JSON)",
    "md": "Markdown",
    "tex": "LaTeX",
}


@dataclass(frozen=True)
class Dots:
    """The dots of a table.

    Args:
        header: the column that has them.
        dots: one for every row; its value is NaN where the figure is not known.
        span: their axis, the same in all rows.
        words: what they show.
    """

    header: str
    dots: list[Dot]
    span: Span
    words: str

    @property
    def axis(self) -> str:
        """The axis, to stand below the dots."""
        return axis_below(self.span, self.header)

    def drawn(self, number: int) -> str:
        """Draw the dot of a row."""
        return row_dot(self.dots[number], self.span)


def context(request: PageRequest) -> dict:
    """Make the variables of the template: ``tables``, and ``first``: how many rows each shows.

    Raises:
        ConfigError: if a table's CSV is missing or damaged.
    """
    found = [_table(table, request) for table in request.tables if table.runs]
    told: set[str] = set()
    for table in found:  # in print, a note stands under the first table alone
        table["notes"] = [(note, note in told) for note in table["notes"]]
        told.update(note for note, _ in table["notes"])
    return {"tables": found, "first": FIRST}


def _table(table: TableRequest, request: PageRequest) -> dict:
    frame = _frame(table)
    shown, cells = narrow(frame, table), row_cells(frame, table)
    dots = _dots(frame, shown, cells)
    files = {s: table.paths.tables / f"{table.name}.{s}" for s in _FILES}
    headers = [RUN, *(str(header) for header in shown.rows if header != RUN)]
    return {
        "name": table.name,
        "title": table.title,
        "caption": shown.caption,
        "above": [f"{header}: {text}" for header, text in shown.constant.items()],
        "headers": [(header, header in shown.sources) for header in headers],
        "dots": dots,
        "rows": list(_rows(frame, shown, cells, headers[1:], dots)),
        "notes": [*shown.notes, *notes(differences(table.runs))],
        "badges": _badges(table, frame),
        "files": [
            (_FILES[suffix], link(request, path)) for suffix, path in files.items() if path.exists()
        ],
    }


def link(request: PageRequest, path: Path) -> str:
    """Write the address of a file of the results, for a link on the page."""
    return quote(os.path.relpath(path, request.paths.page.parent))


def _frame(table: TableRequest) -> pd.DataFrame:
    """Read a table's CSV."""
    path = table.paths.tables / f"{table.name}.csv"
    frame = read_csv(path, again(table))
    if missing := [name for name in ("objective", "variant") if name not in frame]:
        raise ConfigError(f"{path}: no column {missing[0]}; {again(table)}")
    require_seal(path)
    return frame


def _dots(frame: pd.DataFrame, shown: Narrow, cells: Sequence[Cell]) -> Dots | None:
    """Find the column with dots, see `_DOTTED`."""
    headers = {column: header for header, column in shown.sources.items()}
    known = {
        column: int(frame[column].notna().sum())
        for column in _DOTTED
        if column in headers
        and {column, *_ends(column)} <= set(frame)
        and frame[_ends(column)].notna().any(axis=None)
    }
    if not known:
        return None
    column = max(known, key=lambda own: (_DOTTED[own] is not None, known[own]))
    numbers = frame[[column, *_ends(column)]].astype(float)
    dots = [
        Dot("", own[0], own[1], own[2], colour_of(cell))  # the row's text stands beside it
        for own, cell in zip(numbers.to_numpy().tolist(), cells, strict=True)
    ]
    line, is_ratio = _DOTTED[column], column.startswith("ratio")
    span = span_of(dots, reference=None if line is None else float(is_ratio), logarithmic=is_ratio)
    words = f"Dots: {headers[column]}, with its 95 % interval"
    words += ", on a logarithmic scale" * is_ratio + f"; the line is {line}" * bool(line)
    return Dots(headers[column], dots, span, f"{words}.")


def _ends(column: str) -> list[str]:
    """Name the columns of an interval."""
    return [f"{column}_low", f"{column}_high"]


def _rows(
    frame: pd.DataFrame,
    shown: Narrow,
    cells: Sequence[Cell],
    headers: Sequence[str],
    dots: Dots | None,
) -> Iterator[dict]:
    """Describe the rows: their words, where their runs are, and their other cells by `headers`."""
    records, texts = frame.to_dict("records"), shown.rows.to_dict("records")
    for number, (record, row, cell) in enumerate(zip(records, texts, cells, strict=True)):
        found = []
        for header in headers:
            value = record[shown.sources[header]] if header in shown.sources else None
            known = value is not None and pd.notna(value)
            text, bracket, interval = row[header].partition(" [")
            found.append(
                {
                    "text": text,
                    "interval": bracket.strip() + interval,
                    "value": f"{value:.6g}" if known else None,
                    "is_best": (number, header) in shown.best,
                    "is_dotted": dots is not None and header == dots.header,
                    "dot": dots.drawn(number) if known and dots and header == dots.header else "",
                }
            )
        yield {"words": row[RUN], "anchor": anchor(cell), "cells": found}


def _badges(table: TableRequest, frame: pd.DataFrame) -> list[str]:
    """Say what is missing to compare a table's rows; what runs lack is said at the page's top."""
    fewer = int((frame["seeds"] < len(table.seeds)).sum()) if "seeds" in frame else 0
    return [f"{fewer} of {len(frame)} rows with fewer seeds than {len(table.seeds)}"] * bool(fewer)
