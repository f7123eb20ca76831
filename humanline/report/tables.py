"""Make a table: gather its runs, compute it, and write it with the provenance of its numbers."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from humanline.data.training_files import Described
from humanline.files.json_files import write_text
from humanline.files.provenance import describe, packages
from humanline.files.typed_files import csv_text, read_record
from humanline.report.formats import write_table
from humanline.report.narrow import narrow
from humanline.report.origins.mixed import differences, notes
from humanline.report.origins.seconds import seconds_of
from humanline.report.origins.unrepeatable import not_deterministic
from humanline.report.plots import figure_files, plot_learning_curves
from humanline.study.runs.requests import TableRequest
from humanline.study.runs.resolved import Run
from humanline.tables import headline
from humanline.tables.costs import cost_table
from humanline.tables.run_results import RunFolder
from humanline.tables.sweeps import sweep_table


def make_table(table: TableRequest) -> None:
    """Write a table of experiments.yaml as CSV, Markdown and LaTeX, with its provenance.

    The headline table of a graded task also gets its learning curves, as CSV, SVG and PDF.

    Args:
        table: the table's definition, its resolved runs and paths.

    Raises:
        ConfigError: if a run's file is missing or damaged.
    """
    runs = [(run.cell, run.paths.directory) for run in table.runs]
    frame, folder = _frame(table, runs), table.paths.tables
    made = differences(table.runs)
    shown = narrow(frame, table)
    shown = replace(shown, notes=(*shown.notes, *notes(made)))
    provenance = _provenance(table) | {
        "differences_between_runs": made,
        "not_deterministic": not_deterministic(table.runs),
    }
    write_table(frame, shown, folder, table.name, provenance=provenance)
    if table.spec.has_curves:
        shares_prompts = table.shares_prompts(table.spec.tasks[0])
        curves = headline.learning_curves(runs, shares_prompts=shares_prompts)
        path = folder / f"{table.name}_curves.csv"
        write_text(path, csv_text(curves))
        cells = {cell.variant: cell for cell, _ in runs}
        plot_learning_curves(curves, *figure_files(path), cells=cells, scale=table.scale)


def _frame(table: TableRequest, runs: list[RunFolder]) -> pd.DataFrame:
    spec = table.spec
    match spec.view:
        case "cost":
            return cost_table(runs)
        case "sweep":
            return sweep_table(table, runs, compares_data=spec.compares_data)
        case "headline":
            task = spec.tasks[0]
            shares_prompts = table.shares_prompts(task)
            return headline.headline_table(task, runs, shares_prompts=shares_prompts)


def _provenance(table: TableRequest) -> dict:
    """Collect code, configuration, seeds, versions, machine, and the seconds of every stage."""
    installed = packages()
    trained = [run for run in table.runs if run.is_trained]
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
        "runs": {run.name: _run_record(run.paths.record, installed) for run in trained},
    }


def _run_record(path: Path, installed: dict[str, str]) -> dict:
    record = read_record(path, Described)
    return {
        "learning_rate": record.manifest.learning_rate,
        "seconds": record.seconds.model_dump(),
        "git": record.provenance.git,
        "other_packages": _differing(record.provenance.packages, installed),
    }


def _differing(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    """Return the packages of `one` whose version in `other` is different or missing."""
    return {name: own for name, own in one.items() if other.get(name) != own}


def _seconds(folder: Path, runs: list[Run]) -> float:
    """Add up the wall-clock seconds of a stage's jobs, from Snakemake's benchmark files."""
    cells = [run.cell for run in runs]
    files = {folder / f"{cell.name}.tsv" for cell in cells}
    files |= {folder / cell.task / f"{cell.name}.tsv" for cell in cells}
    files |= {folder / f"{cell.task}-{cell.name}.tsv" for cell in cells}
    found = [own or 0.0 for path in files if path.exists() for own in seconds_of(path)]
    return round(sum(found), 1)
