"""The claims of the paper, each tested on this scale's runs, with a verdict by a rule.

Seeds are compared pairwise with Student's t. A difference is tested as it is; that a ratio is above
b, as first - b * second being above 0, which bears scores of 0 and has the ratio of means, as the
tables do. A comparison is *supported* if the claimed side is significant, *contradicted* if the
opposite is, else *undecided*; equality is tested by two one-sided tests against a margin
(Schuirmann 1987), and contradicted by a difference beyond it on either side.

A claim is supported if all of its comparisons are: the greatest of their p-values is its own
(intersection-union test, Berger 1982). It is contradicted if any is: the least of those of the
opposite, times their number. Holm's correction goes over all claims, and, for the
verdicts on single comparisons, over all comparisons; once for support and once for contradiction,
so that the chance of any false support, and that of any false contradiction, is at most alpha each.
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

# The measure of two cells, seed by seed, on the seeds that both have: each (S,).
Values = Callable[[Comparison], tuple[np.ndarray, np.ndarray]]


def comparison_table(claims: Claims, found: Sequence[Comparison], values: Values) -> pd.DataFrame:
    """One row per comparison: estimate, interval, p-values, verdict, and seeds that would decide.

    Args:
        claims: whose rule is used.
        found: the comparisons, in order.
        values: of a comparison's cells.
    """
    rule = claims.rule
    frame = _judged(pd.DataFrame([_row(own, *values(own)) for own in found]), rule)
    strict = rule.alpha / len(claims.claims)  # what Holm asks of the smallest p-value of a claim
    frame["seeds_to_decide"] = [
        _seeds_to_decide(comparison, *values(comparison), alpha=strict, power=rule.power)
        for comparison in found
    ]
    frame.loc[frame["verdict"] != "undecided", "seeds_to_decide"] = np.nan
    return frame


def claim_table(claims: Claims, frame: pd.DataFrame) -> pd.DataFrame:
    """One row per claim, from those of its comparisons, with a verdict of its own."""
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
    """With Holm's correction of p and p_opposite over the rows, and verdicts."""
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
    """By seed, what is positive in the mean where the comparison is above a bound."""
    return first - (bound * second if comparison.test.compare == "ratio" else second + bound)


def _p_values(comparison: Comparison, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Of what the claim says, and of the opposite."""
    low, high = (_contrast(comparison, first, second, bound) for bound in comparison.bounds)
    above, below = one_sided_p_value(low, "greater"), one_sided_p_value(high, "less")
    under, over = one_sided_p_value(low, "less"), one_sided_p_value(high, "greater")
    match comparison.test.expect:
        case "greater":
            return above, under
        case "less":
            return below, over
        case "equivalent":
            # Either side would contradict, so that there are two chances to do so by accident.
            either = float(np.minimum(1.0, 2 * np.min([under, over])))
            return float(np.max([above, below])), either


def _seeds_to_decide(
    comparison: Comparison, first: np.ndarray, second: np.ndarray, *, alpha: float, power: float
) -> float:
    low, high = (_contrast(comparison, first, second, bound) for bound in comparison.bounds)
    if comparison.test.expect != "equivalent":
        return seeds_to_decide([low], alpha=alpha, power=power)
    if low.mean() > 0 > high.mean():  # equality: both bounds must be passed, and both can fail
        return seeds_to_decide([low, high], alpha=alpha, power=power)
    beyond = low if low.mean() <= 0 else high
    return seeds_to_decide([beyond], alpha=alpha / 2, power=power)
