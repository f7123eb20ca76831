"""Write the paper's claims at a scale: verdicts, comparisons, and a page of both."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

import pandas as pd

from humanline.files.json_files import write_json, write_text
from humanline.files.provenance import describe
from humanline.files.typed_files import csv_text
from humanline.report.formats import (
    UNKNOWN,
    Narrow,
    amount,
    figure,
    latex,
    p_text,
    pipe_table,
)
from humanline.report.origins.mixed import commits_of, differences, notes
from humanline.report.origins.unrepeatable import not_deterministic
from humanline.study.claims import Claim, Claims
from humanline.study.runs.requests import ClaimsRequest
from humanline.study.runs.resolved import Run
from humanline.study.words import comparison_words, labels
from humanline.tables.claims import tested_claims

ABOUT = """\
A verdict is about this scale's worlds, models, data and judge, on average over seeds; it says
nothing of larger models. What all seeds share, such as a pretrained model, is not varied: a verdict
is about that, too."""

_PAGE = """\
# The paper's claims at the scale {scale}

{about}

{claim_rows}

Hold: comparisons with the result "yes". Estimates, and the result of each comparison by itself:

{estimates}

A claim is supported if all of its comparisons are: its p is the greatest of theirs. It is
contradicted if any of them is: its p of the opposite is the least of theirs, times their number.
Else it is undecided. A claim about a mean over objectives has that mean as its one comparison. The
level is {alpha:g} after Holm's correction over the primary claims, {primary} in number: so often,
at most, chance alone supports any of them.

Where a claimed difference names a size below which it does not count, a difference that is not
shown, and is shown to be smaller than that, contradicts the claim. Chance contradicts a claim so
often, at most, if its differences are at least of that size. A smaller one that is really there may
be supported or contradicted; more seeds support it. "no": the difference is too small to count, or
the equality does not hold. "no, the opposite": the difference goes the other way.

Estimates are ratios of length-controlled win rates (1.10x is a tenth more), or differences of
Pass@1 in percentage points; beside each is the result of its own comparison, not corrected.
{looks}
## Each comparison by itself

{comparison_rows}

Seeds: {seeds}.{to_decide}

One comparison that fails must not hide others that hold, so each has a result of its own: yes, no
or open, at the level {alpha:g}. Its p is not corrected: of many such results some are wrong by
chance. After a mean, the objectives are tested in the order of the table, each only if the mean and
all objectives before it are significant, so that the chance of a false yes in this sequence is at
most {alpha:g}; a result that comes later is not reached. A no is not corrected.

= 1 x/ 1.1 means from 1 / 1.1 to 1.1, and = 0 +- 2 from -2 to 2.

Brackets: 95 % t intervals over seeds. The tests are one-sided, so that a yes can stand beside an
interval that reaches a little too far. In the paper: its figure, or one that is derived from it.
Seeds to decide: the number of seeds with which the comparison would have a power of {power:.0%} at
the level {strictest:.2g}, the strictest of Holm's (against a claim: divided by its number of
comparisons), if the estimate were the truth, with its own 95 % interval. inf: more than 1024.

## Secondary claims: exploratory

{secondary_rows}

These claims have no verdict and no p, and their intervals are not corrected for their number.
Seconds do not include the sampling of offline data; the jobs ran side by side, which affects their
timings. The cells that a comparison compares are in [comparisons.csv](comparisons.csv).

## Sources, and what is not tested

Figures and claims marked *notes* come from a public summary, and were not checked against the
paper itself. Those marked *ours* are questions of this suite.

{sources}

Derived figures of the paper:

{derived}

## Notes

- A ratio is the geometric mean over seeds of first / second. A score below half a prompt counts as
  half a prompt there, so that it has a logarithm ({floored} times).
- If all seeds have the same evaluation prompts, intervals and tests include what other prompts
  would have changed. A generated world has its own prompts for every seed.
- Learning rates are those of the tables: a cell that was not tuned takes the rate of the nearest
  tuned cell.
{power_note}
## Registration

{registration}
"""

_LOOKS = """
Claims are looked at with {seeds} seeds, and each p is the least over a claim's looks of p / weight.
The weights, {weights}, sum to at most 1, so that several looks find no more by chance than one.
`snakemake decide` adds seeds to claims that are undecided; a verdict ends the looks of its claim.
Added seeds count here, and not in the other tables. Looks taken: {taken}.
"""

_POWER_NOTE = """\
- What these claims could decide with their seeds was computed before the runs, from other seeds:
  [power.md](power.md).{changes}
"""


def make_claims(asked: ClaimsRequest) -> None:
    """Write the claims' verdicts, the comparisons behind them, a page of both, and provenance.

    The files are `claims.csv` (a row per claim), `comparisons.csv` (a row per comparison),
    `claims.md`, `claims.tex` (the verdicts, for a paper) and `claims.provenance.json`.

    Args:
        asked: the claims, their comparisons, the runs and the paths.

    Raises:
        ConfigError: if a run's file is missing or damaged.
    """
    found, folder = [comparison for comparison, _ in asked.compared], asked.paths.tables
    claims, compared = tested_claims(asked)
    for name, frame in {"claims": claims, "comparisons": compared}.items():
        content = csv_text(frame.assign(scale=asked.scale))
        write_text(folder / f"{name}.csv", content, sealed=True)
    words = map(comparison_words, found, labels(found))
    text = page(
        asked.claims,
        claims,
        compared.assign(words=list(words)),
        asked.scale,
        has_power=asked.has_pilot,
        pilot_changes=asked.pilot_changes,
        first_run=first_run(asked.runs),
        commits=commits_of(asked.runs),
    )
    differing = differences(asked.runs)
    marks = notes(differing)
    write_text(folder / "claims.md", text + "".join(f"\n{mark}\n" for mark in marks))
    shown = narrow_verdicts(asked.claims, claims, compared, asked.scale)
    shown = replace(shown, notes=(*shown.notes, *marks))
    write_text(folder / "claims.tex", latex(shown, "claims"))
    runs = {f"{run.cell.task}/{run.name}": run.hashes.train for run in asked.runs}
    looks = [own.model_dump(mode="json") for own in asked.taken.taken]
    made = {
        "runs": runs,
        "looks": looks,
        "differences_between_runs": differing,
        "not_deterministic": not_deterministic(asked.runs),
        **describe(),
    }
    write_json(folder / "claims.provenance.json", made, sealed=True)


def first_run(runs: Sequence[Run]) -> date | None:
    """Find the day on which the first of some runs was trained, by its record's time of change."""
    times = [run.paths.record.stat().st_mtime for run in runs if run.is_trained]
    return datetime.fromtimestamp(min(times), UTC).date() if times else None


def page(
    claims: Claims,
    verdicts: pd.DataFrame,
    compared: pd.DataFrame,
    scale: str,
    *,
    has_power: bool = False,
    pilot_changes: str = "",
    first_run: date | None = None,
    commits: Sequence[str] = (),
) -> str:
    """Write the page of all claims, in Markdown.

    Args:
        claims: the claims and their rule.
        verdicts: the result of `claim_table`.
        compared: the result of `comparison_table`, with the seeds that would decide, and a column
            ``words`` that says what is compared.
        scale: the name of the scale.
        has_power: whether the page of their power lies beside it.
        pilot_changes: how the scale differs from what its pilot measured, if it does.
        first_run: the day of the first run that they compare, in UTC.
        commits: those that trained the runs.
    """
    primary = verdicts[verdicts["primary"]]
    by_itself = compared[compared["primary"]]
    changes = f" It was {pilot_changes}." if pilot_changes else ""
    return _PAGE.format(
        scale=scale,
        about=ABOUT,
        claim_rows=pipe_table(_verdict_rows(primary)),
        estimates=_list(
            f"**{row['claim']}, {row['verdict']}.** {_estimates(compared, row['claim'])}"
            for row in primary.to_dict("records")
        ),
        comparison_rows=pipe_table(_comparison_rows(by_itself)),
        seeds=_seeds(by_itself),
        to_decide=_to_decide(by_itself),
        secondary_rows=pipe_table(_comparison_rows(compared[~compared["primary"]])),
        sources=_list(map(_told, claims.claims)),
        derived=_list(_derived(claims)),
        floored=compared["floored"].sum(),
        registration=_registration(claims, first_run, commits),
        power_note=_POWER_NOTE.format(changes=changes) * has_power,
        alpha=claims.rule.alpha,
        power=claims.rule.power,
        primary=len(primary),
        strictest=claims.strictest_level,
        looks=_looks(claims, primary),
    )


def narrow_verdicts(
    claims: Claims, verdicts: pd.DataFrame, compared: pd.DataFrame, scale: str
) -> Narrow:
    """Make a table of the primary claims' verdicts and estimates, for a paper.

    Args:
        claims, verdicts, compared, scale: as in `page`.
    """
    texts = ("What is claimed", "Estimates, and whether each holds")
    rows = [
        [
            row["claim"],
            row["verdict"],
            row["text"],
            _estimates(compared, row["claim"]),
            p_text(row["p_opposite_holm" if row["verdict"] == "contradicted" else "p_holm"]),
        ]
        for row in verdicts[verdicts["primary"]].to_dict("records")
    ]
    return Narrow(
        f"The paper's claims at the scale {scale}. Estimates are ratios of length-controlled win"
        " rates, or differences of Pass@1 in percentage points.",
        pd.DataFrame(rows, columns=["Claim", "Verdict", *texts, "p, Holm"]),
        constant={"Seeds": _seeds(compared[compared["primary"]])},
        notes=(
            "A verdict is about this scale's worlds, models, data and judge. Its level is"
            f" {claims.rule.alpha:g} after Holm's correction over the primary claims. p: of the"
            " claim, but of a contradicted claim, of its opposite. Beside each estimate is the"
            " result of its own comparison, not corrected. claims.md has intervals and the rule.",
        ),
        texts=frozenset(texts),
    )


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items) or "- none"


def _verdict_rows(primary: pd.DataFrame) -> pd.DataFrame:
    """Write the verdicts, which stand on the left, so that a narrow screen shows them."""
    columns = {"claim": "Claim", "verdict": "Verdict", "text": "What is claimed", "hold": "Hold"}
    columns |= {"p_holm": "p, Holm", "p_opposite_holm": "p of the opposite, Holm"}
    hold = [f"{row.yes} of {row.comparisons}" for row in primary.itertuples()]
    p = {name: primary[name].map(p_text) for name in ("p_holm", "p_opposite_holm")}
    return primary.assign(hold=hold, **p)[[*columns]].rename(columns=columns)


def _comparison_rows(compared: pd.DataFrame) -> pd.DataFrame:
    """Write comparisons: of primary claims with their results, of others with their seeds."""
    rows = []
    for row in compared.to_dict("records"):
        own = {"Claim": row["claim"], "Comparison": row["words"]}
        if row["primary"]:
            own["Result"] = result_words(row)
        own |= {"Estimate": amount_of(row), "Claimed": row["claimed"]}
        if row["primary"]:
            own |= {
                "In the paper": paper_words(row),
                "p, not corrected": p_text(row["p_uncorrected"]),
            }
        else:
            own["Seeds"] = str(row["seeds"])
        rows.append(own)
    return pd.DataFrame(rows)


def _seeds(compared: pd.DataFrame) -> str:
    """Say how many seeds comparisons have: ``10``, or ``C1 10, C5 15`` if claims differ."""
    groups = compared.groupby("claim", sort=False)["seeds"]
    numbers = {str(claim): " or ".join(map(str, sorted(set(own)))) for claim, own in groups}
    if len(set(numbers.values())) < 2:
        return "".join(set(numbers.values())) or "none"
    return ", ".join(f"{claim} {number}" for claim, number in numbers.items())


def _to_decide(compared: pd.DataFrame) -> str:
    """List how many seeds would decide what is open, where that is known."""
    known = compared[compared["seeds_to_decide"].notna()]
    found = [
        f"{row['claim']}, {row['words']}, {figure(row, 'seeds_to_decide')}"
        for row in known.to_dict("records")
    ]
    return f" Seeds to decide what is open: {'; '.join(found)}." if found else ""


def _looks(claims: Claims, primary: pd.DataFrame) -> str:
    """Write the paragraph about looks, if the rule has them."""
    if not (looks := claims.rule.looks):
        return ""
    return _LOOKS.format(
        seeds=", ".join(map(str, looks.seeds)),
        weights=", ".join(f"{weight:g}" for weight in looks.weights),
        taken=", ".join(f"{row.claim} {row.looks}" for row in primary.itertuples()),
    )


def _registration(claims: Claims, first_run: date | None, commits: Sequence[str]) -> str:
    """Write when and why each claim got its form, and whether that was before its runs."""
    told = "Each claim got its present form on the day given."
    if claims.registration:
        told += f" Commit {claims.registration[:7]} fixed the rule and the tests, by claims.yaml."
    if commits:
        told += f" The runs were trained at commit {', '.join(commits)}."
    if first_run:
        told += f" The first of the runs that they compare ended on {first_run} (UTC)."
        if late := registered_after(claims, first_run):
            told += (
                f" **Registered after that: {', '.join(late)}.** A claim that may have been written"
                " to fit its runs is no test; run it on other seeds."
            )
    reasons = [f"- {c.id}, {c.registered.date}: {c.registered.reason}." for c in claims.claims]
    reasons += [f"- {name}, dropped: {reason}." for name, reason in claims.dropped.items()]
    return "\n".join([told, "", *reasons])


def registered_after(claims: Claims, first_run: date) -> list[str]:
    """Name the claims that got their present form after the day on which their runs began."""
    return [own.id for own in claims.claims if own.registered.date > first_run]


def amount_of(row: dict) -> str:
    """Write a comparison's estimate with its unit and interval."""
    return amount(row["estimate"], row["compare"], row["estimate_low"], row["estimate_high"])


def _estimates(compared: pd.DataFrame, claim: str) -> str:
    """Write a primary claim's estimates and results: ``beats offline: 1.02x open, 1.31x yes``."""
    said: dict[str, list[str]] = {}
    for row in compared[compared["claim"] == claim].to_dict("records"):
        estimate = amount(row["estimate"], row["compare"])
        # Commas divide the results.
        result = result_words(row).replace("no, the opposite", "no (opposite)")
        text = f"{row['point']} {estimate} {result}".strip()
        said.setdefault(row["asked"], []).append(text)
    return "; ".join(f"{asked}: {', '.join(found)}" for asked, found in said.items())


def result_words(row: dict) -> str:
    """Write a comparison's result; a "no" says whether the opposite was shown."""
    is_opposite = row["result"] == "no" and row["is_opposite"]
    return "no, the opposite" if is_opposite else row["result"]


def paper_words(row: dict) -> str:
    """Write the paper's figure with the mark of its source."""
    known = bool(row["paper_source"])
    return f"{row['paper_effect']:.3g} ({row['paper_source']})" if known else UNKNOWN


def _told(claim: Claim) -> str:
    """Say where a claim comes from, with the paper's number, and what no comparison tests."""
    value = f" ({claim.paper_value})" if claim.paper_value else ""
    untested = f" Not tested: {claim.untested}." if claim.untested else ""
    return f"{claim.id}: {claim.source}{value}.{untested}"


def _derived(claims: Claims) -> list[str]:
    """List how the paper's figures were derived, each once, with the claims that have them."""
    found: dict[str, dict[str, None]] = {}
    for claim in claims.claims:
        for test in claim.tests:
            if test.paper_effect and test.over:
                found.setdefault("the mean of the figures beside it", {})[claim.id] = None
            if test.paper_effect and test.paper_effect.derived:
                found.setdefault(test.paper_effect.derived, {})[claim.id] = None
    return [f"of {' and '.join(names)}: {how}." for how, names in found.items()]
