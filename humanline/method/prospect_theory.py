"""Prospect theory, and what humanline takes from it, as functions of numbers.

The paper (arXiv 2509.24207) sees an output y of a policy as an outcome with the surprisal
z = log pi_theta(y|x) / pi_ref(y|x), in nats, and asks how people would perceive its probability.
Formulas of prospect theory are those of Tversky and Kahneman (1992), with the constants that they
measured as defaults.
"""

import numpy as np
from numpy.typing import ArrayLike

ALPHA, LOSS_AVERSION = 0.88, 2.25
GAMMA_GAINS, GAMMA_LOSSES = 0.61, 0.69


def value(
    z: ArrayLike,
    *,
    reference_point: float = 0.0,
    alpha: float = ALPHA,
    loss_aversion: float = LOSS_AVERSION,
) -> np.ndarray:
    """What outcomes are worth to a person: concave for gains, steeper and convex for losses.

    (z - z0)^alpha for z >= z0, else -lambda (z0 - z)^alpha.

    Args:
        z: outcomes, any shape.
        reference_point: z0, which separates gains from losses.
        alpha: diminishing sensitivity, in (0, 1].
        loss_aversion: lambda, how much more a loss counts, at least 1.

    Returns:
        Values, in the shape of z.

    Raises:
        ValueError: if alpha, loss_aversion, the reference point or an outcome makes no sense.
    """
    _require("reference_point", reference_point, np.isfinite(reference_point), "finite")
    _require("alpha", alpha, 0 < alpha <= 1, "above 0 and at most 1")
    _require("loss_aversion", loss_aversion, loss_aversion >= 1, "at least 1")
    gain = _numbers("z", z) - reference_point
    worth = np.abs(gain) ** alpha
    return np.where(gain >= 0, worth, -loss_aversion * worth)


def capacity(a: ArrayLike, gamma: float) -> np.ndarray:
    """Omega(a; gamma), how large a cumulative probability feels: a^g / (a^g + (1-a)^g)^(1/g).

    An inverted S that overweights the extremes; the identity for gamma = 1.

    Args:
        a: cumulative probabilities in [0, 1], any shape.
        gamma: in (0, 1]. Below about 0.28 the formula is not monotone.

    Returns:
        Capacities in [0, 1], in the shape of a.

    Raises:
        ValueError: if a probability or gamma is out of bounds.
    """
    _require("gamma", gamma, 0 < gamma <= 1, "above 0 and at most 1")
    a = np.asarray(a, dtype=float)
    _require("a", a, ((a >= 0) & (a <= 1)).all(), "within [0, 1]")
    likely, unlikely = a**gamma, (1 - a) ** gamma
    return likely / (likely + unlikely) ** (1 / gamma)


def decision_weights(
    outcomes: ArrayLike,
    probabilities: ArrayLike,
    *,
    reference_point: float = 0.0,
    gamma_gains: float = GAMMA_GAINS,
    gamma_losses: float = GAMMA_LOSSES,
) -> np.ndarray:
    """Cumulative prospect theory's weights of outcomes, gains and losses apart.

    A gain weighs the capacity of "this good or better" less that of "better"; a loss that of "this
    bad or worse" less that of "worse". Equal outcomes share their weight as their probabilities.

    Args:
        outcomes: (N,), surprisals in nats for instance.
        probabilities: (N,), not negative, with the sum 1.
        reference_point: outcomes from there on are gains.
        gamma_gains, gamma_losses: of `capacity`.

    Returns:
        Weights (N,), not negative where the capacity is monotone. Those of gains sum to the
        capacity of the probability of a gain and those of losses to that of a loss, together not
        to 1 in general.

    Raises:
        ValueError: if the probabilities are none or not as many as the outcomes, or if an outcome,
            the reference point or a gamma makes no sense.
    """
    outcomes, p = _numbers("outcomes", outcomes), _distribution("probabilities", probabilities)
    _require("reference_point", reference_point, np.isfinite(reference_point), "finite")
    _require("outcomes", outcomes.shape, outcomes.shape == p.shape, f"of the shape {p.shape}")
    weights = np.zeros(len(p))
    gains = outcomes >= reference_point
    for side, extremeness, gamma in (
        (gains, outcomes, gamma_gains),
        (~gains, -outcomes, gamma_losses),
    ):
        weights[side] = _rank_weights(extremeness[side], p[side], gamma)
    return weights


def _rank_weights(extremeness: np.ndarray, p: np.ndarray, gamma: float) -> np.ndarray:
    """Weights of one side's outcomes, from the most extreme inwards."""
    levels, level = np.unique(-extremeness, return_inverse=True)
    mass = np.bincount(level, p, len(levels))
    reached = np.clip(np.cumsum(mass), 0, 1)
    weight = np.diff(capacity(reached, gamma), prepend=0.0)
    share = np.divide(p, mass[level], out=np.zeros_like(p), where=mass[level] > 0)
    return weight[level] * share


def subjective_utility(
    outcomes: ArrayLike,
    probabilities: ArrayLike,
    *,
    reference_point: float = 0.0,
    alpha: float = ALPHA,
    loss_aversion: float = LOSS_AVERSION,
    gamma_gains: float = GAMMA_GAINS,
    gamma_losses: float = GAMMA_LOSSES,
) -> float:
    """What a prospect is worth to a person: the sum of `decision_weights` times `value`.

    Args:
        outcomes, probabilities, reference_point, gamma_gains, gamma_losses: of `decision_weights`.
        alpha, loss_aversion: of `value`.

    Returns:
        The utility, in units of value. The weights are as they are, not normalised.

    Raises:
        ValueError: as these two do.
    """
    weights = decision_weights(
        outcomes,
        probabilities,
        reference_point=reference_point,
        gamma_gains=gamma_gains,
        gamma_losses=gamma_losses,
    )
    worth = value(
        outcomes, reference_point=reference_point, alpha=alpha, loss_aversion=loss_aversion
    )
    return float(weights @ worth)


def utility_bound(perceived: ArrayLike, sampled: ArrayLike, largest_value: float) -> float:
    """How far the utility under Q can be from the subjective one (Proposition 3.4).

    If sqrt(KL(omega || Q)) <= delta / (sqrt(2) ||v||_inf), the expectations of v under omega and
    under Q differ by delta at most; this is the smallest such delta, sqrt(2 KL(omega || Q))
    ||v||_inf. It is Pinsker's inequality, so omega must be a distribution: decision weights have
    to be divided by their sum, and so has `subjective_utility`.

    Args:
        perceived: omega, a distribution (N,).
        sampled: Q, a distribution (N,) over the same outcomes.
        largest_value: ||v||_inf, the largest absolute value of an outcome.

    Returns:
        delta, in units of value; infinite where Q leaves out what omega has.

    Raises:
        ValueError: if either is no distribution, they differ in shape, or the value is negative or
            infinite.
    """
    omega, q = _distribution("perceived", perceived), _distribution("sampled", sampled)
    _require("sampled", q.shape, q.shape == omega.shape, f"of the shape {omega.shape}")
    _require("largest_value", largest_value, 0 <= largest_value < np.inf, "finite, at least 0")
    has_mass = omega > 0
    if (q[has_mass] == 0).any():
        return float("inf")
    divergence = np.sum(omega[has_mass] * np.log(omega[has_mass] / q[has_mass]))
    # Rounding may leave a divergence of nothing slightly negative.
    return float(np.sqrt(2 * max(divergence, 0.0)) * largest_value)


def acceptance_probability(
    log_ratio: ArrayLike,
    log_eps_p: float | None,
    log_eps_r: float | None,
    gamma_p: float,
    gamma_r: float,
) -> np.ndarray:
    """How likely humanline sampling lets a token pass a gradient, in closed form (section 4).

    A token is rejected if its ratio is below M_P B_P, or the inverse ratio below M_R B_R, with
    independent B_P ~ Beta(gamma_p, 1) and B_R ~ Beta(gamma_r, 1). M_P and M_R are such that the
    mean bounds are exp(log_eps_p) and exp(-log_eps_r), as in `perception.Rejection`. As P(B < b) =
    b^gamma, it is accepted with probability min(1, ratio / M_P)^gamma_p times the same of the
    inverse.

    Args:
        log_ratio: log pi_theta - log pi_ref, any shape, in nats.
        log_eps_p, log_eps_r: mean bounds, in nats; None: that side rejects nothing.
        gamma_p, gamma_r: concentration of the draws, above 0; infinite ones draw the means, and
            this is `clipping_acceptance`.

    Returns:
        Probabilities, in the shape of log_ratio.

    Raises:
        ValueError: if a gamma is not positive, a log-ratio is nan, or a bound is not as
            `perception.Clipping` wants it.
    """
    log_ratio = _numbers("log_ratio", log_ratio)
    low, high = _interval(log_eps_p, log_eps_r)
    log_p = np.zeros_like(log_ratio)
    for name, bound, gamma, side in (
        ("gamma_p", low, gamma_p, log_ratio),
        ("gamma_r", -high, gamma_r, -log_ratio),
    ):
        _require(name, gamma, gamma > 0, "above 0")
        if bound > -np.inf:
            log_m = bound + np.log1p(1 / gamma)  # the mean of Beta(g, 1) is g / (g + 1)
            below = side < log_m
            # Only there, as infinite gammas times nothing are not nothing.
            log_p = log_p + np.multiply(
                gamma, side - log_m, out=np.zeros_like(log_ratio), where=below
            )
    return np.exp(log_p)


def clipping_acceptance(
    log_ratio: ArrayLike, log_eps_p: float | None, log_eps_r: float | None
) -> np.ndarray:
    """Whether humanline clipping lets a token pass a gradient: 1 within the bounds, else 0.

    It is what `acceptance_probability` approaches as the gammas grow, everywhere but at the bounds
    themselves (Theorem 4.3); there the chance approaches 1/e.

    Args:
        log_ratio: log pi_theta - log pi_ref, any shape, in nats.
        log_eps_p, log_eps_r: bounds, in nats; None: that side is unbounded.

    Returns:
        Zeros and ones, in the shape of log_ratio.

    Raises:
        ValueError: if a log-ratio is nan, or a bound is not as `perception.Clipping` wants it.
    """
    log_ratio = _numbers("log_ratio", log_ratio)
    low, high = _interval(log_eps_p, log_eps_r)
    return ((log_ratio >= low) & (log_ratio <= high)).astype(float)


def implied_capacity(
    policy: ArrayLike,
    source: ArrayLike,
    a: ArrayLike,
    *,
    part: str,
    reference_point: float = 0.0,
) -> np.ndarray:
    """The capacity function that a source of data implies: how often it shows what is how likely.

    People feel a cumulative probability a as capacity(a). A source of data shows the outcomes that
    the policy would produce with cumulative probability a with another frequency, its own: that of
    outcomes as extreme as the policy's a-quantile, F_source(F_policy^-1(a)). As in prospect theory,
    gains are cumulated from the best down and losses from the worst up, each as far as the
    reference point.

    The construction is ours, as the paper's text was not at hand. It is the natural one in that
    data from the policy itself imply the identity, data whose outcomes are distributed as people
    perceive the policy's imply the human curve, and only the order of outcomes counts.

    Args:
        policy: surprisals of the policy's own outputs (N,), nats.
        source: surprisals of the source's outputs (M,), under the same policy and reference.
        a: cumulative probabilities (K,) in [0, 1].
        part: ``gains``: surprisals from the reference point on; ``losses``: those below it.
        reference_point: of `value`, nats.

    Returns:
        Implied capacities (K,), from 0 and never falling. They are nan beyond the share of the
        policy's outputs that are gains, or losses: there are no more of them to perceive.

    Raises:
        ValueError: if a sample is empty or has nan, a probability is out of bounds, the reference
            point is not finite or the part is neither.
    """
    policy, source = _sample("policy", policy), _sample("source", source)
    a = np.asarray(a, dtype=float)
    _require("a", a, ((a >= 0) & (a <= 1)).all(), "within [0, 1]")
    _require("part", part, part in ("gains", "losses"), "gains or losses")
    _require("reference_point", reference_point, np.isfinite(reference_point), "finite")
    sign = -1.0 if part == "gains" else 1.0
    # Both distributions are read off at the policy's own outcomes, equal ones once, and joined by
    # straight lines, so that the policy's own sample gives the identity whatever its ties.
    outcomes, counts = np.unique(sign * policy, return_counts=True)
    under_policy = np.cumsum(counts) / policy.size
    under_source = np.searchsorted(np.sort(sign * source), outcomes, side="right") / source.size
    implied = np.interp(a, [0.0, *under_policy], [0.0, *under_source[:-1], 1.0])
    gains = np.mean(policy >= reference_point)
    share = gains if part == "gains" else 1 - gains
    # A grid's 0.3 need not be the quotient 3 / 10.
    return np.where(a <= share + 1e-12, implied, np.nan)


def capacity_distance(implied: ArrayLike, a: ArrayLike, gamma: float) -> float:
    """How far an implied capacity is from the human one: 0 if a source shows what people feel.

    Args:
        implied: capacities (K,) at a, nan where there are none, as of `implied_capacity`.
        a: an increasing grid (K,) in [0, 1].
        gamma: of the human curve.

    Returns:
        The mean absolute (L1) distance over the part of the grid that has capacities: by how much
        a cumulative probability is off from what people feel, on average. At most 1; nan if fewer
        than two points of the grid have one.

    Raises:
        ValueError: if the grid is not as above, gamma is out of bounds, or the capacities are not
            as many.
    """
    implied, a = np.asarray(implied, dtype=float), np.asarray(a, dtype=float)
    is_grid = a.ndim == 1 and (np.diff(a) > 0).all() and ((a >= 0) & (a <= 1)).all()
    _require("a", a, is_grid, "an increasing grid (K,) within [0, 1]")
    _require("implied", implied.shape, implied.shape == a.shape, f"of the shape {a.shape}")
    off, known = np.abs(implied - capacity(a, gamma)), ~np.isnan(implied)
    if known.sum() < 2:
        return float("nan")
    return float(np.trapezoid(off[known], a[known]) / np.ptp(a[known]))


def _interval(log_eps_p: float | None, log_eps_r: float | None) -> tuple[float, float]:
    """The bounds as numbers, refused where `perception.Clipping` refuses them."""
    for name, bound in (("log_eps_p", log_eps_p), ("log_eps_r", log_eps_r)):
        is_bound = bound is None or np.isfinite(bound)
        _require(name, bound, is_bound, "finite, or None for no bound")
    low = -np.inf if log_eps_p is None else log_eps_p
    high = np.inf if log_eps_r is None else log_eps_r
    _require("log_eps_p", low, low <= 0, "at most 0")
    _require("log_eps_r", high, high >= 0, "at least 0")
    _require("log_eps_p", low, low < high, f"less than log_eps_r, {high}")
    return low, high


def _sample(name: str, sample: ArrayLike) -> np.ndarray:
    sample = _numbers(name, sample)
    _require(name, sample.shape, sample.ndim == 1 and sample.size > 0, "a sample (N,)")
    return sample


def _numbers(name: str, numbers: ArrayLike) -> np.ndarray:
    numbers = np.asarray(numbers, dtype=float)
    _require(name, numbers, not np.isnan(numbers).any(), "without nan")
    return numbers


def _distribution(name: str, probabilities: ArrayLike) -> np.ndarray:
    p = np.asarray(probabilities, dtype=float)
    is_one = p.ndim == 1 and (p >= 0).all() and np.isclose(p.sum(), 1.0)
    _require(name, p, is_one, "a distribution (N,): not negative, with the sum 1")
    return p


def _require(name: str, given: object, holds: bool | np.bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {what}; got {given}")
