"""What tables say of how their runs were made: several commits, and what is not the same again."""

import json

import pytest
from made_results import COMMIT, made_study, write_training

from humanline.files.json_files import write_json
from humanline.files.seals import made_by
from humanline.report.origins.mixed import differences, notes
from humanline.report.origins.unrepeatable import not_deterministic
from humanline.study.runs.hashes import code_of_stage

STAGES = {"train": "record", "generate": "samples", "score": "scored"}


@pytest.fixture
def runs(tmp_path):
    """Four trained runs of one commit, by the present code, as their seals say."""
    study = made_study(tmp_path)
    found = [run for run in study.table("math_reasoning").runs if run.is_trained][:4]
    for run in found:
        write_training(run)
        for stage in STAGES:
            seal(run, stage)
    return found


def seal(run, stage, code=None, commit=COMMIT):
    """Write the seal of a stage's file, as if a code had made it at a commit."""
    path = getattr(run.paths, STAGES[stage])
    found = json.loads(path.read_text()) if path.exists() else {}
    code = code or code_of_stage(stage, run.cell.task, run)
    made = {"code": code, "git": {"commit": commit, "modified": False}}
    with made_by(lambda: made):
        write_json(path, found, sealed=True)


def train_record(run, change):
    content = json.loads(run.paths.record.read_text())
    change(content["provenance"])
    write_json(run.paths.record, content)


def test_runs_that_were_made_alike_have_no_mark(runs):
    assert differences(runs) == {}


@pytest.mark.parametrize("stage", ["generate", "score"])
def test_another_commit_with_the_same_code_is_in_the_provenance_alone(stage, runs):
    seal(runs[0], stage, commit="fedcba9876")
    found = differences(runs)
    assert found == {"commits": {"0123456, then fedcba9": 1, "0123456": 3}, "same_code": True}
    assert notes(found) == []


@pytest.mark.parametrize("stage", ["generate", "score"])
def test_another_commit_with_another_code_is_marked(stage, runs):
    seal(runs[0], stage, code="another", commit="fedcba9876")
    (note,) = notes(differences(runs))
    assert note == (
        "Runs of 2 commits, maybe of different code: 0123456, then fedcba9 (1); 0123456 (3)."
    )


def test_two_codes_of_one_commit_with_changes_are_marked(runs):
    seal(runs[0], "score", code="another")
    (note,) = notes(differences(runs))
    assert note == "Runs of 1 commit, maybe of different code: 0123456 (4)."


def test_without_seals_another_commit_is_marked(runs):
    for run in runs:
        train_record(run, lambda own: None)  # which leaves no seal
    train_record(runs[0], lambda own: own["git"].update(commit="fedcba9876", modified=True))
    assert notes(differences(runs))[0].startswith("Runs of 2 commits, maybe of different code: ")


def test_other_packages_and_machines_are_marked(runs):
    train_record(runs[0], lambda own: own["packages"].update(trl="1.15.0"))
    train_record(runs[1], lambda own: own["machine"].update(accelerator="a GPU"))
    train_record(runs[2], lambda own: own["machine"].update(python="3.12.1"))
    assert notes(differences(runs)) == [
        "Runs with 2 versions of trl: 1.15.0 (1); 1.16.0 (3).",
        "Runs of 2 versions of Python: unknown (3); 3.12.1 (1).",
        "Runs of 2 machines: a processor (3); a processor, a GPU (1).",
    ]


def test_what_cannot_be_the_same_again_is_named(runs, tmp_path):
    assert not_deterministic(runs) == []
    train_record(runs[1], lambda own: own["machine"].update(accelerator="a GPU"))
    assert not_deterministic(runs) == ["GPU kernels (a GPU) add numbers in another order each time"]
    far = made_study(tmp_path / "far", "paper").table("instruction_following").runs
    told = not_deterministic(far)
    assert any("vLLM" in reason for reason in told)
    assert any("a remote judge (gpt-4.1" in reason for reason in told)
