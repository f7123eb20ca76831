"""Tables of a study: gather the runs, compute, write, and say where every number comes from."""

import csv
from pathlib import Path

import numpy as np

from humanline.data.run_records import Described
from humanline.files.json_files import write_json, write_text
from humanline.files.provenance import describe, packages
from humanline.files.records import read_record
from humanline.files.validation import pick
from humanline.report.formats import human_readable, write_table
from humanline.report.plots import plot_learning_curves
from humanline.study.claims import Comparison
from humanline.study.experiments import Cell, Table
from humanline.study.study import Study
from humanline.tables import headline
from humanline.tables.claims import ledger, verdicts
from humanline.tables.costs import cost_table
from humanline.tables.run_files import Run, scores, training_seconds
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


def make_table(study: Study, name: str) -> None:
    """Write a table of experiments.yaml as CSV, Markdown and LaTeX, with its provenance.

    The headline table of math comes with its learning curves, as CSV and SVG.
    """
    cells = study.report_cells(name)
    spec = study.experiments.tables[name]
    runs = [(cell, study.directory(cell)) for cell in cells]
    options = {"replicates": study.scale.bootstrap_replicates, "rng_seed": _BOOTSTRAP_SEED}
    write_table(
        _frame(study, spec, runs, options),
        study.results / "tables",
        name,
        caption=headline.caption(
            spec,
            scale=study.scale.scale,
            seeds=len(study.report_seeds(name)),
            replicates=study.scale.bootstrap_replicates,
            collapse_below=study.experiments.collapse_below,
        ),
        provenance=_provenance(study, name, cells),
    )
    if spec.has_curves:
        curves = headline.learning_curves(runs, **options)
        path = study.results / "tables" / f"{name}_curves.csv"
        write_text(path, curves.to_csv(index=False))
        plot_learning_curves(curves, path.with_suffix(".svg"), scale=study.scale.scale)


def _frame(study: Study, spec: Table, runs: list[Run], options: dict):
    match spec.view:
        case "cost":
            return cost_table(runs)
        case "sweep":
            return sweep_table(study, runs, compares_data=spec.compares_data, **options)
        case "headline":
            kinds = {
                "instruction_following": headline.instruction_following_table,
                "math_reasoning": headline.math_reasoning_table,
            }
            return pick("task", spec.task, kinds)(runs, **options)


def make_ledger(study: Study) -> None:
    """Write `claims.csv`, a row for every comparison, `verdicts.csv`, one for every claim,
    `claims.md` with both, and their provenance.
    """
    found = study.comparisons()
    frame = ledger(study.claims, found, lambda comparison: _values(study, comparison))
    frame["scale"] = study.scale.scale
    folder = study.results / "tables"
    summary = verdicts(study.claims, frame).assign(scale=study.scale.scale)
    write_text(folder / "claims.csv", frame.to_csv(index=False))
    write_text(folder / "verdicts.csv", summary.to_csv(index=False))
    hidden = ["text", "paper_value", "task", "p_opposite"]
    text = _LEDGER.format(
        scale=study.scale.scale,
        verdicts=_markdown(summary.drop(columns=["untested", "p", "p_opposite"])),
        untested=_untested(study),
        comparisons=_markdown(frame.drop(columns=hidden)),
        alpha=study.claims.rule.alpha,
        power=study.claims.rule.power,
        n=len(frame),
        claims=len(summary),
    )
    write_text(folder / "claims.md", text)
    cells = [cell for c in found for pair in study.pairs(c) for cell in pair]
    runs = {f"{cell.task}/{cell.name}": study.run_hash(cell) for cell in cells}
    write_json(folder / "claims.provenance.json", {"runs": runs, **describe()})


def _untested(study: Study) -> str:
    """What of the claims no comparison is about."""
    claims = [claim for claim in study.claims.claims if claim.untested]
    parts = "; ".join(f"of {claim.id} {claim.untested}" for claim in claims)
    return f"Not tested is {parts}." if parts else ""


def _values(study: Study, comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """The measure of both cells of a comparison, seed by seed."""

    def measure(cell: Cell) -> float:
        directory = study.directory(cell)
        if comparison.test.measure == "training_seconds":
            return training_seconds(cell, directory)
        return list(scores(cell, directory).values())[-1]

    first, second = zip(*study.pairs(comparison), strict=True)
    return np.array([measure(cell) for cell in first]), np.array([measure(c) for c in second])


def _markdown(frame) -> str:
    return human_readable(frame).to_markdown(index=False, disable_numparse=True)


def _provenance(study: Study, name: str, cells: list[Cell]) -> dict:
    """Code, configuration, seeds, versions, machine, and what every stage took."""
    return {
        "table": name,
        "scale": study.scale.scale,
        "config_hash": study.config_hash(name),
        "seeds": {"report": study.report_seeds(name), "tune": study.scale.seeds.tune},
        **describe(),
        "seconds_per_stage": {
            stage: _seconds(study.results / "benchmarks" / stage, cells)
            for stage in ("base_model", "offline", "train", "generate", "judge", "grade")
        },
        "runs": {cell.name: _run_record(study, cell) for cell in cells if cell.objective != "base"},
    }


def _run_record(study: Study, cell: Cell) -> dict:
    record = read_record(study.directory(cell) / "train.json", Described)
    return {
        "learning_rate": record.manifest.learning_rate,
        "seconds": record.seconds.model_dump(),
        "git": record.provenance.git,
        "other_packages": _differing(record.provenance.packages, packages()),
    }


def _differing(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    """The versions of one process's packages that another process does not have."""
    return {name: own for name, own in one.items() if other.get(name) != own}


def _seconds(folder: Path, cells: list[Cell]) -> float:
    """Wall-clock seconds of a stage's jobs for these cells, from Snakemake's benchmark files."""
    files = {folder / f"{cell.name}.tsv" for cell in cells}
    files |= {folder / cell.task / f"{cell.name}.tsv" for cell in cells}
    files |= {folder / f"{cell.task}-{cell.name}.tsv" for cell in cells}
    total = 0.0
    for path in filter(Path.exists, files):
        with open(path, newline="") as file:
            total += sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))
    return round(total, 1)
