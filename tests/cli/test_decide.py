"""`decide`: which claims get more seeds, what that is estimated to take, and one whole call."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from edited_yaml import edit, write

from humanline.cli.commands import main
from humanline.cli.decide import Estimate, affordable, next_looks, read_verdicts, record
from humanline.files.json_files import write_text
from humanline.files.validation import ConfigError
from humanline.study import study as studies
from humanline.study.experiments import SPLITS
from humanline.study.study import Study, load_study

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "workflow" / "config"
SPARSE = {"objective": "grpo", "data": "online", "sample_every": 64}
ONLINE = {"objective": "grpo", "data": "online"}
LOOKS = {"seeds": [2, 3, 4], "weights": [0.3, 0.6, 0.1]}
RECORD = {"seconds": {"total": 1}, "manifest": {"learning_rate": 1e-3}}
RECORD["provenance"] = {"git": {}, "packages": {}}
POINTS = {1: 40, 2: 60, 4: 50, 3: 50}  # online's Pass@1 above that of its base model, by seed


@pytest.fixture
def config(tmp_path) -> Path:
    """A study of math with two seeds, two more, and two primary claims."""
    folder = tmp_path / "config"
    folder.mkdir()
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    scale["tasks"] = {"math_reasoning": scale["tasks"]["math_reasoning"]}
    del scale["tasks"]["math_reasoning"]["base_model"]["pretraining"]
    scale["seeds"] = {"report": [1, 2], "more": [4, 3], "tune": [101]}
    table = {"task": "math_reasoning", "description": "A table.", "cells": [ONLINE, SPARSE]}
    experiments = yaml.safe_load((CONFIG / "experiments.yaml").read_text())
    del experiments["implied_capacity"]
    test = {"task": "math_reasoning", "compare": "difference", "against": "base"}
    test["expect"] = "greater"
    claims = [
        {"id": name, "claim": f"{name} learns.", "source": "ours", "primary": True}
        | {"registered": {"date": "2026-11-26", "reason": "a test"}}
        | {"tests": [test | {"cell": cell}]}
        for name, cell in {"online": ONLINE, "sparse": SPARSE}.items()
    ]
    write(folder / "smoke.yaml", scale)
    write(folder / "experiments.yaml", experiments | {"tables": {"one": table}})
    write(folder / "claims.yaml", {"rule": {"looks": LOOKS}, "claims": claims})
    return folder


def study_of(config: Path) -> Study:
    return load_study(config / "smoke.yaml", config / "experiments.yaml", config.parent / "r")


def write_runs(study: Study) -> None:
    """All files of the claims' runs: scores of 100 problems, and what they come from."""
    for run in study.claims_request().runs:
        right = 20 if run.cell.objective == "base" else 20 + POINTS[run.cell.seed]
        paths, folder = run.paths, run.paths.directory
        prompts = [paths.prompts.with_name(f"{split}.jsonl") for split in SPLITS]
        made = [*prompts, paths.base_made, folder / "metrics.csv", paths.made]
        for path in [*made, paths.model / "config.json", folder / "samples.jsonl"]:
            if not path.exists():
                write_text(path, json.dumps(RECORD) if path == paths.record else "{}")
        rows = [
            {"step": step, "problem_id": i, "sample": 0, "correct": int(i < right)}
            for step in (4, 8)
            for i in range(100)
        ]
        write_text(paths.grades, pd.DataFrame(rows).to_csv(index=False))


def write_verdicts(study: Study, **verdicts: str) -> None:
    rows = [{"claim": claim, "verdict": verdict, "looks": 1} for claim, verdict in verdicts.items()]
    write_text(study.paths.tables / "claims.csv", pd.DataFrame(rows).to_csv(index=False))


def measure(study: Study, rule: str, name: str, seconds: float) -> None:
    write_text(study.paths.benchmarks / rule / f"{name}.tsv", f"s\tmax_rss\n{seconds}\t9\n")


def test_only_undecided_claims_get_the_next_look_and_only_what_fits(config):
    """A seed's base model takes 60 s, online training 60 or 120 s, and sparse training 240 s."""
    study = study_of(config)
    for seed in (1, 2):
        measure(study, "base_model", f"math_reasoning-base-s{seed}", 60)
        measure(study, "train", f"math_reasoning/grpo-online-every1-s{seed}", 60 * seed)
        measure(study, "train", f"math_reasoning/grpo-online-every64-s{seed}", 240)
    write_verdicts(study, online="undecided")
    with pytest.raises(ConfigError, match=r"claims\.csv: no verdict after the last look; run"):
        read_verdicts(study)
    write_verdicts(study, online="undecided", sparse="supported")
    undecided = [claim for claim, v in read_verdicts(study).items() if v == "undecided"]
    looks = study.claims.rule.looks
    (own,) = next_looks(study, looks, undecided)
    assert (own.claim, own.look, own.seeds) == ("online", 2, [4])
    both = next_looks(study, looks, ["online", "sparse"])
    needed = [1 + 1.5, 1 + 1.5 + 4]  # minutes; they share the base model
    assert affordable(Estimate(study), both, 9.0, cores=1) == (both, pytest.approx(needed[1]))
    assert affordable(Estimate(study), both, 9.0, cores=2)[1] == pytest.approx(needed[1] / 2)
    assert affordable(Estimate(study), both, 3.0, cores=1) == (both[:1], pytest.approx(needed[0]))
    assert affordable(Estimate(study), both, 2.0, cores=1) == ([], pytest.approx(needed[0]))
    measure(study, "base_model", "math_reasoning-base-s4", 50)  # it has been made
    assert affordable(Estimate(study), both, 2.0, cores=1) == (both[:1], pytest.approx(1.5))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("undecided", "maybe"), "row 0: field verdict: 'maybe' is none"),
        (lambda text: text.replace("undecided", ""), "row 0: field verdict: 'nan' is none"),
        (lambda text: text + text.splitlines()[1] + "\n", "row 2: field claim: it is there twice"),
        (lambda text: text.replace("claim,", "name,"), "field claim: missing"),
        (lambda text: text.replace("looks\n", "times\n"), "field looks: missing"),
        (lambda text: "\0", "line 1: holds a NUL"),
    ],
)
def test_verdicts_that_are_none_are_refused(config, change, reason):
    study = study_of(config)
    write_verdicts(study, online="undecided", sparse="undecided")
    path = study.paths.tables / "claims.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(ConfigError) as caught:
        read_verdicts(study)
    assert str(caught.value) == f"{path}: {reason}; run `snakemake claims`"


def test_looks_of_a_claim_without_comparisons_make_no_other_claims_wrong(config):
    study = study_of(config)
    write_verdicts(study, online="undecided", sparse="supported")
    path = study.paths.tables / "claims.csv"
    path.write_text(path.read_text().replace(",1\n", ",1.0\n") + "untested,exploratory,\n")
    assert read_verdicts(study) == {"online": "undecided", "sparse": "supported"}


def test_without_a_workflow_no_look_is_taken(config, capfd, monkeypatch):
    """A look that is recorded counts, whatever becomes of it."""
    monkeypatch.delenv("HUMANLINE_WORKFLOW", raising=False)
    study = study_of(config)
    write_verdicts(study, online="undecided", sparse="undecided")
    options = ["--scale=smoke", f"--config={config}", f"--results={study.root}"]
    assert main(["decide", "--minutes=900", *options]) == 1
    assert "decide: it is a job of the workflow; run `snakemake decide`" in capfd.readouterr().err
    assert not study.paths.looks.exists()


def test_a_recorded_look_belongs_to_the_study_until_the_record_is_removed(config, monkeypatch):
    """Also to that of a worker, which has read the study before."""
    monkeypatch.setattr(studies, "_held", {})
    root = config.parent / "r"
    studies.hold_study(config / "smoke.yaml", config / "experiments.yaml", root)
    study = study_of(config)
    assert study is study_of(config)
    before = {cell.name for cell in study.all_cells()}
    record(study, study.claims.rule.looks, next_looks(study, study.claims.rule.looks, ["online"]))
    study = study_of(config)
    added = {cell.name for cell in study.all_cells()} - before
    assert added == {"base-s4", "grpo-online-every1-s4"}
    assert {cell.name for cell in study.evaluated("all")} >= added
    assert study.report_seeds("one") == [1, 2]  # tables stay as they were
    (look,) = next_looks(study, study.claims.rule.looks, ["online"])
    record(study, study.claims.rule.looks, [look])
    assert (look.look, look.seeds) == (3, [3])
    assert next_looks(study_of(config), study.claims.rule.looks, ["online"]) == []
    by_claim = {own.claim.id: study_of(config).claim_seeds(own) for own in study.comparisons()}
    assert by_claim == {"online": [1, 2, 4, 3], "sparse": [1, 2]}
    study.paths.looks.unlink()
    assert {cell.name for cell in study_of(config).all_cells()} == before


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        ("claims", lambda c: c["rule"]["looks"].update(weights=[0.3, 0.3, 0.3]), "is another one"),
        ("claims", lambda c: c["claims"][0].update(primary=False), "online is no primary claim"),
        ("smoke", lambda s: s["seeds"].update(more=[5, 3]), "look 2 of online has other seeds"),
        ("smoke", lambda s: s["seeds"].pop("more"), "is another one"),
    ],
)
def test_looks_of_another_rule_or_other_seeds_are_one_line(config, file, change, expected):
    study = study_of(config)
    record(study, study.claims.rule.looks, next_looks(study, study.claims.rule.looks, ["online"]))
    edit(config / f"{file}.yaml", change)
    with pytest.raises(ConfigError, match=rf"looks\.json: .*{expected}.*remove this file"):
        study_of(config)


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        ("claims", lambda c: c["rule"]["looks"].update(weights=[0.5, 0.6, 0.1]), "sum is 1.2;"),
        ("claims", lambda c: c["rule"]["looks"].update(weights=[0.5]), "1 for 3 looks;"),
        ("claims", lambda c: c["rule"]["looks"].update(seeds=[2, 4, 3]), "do not rise;"),
        ("claims", lambda c: c["rule"]["looks"].update(seeds=[1, 2, 3]), "look at 1 seed can"),
        ("smoke", lambda s: s["seeds"].update(more=[3]), "seeds.more: 3 with seeds.report"),
        ("smoke", lambda s: s["seeds"].update(report=[1]), "seeds.report: 1 in number"),
        ("smoke", lambda s: s["seeds"].update(more=[2, 3]), r"more: shares \[2\] with"),
    ],
)
def test_looks_that_cannot_be_taken_are_one_line(config, file, change, expected):
    edit(config / f"{file}.yaml", change)
    with pytest.raises(ConfigError, match=rf"{file}\.yaml: .*{expected}"):
        study_of(config)


def test_a_scale_without_more_seeds_has_one_look(config, capfd):
    edit(config / "smoke.yaml", lambda scale: scale["seeds"].pop("more"))
    study = study_of(config)
    assert study.claims.rule.looks is None and study.claims.rule.first_level == 0.05
    options = ["--scale=smoke", f"--config={config}", f"--results={study.root}"]
    assert main(["decide", *options]) == 1
    assert "scale smoke: seeds.more: there are no looks to take" in capfd.readouterr().err


def test_decide_runs_the_workflow_again_until_it_is_decided(config, tmp_path):
    """Online is decided at the second look; sparse needs it, too, but its jobs take too long.

    All runs are there, so that the workflow makes only the claims.
    """
    study = study_of(config)
    record(study, study.claims.rule.looks, next_looks(study, study.claims.rule.looks, ["online"]))
    write_runs(study_of(config))
    study.paths.looks.unlink()
    measure(study, "train", "math_reasoning/grpo-online-every64-s1", 1e6)
    options = ["--scale=smoke", f"--config={config}", f"--results={study.root}"]
    assert main(["claims", *options]) == 0
    assert read_verdicts(study) == {"online": "undecided", "sparse": "undecided"}

    with socket.socket(socket.AF_UNIX) as silent:  # commands find no worker, and run themselves
        silent.bind(str(tmp_path / "w"))
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--nolock"]
        settings = ["scale=smoke", f"config_directory={config}", f"results={study.root}"]
        run = subprocess.run(
            [*command, "decide", "--config", "minutes=9", *settings],
            cwd=ROOT,
            env=os.environ | {"HUMANLINE_WORKER": str(tmp_path / "w")},
            capture_output=True,
            text=True,
        )
    assert run.returncode == 0, run.stderr
    told = [line for line in run.stdout.splitlines() if line.startswith("decide: ")]
    assert re.fullmatch(r"decide: \d+ jobs were never timed and count as nothing", told[0])
    told = [line for line in told if "never timed" not in line]
    assert told[0] == "decide: online look 2: about 0.0 minutes of the 9.0 that are left"
    assert told[1].startswith("decide: look 2 of sparse needs about ") and "stopped" in told[1]
    assert told[2] == "decide: online: supported, looks: 2"
    assert told[3] == "decide: sparse: undecided, looks: 1"
    (taken,) = json.loads(study.paths.looks.read_text())["taken"]
    assert (taken["claim"], taken["look"], taken["seeds"]) == ("online", 2, [4])
    table = pd.read_csv(study.paths.tables / "comparisons.csv").set_index("claim")
    assert table["seeds"].to_dict() == {"online": 3, "sparse": 2}
    page = (study.paths.tables / "claims.md").read_text()
    assert "with 2, 3, 4 seeds" in page and "Looks taken: online 2, sparse 1." in page
