"""Power and numbers of seeds, against simulated experiments."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from humanline.tables.statistics.sample_size import (
    power_of,
    seeds_needed,
    seeds_to_decide,
    smallest_effect,
)
from humanline.tables.statistics.scores import Contrast

RULE = {"alpha": 0.05, "power": 0.8}


def contrast(values):
    return Contrast(tuple(range(len(values))), np.asarray(values, dtype=float))


@pytest.mark.parametrize("distance", [-0.5, 0.3, 1.0, 3.0])
def test_the_power_of_one_test_is_that_of_statsmodels(distance):
    expected = TTestPower().power(distance / 2, 10, 0.01, alternative="larger")
    assert power_of([distance], 2.0, 10, alpha=0.01) == pytest.approx(expected)


@pytest.mark.parametrize("off", (0.0, 0.2))
def test_so_many_seeds_have_the_power_to_find_equality(off):
    margin = 0.8
    seeds = int(seeds_needed([margin + off, margin - off], 1.0, **RULE))
    draws = np.random.default_rng(0).normal(off, 1, size=(20_000, seeds))

    def passes(bound: float, side: str) -> np.ndarray:
        return stats.ttest_1samp(draws, bound, axis=1, alternative=side).pvalue < 0.05

    assert 0.78 < (passes(-margin, "greater") & passes(margin, "less")).mean() < 0.86


@pytest.mark.parametrize("distance", [0.4, 1.0, 3.0])
def test_the_number_of_seeds_has_the_power_and_one_seed_less_has_not(distance):
    seeds = int(seeds_needed([distance], 1.0, **RULE))
    assert power_of([distance], 1.0, seeds, alpha=0.05) >= 0.8
    assert seeds == 2 or power_of([distance], 1.0, seeds - 1, alpha=0.05) < 0.8


def test_the_smallest_effect_has_just_the_power():
    effect = smallest_effect(3.0, 10, **RULE, prompts=0.5)
    assert power_of([effect], 3.0, 10, alpha=0.05, prompts=0.5) == pytest.approx(0.8)


def test_more_seeds_do_not_help_against_shared_prompts():
    assert seeds_needed([1.0], 1.0, **RULE) < 15
    assert seeds_needed([1.0], 1.0, **RULE, prompts=0.5) == float("inf")


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
