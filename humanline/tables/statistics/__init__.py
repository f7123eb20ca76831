"""Intervals and tests of the claims, until these use the modules below."""

import bisect
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

_MANY_SEEDS = 1024  # more seeds cannot be run
Alternative = Literal["two-sided", "greater", "less"]


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
