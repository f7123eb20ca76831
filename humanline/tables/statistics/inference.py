"""Intervals and tests of a contrast's mean: Student's t over seeds, with the prompts' variance.

If each seed has its own prompts, the seeds' values are independent, and their t interval covers all
that varies. If the seeds share their prompts, seeds and prompts are crossed random effects:

    value[s, p] = mean + seed[s] + prompt[p] + error[s, p]

The two-way analysis of variance of the pseudo-values estimates what the prompts add to the
variance of the mean. A negative estimate counts as 0, so the variance is never below that of the
seeds. The critical value is then the mean of Student's t with S - 1 and with G - 1 degrees of
freedom, weighted by the parts of the variance (Cochran and Cox 1950). Satterthwaite's degrees of
freedom would do for five seeds, but not for three: there 7 or 8 intervals of 100 miss, not 5.

`intervals` and `significance` take many studies at once: arrays (..., S) and (..., S, G) in place
of (S,) and (S, G). `estimate` and `p_value` are the same for one study.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats
from scipy.optimize import elementwise

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
    """

    value: float
    standard_error: float
    low: float
    high: float

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

    @property
    def share(self) -> np.ndarray:
        """The seeds' share of the variance; 1 if nothing varies."""
        with np.errstate(invalid="ignore"):
            return np.where(self.total > 0, self.seeds / self.total, 1.0)

    def critical_value(self, tail: float) -> np.ndarray:
        """Return the number of standard errors that chance exceeds on one side with `tail`."""
        return _critical_value(tail, self.share, self.degrees_of_freedom)


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


def intervals(contrast: Contrast, level: float = 0.95) -> tuple[np.ndarray, ...]:
    """Estimate the means of many studies' contrasts with their intervals; see `estimate`.

    Args:
        contrast: numbers by study and seed, (..., S), with pseudo-values (..., S, G) or none.
        level: the chance that an interval covers its mean.

    Returns:
        The means, their standard errors, the lower and the upper bounds, (...) each.
    """
    values = np.asarray(contrast.values, dtype=float)
    if not values.shape[-1]:
        return (np.full(values.shape[:-1], np.nan),) * 4
    found, mean = variance(values, contrast.pseudo), values.mean(axis=-1)
    error = np.sqrt(found.total)
    half = found.critical_value((1 - level) / 2) * error
    return mean, error, mean - half, mean + half


def estimate(contrast: Contrast, level: float = 0.95) -> Interval:
    """Estimate a contrast's mean with its interval.

    Args:
        contrast: numbers by seed. If they do not vary, the interval is the value alone.
        level: the chance that the interval covers the mean.
    """
    return Interval(*map(float, intervals(contrast, level)))


def significance(
    contrast: Contrast, null: float = 0.0, alternative: Alternative = "two-sided"
) -> np.ndarray:
    """Test whether the means of many studies' contrasts are `null`; see `p_value`.

    Args:
        contrast: numbers by study and seed, (..., S), with pseudo-values (..., S, G) or none.
        null: the value to test against.
        alternative: ``greater`` asks whether the mean is above `null`.

    Returns:
        The p-values, (...).
    """
    values = np.asarray(contrast.values, dtype=float)
    if values.shape[-1] < 2:
        return np.full(values.shape[:-1], np.nan)
    found, is_one_sided = variance(values, contrast.pseudo), alternative != "two-sided"
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (values.mean(axis=-1) - null) / np.sqrt(found.total)
    tail = _tail(found, np.abs(distance))
    if is_one_sided:
        p = np.where((distance > 0) == (alternative == "greater"), tail, 1 - tail)
    else:
        p = 2 * tail
    largest = np.maximum(np.abs(values).max(axis=-1), max(abs(null), 1))
    is_null = np.abs(values - null).max(axis=-1) <= _ROUNDING * largest
    untested = np.where(is_null, 0.5 if is_one_sided else 1.0, np.nan)
    return np.where(found.total > 0, p, untested)


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
    return float(significance(contrast, null, alternative))


def _critical_value(
    tail: float | np.ndarray, share: np.ndarray, degrees_of_freedom: tuple[int, float]
) -> np.ndarray:
    """Weight the critical values of seeds and of prompts by the seeds' share of the variance."""
    first, second = (stats.t.isf(tail, df) for df in degrees_of_freedom)
    return share * first + (1 - share) * second


def _tail(found: Variance, distance: np.ndarray) -> np.ndarray:
    """Return the one-sided p-values (at most 0.5) of distances in standard errors."""
    distance = np.asarray(distance)  # of one study it is a number
    tails = np.stack([stats.t.sf(distance, df) for df in found.degrees_of_freedom])
    is_mixed = (found.prompts > 0) & (tails.min(axis=0) > 0)
    if not is_mixed.any():
        return tails[0]
    ends = np.log(np.sort(tails[:, is_mixed], axis=0))

    def excess(log_tail: np.ndarray, share: np.ndarray, distance: np.ndarray) -> np.ndarray:
        return _critical_value(np.exp(log_tail), share, found.degrees_of_freedom) - distance

    root = elementwise.find_root(
        excess,
        (ends[0] - 1e-9, ends[1] + 1e-9),
        args=(found.share[is_mixed], distance[is_mixed]),
        tolerances={"xatol": 1e-9},  # of a logarithm
    )
    tail = np.array(tails[0])
    tail[is_mixed] = np.exp(root.x)
    return tail


def _are_alike(values: np.ndarray) -> np.ndarray:
    """Say whether values (..., S) are equal up to rounding."""
    return np.ptp(values, axis=-1) <= _ROUNDING * np.maximum(np.abs(values).max(axis=-1), 1)
