"""Plot the data of tables and figures, in the style of `humanline.report.style`.

Every function writes one figure to all paths that it is given; a path's suffix is the format. A
figure has a short title above, a legend in words below its panels, and notes below that.
"""

import contextlib
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from humanline.files.json_files import replacing
from humanline.method.prospect_theory import GAMMA_GAINS, GAMMA_LOSSES
from humanline.report import style
from humanline.report.style import with_unit
from humanline.study.cells import Cell
from humanline.study.words import kind_words, rows_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches of a line of a legend, and of a line of notes.
_LINE, _NOTE = 1.5 * style.SMALL / 72, 1.25 * style.SMALL / 72
_CHARACTERS = 72  # of small text that fit beside each other
_GREEK = "\N{GREEK SMALL LETTER GAMMA}"


def figure_files(stem: Path) -> list[Path]:
    """List the files of a figure: SVG for pages, PDF for papers."""
    return [stem.with_suffix(f".{kind}") for kind in style.FORMATS]


def plot_learning_curves(
    frame: pd.DataFrame, *paths: Path, cells: Mapping[str, Cell], scale: str
) -> None:
    """Plot the learning curves: every variant's mean over seeds and its 95 % interval.

    Args:
        frame: the result of `headline.learning_curves`, in per cent.
        paths: where to write.
        cells: a cell of each variant.
        scale: the scale's name, for the notes.
    """
    shown = [cells[variant] for variant in frame["variant"].unique()]
    words, above = rows_in_words(shown)
    if data := above.pop("Data", None):
        words = [f"{data}, {own}" for own in words]
    seeds = frame.groupby("variant", sort=False)["seed"].nunique()
    above["Scale"] = scale
    if seeds.nunique() == 1:
        above["Seeds"] = str(seeds.iloc[0])
    else:
        words = [
            f"{own} ({count} seed{'s' * (count > 1)})"
            for own, count in zip(words, seeds, strict=True)
        ]
    notes = [f"{title}: {text}" for title, text in above.items()] + ["Step 0: the base model"]
    notes.append("Bands: 95 % intervals of the mean over seeds")
    with _figure(paths, "Learning curves", notes) as (axes,):
        for (_, rows), marks, label in zip(
            frame.groupby("variant", sort=False), style.marks_of(shown), words, strict=True
        ):
            curve = rows.drop_duplicates("step").sort_values("step")
            axes.plot(curve["step"], curve["mean"], label=label, **marks)
            _band(axes, curve["step"], curve["low"], curve["high"], marks["color"])
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(with_unit("Pass@1", "pass_at_1"))


def plot_capacity(frame: pd.DataFrame, *paths: Path) -> None:
    """Plot `figures.capacity_frame`, the human capacity function; it is the same at all scales."""
    title = "Capacity: how large a probability feels"
    notes = [f"People: {_GREEK} is {GAMMA_GAINS:g} for gains and {GAMMA_LOSSES:g} for losses"]
    with _figure(paths, title, notes, height=3.7) as (axes,):
        gammas = list(frame["gamma"].unique())
        for marks, (gamma, rows) in zip(
            style.ramp(gammas), frame.groupby("gamma", sort=False), strict=True
        ):
            axes.plot(rows["a"], rows["capacity"], label=f"{_GREEK} = {gamma:g}", **marks)
        axes.set_xlabel("cumulative probability a")
        axes.set_ylabel("capacity")
        axes.set_aspect("equal")


def plot_perceived_weight(frame: pd.DataFrame, *paths: Path, scale: str) -> None:
    """Plot `figures.perceived_weight_frame`; log-ratios are in nats."""
    groups = dict(iter(frame.groupby("perception", sort=False)))
    # The limit is drawn first, thick and pale, so that curves close to it stay visible on top.
    limit = groups.pop("clipping", frame.iloc[:0])
    with _figure(paths, "Perceived weight of a token", [f"Scale: {scale}"]) as (axes,):
        axes.plot(limit["log_ratio"], limit["weight"], label="clipping", **style.LIMIT)
        ramp = style.ramp(range(len(groups)))
        for marks, (name, rows) in zip(ramp, groups.items(), strict=True):
            label = str(name).replace("gamma ", f"{_GREEK} = ")
            axes.plot(rows["log_ratio"], rows["weight"], label=label, **marks)
        axes.set_xlabel(with_unit("log-ratio of policy and reference", "log_ratio"))
        axes.set_ylabel("chance of passing a gradient")


def plot_implied_capacity(
    frame: pd.DataFrame, *paths: Path, cells: Mapping[str, Cell], scale: str
) -> None:
    """Plot `figures.implied_capacity_frame`: means over seeds, and the range of seeds.

    A curve ends where the first of the seeds has no more gains, or losses.

    Args:
        frame: the frame.
        paths: where to write.
        cells: the cell of the policy and of every source, by name.
        scale: the scale's name, for the notes.
    """
    parts, sources = list(frame["part"].unique()), list(frame["source"].unique())
    seeds = frame["seed"].nunique()
    shown = {name: cells.get(name, cells["policy"]) for name in sources}
    notes = [f"{name}: {kind_words(cell)}" for name, cell in shown.items()]
    notes += [f"Scale: {scale}", f"Seeds: {seeds}"]
    spread = ": means [range over seeds]. Bands: that range" if seeds > 1 else ""
    notes.append(f"Numbers: distances to human, {' and '.join(parts)}{spread}")
    notes.append("A curve ends where a seed has no more outputs of its kind")
    title = "Capacity that outputs of other models imply"
    with _figure(paths, title, notes, columns=len(parts), height=2.7) as panels:
        for axes, part in zip(panels, parts, strict=True):
            human = frame[frame["part"] == part].drop_duplicates("a")
            axes.plot(human["a"], human["human"], label="human", **style.AIM)
            axes.plot([0, 1], [0, 1], color=style.QUIET, linewidth=0.8, label="the policy itself")
            axes.set_title(part)
            axes.set_xlabel("cumulative probability a")
        for name, marks in zip(sources, style.marks_of(shown.values()), strict=True):
            own = frame[frame["source"] == name]
            label = f"{name}: {_distances(own)}"
            for axes, part in zip(panels, parts, strict=True):
                curves = own[own["part"] == part].pivot(index="a", columns="seed", values="implied")
                curves = curves.dropna()
                mean, low, high = curves.mean(axis=1), curves.min(axis=1), curves.max(axis=1)
                axes.plot(mean.index, mean, label=label, **marks | {"marker": None})
                _band(axes, mean.index, low, high, marks["color"])
        panels[0].set_ylabel("implied capacity")


def _distances(rows: pd.DataFrame) -> str:
    """Write a source's distance for every part: mean and range over seeds."""
    return "; ".join(_distance(own) for _, own in rows.groupby("part", sort=False))


def _distance(rows: pd.DataFrame) -> str:
    distances = rows.groupby("seed")["distance"].first().dropna()
    if distances.empty:
        return "none"
    if len(distances) == 1:
        return f"{distances.iloc[0]:.3f}"
    return f"{distances.mean():.3f} [{distances.min():.3f}, {distances.max():.3f}]"


_PREDICTORS = {
    "mean_token_log_probability": "mean token log-probability",
    "unclipped": "share within the bounds, all",
    "distance_gains": "distance to human, gains",
    "distance_losses": "distance to human, losses",
    "unclipped_chosen": "share within the bounds, chosen",
    "unclipped_rejected": "share within the bounds, rejected",
    "log_ratio_chosen": "mean log-ratio, chosen",
    "log_ratio_rejected": "mean log-ratio, rejected",
}


def plot_map(frame: pd.DataFrame, ranks: pd.DataFrame, *paths: Path, scale: str) -> None:
    """Plot `analysis.map.map_frame`: a point for every variant, a panel for every predictor.

    Args:
        frame: columns variant, objective, method, share and the predictors.
        ranks: the result of `analysis.map.rank_correlations`; the plot shows those of all methods.
        paths: where to write.
        scale: the scale's name, for the notes.
    """
    keys = ["objective", "method", "variant"]
    means = frame.groupby(keys, as_index=False)[["share", *_PREDICTORS]].mean()
    rho = ranks[ranks["method"] == "all"].set_index("predictor")["rho"]
    notes = [f"Scale: {scale}", f"Seeds: {frame['seed'].nunique()}, those for tuning",
             "A point is a setting: its mean over seeds", "Line: as good as plain online training",
             "Probabilities are under the initial model, log-ratios to it",
             "Chosen, rejected: tokens of these outputs alone",
             "Distances are between the implied capacity and the human one"]  # fmt: skip
    groups = dict(iter(means.groupby(["objective", "method"])))
    kinds = sorted(groups, key=lambda kind: (kind[1] == "humanline", kind[0]))
    title = "Offline runs against online training"
    with _figure(paths, title, notes, rows=4, columns=2, height=1.7) as panels:
        for axes, (predictor, words) in zip(panels, _PREDICTORS.items(), strict=True):
            for objective, method in kinds:
                own = groups[objective, method]
                cell = style.a_cell(str(objective), "offline", humanline=method == "humanline")
                (marks,) = style.marks_of([cell])
                axes.plot(own[predictor], own["share"], label=kind_words(cell),
                          **marks | {"linestyle": "", "markersize": 3.5, "alpha": 0.8})  # fmt: skip
            axes.axhline(1, **style.AIM | {"linewidth": 1})
            axes.set_xlabel(with_unit(words, predictor), fontsize=style.SMALL)
            if predictor in rho:
                text = f"rank correlation {rho[predictor]:+.2f}"
                axes.set_title(
                    text.replace("-", "\N{MINUS SIGN}"), fontsize=style.SMALL, loc="right"
                )
        for axes in panels[::2]:
            axes.set_ylabel("score / online score", fontsize=style.SMALL)


def _band(axes: "Axes", x: Any, low: Any, high: Any, colour: str) -> None:
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


@contextlib.contextmanager
def _figure(
    paths: Sequence[Path],
    title: str,
    notes: Sequence[str],
    *,
    rows: int = 1,
    columns: int = 1,
    height: float = 3.2,
) -> Iterator[list["Axes"]]:
    """Open a figure of panels that share their y-axes, and write it once they are drawn.

    Args:
        paths: where to write it.
        title: what it shows, in a few words.
        notes: what else a reader must know, below it.
        rows: rows of panels.
        columns: columns of panels.
        height: inches of a row of panels, with its labels.
    """
    from matplotlib import rc_context

    # pyplot is avoided: it looks for a display and has global state.
    from matplotlib.figure import Figure

    settings: Any = style.rc()
    with rc_context(settings):
        figure = Figure()
        panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
        yield panels
        _surround(figure, panels, title, notes, rows * height)
        for path in paths:
            _save(figure, path, title)


def _surround(
    figure: "Figure", panels: list["Axes"], title: str, notes: Sequence[str], height: float
) -> None:
    """Put the title above the panels, and below them one legend and the notes."""
    found = {
        textwrap.fill(label, _CHARACTERS - 6): handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    columns = max(1, min(3, len(found), _CHARACTERS // (max(map(len, found), default=0) + 6)))
    lines = [line for label in found for line in label.splitlines()]
    told = textwrap.wrap(". ".join(notes) + ".", _CHARACTERS)
    legend, text = math.ceil(len(lines) / columns) * _LINE + 0.1, len(told) * _NOTE + 0.1
    top = 2 * _LINE
    whole = top + height + legend + text
    figure.set_size_inches(style.WIDTH, whole)
    room = (0, (legend + text) / whole, 1, height / whole)
    figure.set_layout_engine("constrained", rect=room)
    figure.text(0.02, 1 - 0.06 / whole, title, va="top", fontsize=style.FONT_SIZE + 1)
    figure.legend(
        list(found.values()),
        list(found),
        loc="upper left",
        bbox_to_anchor=(0.01, (legend + text) / whole),
        ncols=columns,
        borderaxespad=0,
    )
    figure.text(0.02, 0.06 / whole, "\n".join(told), va="bottom", color=style.QUIET,
                fontsize=style.SMALL)  # fmt: skip
    # Formats measure texts differently. Places are found once, so that they are the same in all.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _save(figure: "Figure", path: Path, title: str) -> None:
    """Write a figure atomically; the same data give an SVG or a PDF with the same bytes."""
    kind = path.suffix[1:]
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    metadata = undated.get(kind, {}) | {"Title": title}
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=metadata, dpi=150)
