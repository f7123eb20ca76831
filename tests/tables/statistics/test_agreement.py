"""Whether two sets of runs agree: noise of the usual size is not reported, faults are."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from humanline.tables.statistics.agreement import (
    Spread,
    compare_cells,
    compare_runs,
    compare_tasks,
    measure_spread,
    two_estimates,
)

USUAL = Spread(run=0.6, shared=0.2)
SEEDS = np.array([10] * 4 + [3] * 10)  # of each cell
DEVIATIONS = np.linspace(0.8, 2.0, len(SEEDS))
TASKS = ("letters", "sums")


def reruns(number: int, usual: Spread = USUAL, seeds=None, tasks=TASKS) -> pd.DataFrame:
    """Runs of both sides, which differ by noise of the usual size alone."""
    rng = np.random.default_rng(number)
    each = SEEDS if seeds is None else np.full(len(SEEDS), seeds)
    cell = np.repeat(np.arange(len(each)), each)
    n = len(tasks), len(cell)
    both = np.sqrt(max(0, 1 - usual.run**2)) * rng.normal(size=n)
    moved = usual.shared * rng.normal(size=(len(tasks), len(each)))[:, cell]
    a, b = (both + usual.run * rng.normal(size=n) for _ in range(2))
    columns = {
        "task": np.repeat(tasks, len(cell)),
        "variant": np.tile(cell, len(tasks)),
        "seed": np.tile(np.concatenate([np.arange(one) for one in each]), len(tasks)),
        "a": 50 + (DEVIATIONS[cell] * a).ravel(),
        "b": 50 + (DEVIATIONS[cell] * (b + moved)).ravel(),
    }
    return pd.DataFrame(columns)


def least_p(runs: pd.DataFrame) -> pd.DataFrame:
    """The least p of each task's cells and runs, corrected for all of them, and where it is."""
    found = []
    for compare in (compare_cells, compare_runs):
        frame = compare(runs, USUAL)
        least = frame.loc[frame.groupby("task")["p"].idxmin()].set_index("task")
        found.append(least.assign(p=2 * least["p"] * frame.groupby("task").size()))
    return pd.concat(found, keys=["cell", "run"], names=["kind"])


def test_noise_of_the_usual_size_is_rarely_reported(monkeypatch):
    # As at laptop scale: most cells have two seeds, and their spreads are of any size.
    rng = np.random.default_rng(3)
    monkeypatch.setitem(globals(), "SEEDS", np.array([10] * 12 + [2] * 24))
    monkeypatch.setitem(globals(), "DEVIATIONS", rng.permutation(np.linspace(0.8, 2.4, 36)))
    studies = 150
    p = least_p(reruns(1, tasks=[f"study{n}" for n in range(studies)]))["p"]
    false = (p.groupby("task").min() < 0.05).sum()
    # The true share is at most 5 %, which is above this with a chance of 1 in 1000.
    assert false <= stats.binom.isf(1e-3, studies, 0.05)


def test_much_more_than_the_usual_noise_is_reported():
    assert (least_p(reruns(1, Spread(0.9, 2.0)))["p"].groupby("task").min() < 0.05).all()


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, len(SEEDS) - 1),
    st.sampled_from("ab"),
    st.sampled_from([-1, 1]),
)
def test_a_fault_in_one_cell_or_one_run_is_found_on_either_side(number, cell, side, sign):
    runs = reruns(number)
    own = runs["task"].eq("sums") & runs["variant"].eq(cell)
    shifted = runs.assign(**{side: runs[side] + sign * 12 * DEVIATIONS[cell] * own})
    found = least_p(shifted).loc[("cell", "sums")]
    assert found["p"] < 0.05 and found["variant"] == cell
    one = own & runs["seed"].eq(1)
    broken = runs.assign(**{side: runs[side] + sign * 25 * DEVIATIONS[cell] * one})
    found = least_p(broken).loc[("run", "sums")]
    assert found["p"] < 0.05 and (found["variant"], found["seed"]) == (cell, 1)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 2), st.floats(0, 2))
def test_a_side_agrees_with_itself_and_order_does_not_matter(number, run, shared):
    usual = Spread(run, shared)
    runs = reruns(number)
    same = runs.assign(b=runs["a"])
    for compare in (compare_cells, compare_runs, compare_tasks):
        assert (compare(same, usual)["p"] == 1).all()
        one, other = compare(runs, usual), compare(runs.rename(columns={"a": "b", "b": "a"}), usual)
        assert one["p"].to_numpy() == pytest.approx(other["p"].to_numpy())
        assert one["difference"].to_numpy() == pytest.approx(-other["difference"].to_numpy())


def test_the_variance_is_that_of_the_docstring():
    # So many seeds that a cell's own deviation is known and the prior has no weight to speak of.
    runs = reruns(3, seeds=400)
    found = compare_cells(runs, USUAL).set_index(["task", "variant"])
    for (task, name), row in found.iterrows():
        own = runs[runs["task"].eq(task) & runs["variant"].eq(name)]
        deviation = np.sqrt((own["a"].var() + own["b"].var()) / 2)
        expected = deviation * np.sqrt(0.2**2 + 2 * 0.6**2 / 400)
        assert row["standard_error"] == pytest.approx(expected, rel=0.02)
        assert row["difference"] == pytest.approx(own["b"].mean() - own["a"].mean())
        assert row["low"] < row["difference"] < row["high"]


def test_without_common_seeds_means_are_compared_over_all_seeds():
    runs = reruns(1, seeds=300)
    is_a = runs["seed"] < 100
    runs = runs.assign(a=runs["a"].where(is_a), b=runs["b"].where(~is_a))
    found = compare_cells(runs, Spread(0.1, 0))
    assert (found["common"] == 0).all() and len(found) == 2 * len(SEEDS)
    own = runs[runs["task"].eq("sums") & runs["variant"].eq(1)]
    row = found[found["task"].eq("sums") & found["variant"].eq(1)].iloc[0]
    expected = stats.ttest_ind(own["a"].dropna(), own["b"].dropna()).pvalue
    assert row["p"] == pytest.approx(expected, abs=0.1)
    assert compare_runs(runs).empty and compare_tasks(runs).empty


def test_all_cells_that_move_together_are_found():
    runs = reruns(2)
    moved = runs.assign(b=runs["b"] + 2 * runs["task"].eq("sums"))
    p = compare_tasks(moved, USUAL).set_index("task")["p"]
    assert p["sums"] < 0.001 < p["letters"]


def test_one_seed_cannot_be_tested_and_missing_runs_are_left_out():
    one = reruns(1, seeds=1)
    assert compare_cells(one)["p"].isna().all() and compare_runs(one)["p"].isna().all()
    lacking = one.assign(b=np.nan)
    assert compare_cells(lacking).empty and compare_runs(lacking).empty
    # With one seed here and three there, the others' spread is all that is known; it is enough.
    runs = reruns(1)
    short = runs[~(runs["variant"].eq(9) & runs["seed"].gt(0))]
    assert compare_cells(short)["p"].notna().all()


def test_the_spread_is_measured():
    truth = Spread(0.7, 0.4)
    measured = pd.concat([reruns(n, truth, seeds=6).assign(setting=n) for n in range(30)])
    found = measure_spread(measured)
    assert (found.run, found.shared) == (pytest.approx(0.7, abs=0.05), pytest.approx(0.4, abs=0.06))
    same = measure_spread(measured.assign(b=measured["a"]))
    assert (same.run, same.shared) == (0, 0)
    with pytest.raises(ValueError, match="two seeds"):
        measure_spread(measured[measured["seed"] == 0])


def test_two_estimates_are_compared_as_by_welch():
    a, b = np.array([1.0, 2.0, 3.0, 4.5]), np.array([2.0, 4.0, 4.5, 5.0, 7.0])
    expected = stats.ttest_ind(a, b, equal_var=False).pvalue
    errors, seeds = (stats.sem(a), stats.sem(b)), (len(a), len(b))
    assert two_estimates(a.mean(), b.mean(), errors, seeds, shared=0) == pytest.approx(expected)
    assert two_estimates(a.mean(), b.mean(), errors, seeds, shared=1) > expected
    assert np.isnan(two_estimates(1.0, 2.0, (0.1, 0.1), (1, 3)))
    assert np.isnan(two_estimates(1.0, 2.0, (np.nan, 0.1), (3, 3)))
    assert two_estimates(1.0, 1.0, (0.1, 0.1), (3, 3)) == 1
