"""Plot the data of tables and figures."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours: colour-blind readers can tell them apart. Dashes and markers help too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_DASHES = ("-", "--", "-.", ":")
# The style of the curve with which the other curves of a figure are compared.
_AIM = {"color": "black", "linewidth": 2.5}
_PARTS = {"gains": "gains, from the best down", "losses": "losses, from the worst up"}


def plot_learning_curves(frame: pd.DataFrame, path: Path, *, scale: str) -> None:
    """Plot the learning curves: every variant's mean over seeds and its 95 % interval.

    Args:
        frame: the result of `headline.learning_curves`, in per cent.
        path: where to write; its suffix is the format, such as svg or png.
        scale: the scale's name, for the title.
    """
    # pyplot is avoided: it looks for a display and has global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (variant, rows) in enumerate(frame.groupby("variant", sort=False)):
        curve = rows.drop_duplicates("step").sort_values("step")
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(
            curve["step"],
            curve["mean"],
            color=colour,
            linestyle=_DASHES[number % len(_DASHES)],
            marker=_MARKERS[number % len(_MARKERS)],
            label=variant,
        )
        axes.fill_between(curve["step"], curve["low"], curve["high"], color=colour, alpha=0.15)
    counts = frame.groupby("variant")["seed"].nunique()
    seeds = " to ".join(str(count) for count in sorted({counts.min(), counts.max()}))
    axes.set_title(f"Learning curves. Scale: {scale}. Seeds: {seeds}. Bands: 95 % intervals")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("Pass@1, per cent")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", frameon=False)
    _save(figure, path)


def plot_capacity(frame: pd.DataFrame, path: Path, *, scale: str) -> None:
    """Plot `figures.capacity_frame`, the human capacity function; the scale is not used."""
    figure, (axes,) = _figure(1)
    for style, (gamma, rows) in zip(_styles(), frame.groupby("gamma"), strict=False):
        axes.plot(rows["a"], rows["capacity"], label=f"gamma {gamma:g}", **style)
    axes.set_title("Capacity: how large a cumulative probability feels")
    axes.set_xlabel("cumulative probability a")
    axes.set_ylabel("capacity")
    axes.set_aspect("equal")
    axes.legend(loc="upper left", frameon=False)
    _finish(figure, path)


def plot_perceived_weight(frame: pd.DataFrame, path: Path, *, scale: str) -> None:
    """Plot `figures.perceived_weight_frame`; log-ratios are in nats."""
    figure, (axes,) = _figure(1)
    groups = dict(iter(frame.groupby("perception", sort=False)))
    # The limit is drawn first and thick, so that curves close to it stay visible on top.
    limit = groups.pop("clipping", frame.iloc[:0])
    axes.plot(limit["log_ratio"], limit["weight"], label="clipping", **_AIM)
    for style, (name, rows) in zip(_styles(), groups.items(), strict=False):
        axes.plot(rows["log_ratio"], rows["weight"], label=name, **style)
    axes.set_title(f"Perceived weight of a token. Scale: {scale}")
    axes.set_xlabel("log-ratio of policy and reference, nats")
    axes.set_ylabel("chance of passing a gradient")
    axes.legend(loc="upper right", frameon=False, fontsize="small")
    _finish(figure, path)


def plot_implied_capacity(frame: pd.DataFrame, path: Path, *, scale: str) -> None:
    """Plot `figures.implied_capacity_frame`: means over seeds, and the range of seeds.

    A curve ends where the first of the seeds has no more gains, or losses.
    """
    parts, seeds = list(frame["part"].unique()), frame["seed"].nunique()
    figure, panels = _figure(len(parts), height=7)
    for axes, part in zip(panels, parts, strict=True):
        rows = frame[frame["part"] == part]
        human = rows.drop_duplicates("a")
        axes.plot(human["a"], human["human"], label="human", **_AIM)
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="the policy itself")
        for style, (name, own) in zip(_styles(), rows.groupby("source", sort=False), strict=False):
            curves = own.pivot(index="a", columns="seed", values="implied").dropna()
            mean, low, high = curves.mean(axis=1), curves.min(axis=1), curves.max(axis=1)
            axes.plot(mean.index, mean, label=_with_distance(name, own), **style)
            axes.fill_between(mean.index, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.set_title(_PARTS.get(part, part))
        axes.set_xlabel("cumulative probability a under the policy")
        # The legend is below the axes, because curves may run through every corner.
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
            frameon=False,
            fontsize="small",
            title="distance to human" + (" [range of seeds]" if seeds > 1 else ""),
        )
    panels[0].set_ylabel("implied capacity")
    figure.suptitle(f"Capacity that sources of data imply. Scale: {scale}. Seeds: {seeds}")
    _finish(figure, path)


_PREDICTORS = {
    "mean_token_log_probability": "mean token log-probability\nunder the initial model, nats",
    "unclipped": "share of tokens that pass a gradient",
    "distance_gains": "distance of the implied capacity\nfrom the human one, gains",
    "distance_losses": "distance of the implied capacity\nfrom the human one, losses",
    "unclipped_chosen": "share of chosen tokens that pass a gradient",
    "unclipped_rejected": "share of rejected tokens that pass a gradient",
    "log_ratio_chosen": "movement of chosen tokens:\nmean log-ratio to the initial model, nats",
    "log_ratio_rejected": "movement of rejected tokens:\nmean log-ratio to the initial model, nats",
}


def plot_map(frame: pd.DataFrame, ranks: pd.DataFrame, path: Path, *, scale: str) -> None:
    """Plot `analysis.map.map_frame`: a point for every variant, a panel for every predictor.

    Args:
        frame: columns variant, objective, method, share and the predictors.
        ranks: the result of `analysis.map.rank_correlations`; the plot shows those of all methods.
        path: where to write.
        scale: the scale's name, for the title.
    """
    keys = ["objective", "method", "variant"]
    means = frame.groupby(keys, as_index=False)[["share", *_PREDICTORS]].mean()
    rho = ranks[ranks["method"] == "all"].set_index("predictor")["rho"]
    figure, panels = _figure(2, 18, rows=4)
    for axes, (predictor, words) in zip(panels, _PREDICTORS.items(), strict=True):
        for number, (name, own) in enumerate(means.groupby(["objective", "method"])):
            label = f"{str(name[0]).upper()}, {name[1]}"
            axes.scatter(own[predictor], own["share"], color=_COLOURS[number], alpha=0.8,
                         marker=_MARKERS[number], label=label)  # fmt: skip
        axes.axhline(1, **_AIM | {"linewidth": 1})
        axes.set_xlabel(words)
        if predictor in rho:
            axes.set_title(f"rank correlation {rho[predictor]:+.2f}", fontsize="medium")
        axes.set_ylabel("score / plain online training's")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  frameon=False)  # fmt: skip
    seeds = frame["seed"].nunique()
    figure.suptitle(f"Offline runs against online training. Scale: {scale}. Seeds: {seeds}, tuning")
    _finish(figure, path)


def _with_distance(name: str, rows: pd.DataFrame) -> str:
    """Write a source's label with its distance: mean and range over seeds."""
    distances = rows.groupby("seed")["distance"].first().dropna()
    if distances.empty:
        return f"{name}: none"
    if len(distances) == 1:
        return f"{name}: {distances.iloc[0]:.3f}"
    return f"{name}: {distances.mean():.3f} [{distances.min():.3f}, {distances.max():.3f}]"


def _figure(columns: int, height: float = 4.5, rows: int = 1) -> "tuple[Figure, list]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 5 * columns, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _styles() -> Iterator[dict]:
    """Yield colours and dashes in turn, without end."""
    for number in itertools.count():
        yield {
            "color": _COLOURS[number % len(_COLOURS)],
            "linestyle": _DASHES[number % len(_DASHES)],
        }


def _finish(figure: "Figure", path: Path) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _save(figure: "Figure", path: Path) -> None:
    """Write a figure atomically; the same data give an SVG with the same bytes."""
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    kind = path.suffix[1:]
    metadata = {"Date": None} if kind == "svg" else None
    with rc_context({"svg.hashsalt": "humanline"}):
        figure.savefig(temporary, format=kind, metadata=metadata, dpi=150)
    os.replace(temporary, path)
