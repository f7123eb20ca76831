"""The power of one-sided t-tests over seeds, alone and together, and the seeds that give it.

A test's statistic has a noncentral t distribution. Equivalence is two tests (Schuirmann 1987), and
non-inferiority one. Tests that must all be significant fail at most as often as the sum of their
single failures: this holds for any correlation, and is near the truth where power is high.

Snakemake's main process imports this module, so it uses SciPy's special functions alone.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import chdtri, nctdtr, nctdtrinc, stdtrit

MOST_SEEDS = 1024  # more cannot be run


@dataclass(frozen=True)
class OneSidedTest:
    """A one-sided t-test of the mean of a contrast, which has one value per seed.

    Args:
        sd: standard deviation of the contrast over seeds.
        distance: how far the true mean lies beyond the tested bound on the claimed side, in the
            units of `sd`; negative: what is claimed is wrong. It is effect - bound for ``greater``,
            bound - effect for ``less``; equivalence has effect + margin and margin - effect.
        prompts: variance that shared prompts add to the mean, however many seeds there are.
    """

    sd: float
    distance: float
    prompts: float = 0.0

    def error(self, seeds: int) -> float:
        """Compute the standard error of the mean."""
        return math.sqrt(self.sd**2 / seeds + self.prompts)

    def power(self, seeds: int, alpha: float) -> float:
        """Compute the chance that it is significant at level alpha.

        Returns:
            The chance: 0 with one seed, NaN if nothing varies, as there is no test then.
        """
        if seeds < 2:
            return 0.0
        if not (error := self.error(seeds)) > 0:
            return math.nan
        shift, limit = self.distance / error, stdtrit(seeds - 1, 1 - alpha)
        missed = nctdtr(seeds - 1, shift, limit)
        if math.isnan(missed):  # SciPy's answer far from the limit, where it is 0 or 1
            return float(shift > limit)
        return float(1 - missed)


def joint_power(tests: Sequence[OneSidedTest], seeds: int, alpha: float) -> float:
    """Compute a lower bound of the chance that all tests are significant at level alpha.

    It is NaN if one of them has a contrast that does not vary.
    """
    power = 1 - sum(1 - test.power(seeds, alpha) for test in tests)
    return power if math.isnan(power) else max(0.0, power)


def least_distance(test: OneSidedTest, seeds: int, *, alpha: float, power: float) -> float:
    """Compute the distance at which a test has this power, whatever its own distance is.

    Args:
        test: the test.
        seeds: number of seeds.
        alpha: level of the test.
        power: its power.

    Returns:
        The distance in the units of `sd`; infinity with one seed, NaN if nothing varies.
    """
    if seeds < 2:
        return math.inf
    if not test.error(seeds) > 0:
        return math.nan
    shift = nctdtrinc(seeds - 1, 1 - power, stdtrit(seeds - 1, 1 - alpha))
    return float(shift * test.error(seeds))


def seeds_for_power(tests: Sequence[OneSidedTest], *, alpha: float, power: float) -> float:
    """Compute how many seeds the tests need for this joint power.

    Args:
        tests: the tests, which must all be significant.
        alpha: level of each test.
        power: the chance that all are significant.

    Returns:
        The number, at least 2; infinity for more than 1024; NaN if nothing varies.
    """
    if any(not test.error(2) > 0 for test in tests):
        return math.nan
    if min(test.distance for test in tests) <= 0:
        return math.inf

    def suffices(seeds: int) -> bool:
        return joint_power(tests, seeds, alpha) >= power

    found = bisect.bisect_left(range(2, MOST_SEEDS + 1), True, key=suffices) + 2
    return float(found) if found <= MOST_SEEDS else math.inf


def upper_limit(sd: float, seeds: int, level: float = 0.8) -> float:
    """Compute the upper confidence limit of a standard deviation that comes from few seeds.

    A design that is planned with this limit has the wanted power with a chance of about `level`;
    with the estimate itself, with a chance of less than a half (Browne 1995, Statistics in Medicine
    14, 1933-1940).

    Args:
        sd: the estimate, of normal values.
        seeds: number of seeds that it comes from.
        level: confidence.
    """
    return float(sd * math.sqrt((seeds - 1) / chdtri(seeds - 1, level)))
