"""Prospect theory, and what humanline takes from it, as functions of numbers.

The paper (arXiv 2509.24207) sees an output y of a policy as an outcome with the surprisal
z = log pi_theta(y|x) / pi_ref(y|x), in nats, and asks how people would perceive its probability.
The formulas of prospect theory are from Tversky and Kahneman (1992); the defaults are the constants
that they measured.
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
    """Compute what outcomes are worth to a person (Tversky and Kahneman 1992).

    The value is (z - z0)^alpha for gains, z >= z0, and -lambda (z0 - z)^alpha for losses.

    Args:
        z: outcomes, any shape, for instance surprisals in nats.
        reference_point: z0, which separates gains from losses.
        alpha: diminishing sensitivity, in (0, 1].
        loss_aversion: lambda, how much more a loss counts than a gain; at least 1.

    Returns:
        Values, in the shape of z.

    Raises:
        ValueError: if alpha or loss_aversion is out of bounds, the reference point is not finite,
            or an outcome is nan.
    """
    _require("reference_point", reference_point, np.isfinite(reference_point), "finite")
    _require("alpha", alpha, 0 < alpha <= 1, "above 0 and at most 1")
    _require("loss_aversion", loss_aversion, loss_aversion >= 1, "at least 1")
    gain = _numbers("z", z) - reference_point
    worth = np.abs(gain) ** alpha
    return np.where(gain >= 0, worth, -loss_aversion * worth)


def capacity(a: ArrayLike, gamma: float) -> np.ndarray:
    """Compute Omega(a; gamma), how large a cumulative probability feels.

    Omega is a^g / (a^g + (1-a)^g)^(1/g), an inverted S that overweights the extremes (Tversky and
    Kahneman 1992). With gamma = 1 it is the identity.

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
    """Compute the weights that cumulative prospect theory gives to outcomes.

    The weight of a gain is the capacity of "this good or better" minus the capacity of "better".
    The weight of a loss is the capacity of "this bad or worse" minus the capacity of "worse". Equal
    outcomes share their weight in proportion to their probabilities.

    Args:
        outcomes: (N,), for instance surprisals in nats.
        probabilities: (N,), not negative, with the sum 1.
        reference_point: outcomes at or above it are gains.
        gamma_gains, gamma_losses: gamma of `capacity` for gains and for losses.

    Returns:
        Weights (N,), not negative where the capacity is monotone. The weights of gains sum to the
        capacity of the probability of a gain, those of losses to the capacity of the probability
        of a loss. Together they need not sum to 1.

    Raises:
        ValueError: if the probabilities are no distribution or differ in number from the outcomes,
            if an outcome is nan, the reference point is not finite, or a gamma is out of bounds.
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
    """Weigh the gains, or the losses, from the most extreme outcome inwards."""
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
    """Compute what a prospect is worth to a person: the sum of `decision_weights` times `value`.

    Args:
        outcomes, probabilities, reference_point, gamma_gains, gamma_losses: as in
            `decision_weights`.
        alpha, loss_aversion: as in `value`.

    Returns:
        The utility, in units of `value`. The weights are not normalised.

    Raises:
        ValueError: where `decision_weights` or `value` raises one.
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
    """Bound the distance of the utility under Q from the subjective one (Proposition 3.4).

    If sqrt(KL(omega || Q)) <= delta / (sqrt(2) ||v||_inf), the expectations of v under omega and
    under Q differ by delta at most. The smallest such delta is sqrt(2 KL(omega || Q)) ||v||_inf.
    The bound is Pinsker's inequality, so omega must be a distribution: divide decision weights, and
    `subjective_utility`, by the sum of the weights.

    Args:
        perceived: omega, a distribution (N,).
        sampled: Q, a distribution (N,) over the same outcomes.
        largest_value: ||v||_inf, the largest absolute value of an outcome.

    Returns:
        delta, in units of `value`; infinite if Q gives 0 to an outcome that omega does not.

    Raises:
        ValueError: if omega or Q is no distribution, they differ in shape, or the largest value is
            negative or infinite.
    """
    omega, q = _distribution("perceived", perceived), _distribution("sampled", sampled)
    _require("sampled", q.shape, q.shape == omega.shape, f"of the shape {omega.shape}")
    _require("largest_value", largest_value, 0 <= largest_value < np.inf, "finite, at least 0")
    has_mass = omega > 0
    if (q[has_mass] == 0).any():
        return float("inf")
    divergence = np.sum(omega[has_mass] * np.log(omega[has_mass] / q[has_mass]))
    # Rounding may make a divergence of zero slightly negative.
    return float(np.sqrt(2 * max(divergence, 0.0)) * largest_value)


def acceptance_probability(
    log_ratio: ArrayLike,
    log_eps_p: float | None,
    log_eps_r: float | None,
    gamma_p: float,
    gamma_r: float,
) -> np.ndarray:
    """Compute the probability that humanline sampling lets a token pass a gradient (section 4).

    A token is rejected if its ratio is below M_P B_P, or the inverse ratio below M_R B_R, with
    independent B_P ~ Beta(gamma_p, 1) and B_R ~ Beta(gamma_r, 1). M_P and M_R are such that the
    mean bounds are exp(log_eps_p) and exp(-log_eps_r), as in `perception.Rejection`. Because
    P(B < b) = b^gamma, a token is accepted with the probability min(1, ratio / M_P)^gamma_p times
    min(1, (1 / ratio) / M_R)^gamma_r.

    Args:
        log_ratio: log pi_theta - log pi_ref, any shape, in nats.
        log_eps_p, log_eps_r: mean bounds, in nats; None: that side rejects nothing.
        gamma_p, gamma_r: concentration of the draws, above 0. With infinity the draws are the
            means, and the result is that of `clipping_acceptance`.

    Returns:
        Probabilities, in the shape of log_ratio.

    Raises:
        ValueError: if a gamma is not positive, a log-ratio is nan, or `perception.Clipping`
            refuses a bound.
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
            # Multiply below M alone: infinity times zero would be nan.
            log_p = log_p + np.multiply(
                gamma, side - log_m, out=np.zeros_like(log_ratio), where=below
            )
    return np.exp(log_p)


def clipping_acceptance(
    log_ratio: ArrayLike, log_eps_p: float | None, log_eps_r: float | None
) -> np.ndarray:
    """Say whether humanline clipping lets a token pass a gradient: 1 within the bounds, else 0.

    As the gammas grow, `acceptance_probability` approaches this result (Theorem 4.3), except at the
    bounds themselves, where it approaches 1/e.

    Args:
        log_ratio: log pi_theta - log pi_ref, any shape, in nats.
        log_eps_p, log_eps_r: bounds, in nats; None: that side is unbounded.

    Returns:
        Zeros and ones, in the shape of log_ratio.

    Raises:
        ValueError: if a log-ratio is nan, or `perception.Clipping` refuses a bound.
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
    """Compute the capacity function that a source of data implies.

    People feel a cumulative probability a as capacity(a). A source of data shows outcomes at least
    as extreme as the policy's a-quantile with its own frequency, F_source(F_policy^-1(a)): this is
    the implied capacity. As in prospect theory, gains are cumulated from the best downwards and
    losses from the worst upwards, each as far as the reference point.

    The construction is ours: the paper's text was not at hand. Three properties make it natural.
    Data from the policy itself imply the identity. Data that are distributed as people perceive the
    policy's outcomes imply the human curve. Only the order of outcomes counts.

    Args:
        policy: surprisals of the policy's own outputs (N,), nats.
        source: surprisals of the source's outputs (M,), under the same policy and reference.
        a: cumulative probabilities (K,) in [0, 1].
        part: ``gains``: surprisals at or above the reference point; ``losses``: those below it.
        reference_point: as in `value`, in nats.

    Returns:
        Implied capacities (K,), which begin at 0 and never fall. They are nan beyond the policy's
        share of gains (or losses), where no more of them are left to perceive.

    Raises:
        ValueError: if a sample is empty or has nan, a probability is out of bounds, the reference
            point is not finite, or `part` is another word.
    """
    policy, source = _sample("policy", policy), _sample("source", source)
    a = np.asarray(a, dtype=float)
    _require("a", a, ((a >= 0) & (a <= 1)).all(), "within [0, 1]")
    _require("part", part, part in ("gains", "losses"), "gains or losses")
    _require("reference_point", reference_point, np.isfinite(reference_point), "finite")
    sign = -1.0 if part == "gains" else 1.0
    # Both distributions are evaluated at the policy's distinct outcomes and joined by straight
    # lines. So the policy's own sample gives the identity, ties included.
    outcomes, counts = np.unique(sign * policy, return_counts=True)
    under_policy = np.cumsum(counts) / policy.size
    under_source = np.searchsorted(np.sort(sign * source), outcomes, side="right") / source.size
    implied = np.interp(a, [0.0, *under_policy], [0.0, *under_source[:-1], 1.0])
    gains = np.mean(policy >= reference_point)
    share = gains if part == "gains" else 1 - gains
    # A grid's 0.3 may differ from the quotient 3 / 10 by rounding.
    return np.where(a <= share + 1e-12, implied, np.nan)


def capacity_distance(implied: ArrayLike, a: ArrayLike, gamma: float) -> float:
    """Compute the distance of an implied capacity from the human one.

    Args:
        implied: capacities (K,) at a, nan where there are none, from `implied_capacity`.
        a: an increasing grid (K,) in [0, 1].
        gamma: the human curve's gamma.

    Returns:
        The mean absolute (L1) distance over the part of the grid that has capacities, from 0 to 1.
        0: the source shows probabilities as people feel them. nan: fewer than two points of the
        grid have a capacity.

    Raises:
        ValueError: if the grid is not as above, gamma is out of bounds, or the number of capacities
            is not the grid's.
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
    """Give the bounds as numbers, and refuse those that `perception.Clipping` refuses."""
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
