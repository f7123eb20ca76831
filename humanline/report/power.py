"""Write the power of a scale's claims: a page, a table, and the pilot that a scale can adopt."""

import math
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

import pandas as pd
import yaml

from humanline.files.json_files import write_text
from humanline.files.provenance import git_state
from humanline.files.typed_files import csv_text
from humanline.files.validation import validate
from humanline.report.formats import UNKNOWN, amount, pipe_table
from humanline.study.claims import Claims, Comparison
from humanline.study.runs.pilot import Pilot
from humanline.study.runs.requests import PowerRequest
from humanline.study.words import comparison_words, labels
from humanline.tables.claims import contrast_of, paper_source
from humanline.tables.estimates import values_of
from humanline.tables.power import Planned, PlannedClaim, design, percent
from humanline.tables.statistics.inference import variance

_HEADER = """\
# The pilot of the {scale} scale, by `snakemake power --config scale={scale}`: how much each
# contrast of the claims varies from seed to seed. No table reports these seeds; they were evaluated
# on validation prompts. Units: points, or the logarithm of a ratio. `mean` is for information.
# To adopt it, copy it to pilots/{scale}.yaml beside the scale's file, and write `pilot:
# pilots/{scale}.yaml` there. Then claims that could hardly be decided are refused.
"""

_OPTIONS = "# Hashes of what these runs had; where one differs from the scale's, it says so.\n"

_PAGE = """\
# The power of the claims at the scale {scale}

What the design can decide, by a pilot on {seeds} seeds that no table reports ({date}, validation
prompts). The level is {alpha:g} / {primary}: that of the smallest p in Holm's correction over
the primary claims{first_look}.{changes}

## Primary claims

{claims}

Power: the chance that the claim is supported if the effects below are the truth here. It is a lower
bound: the chances that single comparisons fail are added up. In parentheses: with the upper limits
of the standard deviations. Seeds needed: for a power of {power:.0%}.

## Their comparisons

{comparisons}

SD: the standard deviation over seeds, of a difference in points or of a ratio in per cent (of its
logarithm); in parentheses its upper limit, of 80 % confidence, since the pilot has few seeds.
Smallest effect: what the comparison alone shows with a power of {power:.0%}; of a claim to be as
good or not worse, the smallest margin, if there is no difference. Effect: what power is computed
for, and its source: the paper's abstract, or notes, a public summary of it that was not checked
against the paper; derived: not published, but computed from what is, as claims.yaml says; assumed:
what a claim of equality says. A mean decides its claim; the comparisons that follow it are tested
in order, and their power counts those before.
{others}"""

_OTHERS = """
## Other claims

{comparisons}

These have no verdict. The level is {alpha:g}. Where the pilot has fewer seeds than above, the upper
limit says how little a standard deviation of so few tells.
"""


def make_power(asked: PowerRequest) -> None:
    """Write `pilot.yaml`, `power.csv` (a row per comparison) and `power.md`.

    Args:
        asked: the claims, the comparisons with their runs on the pilot's seeds, and their number
            of seeds in the tables.

    Raises:
        ConfigError: if a run's file is missing or damaged.
    """
    measured = asked.measured
    pilot = _pilot(asked, measured.paths.pilot)
    found = [comparison for comparison, _ in measured.compared]
    compared = list(zip(found, asked.planned, strict=True))
    write_power(measured.claims, compared, pilot, measured.paths.power)


def _pilot(asked: PowerRequest, path: Path) -> Pilot:
    """Measure every contrast, and write the pilot's file."""
    measured = asked.measured
    values = values_of(measured.pairs)
    contrasts: dict[str, dict[str, dict]] = {}
    for comparison, _ in measured.compared:
        own = contrast_of(comparison, values)
        found = variance(own.values, own.pseudo)
        seeds = len(own.seeds)
        contrasts.setdefault(comparison.test.task, {})[comparison.contrast] = {
            "seeds": seeds,
            "mean": _rounded(float(own.values.mean())),
            "sd": _rounded(math.sqrt(seeds * found.seeds)),
        } | ({"prompts": _rounded(float(found.prompts))} if found.prompts > 0 else {})
    content = {
        "scale": measured.scale,
        "date": date.today(),
        "commit": git_state()["commit"],
        "seeds": asked.seeds,
        "contrasts": contrasts,
    }
    options = {"options": asked.options}
    # The check that a scale makes when it reads the file.
    pilot = validate(Pilot, content | options, path)
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    text += _OPTIONS + yaml.safe_dump(options, sort_keys=False)
    write_text(path, _HEADER.format(scale=measured.scale) + text)
    return pilot


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def write_power(
    claims: Claims,
    compared: Sequence[tuple[Comparison, int]],
    pilot: Pilot,
    folder: Path,
    *,
    changes: str = "",
) -> None:
    """Write `power.csv` and `power.md` by a pilot's measurements.

    Args:
        claims: the claims and their rule.
        compared: comparisons, in order, and the number of their seeds in the tables.
        pilot: the pilot; comparisons that it lacks are left out.
        folder: where to write.
        changes: how the scale differs from what the pilot measured; see `Pilot.changes`.
    """
    found = design(claims, compared, pilot)
    primary = [own for own in found if own.claim.primary]
    rows = [row for own in found for row in own.planned]
    cells: dict[bool, list[dict]] = {True: [], False: []}  # by whether their claim is primary
    for row, label in zip(rows, labels([row.comparison for row in rows]), strict=True):
        cells[row.comparison.claim.primary].append(_cells(row, label))
    write_text(folder / "power.csv", csv_text(pd.DataFrame(map(_numbers, rows))))
    rule = claims.rule
    text = _PAGE.format(
        scale=pilot.scale,
        seeds=len(pilot.seeds),
        date=pilot.date,
        alpha=rule.first_level,
        primary=len(claims.primary),
        first_look=", at the first look" if rule.looks else "",
        power=rule.power,
        claims=_rows(map(_claim_cells, primary)),
        changes=f" **It was {changes}.**" if changes else "",
        comparisons=_rows(cells[True]),
        others=_OTHERS.format(comparisons=_rows(cells[False]), alpha=rule.alpha)
        if cells[False]
        else "",
    )
    write_text(folder / "power.md", text)


def _numbers(row: Planned) -> dict:
    comparison = row.comparison
    return {
        "claim": comparison.claim.id,
        "primary": comparison.claim.primary,
        "task": comparison.test.task,
        "comparison": comparison.words,
        "role": comparison.role,
        "alpha": row.alpha,
        "pilot_seeds": row.spread.seeds,
        "pilot_mean": row.spread.mean,
        "sd": row.spread.sd,
        "sd_limit": row.sd_limit,
        "seeds": row.seeds,
        "smallest_effect": row.smallest,
        "paper_effect": comparison.paper_effect,
        "power": row.power(),
        "power_cautious": row.power(cautious=True),
    }


def _claim_cells(own: PlannedClaim) -> dict:
    unknown = [row.comparison.contrast for row in own.needed if row.effect is None]
    why = f"the paper has no figure for {'; '.join(unknown)}"
    return {
        "Claim": own.claim.id,
        "What is claimed": own.claim.claim,
        "Seeds": str(own.seeds),
        "Power, at least": why if unknown else _power(own),
        "Seeds needed": UNKNOWN if unknown else _count(own.seeds_needed),
    }


def _cells(row: Planned, label: str) -> dict:
    comparison = row.comparison
    smallest = amount(row.smallest, comparison.test.compare)
    if comparison.test.margin:
        smallest = f"margin {smallest.removeprefix('+')}"
    return {
        "Claim": comparison.claim.id,
        "Comparison": "then " * (comparison.role == "point") + comparison_words(comparison, label),
        "SD": f"{_spread(row, row.spread.sd)} ({_spread(row, row.sd_limit)})",
        "Seeds": str(row.seeds),
        "Smallest effect": smallest,
        "Effect": _effect(row),
        "Power": _power(row),
    }


def _spread(row: Planned, sd: float) -> str:
    return f"{100 * sd:.1f} %" if row.is_ratio else f"{sd:.2f} points"


def _effect(row: Planned) -> str:
    """Write the effect that power is computed for, with the mark of its source."""
    if row.effect is None:
        return UNKNOWN
    comparison = row.comparison
    mark = paper_source(comparison) or "assumed"
    return f"{amount(row.effect, comparison.test.compare)} ({mark})"


def _power(own: Planned | PlannedClaim) -> str:
    power = own.power()
    if math.isnan(power):
        return UNKNOWN
    return f"{percent(power)} ({percent(own.power(cautious=True))})"


def _count(seeds: float) -> str:
    if math.isnan(seeds):
        return UNKNOWN
    return "more than 1024" if math.isinf(seeds) else f"{seeds:.0f}"


def _rows(rows: Iterable[dict]) -> str:
    return pipe_table(pd.DataFrame(list(rows)))
