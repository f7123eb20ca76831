"""How figures look: the one place for colours, marks, fonts, sizes and units.

A kind of cell has the same colour in every figure and on the page: of its objective, its data and
whether it is humanline. Warm colours are without humanline and cool ones are with it, dark ones are
offline and bright ones are online. The hues are Okabe and Ito's or lie beside them, and all have a
contrast of at least 3:1 to white, so that thin lines of them can be seen. Colour-blind readers can
tell the four kinds of an objective apart; they, and print without colours, have marks besides: the
marker's shape is the objective's, it is filled for humanline, and dashes tell how rarely a run
samples.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from humanline.study.cells import Cell
from humanline.trainers.registry import OBJECTIVES

INK, QUIET, GRID = "#1A1A1A", "#555555", "#D5D5D5"
# By objective in the registry's order; the last are for all of your own. Of each: offline, offline
# with humanline, online, online with humanline.
_COLOURS = (
    ("#825800", "#2E6585", "#C48700", "#499AC8"),
    ("#73192A", "#2E2B6C", "#C6324E", "#5955C3"),
    ("#833700", "#004975", "#D55E00", "#0072B2"),
    ("#774561", "#005C42", "#CB78A6", "#009E73"),
)
_BASE = "#6B6B6B"
# A diamond is the paper's figure, in dot plots.
_MARKERS = ("o", "^", "s", "v")
_MORE_MARKERS = ("P", "X", "p", "h", "<", ">", "*", "d")
# The curve or value with which others are compared, as matplotlib's options of a line.
AIM: dict[str, Any] = {"color": "#000000", "linewidth": 2.5, "linestyle": "-"}
# A curve that others come close to and lie upon.
LIMIT: dict[str, Any] = {"color": "#8C8C8C", "linewidth": 5, "linestyle": "-"}
# Of a quantity such as gamma, from its least value to its greatest: the darker half of viridis.
_RAMP = ("#1F9E89", "#26828E", "#31688E", "#3E4A89", "#440154")
_DASHES = ("-", "--", "-.", ":", (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)))
# Inches. A figure is as wide as an article's text and has its size of letters, in points; shown as
# wide as a phone, it has them almost as large.
WIDTH = 5.2
FONT_SIZE, SMALL = 10, 9
FORMATS = ("svg", "pdf")  # for the page, and for papers

_UNITS = {
    "%": ("score", "pass_at_1", "win_rate", "length_controlled_win_rate"),
    "points": ("difference_to_offline", "difference_to_online"),
    "s": ("training_seconds", "seconds_to_online"),
    "step": ("step", "steps_to_online"),
    "MiB": ("peak_memory_mib",),
    "nats": (
        "log_eps_p",
        "log_eps_r",
        "log_ratio",
        "log_ratio_chosen",
        "log_ratio_rejected",
        "mean_token_log_probability",
        "data_log_probability",
    ),
}
_UNIT_OF = {column: unit for unit, columns in _UNITS.items() for column in columns}


def unit(column: str) -> str:
    """Give the unit of a column, such as ``%`` or ``nats``; empty if it has none."""
    return _UNIT_OF.get(column, "")


def with_unit(words: str, column: str) -> str:
    """Add a column's unit to its words: ``Pass@1, %``."""
    return ", ".join(filter(None, [words, unit(column)]))


def colour_of(cell: Cell) -> str:
    """Give the colour of a cell's kind, as ``#RRGGBB``."""
    if cell.objective == "base":
        return _BASE
    return _COLOURS[_place(cell.objective)][2 * (cell.data == "online") + cell.humanline]


def _place(objective: str) -> int:
    """Give an objective's place in the registry; of your own the one after the last."""
    last = len(_COLOURS) - 1
    return min(list(OBJECTIVES).index(objective), last) if objective in OBJECTIVES else last


def marker_of(cell: Cell) -> str:
    """Give the shape of a cell's marker, in matplotlib's words: that of its objective."""
    return "o" if cell.objective == "base" else _MARKERS[_place(cell.objective)]


def dash_of(cell: Cell) -> str:
    """Give the dashes of a cell's line, in matplotlib's words: the sparser, the rarer it samples.

    A run that samples at every step has a solid line; an offline run has dashes and dots, and a
    base model dots, as it never samples.
    """
    if cell.objective == "base":
        return ":"
    if cell.data != "online":
        return "-."
    every = cell.sample_every or 1
    return "-" if every == 1 else "--" if every < 32 else ":"


def marks_of(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Give the cells of a figure different marks, as matplotlib's options of a line.

    Cells of the same colour and dashes differ in the shape of the marker.
    """
    found: list[dict[str, Any]] = []
    for cell in cells:
        colour = colour_of(cell)
        marks = {"color": colour, "linestyle": dash_of(cell), "marker": marker_of(cell)}
        marks["markerfacecolor"] = colour if cell.humanline else "white"
        others = iter(_MORE_MARKERS)
        while marks in found and (marker := next(others, None)):
            marks["marker"] = marker
        found.append(marks)
    return found


def ramp(values: Sequence[float]) -> list[dict[str, Any]]:
    """Give the curves of a quantity's values colours in their order, and dashes."""
    last = len(_RAMP) - 1
    steps = max(1, len(values) - 1)
    places = [round(number * last / steps) for number in range(len(values))]
    return [
        {"color": _RAMP[place], "linestyle": _DASHES[number % len(_DASHES)]}
        for number, place in enumerate(places)
    ]


def a_cell(objective: str, data: str | None = None, *, humanline: bool = False) -> Cell:
    """Make a cell of a kind, for its colour and its words; the other fields have no meaning."""
    fields: dict[str, Any] = {"objective": objective, "data": data, "humanline": humanline}
    return Cell.model_construct(**fields)


def rc() -> dict[str, Any]:
    """Give matplotlib's settings of every figure.

    Text of an SVG is text, which readers can search and screen readers can read; text of a PDF has
    fonts that can be edited. The same figure has the same bytes.
    """
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana"],  # about as wide, for who lacks the first
        "font.size": FONT_SIZE,
        "axes.titlesize": FONT_SIZE,
        "axes.labelsize": FONT_SIZE,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL,
        "legend.title_fontsize": SMALL,
        "legend.frameon": False,
        "figure.titlesize": FONT_SIZE + 1,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": QUIET,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "svg.fonttype": "none",
        "svg.hashsalt": "humanline",
        "pdf.fonttype": 42,
    }
