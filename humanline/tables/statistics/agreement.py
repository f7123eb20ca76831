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
from scipy import optimize, special, stats

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


# With a margin above what is known: docs/statistics.md, "Whether two runs of a scale agree".
USUAL = Spread(run=0.5, shared=0.3)


def are_equal(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Say which numbers are equal but for the rounding of one sum; NaN equals NaN."""
    return np.isclose(a, b, rtol=_EQUAL, atol=_EQUAL, equal_nan=True)


def two_estimates(
    a: np.ndarray, b: np.ndarray, errors: tuple, seeds: tuple, shared: float = USUAL.shared
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


def compare_cells(runs: pd.DataFrame, usual: Spread = USUAL) -> pd.DataFrame:
    """Compare the mean score of every cell that both sides have.

    Args:
        runs: a row per run of either side, with the columns task, variant, seed, and a and b, its
            scores; NaN on the side that has no such run.
        usual: how much a rerun usually differs.

    Returns:
        A row per cell: task, variant; common: the number of common seeds. a, b: the means over
        these, or over all seeds if there are none; difference: b - a, with its standard_error, and
        low and high, its 95 % interval; p: two-sided, NaN if no cell of the task has two seeds.
    """
    found = [pd.DataFrame(columns=[*_CELL, "common", *_TESTED])]
    for task, a, b in _tasks(runs):
        common = np.isfinite(a.to_numpy()) & np.isfinite(b.to_numpy())
        has_common = common.any(axis=1)
        with np.errstate(divide="ignore"):
            apart = 1 / a.count(axis=1).to_numpy() + 1 / b.count(axis=1).to_numpy()
            together = 2 * usual.run**2 / common.sum(axis=1)
        factor = usual.shared**2 + np.where(has_common, together, apart)
        kept = common | ~has_common[:, None]
        first, second = (side.where(kept).mean(axis=1).to_numpy() for side in (a, b))
        variance = _pooled(a.to_numpy(), b.to_numpy())
        deviation, freedom = _moderated(*variance, _prior(*variance))
        tested = _tested(first, second, deviation * np.sqrt(factor), freedom)
        cells = {"task": task, "variant": a.index, "common": common.sum(axis=1)}
        frame = pd.DataFrame(cells | tested)
        found.append(frame[frame["difference"].notna()])
    return pd.concat([frame for frame in found if len(frame)] or found, ignore_index=True)


def compare_runs(runs: pd.DataFrame, usual: Spread = USUAL) -> pd.DataFrame:
    """Compare every run that both sides have with its rerun.

    The spread of its cell is taken without its own seed, so a fault does not hide itself.

    Args:
        runs, usual: as in `compare_cells`.

    Returns:
        A row per run: task, variant, seed, a, b, difference, standard_error, low, high and p.
    """
    found = [pd.DataFrame(columns=[*_CELL, "seed", *_TESTED])]
    for task, a, b in _tasks(runs):
        prior = _prior(*_pooled(a.to_numpy(), b.to_numpy()))
        own = np.eye(a.shape[1], dtype=bool)
        others = [np.where(own, np.nan, side.to_numpy()[:, None, :]) for side in (a, b)]
        deviation, freedom = _moderated(*_pooled(*others), prior)
        error = deviation * math.sqrt(usual.shared**2 + 2 * usual.run**2)
        tested = _tested(a.to_numpy(), b.to_numpy(), error, freedom)
        variants, seeds = (axis.ravel() for axis in np.meshgrid(a.index, a.columns, indexing="ij"))
        names = {"task": task, "variant": variants, "seed": seeds}
        frame = pd.DataFrame(names | {name: value.ravel() for name, value in tested.items()})
        found.append(frame[frame["difference"].notna()])
    return pd.concat([frame for frame in found if len(frame)] or found, ignore_index=True)


def compare_tasks(runs: pd.DataFrame, usual: Spread = USUAL) -> pd.DataFrame:
    """Test whether all cells of a task have moved together, as by another judge.

    Args:
        runs, usual: as in `compare_cells`.

    Returns:
        A row per task with at least two common seeds: task; difference: the mean over seeds of the
        median over cells, in standard deviations of each cell over seeds, with its standard_error,
        interval and p; spread: the standard deviation of a run's difference in the same units,
        divided by the square root of 2, to be seen beside `Spread.run`.
    """
    rows = []
    for task, a, b in _tasks(runs):
        variance = _pooled(a.to_numpy(), b.to_numpy())
        deviation, _ = _moderated(*variance, _prior(*variance))
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = (b - a).div(deviation, axis=0).dropna(how="all")
        # The median: a fault of one cell moves no others.
        means = moved.median().dropna()
        if len(means) < 2 or not np.isfinite(means).all():
            continue
        error = math.sqrt(usual.shared**2 + means.var() / len(means))
        tested = _tested(0.0, means.mean(), error, len(means) - 1)
        spread = math.sqrt(moved.var(axis=1).mean() / 2)
        rows.append({"task": task, "spread": spread} | {k: float(v) for k, v in tested.items()})
    columns = ["task", "spread", *_TESTED]
    return pd.DataFrame(rows, columns=columns).drop(columns=["a", "b"])


def measure_spread(runs: pd.DataFrame) -> Spread:
    """Measure how much reruns differ, for `USUAL`.

    Args:
        runs: a row per rerun: task, variant, seed; setting, the machine or what stands for it; a,
            the score of the first run, and b, that of the rerun.

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
    unit = ((groups["a"].var() + groups["b"].var()) / 2)[known].mean()
    within = groups["difference"].var()
    shared = (groups["difference"].mean() ** 2 - within / seeds)[known].mean() / unit
    return Spread(math.sqrt(within[known].mean() / 2 / unit), math.sqrt(max(0.0, shared)))


def _tasks(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Yield each task with the scores of both sides, a row per cell and a column per seed."""
    for task, own in runs.groupby("task", sort=False):
        order = own["variant"].drop_duplicates()
        a, b = (own.pivot(index="variant", columns="seed", values=side) for side in ("a", "b"))
        yield str(task), a.loc[order].astype(float), b.loc[order].astype(float)


def _tested(a: ArrayLike, b: ArrayLike, error: ArrayLike, freedom: ArrayLike) -> dict:
    """Test differences; return the columns `_TESTED`."""
    difference = np.asarray(b) - np.asarray(a)
    half = stats.t.isf(0.025, np.where(np.asarray(freedom) > 0, freedom, np.nan)) * error
    p = _p_value(difference, np.asarray(error), np.asarray(freedom))
    values = (a, b, difference, error, difference - half, difference + half, p)
    return dict(zip(_TESTED, values, strict=True))


def _pooled(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pool the variances over seeds (..., S) of both sides; NaN is no run.

    Returns:
        Variances (...), NaN without two seeds on a side, and their degrees of freedom (...).
    """
    squares, freedom = np.zeros(a.shape[:-1]), np.zeros(a.shape[:-1])
    for side in (a, b):
        number = np.isfinite(side).sum(axis=-1)
        mean = np.nansum(side, axis=-1) / np.maximum(number, 1)
        squares += np.nansum((side - mean[..., None]) ** 2, axis=-1)
        freedom += np.maximum(number - 1, 0)
    with np.errstate(invalid="ignore"):
        return squares / freedom, freedom


def _prior(variance: np.ndarray, freedom: np.ndarray) -> tuple[float, float]:
    """Estimate the distribution of the cells' true variances: its centre, and its freedom.

    Cells whose scores never vary say nothing of it. Without two cells there is no prior.
    """
    known = (freedom > 0) & (variance > 0)
    if known.sum() < 2:
        return math.nan, 0.0
    half = freedom[known] / 2
    logs = np.log(variance[known]) - special.digamma(half) + np.log(half)
    excess = logs.var(ddof=1) - special.polygamma(1, half).mean()
    most = float(freedom[known].sum())
    if excess <= special.polygamma(1, most / 2):
        return float(np.exp(logs.mean())), most
    own = optimize.brentq(lambda x: float(special.polygamma(1, x)) - excess, 1e-3, most)
    return float(np.exp(logs.mean() + special.digamma(own) - np.log(own))), 2 * own


def _moderated(
    variance: np.ndarray, freedom: np.ndarray, prior: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw variances to their prior; return standard deviations and their degrees of freedom."""
    centre, strength = prior
    total = freedom + strength
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.where(freedom > 0, freedom * variance, 0.0)
        drawn = drawn + (strength * centre if strength else 0.0)
        return np.sqrt(drawn / total), total


def _p_value(difference: np.ndarray, error: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Return two-sided p-values; 1 where nothing differs, NaN where the error is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(difference / error), freedom)
    return np.where(difference == 0, 1.0, p)
