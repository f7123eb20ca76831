"""Scores by seed, contrasts, intervals and tests; their coverage is in test_coverage.py."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from humanline.tables.statistics.inference import (
    estimate,
    intervals,
    p_value,
    significance,
    variance,
)
from humanline.tables.statistics.multiplicity import holm
from humanline.tables.statistics.scores import (
    Contrast,
    Scores,
    difference,
    log_ratio,
    mean_of,
    pseudo_values,
)


def own(values, seeds=None):
    """Scores of seeds with their own prompts."""
    return Scores(tuple(seeds or range(len(values))), np.asarray(values, dtype=float), floor=0.1)


def shared(matrix):
    """A contrast of means over prompts, (S, P), each prompt a group."""
    n = matrix.shape[1]
    left_out = (matrix.sum(axis=1, keepdims=True) - matrix) / (n - 1)
    values = matrix.mean(axis=1)
    return Contrast(tuple(range(len(matrix))), values, pseudo_values(values, left_out))


def crossed(seeds, prompts, noise, shape=(4, 30)):
    rng = np.random.default_rng(3)
    parts = seeds * rng.normal(size=(shape[0], 1)) + prompts * rng.normal(size=(1, shape[1]))
    return 1 + parts + noise * rng.normal(size=shape)


def test_with_own_prompts_all_is_students_t_over_seeds():
    contrast = difference(own([54, 57, 52]), own([50, 55, 49]))
    expected = stats.ttest_1samp([4, 2, 3], 0)
    found = estimate(contrast)
    assert found.value == 3
    assert found.standard_error == pytest.approx(stats.sem([4, 2, 3]))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert p_value(contrast) == pytest.approx(expected.pvalue)
    for side in ("greater", "less"):
        one_sided = stats.ttest_1samp([4, 2, 3], 2.5, alternative=side).pvalue
        assert p_value(contrast, 2.5, side) == pytest.approx(one_sided)


def test_comparisons_are_on_the_seeds_that_both_have():
    contrast = difference(own([1, 2, 4, 8], (21, 22, 23, 24)), own([5, 7, 9], (22, 24, 30)))
    assert contrast.seeds == (22, 24)
    assert list(contrast.values) == [-3, 1]
    nothing = difference(own([1.0], [1]), own([1.0], [2]))
    assert np.isnan(estimate(nothing).value) and np.isnan(p_value(nothing))


def test_a_ratio_is_of_geometric_means_with_an_interval_around_it():
    value, low, high = estimate(log_ratio(own([20, 30, 45]), own([10, 20, 25]))).exponential
    assert value == pytest.approx((2 * 1.5 * 1.8) ** (1 / 3))
    assert 0 < low < value < high


def test_a_score_of_zero_counts_as_half_a_prompt_in_a_ratio():
    zero = own([0.0, 30.0])
    assert zero.floored == 1
    assert log_ratio(zero, own([10.0, 30.0])).values == pytest.approx([np.log(0.01), 0])
    assert list(difference(zero, own([10.0, 30.0])).values) == [-10, 0]


def test_a_mean_of_contrasts_is_taken_seed_by_seed_on_their_common_seeds():
    found = mean_of([own([1, 2, 3], (1, 2, 3)).itself, own([5, 9], (3, 2)).on((2, 3)).itself])
    assert found.seeds == (2, 3)
    assert list(found.values) == [5.5, 4]


def test_a_mean_of_contrasts_has_the_mean_of_their_pseudo_values():
    one, two = shared(crossed(1, 1, 1)), shared(crossed(2, 0, 1))
    assert mean_of([one, two]).pseudo == pytest.approx((one.pseudo + two.pseudo) / 2)


def test_pseudo_values_of_means_are_the_groups_own_values():
    matrix = crossed(1, 1, 1)
    assert shared(matrix).pseudo == pytest.approx(matrix)


def test_shared_prompts_add_their_variance():
    """Of a mean over 400 prompts of variance 9 that all seeds share."""
    matrix = crossed(seeds=0.2, prompts=3, noise=1, shape=(5, 400))
    found = variance(shared(matrix).values, shared(matrix).pseudo)
    assert found.prompts == pytest.approx(9 / 400, rel=0.2)
    assert found.seeds == pytest.approx(matrix.mean(axis=1).var(ddof=1) / 5)


def test_prompts_never_take_variance_away():
    """Prompts that differ by less than chance: their component would be negative."""
    matrix = np.array([[1.0, 0, 1, 0], [0, 1, 0, 1], [5, 5, 5, 5]])
    alone = estimate(Contrast((0, 1, 2), matrix.mean(axis=1)))
    assert estimate(shared(matrix)) == alone
    values = np.array([0.5, 0.5, 5.0])
    assert p_value(shared(matrix)) == pytest.approx(p_value(Contrast((0, 1, 2), values)))


@settings(max_examples=30, deadline=None)
@given(st.floats(0.001, 0.499), st.sampled_from([None, (1, 1, 1), (0.1, 3, 1), (3, 0.1, 1)]))
def test_an_interval_ends_where_the_test_becomes_significant(tail, parts):
    contrast = own([3, 5, 4]).itself if parts is None else shared(crossed(*parts))
    found = estimate(contrast, level=1 - 2 * tail)
    assert p_value(contrast, found.low, "greater") == pytest.approx(tail, rel=1e-6)
    assert p_value(contrast, found.high, "less") == pytest.approx(tail, rel=1e-6)
    assert p_value(contrast, found.low, "less") == pytest.approx(1 - tail)
    assert p_value(contrast, found.high) == pytest.approx(2 * tail, rel=1e-6)


@pytest.mark.parametrize("has_own_prompts", [True, False])
@pytest.mark.parametrize("compare", [difference, log_ratio])
def test_many_studies_at_once_are_as_one_by_one(has_own_prompts, compare):
    """Two pairs of cells, averaged; one study does not vary, and its prompts add nothing."""
    rng, seeds = np.random.default_rng(7), (1, 2, 3, 4)
    values = rng.uniform(20, 60, (4, 5, 4))
    left_out = (
        values[..., None] + rng.normal(0, 0.2, (4, 5, 1, 6)) + rng.normal(0, 0.1, (4, 5, 4, 6))
    )
    values[:, 0], left_out[:, 0] = 30.0, 30.0

    def mean(*study: int) -> Contrast:
        cells = [
            Scores(seeds, values[cell, *study], None if has_own_prompts else left_out[cell, *study])
            for cell in range(4)
        ]
        return mean_of([compare(*cells[:2]), compare(*cells[2:])]).on((4, 2, 1))

    for side, null in (("two-sided", 0.1), ("greater", 0.0), ("less", -0.1)):
        expected = [p_value(mean(study), null, side) for study in range(5)]
        assert significance(mean(), null, side) == pytest.approx(expected, rel=1e-6, nan_ok=True)
    found = np.transpose(intervals(mean(), 0.9))
    for study, numbers in enumerate(found):
        own = estimate(mean(study), 0.9)
        assert (own.value, own.standard_error, own.low, own.high) == pytest.approx(tuple(numbers))
    one = Contrast((1,), np.ones((5, 1)))
    assert np.isnan(significance(one)).all() and np.isnan(intervals(one)[1:]).all()


def test_one_seed_tells_nothing_but_its_value():
    found = estimate(own([5.0]).itself)
    assert found.value == 5
    assert np.isnan([found.standard_error, found.low, found.high]).all()
    assert np.isnan(p_value(own([5.0]).itself))


@pytest.mark.parametrize(
    ("values", "two_sided", "one_sided"),
    [
        ([0.0, 0.0], 1.0, 0.5),
        ([0.1 + 0.2 - 0.3, 0.0], 1.0, 0.5),  # equal up to rounding
        ([0.6 - 0.5, 0.8 - 0.7], np.nan, np.nan),  # so are these
    ],
)
def test_values_that_do_not_vary_make_no_test(values, two_sided, one_sided):
    contrast = own(values).itself
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert p_value(contrast) == pytest.approx(two_sided, nan_ok=True)
        assert p_value(contrast, 0.0, "greater") == pytest.approx(one_sided, nan_ok=True)
        found = estimate(contrast)
    assert found.low == found.high == found.value


def test_shared_prompts_are_not_compared_with_own():
    groups = Scores((1, 2), np.array([1.0, 2.0]), np.ones((2, 4)))
    with pytest.raises(ValueError, match="cannot be compared"):
        difference(groups, own([1.0, 2.0], (1, 2)))
    assert difference(groups, own([1.0], [1])).pseudo is None  # a single seed: nothing is inferred


def test_holm_by_hand():
    """0.01 x 4; 0.02 x 3; then max(0.06, 0.03 x 2) and max(0.06, 0.04)."""
    assert holm([0.02, 0.01, 0.04, 0.03]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    unknown = [[0.02, np.nan], [np.nan, np.nan], [0.3, 0.7]]
    expected = [[0.04, np.nan], [np.nan, np.nan], [0.6, 0.7]]
    assert holm(unknown) == pytest.approx(np.array(expected), nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_that_of_statsmodels_and_keeps_the_order_of_p_values(values):
    from statsmodels.stats.multitest import multipletests

    corrected = holm(values)
    assert corrected == pytest.approx(multipletests(values, method="holm")[1])
    assert (corrected >= np.array(values) - 1e-15).all() and (corrected <= 1).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(corrected[order]) >= -1e-15).all()
