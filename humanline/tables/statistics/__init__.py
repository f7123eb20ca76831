"""Intervals and tests for runs that share prompts: a hierarchical bootstrap and paired t-tests.

Two things vary when an experiment is repeated: the seed (which varies the base model, its data and
training) and the evaluation prompts. The bootstrap resamples both. All cells of a table use the
same draws, so a ratio or a difference of two cells is paired: the difficulty of a prompt and the
quality of a base model cancel out.

With few seeds the bootstrap's intervals are too narrow. Resampling n seeds gives (n - 1) / n of the
variance of n new ones, and percentiles make no correction like that of the t distribution. If seeds
differ much more than prompts do, simulated 95 % intervals covered the truth in 72, 83 and 91 of 100
cases with 3, 5 and 10 seeds; otherwise in 92 to 95 with 3. So p-values come from t-tests over
seeds, which allow for a variance that is estimated from few values.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

_MANY_SEEDS = 1024  # more seeds cannot be run

Alternative = Literal["two-sided", "greater", "less"]


def hierarchical_weights(
    n_seeds: int, n_prompts: int, replicates: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw how often each seed and each prompt occurs in each bootstrap replicate.

    Prompts are crossed with seeds, not nested in them: one draw of prompts serves all seeds.

    Returns:
        Seed counts (replicates, n_seeds) and prompt counts (replicates, n_prompts), whose rows
        sum to n_seeds and n_prompts.
    """
    seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=replicates)
    prompts = rng.multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), size=replicates)
    return seeds, prompts


def prompt_means(values: np.ndarray, prompt_counts: np.ndarray) -> np.ndarray:
    """Average values over prompts in each bootstrap replicate; nan values are left out.

    Args:
        values: (..., P).
        prompt_counts: how often each prompt occurs in each replicate, (R, P).

    Returns:
        (..., R).
    """
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0) @ prompt_counts.T
    return total / (known.astype(float) @ prompt_counts.T)


@dataclass(frozen=True)
class Estimate:
    """A statistic of a cell.

    Attributes:
        per_seed: the statistic of each seed's run on all prompts, (S,).
        replicates: the mean over seeds in each bootstrap replicate, (R,).
    """

    per_seed: np.ndarray
    replicates: np.ndarray

    @classmethod
    def from_runs(
        cls, per_seed: ArrayLike, per_seed_replicates: ArrayLike, seed_counts: np.ndarray
    ) -> "Estimate":
        """Average per-seed statistics over the seeds of each bootstrap replicate.

        Args:
            per_seed: the statistic of each seed's run, (S,).
            per_seed_replicates: the same in each replicate of prompts, (S, R).
            seed_counts: how often each seed occurs in each replicate, (R, S).
        """
        total = (seed_counts * np.transpose(per_seed_replicates)).sum(axis=1)
        return cls(np.asarray(per_seed, dtype=float), total / seed_counts.sum(axis=1))

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(self.per_seed.mean())

    @property
    def standard_error(self) -> float:
        """Standard deviation of the bootstrap replicates."""
        return float(self.replicates.std(ddof=1))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % percentile interval."""
        return percentile_interval(self.replicates)


def percentile_interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the bounds of the central share `level` of samples (R,); NaN if any sample is NaN."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def t_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Compute Student's t interval of the mean of values (S,); NaN for fewer than two."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean() - half), float(values.mean() + half)


def fieller_interval(
    first: ArrayLike, second: ArrayLike, level: float = 0.95
) -> tuple[float, float]:
    """Compute Fieller's interval (1954) of the ratio of the means of paired values, (S,) each.

    The interval contains every b for which a t-test cannot distinguish the mean of
    first - b * second from 0. It is unbounded if the mean of `second` may be 0, and NaN for fewer
    than two pairs.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    n = len(first)
    if n < 2:
        return float("nan"), float("nan")
    g = stats.t.ppf((1 + level) / 2, n - 1) ** 2 / n
    (v_first, covariance), (_, v_second) = g * np.cov(first, second)
    a = second.mean() ** 2 - v_second
    b = first.mean() * second.mean() - covariance
    c = first.mean() ** 2 - v_first
    if a <= 0:
        return -float("inf"), float("inf")
    half = np.sqrt(max(0.0, b**2 - a * c))
    return float((b - half) / a), float((b + half) / a)


def ratio(first: Estimate, second: Estimate) -> tuple[float, float, float]:
    """Compute the ratio of two cells' means with its paired 95 % interval: value, low, high.

    The interval is NaN if the denominator is 0 in any replicate; the value is NaN if the
    denominator itself is 0.
    """
    low, high = percentile_interval(_divide(first.replicates, second.replicates))
    return float(_divide(first.value, second.value)), low, high


def difference(first: Estimate, second: Estimate) -> tuple[float, float, float]:
    """Compute the difference of two cells' means with a paired 95 % interval: value, low, high."""
    low, high = percentile_interval(first.replicates - second.replicates)
    return first.value - second.value, low, high


def _divide(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    denominator = np.asarray(denominator, dtype=float)
    return numerator / np.where(denominator == 0, np.nan, denominator)


def paired_p_value(
    first: np.ndarray, second: np.ndarray, alternative: Alternative = "two-sided"
) -> float:
    """Compute the p-value of a paired t-test over seeds (SciPy's `ttest_rel`).

    Args:
        first: a cell's statistic by seed, (S,).
        second: the other cell's statistic in the same order of seeds, (S,).
        alternative: ``greater`` asks whether `first` beats `second`, ``two-sided`` whether they
            differ.

    Returns:
        The p-value. If the differences do not vary, no t-test is possible: p is 1 (two-sided) or
        0.5 (one-sided) if they are all 0, and NaN if they are equal but not 0. It is NaN, too, for
        fewer than two seeds.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(first) < 2:
        return float("nan")
    differences = first - second
    # Rounding can make equal differences look unequal.
    rounding = 1e-12 * np.abs([first, second]).max()
    if np.abs(differences).max() <= rounding:
        return 1.0 if alternative == "two-sided" else 0.5
    if np.ptp(differences) <= rounding:
        return float("nan")
    return float(stats.ttest_rel(first, second, alternative=alternative).pvalue)


def one_sided_p_value(differences: np.ndarray, alternative: Literal["greater", "less"]) -> float:
    """Compute the one-sided p-value of Student's t-test of paired differences (S,) against 0.

    It is NaN for fewer than two differences, or if all are equal: their variance is then unknown.
    """
    differences = np.asarray(differences, dtype=float)
    if len(differences) < 2 or _are_alike(differences):
        return float("nan")
    return float(stats.ttest_1samp(differences, 0, alternative=alternative).pvalue)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Correct p-values (N,) by Holm's method, with statsmodels.

    NaN stays NaN but still counts in the number of tests.
    """
    from statsmodels.stats.multitest import multipletests

    p_values = np.asarray(p_values, dtype=float)
    is_known = ~np.isnan(p_values)
    corrected = multipletests(np.where(is_known, p_values, 1.0), method="holm")[1]
    return np.where(is_known, corrected, np.nan)


def seeds_to_decide(contrasts: Sequence[np.ndarray], *, alpha: float, power: float) -> float:
    """Compute how many paired seeds one-sided t-tests need to be all significant.

    The true effect is assumed to equal the observed one.

    Args:
        contrasts: the values of each test by seed, (S,). Of two tests on opposite sides, the chance
            that any fails is the sum of the chances of both.
        alpha: level of each test.
        power: chance that all tests are significant.

    Returns:
        The number, rounded up, at least 2; infinity for more than 1024; NaN if the variance is
        unknown.
    """
    from statsmodels.stats.power import TTestPower

    if any(len(contrast) < 2 or _are_alike(contrast) for contrast in contrasts):
        return float("nan")
    effects = [abs(contrast.mean()) / contrast.std(ddof=1) for contrast in contrasts]
    test = TTestPower()

    def has_power(seeds: int) -> bool:
        powers = [test.power(effect, seeds, alpha, alternative="larger") for effect in effects]
        return sum(1 - p for p in powers) <= 1 - power

    most = 2
    while not has_power(most):
        if most >= _MANY_SEEDS:
            return float("inf")
        most *= 2
    return float(bisect.bisect_left(range(2, most + 1), True, key=has_power) + 2)


def _are_alike(differences: np.ndarray) -> bool:
    """Say whether all differences are equal up to rounding."""
    return bool(np.ptp(differences) <= 1e-12 * max(np.abs(differences).max(), 1e-300))
