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
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

_CELL = ["task", "variant"]
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


# The measurement is in results/reference/benchmarks/other_machines.md.
USUAL = Spread(run=1.0, shared=0.5)


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
        A row per cell: task, variant; seeds_a, seeds_b, and common, their common seeds. a, b: the
        mean over the common seeds, or over all if there are none; difference: b - a, with its
        standard_error, and low and high, its 95 % interval; p: two-sided, NaN if no cell of the
        task has two seeds.
    """
    cells = [_cell(*item, usual) for item in runs.groupby(_CELL, sort=False)]
    frame = pd.DataFrame([cell for cell in cells if cell["seeds_a"] and cell["seeds_b"]])
    if frame.empty:
        return frame
    found = [_with_tests(group) for _, group in frame.groupby("task", sort=False)]
    return pd.concat(found).drop(columns=["factor", "variance", "freedom"])


def compare_runs(runs: pd.DataFrame, usual: Spread = USUAL) -> pd.DataFrame:
    """Compare every run that both sides have with its rerun.

    The spread of its cell is taken without its own seed, so a fault does not hide itself.

    Args:
        runs, usual: as in `compare_cells`.

    Returns:
        A row per run: task, variant, seed, a, b, difference, standard_error and p.
    """
    factor = math.sqrt(usual.shared**2 + 2 * usual.run**2)
    found = []
    for _, group in runs.groupby("task", sort=False):
        prior = _prior(*_variances(own for _, own in group.groupby("variant")))
        for _, own in group.groupby("variant", sort=False):
            common = own[own[["a", "b"]].notna().all(axis=1)]
            if common.empty:
                continue
            others = _variances(own[own["seed"] != seed] for seed in common["seed"])
            deviation, freedom = _moderated(*others, prior)
            difference = common["b"] - common["a"]
            error = factor * deviation
            tested = {"standard_error": error, "p": _p_value(difference, error, freedom)}
            found.append(common.assign(difference=difference, **tested))
    columns = [*_CELL, "seed", "a", "b", "difference", "standard_error", "p"]
    return pd.concat(found)[columns] if found else pd.DataFrame(columns=columns)


def compare_tasks(runs: pd.DataFrame, usual: Spread = USUAL) -> pd.DataFrame:
    """Test whether all cells of a task have moved together, as by another judge.

    Args:
        runs, usual: as in `compare_cells`.

    Returns:
        A row per task that has at least two common seeds: task; difference: the mean over cells
        and seeds, in standard deviations of each cell over seeds, with its standard_error; spread:
        the standard deviation of a run's difference in the same units, divided by the square root
        of 2, to be seen beside `Spread.run`; and p.
    """
    rows = []
    for task, group in runs.groupby("task", sort=False):
        names, cells = zip(*group.groupby("variant"), strict=True)
        variances = _variances(cells)
        deviation, _ = _moderated(*variances, _prior(*variances))
        unit = group["variant"].map(dict(zip(names, deviation, strict=True)))
        group = group.assign(moved=(group["b"] - group["a"]) / unit).dropna(subset="moved")
        means = group.groupby("seed")["moved"].mean()
        if len(means) < 2 or not np.isfinite(group["moved"]).all():
            continue
        error = math.sqrt(usual.shared**2 + means.var() / len(means))
        within = group.groupby("variant")["moved"].var().mean()
        row = {"task": task, "difference": means.mean(), "standard_error": error}
        row["spread"] = math.sqrt(within / 2)
        rows.append(row | {"p": float(_p_value(means.mean(), error, len(means) - 1))})
    return pd.DataFrame(rows, columns=["task", "difference", "standard_error", "spread", "p"])


def measure_spread(runs: pd.DataFrame) -> Spread:
    """Measure how much reruns differ, for `USUAL`.

    Args:
        runs: a row per rerun: task, variant, seed; setting, the machine or what stands for it; a,
            the score of the first run, and b, that of the rerun.

    Returns:
        The spread: pooled variances of the differences within and between the cells of a setting,
        divided by the cells' variances over seeds. A negative `shared` squared counts as 0.
    """
    runs = runs.assign(difference=runs["b"] - runs["a"])
    groups = runs.groupby(["setting", *_CELL])
    seeds = groups.size()
    variance = (groups["a"].var() + groups["b"].var()) / 2
    within, between = groups["difference"].var(), groups["difference"].mean() ** 2
    known = seeds > 1
    if not known.any():
        raise ValueError("no cell has two seeds; run more seeds")
    unit = variance[known].mean()
    run = within[known].mean() / 2 / unit
    shared = (between - within / seeds)[known].mean() / unit
    return Spread(math.sqrt(run), math.sqrt(max(0.0, shared)))


def _cell(name: tuple, own: pd.DataFrame, usual: Spread) -> dict:
    """Collect what a cell's test needs: means, their variance in that of seeds, and the latter."""
    common = own[own[["a", "b"]].notna().all(axis=1)]
    used = own if common.empty else common
    number = own[["a", "b"]].notna().sum()
    row = {**dict(zip(_CELL, name, strict=True)), "seeds_a": number["a"], "seeds_b": number["b"]}
    row |= {"common": len(common), "a": used["a"].mean(), "b": used["b"].mean()}
    row["difference"] = row["b"] - row["a"]
    if len(common):
        row["factor"] = usual.shared**2 + 2 * usual.run**2 / len(common)
    else:
        row["factor"] = usual.shared**2 + (1 / number.replace(0, np.nan)).sum()
    row["variance"], row["freedom"] = _variance(own)
    return row


def _with_tests(cells: pd.DataFrame) -> pd.DataFrame:
    """Add error, interval and p to the cells of a task."""
    variance, freedom = cells["variance"].to_numpy(), cells["freedom"].to_numpy()
    deviation, degrees = _moderated(variance, freedom, _prior(variance, freedom))
    error = deviation * np.sqrt(cells["factor"].to_numpy())
    half = stats.t.isf(0.025, degrees) * error
    difference = cells["difference"].to_numpy()
    return cells.assign(
        standard_error=error,
        low=difference - half,
        high=difference + half,
        p=_p_value(difference, error, degrees),
    )


def _variances(groups: Iterable[pd.DataFrame]) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances over seeds of some cells, and their degrees of freedom."""
    first, second = zip(*map(_variance, groups), strict=True)
    return np.array(first), np.array(second)


def _variance(own: pd.DataFrame) -> tuple[float, int]:
    """Pool a cell's variances over seeds of both sides; return it with its degrees of freedom."""
    scores = [own[side].dropna() for side in ("a", "b")]
    freedom = [max(0, len(one) - 1) for one in scores]
    squares = sum(one.var() * n for one, n in zip(scores, freedom, strict=True) if n)
    return (squares / sum(freedom), sum(freedom)) if sum(freedom) else (math.nan, 0)


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


def _p_value(difference, error, freedom) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Return two-sided p-values; 1 where nothing differs, NaN where the error is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(np.asarray(difference) / error), freedom)
    return np.where(np.asarray(difference) == 0, 1.0, p)
