"""Write the score of every run that a table or a claim shows."""

from humanline.files.json_files import write_json, write_text
from humanline.files.provenance import describe
from humanline.files.typed_files import csv_text
from humanline.report.origins.bill import bill_of_materials
from humanline.report.origins.unrepeatable import not_deterministic
from humanline.study.runs.paths import Paths
from humanline.study.runs.resolved import Run
from humanline.tables.estimates import score_table


def make_scores(runs: list[Run], paths: Paths) -> None:
    """Write `scores.csv`, a row per run, with its provenance and the bill of installed packages.

    Args:
        runs: the resolved runs.
        paths: the paths of the scale's files.

    Raises:
        ConfigError: if a run's file is missing or damaged.
    """
    write_text(paths.tables / "scores.csv", csv_text(score_table(runs)), sealed=True)
    hashes = {f"{run.cell.task}/{run.name}": run.hashes.train for run in runs}
    reasons = not_deterministic(runs)
    made = {"runs": hashes, "not_deterministic": reasons, **describe()}
    write_json(paths.tables / "scores.provenance.json", made, sealed=True)
    write_json(paths.tables / "packages.cdx.json", bill_of_materials())
