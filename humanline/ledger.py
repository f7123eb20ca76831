"""The ledger: every claim of the paper, tested on this scale's runs, with a verdict by a rule.

Seeds are compared pairwise: the difference of the two runs, or of their logarithms where a ratio
is claimed, is tested with Student's t. A claim's comparison is *supported* if the claim's side is
significant, *contradicted* if the opposite is, else *undecided*; equality is tested by two
one-sided tests against a margin, and contradicted by a difference beyond it. Holm's correction
goes over the comparisons of the whole ledger, once for the p-values of support and once for those
of contradiction, so that the chance of any false support, and that of any false contradiction, is
at most alpha each.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from humanline.claims import Claims, Comparison
from humanline.statistics import (
    equivalence_p_value,
    holm,
    one_sided_p_value,
    seeds_to_decide,
    t_interval,
)

# The measure of two cells, seed by seed, on the seeds that both have: each (S,).
Values = Callable[[Comparison], tuple[np.ndarray, np.ndarray]]


def ledger(claims: Claims, found: Sequence[Comparison], values: Values) -> pd.DataFrame:
    """One row per comparison: estimate, interval, p-values, verdict, and seeds that would decide.

    Args:
        claims: whose rule is used.
        found: the comparisons, in order.
        values: of a comparison's cells.
    """
    rows = [_row(comparison, *values(comparison)) for comparison in found]
    frame = pd.DataFrame(rows)
    rule = claims.rule
    frame["p_holm"] = holm(frame["p"])
    frame["p_opposite_holm"] = holm(frame["p_opposite"])
    frame["verdict"] = np.select(
        [frame["p_holm"] < rule.alpha, frame["p_opposite_holm"] < rule.alpha],
        ["supported", "contradicted"],
        "undecided",
    )
    strict = rule.alpha / len(frame)  # what Holm asks of the smallest p-value
    frame["seeds_to_decide"] = [
        _seeds_to_decide(comparison, *values(comparison), alpha=strict, power=rule.power)
        for comparison in found
    ]
    frame.loc[frame["verdict"] != "undecided", "seeds_to_decide"] = np.nan
    return frame


def verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per claim: supported if all its comparisons are, contradicted if any is."""
    rows = []
    for name, group in frame.groupby("claim", sort=False):
        counts = group["verdict"].value_counts()
        if counts.get("contradicted"):
            verdict = "contradicted"
        else:
            verdict = "supported" if len(counts) == 1 and "supported" in counts else "undecided"
        first = group.iloc[0]
        rows.append(
            {
                "claim": name,
                "text": first["text"],
                "source": first["source"],
                "paper_value": first["paper_value"],
                "comparisons": len(group),
                **{word: int(counts.get(word, 0)) for word in ("supported", "contradicted")},
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows)


def _row(comparison: Comparison, first: np.ndarray, second: np.ndarray) -> dict:
    claim, test = comparison.claim, comparison.test
    differences = _differences(comparison, first, second)
    estimate, low, high = differences.mean(), *t_interval(differences)
    if test.compare == "ratio":
        estimate, low, high = np.exp([estimate, low, high])
    p, p_opposite = _p_values(comparison, differences)
    return {
        "claim": claim.id,
        "text": claim.claim,
        "source": claim.source,
        "paper_value": claim.paper_value,
        "comparison": comparison.words,
        "task": test.task,
        "estimate": estimate,
        "estimate_low": low,
        "estimate_high": high,
        "seeds": len(differences),
        "p": p,
        "p_opposite": p_opposite,
    }


def _differences(comparison: Comparison, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Paired differences, or those of logarithms. A score of nothing counts as a hundredth."""
    if comparison.test.compare == "difference":
        return first - second
    return np.log(np.maximum(first, 0.01)) - np.log(np.maximum(second, 0.01))


def _p_values(comparison: Comparison, differences: np.ndarray) -> tuple[float, float]:
    """Of what the claim says, and of the opposite."""
    margin, shifted = comparison.margin, differences - comparison.center
    greater = one_sided_p_value(shifted - margin, "greater")
    less = one_sided_p_value(shifted + margin, "less")
    match comparison.test.expect:
        case "greater":
            return greater, less
        case "less":
            return less, greater
        case "equivalent":
            # Either side would contradict, so that there are two chances to do so by accident.
            either = float(np.minimum(1.0, 2 * np.min([greater, less])))
            return equivalence_p_value(shifted, margin), either


def _seeds_to_decide(comparison: Comparison, first, second, *, alpha: float, power: float):
    differences = _differences(comparison, first, second)
    off = np.abs(differences.mean() - comparison.center)
    distances = np.abs([comparison.margin - off, comparison.margin + off])
    if off < comparison.margin:  # equivalence: both bounds must be passed, and both can fail
        return seeds_to_decide(distances, differences, alpha=alpha, power=power)
    if comparison.margin:  # contradiction: either side of the margin
        alpha /= 2
    return seeds_to_decide(distances[:1], differences, alpha=alpha, power=power)
