"""Dot plots as inline SVG: estimates with their intervals, beside the paper's figures.

`row_dot` is one row, for a row of an HTML table, and `axis_below` the axis for the last one: they
fit below each other if they are as wide and have the same `Span`. `overview` is a small plot of
several estimates. Lengths are units of the drawing, of which the style sheet makes a unit at least
a pixel wide; what is drawn has classes, and its looks are in dots.css.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, ROW, AXIS = 280, 22, 20  # the drawing's width, and the heights of a row and of an axis
_LANE = 10  # the height of a row of an overview
_TITLE = 16  # the height of a line of text
_EDGE = 16  # free space beside the axis, for half of a tick's label
_REACH = 2  # how far beyond all points an interval is drawn, as a multiple of their distance


@dataclass(frozen=True)
class Dot:
    """An estimate.

    Args:
        label: what it is an estimate of, in words.
        value: the estimate; NaN: not known.
        low, high: its 95 % interval; NaN: not known.
        colour: the colour of dot and interval, as in CSS.
        paper: the paper's figure, if there is one.
        claimed: where a claim says that the value is, if it does; an end may be infinite.
    """

    label: str
    value: float
    low: float
    high: float
    colour: str = "currentColor"
    paper: float | None = None
    claimed: tuple[float, float] | None = None

    @property
    def words(self) -> str:
        """The numbers, for those who do not see the plot."""
        told = f"{self.label}: " if self.label else ""
        told += f"{self.value:.3g}" if _is_known(self.value) else "not known"
        if _is_known(self.low) and _is_known(self.high):
            told += f", 95 % interval {self.low:.3g} to {self.high:.3g}"
        if self.paper is not None and _is_known(self.paper):
            told += f"; the paper's figure {self.paper:.3g}"
        return told


@dataclass(frozen=True)
class Span:
    """What an axis shows.

    Args:
        low, high: the least and the greatest value.
        reference: the value to compare with, which has a line; None: there is none.
        logarithmic: whether equal ratios, not equal differences, are equally far apart.
    """

    low: float
    high: float
    reference: float | None = None
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Find where a value is in the drawing; what lies beyond the axis is at its end."""
        low, high, value = map(self._scaled, (self.low, self.high, self.bounded(value)))
        return _EDGE + (value - low) / (high - low) * (WIDTH - 2 * _EDGE)

    def bounded(self, value: float) -> float:
        """Return a value, or the end of the axis beyond which it lies."""
        return min(max(value, self.low), self.high)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value

    @property
    def ticks(self) -> list[float]:
        """A few round values on the axis."""
        found = _round_values(self.low, self.high)
        if self.logarithmic and self.high > 5 * self.low:
            tens = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            parts = (1, 2, 5) if len(tens) <= 3 else (1,)
            found = [part * 10.0**ten for ten in tens[:: 1 + len(tens) // 7] for part in parts]
        return [float(tick) for tick in found if self.low <= tick <= self.high]


def _round_values(low: float, high: float) -> list[float]:
    """List the multiples of the smallest round step of which at most four fit between two values.

    Own code, because the page of `humanline compare` would else bring matplotlib to every user.
    """
    raw = (high - low) / 4
    ten = 10.0 ** math.floor(math.log10(raw))
    step = next(part * ten for part in (1, 2, 2.5, 5, 10) if part * ten >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * number for number in range(first, last + 1)]


def span_of(
    dots: Iterable[Dot], *, reference: float | None = None, logarithmic: bool = False
) -> Span:
    """Find an axis that shows all estimates and figures, and of wide intervals as much as fits.

    Args:
        dots: the estimates of all rows.
        reference, logarithmic: as in `Span`.
    """
    dots = list(dots)

    def scaled(values: Iterable[float | None]) -> list[float]:
        known = [value for value in values if value is not None and _is_known(value)]
        return [math.log(v) for v in known if v > 0] if logarithmic else known

    points = scaled([reference, *(v for d in dots for v in (d.value, d.paper, *(d.claimed or ())))])
    low, high = (min(points), max(points)) if points else (0.0, 0.0)
    least = math.log(1.05) if logarithmic else 0.5
    reach = _REACH * max(high - low, least)
    low = max(min([low, *scaled(dot.low for dot in dots)]), low - reach)
    high = min(max([high, *scaled(dot.high for dot in dots)]), high + reach)
    space = max(0.04 * (high - low), (least - (high - low)) / 2)
    low, high = low - space, high + space
    if logarithmic:
        low, high = math.exp(low), math.exp(high)
    return Span(low, high, reference, logarithmic)


def row_dot(dot: Dot, span: Span) -> Markup:
    """Draw an estimate with its interval and the paper's figure, as one row of a plot.

    Args:
        dot: the estimate.
        span: its axis, the same in all rows.
    """
    return _svg(ROW, dot.words, _row(dot, span))


def axis_below(span: Span, title: str) -> Markup:
    """Draw the axis of rows by `row_dot`.

    Args:
        span: their axis.
        title: what it shows, with its unit.
    """
    return _svg(AXIS + _TITLE, f"axis: {title}", _axis(span, title))


def overview(dots: Sequence[Dot], span: Span) -> Markup:
    """Draw estimates in rows close below each other, with ticks below them.

    Args:
        dots: the estimates, from above.
        span: their axis.
    """
    rows = [
        Markup('<g transform="translate(0 {})">{}</g>').format(
            number * _LANE, Markup("").join(_row(dot, span, _LANE))
        )
        for number, dot in enumerate(dots)
    ]
    height = len(dots) * _LANE
    axis = Markup('<g transform="translate(0 {})">{}</g>').format(
        height, Markup("").join(_axis(span))
    )
    return _svg(height + AXIS, "; ".join(dot.words for dot in dots), [*rows, axis])


def _is_known(value: float) -> bool:
    return math.isfinite(value)


def _svg(height: int, words: str, parts: Iterable[Markup]) -> Markup:
    head = Markup('<svg class="dots" viewBox="0 0 {} {}" role="img" aria-label="{}">')
    return head.format(WIDTH, height, words) + Markup("").join(parts) + Markup("</svg>")


def _path(kind: str, path: str) -> Markup:
    return Markup('<path class="{}" d="{}"/>').format(kind, path)


def _row(dot: Dot, span: Span, height: int = ROW) -> Iterator[Markup]:
    middle, size = height / 2, height / ROW
    if dot.claimed:
        left, right = (span.place(end) for end in dot.claimed)
        left = left if math.isfinite(dot.claimed[0]) else 0
        right = right if math.isfinite(dot.claimed[1]) else WIDTH
        yield _path("claimed", f"M{left:.1f} 0H{right:.1f}V{height}H{left:.1f}z")
    if span.reference is not None:
        yield _path("reference", f"M{span.place(span.reference):.1f} 0v{height}")
    if _is_known(dot.value):
        yield Markup('<g color="{}">').format(dot.colour)
        if not math.isnan(dot.low) and not math.isnan(dot.high):
            yield _path("interval", _interval(dot, span, middle, 4 * size))
        x, radius = span.place(dot.value), max(3, 4.5 * size)
        yield Markup('<circle cx="{:.1f}" cy="{:g}" r="{:g}"/></g>').format(x, middle, radius)
    if dot.paper is not None and _is_known(dot.paper):
        x, half = span.place(dot.paper), round(7 * max(size, 5 / 7))
        side = f"{half}-{half} {half} {half}-{half} {half}"
        yield _path("paper", f"M{x - half:.1f} {middle:g}l{side}z")


def _interval(dot: Dot, span: Span, middle: float, half: float) -> str:
    """Draw a line with a stroke at each end, or an arrow where the interval goes on."""
    path = f"M{span.place(dot.low):.1f} {middle:g}H{span.place(dot.high):.1f}"
    for bound, inward in ((dot.low, 5), (dot.high, -5)):
        x = span.place(bound)
        if bound == span.bounded(bound):
            path += f"M{x:.1f} {middle - half:.3g}v{2 * half:.3g}"
        else:
            path += f"M{x + inward:.1f} {middle - half:.3g}L{x:.1f} {middle:g}l{inward} {half:.3g}"
    return path


def _axis(span: Span, title: str = "") -> Iterator[Markup]:
    """Draw an axis: a line with ticks, their values below, and a title below these, if any."""
    ticks = span.ticks
    strokes = "".join(f"M{span.place(tick):.1f} 1v4" for tick in ticks)
    yield _path("axis", f"M0 1H{WIDTH}{strokes}")
    label = Markup('<text class="tick" x="{:.1f}" y="{}">{:g}</text>')
    for tick in ticks:
        yield label.format(span.place(tick), 17, tick)
    if title:
        label = Markup('<text class="tick" x="{:g}" y="{}">{}</text>')
        yield label.format(WIDTH / 2, AXIS + _TITLE - 4, title)
