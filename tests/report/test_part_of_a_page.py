"""A page of what is made: what is missing is named, and what was begun has to be whole."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from made_results import CONFIG, made_study, make_results, write_claims

from humanline.cli.commands import main
from humanline.report.page import samples
from humanline.report.page.origin import not_made
from humanline.report.page.page import PARTS
from humanline.study.runs.on_disk import on_disk
from humanline.study.study import Study

COMMAND = "snakemake --cores all report --config scale=smoke "


@pytest.fixture(scope="module")
def all_made(tmp_path_factory):
    root = tmp_path_factory.mktemp("all")
    make_results(made_study(root))
    return root


@pytest.fixture
def study(all_made, tmp_path):
    """A study of which `first_taste` alone was made, and its five runs."""
    return made(all_made, tmp_path, "first_taste")


def made(all_made: Path, root: Path, table: str) -> Study:
    """A copy of results without other tables, claims, scores of all, and scores of other runs."""
    shutil.copytree(all_made, root, dirs_exist_ok=True)
    study = made_study(root)
    for path in study.paths.tables.iterdir():
        if path.name.partition(".")[0] != table:
            path.unlink()
    kept = study.table(table).runs
    for run in study.page_request(CONFIG).runs:
        if run not in kept:
            run.paths.scored.unlink()
    return study


def page_of(study) -> dict:
    request = on_disk(study.page_request(CONFIG))
    return {part.name: part.context(request) for part in PARTS}


def report(study, capsys) -> tuple[int, str, str]:
    options = ["--scale", "smoke", "--config", str(CONFIG), "--results", str(study.root)]
    status = main(["report", *options])
    return status, *capsys.readouterr()


def test_a_page_of_all_is_left_as_it_is(all_made):
    request = made_study(all_made).page_request(CONFIG)
    assert on_disk(request) is request


def test_one_table_has_a_page_with_its_texts_and_scores(study):
    shown = page_of(study)
    assert [table["name"] for table in shown["tables"]["tables"]] == ["first_taste"]
    assert shown["runs"]["count"] == 5
    cells = shown["runs"]["data"]["cells"]
    assert [run["score"] > 0 for cell in cells for run in cell["runs"]] == [True] * 5
    (group,) = shown["samples"]["data"]["groups"]
    assert group["cells"][0] == "base model" and len(group["cells"]) == 5
    for row in group["prompts"]:
        assert row["prompt"] and len(row["outputs"]) == 5
        assert all(own["text"] and own["judge"] is not None for own in row["outputs"])
    assert shown["figures"]["groups"] == {}


def test_a_study_without_a_headline_table_shows_its_texts(all_made):
    request = made_study(all_made).page_request(CONFIG)
    (table,) = (own for own in request.tables if own.name == "first_taste")
    shown = samples.context(replace(request, tables=[table], claims=None, runs=table.runs))
    (group,) = shown["data"]["groups"]
    assert group["title"] == "first taste" and len(group["cells"]) == 5
    assert "first taste: " in shown["rule"]


def test_what_is_missing_is_named_on_the_page_and_on_the_terminal(study, capsys):
    status, out, err = report(study, capsys)
    assert status == 0 and not err
    told = page_of(study)["verdicts"]["missing"]["not all made"]
    assert f" All of it is made by: {COMMAND}" in told
    assert "shows 1 of 12 tables and 5 of 73 runs" in told
    assert "instruction_following (8 runs missing)" in told and "first_taste (" not in told
    path, *lines = out.splitlines()[:-1]
    assert " ".join(lines) == told
    assert "not all made" in Path(path).read_text()


def test_a_page_that_lacks_only_the_file_of_scores_says_so(all_made):
    request = made_study(all_made).page_request(CONFIG)
    scores = request.paths.tables / "scores.csv"
    kept = scores.rename(scores.with_suffix(".away"))
    try:
        told = not_made(on_disk(request))
    finally:
        kept.rename(scores)
    assert told[1] == "The file of all runs' scores is not made."


def test_the_command_makes_what_is_missing(study):
    told = page_of(study)["verdicts"]["missing"]["not all made"]
    words = shlex.split(told.partition("made by: ")[2].partition(" For one")[0])
    assert words[-1] == f"results={study.root}"
    assert f"config_directory={CONFIG}" in words  # as it was called with the folder's whole path


def test_claims_with_all_of_their_runs_have_verdicts_and_others_are_named(all_made, tmp_path):
    shown = page_of(made(all_made, tmp_path, "ablation"))["verdicts"]
    assert [own["id"] for own in shown["primary"]] == ["C1", "C2", "C8"]
    assert shown["takeaway"].startswith(
        "Of 6 primary claims, 3 are undecided (C1, C2 and C8) and 3 lack runs (C2c, C5 and C10)"
    )
    assert "can only decide more" in shown["missing"]["not all made"]
    assert "C10" not in [own["id"] for own in shown["explored"]]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda request, run: run.paths.scored.unlink(), "but table first_taste is there"),
        (lambda request, run: run.paths.record.unlink(), "train.json"),
        (lambda request, run: run.paths.samples.unlink(), "score that run again"),
        (
            lambda request, run: (request.paths.tables / "first_taste.csv").unlink(),
            "table first_taste has its others; make it again: snakemake --cores all --force table_",
        ),
        (lambda request, run: write_claims(request.claims), "has verdicts that need it"),
    ],
)
def test_what_was_begun_has_to_be_whole(study, capsys, damage, said):
    damage(study.page_request(CONFIG), study.table("first_taste").runs[-1])
    status, _, err = report(study, capsys)
    assert status == 1 and err.count("\n") == 1 and said in err
    assert not study.paths.page.exists()


def test_nothing_at_all_is_one_line(tmp_path, capsys):
    status, _, err = report(made_study(tmp_path), capsys)
    assert status == 1 and err.count("\n") == 1
    assert "no run is scored yet" in err and COMMAND in err
