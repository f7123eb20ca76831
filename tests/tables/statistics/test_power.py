"""Power and numbers of seeds: by hand, beside statsmodels, and in simulated studies."""

import math

import numpy as np
import pytest
from scipy import stats

from humanline.tables.statistics.power import (
    OneSidedTest,
    joint_power,
    least_distance,
    seeds_for_power,
    upper_limit,
)

ALPHA = 0.05 / 6
STUDIES = 20_000


def significant(values: np.ndarray) -> np.ndarray:
    """Whether one-sided t-tests of means (..., S) above 0 are significant at ALPHA."""
    return stats.ttest_1samp(values, 0, axis=-1, alternative="greater").pvalue < ALPHA


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize("effect", [-0.5, 0.0, 0.4, 2.0, 50.0])
def test_the_power_of_one_test_is_that_of_statsmodels(seeds, effect):
    from statsmodels.stats.power import TTestPower

    expected = TTestPower().power(effect, seeds, ALPHA, alternative="larger")
    assert OneSidedTest(3.0, 3.0 * effect).power(seeds, ALPHA) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_the_least_distance_has_the_wanted_power(seeds):
    test = OneSidedTest(2.0, 0.0, prompts=0.3)
    distance = least_distance(test, seeds, alpha=ALPHA, power=0.8)
    found = OneSidedTest(2.0, distance, prompts=0.3).power(seeds, ALPHA)
    assert found == pytest.approx(0.8, abs=1e-4)


def test_the_seeds_needed_are_the_fewest():
    tests = [OneSidedTest(1.0, 1.0), OneSidedTest(2.0, 1.5)]
    needed = int(seeds_for_power(tests, alpha=ALPHA, power=0.8))
    assert joint_power(tests, needed, ALPHA) >= 0.8 > joint_power(tests, needed - 1, ALPHA)
    assert seeds_for_power([OneSidedTest(1.0, 0.0)], alpha=ALPHA, power=0.8) == math.inf
    assert seeds_for_power([OneSidedTest(1.0, 2.2)], alpha=0.05, power=0.8) == 4
    # No number of seeds makes up for the prompts that they share.
    assert seeds_for_power([OneSidedTest(1.0, 1.0, 1.0)], alpha=ALPHA, power=0.8) == math.inf


def test_what_cannot_be_tested_has_no_power():
    assert OneSidedTest(1.0, 9.0).power(1, ALPHA) == 0
    assert least_distance(OneSidedTest(1.0, 0.0), 1, alpha=ALPHA, power=0.8) == math.inf
    assert math.isnan(joint_power([OneSidedTest(0.0, 1.0)], 5, ALPHA))
    assert math.isnan(seeds_for_power([OneSidedTest(0.0, 1.0)], alpha=ALPHA, power=0.8))


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_tests_together_have_at_least_this_power(correlation):
    """Of an intersection-union test in simulated studies; the bound is near where power is high."""
    rng, seeds, effects = np.random.default_rng(0), 10, np.array([1.5, 1.7, 1.9])
    noise = rng.normal(size=(STUDIES, 3, seeds))
    shared = rng.normal(size=(STUDIES, 1, seeds))
    values = math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * noise
    found = significant(values + effects[:, None]).all(axis=1).mean()
    bound = joint_power([OneSidedTest(1.0, effect) for effect in effects], seeds, ALPHA)
    assert 0.8 < bound < found + 0.01 and found - bound < 0.1


def test_equivalence_is_two_tests():
    rng, seeds, margin, effect = np.random.default_rng(1), 10, 1.8, 0.1
    values = rng.normal(effect, size=(STUDIES, seeds))
    found = (significant(values + margin) & significant(margin - values)).mean()
    tests = [OneSidedTest(1.0, effect + margin), OneSidedTest(1.0, margin - effect)]
    assert joint_power(tests, seeds, ALPHA) == pytest.approx(found, abs=0.01)


def test_the_upper_limit_is_above_the_truth_in_four_of_five_pilots():
    deviations = np.random.default_rng(2).normal(size=(STUDIES, 4)).std(axis=1, ddof=1)
    limits = np.array([upper_limit(sd, 4) for sd in deviations])
    assert (limits > 1).mean() == pytest.approx(0.8, abs=0.01)
