"""Sweeps and costs: what varies is shown beside scores, and compared with the right plain run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from humanline.study.experiments import Experiments
from humanline.study.study import Study, load_study
from humanline.tables.costs import cost_table
from humanline.tables.estimates import score_table
from humanline.tables.sweeps import sweep_table

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
PROMPTS = 20
ROWS = [
    {"objective": "grpo", "data": ["offline", "online"]},
    {"objective": "grpo", "data": "offline", "humanline": True, "sync_interval": [1, "none"]},
    {"objective": "grpo", "data": "offline", "quartile": 1},
    {"objective": "grpo", "data": "offline", "trust_region": True},
    {"base_model": "other", "objective": "grpo", "data": ["offline", "online"]},
]
# Score in per cent by variant; the base models have 40.
SCORES = {
    "grpo-offline": 50,
    "grpo-online-every8": 60,
    "grpo-offline-humanline-k1-clip-1.5_1.5": 15,
    "grpo-offline-humanline-never-synced-clip-1.5_1.5": 55,
    "grpo-offline-quartile1": 45,
    "grpo-offline-trust-region-k4": 52,
    "other-grpo-offline": 70,
    "other-grpo-online-every8": 80,
}
SECONDS = {"grpo-offline": 10.0, "grpo-online-every8": 40.0, "grpo-offline-quartile1": 20.0}


@pytest.fixture
def study(tmp_path) -> Study:
    study = load_study(CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", tmp_path)
    table = {"task": "instruction_following", "description": "", "cells": ROWS, "seeds": [1, 2]}
    defaults = {name: value.model_dump() for name, value in study.experiments.defaults.items()}
    experiments = Experiments(defaults=defaults, tables={"sweep": table})
    rates = {"instruction_following": {"grpo-offline": {"learning_rate": 0.5}}}
    return Study(study.scale, experiments, rates, tmp_path)


@pytest.fixture
def runs(study):
    """What the stages leave behind: every prompt is won or lost, so that scores are exact."""
    cells = study.report_cells("sweep")
    for cell in cells:
        directory = study.resolve(cell).paths.directory
        directory.mkdir(parents=True, exist_ok=True)
        score = SCORES.get(cell.variant, 40) + (1 if cell.seed == 2 else -1)
        annotations = [
            {
                "instruction": f"prompt {i}",
                "output_1": "b" * (5 + i % 3),
                "output_2": "m" * (5 + i % 3),
                "preference": 1 + score / 100,
            }
            for i in range(PROMPTS)
        ]
        (directory / "annotations.json").write_text(json.dumps(annotations))
        metrics = {"win_rate": score, "length_controlled_winrate": score, "avg_length": 6}
        (directory / "metrics.json").write_text(json.dumps(metrics))
        curve = {"step": [4, 8], "length_controlled_win_rate": [score - 4, score]}
        pd.DataFrame(curve).to_csv(directory / "curve.csv", index=False)
        if cell.objective != "base":
            write_training(directory, cell)
    return [(cell, study.resolve(cell).paths.directory) for cell in cells]


def write_training(directory, cell):
    seconds = SECONDS.get(cell.variant, 30.0) + cell.seed
    record = {
        "steps": 8,
        "seconds": {"sample": seconds / 4, "total": seconds},
        "timeline": [{"step": 4, "seconds": seconds / 2}],
        "sampled_tokens": 1000 if cell.data == "online" else 0,
        "peak_memory_mib": 500,
    }
    (directory / "train.json").write_text(json.dumps(record))
    log = {"step": [4, 8], "num_tokens": [100.0, np.nan]}
    if cell.humanline:
        log |= {"humanline/unclipped_chosen": [0.5, 1.0], "humanline/unclipped_rejected": [1, 1]}
    pd.DataFrame(log).to_csv(directory / "metrics.csv", index=False)


def by_variant(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_index("variant")


def test_a_sweep_shows_scores_and_what_varies(study, runs):
    frame = sweep_table(study.table("sweep"), runs)
    varying = ["base_model", "objective", "data", "quartile", "sample_every", "method", "k"]
    assert list(frame.columns[:9]) == [*varying, "log_eps_p", "log_eps_r"]
    table = by_variant(frame)
    for variant, score in SCORES.items():
        assert table.loc[variant, "score"] == pytest.approx(score, abs=0.5)
    never = table.loc["grpo-offline-humanline-never-synced-clip-1.5_1.5"]
    assert never["method"] == "humanline without syncing" and pd.isna(never["k"])
    assert table.loc["grpo-offline-trust-region-k4", "method"] == "trust region"
    assert never["unclipped"] == pytest.approx((0.75 + 1) / 2)


def test_a_sweep_compares_with_plain_runs_of_the_same_base_model(study, runs):
    table = by_variant(sweep_table(study.table("sweep"), runs))
    offline, online = "difference_to_offline", "difference_to_online"
    assert table.loc["grpo-offline-quartile1", offline] == pytest.approx(-5, abs=0.5)
    assert table.loc["grpo-offline-quartile1", online] == pytest.approx(-15, abs=0.5)
    assert table.loc["other-grpo-online-every8", offline] == pytest.approx(10, abs=0.5)
    assert table.loc["other-grpo-offline", online] == pytest.approx(-10, abs=0.5)
    assert table.loc[["base", "base-other"], [offline, online]].isna().all(axis=None)


def test_a_collapse_is_a_score_far_below_the_base_models(study, runs):
    collapsed = by_variant(sweep_table(study.table("sweep"), runs))["collapsed"]
    assert collapsed["grpo-offline-humanline-k1-clip-1.5_1.5"] == 2
    assert collapsed.sum() == 2


def test_a_sweep_says_whose_learning_rate_a_row_has(study, runs):
    table = by_variant(sweep_table(study.table("sweep"), runs))
    assert (
        table.loc["grpo-offline-quartile1", ["learning_rate", "rate_of"]] == [1e-3, "default"]
    ).all()
    assert (table.loc["grpo-offline", ["learning_rate", "rate_of"]] == [0.5, "grpo-offline"]).all()


def test_costs_are_compared_with_plain_online_training(study, runs):
    own = [run for run in runs if run[0].variant in ("base", *SECONDS)]
    table = by_variant(cost_table(own))
    assert list(table.index) == list(SECONDS) and "task" not in table
    offline, online = table.loc["grpo-offline"], table.loc["grpo-online-every8"]
    ratios = [(10 + seed) / (40 + seed) for seed in (1, 2)]
    assert offline["ratio_of_seconds"] == pytest.approx(np.sqrt(np.prod(ratios)))
    assert offline["ratio_of_seconds_low"] < min(ratios)
    assert online["ratio_of_seconds"] == pytest.approx(1)
    assert online["sampling_share"] == pytest.approx(0.25)
    assert (online["sampled_tokens"], online["trained_tokens"]) == (1000, 100)
    assert pd.isna(offline["speed_up"])  # it never gets there
    assert online["speed_up"] == pytest.approx(1) and online["seconds_to_online"] == 41.5


def test_a_run_that_reaches_the_score_sooner_has_a_speed_up(study, runs):
    own = [run for run in runs if run[0].variant in ("base", *SECONDS)]
    for cell, directory in own:
        if cell.variant == "grpo-offline":
            curve = {"step": [4, 8], "length_controlled_win_rate": [65, 10]}
            pd.DataFrame(curve).to_csv(directory / "curve.csv", index=False)
    offline = by_variant(cost_table(own)).loc["grpo-offline"]
    assert offline["seconds_to_online"] == pytest.approx(np.mean([11 / 2, 12 / 2]))
    assert offline["speed_up"] == pytest.approx(41.5 / 5.75)


def test_every_run_has_a_row_with_its_scores(study, runs):
    resolved = [study.resolve(cell) for cell, _ in runs]
    frame = score_table(resolved[::-1] + resolved[:3])
    assert len(frame) == len(runs) == 20 and frame["score"].notna().all()
    own = frame.set_index(["variant", "seed"]).loc[("grpo-offline", 2)]
    assert own["score"] == pytest.approx(51, abs=0.5)
    assert list(own[["step", "curve_mean", "n_prompts", "training_seconds"]]) == [8, 49, 20, 12]
    assert frame.loc[frame["variant"] == "base", "training_seconds"].isna().all()


def test_the_standard_error_of_a_score_is_that_of_a_mean_over_prompts(study, runs):
    cell, directory = runs[-1]
    rows = json.loads((directory / "annotations.json").read_text())
    wins = np.random.default_rng(0).uniform(size=len(rows))
    for own, win in zip(rows, wins, strict=True):
        own["preference"], own["output_2"] = 1 + win, own["output_1"]
    (directory / "annotations.json").write_text(json.dumps(rows))
    own = score_table([study.resolve(cell)]).iloc[0]
    assert own["score"] == pytest.approx(100 * wins.mean())
    expected = 100 * wins.std(ddof=1) / np.sqrt(len(wins))
    assert own["score_se"] == pytest.approx(expected, rel=1e-3)


def test_rows_may_have_different_seeds(study, runs):
    frame = by_variant(sweep_table(study.table("sweep"), runs[:-1]))
    assert frame["seeds"].value_counts().to_dict() == {2: 9, 1: 1}
    assert frame["difference_to_offline"].iloc[-1] == pytest.approx(10)
    assert pd.isna(frame["difference_to_offline_low"].iloc[-1])
