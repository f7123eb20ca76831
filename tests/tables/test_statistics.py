import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from humanline.tables.statistics import (
    fieller_interval,
    one_sided_p_value,
    seeds_to_decide,
    t_interval,
)

pytestmark = pytest.mark.usefixtures("frozen_heap")
sizes = st.integers(1, 12)


@given(st.integers(0, 1000), st.integers(2, 6))
def test_fiellers_interval_ends_where_the_t_test_becomes_significant(seed, n):
    rng = np.random.default_rng(seed)
    second = rng.normal(40, 2, size=n)
    first = 1.3 * second + rng.normal(0, 2, size=n)
    low, high = fieller_interval(first, second)
    if np.isinf(low):
        assert stats.ttest_1samp(second, 0).pvalue >= 0.05
        return
    for bound in (low, high):
        assert stats.ttest_1samp(first - bound * second, 0).pvalue == pytest.approx(0.05)
    assert low <= first.mean() / second.mean() <= high


def test_fiellers_interval_of_too_few_is_unknown():
    assert np.isnan(fieller_interval([1.0], [2.0])).all()


def test_alike_differences_have_no_p_value():
    assert np.isnan(one_sided_p_value(np.full(3, 0.7), "greater"))
    assert np.isnan(one_sided_p_value(np.array([1.0]), "less"))


def test_a_t_interval_is_scipys():
    values = np.array([1.0, 2.0, 4.0])
    assert t_interval(values) == pytest.approx(
        tuple(stats.ttest_1samp(values, 0).confidence_interval())
    )
    assert np.isnan(t_interval(values[:1])).all()


@pytest.mark.parametrize("distance", [0.4, 1.0, 3.0])
def test_the_number_of_seeds_has_the_power_and_one_seed_less_has_not(distance):
    spread = np.array([-1.0, 0.0, 1.0])  # standard deviation 1
    seeds = int(seeds_to_decide([distance + spread], alpha=0.05, power=0.8))
    rng = np.random.default_rng(0)

    def power(n):
        draws = rng.normal(distance, 1, size=(20_000, n))
        return (stats.ttest_1samp(draws, 0, axis=1, alternative="greater").pvalue < 0.05).mean()

    assert power(seeds) > 0.79
    assert seeds == 2 or power(seeds - 1) < 0.81


@pytest.mark.parametrize("off", (0.0, 0.2))
def test_so_many_seeds_have_the_power_to_find_equality(off):
    spread, margin = np.array([-1.0, 1.0]) / np.sqrt(2), 0.8
    contrasts = [off + margin + spread, off - margin + spread]
    seeds = int(seeds_to_decide(contrasts, alpha=0.05, power=0.8))
    draws = np.random.default_rng(0).normal(off, 1, size=(20_000, seeds))

    def passes(bound: float, side: str) -> np.ndarray:
        return stats.ttest_1samp(draws, bound, axis=1, alternative=side).pvalue < 0.05

    power = (passes(-margin, "greater") & passes(margin, "less")).mean()
    assert 0.78 < power < 0.86


def test_equal_means_need_infinitely_many_seeds_and_no_spread_gives_nan():
    assert seeds_to_decide([np.array([-1.0, 1.0])], alpha=0.05, power=0.8) == float("inf")
    assert np.isnan(seeds_to_decide([np.full(3, 1.0)], alpha=0.05, power=0.8))
