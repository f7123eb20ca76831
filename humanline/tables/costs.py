"""The cost of training: time, tokens, memory, and the time until online training's score."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from humanline.tables.estimates import plain
from humanline.tables.run_results import Cost, RunFolder, by_variant, read_cost, scores
from humanline.tables.statistics import t_interval


def cost_table(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """Make a table of the cost of every trained variant, with its last score.

    Args:
        runs: cells with the folders of their runs, of one or more tasks.

    Returns:
        Columns task (if there are several), the cell's settings, seeds, score (per cent),
        training_seconds, sampling_share (0 to 1), sampled_tokens, trained_tokens, peak_memory_mib,
        ratio_of_seconds with a 95 % t interval, seconds_to_online, speed_up and variant.

    Raises:
        ConfigError: if a run's file is missing or damaged.
    """
    rows = []
    for task in dict.fromkeys(cell.task for cell, _ in runs):
        variants = by_variant(
            [run for run in runs if run[0].task == task and run[0].objective != "base"]
        )
        costs = {name: [read_cost(d) for _, d in group] for name, group in variants.items()}
        curves = {name: _mean_curve(group) for name, group in variants.items()}
        for name in variants:
            rows.append(_row(variants, costs, curves, name))
    frame = pd.DataFrame(rows).astype({"sample_every": "Int64", "k": "Int64"})
    return frame if frame["task"].nunique() > 1 else frame.drop(columns="task")


def _row(
    variants: dict[str, list[RunFolder]],
    costs: dict[str, list[Cost]],
    curves: dict[str, pd.Series],
    name: str,
) -> dict:
    cell = variants[name][0][0]
    online = plain(variants, cell, "online")
    seconds = np.array([cost.seconds for cost in costs[name]])
    row = {
        "task": cell.task,
        "objective": cell.objective,
        "data": cell.data,
        "sample_every": cell.sample_every,
        "humanline": cell.humanline,
        "k": cell.sync_interval,
        "seeds": len(seconds),
        "score": curves[name].iloc[-1],
        "training_seconds": seconds.mean(),
        # Trainers on stored groups prepare them in the code that would sample.
        "sampling_share": sum(c.sampling_seconds for c in costs[name]) / seconds.sum()
        if cell.data == "online"
        else 0.0,
        "sampled_tokens": np.mean([cost.sampled_tokens for cost in costs[name]]),
        "trained_tokens": np.mean([cost.trained_tokens for cost in costs[name]]),
        "peak_memory_mib": np.mean([cost.peak_memory_mib for cost in costs[name]]),
        "seconds_to_online": None,
        "speed_up": None,
    }
    if online:
        reference = np.array([cost.seconds for cost in costs[online]])
        row |= _ratio(seconds, reference)
        reached = _seconds_to(curves[online].iloc[-1], curves[name], costs[name])
        row |= {"seconds_to_online": reached, "speed_up": reached and reference.mean() / reached}
    return row | {"variant": name}


def _mean_curve(group: list[RunFolder]) -> pd.Series:
    """Return the mean score over seeds by optimizer step."""
    return pd.DataFrame([scores(cell, directory) for cell, directory in group]).mean()


def _ratio(seconds: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Compare seconds by paired seeds: the ratio, with a t interval of its logarithm."""
    logs = np.log(seconds / reference)
    low, high = t_interval(logs)
    names = ("ratio_of_seconds", "ratio_of_seconds_low", "ratio_of_seconds_high")
    return dict(zip(names, np.exp([logs.mean(), low, high]), strict=True))


def _seconds_to(goal: float, curve: pd.Series, costs: list[Cost]) -> float | None:
    """Return the mean seconds until the first evaluated step whose mean score reaches a goal."""
    reached = curve.index[curve >= goal]
    if not len(reached):
        return None
    return float(np.mean([cost.timeline[reached[0]] for cost in costs]))
