"""Estimates of variants from their runs, and comparisons of variants, for the tables.

A column named x may have companions: x_se, its standard error, and x_low and x_high, its 95 %
interval. `report.formats` writes such a group as one column.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from humanline.study.experiments import Cell
from humanline.study.tasks import find_task
from humanline.tables.run_results import (
    Graded,
    Judged,
    RunFolder,
    read_graded,
    read_judged,
    training_seconds,
)
from humanline.tables.statistics import (
    Alternative,
    Estimate,
    hierarchical_weights,
    paired_p_value,
    prompt_means,
)


def score_estimates(
    variants: dict[str, list[RunFolder]], *, replicates: int, rng_seed: int
) -> dict[str, Estimate]:
    """Estimate the score of every variant of one task after the last step, in per cent.

    The score is the length-controlled win rate if a judge scores the task, and Pass@1 if its
    completions are graded.

    Args:
        variants: runs by variant, as `by_variant` returns them.
        replicates: number of bootstrap replicates.
        rng_seed: seed of the bootstrap.

    Raises:
        ConfigError: if a run's file is missing or damaged.
    """
    cell, _ = next(iter(variants.values()))[0]
    if find_task(cell.task).scoring == "grade":
        graded = read_graded(variants)
        weights = draw_weights(graded, replicates, rng_seed)
        return {
            name: pass_at_1([run.final for run in group], *weights)
            for name, group in graded.items()
        }
    judged = read_judged(variants)
    weights = draw_weights(judged, replicates, rng_seed)
    progress = tqdm(judged.items(), desc="bootstrap", unit="cell")
    return {name: win_rates(group, *weights)[1] for name, group in progress}


def draw_weights(
    groups: Mapping[str, Sequence[Judged | Graded]], replicates: int, rng_seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `hierarchical_weights` for variants that share S seeds and P prompts.

    Returns:
        Seed counts (replicates, S) and prompt counts (replicates, P).
    """
    group = next(iter(groups.values()))
    rng = np.random.default_rng(rng_seed)
    return hierarchical_weights(len(group), group[0].n_prompts, replicates, rng)


def win_rates(
    group: list[Judged], seed_counts: np.ndarray, prompt_counts: np.ndarray
) -> tuple[Estimate, Estimate]:
    """Estimate the win rate and the length-controlled win rate of a variant, in per cent.

    Args:
        group: the variant's S runs, each on P prompts.
        seed_counts: (R, S), from `draw_weights`.
        prompt_counts: (R, P), from `draw_weights`.
    """
    raw = [100 * prompt_means(run.win, prompt_counts) for run in group]
    controlled = [100 * run.length_controlled_replicates(prompt_counts) for run in group]
    return (
        Estimate.from_runs([run.win_rate for run in group], raw, seed_counts),
        Estimate.from_runs(
            [100 * run.length_controlled_win_rate() for run in group], controlled, seed_counts
        ),
    )


def pass_at_1(
    correct: list[np.ndarray], seed_counts: np.ndarray, prompt_counts: np.ndarray
) -> Estimate:
    """Estimate the Pass@1 of a variant, in per cent.

    Args:
        correct: for each of S seeds the share of correct samples by problem, (P,).
        seed_counts: (R, S), from `draw_weights`.
        prompt_counts: (R, P), from `draw_weights`.
    """
    per_cent = 100 * np.stack(correct)
    return Estimate.from_runs(
        per_cent.mean(axis=1), prompt_means(per_cent, prompt_counts), seed_counts
    )


def plain(
    variants: dict[str, list[RunFolder]],
    cell: Cell,
    data: str | None,
    sample_every: int | None = None,
) -> str | None:
    """Find the plain variant of the cell's objective and base model, to compare the cell with.

    Plain means: no humanline, no trust region, all data of its own base model, no overrides.

    Args:
        variants: runs by variant.
        cell: the cell to compare.
        data: offline or online.
        sample_every: steps between samplings; None takes the variant that samples most often.

    Returns:
        The variant's name; None if the table lacks it.
    """
    candidates = []
    for (other, _), *_ in variants.values():
        wanted = Cell(
            task=cell.task,
            base_model=cell.base_model,
            objective=cell.objective,
            data=data,
            sample_every=other.sample_every if sample_every is None else sample_every,
            seed=other.seed,
        )
        if other == wanted:
            candidates.append(other)
    chosen = min(candidates, key=lambda other: other.sample_every or 0, default=None)
    return chosen.variant if chosen else None


def columns(name: str, estimate: Estimate, *, interval: bool = True) -> dict[str, float]:
    """Write an estimate as columns: `name`, its standard error, and its interval on request."""
    row = {name: estimate.value, f"{name}_se": estimate.standard_error}
    if interval:
        row |= dict(zip((f"{name}_low", f"{name}_high"), estimate.interval, strict=True))
    return row


def comparison(
    column: str,
    compare: Callable[[Estimate, Estimate], tuple[float, float, float]],
    estimates: dict[str, Estimate],
    name: str,
    other: str | None,
) -> dict[str, float]:
    """Compare two variants: a column and the bounds of its 95 % interval.

    Args:
        column: the column's name.
        compare: such as `difference`; returns value, low and high.
        estimates: the estimates by variant.
        name, other: the two variants. All values are NaN without `other`; a variant compared with
            itself has no interval.
    """
    value, low, high = (math.nan,) * 3
    if other is not None:
        value, low, high = compare(estimates[name], estimates[other])
    if other == name:
        low, high = math.nan, math.nan
    return {column: value, f"{column}_low": low, f"{column}_high": high}


def mean_seconds(group: list[RunFolder]) -> float:
    """Average a variant's wall-clock seconds of training over seeds; NaN for a base model."""
    return float(np.mean([training_seconds(cell, directory) for cell, directory in group]))


def p_value(
    estimates: dict[str, Estimate], name: str, other: str | None, alternative: Alternative
) -> float:
    """Test two variants over paired seeds; NaN without another variant. See `paired_p_value`."""
    if other in (None, name):
        return math.nan
    return paired_p_value(estimates[name].per_seed, estimates[other].per_seed, alternative)
