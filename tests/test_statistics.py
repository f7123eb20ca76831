import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from humanline.statistics import (
    Estimate,
    difference,
    hierarchical_weights,
    paired_p_value,
    percentile_interval,
    prompt_means,
    ratio,
)

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
