"""The whole rule in simulated studies: the registered claims, looks, Holm and what contradicts."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from humanline.tables.claims import claim_table, comparison_table
from humanline.tables.statistics.power import OneSidedTest
from humanline.tables.statistics.scores import Scores

VERDICTS = run_path(str(Path(__file__).parents[2] / "benchmarks" / "verdicts.py"))
CLAIMS, COMPARED = VERDICTS["registered"]()
NAMES = [claim.id for claim in CLAIMS.claims]
STUDIES, EVERY = 2000, slice(None)
CHANCE = 2.5 * np.sqrt(0.05 * 0.95 / STUDIES)


def share_with(verdict: str, truth, spread: float, among: slice = EVERY) -> float:
    """The share of studies that ever give a claim this verdict."""
    rng = np.random.default_rng(11)
    found = VERDICTS["simulate"](truth, spread, STUDIES, rng)
    return (found[..., among] == verdict).any(axis=(0, 2)).mean()


def test_the_registered_claims_need_these_comparisons():
    needed = [own.claim.id for own in COMPARED]
    assert [needed.count(name) for name in NAMES] == [1, 6, 6, 4, 3, 2]
    assert len(CLAIMS.rule.looks.seeds) == 3


@pytest.mark.parametrize("spread", [0.36, 2.0])
def test_the_chance_of_any_false_support_is_at_most_alpha(spread):
    """A claim needs all; most false support comes where one fails and all others are clear."""
    found = share_with("supported", VERDICTS["one_fails"], spread)
    # C8 is not found at all if its margin is less than the noise. Without Holm: 0.2.
    assert 0.025 < found < 0.05 + CHANCE
    assert share_with("supported", VERDICTS["no_effect"], spread) < found


@pytest.mark.parametrize("spread", [0.36, 3.0])
def test_the_chance_of_any_false_contradiction_is_at_most_alpha(spread):
    """Of effects that are the smallest that count."""
    found = share_with("contradicted", VERDICTS["just_counts"], spread)
    # Where little varies, a gain that counts is shown, and nothing that is shown is contradicted.
    assert (0.0 if spread < 1 else 0.02) < found < 0.05 + CHANCE


def test_claims_that_are_right_leave_more_of_alpha_but_not_too_much():
    """Three claims are right, so Holm tests the others at higher levels."""

    def truth(comparison, place):
        is_right = comparison.claim.id in NAMES[:3]
        return VERDICTS["clear" if is_right else "one_fails"](comparison, place)

    assert share_with("supported", truth, 0.36, among=slice(3)) == 1
    assert 0.025 < share_with("supported", truth, 0.36, among=slice(3, None)) < 0.05 + CHANCE


def test_many_studies_at_once_are_judged_as_the_claims_table_judges_one():
    def truth(comparison, place):
        shares = dict(zip(NAMES, (1.0, 0.2, -1.0, 0.3, 1.0, 0.1), strict=True))
        return shares[comparison.claim.id] * VERDICTS["clear"](comparison, place)

    values = VERDICTS["Studies"](truth, 0.5, (4, 20), np.random.default_rng(5))
    expected = VERDICTS["decided"](VERDICTS["contrasts"](CLAIMS, COMPARED, values), CLAIMS.rule)[0]
    assert set(np.unique(expected)) == {"supported", "contradicted", "undecided"}
    for study in range(4):

        def of_study(comparison, study=study):
            return [
                tuple(Scores(own.seeds[:10], own.values[study, :10]) for own in pair)
                for pair in values(comparison)
            ]

        frame = comparison_table(CLAIMS, COMPARED, of_study)
        assert list(claim_table(CLAIMS, frame)["verdict"]) == list(expected[study])


def test_a_small_gain_is_contradicted_unless_it_is_shown():
    """Support is as often as the power says, and what is contradicted is what is not shown."""
    table = VERDICTS["small_gains"](4000, (1, 3, 6)).set_index("True gain")
    first = table.map(lambda cell: float(cell.split("; ")[0]) / 100)
    rule, sd = CLAIMS.rule, VERDICTS["SD"]
    for gain, row in zip((0.01, 0.03, 0.06), first.to_numpy(), strict=True):
        test = OneSidedTest(sd, gain)
        assert row[0] == pytest.approx(test.power(10, CLAIMS.strictest_level), abs=0.03)
        shown = test.power(10, rule.first_level)
        assert row[1:] == pytest.approx(1 - shown if gain < 0.06 else 0, abs=0.03)
