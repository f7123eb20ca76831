"""Tables for people: what they show of the wide ones, and whether they fit a page."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_results import wide_table

from humanline.files.validation import ConfigError
from humanline.report.claims import narrow_verdicts
from humanline.report.escapes import latex_text
from humanline.report.formats import MOST_COLUMNS, Narrow, latex, markdown
from humanline.report.narrow import narrow
from humanline.study.study import Study, load_study

ROOT = Path(__file__).parents[2]
CONFIG, REFERENCE = ROOT / "workflow" / "config", ROOT / "results/reference/laptop/tables"


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(CONFIG / "laptop.yaml", CONFIG / "experiments.yaml", Path("results"))


# All that is more than a number in LaTeX, and texts that once stopped it.
_SIGNS = [chr(code) for code in (*range(0x20, 0x500), *range(0x2010, 0x2300), 0xFB01, 0xFF21)]
NASTY = Narrow(
    "Two {x}.\n\nParagraphs \\ % of_a & #1 $5 ~ ^ | <b> \x07 \U0001f469.",
    pd.DataFrame({"Run": ["[x] first", "*star", "\u4e2d\u6587"], "Score": ["[0.1]", "*", "1.0"]}),
    best=frozenset({(0, "Score")}),
    notes=tuple(own for own in _SIGNS if "[U+" not in latex_text(own)),
    texts=frozenset({"Run"}),
)


def by_run(shown: Narrow) -> pd.DataFrame:
    return shown.rows.set_index("Run")


def test_every_table_is_narrow_and_its_rows_can_be_told_apart(study):
    for name in study.experiments.tables:
        table = study.table(name)
        frame = wide_table(table)
        shown = narrow(frame, table)
        rows = shown.rows
        assert len(rows) == len(frame) and 3 <= len(rows.columns) <= MOST_COLUMNS
        assert max(map(len, rows)) <= 18
        assert list(shown.sources) == [name for name in rows if name not in ("Task", "Run")]
        assert set(shown.sources.values()) <= set(frame)
        assert not rows[[name for name in ("Task", "Run") if name in rows]].duplicated().any()
        assert not rows.isin(["nan", "None"]).any(axis=None)
        assert len(re.findall(r"[.?!](?: |$)", shown.caption)) <= 3
        assert shown.caption.startswith(table.spec.description.split(". ")[0].rstrip("."))
        assert any(note.startswith("Scale: laptop. Seeds: ") for note in shown.notes)
        assert shown.best and all(0 <= row < len(rows) for row, _ in shown.best)


def test_a_table_that_is_read_from_its_csv_looks_the_same(study, tmp_path):
    for name in ("instruction_following", "math_reasoning", "clip_range", "cost"):
        table = study.table(name)
        frame = wide_table(table)
        frame.to_csv(tmp_path / "table.csv", index=False)
        read = narrow(pd.read_csv(tmp_path / "table.csv"), table)
        assert markdown(read, "x.csv") == markdown(narrow(frame, table), "x.csv")


def test_rows_of_an_earlier_form_of_the_table_are_refused(study):
    table = study.table("first_taste")
    frame = wide_table(table).assign(
        variant=lambda own: own["variant"].replace("grpo-offline", "old")
    )
    with pytest.raises(ConfigError, match=r"first_taste\.csv: variant: old is no cell of"):
        narrow(frame, table)


def test_what_is_the_same_in_all_rows_stands_above_them(study):
    table = study.table("first_taste")
    frame = wide_table(table)
    shown = narrow(frame, table)
    assert list(shown.rows["Run"])[1:3] == ["offline", "offline with humanline"]
    assert "Seeds" in shown.rows and "Seeds" not in shown.constant
    assert shown.constant["Objective"] == "GRPO" and shown.constant["Synced"] == "every 4 steps"
    assert {"Unclipped", "Collapsed"} <= {note.partition(":")[0] for note in shown.notes}
    without = narrow(frame.assign(unclipped=np.nan), table)
    assert "Unclipped" not in {note.partition(":")[0] for note in without.notes}
    shown = narrow(frame.assign(seeds=3), table)
    assert "Seeds" not in shown.rows and shown.constant["Seeds"] == "3"
    text = markdown(shown, "first_taste.csv")
    assert "Objective: GRPO. Sampled: every 8 steps." in text
    assert text.endswith("- All columns: [first_taste.csv](first_taste.csv).\n")


def test_the_best_trained_rows_of_a_task_are_marked_also_if_they_only_look_the_same(study):
    table = study.table("sync_interval")
    frame = wide_table(table).assign(score=50.0)
    tasks = frame["task"].to_numpy()
    frame.loc[frame["objective"] == "base", "score"] = 99.0
    first, second, last = (*np.flatnonzero(frame["objective"] != "base")[:2], len(frame) - 1)
    assert tasks[first] == tasks[second] != tasks[last]
    frame.loc[[first, second, last], "score"] = 60.01, 60.04, 55.0
    shown = narrow(frame, table)
    assert shown.best == {(int(row), "Score, %") for row in (first, second, last)}
    assert any("column and task" in note for note in shown.notes)
    assert not narrow(wide_table(table).assign(score=50.0), table).best


def test_rows_with_something_to_warn_of_are_named(study):
    table = study.table("first_taste")
    frame = wide_table(table).assign(left_out=[0, 0, 7, 0, 2], length_control_warnings=0)
    notes = narrow(frame, table).notes
    assert "Left out: offline with humanline 7, online with humanline 2." in notes
    assert "LC warnings, Collapsed: none in any row." in notes


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_every_table_fits_the_page_of_an_article_in_8_points(study, tmp_path):
    parts = []
    for name in study.experiments.tables:
        table = study.table(name)
        text = latex(narrow(wide_table(table), table), name)
        assert text.count(r"\footnotesize") == text.count(r"\begin{table}")
        assert not re.search(r"resizebox|scriptsize|tiny", text)
        parts += [text, r"\clearpage"]
    made = [pd.read_csv(REFERENCE / f"{name}.csv") for name in ("claims", "comparisons")]
    verdicts = narrow_verdicts(study.claims, made[0], made[1].fillna({"point": ""}), "laptop")
    parts += [latex(verdicts, "claims"), latex(NASTY, "nasty")]
    preamble = [r"\documentclass{article}", r"\usepackage{booktabs,tabularx}"]
    size = r"{\footnotesize\makeatletter\typeout{points: \f@size}\makeatother}"
    lines = [*preamble, r"\begin{document}", size, *parts, r"\end{document}"]
    (tmp_path / "tables.tex").write_text("\n".join(lines), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert run.returncode == 0, run.stdout[-2000:]
    assert "points: 8" in run.stdout
    assert re.findall(r"Overfull \\hbox.*|Float too large.*", run.stdout) == []
