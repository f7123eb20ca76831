"""Plots of the tables' data."""

import os
from pathlib import Path

import pandas as pd

# Okabe and Ito's colours, which colour-blind readers can tell apart; dashes and markers help too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_DASHES = ("-", "--", "-.", ":")


def plot_learning_curves(frame: pd.DataFrame, path: Path, *, scale: str) -> None:
    """Plot `tables.learning_curves`: every variant's mean over seeds and its 95 % interval.

    Args:
        frame: columns variant, seed, step, mean, low, high.
        path: where to write; its suffix is the format, such as svg or png.
        scale: named in the title.
    """
    # Without pyplot there is no display to look for and no global state.
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
    axes.set_title(
        f"Learning curves. Scale: {scale}. Seeds: {frame['seed'].nunique()}. Bands: 95 % intervals"
    )
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("Pass@1, per cent")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", frameon=False)
    _save(figure, path)


def _save(figure, path: Path) -> None:
    """Write a figure atomically, and an SVG of the same data with the same bytes."""
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    kind = path.suffix[1:]
    metadata = {"Date": None} if kind == "svg" else None
    with rc_context({"svg.hashsalt": "humanline"}):
        figure.savefig(temporary, format=kind, metadata=metadata, dpi=150)
    os.replace(temporary, path)
