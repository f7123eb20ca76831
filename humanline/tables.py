"""The two tables and the learning curves, as data frames made from run directories.

Every function takes runs as pairs (cell, directory) and groups them by variant, in the order in
which variants first appear, the base model first. All variants of a table need the same seeds and
all runs the same prompts, or a `ConfigError` names the file. Win rates and Pass@1 are in per cent.

A column named x may have companions: x_se, its standard error, and x_low and x_high, its 95 %
interval. `table_formats` writes such a group as one column.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from humanline.experiments import Cell
from humanline.length_control import length_controlled_win_rate
from humanline.records import Judged, Run, by_variant, read_graded, read_judged
from humanline.statistics import (
    Alternative,
    Estimate,
    difference,
    hierarchical_weights,
    paired_p_value,
    prompt_means,
    ratio,
)

_HOW = (
    "Scale: {scale}. Seeds: {seeds}; every figure is a mean over them. ±: bootstrap standard error."
    " Brackets: 95 % percentile intervals of {replicates} bootstrap replicates that resample seeds"
    " and prompts, the same for all rows; they are too narrow where few seeds differ a lot."
    " p-values: paired t-tests over seeds, one-sided for 'beats', two-sided for 'differs'."
)
CAPTIONS = {
    "instruction_following": (
        "Instruction following: win rate and length-controlled (LC) win rate against the baseline,"
        " in per cent. Ratios are of LC win rates, to the same objective's plain offline and plain"
        " online run. LC win rates are AlpacaEval's formula, fitted without the penalty of its"
        f" implementation, whose own figures the CSV has as well. {_HOW} Length: characters of an"
        " answer. Training: wall-clock seconds, with online sampling, but without that of offline"
        " data, which is done once per seed."
    ),
    "math_reasoning": (
        "Math reasoning: Pass@1 after the last optimizer step, in per cent, and its difference to"
        " plain online training, in percentage points. Plain: without humanline; 'beats plain'"
        f" compares with the plain run that samples as often. {_HOW} Sampling: optimizer steps"
        " between samplings. Training: wall-clock seconds, with sampling."
    ),
}


def caption(task: str, *, scale: str, seeds: int, replicates: int) -> str:
    """The caption of a task's table: its contents, units, and how intervals and tests were made."""
    return CAPTIONS[task].format(scale=scale, seeds=seeds, replicates=replicates)


def instruction_following_table(
    runs: Sequence[Run], *, replicates: int, rng_seed: int
) -> pd.DataFrame:
    """Win rates of every variant, compared with the same objective's plain offline and online ones.

    The length-controlled win rate is fitted without alpaca_eval's penalty, which pulls it towards
    50 per cent where prompts are few. alpaca_eval's own figure stands beside it.
    """
    variants = by_variant(runs)
    judged = read_judged(variants)
    weights = _weights(len(_any(judged)), len(_any(judged)[0].win), replicates, rng_seed)
    win_rates, controlled = {}, {}
    for name, group in tqdm(judged.items(), desc="bootstrap", unit="cell"):
        win_rates[name], controlled[name] = _win_rates(group, *weights)

    rows = []
    for name, group in judged.items():
        cell = variants[name][0][0]
        offline, online = _plain(variants, cell, "offline"), _plain(variants, cell, "online")
        rows.append(
            {
                "objective": cell.objective,
                "data": cell.data,
                "humanline": cell.humanline,
                "k": cell.sync_interval,
                "seeds": len(group),
                **_columns("win_rate", win_rates[name], interval=False),
                **_columns("length_controlled_win_rate", controlled[name]),
                **_comparison("ratio_to_offline", ratio, controlled, name, offline),
                **_comparison("ratio_to_online", ratio, controlled, name, online),
                "p_beats_offline": _p_value(controlled, name, offline, "greater"),
                "p_differs_from_online": _p_value(controlled, name, online, "two-sided"),
                "mean_length": np.mean([run.mean_length for run in group]),
                "training_seconds": np.mean([run.training_seconds for run in group]),
                "alpaca_eval_lc_win_rate": np.mean([r.alpaca_eval_lc_win_rate for r in group]),
                "variant": name,
            }
        )
    return pd.DataFrame(rows).astype({"k": "Int64"})


def math_reasoning_table(runs: Sequence[Run], *, replicates: int, rng_seed: int) -> pd.DataFrame:
    """Pass@1 of every variant after its last optimizer step, compared with plain online training.

    A humanline variant is also compared with the plain one that samples as often.
    """
    variants = by_variant(runs)
    graded = read_graded(variants)
    weights = _weights(len(_any(graded)), len(_any(graded)[0].final), replicates, rng_seed)
    estimates = {
        name: _pass_at_1([run.final for run in group], *weights) for name, group in graded.items()
    }

    rows = []
    for name, group in graded.items():
        cell = variants[name][0][0]
        online = _plain(variants, cell, "online")
        plain = _plain(variants, cell, cell.data, cell.sample_every)
        rows.append(
            {
                "objective": cell.objective,
                "data": cell.data,
                "sample_every": cell.sample_every,
                "humanline": cell.humanline,
                "k": cell.sync_interval,
                "seeds": len(group),
                "steps": group[0].correct.index[-1],
                **_columns("pass_at_1", estimates[name]),
                **_comparison("difference_to_online", difference, estimates, name, online),
                "p_differs_from_online": _p_value(estimates, name, online, "two-sided"),
                "p_beats_plain": _p_value(estimates, name, plain, "greater"),
                "training_seconds": np.mean([run.training_seconds for run in group]),
                "variant": name,
            }
        )
    return pd.DataFrame(rows).astype({"sample_every": "Int64", "k": "Int64"})


def learning_curves(runs: Sequence[Run], *, replicates: int, rng_seed: int) -> pd.DataFrame:
    """Pass@1 of every trained variant and seed at every evaluated optimizer step.

    Columns: variant, seed, step, pass_at_1, and, the same for all seeds of a variant and step,
    mean, low and high: the mean over seeds and its 95 % interval. Step 0 is the seed's base model.
    """
    variants = by_variant(runs)
    graded = read_graded(variants)
    weights = _weights(len(_any(graded)), len(_any(graded)[0].final), replicates, rng_seed)
    base = graded.pop("base")
    rows = []
    for name, group in graded.items():
        curves = [pd.concat([s.correct, r.correct]) for s, r in zip(base, group, strict=True)]
        for step in curves[0].index:
            estimate = _pass_at_1([curve.loc[step].to_numpy() for curve in curves], *weights)
            for (cell, _), value in zip(variants[name], estimate.per_seed, strict=True):
                rows.append((name, cell.seed, step, value, estimate.value, *estimate.interval))
    columns = ["variant", "seed", "step", "pass_at_1", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _any(groups: dict[str, list]) -> list:
    """One variant's runs, for what all have in common."""
    return next(iter(groups.values()))


def _weights(n_seeds: int, n_prompts: int, replicates: int, rng_seed: int):
    return hierarchical_weights(n_seeds, n_prompts, replicates, np.random.default_rng(rng_seed))


def _win_rates(
    group: list[Judged], seed_counts: np.ndarray, prompt_counts: np.ndarray
) -> tuple[Estimate, Estimate]:
    """Win rate and length-controlled win rate of a variant, per cent."""
    raw = [100 * prompt_means(run.win, prompt_counts) for run in group]
    inputs = [(run.win, run.baseline_length, run.length) for run in group]
    controlled = [100 * length_controlled_win_rate(*i, weights=prompt_counts) for i in inputs]
    return (
        Estimate.from_runs([run.win_rate for run in group], raw, seed_counts),
        Estimate.from_runs(
            [100 * length_controlled_win_rate(*i) for i in inputs], controlled, seed_counts
        ),
    )


def _pass_at_1(
    correct: list[np.ndarray], seed_counts: np.ndarray, prompt_counts: np.ndarray
) -> Estimate:
    """Pass@1 of a variant from the shares of correct samples by seed and problem, per cent."""
    correct = 100 * np.stack(correct)
    return Estimate.from_runs(
        correct.mean(axis=1), prompt_means(correct, prompt_counts), seed_counts
    )


def _plain(
    variants: dict[str, list[Run]], cell: Cell, data: str | None, sample_every: int | None = None
) -> str | None:
    """The variant without humanline, of the cell's objective, to compare the cell with.

    Where `sample_every` is left open it is the one that samples most often; of several that
    differ in something else, it is the first.
    """
    candidates = [
        other
        for (other, _), *_ in variants.values()
        if (other.objective, other.data, other.humanline) == (cell.objective, data, False)
        and sample_every in (None, other.sample_every)
    ]
    chosen = min(candidates, key=lambda other: other.sample_every or 0, default=None)
    return chosen and chosen.variant


def _columns(name: str, estimate: Estimate, *, interval: bool = True) -> dict[str, float]:
    columns = {name: estimate.value, f"{name}_se": estimate.standard_error}
    if interval:
        columns |= dict(zip((f"{name}_low", f"{name}_high"), estimate.interval, strict=True))
    return columns


def _comparison(
    column: str,
    compare: Callable[[Estimate, Estimate], tuple[float, float, float]],
    estimates: dict[str, Estimate],
    name: str,
    other: str | None,
) -> dict[str, float]:
    """A comparison of two variants with its interval. A variant has none with itself."""
    value, low, high = (math.nan,) * 3
    if other is not None:
        value, low, high = compare(estimates[name], estimates[other])
    if other == name:
        low, high = math.nan, math.nan
    return {column: value, f"{column}_low": low, f"{column}_high": high}


def _p_value(
    estimates: dict[str, Estimate], name: str, other: str | None, alternative: Alternative
) -> float:
    if other in (None, name):
        return math.nan
    return paired_p_value(estimates[name].per_seed, estimates[other].per_seed, alternative)
