"""Claims: verdicts by the rule on primary claims, and the results of their comparisons."""

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from humanline.study.claims import Claims, comparisons
from humanline.study.experiments import HumanlineDefaults
from humanline.study.words import labels
from humanline.tables.claims import (
    claim_table,
    comparison_table,
    p_values,
    with_seeds_to_decide,
)
from humanline.tables.statistics.sample_size import seeds_to_decide
from humanline.tables.statistics.scores import Contrast, Scores

DEFAULTS = {
    "instruction_following": HumanlineDefaults(
        sample_every=8, sync_interval=4, log_eps_p=-1.5, log_eps_r=1.5
    )
}
OBJECTIVES = ["dpo", "kto", "grpo"]
NOISE = np.array([-0.3, 0.1, 0.2])


def claimed(primary=True, **tests) -> Claims:
    """A claim per test, each on three objectives."""
    return Claims(
        rule={"alpha": 0.05, "power": 0.8},
        claims=[
            {
                "id": name,
                "claim": f"Claim {name}.",
                "source": "notes",
                "primary": primary,
                "registered": {"date": "2026-11-26", "reason": "a test"},
                "tests": [
                    {
                        "says": "beats",
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


def pairs_of(values):
    """Give every pair of cells the two arrays that `values` returns for the first of them."""

    def found(comparison):
        arrays = [map(np.asarray, values(cell)) for cell, _ in comparison.pairs]
        return [
            (Scores(tuple(range(len(a))), a * 1.0), Scores(tuple(range(len(b))), b * 1.0))
            for a, b in arrays
        ]

    return found


def made(values, claims=None, **tests):
    """The comparisons of `claimed` with these values."""
    claims = claims or claimed(**tests)
    found = [comparison for _, comparison in comparisons(claims, DEFAULTS)]
    return comparison_table(claims, found, pairs_of(values))


def planned(values, claims):
    """The comparisons with the seeds that would decide them."""
    found = [comparison for _, comparison in comparisons(claims, DEFAULTS)]
    return with_seeds_to_decide(made(values, claims), claims, found, pairs_of(values))


def verdicts(values, claims=None, **tests):
    claims = claims or claimed(**tests)
    return claim_table(claims, made(values, claims)).set_index("claim")


def shifted(by: float, scale: float = 1.0):
    """Values whose difference is `by` in the mean."""
    return lambda cell: (50 + by + scale * NOISE, np.full(3, 50.0))


def by_objective(by: dict, scale: float = 1.0):
    return lambda cell: shifted(by[cell.objective], scale)(cell)


GREATER = {"compare": "difference", "expect": "greater"}
LESS = {"compare": "difference", "expect": "less"}
EQUAL = {"compare": "difference", "expect": "equivalent", "margin": 2}
COUNTS = LESS | {"negligible": 2}
NOT_LESS = {"compare": "difference", "expect": "not_less", "margin": 2}


def test_estimates_and_p_values_are_those_of_a_paired_t_test():
    row = made(shifted(1.0), A=GREATER).iloc[0]
    expected = stats.ttest_1samp(1 + NOISE, 0, alternative="greater")
    low, high = stats.ttest_1samp(1 + NOISE, 0).confidence_interval()
    assert row["estimate"] == pytest.approx(1)
    assert (row["estimate_low"], row["estimate_high"]) == pytest.approx((low, high))
    assert row["p_uncorrected"] == pytest.approx(expected.pvalue)
    assert row["p_uncorrected"] + row["p_opposite_uncorrected"] == pytest.approx(1)
    assert row["seeds"] == 3
    assert verdicts(shifted(1.0), A=GREATER).loc["A", "p"] == pytest.approx(expected.pvalue)


def test_a_ratio_is_tested_on_the_log_scale():
    first, second = np.array([60.0, 45.0, 80.0]), np.array([40.0, 31.0, 52.0])
    row = made(lambda _: (first, second), A={"expect": "greater", "to": 1.2}).iloc[0]
    logs = np.log(first / second)
    assert row["estimate"] == pytest.approx(stats.gmean(first / second))
    interval = np.exp(stats.ttest_1samp(logs, 0).confidence_interval())
    assert (row["estimate_low"], row["estimate_high"]) == pytest.approx(tuple(interval))
    expected = stats.ttest_1samp(logs, math.log(1.2), alternative="greater").pvalue
    assert row["p_uncorrected"] == pytest.approx(expected)


def test_equality_is_two_one_sided_tests_and_not_less_is_the_lower_one():
    first, second = np.array([40.5, 29.8, 50.4, 45.1]), np.array([40.0, 30.0, 50.0, 45.0])
    logs = np.log(first / second)
    below = stats.ttest_1samp(logs, math.log(1.1), alternative="less").pvalue
    above = stats.ttest_1samp(logs, -math.log(1.1), alternative="greater").pvalue
    row = made(lambda _: (first, second), A={"expect": "equivalent", "margin": 1.1}).iloc[0]
    assert row["p_uncorrected"] == pytest.approx(max(below, above))
    row = made(lambda _: (first, second), A={"expect": "not_less", "margin": 1.1}).iloc[0]
    assert row["p_uncorrected"] == pytest.approx(above)
    assert row["claimed"] == "> 0.909"


@pytest.mark.parametrize(
    ("by", "test", "verdict"),
    [
        (9.0, GREATER, "supported"),
        (-9.0, GREATER, "contradicted"),
        (0.05, GREATER, "undecided"),
        (-9.0, LESS, "supported"),
        (9.0, LESS, "contradicted"),
        (0.0, LESS, "undecided"),
        (0.0, COUNTS, "contradicted"),
        (-1.0, COUNTS, "supported"),  # small, but there
        (-2.0, COUNTS, "supported"),
        (0.0, EQUAL, "supported"),
        (9.0, EQUAL, "contradicted"),
        (-9.0, EQUAL, "contradicted"),
        (2.0, EQUAL, "undecided"),
        (9.0, NOT_LESS, "supported"),
        (-9.0, NOT_LESS, "contradicted"),
        (-2.0, NOT_LESS, "undecided"),
        (0.05, GREATER | {"compare": "ratio", "negligible": 1.1}, "contradicted"),
    ],
)
def test_a_verdict_is_of_the_side_that_is_significant(by, test, verdict):
    frame = planned(shifted(by), claimed(A=test))
    result = {"supported": "yes", "contradicted": "no", "undecided": "open"}[verdict]
    assert list(frame["result"]) == [result] * 3
    assert claim_table(claimed(A=test), frame)["verdict"].item() == verdict
    assert frame["seeds_to_decide"].isna().all() == (verdict != "undecided")


def test_no_difference_is_not_equality():
    """What is found not to differ may be just noise."""
    assert set(verdicts(shifted(0.0, scale=20.0), A=EQUAL, B=GREATER)["verdict"]) == {"undecided"}


def test_a_difference_beyond_the_margin_has_two_chances_to_be_found():
    """At the margin, a false contradiction is as rare as the rule says."""
    rng = np.random.default_rng(0)
    (_, own), *_ = comparisons(claimed(A=EQUAL), DEFAULTS)
    contrasts = [Contrast((1, 2, 3), 2 + 50 * rng.normal(size=3)) for _ in range(400)]
    found = sum(p_values(own, contrast)[1] < 0.05 for contrast in contrasts)
    assert found / 400 < 0.085  # without doubling it is nearly 0.1


def test_a_claim_is_supported_if_all_of_its_comparisons_are():
    by = {"dpo": 9.0, "kto": 9.0, "grpo": 0.0}
    mixed = made(by_objective(by), A=GREATER)
    assert list(mixed["result"]) == ["yes", "yes", "open"]
    summary = claim_table(claimed(A=GREATER), mixed).iloc[0]
    assert summary["verdict"] == "undecided"
    assert (summary["comparisons"], summary["yes"], summary["no"]) == (3, 2, 0)
    assert summary["one_by_one"] == "DPO: beats yes; KTO: beats yes; GRPO: beats open"
    by["grpo"] = -9.0
    mixed = made(by_objective(by), A=GREATER)
    against = claim_table(claimed(A=GREATER), mixed).iloc[0]
    assert against["verdict"] == "contradicted"
    assert against["p"] == mixed["p_uncorrected"].max()
    assert against["p_opposite"] == pytest.approx(3 * mixed["p_opposite_uncorrected"].min())


def test_the_correction_is_over_primary_claims_alone():
    tests = {"A": GREATER, "B": GREATER, "C": GREATER}
    alone = verdicts(shifted(1.0), A=GREATER)
    assert alone.loc["A", "p_holm"] == alone.loc["A", "p"]
    claims = claimed(**tests)
    secondary = claims.claims[2].model_copy(update={"primary": False})
    claims = claims.model_copy(update={"claims": [*claims.claims[:2], secondary]})
    table = verdicts(shifted(1.0), claims)
    assert table.loc["A", "p_holm"] == pytest.approx(2 * table.loc["A", "p"])
    assert table.loc["C", "verdict"] == "exploratory"
    assert table.loc["C", ["p", "p_holm", "p_opposite", "p_opposite_holm"]].isna().all()
    frame = planned(shifted(1.0), claims).set_index("claim").loc["C"]
    assert set(frame["result"]) == {"exploratory"} and frame["estimate"].notna().all()
    assert frame[["p_uncorrected", "p_sequence", "seeds_to_decide"]].isna().all(axis=None)


MEAN = GREATER | {"over": "mean"}


def test_a_mean_over_objectives_decides_and_points_follow_in_order():
    by = {"dpo": 9.0, "kto": 0.0, "grpo": 9.0}
    frame = made(by_objective(by), A=MEAN).set_index("point")
    assert list(frame.index) == ["mean", "DPO", "KTO", "GRPO"]
    assert frame.loc["mean", "estimate"] == pytest.approx(6)
    # The third holds by itself, but the one before it stops the sequence.
    assert list(frame["result"]) == ["yes", "yes", "open", "not reached"]
    sequence = frame.loc[["DPO", "KTO", "GRPO"], "p_sequence"]
    assert sequence.is_monotonic_increasing
    assert verdicts(by_objective(by), A=MEAN).loc["A", "verdict"] == "supported"
    # So does one that is the reverse of what is claimed, and the table says so.
    by = {"dpo": 9.0, "kto": -3.0, "grpo": 9.0}
    assert list(made(by_objective(by), A=MEAN)["result"]) == ["yes", "yes", "no", "not reached"]
    by = {"dpo": -9.0, "kto": -9.0, "grpo": 0.0}
    assert list(made(by_objective(by), A=MEAN)["result"]) == ["no", "no", "no", "open"]
    by = {"dpo": 9.0, "kto": -9.0, "grpo": 0.0}
    assert list(made(by_objective(by), A=MEAN)["result"]) == [
        "open",
        "not reached",
        "not reached",
        "open",
    ]


def test_the_mean_of_ratios_is_of_logarithms():
    first = {"dpo": 80.0, "kto": 40.0, "grpo": 20.0}
    noise = np.array([1.0, 1.1, 0.9])
    values = lambda cell: (first[cell.objective] * noise, np.full(3, 40.0))  # noqa: E731
    row = made(values, A={"expect": "greater", "over": "mean"}).iloc[0]
    assert row["estimate"] == pytest.approx(stats.gmean(noise))


def test_the_seeds_to_decide_are_for_the_side_of_the_estimate():
    """Of three comparisons any contradicts, at a third of the level."""

    def number(by: float, scale: float, test: dict) -> tuple[float, Contrast]:
        frame = planned(shifted(by, scale), claimed(A=test))
        return frame["seeds_to_decide"].iloc[0], Contrast((1, 2, 3), by + scale * NOISE)

    def expected(contrast: Contrast, bound: float, alpha: float) -> float:
        return seeds_to_decide(contrast, [bound], alpha=alpha, power=0.8)[0]

    found, contrast = number(-0.5, 1.0, GREATER)
    assert found == expected(contrast, 0.0, 0.05 / 3) > expected(contrast, 0.0, 0.05)
    found, contrast = number(-0.5, 3.0, COUNTS)  # small, but on the claimed side
    assert found == expected(contrast, 0.0, 0.05) > expected(contrast, -2.0, 0.05 / 3)
    found, contrast = number(0.5, 6.0, COUNTS)
    assert found == expected(contrast, -2.0, 0.05 / 3)


def test_what_is_open_in_a_decided_claim_has_its_number_of_seeds():
    frame = planned(by_objective({"dpo": 9.0, "kto": -9.0, "grpo": 0.1}), claimed(A=GREATER))
    assert list(frame["result"]) == ["yes", "no", "open"]
    assert list(frame["seeds_to_decide"].notna()) == [False, False, True]


def test_without_two_seeds_nothing_is_decided():
    one = lambda _: ([90.0], [10.0])  # noqa: E731
    frame = planned(one, claimed(A=GREATER, B=EQUAL, C=MEAN))
    assert set(frame["result"]) == {"open"}
    unknown = ["p_uncorrected", "p_sequence", "seeds_to_decide"]
    assert frame[unknown].isna().all(axis=None)
    summary = verdicts(one, A=GREATER, B=EQUAL, C=MEAN)
    assert set(summary["verdict"]) == {"undecided"} and summary["p_holm"].isna().all()


def test_a_score_of_zero_counts_as_half_a_prompt():
    def values(comparison):
        zeros = Scores((1, 2, 3), np.array([0.0, 0.0, 2.0]), floor=0.5)
        return [(zeros, Scores((1, 2, 3), np.array([40.0, 41.0, 42.0]), floor=0.5))]

    claims = claimed(A={"expect": "less"})
    found = [comparison for _, comparison in comparisons(claims, DEFAULTS)]
    frame = comparison_table(claims, found, values)
    assert np.isfinite(frame["estimate"]).all() and set(frame["result"]) == {"yes"}
    assert set(frame["floored"]) == {2}


@settings(deadline=None, max_examples=15)
@given(st.floats(-9, 9), st.floats(0.1, 9))
def test_claims_that_exclude_each_other_are_not_both_supported(by, scale):
    tests = {"A": GREATER, "B": LESS, "C": {**GREATER, "to": 2}, "D": EQUAL}
    table = verdicts(shifted(by, scale), **tests)
    supported = table["verdict"] == "supported"
    assert not (supported["A"] and supported["B"])
    assert not (supported["C"] and supported["D"])
    assert (table["p_holm"] >= table["p"] - 1e-12).all()


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_no_point_holds_without_its_claim(seed):
    """So the points add no false claim."""
    rng, claims = np.random.default_rng(seed), claimed(A=MEAN, B=MEAN, C=MEAN)
    frame = made(lambda _: (51 + 0.8 * rng.normal(size=5), np.full(5, 50.0)), claims)
    supported = claim_table(claims, frame).set_index("claim")["verdict"] == "supported"
    points = frame.query("role == 'point' and result == 'yes'")
    assert supported[points["claim"]].all()


def test_a_look_costs_its_weight_and_the_least_counts():
    """A is decided at its second look; B had one look, on the same seeds."""
    values = np.array([2.0, 4.0, 3.0, 3.2, 2.8])  # of the seeds 0 to 4
    noise = {"A": 5, "B": 3}  # seeds

    def of_claim(comparison):
        seeds = tuple(range(noise[comparison.claim.id]))
        zeros = np.zeros(len(seeds))
        return [(Scores(seeds, values[: len(seeds)]), Scores(seeds, zeros))]

    rule = {"looks": {"seeds": [3, 5], "weights": [0.3, 0.6]}}
    one = GREATER | {"each": {}, "cell": {"objective": "dpo", "data": "online"}}
    one["against"] = {"objective": "dpo", "data": "offline"}
    claims = claimed(A=one, B=one)
    claims = Claims(rule=rule, claims=claims.model_dump(mode="json")["claims"])
    found = [comparison for _, comparison in comparisons(claims, DEFAULTS)]
    frame = comparison_table(claims, found, of_claim, {"A": [[3, 4]]}).set_index("claim")
    p = [stats.ttest_1samp(values[:n], 0, alternative="greater").pvalue for n in (3, 5)]
    assert p[0] / 0.3 > 0.025 > 2 * p[1] / 0.6
    assert frame["p_uncorrected"].to_dict() == pytest.approx({"A": p[1] / 0.6, "B": p[0] / 0.3})
    assert frame["p_opposite_uncorrected"].to_dict() == {"A": 1.0, "B": 1.0}
    table = claim_table(claims, frame.reset_index()).set_index("claim")
    assert table["looks"].to_dict() == {"A": 2, "B": 1}
    assert table["verdict"].to_dict() == {"A": "supported", "B": "undecided"}
    first = comparison_table(claims, found, lambda own: of_claim(found[1])).set_index("claim")
    assert first.loc["A", "p_uncorrected"] == frame.loc["B", "p_uncorrected"]
    assert claims.strictest_level == pytest.approx(0.3 * 0.05 / 2)


def test_every_row_has_its_source():
    frame = planned(shifted(1.0), claimed(A=GREATER, B=EQUAL, C=MEAN))
    assert (frame["source"] == "notes").all()


def test_comparisons_of_a_claim_can_be_told_apart():
    """By the combination of `each`; where that is not enough, by what differs between them."""
    config = Path(__file__).parents[2] / "workflow" / "config"
    claims = Claims(**yaml.safe_load((config / "claims.yaml").read_text()))
    defaults = yaml.safe_load((config / "experiments.yaml").read_text())["defaults"]
    defaults = {task: HumanlineDefaults(**own) for task, own in defaults.items()}
    found = [own for _, own in comparisons(claims, defaults)]
    told = list(zip(found, labels(found), strict=True))
    rows = [(own.claim.id, label, own.test.says) for own, label in told]
    assert len(set(rows)) == len(rows)
    of = {
        name: [text for own, text in told if own.claim.id == name] for name in ("C1", "C5", "C12")
    }
    assert of["C1"] == ["mean", "DPO", "KTO", "GRPO"] and of["C5"] == [""] * 4
    intervals = ["step", *(f"{k} steps" for k in (2, 4, 13, 16, 64))]
    assert of["C12"] == [f"synced every {interval}" for interval in intervals]
    clips = [text for own, text in told if own.claim.id == "C11"]
    assert clips[0] == "instructions, bounds -1.5 and 0.5"
    assert clips[-1] == "math, bounds -0.5 and 1.5"


def test_tests_of_the_same_cells_are_told_apart_by_what_they_measure():
    claims = claimed(A=GREATER)
    content = claims.model_dump(mode="json")
    (one,) = content["claims"][0]["tests"]
    one |= {"each": {}, "cell": {"objective": "dpo", "data": "online"}}
    one["against"] = {"objective": "dpo", "data": "offline"}
    content["claims"][0]["tests"] = [one, one | {"measure": "curve_mean"}, one | {"to": 5}]
    claims = Claims(**content)
    frame = made(shifted(9.0), claims)
    assert list(frame["point"]) == ["score > 0", "curve mean > 0", "score > 5"]
    said = claim_table(claims, frame).loc[0, "one_by_one"]
    assert said == "score > 0: beats yes; curve mean > 0: beats yes; score > 5: beats yes"
