"""Tables: gather the runs, compute, write, and say where every number comes from."""

import csv
from pathlib import Path

import numpy as np

from humanline.data.run_records import Described
from humanline.files.json_files import write_json, write_text
from humanline.files.provenance import describe, packages
from humanline.files.records import read_record
from humanline.report.formats import human_readable, write_table
from humanline.report.plots import plot_learning_curves
from humanline.study.claims import Claims, Comparison
from humanline.study.runs.requests import ClaimsRequest, TableRequest
from humanline.study.runs.resolved import Run
from humanline.study.tasks import find_task
from humanline.tables import headline
from humanline.tables.claims import ledger, verdicts
from humanline.tables.costs import cost_table
from humanline.tables.run_files import RunFolder, scores, training_seconds
from humanline.tables.sweeps import sweep_table

_BOOTSTRAP_SEED = 0
_LEDGER = """\
# The paper's claims at the scale {scale}

A verdict here is a verdict about the models, data and judge of this scale. Claims marked *notes*
come from a public summary and have not been seen in the paper itself; *ours* are questions of this
suite.

{verdicts}

A claim is supported if all of its comparisons are (its p is their greatest), contradicted if any
is (the least p of the opposite, times their number), at {alpha:g} after Holm's correction over the
{claims} claims; undecided otherwise. {untested}

## Comparisons

{comparisons}

Ratios and differences are of mean scores (length-controlled win rate, Pass@1; per cent) or seconds,
with 95 % t intervals over paired seeds, Fieller's for ratios; p-values are of one-sided t-tests,
two of them where equality is claimed, against the margin shown. The verdict on a single comparison
is at {alpha:g} after Holm's correction over all {n}. Seeds to decide: how many would give a test a
power of {power:.0%}, if the truth were the estimate, at the error that Holm asks of the smallest p
of a claim; inf: more than 1024; a dash: decided, or, with one seed or identical runs, unknown.

All seeds share their evaluation prompts. Seconds leave out the sampling of offline data, and are of
jobs that ran side by side. Learning rates are those of the tables: what was not tuned takes that of
its nearest tuned kin. The rule was fixed before the runs on these seeds.
"""


def make_table(table: TableRequest) -> None:
    """Write a table of experiments.yaml as CSV, Markdown and LaTeX, with its provenance.

    The headline table of a graded task comes with its learning curves, as CSV and SVG.
    """
    runs = [(run.cell, run.paths.directory) for run in table.runs]
    options = {"replicates": table.replicates, "rng_seed": _BOOTSTRAP_SEED}
    write_table(
        _frame(table, runs, options),
        table.paths.tables,
        table.name,
        caption=headline.caption(
            table.spec,
            scale=table.scale,
            seeds=len(table.seeds),
            replicates=table.replicates,
            collapse_below=table.collapse_below,
        ),
        provenance=_provenance(table),
        headers={n.outcome: n.header for task in table.spec.tasks for n in find_task(task).notices},
    )
    if table.spec.has_curves:
        curves = headline.learning_curves(runs, **options)
        path = table.paths.tables / f"{table.name}_curves.csv"
        write_text(path, curves.to_csv(index=False))
        plot_learning_curves(curves, path.with_suffix(".svg"), scale=table.scale)


def _frame(table: TableRequest, runs: list[RunFolder], options: dict):
    spec = table.spec
    match spec.view:
        case "cost":
            return cost_table(runs)
        case "sweep":
            return sweep_table(table, runs, compares_data=spec.compares_data, **options)
        case "headline":
            return headline.headline_table(spec.task, runs, **options)


def make_ledger(asked: ClaimsRequest) -> None:
    """Write `claims.csv`, a row for every comparison, `verdicts.csv`, one for every claim,
    `claims.md` with both, and their provenance.
    """
    found = [comparison for comparison, _ in asked.compared]
    frame = ledger(asked.claims, found, lambda own: _values(own, asked.pairs(own)))
    frame["scale"] = asked.scale
    folder = asked.paths.tables
    summary = verdicts(asked.claims, frame).assign(scale=asked.scale)
    write_text(folder / "claims.csv", frame.to_csv(index=False))
    write_text(folder / "verdicts.csv", summary.to_csv(index=False))
    hidden = ["text", "paper_value", "task", "p_opposite"]
    text = _LEDGER.format(
        scale=asked.scale,
        verdicts=_markdown(summary.drop(columns=["untested", "p", "p_opposite"])),
        untested=_untested(asked.claims),
        comparisons=_markdown(frame.drop(columns=hidden)),
        alpha=asked.claims.rule.alpha,
        power=asked.claims.rule.power,
        n=len(frame),
        claims=len(summary),
    )
    write_text(folder / "claims.md", text)
    runs = {f"{run.cell.task}/{run.name}": run.hashes.train for run in asked.runs}
    write_json(folder / "claims.provenance.json", {"runs": runs, **describe()})


def _untested(claims: Claims) -> str:
    """What of the claims no comparison is about."""
    found = [claim for claim in claims.claims if claim.untested]
    parts = "; ".join(f"of {claim.id} {claim.untested}" for claim in found)
    return f"Not tested is {parts}." if parts else ""


def _values(comparison: Comparison, pairs: list[tuple[Run, Run]]) -> tuple[np.ndarray, np.ndarray]:
    """The measure of both cells of a comparison, seed by seed: each (S,)."""

    def measure(run: Run) -> float:
        if comparison.test.measure == "training_seconds":
            return training_seconds(run.cell, run.paths.directory)
        return list(scores(run.cell, run.paths.directory).values())[-1]

    first, second = zip(*pairs, strict=True)
    return np.array([measure(run) for run in first]), np.array([measure(run) for run in second])


def _markdown(frame) -> str:
    return human_readable(frame).to_markdown(index=False, disable_numparse=True)


def _provenance(table: TableRequest) -> dict:
    """Code, configuration, seeds, versions, machine, and what every stage took."""
    return {
        "table": table.name,
        "scale": table.scale,
        "config_hash": table.config_hash,
        "seeds": {"report": table.seeds, "tune": table.tune_seeds},
        **describe(),
        "seconds_per_stage": {
            stage: _seconds(table.paths.benchmarks / stage, table.runs)
            for stage in ("base_model", "offline", "train", "generate", "score")
        },
        "runs": {run.name: _run_record(run.paths.record) for run in table.runs if run.is_trained},
    }


def _run_record(path: Path) -> dict:
    record = read_record(path, Described)
    return {
        "learning_rate": record.manifest.learning_rate,
        "seconds": record.seconds.model_dump(),
        "git": record.provenance.git,
        "other_packages": _differing(record.provenance.packages, packages()),
    }


def _differing(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    """The versions of one process's packages that another process does not have."""
    return {name: own for name, own in one.items() if other.get(name) != own}


def _seconds(folder: Path, runs: list[Run]) -> float:
    """Wall-clock seconds of a stage's jobs for these runs, from Snakemake's benchmark files."""
    cells = [run.cell for run in runs]
    files = {folder / f"{cell.name}.tsv" for cell in cells}
    files |= {folder / cell.task / f"{cell.name}.tsv" for cell in cells}
    files |= {folder / f"{cell.task}-{cell.name}.tsv" for cell in cells}
    total = 0.0
    for path in filter(Path.exists, files):
        with open(path, newline="") as file:
            total += sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))
    return round(total, 1)
