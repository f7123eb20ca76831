"""A small finished study that no model made: the files of all its stages, sealed as they are."""

import random
import shutil
from pathlib import Path

import pandas as pd
from edited_yaml import edit

from humanline.cli.commands import main
from humanline.data.stage_files import prompts_of, samples_of
from humanline.data.training_files import LogRow, Predictors, TrainingRecord
from humanline.files.provenance import describe
from humanline.files.typed_files import read_rows, write_columns, write_record, write_rows
from humanline.study.runs.resolved import Run
from humanline.study.study import Study, load_study
from humanline.study.tasks import find_task

ROOT = Path(__file__).parents[2]
TABLES = {
    "instruction_following": [
        {"objective": "grpo", "data": ["offline", "online"], "humanline": [False, True]}
    ],
    "math_reasoning": [
        {"objective": "grpo", "data": "online"},
        {"objective": "grpo", "data": "online", "sample_every": 64, "humanline": True},
    ],
    "sweep": [
        {"task": "instruction_following", "objective": "grpo", "data": ["offline", "online"]},
        {
            "task": "instruction_following",
            "objective": "grpo",
            "data": "offline",
            "data_from": "stronger",
            "quartile": 1,
        },
        {"task": "math_reasoning", "objective": "grpo", "data": "online"},
    ],
    "looked_into": [{"objective": "grpo", "data": "offline", "quartile": [1, 4]}],
}


def write_config(folder: Path) -> Path:
    """Write the configuration of a small study: two tasks, two seeds, few cells of every kind."""
    shutil.copytree(ROOT / "workflow" / "config", folder)
    for name in ("experiments.yaml", "claims.yaml"):
        shutil.copy(ROOT / "tests" / "workflow" / name, folder)
    edit(folder / "smoke.yaml", _smaller_scale)
    edit(folder / "experiments.yaml", _fewer_cells)
    edit(folder / "claims.yaml", _fewer_claims)
    return folder


def _smaller_scale(scale: dict) -> None:
    scale["seeds"] = {"report": [1, 2], "tune": [101]}
    del scale["tasks"]["shared_divisors"]
    task = scale["tasks"]["instruction_following"]
    task["base_models"] = {"stronger": task["base_models"]["stronger"]}
    for task in scale["tasks"].values():
        task["data"] |= {"train": 64, "validation": 16, "evaluation": 16}


def _fewer_cells(experiments: dict) -> None:
    del experiments["tables"]["shared_divisors"], experiments["defaults"]["shared_divisors"]
    for name, cells in TABLES.items():
        experiments["tables"][name]["cells"] = cells


def _fewer_claims(claims: dict) -> None:
    test = claims["claims"][0]["tests"][0]
    del test["over"]
    test |= {
        "each": {"objective": ["grpo"]},
        "paper_effect": {"value": {"grpo": 1.6}, "source": "notes"},
    }


def make(root: Path, config: Path) -> Study:
    """Write the files of a finished study: scores, tables and page by the commands themselves."""
    study = load_study(config / "smoke.yaml", config / "experiments.yaml", root)
    options = ["--scale", "smoke", "--config", str(config), "--results", str(root)]

    def command(*words: str) -> None:
        assert main([*words, *options]) == 0, words

    for task in study.scale.tasks:
        for draw in study.draws(task):
            command("data", task, draw)
    runs = [study.resolve(cell) for cell in study.evaluated("all")]
    measured = {run.name for table in study.tables() for run in study.table(table).measured}
    for run in runs:
        _write_run(run, is_measured=run.name in measured)
        command("score", run.cell.task, run.name)
    for table in study.tables():
        command("table", table)
    for name in ("claims", "scores", "report"):
        command(name)
    return study


def _write_run(run: Run, *, is_measured: bool) -> None:
    task, rng = find_task(run.cell.task), random.Random(run.name)
    prompts = read_rows(run.paths.evaluation_prompts, prompts_of(run.cell.task))
    steps = range(run.training.evaluate_every, run.training.steps + 1, run.training.evaluate_every)
    samples = [
        {"step": step, "prompt_id": number, **row}
        | {"completion": task.write_completion(row["prompt"], rng, 0.5)}
        for step in ([*steps] if run.has_curve and run.is_trained else [8 * run.is_trained])
        for number, row in enumerate(prompts)
    ]
    write_rows(run.paths.samples, samples_of(run.cell.task), samples)
    if run.is_trained:
        _write_training(run, rng)
    if is_measured:
        names = dict.fromkeys(Predictors.model_fields, 0.5)
        write_record(
            run.paths.predictors,
            Predictors,
            names | {"mean_token_log_probability": -1 - rng.random()},
        )


def _write_training(run: Run, rng: random.Random) -> None:
    record = {
        "cell": run.cell.model_dump(),
        "manifest": run.hashes.manifest,
        "checkpoints": "checkpoints/0",
        "steps": 8,
        "devices": 1,
        "seconds": {"total": 9 + rng.random(), "sample": 1.25},
        "timeline": [{"step": 8, "seconds": 9.0}],
        "sampled_tokens": 1000,
        "peak_memory_mib": 900,
        "provenance": describe(),
    }
    write_record(run.paths.record, TrainingRecord, record)
    rows = [
        {"loss": rng.random(), "humanline/unclipped": 0.9, "num_tokens": 100.0 * step, "step": step}
        for step in (4, 8)
    ]
    write_columns(run.paths.log, LogRow, pd.DataFrame(rows))
