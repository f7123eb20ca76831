"""Tables for people: what they show of the wide ones, and whether they fit a page."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from humanline.report.formats import MOST_COLUMNS, Narrow, latex, markdown
from humanline.report.narrow import narrow
from humanline.study.runs.requests import TableRequest
from humanline.study.study import Study, load_study
from humanline.study.tasks import find_task

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
# Columns of wide tables, by view: the range of their values, and whether they have an interval.
COLUMNS = {
    "judge": {
        "length_controlled_win_rate": (20, 75, True),
        "ratio_to_offline": (0.5, 2, True),
        "ratio_to_online": (0.5, 2, True),
        "win_rate": (20, 75, False),
        "mean_length": (1500, 2500, False),
    },
    "grade": {
        "pass_at_1": (30, 80, True),
        "difference_to_online": (-30, 30, True),
        "p_beats_plain": (0, 1, False),
        "steps_to_online": (8, 128, False),
        "training_seconds": (8, 4000, False),
    },
    "sweep": {
        "score": (20, 75, True),
        "difference_to_offline": (-40, 40, True),
        "difference_to_online": (-40, 40, True),
        "unclipped": (0.7, 1, False),
        "data_log_probability": (-3, -1, False),
    },
    "cost": {
        "score": (20, 75, False),
        "training_seconds": (8, 4000, False),
        "ratio_of_seconds": (0.5, 2, True),
        "sampling_share": (0, 0.6, False),
        "peak_memory_mib": (800, 90_000, False),
        "speed_up": (0.5, 10, False),
    },
}


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(CONFIG / "laptop.yaml", CONFIG / "experiments.yaml", Path("results"))


def wide(table: TableRequest) -> pd.DataFrame:
    """A wide table with made-up figures; seeds as the cells have them."""
    seeds = pd.Series([(run.cell.task, run.cell.variant) for run in table.runs]).value_counts()
    cells = {(run.cell.task, run.cell.variant): run.cell for run in table.runs}
    if table.spec.view == "cost":
        cells = {key: cell for key, cell in cells.items() if cell.objective != "base"}
    frame = pd.DataFrame(
        [
            {"task": task, "objective": cell.objective, "seeds": seeds[task, variant]}
            | {"variant": variant, "steps": 128, "collapsed": 0}
            for (task, variant), cell in cells.items()
        ]
    )
    spec, rng = table.spec, np.random.default_rng(1)
    kind = find_task(spec.tasks[0]).scoring if spec.view == "headline" else spec.view
    for name, (low, high, has_interval) in COLUMNS[kind].items():
        frame[name] = rng.uniform(low, high, len(frame))
        if has_interval:
            frame[f"{name}_low"], frame[f"{name}_high"] = frame[name] - 2.5, frame[name] + 2.5
    return frame


def by_run(shown: Narrow) -> pd.DataFrame:
    return shown.rows.set_index("Run")


def test_every_table_is_narrow_and_its_rows_can_be_told_apart(study):
    for name in study.experiments.tables:
        table = study.table(name)
        frame = wide(table)
        shown = narrow(frame, table)
        rows = shown.rows
        assert len(rows) == len(frame) and 3 <= len(rows.columns) <= MOST_COLUMNS
        assert max(map(len, rows)) <= 18
        assert not rows[[name for name in ("Task", "Run") if name in rows]].duplicated().any()
        assert not rows.isin(["nan", "None"]).any(axis=None)
        assert len(re.findall(r"[.?!](?: |$)", shown.caption)) <= 3
        assert shown.caption.startswith(table.spec.description.split(". ")[0].rstrip("."))
        assert any(note.startswith("Scale: laptop. Seeds: ") for note in shown.notes)
        assert shown.best and all(0 <= row < len(rows) for row, _ in shown.best)


def test_a_table_that_is_read_from_its_csv_looks_the_same(study, tmp_path):
    for name in ("instruction_following", "math_reasoning", "clip_range", "cost"):
        table = study.table(name)
        frame = wide(table)
        frame.to_csv(tmp_path / "table.csv", index=False)
        read = narrow(pd.read_csv(tmp_path / "table.csv"), table)
        assert markdown(read, "x.csv") == markdown(narrow(frame, table), "x.csv")


def test_what_is_the_same_in_all_rows_stands_above_them(study):
    table = study.table("first_taste")
    frame = wide(table)
    shown = narrow(frame, table)
    assert list(shown.rows["Run"])[1:3] == ["offline", "offline with humanline"]
    assert "Seeds" in shown.rows and "Seeds" not in shown.constant
    assert shown.constant["Objective"] == "GRPO" and shown.constant["Synced"] == "every 4 steps"
    shown = narrow(frame.assign(seeds=3), table)
    assert "Seeds" not in shown.rows and shown.constant["Seeds"] == "3"
    text = markdown(shown, "first_taste.csv")
    assert "Objective: GRPO. Sampled: every 8 steps." in text
    assert text.endswith("- All columns: [first_taste.csv](first_taste.csv).\n")


def test_the_best_trained_rows_of_a_task_are_marked_also_if_they_only_look_the_same(study):
    table = study.table("sync_interval")
    frame = wide(table).assign(score=50.0)
    tasks = frame["task"].to_numpy()
    frame.loc[frame["objective"] == "base", "score"] = 99.0
    first, second, last = (*np.flatnonzero(frame["objective"] != "base")[:2], len(frame) - 1)
    assert tasks[first] == tasks[second] != tasks[last]
    frame.loc[[first, second, last], "score"] = 60.01, 60.04, 55.0
    shown = narrow(frame, table)
    assert shown.best == {(int(row), "Score, %") for row in (first, second, last)}
    assert any("column and task" in note for note in shown.notes)
    assert not narrow(wide(table).assign(score=50.0), table).best


def test_rows_with_something_to_warn_of_are_named(study):
    table = study.table("first_taste")
    frame = wide(table).assign(left_out=[0, 0, 7, 0, 2], length_control_warnings=0)
    notes = narrow(frame, table).notes
    assert "Left out: offline with humanline 7, online with humanline 2." in notes
    assert "LC warnings, Collapsed: none in any row." in notes


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_every_table_fits_the_page_of_an_article_in_8_points(study, tmp_path):
    parts = []
    for name in study.experiments.tables:
        table = study.table(name)
        text = latex(narrow(wide(table), table), name)
        assert text.count(r"\footnotesize") == text.count(r"\begin{table}")
        assert not re.search(r"resizebox|scriptsize|tiny", text)
        parts += [text, r"\clearpage"]
    preamble = [r"\documentclass{article}", r"\usepackage{booktabs,tabularx}"]
    size = r"{\footnotesize\makeatletter\typeout{points: \f@size}\makeatother}"
    lines = [*preamble, r"\begin{document}", size, *parts, r"\end{document}"]
    (tmp_path / "tables.tex").write_text("\n".join(lines), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert run.returncode == 0, run.stdout[-2000:]
    assert "points: 8" in run.stdout
    assert re.findall(r"Overfull \\hbox.*|Float too large.*", run.stdout) == []
