"""Whether two sets of results agree, given how much a rerun on another machine usually differs.

Another processor changes the last digits of sums. Training amplifies this, so that a run differs
from its rerun as two seeds do, only less. Its usual size is therefore known in units of the cell's
standard deviation over seeds: two numbers, measured by benchmarks/other_machines.py. The first is
what changes in every run by itself. The second is what changes in all seeds of a cell alike, since
they start from one pretrained model; more seeds do not average it out.

So the difference of two means over the same S seeds has the variance

    sd^2 (shared^2 + 2 run^2 / S),

and that over different seeds sd^2 (shared^2 + 1 / S + 1 / S'). Few seeds tell little of a cell's
own deviation, so it is drawn towards that of the task's other cells, as far as the cells are alike
(Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3, article 3). The statistic
then has Student's t distribution, with the degrees of freedom of both.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special, stats

_CELL = ["task", "variant"]
_TESTED = ["a", "b", "difference", "standard_error", "low", "high", "p"]
_EQUAL = 1e-9  # relative; CSV files have all digits, so that only another summation is below it


@dataclass(frozen=True)
class Spread:
    """How much a rerun usually differs, in standard deviations over seeds.

    Attributes:
        run: the standard deviation of what changes in one run alone; two runs differ by the square
            root of 2 times that.
        shared: the standard deviation of the difference that all seeds of a cell have in common.
    """

    run: float
    shared: float


# By how a cell is trained, above what was measured with the instructions that move scores most:
# docs/statistics.md, "Whether two runs of a scale agree". Sampled tokens multiply a last digit's
# difference: a rerun is as another seed.
USUAL = {
    "base": Spread(run=0.7, shared=0.4),
    "offline": Spread(run=0.4, shared=0.4),
    "online": Spread(run=1.6, shared=0.4),
}
_MOST_SHARED = max(spread.shared for spread in USUAL.values())


def kind_of(variant: str) -> str:
    """Say which row of `USUAL` a cell has, by its name."""
    if f"{variant}-".startswith("base-"):
        return "base"
    return "offline" if "-offline-" in f"-{variant}-" else "online"


def are_equal(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Say which numbers are equal but for the rounding of one sum; NaN equals NaN."""
    return np.isclose(a, b, rtol=_EQUAL, atol=_EQUAL, equal_nan=True)


def two_estimates(
    a: np.ndarray,
    b: np.ndarray,
    errors: tuple,
    seeds: tuple,
    shared: float = _MOST_SHARED,
) -> np.ndarray:
    """Test whether estimates of two sides are of one truth, by their standard errors (Welch).

    If the sides share seeds, their errors are alike in part, and the test finds less than it might.

    Args:
        a, b: the estimates, (N,).
        errors: the standard errors of both sides, (N,) each.
        seeds: the numbers of seeds of both sides, (N,) each.
        shared: as in `Spread`; an estimate's deviation over seeds is its error times sqrt(seeds).

    Returns:
        Two-sided p-values (N,); NaN where an error is unknown or a side has one seed.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = [np.asarray(error, dtype=float) ** 2 for error in errors]
        freedom = [np.where(np.asarray(n) > 1, np.asarray(n) - 1.0, np.nan) for n in seeds]
        total = squares[0] + squares[1]
        degrees = total**2 / sum(s**2 / f for s, f in zip(squares, freedom, strict=True))
        of_seeds = sum(s * (f + 1) for s, f in zip(squares, freedom, strict=True)) / 2
        p = _p_value(np.asarray(b) - np.asarray(a), np.sqrt(total + shared**2 * of_seeds), degrees)
    return np.where(np.isnan(freedom[0] + freedom[1]), np.nan, p)


def compare_cells(runs: pd.DataFrame, usual: Spread | None = None) -> pd.DataFrame:
    """Compare the mean score of every cell that both sides have.

    Args:
        runs: a row per run of either side, with the columns task, variant, seed, and a and b, its
            scores; NaN on the side that has no such run.
        usual: how much a rerun usually differs; None: as `USUAL` says of each cell.

    Returns:
        A row per cell: task, variant; common: the number of common seeds. a, b: the means over
        these, or over all seeds if there are none; difference: b - a, with its standard_error, and
        low and high, its 95 % interval; p: two-sided, NaN if no cell of the task has two seeds.
    """
    found = [pd.DataFrame(columns=[*_CELL, "common", *_TESTED])]
    for task, a, b in _tasks(runs):
        common = np.isfinite(a.to_numpy()) & np.isfinite(b.to_numpy())
        run, shared = _spreads(a.index, usual)
        has_common = common.any(axis=1)
        with np.errstate(divide="ignore"):
            apart = 1 / a.count(axis=1).to_numpy() + 1 / b.count(axis=1).to_numpy()
            together = 2 * run**2 / common.sum(axis=1)
        factor = shared**2 + np.where(has_common, together, apart)
        kept = common | ~has_common[:, None]
        first, second = (side.where(kept).mean(axis=1).to_numpy() for side in (a, b))
        variance = _pooled(a.to_numpy(), b.to_numpy(), run)
        deviation, freedom = _moderated(*variance, _priors(*variance))
        tested = _tested(first, second, deviation * np.sqrt(factor), freedom)
        cells = {"task": task, "variant": a.index, "common": common.sum(axis=1)}
        frame = pd.DataFrame(cells | tested)
        found.append(frame[frame["difference"].notna()])
    return pd.concat([frame for frame in found if len(frame)] or found, ignore_index=True)


def compare_runs(runs: pd.DataFrame, usual: Spread | None = None) -> pd.DataFrame:
    """Compare every run that both sides have with its rerun.

    The spread of its cell is taken without its own seed, so a fault does not hide itself.

    Args:
        runs, usual: as in `compare_cells`.

    Returns:
        A row per run: task, variant, seed, a, b, difference, standard_error, low, high and p.
    """
    found = [pd.DataFrame(columns=[*_CELL, "seed", *_TESTED])]
    for task, a, b in _tasks(runs):
        run, shared = _spreads(a.index, usual)
        priors = _priors(*_pooled(a.to_numpy(), b.to_numpy(), run))
        own = np.eye(a.shape[1], dtype=bool)
        a_others, b_others = (np.where(own, np.nan, side.to_numpy()[:, None]) for side in (a, b))
        deviation, freedom = _moderated(*_pooled(a_others, b_others, run), priors)
        error = deviation * np.sqrt(shared**2 + 2 * run**2)[:, None]
        tested = _tested(a.to_numpy(), b.to_numpy(), error, freedom)
        variants, seeds = (axis.ravel() for axis in np.meshgrid(a.index, a.columns, indexing="ij"))
        names = {"task": task, "variant": variants, "seed": seeds}
        frame = pd.DataFrame(names | {name: value.ravel() for name, value in tested.items()})
        found.append(frame[frame["difference"].notna()])
    return pd.concat([frame for frame in found if len(frame)] or found, ignore_index=True)


def compare_tasks(runs: pd.DataFrame, usual: Spread | None = None) -> pd.DataFrame:
    """Test whether all cells of a task have moved together, as by another judge.

    Args:
        runs, usual: as in `compare_cells`.

    Returns:
        A row per task with at least two common seeds: task; difference: the mean over seeds of the
        median over cells, in standard deviations of each cell over seeds, with its standard_error,
        interval and p.
    """
    rows = []
    for task, a, b in _tasks(runs):
        run, shared = _spreads(a.index, usual)
        variance = _pooled(a.to_numpy(), b.to_numpy(), run)
        deviation, _ = _moderated(*variance, _priors(*variance))
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = (b - a).div(deviation, axis=0).dropna(how="all")
        # The median: a fault of one cell moves no others.
        means = moved.median().dropna()
        if len(means) < 2 or not np.isfinite(means).all():
            continue
        error = math.sqrt(shared.max() ** 2 + means.var() / len(means))
        tested = _tested(0.0, means.mean(), error, len(means) - 1)
        rows.append({"task": task} | {name: float(value) for name, value in tested.items()})
    columns = ["task", *_TESTED]
    return pd.DataFrame(rows, columns=columns).drop(columns=["a", "b"])


def measure_spread(runs: pd.DataFrame, deviations: pd.Series | None = None) -> Spread:
    """Measure how much reruns differ, for `USUAL`.

    Args:
        runs: a row per rerun: task, variant, seed; setting, the machine or what stands for it; a,
            the score of the first run, and b, that of the rerun.
        deviations: the standard deviation over seeds by task and variant, where more seeds tell it
            than these; None: that of these seeds.

    Returns:
        The spread: variances of the differences within and between the cells of a setting, divided
        by the variances over seeds, all averaged over cells with two seeds. A negative estimate of
        the square of `shared` counts as 0.

    Raises:
        ValueError: if no cell has two seeds.
    """
    runs = runs.assign(difference=runs["b"] - runs["a"])
    groups = runs.groupby(["setting", *_CELL])
    seeds = groups.size()
    known = seeds > 1
    if not known.any():
        raise ValueError("no cell has two seeds; run more seeds")
    variances = (groups["a"].var() + groups["b"].var()) / 2
    if deviations is not None:
        squares = [deviations[task, variant] ** 2 for _, task, variant in variances.index]
        variances = pd.Series(squares, variances.index)
    unit = variances[known].mean()
    within = groups["difference"].var()
    shared = (groups["difference"].mean() ** 2 - within / seeds)[known].mean() / unit
    return Spread(math.sqrt(within[known].mean() / 2 / unit), math.sqrt(max(0.0, shared)))


def _tasks(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Yield each task with the scores of both sides, a row per cell and a column per seed."""
    for task, own in runs.groupby("task", sort=False):
        order = own["variant"].drop_duplicates()
        a, b = (own.pivot(index="variant", columns="seed", values=side) for side in ("a", "b"))
        yield str(task), a.loc[order].astype(float), b.loc[order].astype(float)


def _spreads(variants: pd.Index, usual: Spread | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the usual spreads of cells (N,): of each run, and of all seeds alike."""
    found = [usual or USUAL[kind_of(str(variant))] for variant in variants]
    return np.array([own.run for own in found]), np.array([own.shared for own in found])


def _tested(a: ArrayLike, b: ArrayLike, error: ArrayLike, freedom: ArrayLike) -> dict:
    """Test differences; return the columns `_TESTED`."""
    difference = np.asarray(b) - np.asarray(a)
    half = stats.t.isf(0.025, np.where(np.asarray(freedom) > 0, freedom, np.nan)) * error
    p = _p_value(difference, np.asarray(error), np.asarray(freedom))
    values = (a, b, difference, error, difference - half, difference + half, p)
    return dict(zip(_TESTED, values, strict=True))


def _pooled(a: np.ndarray, b: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pool the variances over seeds (N, ..., S) of both sides; NaN is no run.

    A rerun says little of the spread over seeds that the first run has not said: if runs of the
    two sides have the correlation r, their two variances have r^2 (normal distribution), so both
    together have 2 / (1 + r^2) times the degrees of freedom of one.

    Args:
        a, b: the scores.
        run: the usual spread of the cells (N,), from which r follows.

    Returns:
        Variances (N, ...), NaN without two seeds on a side, and their degrees of freedom (N, ...).
    """
    squares, freedom = np.zeros(a.shape[:-1]), np.zeros(a.shape[:-1])
    for side in (a, b):
        number = np.isfinite(side).sum(axis=-1)
        mean = np.nansum(side, axis=-1) / np.maximum(number, 1)
        squares += np.nansum((side - mean[..., None]) ** 2, axis=-1)
        freedom += np.maximum(number - 1, 0)
    correlation = np.maximum(0.0, 1 - run.reshape(-1, *[1] * (a.ndim - 2)) ** 2)
    is_rerun = (np.isfinite(a) & np.isfinite(b)).any(axis=-1)
    with np.errstate(invalid="ignore"):
        return squares / freedom, freedom / np.where(is_rerun, 1 + correlation**2, 1.0)


def _priors(variance: np.ndarray, freedom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate, for each cell, the distribution of the others' true variances.

    Variances over a centre have an F distribution, with the freedom of each and of the prior. Its
    likelihood counts cells of many seeds for more than those of two. Of the priors within one
    standard error, this is the weakest: to think that cells are alike is the graver error. Cells
    whose scores never vary say nothing, and a cell with a fault says nothing of itself.

    Args:
        variance, freedom: of each cell (N,).

    Returns:
        The centres (N,), and the degrees of freedom (N,), 0 without two other cells.
    """
    known = (freedom > 0) & (variance > 0)
    others = known.sum() - known
    if known.sum() < 2:
        return np.ones(len(known)), np.zeros(len(known))
    own, logs = freedom[known], np.log(variance[known])
    centres = np.average(logs, weights=own) + np.linspace(-1.5, 1.5, 61)
    strengths = np.geomspace(0.5, own.sum(), 40)
    at = strengths[:, None]
    scaled = logs - centres[:, None, None]
    each = np.zeros((len(centres), len(strengths), len(known)))
    each[..., known] = (
        (own * (np.log(own) + scaled) + at * np.log(at)) / 2
        - (own + at) / 2 * np.log(at + own * np.exp(scaled))
        - special.betaln(own / 2, at / 2)
    )
    likely = each.sum(axis=-1, keepdims=True) - each
    best = likely.max(axis=0)
    weakest = np.argmax(best >= best.max(axis=0) - 0.5, axis=0)
    centre = likely[:, weakest, np.arange(len(known))].argmax(axis=0)
    return np.exp(centres[centre]), np.where(others > 1, strengths[weakest], 0.0)


def _moderated(
    variance: np.ndarray, freedom: np.ndarray, priors: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw variances (N, ...) to priors; return standard deviations and degrees of freedom."""
    centre, strength = (own.reshape(-1, *[1] * (variance.ndim - 1)) for own in priors)
    total = freedom + strength
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.where(freedom > 0, freedom * variance, 0.0) + strength * centre
        return np.sqrt(drawn / total), total


def _p_value(difference: np.ndarray, error: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Return two-sided p-values; 1 where nothing differs, NaN where the error is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(difference / error), freedom)
    return np.where(difference == 0, 1.0, p)
