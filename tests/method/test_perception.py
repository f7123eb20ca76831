import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from humanline.method.perception import (
    Clipping,
    ExtremesRejection,
    Rejection,
    SecondMoment,
    apart,
    clip,
    identity,
    passing,
)
from humanline.method.prospect_theory import acceptance_probability

log_ratios = st.lists(st.floats(-5, 5), min_size=1, max_size=12).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)
lower_bounds = st.none() | st.floats(-3, -0.01)
upper_bounds = st.none() | st.floats(0.01, 3)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def gradient_of_clip(log_ratio, log_eps_p, log_eps_r):
    leaf = log_ratio.clone().requires_grad_()
    clip(leaf, log_eps_p, log_eps_r).sum().backward()
    return leaf.grad


@pytest.mark.parametrize(
    ("log_eps_p", "log_eps_r", "values", "gradient"),
    [
        (-1.0, 1.5, [-1.0, -1.0, 0.3, 1.5, 1.5], [0, 1, 1, 1, 0]),
        (None, 1.5, [-4.0, -1.0, 0.3, 1.5, 1.5], [1, 1, 1, 1, 0]),
        (-1.0, None, [-1.0, -1.0, 0.3, 1.5, 4.0], [0, 1, 1, 1, 1]),
        (None, None, [-4.0, -1.0, 0.3, 1.5, 4.0], [1, 1, 1, 1, 1]),
    ],
)
def test_clip_keeps_values_and_gradients_within_closed_bounds(
    log_eps_p, log_eps_r, values, gradient
):
    log_ratio = tensor([-4.0, -1.0, 0.3, 1.5, 4.0])
    assert clip(log_ratio, log_eps_p, log_eps_r).tolist() == values
    assert gradient_of_clip(log_ratio, log_eps_p, log_eps_r).tolist() == gradient


@settings(deadline=None)
@given(log_ratios, lower_bounds, upper_bounds)
def test_clip_is_idempotent_and_stays_within_bounds(log_ratio, low, high):
    once = clip(log_ratio, low, high)
    assert torch.equal(clip(once, low, high), once)
    assert low is None or once.min() >= low
    assert high is None or once.max() <= high


def unclipped_fraction(log_ratio, mask, low, high):
    """The share of the tokens that pass a gradient."""
    return passing(log_ratio, mask, Clipping(low, high)).sum() / mask.bool().sum()


@settings(deadline=None)
@given(log_ratios, lower_bounds, upper_bounds)
def test_unclipped_fraction_is_the_share_of_tokens_with_a_gradient(log_ratio, low, high):
    fraction = unclipped_fraction(log_ratio, torch.ones_like(log_ratio), low, high)
    expected = gradient_of_clip(log_ratio, low, high).mean()
    assert fraction.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 0.0])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_unclipped_fraction_ignores_what_is_masked(garbage, dtype):
    """Of the three tokens under the mask, one lies below -1: two thirds are unclipped."""
    log_ratio = tensor([[-2.0, 0.5, garbage], [1.0, garbage, garbage]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]]).to(dtype)
    assert unclipped_fraction(log_ratio, mask, -1.0, 1.5).item() == pytest.approx(2 / 3)


def test_unclipped_fraction_of_nothing_is_nan():
    assert unclipped_fraction(tensor([0.5]), torch.zeros(1), -1.0, 1.5).isnan()


@settings(deadline=None)
@given(log_ratios, lower_bounds, upper_bounds)
def test_clipping_is_clip_with_its_bounds_and_perceives_zero_as_zero(log_ratio, low, high):
    perceive = Clipping(low, high)
    assert torch.equal(perceive(log_ratio), clip(log_ratio, low, high))
    assert torch.equal(perceive(torch.zeros(3)), torch.zeros(3))


def test_identity_and_clipping_without_bounds_change_nothing():
    log_ratio = tensor([-9.0, 0.0, 9.0])
    assert torch.equal(identity(log_ratio), log_ratio)
    assert torch.equal(Clipping(None, None)(log_ratio), log_ratio)


@pytest.mark.parametrize(
    ("log_eps_p", "log_eps_r", "message"),
    [
        (0.1, 1.5, "log_eps_p must be at most 0; got 0.1"),
        (-1.0, -0.5, "log_eps_r must be at least 0; got -0.5"),
        (1.5, -1.0, "log_eps_p must be at most 0"),
        (0.0, 0.0, "log_eps_p must be less than log_eps_r"),
        (math.nan, 1.5, "log_eps_p must be finite"),
        (-math.inf, 1.5, "log_eps_p must be finite"),
        (-1.0, math.nan, "log_eps_r must be finite"),
        (-1.0, math.inf, "log_eps_r must be finite"),
    ],
)
def test_clipping_names_the_bound_that_makes_no_sense(log_eps_p, log_eps_r, message):
    with pytest.raises(ValueError, match=message):
        Clipping(log_eps_p, log_eps_r)


@pytest.mark.parametrize(("log_eps_p", "log_eps_r"), [(0.0, 1.5), (-1.0, 0.0), (None, 0.0)])
def test_clipping_may_have_zero_as_a_bound(log_eps_p, log_eps_r):
    Clipping(log_eps_p, log_eps_r)


def test_clipping_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Clipping(-1.0, 1.5).log_eps_p = -2.0


def passes(perceive, log_ratio):
    """Which log-ratios keep a gradient, as zeros and ones."""
    leaf = log_ratio.clone().requires_grad_()
    perceive(leaf).sum().backward()
    return leaf.grad


@settings(deadline=None)
@given(log_ratios, lower_bounds, upper_bounds, st.floats(0.1, 100), st.integers(0, 99))
def test_a_rejected_token_keeps_its_value_and_loses_its_gradient(log_ratio, low, high, gamma, seed):
    perceive = Rejection(low, high, gamma, gamma)
    assert torch.equal(perceive.drawn([seed])(log_ratio), log_ratio)
    assert set(passes(perceive.drawn([seed]), log_ratio).tolist()) <= {0.0, 1.0}
    assert torch.equal(
        passes(perceive.drawn([seed]), log_ratio), passes(perceive.drawn([seed]), log_ratio)
    )


@settings(deadline=None)
@given(log_ratios, lower_bounds, upper_bounds, st.integers(0, 99))
def test_the_deterministic_limit_of_rejection_is_clipping(log_ratio, low, high, seed):
    """Theorem 4.3: with draws at their means, the same tokens pass a gradient."""
    near_a_bound = sum(
        (log_ratio - bound).abs() < 1e-6 for bound in (low, high) if bound is not None
    )
    log_ratio = log_ratio.masked_fill(torch.as_tensor(near_a_bound).bool(), 0.0)
    limit = Rejection(low, high, 1e9, 1e9).drawn([seed])
    assert torch.equal(passes(limit, log_ratio), gradient_of_clip(log_ratio, low, high))


@pytest.mark.parametrize("gamma", [0.5, 2.0, 20.0])
def test_rejection_is_as_likely_as_the_beta_distribution_says(gamma):
    """P(ratio < M B) with B ~ Beta(gamma, 1) is 1 - (ratio / M)^gamma, M = bound / mean."""
    bounds, mean = (-1.0, 1.5), gamma / (gamma + 1)
    perceive = Rejection(*bounds, gamma, gamma)
    for seed, (log_ratio, log_m) in enumerate([(-1.05, -1.0), (-0.95, -1.0), (1.55, -1.5)]):
        kept = passes(perceive.drawn([seed]), torch.full((40_000,), log_ratio)).mean().item()
        distance = -abs(log_ratio)  # of the side that the test is about
        expected = min(1.0, (math.exp(distance - log_m) * mean) ** gamma)
        assert kept == pytest.approx(expected, abs=0.02)


def test_other_seeds_draw_other_bounds():
    perceive = Rejection(-1.0, 1.0, 1.0, 1.0)
    log_ratio = torch.linspace(-3, 3, 200)
    assert not torch.equal(
        passes(perceive.drawn([1, 2]), log_ratio), passes(perceive.drawn([2, 1]), log_ratio)
    )


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.nan])
def test_rejection_needs_positive_gammas(gamma):
    with pytest.raises(ValueError, match="gamma_r must be positive"):
        Rejection(-1.0, 1.0, 1.0, gamma)


@settings(deadline=None)
@given(log_ratios, lower_bounds, upper_bounds, st.floats(0.1, 100), st.floats(0.1, 100))
def test_the_chance_to_pass_is_that_of_the_theory(log_ratio, low, high, gamma_p, gamma_r):
    perceive = Rejection(low, high, gamma_p, gamma_r).drawn([0])
    expected = acceptance_probability(log_ratio.numpy(), low, high, gamma_p, gamma_r)
    found = passing(log_ratio, torch.ones_like(log_ratio), perceive)
    torch.testing.assert_close(found, torch.as_tensor(expected))


class TestTheAuthorsSampling:
    """Reject if exp(-r) < M_R B_R or exp(r) < M_P B_P, with gammas 0.01 (R) and 0.50 (P)."""

    authors = ExtremesRejection(gamma_p=0.5, gamma_r=0.01)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_by_hand(self, dtype):
        """Of -1, 0 and 0.5, M_P is e^0.5 and M_R is e^1. As P(B < b) = b^gamma, the chances are

        -1: (e^-1 / e^0.5)^0.5 (e^1 / e^1)^0.01 = e^-0.75
        0: (1 / e^0.5)^0.5 (1 / e^1)^0.01 = e^-0.26
        0.5: (e^0.5 / e^0.5)^0.5 (e^-0.5 / e^1)^0.01 = e^-0.015
        """
        log_ratio = tensor([[-1.0, 0.0, 0.5]]).to(dtype).expand(40_000, 3)
        expected = torch.exp(tensor([-0.75, -0.26, -0.015]))
        perceive = self.authors.drawn([7])
        kept = passes(perceive, log_ratio).mean(0)
        assert kept.tolist() == pytest.approx(expected.tolist(), abs=0.01)
        chances = passing(log_ratio[0], torch.ones(3), perceive)
        assert chances.tolist() == pytest.approx(expected.tolist(), rel=1e-6)

    def test_padding_counts_as_in_the_authors_code(self):
        """All ratios are below 1, but that of padding is 1: M_P = 1, and M_R = e^2.

        -1: (e^-1)^0.5 (e^1 / e^2)^0.01 = e^-0.51;  -2: e^-1 (e^2 / e^2)^0.01 = e^-1
        """
        log_ratio, mask = tensor([[-1.0, -2.0, math.nan]]), torch.tensor([[1, 1, 0]])
        found = passing(log_ratio, mask, self.authors)
        assert found[0].tolist() == pytest.approx([math.exp(-0.51), math.exp(-1), 0])

    @settings(deadline=None)
    @given(log_ratios, st.integers(0, 99))
    def test_values_stay_and_draws_are_of_the_seed(self, log_ratio, seed):
        assert torch.equal(self.authors.drawn([seed])(log_ratio), log_ratio)
        first, again = (passes(self.authors.drawn([seed]), log_ratio) for _ in range(2))
        assert torch.equal(first, again) and set(first.tolist()) <= {0.0, 1.0}

    @settings(deadline=None)
    @given(log_ratios)
    def test_the_extreme_tokens_are_never_rejected_on_their_own_side(self, log_ratio):
        upper = ExtremesRejection(gamma_p=0.5, gamma_r=1e-9)  # the other side rejects nothing
        highest = log_ratio.argmax()
        if log_ratio[highest] >= 0:
            assert passes(upper.drawn([1]), log_ratio)[highest] == 1

    def test_without_movement_nothing_is_rejected(self):
        assert passes(self.authors.drawn([1]), torch.zeros(1000)).min() == 1

    def test_chosen_and_rejected_have_maxima_of_their_own(self):
        is_first = torch.tensor([True, False, True, False])
        log_ratio = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
        parts = apart(self.authors.drawn([3]), is_first)
        one_by_one = self.authors.drawn([3])
        expected = torch.empty_like(log_ratio)
        expected[is_first] = passes(one_by_one, log_ratio[is_first])
        expected[~is_first] = passes(one_by_one, log_ratio[~is_first])
        assert torch.equal(passes(parts, log_ratio), expected)
        assert torch.equal(parts(log_ratio), log_ratio)

    @pytest.mark.parametrize("first", [[True] * 3, [False] * 3])
    def test_a_batch_may_be_of_one_label_alone(self, first):
        log_ratio = torch.randn(3, 2)
        parts = apart(self.authors.drawn([3]), torch.tensor(first))
        assert torch.equal(parts(log_ratio), log_ratio)

    def test_gammas_must_be_positive(self):
        with pytest.raises(ValueError, match="gamma_p must be positive; got -1"):
            ExtremesRejection(-1.0, 0.01)


class TestTheSecondMoment:
    def test_by_hand(self):
        """Squares 0.01, 0.04, 0.09 and 1; their running means are 0.01, 0.025, 0.047 and 0.285."""
        log_ratio = tensor([[0.2, -1.0, 0.0], [-0.1, 0.3, 0.0]])
        passed = SecondMoment(0.04).passing(log_ratio)
        assert passed.tolist() == [[1, 0, 1], [1, 0, 1]]
        assert torch.equal(passes(SecondMoment(0.04), log_ratio), passed)
        assert torch.equal(SecondMoment(0.04)(log_ratio), log_ratio)

    @settings(deadline=None)
    @given(log_ratios, st.floats(1e-3, 10))
    def test_the_rest_is_within_the_limit_and_largest_where_it_can_be(self, log_ratio, limit):
        passed = SecondMoment(limit).passing(log_ratio).bool()
        moved = log_ratio[passed & (log_ratio.square() > 0)].square()
        assert not len(moved) or moved.mean() <= limit * (1 + 1e-9)
        if not passed.all():
            largest_kept = moved.max() if len(moved) else 0
            smallest_rejected = log_ratio[~passed].square().min()
            equals = log_ratio.square() == smallest_rejected
            assert smallest_rejected > largest_kept
            assert torch.cat([moved, log_ratio[equals].square()]).mean() > limit

    def test_a_limit_must_be_positive(self):
        with pytest.raises(ValueError, match="limit must be positive; got 0"):
            SecondMoment(0.0)
