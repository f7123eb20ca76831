"""The claims of the paper, each tested on this scale's runs, with a verdict by a rule.

Student's t-test compares two cells over paired seeds. A difference is tested directly. A ratio
above b is tested as first - b * second > 0: this works with scores of 0, and means the ratio of
means, as in the tables. A comparison is *supported* if the claimed side is significant,
*contradicted* if the opposite side is, else *undecided*. Equality is tested by two one-sided tests
against a margin (Schuirmann 1987); a difference beyond the margin on either side contradicts it.

A claim is supported if all of its comparisons are: its p-value is the greatest of theirs
(intersection-union test, Berger 1982). It is contradicted if any of them is: its opposite p-value
is the least of theirs, times their number. Holm's correction covers all claims and, for the
verdicts on single comparisons, all comparisons. It is made once for support and once for
contradiction, so the chance of any false support is at most alpha, and so is the chance of any
false contradiction.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from humanline.study.claims import Claims, Comparison, Rule
from humanline.tables.statistics import (
    fieller_interval,
    holm,
    one_sided_p_value,
    seeds_to_decide,
    t_interval,
)

# Returns the measures of a comparison's two cells on the S seeds that both have: (S,) each.
Values = Callable[[Comparison], tuple[np.ndarray, np.ndarray]]


def comparison_table(claims: Claims, found: Sequence[Comparison], values: Values) -> pd.DataFrame:
    """Make a table with a row per comparison.

    Args:
        claims: the claims and their rule.
        found: the comparisons, in order.
        values: returns the measures of a comparison's two cells.

    Returns:
        Columns: the claim and the comparison, estimate and its 95 % interval, seeds, p-values,
        verdict, and seeds_to_decide.
    """
    rule = claims.rule
    frame = _judged(pd.DataFrame([_row(own, *values(own)) for own in found]), rule)
    strict = rule.alpha / len(claims.claims)  # Holm's limit for the smallest p-value of a claim
    frame["seeds_to_decide"] = [
        _seeds_to_decide(comparison, *values(comparison), alpha=strict, power=rule.power)
        for comparison in found
    ]
    frame.loc[frame["verdict"] != "undecided", "seeds_to_decide"] = np.nan
    return frame


def claim_table(claims: Claims, frame: pd.DataFrame) -> pd.DataFrame:
    """Make a table with a row per claim and its verdict.

    Args:
        claims: the claims and their rule.
        frame: the result of `comparison_table`.
    """
    rows = []
    for claim in claims.claims:
        group = frame[frame["claim"] == claim.id]
        counts = group["verdict"].value_counts()
        rows.append(
            {
                "claim": claim.id,
                "text": claim.claim,
                "source": claim.source,
                "paper_value": claim.paper_value,
                "untested": claim.untested,
                "comparisons": len(group),
                **{word: int(counts.get(word, 0)) for word in ("supported", "contradicted")},
                "p": group["p"].max(skipna=False),
                "p_opposite": np.minimum(1.0, len(group) * group["p_opposite"].min()),
            }
        )
    return _judged(pd.DataFrame(rows), claims.rule)


def _judged(frame: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """Add Holm's correction of p and p_opposite over the rows, and verdicts."""
    corrected = {f"{side}_holm": holm(frame[side]) for side in ("p", "p_opposite")}
    frame = frame.assign(**corrected)
    return frame.assign(
        verdict=np.select(
            [frame["p_holm"] < rule.alpha, frame["p_opposite_holm"] < rule.alpha],
            ["supported", "contradicted"],
            "undecided",
        )
    )


def _row(comparison: Comparison, first: np.ndarray, second: np.ndarray) -> dict:
    claim, test = comparison.claim, comparison.test
    if test.compare == "ratio":
        estimate, interval = first.mean() / second.mean(), fieller_interval(first, second)
    else:
        estimate, interval = (first - second).mean(), t_interval(first - second)
    p, p_opposite = _p_values(comparison, first, second)
    return {
        "claim": claim.id,
        "text": claim.claim,
        "source": claim.source,
        "paper_value": claim.paper_value,
        "comparison": comparison.words,
        "task": test.task,
        "estimate": estimate,
        "estimate_low": interval[0],
        "estimate_high": interval[1],
        "seeds": len(first),
        "p": p,
        "p_opposite": p_opposite,
    }


def _contrast(
    comparison: Comparison, first: np.ndarray, second: np.ndarray, bound: float
) -> np.ndarray:
    """Return a value per seed whose mean is positive if the comparison is above the bound."""
    return first - (bound * second if comparison.test.compare == "ratio" else second + bound)


def _p_values(comparison: Comparison, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the p-values of the claimed side and of the opposite side."""
    low, high = (_contrast(comparison, first, second, bound) for bound in comparison.bounds)
    above, below = one_sided_p_value(low, "greater"), one_sided_p_value(high, "less")
    under, over = one_sided_p_value(low, "less"), one_sided_p_value(high, "greater")
    match comparison.test.expect:
        case "greater" | "not_less":
            return above, under
        case "less":
            return below, over
        case "equivalent":
            # Two sides can contradict by accident, so the p-value is doubled.
            either = float(np.minimum(1.0, 2 * np.min([under, over])))
            return float(np.max([above, below])), either


def _seeds_to_decide(
    comparison: Comparison, first: np.ndarray, second: np.ndarray, *, alpha: float, power: float
) -> float:
    low, high = (_contrast(comparison, first, second, bound) for bound in comparison.bounds)
    if comparison.test.expect != "equivalent":
        return seeds_to_decide([low], alpha=alpha, power=power)
    if low.mean() > 0 > high.mean():  # equality: both tests must succeed
        return seeds_to_decide([low, high], alpha=alpha, power=power)
    beyond = low if low.mean() <= 0 else high
    return seeds_to_decide([beyond], alpha=alpha / 2, power=power)
