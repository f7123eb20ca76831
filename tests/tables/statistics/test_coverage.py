"""Intervals cover the truth, and tests err, as often as they say: simulated experiments."""

import itertools
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

COVERAGE = run_path(str(Path(__file__).parents[3] / "benchmarks" / "coverage.py"))
THOROUGH = [pytest.mark.slow, pytest.mark.thorough]
SD = (2.0, 10.0)  # of the difference over seeds, in points
SEEDS = (3, 5, 10)
# All with few seeds and shared prompts, where nominal rates are hardest to keep, run in CI.
CASES = [
    pytest.param(shares, seeds, marks=[] if (shares, seeds) == (True, 3) else THOROUGH)
    for shares, seeds in itertools.product((False, True), SEEDS)
]


def assert_nominal(found: dict[str, float], name: object) -> None:
    assert abs(found["coverage"] - 95) <= 2, (name, found)
    assert abs(found["size"] - 5) <= 2, (name, found)
    assert max(found["equivalence"], found["non_inferiority"]) <= 7, (name, found)


@pytest.mark.parametrize(("shares_prompts", "seeds"), CASES)
def test_coverage_and_size_are_within_two_points_of_nominal(shares_prompts, seeds):
    """By `intervals` and `significance`, of which `estimate` and `p_value` are one study."""
    rng = np.random.default_rng(seeds)
    for compare, sd in itertools.product(("difference", "ratio"), SD):
        design = COVERAGE["Design"](seeds, shares_prompts, sd, compare)
        assert_nominal(COVERAGE["simulated_rates"](design, min(4000, 24_000 // seeds), rng), design)


@pytest.mark.parametrize(("shares_prompts", "seeds"), CASES)
def test_so_they_are_of_a_mean_over_objectives(shares_prompts, seeds):
    """Its log ratios are correlated: they share the seed's base model and the prompts."""
    design = COVERAGE["Design"](seeds, shares_prompts, 5.0, "mean")
    rng = np.random.default_rng(seeds)
    assert_nominal(COVERAGE["simulated_rates"](design, min(3000, 15_000 // seeds), rng), design)


@pytest.mark.slow
@pytest.mark.thorough
def test_so_they_are_of_length_controlled_win_rates_on_shared_prompts():
    """The pseudo-values of a fit, which is no mean over prompts, are only approximate."""
    made = COVERAGE["length_controlled_contrast"](10, 600, np.random.default_rng(0))
    for seeds in SEEDS:
        assert_nominal(COVERAGE["rates"](made.on(range(seeds))), seeds)


def test_a_bootstrap_of_few_seeds_covers_too_seldom_if_seeds_differ_much():
    """Why there is none."""
    design = COVERAGE["Design"](3, True, 10.0, "difference")
    assert COVERAGE["bootstrap_coverage"](design, 500, np.random.default_rng(0)) < 88
