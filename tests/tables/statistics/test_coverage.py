"""Intervals cover the truth, and tests err, as often as they say: simulated experiments."""

import itertools
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

COVERAGE = run_path(str(Path(__file__).parents[3] / "benchmarks" / "coverage.py"))
SD = (2.0, 10.0)  # of the difference over seeds, in points


@pytest.mark.parametrize(
    ("shares_prompts", "seeds"), list(itertools.product((False, True), (3, 5, 10)))
)
def test_coverage_and_size_are_within_two_points_of_nominal(shares_prompts, seeds):
    rng = np.random.default_rng(seeds)
    for compare, sd in itertools.product(("difference", "ratio"), SD):
        design = COVERAGE["Design"](seeds, shares_prompts, sd, compare)
        found = COVERAGE["rates"](design, min(4000, 24_000 // seeds), rng)
        assert abs(found["coverage"] - 95) <= 2, (design, found)
        assert abs(found["size"] - 5) <= 2, (design, found)
        assert max(found["equivalence"], found["non_inferiority"]) <= 7, (design, found)


def test_a_bootstrap_of_few_seeds_covers_too_seldom_if_seeds_differ_much():
    """Why there is none."""
    design = COVERAGE["Design"](3, True, 10.0, "difference")
    assert COVERAGE["bootstrap_coverage"](design, 500, np.random.default_rng(0)) < 88
