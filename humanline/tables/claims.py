"""The paper's claims on this scale's runs: a verdict by a rule for primary ones, estimates for all.

A comparison is a contrast of two cells by seed: a difference, or the logarithm of a ratio. Its mean
is tested with Student's t over seeds (`statistics.inference`). The claimed side and the opposite
side have a p-value each. Equality is two one-sided tests against a margin (Schuirmann 1987); not
being less is one, against the lower margin. The opposite side of a claimed difference is the other
side of nothing, or of the smallest difference that counts, if the test names one.

A primary claim is *supported* if all of its comparisons are: its p-value is the greatest of theirs
(intersection-union test, Berger 1982). It is *contradicted* if any of them is: its opposite p-value
is the least of theirs, times their number. A claim about a mean over objectives has that mean as
its one comparison. Holm's correction covers the primary claims, once for support and once for
contradiction. So the chance of any false support is at most alpha. That of any false contradiction
is at most alpha if every claimed difference is at least the smallest that counts; a smaller one may
be found or contradicted, which depends on the number of seeds. Where the rule has looks, `snakemake
decide` adds seeds to undecided claims, and each comparison's p-values are sequential ones
(`statistics.sequential`). `benchmarks/verdicts.py` simulates this rule: the functions below take
contrasts of many studies at once.

Below the claims, every comparison has a result of its own. The points of a mean are tested after
it, in their order, each only if all before it are significant (a fixed sequence). The other results
are at level alpha, not corrected; so is a "no" of the point that ends a sequence. Secondary claims
have estimates alone.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from humanline.study.claims import Claims, Comparison
from humanline.study.runs.requests import ClaimsRequest
from humanline.study.runs.verdicts import Looks, Rule
from humanline.study.words import labels
from humanline.tables.estimates import Values, values_of
from humanline.tables.statistics.inference import estimate, significance
from humanline.tables.statistics.multiplicity import holm
from humanline.tables.statistics.sample_size import seeds_to_decide
from humanline.tables.statistics.scores import Contrast, difference, log_ratio, mean_of
from humanline.tables.statistics.sequential import sequential_p_values

VERDICTS = ("supported", "contradicted", "undecided")
EXPLORATORY = "exploratory"  # in place of a verdict


def contrast_of(comparison: Comparison, values: Values) -> Contrast:
    """Return what a comparison tests: log ratios or differences by seed, the mean of its pairs."""
    contrast = log_ratio if comparison.test.compare == "ratio" else difference
    return mean_of([contrast(first, second) for first, second in values(comparison)])


def p_values(comparison: Comparison, contrast: Contrast) -> tuple[np.ndarray, np.ndarray]:
    """Return the p-values of the claimed side and of the opposite side, (...) each.

    They are NaN for fewer than two seeds, or if the contrast, (..., S), does not vary.
    """
    claimed = [significance(contrast, bound, side) for bound, side in comparison.hypotheses]
    opposite = [significance(contrast, bound, side) for bound, side in comparison.refutations]
    # Each side of an equality can contradict it by accident.
    return np.max(claimed, axis=0), np.minimum(1.0, len(opposite) * np.min(opposite, axis=0))


def tested(
    comparison: Comparison, contrast: Contrast, rule: Rule, added: Sequence[Sequence[int]] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Return the p-values of both sides by the rule, not corrected for the number of claims.

    Args:
        comparison: the comparison.
        contrast: its contrast on all seeds, (..., S).
        rule: the rule; if it has looks, the p-values are sequential ones.
        added: the seeds that each look after the first has added.
    """
    if rule.looks:
        p, p_opposite = _looked_at(comparison, contrast, rule.looks, added)
    else:
        p, p_opposite = p_values(comparison, contrast)
    if comparison.test.negligible:  # what is there, though it may be small, contradicts nothing
        p_opposite = np.where(p < rule.alpha, 1.0, p_opposite)
    return p, p_opposite


def _looked_at(
    comparison: Comparison, contrast: Contrast, looks: Looks, added: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sequential p-values of both sides."""
    later = {seed for seeds in added for seed in seeds}
    seen = [seed for seed in contrast.seeds if seed not in later]
    found = [p_values(comparison, contrast.on(seen))]
    for seeds in added:
        seen += seeds
        found.append(p_values(comparison, contrast.on(seen)))
    p, p_opposite = (np.stack(side, axis=-1) for side in zip(*found, strict=True))
    weights = looks.weights[: len(found)]
    return sequential_p_values(p, weights), sequential_p_values(p_opposite, weights)


def claim_p_values(p: np.ndarray, p_opposite: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a claim's p-values of both sides, (...), from those of its N comparisons, (..., N).

    All comparisons must hold, and any of them contradicts. NaN if one of them is NaN, or N is 0.
    """
    if not (n := p_opposite.shape[-1]):
        return np.full(p.shape[:-1], np.nan), np.full(p.shape[:-1], np.nan)
    return p.max(axis=-1), np.minimum(1.0, n * p_opposite.min(axis=-1))


def verdicts(p_holm: np.ndarray, p_opposite_holm: np.ndarray, alpha: float) -> np.ndarray:
    """Return the verdicts on claims by their corrected p-values of both sides, (...)."""
    *chosen, neither = VERDICTS
    return np.select([p_holm < alpha, p_opposite_holm < alpha], chosen, neither)


def tested_claims(asked: ClaimsRequest) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test claims on the files of their runs.

    Args:
        asked: the claims and the runs. A claim without comparisons there has NaN for its p-values,
            which still counts in the number of tests.

    Returns:
        The results of `claim_table` and of `with_seeds_to_decide`.

    Raises:
        ConfigError: if a run's file is missing or damaged.
    """
    found, values = [comparison for comparison, _ in asked.compared], values_of(asked.pairs)
    compared = comparison_table(asked.claims, found, values, asked.added)
    compared = with_seeds_to_decide(compared, asked.claims, found, values)
    return claim_table(asked.claims, compared), compared


def comparison_table(
    claims: Claims,
    found: Sequence[Comparison],
    values: Values,
    added: Mapping[str, Sequence[Sequence[int]]] | None = None,
) -> pd.DataFrame:
    """Make a table with a row per comparison.

    Args:
        claims: the claims and their rule.
        found: the comparisons, in order.
        values: returns the measures of a comparison's cells.
        added: by claim, the seeds that each of its looks after the first has added.

    Returns:
        Columns: the claim, what is asked and of what; estimate with its 95 % interval; seeds; the
        number of looks; the number of scores below the floor of logarithms; and for primary claims
        the p-values of both sides, not corrected for the number of claims, those of sequences, and
        the result: ``yes``, ``no``, ``open`` or ``not reached``.
    """
    added = added or {}
    rows = [
        _row(
            comparison,
            label,
            contrast_of(comparison, values),
            claims.rule,
            added.get(comparison.claim.id, []),
        )
        | {"floored": _floored(comparison, values)}
        for comparison, label in zip(found, labels(found), strict=True)
    ]
    return _with_results(pd.DataFrame(rows), claims)


def with_seeds_to_decide(
    frame: pd.DataFrame, claims: Claims, found: Sequence[Comparison], values: Values
) -> pd.DataFrame:
    """Add how many seeds would decide what is open in primary claims, with its interval.

    Args:
        frame: the result of `comparison_table`.
        claims: the claims and their rule.
        found, values: as in `comparison_table`.

    Returns:
        The table with columns seeds_to_decide, seeds_to_decide_low and seeds_to_decide_high.
    """
    is_point = frame["role"].eq("point")
    is_open = frame["claim"].map(_judged(claims, frame)["verdict"]).eq("undecided") & ~is_point
    is_open |= frame["result"].isin(["open", "not reached"])
    needed = frame[~is_point].groupby("claim").size()
    decide = [
        _seeds_to_decide(comparison, contrast_of(comparison, values), claims, needed)
        if asked
        else (math.nan,) * 3
        for comparison, asked in zip(found, is_open, strict=True)
    ]
    names = ["seeds_to_decide", "seeds_to_decide_low", "seeds_to_decide_high"]
    return frame.assign(**dict(zip(names, zip(*decide, strict=True), strict=True)))


def claim_table(claims: Claims, frame: pd.DataFrame) -> pd.DataFrame:
    """Make a table with a row per claim, and its verdict if it is primary.

    Args:
        claims: the claims and their rule.
        frame: the result of `comparison_table`.
    """
    rows = []
    for claim in claims.claims:
        group = frame[frame["claim"] == claim.id]
        rows.append(
            {
                "claim": claim.id,
                "text": claim.claim,
                "primary": claim.primary,
                "source": claim.source,
                "paper_value": claim.paper_value,
                "untested": claim.untested,
                "registered": claim.registered.date.isoformat(),
                "looks": group["looks"].max(),
                "comparisons": len(group),
                **{word: int((group["result"] == word).sum()) for word in ("yes", "no")},
                "one_by_one": one_by_one(group) if claim.primary else None,
            }
        )
    return pd.DataFrame(rows).join(_judged(claims, frame), on="claim")


def one_by_one(group: pd.DataFrame) -> str:
    """Say the results of a claim's comparisons: each grid point with its yes or no.

    Args:
        group: the claim's rows of `comparison_table`.
    """
    said: dict[str, list[str]] = {}
    for row in group.to_dict("records"):
        said.setdefault(row["point"], []).append(f"{row['asked']} {row['result']}")
    texts = {point: ", ".join(results) for point, results in said.items()}
    return "; ".join(f"{point}: {text}" if point else text for point, text in texts.items())


def _judged(claims: Claims, frame: pd.DataFrame) -> pd.DataFrame:
    """Return p-values, Holm's corrections and verdicts, with a row per claim by its name."""
    counted = frame[frame["role"] != "point"]
    rows = []
    for claim in claims.claims:
        group = counted[counted["claim"] == claim.id]
        sides = (group[f"{side}_uncorrected"].to_numpy(float) for side in ("p", "p_opposite"))
        rows.append(dict(zip(("p", "p_opposite"), claim_p_values(*sides), strict=True)))
    names = pd.Index([claim.id for claim in claims.claims])
    judged = pd.DataFrame(rows, index=names).assign(p_holm=math.nan, p_opposite_holm=math.nan)
    is_primary = np.array([claim.primary for claim in claims.claims])
    for side in ("p", "p_opposite"):
        judged.loc[is_primary, f"{side}_holm"] = holm(judged.loc[is_primary, side])
    p_holm, p_opposite_holm = judged[["p_holm", "p_opposite_holm"]].to_numpy(float).T
    found = verdicts(p_holm, p_opposite_holm, claims.rule.alpha)
    return judged.assign(verdict=np.where(is_primary, found, EXPLORATORY))


def _row(
    comparison: Comparison,
    label: str,
    contrast: Contrast,
    rule: Rule,
    added: Sequence[Sequence[int]],
) -> dict:
    claim, test = comparison.claim, comparison.test
    found = estimate(contrast)
    value = (found.value, found.low, found.high)
    if test.compare == "ratio":
        value = found.exponential
    p = p_opposite = math.nan
    if claim.primary:
        p, p_opposite = map(float, tested(comparison, contrast, rule, added))
    return {
        "claim": claim.id,
        "primary": claim.primary,
        "source": claim.source,
        "point": label,
        "asked": test.says or comparison.claimed,
        "claimed": comparison.claimed,
        "is_opposite": _is_opposite(comparison, value),
        "comparison": comparison.words,
        "task": test.task,
        "measure": test.measure,
        "compare": test.compare,
        "role": comparison.role,
        **dict(zip(("estimate", "estimate_low", "estimate_high"), value, strict=True)),
        "paper_effect": comparison.paper_effect,
        "paper_source": paper_source(comparison),
        "seeds": len(contrast.seeds),
        "looks": 1 + len(added),
        "p_uncorrected": p,
        "p_opposite_uncorrected": p_opposite,
    }


def _is_opposite(comparison: Comparison, value: tuple[float, float, float]) -> bool:
    """Say whether the interval of a claimed difference lies on the other side of none."""
    _, low, high = value
    none = 1 if comparison.test.compare == "ratio" else 0
    match comparison.test.expect:
        case "greater":
            return high < none
        case "less":
            return low > none
    return False


def paper_source(comparison: Comparison) -> str:
    """Say where a figure of the paper comes from, if there is one; reports show it beside it."""
    effect = comparison.test.paper_effect
    if effect is None:
        return ""
    is_derived = effect.derived or comparison.role == "mean"  # of the objectives' figures
    return f"{effect.source}, derived" if is_derived else effect.source


def _floored(comparison: Comparison, values: Values) -> int:
    """Count the scores that are too low for a logarithm."""
    if comparison.test.compare != "ratio":
        return 0
    return sum(scores.floored for pair in values(comparison) for scores in pair)


def _with_results(frame: pd.DataFrame, claims: Claims) -> pd.DataFrame:
    """Add the result of every comparison of a primary claim, and the p-values of sequences."""
    judged = _judged(claims, frame)
    frame = frame.assign(p_sequence=math.nan, p_opposite_sequence=math.nan, p_before=math.nan)
    for claim in claims.claims:
        for side in ("p", "p_opposite"):
            points = frame[(frame["claim"] == claim.id) & (frame["role"] == "point")]
            tested = [judged[f"{side}_holm"][claim.id], *points[f"{side}_uncorrected"]]
            # NaN stays: what comes after a test that is not possible is not reached.
            in_order = np.maximum.accumulate(tested)
            frame.loc[points.index, f"{side}_sequence"] = in_order[1:]
            if side == "p":
                frame.loc[points.index, "p_before"] = in_order[:-1]
    results = [
        _result(row, claims.rule) if row["primary"] else EXPLORATORY
        for row in frame.to_dict("records")
    ]
    return frame.assign(result=results).drop(columns="p_before")


def _result(row: dict, rule: Rule) -> str:
    kind = "sequence" if row["role"] == "point" else "uncorrected"
    if row[f"p_{kind}"] < rule.alpha:
        return "yes"
    if row[f"p_opposite_{kind}"] < rule.alpha:
        return "no"
    # The first point that fails was reached, so what it shows against the claim is said.
    if row["p_before"] < rule.alpha and row["p_opposite_uncorrected"] < rule.alpha:
        return "no"
    is_found = min(row["p_uncorrected"], row["p_opposite_uncorrected"]) < rule.alpha
    return "not reached" if kind == "sequence" and is_found else "open"


def _seeds_to_decide(
    comparison: Comparison, contrast: Contrast, claims: Claims, needed: pd.Series
) -> tuple[float, float, float]:
    """Compute the seeds that decide it, for the side on which the estimate lies.

    Args:
        comparison: an open one.
        contrast: its contrast on all seeds.
        claims: the claims and their rule.
        needed: the number of comparisons that a claim needs: any of them may contradict it.
    """
    mean = contrast.values.mean()
    holds = all((mean > own) == (side == "greater") for own, side in comparison.hypotheses)
    tests = comparison.hypotheses if holds else comparison.refutations
    number = 1 if holds or comparison.role == "point" else needed[comparison.claim.id]
    return seeds_to_decide(
        contrast,
        [bound for bound, _ in tests],
        alpha=claims.strictest_level / number,
        power=claims.rule.power,
    )
