"""Write tables as files: CSV for machines, Markdown and LaTeX for people, and their provenance.

People see a `Narrow` table: few columns with short names, what is the same in all rows above them,
and notes below. The CSV has all columns with all digits.
"""

import itertools
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from humanline.files.json_files import write_json, write_text
from humanline.study.tasks import find_task
from humanline.trainers.registry import find_objective

# Header and number format of every column that people see.
_COLUMNS = {
    "task": ("Task", "task"),
    "base_model": ("Base model", ""),
    "objective": ("Objective", ""),
    "data": ("Data", ""),
    "data_from": ("Data from", ""),
    "quartile": ("Quartile", "d"),
    "groups": ("Prompts", "d"),
    "sample_every": ("Sampling", "d"),
    "last_sampling": ("Last sampling", "d"),
    "select": ("Best quarter by", ""),
    "humanline": ("Humanline", ""),
    "method": ("Method", ""),
    "k": ("k", "d"),
    "sync_alpha": ("Soft sync", "g"),
    "log_eps_p": ("Lower bound, nats", "g"),
    "log_eps_r": ("Upper bound, nats", "g"),
    "learning_rate_factor": ("Factor of learning rate", "g"),
    "max_grad_norm": ("Gradient norm", "g"),
    "beta": ("beta", "g"),
    "epsilon": ("epsilon", "g"),
    "batch_size": ("Batch", "d"),
    "learning_rate": ("Learning rate", "g"),
    "data_log_probability": ("Data's log-probability, nats", ".2f"),
    "seeds": ("Seeds", "d"),
    "steps": ("Steps", "d"),
    "win_rate": ("Win rate, %", ".1f"),
    "length_controlled_win_rate": ("LC win rate, %", ".1f"),
    "ratio_to_offline": ("Ratio to offline", ".2f"),
    "ratio_to_online": ("Ratio to online", ".2f"),
    "pass_at_1": ("Pass@1, %", ".1f"),
    "score": ("Score, %", ".1f"),
    "difference_to_offline": ("Difference to offline, points", "+.1f"),
    "difference_to_online": ("Difference to online, points", "+.1f"),
    "p_beats_offline": ("p, beats offline", "p"),
    "p_beats_plain": ("p, beats plain", "p"),
    "p_differs_from_offline": ("p, differs from offline", "p"),
    "p_differs_from_online": ("p, differs from online", "p"),
    "steps_to_online": ("Catches up, step", "d"),
    "collapsed": ("Collapsed", "d"),
    "unclipped": ("Unclipped", ".2f"),
    "claim": ("Claim", ""),
    "text": ("What is claimed", ""),
    "source": ("Source", ""),
    "paper_value": ("Value there", ""),
    "comparison": ("Comparison", ""),
    "asked": ("Asked", ""),
    "claimed": ("Claimed", ""),
    "comparisons": ("Comparisons", "d"),
    "estimate": ("Estimate", ".2f"),
    "amount": ("Estimate", ""),
    "estimates": ("Estimates", ""),
    "paper": ("In the paper, or derived from it", ""),
    "p_uncorrected": ("p, not corrected", "p"),
    "p_holm": ("p, Holm", "p"),
    "p_opposite_holm": ("p of the opposite, Holm", "p"),
    "result": ("Result", ""),
    "verdict": ("Verdict", ""),
    "seeds_to_decide": ("Seeds to decide", ".0f"),
    "scale": ("Scale", ""),
    "left_out": ("Left out", "d"),
    "length_control_warnings": ("LC warnings", "d"),
    "mean_length": ("Length", ".0f"),
    "training_seconds": ("Training, s", ".0f"),
    "sampling_share": ("Share of sampling", ".0%"),
    "ratio_of_seconds": ("Ratio to online's", ".2f"),
    "sampled_tokens": ("Tokens sampled", ",.0f"),
    "trained_tokens": ("Tokens trained on", ",.0f"),
    "peak_memory_mib": ("Peak memory, MiB", ",.0f"),
    "seconds_to_online": ("Time to online's score, s", ".0f"),
    "speed_up": ("Speed-up", ".1f"),
    "variant": ("Run", ""),
}
_WORDS = {
    True: "yes",
    False: "no",
}
UNKNOWN = "\N{EN DASH}"  # in place of a figure
# Also comparison signs: LaTeX's default font encoding prints `<` as another character.
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{character: f"${character}$" for character in "<>|"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        UNKNOWN: "--",
    }
)


MOST_COLUMNS = 7  # of a narrow table: as many as fit beside each other on a page
# Of LaTeX: an article's line, the least width of a column of texts, and the space between columns,
# all in points; and the lines of rows that a page holds beside caption and notes.
_LINE, _TEXT, _SPACE, _ROWS = 345, 95, 6, 30


@dataclass(frozen=True)
class Narrow:
    """A table for people, as texts.

    Args:
        caption: at most three sentences.
        rows: texts with short headers, in at most seven columns.
        constant: what is the same in all rows, by header: ``{"Seeds": "10"}``.
        best: the best figures, as number of the row and header.
        notes: what a reader of the figures must know, a sentence or a few each.
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
    write_text(directory / f"{name}.csv", frame.to_csv(index=False))
    write_text(directory / f"{name}.md", markdown(shown, f"{name}.csv"))
    write_text(directory / f"{name}.tex", latex(shown, name))
    write_json(directory / f"{name}.provenance.json", provenance)


def human_readable(frame: pd.DataFrame) -> pd.DataFrame:
    """Format a table for people: cells such as "54.3 ± 2.1 [50.1, 58.2]", and plain headers.

    Columns without a header are for machines and left out.
    """
    known = _COLUMNS
    if "objective" in frame:
        known = _columns_of_options(frame["objective"]) | known
        frame = frame.assign(objective=frame["objective"].map(_objective))
    columns = [name for name in frame if name in known]
    rows = frame.to_dict("records")
    return pd.DataFrame(
        {known[name][0]: [_cell(row, name, known[name][1]) for row in rows] for name in columns}
    )


def amount(value: float | None, compare: str, low: float = math.nan, high: float = math.nan) -> str:
    """Write a ratio or a difference with its unit and interval: ``1.39x [1.36, 1.41]``.

    Args:
        value: the figure; a dash if it is not known.
        compare: ``ratio``, or ``difference`` of percentage points.
        low, high: its interval, if it has one.
    """
    if value is None or pd.isna(value):
        return UNKNOWN
    spec, unit = (".2f", "x") if compare == "ratio" else ("+.1f", " points")
    bounds = "" if pd.isna(low) else f" [{low:{spec}}, {high:{spec}}]"
    return f"{value:{spec}}{unit}{bounds}"


def _columns_of_options(objectives: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return header and number format of the hyperparameters of a table's objectives."""
    rows = [find_objective(name) for name in set(objectives) - {"base"}]
    return {option: (option, "g") for row in rows for option in row.options.model_fields}


def _objective(name: str) -> str:
    """Return an objective's label; a base model has no objective."""
    return name if name == "base" else find_objective(name).label


def p_text(p: float) -> str:
    """Write a p-value with two significant digits."""
    return _format(p, "p")


def figure(row: dict, column: str) -> str:
    """Format a figure with its interval, if that is known, and without its standard error.

    A plus sign stands before a difference, not within its interval, which is short so.
    """
    text = _cell(row | {f"{column}_se": None}, column, _COLUMNS[column][1])
    value, bracket, interval = text.partition(" [")
    return value + bracket + interval.replace("+", "")


def _cell(row: dict, column: str, spec: str) -> str:
    """Format a value with its standard error and interval, if these are known."""
    value, error, low, high = (
        row.get(f"{column}{suffix}") for suffix in ("", "_se", "_low", "_high")
    )
    text = _format(value, spec)
    if pd.notna(error):
        text += f" ± {_format(error, spec)}"
    if pd.notna(low):
        text += f" [{_format(low, spec)}, {_format(high, spec)}]"
    return text


def _format(value: Any, spec: str) -> str:
    if pd.isna(value):
        return UNKNOWN
    if spec == "":
        return _WORDS.get(value, str(value))
    if spec == "task":
        return find_task(value).label
    if spec == "p":
        return "<0.001" if value < 0.001 else format(value, "#.2g")
    return format(int(value) if spec == "d" else value, spec)  # a CSV has 4.0 beside an empty cell


def markdown(shown: Narrow, csv: str) -> str:
    """Write a narrow table in Markdown, with a link to the file that has all columns.

    Args:
        shown: the table.
        csv: the file, relative to the folder of the Markdown.
    """
    rows = _marked(shown, lambda text: f"**{text}**")
    parts = [
        shown.caption,
        " ".join(f"{header}: {text}." for header, text in shown.constant.items()),
        pipe_table(rows),
        "\n".join(f"- {note}" for note in (*shown.notes, f"All columns: [{csv}]({csv}).")),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def pipe_table(rows: pd.DataFrame) -> str:
    """Write texts as a table of Markdown."""
    # Without disable_numparse, tabulate would read "0.50" as a number and drop its last digit.
    return rows.to_markdown(index=False, disable_numparse=True)


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
    escaped = replace(shown, rows=shown.rows.map(_escape))
    rows = _marked(escaped, lambda text: rf"\textbf{{{text}}}")
    above = "; ".join(f"{header}: {text}" for header, text in shown.constant.items())
    caption = [rf"\caption{{{_escape(shown.caption)}}}", rf"\label{{tab:{name}}}", r"\medskip"]
    lines = ["% Needs the packages booktabs and tabularx."]
    for page in _pages(shown, width):
        lines += [r"\begin{table}", r"\centering"]
        lines += [rf"Table~\ref{{tab:{name}}}, continued.\\[6pt]"] if page.start else caption
        lines += [r"\footnotesize", rf"\setlength{{\tabcolsep}}{{{_SPACE // 2}pt}}"]
        if above and not page.start:
            lines.append(rf"\parbox{{\linewidth}}{{{_escape(above)}.}}\\[3pt]")
        lines += _tabular(rows.iloc[page], shown)
        if shown.notes and page.stop == len(rows):
            notes = " ".join(map(_escape, shown.notes))
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
    return replace(
        shown,
        rows=shown.rows.drop(columns=left),
        best=frozenset(own for own in shown.best if own[1] not in left),
        notes=(*shown.notes, f"In the CSV alone: {'; '.join(left)}."),
    ), width


def _width(shown: Narrow, header: str) -> float:
    """Estimate the width of a column in points, at 8 points."""
    texts = [*header.split(), *shown.rows[header]]
    return max(sum(_WIDTHS.get(character, 4.3) for character in text) for text in texts)


# Of characters at 8 points; the others are about as wide as a digit.
_WIDTHS = dict.fromkeys(" .,:;[]()-'ijlt", 2.6) | dict.fromkeys("+<>=m%ABCDGKMOPRSUW", 6.6)


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
        return _escape(header)
    width = max(map(len, [*header.split(), *shown.rows[header]]))
    lines = textwrap.wrap(header, width)
    text = r"\\".join(map(_escape, lines))
    return text if len(lines) == 1 else rf"\shortstack[l]{{{text}}}"


def _escape(text: str) -> str:
    return text.translate(_LATEX)
