"""Intervals and tests of a contrast's mean: Student's t over seeds, with the prompts' variance.

If each seed has its own prompts, the seeds' values are independent, and their t interval covers all
that varies. If the seeds share their prompts, seeds and prompts are crossed random effects:

    value[s, p] = mean + seed[s] + prompt[p] + error[s, p]

The two-way analysis of variance of the pseudo-values estimates what the prompts add to the
variance of the mean. A negative estimate counts as 0, so the variance is never below that of the
seeds. The critical value is then the mean of Student's t with S - 1 and with G - 1 degrees of
freedom, weighted by the parts of the variance (Cochran and Cox 1950). Satterthwaite's degrees of
freedom would do for five seeds, but not for three: there 7 or 8 intervals of 100 miss, not 5.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

from humanline.tables.statistics.scores import Contrast

# Scores are about 1 to 100, so that smaller differences come from rounding alone.
_ROUNDING = 1e-12

Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class Interval:
    """An estimate of a mean over seeds, and its interval.

    Attributes:
        value: the mean; NaN without a seed.
        standard_error: its standard error; NaN with one seed.
        low, high: the bounds; NaN with one seed.
        degrees_of_freedom: the number of seeds minus 1.
    """

    value: float
    standard_error: float
    low: float
    high: float
    degrees_of_freedom: int

    @property
    def exponential(self) -> tuple[float, float, float]:
        """The ratio of geometric means and its bounds, if this is of a log ratio."""
        return math.exp(self.value), math.exp(self.low), math.exp(self.high)


@dataclass(frozen=True)
class Variance:
    """The parts of the variance of a mean over S seeds; arrays of any shape.

    Attributes:
        seeds: the part of the seeds, their sampling noise included; NaN with one seed.
        prompts: the part of shared prompts, at least 0; 0 if each seed has its own.
        degrees_of_freedom: S - 1, and G - 1 (infinite without groups).
    """

    seeds: np.ndarray
    prompts: np.ndarray
    degrees_of_freedom: tuple[int, float]

    @property
    def total(self) -> np.ndarray:
        """The variance of the mean."""
        return self.seeds + self.prompts

    def critical_value(self, tail: float) -> np.ndarray:
        """Return the number of standard errors that chance exceeds on one side with `tail`."""
        first, second = (stats.t.isf(tail, df) for df in self.degrees_of_freedom)
        with np.errstate(invalid="ignore"):
            share = np.where(self.total > 0, self.seeds / self.total, 1.0)
        return share * first + (1 - share) * second


def variance(values: np.ndarray, pseudo: np.ndarray | None = None) -> Variance:
    """Estimate the variance of a mean over seeds.

    Args:
        values: (..., S).
        pseudo: pseudo-values (..., S, G); None if each seed has its own prompts.
    """
    n_seeds = values.shape[-1]
    if n_seeds < 2:
        unknown = np.full(values.shape[:-1], np.nan)
        return Variance(unknown, unknown, (n_seeds - 1, math.inf))
    seeds = values.var(axis=-1, ddof=1) / n_seeds
    seeds = np.where(_are_alike(values), 0.0, seeds)
    if pseudo is None:
        return Variance(seeds, np.zeros_like(seeds), (n_seeds - 1, math.inf))
    groups = pseudo.shape[-1]
    by_prompts = pseudo.mean(axis=-2)
    error = pseudo - by_prompts[..., None, :] - pseudo.mean(axis=-1)[..., None]
    error = error + by_prompts.mean(axis=-1)[..., None, None]
    error_square = (error**2).sum(axis=(-2, -1)) / ((n_seeds - 1) * (groups - 1))
    prompts_square = n_seeds * by_prompts.var(axis=-1, ddof=1)
    prompts = np.maximum(0.0, prompts_square - error_square) / (n_seeds * groups)
    return Variance(seeds, prompts, (n_seeds - 1, groups - 1))


def bounds(
    values: np.ndarray, pseudo: np.ndarray | None = None, *, tail: float = 0.025
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper bound of a mean; each errs with the chance `tail`.

    Args:
        values: (..., S).
        pseudo: pseudo-values (..., S, G); None if each seed has its own prompts.
        tail: 0.025 for a two-sided interval of 95 %.
    """
    half = _half_width(variance(values, pseudo), tail)
    mean = values.mean(axis=-1)
    return mean - half, mean + half


def estimate(contrast: Contrast, level: float = 0.95) -> Interval:
    """Estimate a contrast's mean with its interval.

    Args:
        contrast: numbers by seed. If they do not vary, the interval is the value alone.
        level: the chance that the interval covers the mean.
    """
    n_seeds = len(contrast.seeds)
    if not n_seeds:
        return Interval(*(math.nan,) * 4, -1)
    found = variance(contrast.values, contrast.pseudo)
    half = float(_half_width(found, (1 - level) / 2))
    value = float(contrast.values.mean())
    return Interval(value, math.sqrt(found.total), value - half, value + half, n_seeds - 1)


def _half_width(found: Variance, tail: float) -> np.ndarray:
    """Return the distance of a bound from the mean."""
    return found.critical_value(tail) * np.sqrt(found.total)


def p_value(contrast: Contrast, null: float = 0.0, alternative: Alternative = "two-sided") -> float:
    """Test whether a contrast's mean is `null`.

    Args:
        contrast: numbers by seed.
        null: the value to test against.
        alternative: ``greater`` asks whether the mean is above `null`.

    Returns:
        The p-value, which agrees with the interval of `estimate`. NaN for fewer than two seeds. If
        the values do not vary, no test is possible: 1 (two-sided) or 0.5 (one-sided) if they all
        equal `null`, else NaN.
    """
    values = np.asarray(contrast.values, dtype=float)
    if len(values) < 2:
        return math.nan
    found = variance(values, contrast.pseudo)
    if not found.total > 0:
        is_null = np.abs(values - null).max() <= _ROUNDING * max(np.abs(values).max(), abs(null), 1)
        return (1.0 if alternative == "two-sided" else 0.5) if is_null else math.nan
    distance = float((values.mean() - null) / np.sqrt(found.total))
    tail = _tail(found, abs(distance))
    if alternative == "two-sided":
        return 2 * tail
    return tail if (distance > 0) == (alternative == "greater") else 1 - tail


def _tail(found: Variance, distance: float) -> float:
    """Return the one-sided p-value (at most 0.5) of a distance in standard errors."""
    tails = sorted(stats.t.sf(distance, df) for df in found.degrees_of_freedom)
    if not found.prompts > 0 or tails[0] == 0:
        return float(stats.t.sf(distance, found.degrees_of_freedom[0]))
    excess = lambda tail: float(found.critical_value(math.exp(tail))) - distance  # noqa: E731
    ends = [math.log(tail) + step for tail, step in zip(tails, (-1e-9, 1e-9), strict=True)]
    return math.exp(optimize.brentq(excess, *ends))


def _are_alike(values: np.ndarray) -> np.ndarray:
    """Say whether values (..., S) are equal up to rounding."""
    return np.ptp(values, axis=-1) <= _ROUNDING * np.maximum(np.abs(values).max(axis=-1), 1)
