"""Tables of a study: gather the runs, compute, write, and say where every number comes from."""

import csv
from pathlib import Path

from humanline.data.run_records import Described
from humanline.files.json_files import write_text
from humanline.files.provenance import describe, packages
from humanline.files.records import read_record
from humanline.report.formats import write_table
from humanline.report.plots import plot_learning_curves
from humanline.study.experiments import Cell, Table
from humanline.study.study import Study
from humanline.study.tasks import find_task
from humanline.tables import headline
from humanline.tables.costs import cost_table
from humanline.tables.run_files import Run
from humanline.tables.sweeps import sweep_table

_BOOTSTRAP_SEED = 0


def make_table(study: Study, name: str) -> None:
    """Write a table of experiments.yaml as CSV, Markdown and LaTeX, with its provenance.

    The headline table of a graded task comes with its learning curves, as CSV and SVG.
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
        headers={n.outcome: n.header for task in spec.tasks for n in find_task(task).notices},
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
            return headline.headline_table(spec.task, runs, **options)


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
            for stage in ("base_model", "offline", "train", "generate", "score")
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
