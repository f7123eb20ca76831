"""The figures of the paper's theory (arXiv 2509.24207): their data frames and files."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from humanline.data.stage_files import Surprisal
from humanline.files.json_files import write_text
from humanline.files.typed_files import csv_text, read_columns
from humanline.method.prospect_theory import (
    GAMMA_GAINS,
    GAMMA_LOSSES,
    acceptance_probability,
    capacity,
    capacity_distance,
    clipping_acceptance,
    implied_capacity,
)
from humanline.report.plots import (
    figure_files,
    plot_capacity,
    plot_implied_capacity,
    plot_perceived_weight,
)
from humanline.study.cells import Cell

_GRID = np.linspace(0, 1, 101)
# The grid is finer towards both ends, where the capacity function is steep.
_STEEP_GRID = np.sin(np.linspace(0, np.pi / 2, 101)) ** 2
_GAMMAS = (0.4, GAMMA_GAINS, GAMMA_LOSSES, 0.85, 1.0)
_CONCENTRATIONS = (1, 10, 100)
_HUMAN = {"gains": GAMMA_GAINS, "losses": GAMMA_LOSSES}


def make_figures(
    surprisals: dict[int, Path],
    bounds: tuple[float, float],
    folder: Path,
    *,
    cells: Mapping[str, Cell],
    scale: str,
) -> None:
    """Write each figure of the theory as SVG and as PDF, with a CSV of its data.

    Args:
        surprisals: the files that `surprisal.make` wrote, by seed.
        bounds: log_eps_p and log_eps_r of the perceived weights, in nats.
        folder: where to write.
        cells: the cells of the policy and of the sources of surprisals, by name.
        scale: the scale's name, for the notes.

    Raises:
        ConfigError: if a file of surprisals is missing or damaged.
    """
    frames = {
        "capacity": capacity_frame(_GAMMAS),
        "perceived_weight": perceived_weight_frame(bounds, _CONCENTRATIONS),
        "implied_capacity": implied_capacity_frame(
            {seed: read_columns(path, Surprisal) for seed, path in surprisals.items()}
        ),
    }
    plots: dict[str, Callable[..., None]] = {
        "capacity": plot_capacity,
        "perceived_weight": partial(plot_perceived_weight, scale=scale),
        "implied_capacity": partial(plot_implied_capacity, cells=cells, scale=scale),
    }
    for name, frame in frames.items():
        path = folder / f"{name}.csv"
        write_text(path, csv_text(frame))
        plots[name](frame, *figure_files(path))


def capacity_frame(gammas: Sequence[float]) -> pd.DataFrame:
    """Tabulate the human capacity function: columns gamma, a (0 to 1), capacity (0 to 1)."""
    a = _STEEP_GRID
    return pd.concat(
        [pd.DataFrame({"gamma": g, "a": a, "capacity": capacity(a, g)}) for g in gammas],
        ignore_index=True,
    )


def perceived_weight_frame(
    bounds: tuple[float, float], concentrations: Sequence[float]
) -> pd.DataFrame:
    """Tabulate the chance that a token passes a gradient.

    Args:
        bounds: log_eps_p and log_eps_r, in nats.
        concentrations: gammas of humanline sampling, the same on both sides.

    Returns:
        Columns perception, log_ratio (nats) and weight (0 to 1).
    """
    log_ratio = np.linspace(-4, 4, 401)
    weights = {f"sampling, gamma {g:g}": acceptance_probability(log_ratio, *bounds, g, g)
               for g in concentrations}  # fmt: skip
    weights["clipping"] = clipping_acceptance(log_ratio, *bounds)
    return pd.concat(
        [
            pd.DataFrame({"perception": name, "log_ratio": log_ratio, "weight": weight})
            for name, weight in weights.items()
        ],
        ignore_index=True,
    )


def implied_capacity_frame(surprisals: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Tabulate the capacity functions that sources of data imply, beside the human one.

    Args:
        surprisals: by seed, columns source and surprisal (nats); the source 'policy' is the policy.

    Returns:
        Columns part (gains or losses), source, seed, a, implied, human and distance. The distance
        is the mean distance between the source's curve of that seed and the human curve. Implied is
        nan for an `a` above the share of the seed's policy's outputs that are gains (or losses).
    """
    frames = []
    for seed, frame in surprisals.items():
        samples = {name: own["surprisal"].to_numpy() for name, own in frame.groupby("source")}
        policy = samples.pop("policy")
        for name in [n for n in frame["source"].unique() if n in samples]:
            for part, gamma in _HUMAN.items():
                curve = implied_capacity(policy, samples[name], _GRID, part=part)
                frames.append(
                    pd.DataFrame(
                        {
                            "part": part,
                            "source": name,
                            "seed": seed,
                            "a": _GRID,
                            "implied": curve,
                            "human": capacity(_GRID, gamma),
                            "distance": capacity_distance(curve, _GRID, gamma),
                        }
                    )
                )
    return pd.concat(frames, ignore_index=True)
