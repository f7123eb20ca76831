"""Claims: verdicts by the rule, corrected over all comparisons, honest about their number."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from humanline.study.claims import Claims, comparisons
from humanline.study.experiments import HumanlineDefaults
from humanline.tables.claims import claim_table, comparison_table

pytestmark = pytest.mark.usefixtures("frozen_heap")

DEFAULTS = {
    "instruction_following": HumanlineDefaults(
        sample_every=8, sync_interval=4, log_eps_p=-1.5, log_eps_r=1.5
    )
}
OBJECTIVES = ["dpo", "kto", "grpo"]
NOISE = np.array([-0.3, 0.1, 0.2])


def claimed(**tests) -> Claims:
    """A claim per test, each on three objectives."""
    return Claims(
        rule={"alpha": 0.05, "power": 0.8},
        claims=[
            {
                "id": name,
                "claim": f"Claim {name}.",
                "source": "notes",
                "primary": True,
                "registered": {"date": "2026-11-26", "reason": "a test"},
                "tests": [
                    {
                        "task": "instruction_following",
                        "each": {"objective": OBJECTIVES},
                        "cell": {"data": "online"},
                        "against": {"data": "offline"},
                    }
                    | test
                ],
            }
            for name, test in tests.items()
        ],
    )


def made(values, **tests):
    """The comparisons of `claimed` with these values."""
    claims = claimed(**tests)
    found = [comparison for _, comparison in comparisons(claims, DEFAULTS)]
    return comparison_table(claims, found, values)


def shifted(by: float, scale: float = 1.0):
    """Values whose difference is `by` in the mean."""
    return lambda comparison: (50 + by + scale * NOISE, np.full(3, 50.0))


GREATER = {"compare": "difference", "expect": "greater"}
LESS = {"compare": "difference", "expect": "less"}
EQUAL = {"compare": "difference", "expect": "equivalent", "margin": 2}


def test_estimates_and_p_values_are_those_of_a_paired_t_test():
    frame = made(shifted(1.0), A=GREATER)
    row = frame.iloc[0]
    expected = stats.ttest_1samp(1 + NOISE, 0, alternative="greater")
    low, high = stats.ttest_1samp(1 + NOISE, 0).confidence_interval()
    assert row["estimate"] == pytest.approx(1)
    assert (row["estimate_low"], row["estimate_high"]) == pytest.approx((low, high))
    assert row["p"] == pytest.approx(expected.pvalue)
    assert row["p_holm"] == pytest.approx(3 * expected.pvalue)  # of three that are alike
    assert row["p"] + row["p_opposite"] == pytest.approx(1)
    assert row["seeds"] == 3


def test_a_ratio_is_tested_against_a_multiple_of_the_other():
    first, second = np.array([60.0, 45.0, 80.0]), np.array([40.0, 31.0, 52.0])
    row = made(lambda _: (first, second), A={"expect": "greater", "to": 1.2}).iloc[0]
    assert row["estimate"] == pytest.approx(first.mean() / second.mean())
    expected = stats.ttest_1samp(first - 1.2 * second, 0, alternative="greater").pvalue
    assert row["p"] == pytest.approx(expected)
    assert row["estimate_low"] < row["estimate"] < row["estimate_high"]


def test_equality_is_two_one_sided_tests():
    first, second = np.array([40.5, 29.8, 50.4, 45.1]), np.array([40.0, 30.0, 50.0, 45.0])
    test = {"expect": "equivalent", "margin": 1.1}
    row = made(lambda _: (first, second), A=test).iloc[0]
    below = stats.ttest_1samp(first - 1.1 * second, 0, alternative="less").pvalue
    above = stats.ttest_1samp(first - second / 1.1, 0, alternative="greater").pvalue
    assert row["p"] == pytest.approx(max(below, above))


@pytest.mark.parametrize(
    ("by", "test", "verdict"),
    [
        (9.0, GREATER, "supported"),
        (-9.0, GREATER, "contradicted"),
        (0.05, GREATER, "undecided"),
        (-9.0, LESS, "supported"),
        (9.0, LESS, "contradicted"),
        (0.0, EQUAL, "supported"),
        (9.0, EQUAL, "contradicted"),
        (-9.0, EQUAL, "contradicted"),
        (2.0, EQUAL, "undecided"),
    ],
)
def test_a_verdict_is_of_the_side_that_is_significant(by, test, verdict):
    frame = made(shifted(by), A=test)
    assert list(frame["verdict"]) == [verdict] * 3
    assert claim_table(claimed(A=test), frame)["verdict"].item() == verdict
    assert frame["seeds_to_decide"].isna().all() == (verdict != "undecided")


def test_no_difference_is_not_equality():
    """What is found not to differ may be just noise."""
    frame = made(shifted(0.0, scale=20.0), A=EQUAL, B=GREATER)
    assert set(frame["verdict"]) == {"undecided"}


def test_a_difference_beyond_the_margin_has_two_chances_to_be_found():
    """At the margin, a false contradiction is as rare as the rule says."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        second = rng.normal(40, 1, size=3)
        first = second + 2 + 50 * rng.normal(size=3)  # at the margin of EQUAL's kind below
        frame = made(lambda _, a=first, b=second: (a, b), A={**EQUAL, "compare": "difference",
                                                             "margin": 2})  # fmt: skip
        found += frame["p_opposite"].iloc[0] < 0.05
    assert found / 400 < 0.085  # without doubling it is nearly 0.1


def test_a_claim_is_supported_if_all_of_its_comparisons_are():
    by = {"dpo": 9.0, "kto": 9.0, "grpo": 0.0}
    mixed = made(lambda c: shifted(by[c.cell.objective])(c), A=GREATER)
    assert list(mixed["verdict"]) == ["supported", "supported", "undecided"]
    summary = claim_table(claimed(A=GREATER), mixed).iloc[0]
    assert summary["verdict"] == "undecided"
    assert (summary["comparisons"], summary["supported"], summary["contradicted"]) == (3, 2, 0)
    by["grpo"] = -9.0
    mixed = made(lambda c: shifted(by[c.cell.objective])(c), A=GREATER)
    against = claim_table(claimed(A=GREATER), mixed).iloc[0]
    assert against["verdict"] == "contradicted"
    assert against["p"] == mixed["p"].max()
    assert against["p_opposite"] == pytest.approx(3 * mixed["p_opposite"].min())


def test_without_two_seeds_nothing_is_decided():
    frame = made(lambda _: (np.array([90.0]), np.array([10.0])), A=GREATER, B=EQUAL)
    assert set(frame["verdict"]) == {"undecided"}
    assert frame[["p", "p_holm", "seeds_to_decide"]].isna().all(axis=None)
    summary = claim_table(claimed(A=GREATER, B=EQUAL), frame)
    assert set(summary["verdict"]) == {"undecided"} and summary["p_holm"].isna().all()


def test_a_ratio_can_be_tested_when_scores_are_zero():
    frame = made(lambda _: (np.zeros(3), np.array([40.0, 41.0, 42.0])), A={"expect": "less"})
    assert np.isfinite(frame["estimate"]).all() and set(frame["verdict"]) == {"supported"}


@settings(deadline=None, max_examples=15)
@given(st.floats(-9, 9), st.floats(0.1, 9))
def test_claims_that_exclude_each_other_are_not_both_supported(by, scale):
    frame = made(shifted(by, scale), A=GREATER, B=LESS, C={**GREATER, "to": 2}, D=EQUAL)
    supported = {
        name: (group["verdict"] == "supported").all() for name, group in frame.groupby("claim")
    }
    assert not (supported["A"] and supported["B"])
    assert not (supported["C"] and supported["D"])
    assert (frame["p_holm"] >= frame["p"] - 1e-12).all()


def test_the_chance_of_any_false_support_is_at_most_alpha():
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(100):
        draws = rng.normal(size=(3, 5))
        by = dict(zip(OBJECTIVES, draws, strict=True))
        frame = made(lambda c, by=by: (50 + by[c.cell.objective], np.full(5, 50.0)), A=GREATER)
        wrong += bool((frame["verdict"] == "supported").any())
    assert wrong / 100 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_every_row_is_legible():
    from humanline.report.formats import human_readable

    frame = made(shifted(1.0), A=GREATER, B=EQUAL)
    for shown in (frame, claim_table(claimed(A=GREATER, B=EQUAL), frame)):
        assert not human_readable(shown).isin(["nan", "None"]).any(axis=None)
    assert isinstance(frame, pd.DataFrame) and (frame["source"] == "notes").all()
