"""Prospect theory's functions: their known values, shapes, and how humanline follows from them."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from humanline.method.perception import Clipping, Rejection
from humanline.method.prospect_theory import (
    GAMMA_GAINS,
    GAMMA_LOSSES,
    acceptance_probability,
    capacity,
    capacity_distance,
    clipping_acceptance,
    decision_weights,
    implied_capacity,
    subjective_utility,
    utility_bound,
    value,
)

gammas = st.floats(0.3, 1.0)  # below, the capacity function is not monotone
bounds = st.none() | st.floats(0.01, 3.0)
concentrations = st.floats(0.2, 50.0)
outcomes = st.lists(st.floats(-5, 5), min_size=1, max_size=12)
GRID = np.linspace(0, 1, 201)


def margin(p: np.ndarray, n: int) -> np.ndarray:
    """How far the frequency of n draws may be from p: five standard errors and 12 draws.

    Standard errors alone will not do where less than one hit is expected: a single one is then many
    of them off, and a right formula fails now and then. With 12 draws more it does not.
    """
    return 5 * np.sqrt(p * (1 - p) / n) + 12 / n


def distribution(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(size))


class TestValue:
    def test_by_hand(self):
        """4^0.5 = 2, and a loss as large counts 2.25 times."""
        assert value([4, 0, -4], alpha=0.5) == pytest.approx([2, 0, -4.5])
        assert value(3, reference_point=1, alpha=1, loss_aversion=2) == pytest.approx(2)

    @given(outcomes, st.floats(-2, 2), st.floats(0.1, 1), st.floats(1, 4))
    def test_it_rises_and_losses_loom_larger(self, z, reference, alpha, aversion):
        options = {"reference_point": reference, "alpha": alpha, "loss_aversion": aversion}
        ordered = value(np.sort(z), **options)
        assert (np.diff(ordered) >= -1e-12).all()
        away = np.abs(np.array(z))
        gains, losses = value(reference + away, **options), value(reference - away, **options)
        assert np.allclose(losses, -aversion * gains, atol=1e-9)
        assert value(reference, **options) == 0

    @pytest.mark.parametrize(
        "options",
        [{"alpha": 0}, {"alpha": 1.1}, {"loss_aversion": 0.9}, {"reference_point": math.nan}],
    )
    def test_bad_constants_are_named(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            value([1.0], **options)

    def test_nan_is_no_outcome(self):
        with pytest.raises(ValueError, match="z must be without nan"):
            value([1.0, math.nan])


class TestCapacity:
    def test_by_hand(self):
        """Half with g = 0.5: 0.7071 / (2 x 0.7071)^2 = 0.7071 / 2 = 0.3536."""
        assert capacity(0.5, 0.5) == pytest.approx(0.35355339)
        # Tversky and Kahneman's 0.61 turns 0.01 into about 0.055 and 0.99 into about 0.91.
        assert capacity([0.01, 0.99], 0.61) == pytest.approx([0.0553, 0.9116], abs=1e-3)

    def test_half_feels_like_less(self):
        """At a = 1/2 the formula is 2^-g / (2 x 2^-g)^(1/g) = 2^(1 - g - 1/g).

        For the gains of Tversky and Kahneman 2^(1 - 0.61 - 1.63934) = 2^-1.24934 = 0.42064, for
        losses 2^(1 - 0.69 - 1.44928) = 2^-1.13928 = 0.45399.
        """
        assert capacity(0.5, GAMMA_GAINS) == pytest.approx(0.42064, abs=1e-5)
        assert capacity(0.5, GAMMA_LOSSES) == pytest.approx(0.45399, abs=1e-5)

    @given(gammas)
    def test_it_rises_from_0_to_1(self, gamma):
        curve = capacity(GRID, gamma)
        assert curve[0] == 0 and curve[-1] == 1
        assert (np.diff(curve) >= -1e-12).all()

    @given(st.floats(0.3, 0.95))
    def test_it_overweights_the_extremes_and_underweights_the_typical(self, gamma):
        assert capacity(1e-4, gamma) > 1e-4
        assert capacity(1 - 1e-4, gamma) < 1 - 1e-4
        assert capacity(0.8, gamma) < 0.8

    def test_with_gamma_1_it_is_the_identity(self):
        assert capacity(GRID, 1.0) == pytest.approx(GRID)

    def test_bad_input_is_named(self):
        for arguments, name in (((0.5, 0.0), "gamma"), ((1.5, 0.5), "a must"), ((-0.1, 0.5), "a")):
            with pytest.raises(ValueError, match=name):
                capacity(*arguments)


class TestDecisionWeights:
    def test_by_hand(self):
        """Gains 2 and 1 and a loss, a third each: the best gain first, then the gain less it."""
        weights = decision_weights([1, 2, -1], [1 / 3] * 3, gamma_gains=0.5, gamma_losses=0.7)
        best, gain, loss = capacity(1 / 3, 0.5), capacity(2 / 3, 0.5), capacity(1 / 3, 0.7)
        assert weights == pytest.approx([gain - best, best, loss])

    def test_losses_by_hand(self):
        """The worst first, then the other less it: ranks run from either extreme inwards."""
        weights = decision_weights([-1, -3], [0.6, 0.4], gamma_gains=0.5, gamma_losses=0.7)
        assert weights == pytest.approx([1 - capacity(0.4, 0.7), capacity(0.4, 0.7)])

    def test_the_reference_point_says_what_is_a_gain(self):
        """With z0 = 1.5 the 1 is the only loss and the 2 the only gain; z0 itself is a gain."""
        options = {"gamma_gains": 0.5, "gamma_losses": 0.7}
        weights = decision_weights([1, 2], [0.4, 0.6], reference_point=1.5, **options)
        assert weights == pytest.approx([capacity(0.4, 0.7), capacity(0.6, 0.5)])
        weights = decision_weights([2, 1], [0.5, 0.5], reference_point=2, **options)
        assert weights == pytest.approx([capacity(0.5, 0.5), capacity(0.5, 0.7)])

    @given(outcomes, st.integers(0, 999), gammas, gammas)
    def test_they_sum_to_the_capacities_of_gaining_and_of_losing(self, z, seed, gain, loss):
        p = distribution(len(z), seed)
        weights = decision_weights(z, p, gamma_gains=gain, gamma_losses=loss)
        gains = np.array(z) >= 0
        # Near 1 the capacity is so steep that the rounding of a sum shows.
        for side, gamma in ((gains, gain), (~gains, loss)):
            expected = capacity(min(p[side].sum(), 1), gamma)
            assert weights[side].sum() == pytest.approx(expected, abs=1e-4)
        assert (weights >= -1e-12).all()

    @given(outcomes, st.integers(0, 999))
    def test_with_gamma_1_they_are_the_probabilities(self, z, seed):
        p = distribution(len(z), seed)
        assert decision_weights(z, p, gamma_gains=1, gamma_losses=1) == pytest.approx(p)

    @given(outcomes, st.integers(0, 999), st.integers(0, 11))
    def test_an_outcome_may_be_given_in_two_halves(self, z, seed, index):
        p = distribution(len(z), seed)
        index %= len(z)
        halves = p.copy()
        halves[index] /= 2
        split = decision_weights([*z, z[index]], [*halves, halves[index]])
        whole = decision_weights(z, p)
        assert split[index] + split[-1] == pytest.approx(whole[index])
        assert split[index] == pytest.approx(split[-1])

    @given(outcomes, st.integers(0, 999), st.randoms())
    def test_their_order_does_not_matter(self, z, seed, shuffle):
        p = distribution(len(z), seed)
        order = list(range(len(z)))
        shuffle.shuffle(order)
        expected = decision_weights(z, p)[order]
        assert decision_weights(np.array(z)[order], p[order]) == pytest.approx(expected)

    def test_utility_of_a_sure_thing_is_its_value(self):
        assert subjective_utility([3.0], [1.0]) == pytest.approx(value(3.0))
        assert subjective_utility([3.0, 9.0], [1.0, 0.0]) == pytest.approx(value(3.0))

    def test_utility_by_hand(self):
        """z0 = 1, so 5 gains 4 and -3 loses 4: 0.3536 x 4^0.5 - 0.5 x 2 x 4^0.5 = -1.2929."""
        utility = subjective_utility(
            [5, -3],
            [0.5, 0.5],
            reference_point=1,
            alpha=0.5,
            loss_aversion=2,
            gamma_gains=0.5,
            gamma_losses=1,
        )
        assert utility == pytest.approx(-1.292893, abs=1e-6)

    def test_bad_input_is_named(self):
        with pytest.raises(ValueError, match="probabilities"):
            decision_weights([1, 2], [0.5, 0.6])
        with pytest.raises(ValueError, match="probabilities"):
            decision_weights([1, 2], [1.5, -0.5])
        with pytest.raises(ValueError, match="outcomes"):
            decision_weights([1, 2, 3], [0.5, 0.5])
        with pytest.raises(ValueError, match="outcomes must be without nan"):
            decision_weights([1, math.nan], [0.5, 0.5])
        with pytest.raises(ValueError, match="reference_point"):
            decision_weights([1, 2], [0.5, 0.5], reference_point=math.inf)


class TestUtilityBound:
    @settings(max_examples=300)
    @given(st.integers(2, 20), st.integers(0, 2**31), st.floats(0.05, 5))
    def test_it_is_never_broken(self, size, seed, spread):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=size, scale=spread)
        p, q = (rng.dirichlet(np.full(size, spread)) + 1e-12 for _ in range(2))
        p, q = p / p.sum(), q / q.sum()
        weights = decision_weights(z, p)
        omega = weights / weights.sum()
        worth = value(z)
        delta = utility_bound(omega, q, np.abs(worth).max())
        assert abs(omega @ worth - q @ worth) <= delta + 1e-9

    def test_by_hand(self):
        """KL((1/2, 1/2) || (1/4, 3/4)) = ln 2 / 2 + ln(2/3) / 2 = 0.14384."""
        bound = utility_bound([0.5, 0.5], [0.25, 0.75], 3.0)
        assert bound == pytest.approx(3 * np.sqrt(2 * 0.1438410))

    def test_no_smaller_bound_would_hold(self):
        """(1/2 + e, 1/2 - e) and (1/2, 1/2), values 1 and -1: 2e apart, KL = 2 e^2 + O(e^4)."""
        omega, worth = np.array([0.51, 0.49]), np.array([1, -1])
        apart = abs(omega @ worth - np.array([0.5, 0.5]) @ worth)
        assert 0.999 < apart / utility_bound(omega, [0.5, 0.5], 1.0) <= 1

    def test_decision_weights_are_no_distribution_before_they_are_divided_by_their_sum(self):
        weights = decision_weights([1, 2, -1], [0.2, 0.3, 0.5])
        with pytest.raises(ValueError, match="perceived must be a distribution"):
            utility_bound(weights, [0.2, 0.3, 0.5], 1.0)
        assert utility_bound(weights / weights.sum(), [0.2, 0.3, 0.5], 1.0) > 0

    def test_bad_input_is_named(self):
        for arguments, name in (
            (([0.5, 0.5], [1.0], 1.0), "sampled"),
            (([0.5, 0.5], [0.5, 0.5], -1.0), "largest_value"),
            (([0.5, 0.5], [0.5, 0.5], math.inf), "largest_value"),
        ):
            with pytest.raises(ValueError, match=name):
                utility_bound(*arguments)

    def test_alike_distributions_leave_nothing_and_missing_ones_everything(self):
        assert utility_bound([0.3, 0.7], [0.3, 0.7], 5.0) == pytest.approx(0)
        assert utility_bound([0.3, 0.7], [0.0, 1.0], 5.0) == np.inf
        assert utility_bound([0.0, 1.0], [0.3, 0.7], 1.0) == pytest.approx(
            np.sqrt(2 * np.log(1 / 0.7))
        )


class TestAcceptance:
    @settings(max_examples=25, deadline=None)
    @given(bounds, bounds, concentrations, concentrations, st.integers(0, 999))
    def test_draws_are_accepted_as_often_as_the_formula_says(self, low, high, g_p, g_r, seed):
        """The paper's test on ratios, with NumPy's Beta draws."""
        log_ratio = np.linspace(-4, 4, 9)
        rng, n = np.random.default_rng(seed), 40_000
        accepted = np.ones((n, 9), dtype=bool)
        for bound, gamma, ratio in ((low, g_p, np.exp(log_ratio)), (high, g_r, np.exp(-log_ratio))):
            if bound is not None:
                m = np.exp(-bound) * (gamma + 1) / gamma
                accepted &= ratio >= m * rng.beta(gamma, 1, size=(n, 1))
        expected = acceptance_probability(log_ratio, None if low is None else -low, high, g_p, g_r)
        assert (np.abs(accepted.mean(0) - expected) <= margin(expected, n)).all()

    @settings(max_examples=10, deadline=None)
    @given(bounds, bounds, concentrations, concentrations, st.integers(0, 999))
    def test_so_often_does_the_trainers_sampling_pass_a_gradient(self, low, high, g_p, g_r, seed):
        n, log_ratio = 20_000, torch.linspace(-4, 4, 9, dtype=torch.float64)
        low = None if low is None else -low
        tokens = log_ratio.repeat(n, 1).requires_grad_()
        Rejection(low, high, g_p, g_r).drawn([seed])(tokens).sum().backward()
        expected = acceptance_probability(log_ratio.numpy(), low, high, g_p, g_r)
        passed = tokens.grad.mean(0).numpy()
        assert (np.abs(passed - expected) <= margin(expected, n)).all()

    @settings(deadline=None)
    @given(st.floats(-3, -0.01), st.floats(0.01, 3), st.integers(0, 999))
    def test_clipping_is_the_limit_gradient_included(self, low, high, seed):
        near = np.array([low, high])
        log_ratio = np.random.default_rng(seed).normal(scale=2, size=200)
        log_ratio = log_ratio[(np.abs(log_ratio[:, None] - near) > 1e-2).all(1)]
        clipped = clipping_acceptance(log_ratio, low, high)
        limit = acceptance_probability(log_ratio, low, high, 1e7, 1e7)
        assert np.abs(limit - clipped).max() < 1e-6
        gradients = []
        for perceive in (Clipping(low, high), Rejection(low, high, 1e7, 1e7).drawn([seed])):
            tokens = torch.tensor(log_ratio, requires_grad=True)
            perceive(tokens).sum().backward()
            gradients.append(tokens.grad.numpy())
        assert (gradients[0] == gradients[1]).all()
        assert (gradients[0] == clipped).all()

    def test_by_hand(self):
        """Beta(1, 1) is uniform with mean 1/2: M = 2 e^-1, and e^-2 / M = e^-1 / 2."""
        assert acceptance_probability(-2.0, -1.0, None, 1, 1) == pytest.approx(np.exp(-1) / 2)
        assert acceptance_probability(2.0, None, 1.0, 1, 1) == pytest.approx(np.exp(-1) / 2)
        assert acceptance_probability(9.0, -1.0, None, 1, 1) == 1

    def test_at_a_bound(self):
        """M = bound (g + 1) / g, so a ratio at the bound passes with (g / (g + 1))^g, near 1/e."""
        assert acceptance_probability(-1.0, -1.0, None, 3, 1) == pytest.approx(0.75**3)
        assert acceptance_probability(1.5, -1.0, 1.5, 1, 1e6) == pytest.approx(np.exp(-1), rel=1e-5)

    @pytest.mark.filterwarnings("error")
    @given(bounds, bounds, st.integers(0, 999))
    def test_draws_without_spread_are_clipping(self, low, high, seed):
        low = None if low is None else -low
        ratios = [bound for bound in (low, high) if bound is not None]
        log_ratio = np.append(np.random.default_rng(seed).normal(scale=2, size=50), ratios)
        accepted = acceptance_probability(log_ratio, low, high, math.inf, math.inf)
        assert (accepted == clipping_acceptance(log_ratio, low, high)).all()

    @pytest.mark.parametrize(
        "interval",
        [(1.0, 1.5), (-1.0, -1.5), (0.0, 0.0), (math.nan, 1.5), (-1.0, math.inf), (None, -0.1)],
    )
    def test_bounds_are_refused_where_the_trainers_refuse_them(self, interval):
        with pytest.raises(ValueError) as refusal:
            Clipping(*interval)
        name = re.escape(str(refusal.value).split()[0])
        with pytest.raises(ValueError, match=f"^{name} must"):
            clipping_acceptance(0.0, *interval)
        with pytest.raises(ValueError, match=f"^{name} must"):
            acceptance_probability(0.0, *interval, 1, 1)

    def test_bad_input_is_named(self):
        with pytest.raises(ValueError, match="gamma_r"):
            acceptance_probability(0.0, -1, 1, 1, 0)
        with pytest.raises(ValueError, match="gamma_p"):
            acceptance_probability(0.0, None, 1, math.nan, 1)
        with pytest.raises(ValueError, match="log_ratio"):
            acceptance_probability([0.0, math.nan], -1, 1, 1, 1)
        with pytest.raises(ValueError, match="log_ratio"):
            clipping_acceptance(math.nan, -1, 1)


class TestImpliedCapacity:
    @given(st.lists(st.integers(-5, 5), min_size=1, max_size=50))
    def test_on_policy_it_is_the_identity_whatever_the_ties(self, z):
        share = np.mean(np.array(z) >= 0)
        for part, most in (("gains", share), ("losses", 1 - share)):
            expected = [a if a <= most + 1e-9 else math.nan for a in GRID]
            curve = implied_capacity(z, z, GRID, part=part)
            assert curve == pytest.approx(expected, nan_ok=True)

    def test_by_hand(self):
        """A uniform policy and the better of two of its draws, F(z) = z and z^2.

        Of the policy's best a, 1 - (1 - a)^2 are better draws; of its worst a, a^2 are.
        """
        policy = (np.arange(2000) + 0.5) / 2000
        options = {"policy": policy, "source": np.sqrt(policy), "a": GRID}
        better = implied_capacity(**options, part="gains")
        assert better == pytest.approx(1 - (1 - GRID) ** 2, abs=2e-3)
        worse = implied_capacity(**options, part="losses", reference_point=9)
        assert worse == pytest.approx(GRID**2, abs=2e-3)

    def test_gains_end_where_losses_begin(self):
        """Of 1, 2, 3 and 4 against z0 = 3 half are gains: the best half is all there is of them."""
        policy, source, a = [1, 2, 3, 4], [1, 4, 4, 4], [0, 0.25, 0.5, 0.75, 1]
        options = {"reference_point": 3}
        gains = implied_capacity(policy, source, a, part="gains", **options)
        losses = implied_capacity(policy, source, a, part="losses", **options)
        nan = math.nan
        assert gains == pytest.approx([0, 0.75, 0.75, nan, nan], nan_ok=True)
        assert losses == pytest.approx([0, 0.25, 0.25, nan, nan], nan_ok=True)

    @settings(deadline=None)
    @given(st.integers(0, 999), st.floats(-1, 1), gammas, gammas)
    def test_data_as_people_perceive_them_imply_the_human_curve(self, seed, middle, gain, loss):
        """A source whose outputs are the policy's, each as often as it feels.

        One part at a time, as both parts' weights need not sum to 1; the rest of the source then
        lies at the other extreme.
        """
        z = np.sort(np.random.default_rng(seed).normal(middle, size=40))
        n = 100_000
        for part, gamma, is_part in (("gains", gain, z >= 0), ("losses", loss, z < 0)):
            weights = decision_weights(z, np.full(40, 1 / 40), gamma_gains=gain, gamma_losses=loss)
            counts = np.rint(np.where(is_part, weights, 0) * n).astype(int)
            rest = np.full(n - counts.sum(), -99.0 if part == "gains" else 99.0)
            source = np.append(np.repeat(z, counts), rest)
            a = np.arange(is_part.sum() + 1) / 40
            curve = implied_capacity(z, source, a, part=part)
            assert curve == pytest.approx(capacity(a, gamma), abs=1e-3)
            assert len(a) < 2 or capacity_distance(curve, a, gamma) < 1e-3

    @given(st.integers(0, 999))
    def test_only_the_order_of_surprisals_counts(self, seed):
        policy, source = np.random.default_rng(seed).normal(size=(2, 50))
        for part in ("gains", "losses"):
            curve = implied_capacity(policy, source, GRID, part=part)
            cubes = implied_capacity(policy**3, source**3, GRID, part=part)
            assert cubes == pytest.approx(curve, nan_ok=True)

    @given(st.integers(0, 999), st.floats(0, 3))
    def test_better_data_show_gains_sooner_and_losses_later(self, seed, by):
        z = np.random.default_rng(seed).normal(size=300)
        gains = implied_capacity(z, z + by, GRID, part="gains")
        losses = implied_capacity(z, z + by, GRID, part="losses")
        assert not (gains < GRID - 1e-12).any() and not (losses > GRID + 1e-12).any()
        # Worse data do the reverse.
        gains = implied_capacity(z + by, z, GRID, part="gains")
        losses = implied_capacity(z + by, z, GRID, part="losses")
        assert not (gains > GRID + 1e-12).any() and not (losses < GRID - 1e-12).any()

    @given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 40))
    def test_it_rises_from_0_to_1_if_all_are_gains(self, seed, n, m):
        rng = np.random.default_rng(seed)
        policy, source = rng.normal(size=n), rng.normal(size=m)
        curve = implied_capacity(policy, source, GRID, part="gains", reference_point=-9)
        assert curve[0] == 0 and curve[-1] == 1 and (np.diff(curve) >= -1e-12).all()

    @pytest.mark.filterwarnings("error")
    def test_a_distance_is_a_mean(self):
        assert capacity_distance(capacity(GRID, 0.6), GRID, 0.6) == 0
        assert capacity_distance(np.ones_like(GRID), GRID, 1.0) == pytest.approx(0.5)
        # 1 - a for a up to 1/2 is 3/4 on average.
        half = np.where(GRID <= 0.5, 1.0, math.nan)
        assert capacity_distance(half, GRID, 1.0) == pytest.approx(0.75)
        assert math.isnan(capacity_distance([0.0, math.nan], [0.0, 1.0], 1.0))

    def test_bad_input_is_named(self):
        with pytest.raises(ValueError, match="source"):
            implied_capacity([1.0], [], [0.5], part="gains")
        with pytest.raises(ValueError, match="part"):
            implied_capacity([1.0], [1.0], [0.5], part="both")
        with pytest.raises(ValueError, match="policy"):
            implied_capacity([1.0, math.nan], [1.0], [0.5], part="gains")
        with pytest.raises(ValueError, match="a must"):
            implied_capacity([1.0], [1.0], [1.5], part="gains")
        with pytest.raises(ValueError, match="implied"):
            capacity_distance([0.0, 1.0], [0.0, 0.5, 1.0], 0.6)
        with pytest.raises(ValueError, match="reference_point"):
            implied_capacity([1.0], [1.0], [0.5], part="gains", reference_point=math.nan)
        for grid in ([0.0, 0.5, 0.2], [0.0, 0.5, 1.1]):
            with pytest.raises(ValueError, match="a must be an increasing grid"):
                capacity_distance([0.0, 0.5, 1.0], grid, 0.6)
