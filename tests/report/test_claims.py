"""The claims' files, made from the files that runs leave behind."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from humanline.report.claims import make_claims
from humanline.study.study import Study, load_study

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
KINDS = Path(__file__).parents[1] / "workflow"  # a claim of every kind of comparison
SEEDS = [1, 2, 3, 4]
SCORES = {"dpo-online": 60, "kto-online": 55, "grpo-online": 70}  # others 40


@pytest.fixture
def study(tmp_path) -> Study:
    config = tmp_path / "config"
    config.mkdir()
    for name in ("experiments.yaml", "claims.yaml"):
        shutil.copy(KINDS / name, config)
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    scale["seeds"] = {"report": SEEDS, "sweep": SEEDS[:3], "tune": [101]}
    (config / "smoke.yaml").write_text(yaml.safe_dump(scale))
    study = load_study(config / "smoke.yaml", config / "experiments.yaml", tmp_path)
    for run in study.claims_request().runs:
        write_scores(run)
    return study


def write_scores(run) -> None:
    folder, cell = run.paths.directory, run.cell
    folder.mkdir(parents=True)
    level = SCORES.get(f"{cell.objective}-{cell.data}", 40) + len(cell.variant) % 3
    score = level + np.random.default_rng([cell.seed, len(cell.variant)]).normal()
    if cell.task == "math_reasoning":
        steps = [(step, i, i < score - 20 + 2.5 * step) for step in (4, 8) for i in range(100)]
        grades = pd.DataFrame(steps, columns=["step", "problem_id", "correct"])
        grades.assign(correct=grades["correct"] * 1).to_csv(folder / "grades.csv", index=False)
    else:
        row = {"instruction": "a", "output_1": "b" * 6, "output_2": "m" * 6}
        rows = [row | {"instruction": f"{i}", "preference": 1 + score / 100} for i in range(40)]
        (folder / "annotations.json").write_text(json.dumps(rows))
        rates = {"win_rate": score, "length_controlled_winrate": score, "avg_length": 6}
        (folder / "metrics.json").write_text(json.dumps(rates))
    if cell.objective != "base":
        seconds = 70.0 if cell.data == "online" else 10.0
        record = {"steps": 8, "seconds": {"sample": 1.0, "total": seconds + cell.seed}}
        git = {"commit": "ab12cd34" * 5, "modified": cell.seed == 2}
        record |= {"manifest": {"learning_rate": 1e-3}, "provenance": {"git": git, "packages": {}}}
        (folder / "train.json").write_text(json.dumps(record))


def test_the_claims_are_written_with_what_is_behind_them(study):
    make_claims(study.claims_request())
    folder = study.paths.tables
    claims = pd.read_csv(folder / "claims.csv").set_index("claim")
    # C5: no run has collapsed, which is one of its comparisons.
    assert list(claims["verdict"]) == ["supported", "exploratory", "contradicted"]
    compared = pd.read_csv(folder / "comparisons.csv").set_index("claim")
    assert compared.loc["C1", "role"].to_list() == ["mean", "point", "point", "point"]
    assert compared.loc["C1", "paper_effect"].iloc[0] == pytest.approx((1.4 * 1.3 * 1.6) ** (1 / 3))
    assert compared.loc["C4", "estimate"].iloc[0] == pytest.approx(72.5 / 12.5, rel=0.05)
    assert set(compared.loc[["C1", "C5"], "seeds"]) == {4}
    assert list(compared.loc["C4", "seeds"]) == [4, 3]  # no primary claim has its second cell
    assert set(compared["scale"]) == {"smoke"}
    provenance = json.loads((folder / "claims.provenance.json").read_text())
    assert len(provenance["runs"]) == len(study.claims_request().runs)


def test_the_page_has_verdicts_then_each_comparison_then_what_is_exploratory(study):
    make_claims(study.claims_request())
    page = (study.paths.tables / "claims.md").read_text()
    first, by_itself, secondary, *_ = page.split("\n## ")
    assert "| C1 " in first and "| C5 " in first and "C4" not in first
    assert "online beats offline: mean " in first and " yes, DPO " in first
    assert "1.4 (notes)" in by_itself and "C4" not in by_itself
    assert "| C4 " in secondary and "| C1 " not in secondary and "yes" not in secondary
    assert "- C4, 2026-11-26: a test." in page
    assert "nan" not in page and "None" not in page
    assert len({len(line.split("|")) for line in secondary.splitlines() if "|" in line}) == 1


def test_the_page_says_which_claims_were_registered_after_their_runs(study):
    page = study.paths.tables / "claims.md"
    make_claims(study.claims_request())
    assert "the runs that they compare ended on" in page.read_text()
    assert "Registered after" not in page.read_text()
    assert "trained at commit ab12cd3, ab12cd3 with changes." in page.read_text()
    for run in study.claims_request().runs:
        if run.is_trained:
            os.utime(run.paths.record, (0, 0))
    make_claims(study.claims_request())
    assert "ended on 1970-01-01 (UTC). **Registered after that: C1, C4, C5.**" in page.read_text()


def test_the_page_says_that_the_pilot_measured_something_else(study):
    page = study.paths.tables / "claims.md"
    asked = replace(study.claims_request(), has_pilot=True)
    make_claims(asked)
    assert "(power.md)" in page.read_text() and "earlier form" not in page.read_text()
    changes = "measured on an earlier form of this scale (generation changed since)"
    make_claims(replace(asked, pilot_changes=changes))
    assert f"(power.md). It was {changes}." in page.read_text()


@pytest.mark.parametrize("primary", [True, False])
def test_a_page_of_one_kind_of_claims(primary, study):
    asked = study.claims_request()
    claims = [claim.model_copy(update={"primary": primary}) for claim in asked.claims.claims]
    study.claims = asked.claims.model_copy(update={"claims": [claims[0]]})
    del study._comparisons
    make_claims(study.claims_request())
    page = (study.paths.tables / "claims.md").read_text()
    assert page.count("| C1 ") == (5 if primary else 4)
    (verdict,) = pd.read_csv(study.paths.tables / "claims.csv")["verdict"]
    assert verdict == ("supported" if primary else "exploratory")
