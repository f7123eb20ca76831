"""The cost of training: time, tokens, memory, and the time until online training's score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from humanline.study.experiments import Cell
from humanline.tables.estimates import Plain, comparison, plain_of, read_scores
from humanline.tables.run_results import Cost, RunFolder, by_variant, read_cost, scores
from humanline.tables.statistics.scores import Scores, log_ratio


@dataclass(frozen=True)
class _Runs:
    """The costs of a variant's runs, and their learning curves, by seed."""

    cell: Cell  # one of them
    costs: dict[int, Cost]
    curves: pd.DataFrame  # seeds by optimizer steps
    seconds: Scores

    def mean_curve(self, seeds: Sequence[int]) -> pd.Series:
        """Return the mean score over seeds by optimizer step."""
        return self.curves.loc[list(seeds)].mean()


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
        read = {name: _read(group) for name, group in variants.items()}
        plain, seconds = plain_of(variants), {name: runs.seconds for name, runs in read.items()}
        rows += [_row(plain, read, seconds, name) for name in variants]
    frame = pd.DataFrame(rows).astype({"sample_every": "Int64", "k": "Int64"})
    return frame if frame["task"].nunique() > 1 else frame.drop(columns="task")


def _read(group: list[RunFolder]) -> _Runs:
    curves = {cell.seed: scores(cell, directory) for cell, directory in group}
    return _Runs(
        cell=group[0][0],
        costs={cell.seed: read_cost(directory) for cell, directory in group},
        curves=pd.DataFrame.from_dict(curves, orient="index"),
        seconds=read_scores(group, "training_seconds", shares_prompts=False),
    )


def _row(plain: Plain, read: dict[str, _Runs], by_name: dict[str, Scores], name: str) -> dict:
    own = read[name]
    cell, costs = own.cell, list(own.costs.values())
    online = plain(cell, "online")
    seconds = sum(cost.seconds for cost in costs)
    row = {
        "task": cell.task,
        "objective": cell.objective,
        "data": cell.data,
        "sample_every": cell.sample_every,
        "humanline": cell.humanline,
        "k": cell.sync_interval,
        "seeds": len(costs),
        "score": own.mean_curve(own.seconds.seeds).iloc[-1],
        "training_seconds": seconds / len(costs),
        # Trainers on stored groups prepare them in the code that would sample.
        "sampling_share": sum(cost.sampling_seconds for cost in costs) / seconds
        if cell.data == "online"
        else 0.0,
        "sampled_tokens": np.mean([cost.sampled_tokens for cost in costs]),
        "trained_tokens": np.mean([cost.trained_tokens for cost in costs]),
        "peak_memory_mib": np.mean([cost.peak_memory_mib for cost in costs]),
        "seconds_to_online": None,
        "speed_up": None,
    }
    if online:
        row |= comparison("ratio_of_seconds", log_ratio, by_name, name, online)
        row |= _speed_up(own, read[online])
    return row | {"variant": name}


def _speed_up(own: _Runs, online: _Runs) -> dict[str, float | None]:
    """Compare the time until online training's final score, on the seeds that both have."""
    seeds = sorted(set(own.costs) & set(online.costs))
    goal, curve = online.mean_curve(seeds).iloc[-1], own.mean_curve(seeds)
    reached = curve.index[curve >= goal]
    if not len(reached):
        return {"seconds_to_online": None, "speed_up": None}
    seconds = float(np.mean([own.costs[seed].timeline[reached[0]] for seed in seeds]))
    whole = float(np.mean([online.costs[seed].seconds for seed in seeds]))
    return {"seconds_to_online": seconds, "speed_up": whole / seconds}
