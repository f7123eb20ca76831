"""The number of seeds that would decide, against simulated experiments."""

import numpy as np
import pytest

from humanline.tables.statistics.power import OneSidedTest, seeds_for_power
from humanline.tables.statistics.sample_size import seeds_to_decide
from humanline.tables.statistics.scores import Contrast

RULE = {"alpha": 0.05, "power": 0.8}


def seeds_needed(distances, sd, *, alpha, power):
    tests = [OneSidedTest(sd, distance) for distance in distances]
    return seeds_for_power(tests, alpha=alpha, power=power)


def contrast(values):
    return Contrast(tuple(range(len(values))), np.asarray(values, dtype=float))


def test_no_effect_needs_infinitely_many_seeds_and_no_spread_gives_nan():
    assert seeds_needed([0.0], 1.0, **RULE) == float("inf")
    value, low, high = seeds_to_decide(contrast([-1, 1]), [0.0], **RULE)
    assert value == high == float("inf") and low < 10
    assert np.isnan(seeds_to_decide(contrast([1, 1, 1]), [0.0], **RULE)).all()
    assert np.isnan(seeds_to_decide(contrast([1]), [0.0], **RULE)).all()


def test_seeds_to_decide_is_for_the_observed_effect_on_its_side():
    values = np.array([3.0, 5, 4, 6])
    expected = seeds_needed([4.5 - 2], values.std(ddof=1), **RULE)
    value, low, high = seeds_to_decide(contrast(values), [2.0], **RULE)
    assert value == expected and low <= value <= high
    assert seeds_to_decide(contrast(-values), [-2.0], **RULE) == (value, low, high)


def test_seeds_to_decide_on_equality_and_beyond_its_bounds():
    values = np.array([-0.3, 0.5, 0.4, -0.2])
    sd, mean = values.std(ddof=1), values.mean()
    within, *_ = seeds_to_decide(contrast(values), [-1.0, 1.0], **RULE)
    assert within == seeds_needed([1 + mean, 1 - mean], sd, **RULE)
    beyond, *_ = seeds_to_decide(contrast(values + 2), [-1.0, 1.0], **RULE)
    assert beyond == seeds_needed([1 + mean], sd, alpha=0.025, power=0.8)


@pytest.mark.parametrize(("bounds", "effect"), [([0.0], 1.2), ([-1.5, 1.5], 0.3)])
@pytest.mark.parametrize("n", [3, 10])
def test_the_interval_of_the_number_covers_the_number_for_the_true_effect(bounds, effect, n):
    """In 95 of 100 cases; for equality, whose two uncertainties are added up, in more."""
    distances = [effect - bounds[0], *(bound - effect for bound in bounds[1:])]
    truth, rng, covered = seeds_needed(distances, 1.0, **RULE), np.random.default_rng(n), []
    for _ in range(100):
        _, low, high = seeds_to_decide(contrast(rng.normal(effect, 1, size=n)), bounds, **RULE)
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.90
