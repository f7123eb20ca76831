"""Length-controlled win rate: AlpacaEval 2's GLM, with a fast bootstrap.

The model is that of Dubois et al. (arXiv 2404.04475). The judge's preference is
logistic(theta + phi tanh(d / std(d)) + psi gamma), where d is the difference in length and gamma
the difficulty of the instruction. The length-controlled win rate is the mean prediction at d = 0,
logistic(theta + psi gamma).

With known difficulties, phi and psi have normal priors, since one run's rows tell little about
them. alpaca_eval uses annotations of two gamed baselines for this, which we do not have. The priors
come from all published models instead. `benchmarks/difficulties.py` made the difficulties and the
priors; docs/differences.md says how close the results come to the published ones.

Without difficulties the model is the one that alpaca_eval calls `length_controlled_minimal`. There
alpaca_eval adds an L1 penalty, chosen by cross-validation, which pulls both weights towards zero.
The fit here is plain maximum likelihood. The two differ by less than 0.3 points on public models
(805 rows), and by up to one point on a few hundred rows, where cross-validation is noisy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

# The mean log loss gets the penalty RIDGE / 2 (theta^2 + phi^2). It moves an ordinary win rate by
# less than 1e-7. It makes the fit unique where the likelihood does not: when one side always wins,
# when length alone separates wins from losses, and when the length feature is (almost) constant.
RIDGE = 1e-9
TOLERANCE = 1e-6  # largest last step in log-odds; Newton's error after it is about its square
MAX_STEPS = 10_000  # a few suffice; only separable data with a narrow gap takes hundreds
CHUNK = 2**18  # replicates times rows that are fitted at once: a few arrays of 2 MiB
# From so many rows on, rows of equal length and difficulty are added up before the fit. Fewer rows
# are fitted one by one, as they always were: sums in another order differ in their last digits.
MANY = 2**15
# Limits beyond which the fit gets a warning. Of 41 public models, five exceed FAR; the farthest has
# 11 points. One exceeds ALWAYS: it was made to game the judge. None exceeds the other two.
FAR = 0.10  # distance from the raw win rate
EMPTY = 0.05  # share of empty outputs
FEW = 0.005  # share of outputs that are longer, or that are shorter
ALWAYS = 0.99  # share of longer outputs that win and of shorter ones that lose, or the reverse


@dataclass(frozen=True)
class Difficulty:
    """How hard instructions are for the models that AlpacaEval 2 has judged, with priors.

    Attributes:
        values: gamma of each instruction, (N,), in log-odds.
        phi: mean and variance of the length's weight over published models.
        psi: mean and variance of the difficulty's weight over published models.
    """

    values: np.ndarray
    phi: tuple[float, float]
    psi: tuple[float, float]


@overload
def length_controlled_win_rate(
    preference: np.ndarray,
    length_baseline: np.ndarray,
    length_model: np.ndarray,
    weights: None = None,
    difficulty: Difficulty | None = None,
) -> float: ...


@overload
def length_controlled_win_rate(
    preference: np.ndarray,
    length_baseline: np.ndarray,
    length_model: np.ndarray,
    weights: np.ndarray,
    difficulty: Difficulty | None = None,
) -> np.ndarray: ...


def length_controlled_win_rate(
    preference: np.ndarray,
    length_baseline: np.ndarray,
    length_model: np.ndarray,
    weights: np.ndarray | None = None,
    difficulty: Difficulty | None = None,
) -> float | np.ndarray:
    """Estimate the model's win rate over the baseline if their outputs were equally long.

    Args:
        preference: probability that the judge prefers the model, (N,), in [0, 1]: alpaca_eval's
            preference minus 1. Rows where it is nan are left out.
        length_baseline: length of the baseline's outputs, (N,), in characters.
        length_model: length of the model's outputs, (N,), in characters.
        weights: how often each row occurs in each of R bootstrap replicates, (R, N). Each replicate
            has its own fit and its own standard deviation of lengths (ddof 1).
        difficulty: the instructions' difficulties; None fits without them.

    Returns:
        The win rate in [0, 1]; with weights, the win rates of the replicates, (R,).

    Raises:
        ValueError: if shapes differ, a value is out of range, or a replicate has a single row.
    """
    preference, difference = _checked_rows(preference, length_baseline, length_model)
    gamma = np.zeros_like(preference) if difficulty is None else np.asarray(difficulty.values)
    if gamma.shape != preference.shape or not np.isfinite(gamma).all():
        raise ValueError(f"difficulties must be ({len(preference)},) and finite")
    counts = np.ones((1, len(preference))) if weights is None else np.asarray(weights)
    if counts.ndim != 2 or counts.shape[1] != len(preference):
        raise ValueError(f"weights must be (R, {len(preference)}); got {counts.shape}")
    judged = ~np.isnan(preference)
    preference, difference, gamma = preference[judged], difference[judged], gamma[judged]
    prior = None if difficulty is None else (difficulty.phi, difficulty.psi)
    added = _adding(preference, difference, gamma)
    rows = replicates_at_once(len(preference))
    win_rates = [
        _fit(*added(_checked_counts(counts[start : start + rows, judged])), prior)
        for start in range(0, len(counts), rows)
    ]
    win_rate = np.concatenate(win_rates) if win_rates else np.empty(0)
    return float(win_rate[0]) if weights is None else win_rate


def replicates_at_once(rows: int) -> int:
    """Count the replicates that are fitted together, for a number of judged rows."""
    return max(1, CHUNK // max(1, rows))


Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _adding(
    preference: np.ndarray, difference: np.ndarray, gamma: np.ndarray
) -> Callable[[np.ndarray], Rows]:
    """Make the function that adds up rows of equal length and difficulty, where there are many.

    The loss of such rows is that of their mean preference, so the fit is the same. Lengths are
    whole characters, so there are few different ones however many rows there are.

    Returns:
        A function of counts (R, N). It returns preference (U,) or (R, U), difference (U,), gamma
        (U,) and counts (R, U), where U is N if nothing is added up.
    """
    if len(preference) < MANY:
        return lambda counts: (preference, difference, gamma, counts)
    found, place = np.unique(difference + 1j * gamma, return_inverse=True)
    groups = len(found)
    if groups > len(preference) // 8:
        return lambda counts: (preference, difference, gamma, counts)

    def added(counts: np.ndarray) -> Rows:
        rows = [np.bincount(place, row, groups) for row in counts]
        wins = [np.bincount(place, row * preference, groups) for row in counts]
        total = np.stack(rows)
        mean = np.divide(np.stack(wins), total, out=np.zeros_like(total), where=total > 0)
        return mean, found.real, found.imag, total

    return added


def length_control_warning(
    preference: np.ndarray,
    length_baseline: np.ndarray,
    length_model: np.ndarray,
    length_controlled: float,
) -> str | None:
    """Say on one line why a length-controlled win rate may mislead; None if nothing points to it.

    Args:
        preference, length_baseline, length_model: the arguments of `length_controlled_win_rate`.
        length_controlled: its result, in [0, 1].
    """
    preference, difference = _checked_rows(preference, length_baseline, length_model)
    judged = ~np.isnan(preference)
    preference, difference = preference[judged], difference[judged]
    raw, empty = preference.mean(), (np.asarray(length_model)[judged] == 0).mean()
    longer, shorter = difference > 0, difference < 0
    found = []
    if abs(length_controlled - raw) > FAR:
        found.append(f"it is {100 * (length_controlled - raw):+.1f} points from the win rate")
    if empty > EMPTY:
        found.append(f"{100 * empty:.0f} % of the outputs are empty")
    for side, other, word in ((longer, shorter, "longer"), (shorter, longer, "shorter")):
        if other.mean() > 1 - FEW:
            found.append(f"almost no output is as long as the baseline's, or {word}")
        if side.any() and other.any() and _decides(preference, side, other):
            found.append(f"the {word} output always wins")
    return "; ".join(found) or None


def _decides(preference: np.ndarray, side: np.ndarray, other: np.ndarray) -> bool:
    """Say whether outputs on one side of equal length win and those on the other side lose."""
    wins, losses = preference[side] > 0.5, preference[other] < 0.5
    return min(wins.mean(), losses.mean()) >= ALWAYS


def _checked_rows(
    preference: ArrayLike, length_baseline: ArrayLike, length_model: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Return preferences and differences in length as floats, (N,) each."""
    columns = [np.asarray(c, dtype=float) for c in (preference, length_baseline, length_model)]
    if columns[0].ndim != 1 or len({column.shape for column in columns}) != 1:
        shapes = ", ".join(str(column.shape) for column in columns)
        raise ValueError(f"preference and lengths must have one shape (N,); got {shapes}")
    preferred, baseline, model = columns
    if ((preferred < 0) | (preferred > 1)).any():
        raise ValueError("preference must be in [0, 1]; subtract 1 from alpaca_eval's")
    if not np.isfinite(model - baseline).all():
        raise ValueError("lengths must be finite")
    return preferred, model - baseline


def _checked_counts(counts: np.ndarray) -> np.ndarray:
    counts = counts.astype(float)
    if not (counts >= 0).all():
        raise ValueError("weights must not be negative or nan")
    if not (counts.sum(axis=1) > 1).all():
        raise ValueError("a fit needs more than one judged row; weights are counts of rows")
    return counts


def _fit(
    preference: np.ndarray,
    difference: np.ndarray,
    gamma: np.ndarray,
    counts: np.ndarray,
    prior: tuple[tuple[float, float], tuple[float, float]] | None,
) -> np.ndarray:
    """Compute the win rate at equal length of each replicate, (R,), by damped Newton steps.

    A full step may overshoot where the loss is flat. The loss is generalised self-concordant, so a
    step is safe if it is shortened by log(1 + r) / r, where r is the largest change of a row's
    log-odds (Sun and Tran-Dinh, arXiv 1703.04599). Close to the optimum this is a full step.
    """
    total = counts.sum(axis=1)
    share = counts / total[:, None]
    length = np.tanh(_standardized(difference, counts))
    given = [np.ones_like(counts), length] + [np.broadcast_to(gamma, counts.shape)] * bool(prior)
    features = np.stack(given, axis=1)  # (R, K, N)
    largest = np.array([1, 1, np.abs(gamma).max(initial=0)])[: features.shape[1]]
    center, ridge = _penalty(prior, total)
    theta = np.tile(center, (len(counts), 1))
    for _ in range(MAX_STEPS):
        probability = expit((theta[:, None] @ features)[:, 0])
        residual = (share * (probability - preference))[:, None]
        curvature = (share * probability * (1 - probability))[:, None]
        gradient = (residual @ features.mT)[:, 0] + ridge * (theta - center)
        hessian = (curvature * features) @ features.mT + ridge[:, None] * np.eye(len(center))
        step = -np.linalg.solve(hessian, gradient[..., None])[..., 0]
        r = np.abs(step) @ largest
        theta += step * (np.log1p(r) / np.maximum(r, np.finfo(float).tiny))[:, None]
        if r.max() < TOLERANCE:
            features[:, 1] = 0  # predict for outputs that are equally long
            return (share * expit((theta[:, None] @ features)[:, 0])).sum(axis=1)
    raise RuntimeError(f"the length-controlled fit did not converge in {MAX_STEPS} steps")


def _penalty(prior, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the penalty's centre, (K,), and its strength in the mean log loss, (R, K)."""
    if prior is None:
        return np.zeros(2), np.full((len(total), 2), RIDGE)
    mean, variance = np.transpose([(0, np.inf), *prior])
    return mean, RIDGE + 1 / (variance * total[:, None])


def _standardized(difference: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Divide differences in length by their standard deviation in each replicate, (R, N).

    The result is 0 if a replicate's differences are all the same: length then explains nothing.
    """
    total = counts.sum(axis=1)
    mean = counts @ difference / total
    variance = (counts * (difference - mean[:, None]) ** 2).sum(axis=1) / (total - 1)
    scale = np.sqrt(variance)[:, None]
    # The mean is rounded, so the scale of equal differences can be a last digit instead of zero.
    varies = scale > 1e-9 * np.abs(difference).max()
    return np.divide(difference, scale, out=np.zeros_like(counts), where=varies)
