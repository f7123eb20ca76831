"""Power of one-sided t-tests over seeds, and the number of seeds that decides.

A test asks whether a mean is above or below a bound. Its *distance* is how far the true mean lies
on the claimed side of that bound: effect - bound for ``greater`` and for non-inferiority (whose
bound is minus the margin), bound - effect for ``less``. Equivalence is two tests (Schuirmann 1987),
with the distances effect + margin and margin - effect. All tests of a list must be significant, and
the chance that any fails is at most the sum of their chances.
"""

import bisect
import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from humanline.tables.statistics.inference import variance
from humanline.tables.statistics.scores import Contrast

_MANY_SEEDS = 1024  # more seeds cannot be run


def power_of(
    distances: Sequence[float], sd: float, seeds: int, *, alpha: float, prompts: float = 0.0
) -> float:
    """Compute the chance that one-sided t-tests over seeds are all significant.

    Args:
        distances: how far the true mean lies on the claimed side of each test's bound.
        sd: the standard deviation of the contrast over seeds, in the unit of the distances.
        seeds: the number of seeds, at least 2.
        alpha: level of each test.
        prompts: variance that shared prompts add to the mean, however many seeds there are.

    Returns:
        The chance by the noncentral t distribution; of several tests its lower bound, at least 0.
    """
    df, error = seeds - 1, math.sqrt(sd**2 / seeds + prompts)
    limit = stats.t.isf(alpha, df)
    fails = [_noncentral_cdf(limit, df, distance / error) for distance in distances]
    return max(0.0, 1.0 - sum(fails))


def smallest_effect(
    sd: float, seeds: int, *, alpha: float, power: float, prompts: float = 0.0
) -> float:
    """Compute the distance at which one test of `power_of` has this power.

    Args:
        sd, seeds, alpha, prompts: as in `power_of`.
        power: the chance that the test is significant.
    """
    df, error = seeds - 1, math.sqrt(sd**2 / seeds + prompts)
    limit = stats.t.isf(alpha, df)
    missing = lambda shift: 1 - power - _noncentral_cdf(limit, df, shift)  # noqa: E731
    return error * optimize.brentq(missing, 0.0, 10 * limit + 10)


def seeds_needed(
    distances: Sequence[float], sd: float, *, alpha: float, power: float, prompts: float = 0.0
) -> float:
    """Compute how many seeds give one-sided t-tests this power together.

    Args:
        distances, sd, alpha, prompts: as in `power_of`.
        power: the chance that all tests are significant.

    Returns:
        The number, rounded up, at least 2; infinity for more than 1024; NaN without a deviation.
    """
    if not sd > 0 or not np.isfinite(distances).all():
        return math.nan
    if min(distances) <= 0:
        return math.inf

    def has_power(seeds: int) -> bool:
        return power_of(distances, sd, seeds, alpha=alpha, prompts=prompts) >= power

    most = 2
    while not has_power(most):
        if most >= _MANY_SEEDS:
            return math.inf
        most *= 2
    return float(bisect.bisect_left(range(2, most + 1), True, key=has_power) + 2)


def seeds_to_decide(
    contrast: Contrast,
    bounds: Sequence[float],
    *,
    alpha: float,
    power: float,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Compute how many seeds would decide, if the true effect were the observed one.

    With one bound, the mean is tested on the side where it lies. With two, equivalence is tested if
    the mean lies between them, else whether it lies beyond the nearer one (at half the level, since
    it could have been either).

    The interval holds the numbers for all effects that the observed seeds do not exclude. An effect
    is a distance in standard deviations: its interval is that of the noncentral t distribution's
    parameter, so both the mean and the deviation count as uncertain. Equivalence depends also on
    the width between the bounds in standard deviations, whose interval is that of the variance
    (chi-square); both then have half the error. With shared prompts it is an approximation.

    Args:
        contrast: numbers by seed.
        bounds: the value to test against, or the two bounds of equivalence, the lower first.
        alpha: level of each test.
        power: chance that all tests are significant.
        level: the chance that the interval covers the number for the true effect.

    Returns:
        The number, and its bounds low and high. Each is at least 2, and infinite for more than
        1024; NaN for fewer than two seeds or if the values do not vary.
    """
    found = variance(contrast.values, contrast.pseudo)
    if not found.seeds > 0:
        return math.nan, math.nan, math.nan
    n, mean = len(contrast.values), float(contrast.values.mean())
    sd, error = math.sqrt(n * found.seeds), math.sqrt(found.total)
    is_between = len(bounds) == 2 and bounds[0] < mean < bounds[1]
    if len(bounds) == 2 and not is_between:
        alpha = alpha / 2

    def seeds(distances: Sequence[float]) -> float:
        prompts = float(found.prompts) / sd**2
        return seeds_needed(distances, 1.0, alpha=alpha, power=power, prompts=prompts)

    observed = min(abs(mean - bound) for bound in bounds)
    share = (1 + level) / 2 if is_between else level
    low, high = (shift * error / sd for shift in _shifts(observed / error, n - 1, share))
    if not is_between:
        least = max(low, 0.0)  # the true effect may be none
        return seeds([observed / sd]), seeds([max(high, -low)]), seeds([least])

    def both(distance: float, width: float) -> float:
        nearest = min(distance, width / 2)
        return seeds([nearest, width - nearest])

    width = (bounds[1] - bounds[0]) / sd
    chances = stats.chi2.ppf([(1 - share) / 2, (1 + share) / 2], n - 1)
    narrow, wide = width * np.sqrt(chances / (n - 1))
    return both(observed / sd, width), both(high, wide), both(low, narrow)


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
