"""Write the paper's claims at a scale: verdicts, their comparisons, and a page of both."""

import numpy as np
import pandas as pd
from scipy.stats import gmean

from humanline.files.json_files import write_json, write_text
from humanline.files.provenance import describe
from humanline.report.formats import human_readable
from humanline.study.claims import Claims, Comparison
from humanline.study.runs.requests import ClaimsRequest
from humanline.study.runs.resolved import Run
from humanline.tables.claims import claim_table, comparison_table
from humanline.tables.run_results import scores, training_seconds

_PAGE = """\
# The paper's claims at the scale {scale}

The verdicts hold for the models, data and judge of this scale. Claims marked *notes* come from a
public summary, and were not checked against the paper itself; claims marked *ours* are questions of
this suite.

{claim_rows}

A claim is supported if all of its comparisons are: its p is the greatest of theirs. It is
contradicted if any of them is: its p of the opposite is the least of theirs, times their number.
Otherwise it is undecided. The level is {alpha:g} after Holm's correction over the {claims}
claims. {untested}

## Comparisons

{comparison_rows}

Ratios and differences compare mean scores (length-controlled win rate or Pass@1, per cent) or
seconds. They have 95 % t intervals over paired seeds; those of ratios are Fieller's. The p-values
come from one-sided t-tests; a claim of equality needs two, against the margin shown. The verdict on
a single comparison is at {alpha:g} after Holm's correction over all {n}. Seeds to decide: the
number of seeds with which a test would have a power of {power:.0%}, if the estimate were the truth,
at the level that Holm's correction sets for the smallest p of a claim. inf: more than 1024. A dash:
the comparison is decided, or the number is unknown (one seed, or identical runs).

All seeds share their evaluation prompts. Seconds do not include the sampling of offline data; the
jobs ran side by side, which affects their timings. Learning rates are those of the tables: a cell
that was not tuned takes the rate of the nearest tuned cell. The rule was fixed before the runs on
these seeds.
"""


def make_claims(asked: ClaimsRequest) -> None:
    """Write the claims' verdicts, the comparisons behind them, a page of both, and provenance.

    The files are `claims.csv` (a row per claim), `comparisons.csv` (a row per comparison),
    `claims.md` and `claims.provenance.json`.

    Args:
        asked: the claims, their comparisons, the runs and the paths.

    Raises:
        ConfigError: if a run's file is missing or damaged.
    """
    found, folder = [comparison for comparison, _ in asked.compared], asked.paths.tables
    compared = comparison_table(asked.claims, found, lambda own: _values(own, asked.pairs(own)))
    compared["scale"] = asked.scale
    claims = claim_table(asked.claims, compared).assign(scale=asked.scale)
    write_text(folder / "claims.csv", claims.to_csv(index=False))
    write_text(folder / "comparisons.csv", compared.to_csv(index=False))
    hidden = ["text", "paper_value", "task", "p_opposite"]
    text = _PAGE.format(
        scale=asked.scale,
        claim_rows=_markdown(claims.drop(columns=["untested", "p", "p_opposite"])),
        untested=_untested(asked.claims),
        comparison_rows=_markdown(compared.drop(columns=hidden)),
        alpha=asked.claims.rule.alpha,
        power=asked.claims.rule.power,
        n=len(compared),
        claims=len(claims),
    )
    write_text(folder / "claims.md", text)
    runs = {f"{run.cell.task}/{run.name}": run.hashes.train for run in asked.runs}
    write_json(folder / "claims.provenance.json", {"runs": runs, **describe()})


def _untested(claims: Claims) -> str:
    """Write a sentence about the parts of claims that no comparison tests."""
    found = [claim for claim in claims.claims if claim.untested]
    parts = "; ".join(f"of {claim.id}, {claim.untested}" for claim in found)
    return f"Not tested: {parts}." if parts else ""


def _values(
    comparison: Comparison, pairs: list[tuple[list[Run], list[Run]]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the measures of a comparison's two cells by paired seeds, (S,) each.

    Those of a mean are averaged over its pairs, geometrically if it is of ratios.
    """

    def measure(run: Run) -> float:
        if comparison.test.measure == "training_seconds":
            return training_seconds(run.cell, run.paths.directory)
        found = list(scores(run.cell, run.paths.directory).values())
        return float(np.mean(found)) if comparison.test.measure == "curve_mean" else found[-1]

    values = np.array([[[measure(run) for run in side] for side in pair] for pair in pairs])
    average = gmean if comparison.test.compare == "ratio" and len(pairs) > 1 else np.mean
    first, second = average(values, axis=0)
    return first, second


def _markdown(frame: pd.DataFrame) -> str:
    return human_readable(frame).to_markdown(index=False, disable_numparse=True)
