import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from humanline.tables.statistics import (
    Estimate,
    difference,
    fieller_interval,
    hierarchical_weights,
    holm,
    one_sided_p_value,
    paired_p_value,
    percentile_interval,
    prompt_means,
    ratio,
    seeds_to_decide,
    t_interval,
)

pytestmark = pytest.mark.usefixtures("frozen_heap")
sizes = st.integers(1, 12)


def estimate(values, weights):
    """The mean of values (S, P), as a cell's statistic."""
    seed_counts, prompt_counts = weights
    return Estimate.from_runs(values.mean(axis=1), prompt_means(values, prompt_counts), seed_counts)


@settings(max_examples=30, deadline=None)
@given(n_seeds=sizes, n_prompts=sizes, replicates=sizes, rng_seed=st.integers(0, 99))
def test_every_replicate_has_as_many_seeds_and_prompts_as_the_data(
    n_seeds, n_prompts, replicates, rng_seed
):
    rng = np.random.default_rng(rng_seed)
    seeds, prompts = hierarchical_weights(n_seeds, n_prompts, replicates, rng)
    assert seeds.shape == (replicates, n_seeds)
    assert prompts.shape == (replicates, n_prompts)
    assert (seeds.sum(axis=1) == n_seeds).all()
    assert (prompts.sum(axis=1) == n_prompts).all()
    assert (seeds >= 0).all() and (prompts >= 0).all()


def test_a_replicate_weights_seeds_and_prompts_by_their_counts():
    values = np.array([[1.0, 2.0], [3.0, 5.0]])
    weights = np.array([[2, 0], [1, 1]]), np.array([[1, 1], [0, 2]])
    # First: seed 0 twice, prompts once each. Second: both seeds, prompt 1 twice.
    np.testing.assert_allclose(estimate(values, weights).replicates, [1.5, (2.0 + 5.0) / 2])
    assert estimate(values, weights).value == 2.75


def test_with_one_seed_the_standard_error_is_that_of_the_prompts():
    values = np.random.default_rng(0).normal(size=(1, 400))
    weights = hierarchical_weights(1, 400, 4000, np.random.default_rng(1))
    assert estimate(values, weights).standard_error == pytest.approx(
        values.std() / np.sqrt(400), rel=0.05
    )


def test_intervals_cover_a_known_mean_in_about_95_of_100_cases():
    # Crossed random effects of seed and prompt besides noise, with many of both.
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(300):
        seeds, prompts = rng.normal(size=(30, 1)), rng.normal(size=(1, 60))
        values = 2 + seeds + prompts + rng.normal(size=(30, 60))
        low, high = estimate(values, hierarchical_weights(30, 60, 400, rng)).interval
        covered += low <= 2 <= high
    assert 0.91 <= covered / 300 <= 0.98


def test_identical_cells_have_ratio_one_and_no_difference_without_spread():
    values = np.random.default_rng(0).uniform(0.1, 0.9, size=(3, 50))
    weights = hierarchical_weights(3, 50, 500, np.random.default_rng(1))
    first, second = estimate(values, weights), estimate(values.copy(), weights)
    assert ratio(first, second) == (1.0, 1.0, 1.0)
    assert difference(first, second) == (0.0, 0.0, 0.0)


def test_pairing_cancels_what_cells_have_in_common():
    rng = np.random.default_rng(0)
    hard, gain = rng.normal(size=(3, 50)), rng.normal(0.5, 0.01, size=(3, 50))
    weights = hierarchical_weights(3, 50, 500, rng)
    _, low, high = difference(estimate(hard + gain, weights), estimate(hard, weights))
    assert 0.49 < low < high < 0.51


def test_percentile_interval_is_central():
    assert percentile_interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert percentile_interval(np.arange(101.0), level=0.5) == (25.0, 75.0)


def test_a_ratio_to_zero_is_nan_without_warnings():
    one, zero = Estimate(np.ones(2), np.ones(4)), Estimate(np.zeros(2), np.array([0.0, 1, 1, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(ratio(one, zero)).all()


def test_p_values_are_those_of_a_paired_t_test():
    first, second = np.array([0.54, 0.57, 0.52]), np.array([0.50, 0.55, 0.49])
    gain = first - second
    t = gain.mean() / (gain.std(ddof=1) / np.sqrt(3))
    assert paired_p_value(first, second) == pytest.approx(2 * stats.t.sf(t, df=2))
    assert paired_p_value(first, second, "greater") == pytest.approx(stats.t.sf(t, df=2))
    assert paired_p_value(second, first, "greater") == pytest.approx(stats.t.cdf(t, df=2))


@pytest.mark.parametrize(
    ("first", "second", "two_sided", "one_sided"),
    [
        ([0.5, 0.7], [0.5, 0.7], 1.0, 0.5),
        ([0.1 + 0.2, 0.7], [0.3, 0.7], 1.0, 0.5),  # equal up to rounding
        ([0.6, 0.8], [0.5, 0.7], np.nan, np.nan),  # so are these differences
        ([0.0, 0.0], [0.0, 0.0], 1.0, 0.5),
        ([0.5], [0.7], np.nan, np.nan),
    ],
)
def test_differences_that_do_not_vary_make_no_t_test(first, second, two_sided, one_sided):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paired_p_value(first, second) == pytest.approx(two_sided, nan_ok=True)
        assert paired_p_value(first, second, "greater") == pytest.approx(one_sided, nan_ok=True)


def test_holm_by_hand():
    """0.01 x 4; 0.02 x 3; then max(0.06, 0.03 x 2) and max(0.06, 0.04)."""
    assert holm([0.02, 0.01, 0.04, 0.03]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    unknown = holm([0.02, np.nan])
    assert unknown[0] == pytest.approx(0.04) and np.isnan(unknown[1])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(values):
    corrected = holm(values)
    assert (corrected >= np.array(values) - 1e-15).all() and (corrected <= 1).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(corrected[order]) >= -1e-15).all()


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
