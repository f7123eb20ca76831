"""The number of seeds that would decide a comparison, with its own interval."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from humanline.tables.statistics.inference import variance
from humanline.tables.statistics.power import OneSidedTest, seeds_for_power
from humanline.tables.statistics.scores import Contrast


def seeds_to_decide(
    contrast: Contrast,
    bounds: Sequence[float],
    *,
    alpha: float,
    power: float,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Compute how many seeds would decide, if the true effect were the observed one.

    The interval holds the numbers for all effects that the observed seeds do not exclude: those in
    the interval of the noncentral t distribution's parameter, in which both the mean and the
    deviation are uncertain. Equivalence depends also on the bounds' width in deviations, with the
    chi-square interval; both then have half the error. With shared prompts it is approximate.

    Args:
        contrast: numbers by seed.
        bounds: the value to test against, on the side where the mean lies; or the two bounds of
            equivalence, the lower first. A mean outside of them is tested against the nearer one,
            at half the level, since it could have been either.
        alpha: level of each test.
        power: chance that all tests are significant.
        level: the chance that the interval covers the number for the true effect.

    Returns:
        The number and its bounds. Each is at least 2, and infinite for more than 1024. NaN for
        fewer than two seeds or if the values do not vary.
    """
    found = variance(contrast.values, contrast.pseudo)
    if not found.seeds > 0:
        return math.nan, math.nan, math.nan
    n, mean = len(contrast.values), float(contrast.values.mean())
    sd = math.sqrt(n * found.seeds)
    is_between = len(bounds) == 2 and bounds[0] < mean < bounds[1]
    if len(bounds) == 2 and not is_between:
        alpha = alpha / 2
    share = (1 + level) / 2 if is_between else level
    observed = min(abs(mean - bound) for bound in bounds)
    # From here on all is in standard deviations of a seed.
    unit = math.sqrt(found.total) / sd
    low, high = (unit * shift for shift in _shifts(observed / sd / unit, n - 1, share))
    effects = [(observed / sd, 0), (max(high, -low), 1), (max(low, 0), -1)]
    widths = _widths((bounds[-1] - bounds[0]) / sd, n - 1, share) if is_between else None

    def seeds(distance: float, side: int) -> float:
        distances = [distance] if widths is None else _both(distance, widths[side])
        tests = [OneSidedTest(1.0, each, float(found.prompts) / sd**2) for each in distances]
        return seeds_for_power(tests, alpha=alpha, power=power)

    return seeds(*effects[0]), seeds(*effects[1]), seeds(*effects[2])


def _both(nearest: float, width: float) -> list[float]:
    """Return the distances to both bounds of equivalence."""
    nearest = min(nearest, width / 2)
    return [nearest, width - nearest]


def _widths(width: float, df: int, level: float) -> dict[int, float]:
    """Return a width in standard deviations (0), its upper (1) and lower bound (-1)."""
    chances = stats.chi2.ppf([(1 - level) / 2, (1 + level) / 2], df)
    low, high = width * np.sqrt(chances / df)
    return {0: width, 1: float(high), -1: float(low)}


def _shifts(observed: float, df: int, level: float) -> tuple[float, float]:
    """Return the interval of a noncentral t distribution's parameter, given its observed value."""

    def shift(share: float) -> float:
        far = 10 * (abs(observed) + 10)
        excess = lambda value: _noncentral_cdf(observed, df, value) - share  # noqa: E731
        return float(optimize.brentq(excess, -far, far))

    return shift((1 + level) / 2), shift((1 - level) / 2)


def _noncentral_cdf(value: float, df: int, shift: float) -> float:
    """Return the noncentral t distribution's cumulative probability."""
    found = float(stats.nct.cdf(value, df, shift))
    if math.isnan(found):  # SciPy's answer far from the parameter, where it is 0 or 1
        return float(shift < value)
    return found
