"""An objective, a reward and a judge of a user's own: in recipes, and through a study's stages."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from own_code import write
from safetensors.torch import load_file

from humanline.cli.commands import main
from humanline.files.json_files import read_json
from humanline.files.validation import ConfigError
from humanline.study.study import load_study
from humanline.study.words import cell_words
from humanline.trainers.classes import load
from humanline.trainers.registry import find_objective
from humanline.trainers.rows import preferences
from humanline.training.cell import build_trainer
from humanline.training.data import training_rows, used_groups

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
TASK = "instruction_following"
ROW = {"task": TASK, "objective": "margin"}


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A working directory with a user's modules."""
    for name in ("margin", "margin_trainer", "my_reward", "my_judge"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(write(tmp_path))
    return tmp_path


@pytest.fixture
def config(own):
    """Write a study of two steps with all of them, changed at dotted paths; returns its options."""

    def call(**changes) -> list[str]:
        scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
        task = scale["tasks"][TASK]
        scale["tasks"] = {TASK: task}
        task["reward"] = {"kind": "function", "path": "my_reward.brevity"}
        task["judge"] = {"kind": "function", "path": "my_judge.shorter"}
        task["training"] |= {"steps": 2, "evaluate_every": 2, "warmup_steps": 0}
        task["training"]["objectives"] = {"margin": {"batch_size": 4, "beta": 2.0, "margin": 0.5}}
        task["data"] |= {"train": 16, "validation": 8, "evaluation": 8}
        task["base_model"] |= {"examples": 64}
        row = ROW | {"data": ["offline", "online"], "humanline": [False, True]}
        for path, value in changes.items():
            *parents, last = path.split("__")
            inner = {"task": task, "row": row}
            for part in parents:
                inner = inner[part]
            inner[last] = value
        tables = {"mine": {"description": "Mine.", "cells": [row]}}
        defaults = yaml.safe_load((CONFIG / "experiments.yaml").read_text())["defaults"]
        (own / "config").mkdir(exist_ok=True)
        (own / "config" / "smoke.yaml").write_text(yaml.safe_dump(scale))
        experiments = {"defaults": {TASK: defaults[TASK]}, "tables": tables}
        (own / "config" / "experiments.yaml").write_text(yaml.safe_dump(experiments))
        return ["--scale=smoke", f"--config={own / 'config'}", f"--results={own / 'results'}"]

    return call


def study(own):
    config = own / "config"
    return load_study(config / "smoke.yaml", config / "experiments.yaml", own / "results")


def test_a_study_knows_ones_own_objective(config, own):
    config(row__overrides={"margin": [0.25, 1.0]})
    runs = [cell for cell in study(own).all_cells() if cell.objective == "margin"]
    assert {cell.objective for cell in runs} == {"margin"} and len(runs) == 8
    assert "margin-offline-margin=0.25-s1" in {cell.name for cell in runs}
    assert {study(own).resolve(cell).objective.margin for cell in runs} == {0.25, 1.0}
    assert "margin_trainer" not in sys.modules and "my_reward" not in sys.modules


def test_tables_have_its_label_and_its_hyperparameters(config, own):
    config(row__overrides={"margin": [0.25, 1.0]})
    words = {cell_words(cell) for cell in study(own).all_cells() if cell.objective == "margin"}
    assert words >= {
        "offline Margin, margin 0.25",
        "online Margin, sampled every 8 steps, margin 1",
    }


def test_an_edit_reruns_what_depends_on_it(config, own):
    config()

    def hashes() -> dict[str, str]:
        found = study(own)
        offline = found.run(TASK, "margin-offline-s1")
        online = next(
            run for run in map(found.resolve, found.all_cells()) if run.cell.data == "online"
        )
        return {
            "offline data": offline.hashes.offline,
            "offline run": offline.hashes.train,
            "online run": online.hashes.train,
            "scores": online.hashes.score,
            "base model": online.hashes.base_model,
        }

    def changed_by(file: str) -> set[str]:
        before = hashes()
        with open(own / file, "a") as module:
            module.write("\nX = 1\n")
        after = hashes()
        return {name for name in before if before[name] != after[name]}

    runs = {"offline run", "online run"}
    assert changed_by("margin_trainer.py") == runs
    assert changed_by("my_reward.py") == {"offline data", *runs}
    assert changed_by("my_judge.py") == {"scores"}


@pytest.mark.parametrize(
    ("changes", "file", "field", "said"),
    [
        (
            {"task__reward__path": "my_reward.brevty"},
            "smoke",
            "reward.path",
            "my_reward.py has no 'brevty'; did you mean brevity",
        ),
        (
            {"task__reward__path": "absent_rewards.brevity"},
            "smoke",
            "reward.path",
            "no module 'absent_rewards' here or installed; mend the path",
        ),
        (
            {"task__judge__path": "shorter"},
            "smoke",
            "judge.path",
            "is no dotted path; write module",
        ),
        (
            {"task__judge__kind": "oracle"},
            "smoke",
            "judge.kind",
            "'oracle' is unknown; use one",
        ),
        (
            {
                "task__training__objectives": {
                    "margin": {"batch_size": 4, "beta": 1, "epsilon": 0.1}
                }
            },
            "smoke",
            "training.objectives.margin.epsilon",
            "unknown key; remove it or mend its spelling",
        ),
        (
            {"task__training__objectives": {"margin": {"batch_size": 4, "beta": 1, "margin": -1}}},
            "smoke",
            "training.objectives.margin.margin",
            "greater than or equal to 0, but the file says '-1'; change it",
        ),
        (
            {"task__training__objectives": {"margin": {"batch_size": 4}}},
            "smoke",
            "training.objectives.margin.beta",
            "missing; add this key",
        ),
        (
            {"task__training__objectives": {"margin": {"batch_size": 4, "beta": 0}}},
            "smoke",
            "training.objectives.margin.beta",
            "margin learns nothing at 0; raise it",
        ),
        (
            {"row__objective": "my_reward"},
            "experiments",
            "objective",
            "'my_reward.OBJECTIVE' cannot be imported .*; mend that module",
        ),
        (
            {"row__objective": "Margin"},
            "experiments",
            "objective",
            "use 'dpo', 'kto' or 'grpo', or the dotted path of a module with OBJECTIVE, but the "
            "file says 'Margin'; change it",
        ),
        ({"row__objective": "base"}, "experiments", "objective", "'base'; change it"),
        (
            {"row__overrides": {"epsilon": 0.1}},
            "experiments",
            "overrides.epsilon",
            "only grpo reads it, not margin; remove it",
        ),
        (
            {"row__overrides": {"margins": 0.1}},
            "experiments",
            "overrides.margins",
            "unknown key; use one of .*, margin$",
        ),
    ],
)
def test_a_mistake_is_told_when_the_study_is_read(changes, file, field, said, config, own):
    config(**changes)
    prefix = {"smoke": f"tasks.{TASK}.", "experiments": "tables.mine.cells.0."}[file]
    with pytest.raises(ConfigError, match=said) as error:
        study(own)
    assert str(error.value).startswith(f"{own}/config/{file}.yaml: {prefix}{field}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("margin.py", ":MarginTrainer", ":MarginTrainr", "no 'MarginTrainr'; did you mean Margin"),
        ("margin.py", "margin_trainer:MarginC", "margin_trainr:MarginC", "no module 'margin_trai"),
        (
            "margin.py",
            ":MarginConfig",
            "",
            "'margin_trainer' names no class or function; write mod",
        ),
        ("margin.py", '"Margin"', '" "', "label: ' ' is no text; write its name"),
        ("margin.py", "view=PAIRS", "view='pairs'", "view: 'pairs' is no View; use PAIRS"),
        ("margin.py", "options=MarginOptions", "options=dict", "is no class of Options"),
        (
            "margin_trainer.py",
            "@dataclass",
            "@dataclass(",
            r"margin_trainer\.py: line \d+: .*; mend",
        ),
    ],
)
def test_a_faulty_objective_is_told_when_the_study_is_read(file, old, new, said, config, own):
    """And not once its base model is made and training starts."""
    config()
    path = own / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=rf"training\.objectives\.margin: .*{said}") as error:
        study(own)
    assert "\n" not in str(error.value) and "margin_trainer" not in sys.modules


@pytest.mark.slow
def test_they_go_through_the_stages(config, own):
    options = config(row__data=["offline", "online"], row__humanline=True)

    def command(*words) -> None:
        assert main([*words, *options]) == 0

    command("data", TASK, "s1")
    command("base-model", TASK, "base-s1")
    command("offline", TASK, "base-s1")
    groups = (own / "results" / "smoke" / "data" / TASK / "offline-base-s1.jsonl").read_text()
    for group in map(json.loads, groups.splitlines()):
        assert group["scores"] == [1 / (1 + len(text)) for text in group["completions"]]
    runs = [
        cell for cell in study(own).all_cells() if cell.objective == "margin" and cell.seed == 1
    ]
    assert len(runs) == 2
    for cell in runs:
        command("train", TASK, cell.name)
        record = read_json(study(own).resolve(cell).paths.directory / "train.json")
        assert record["steps"] == 2
        assert {"margin", "code"} <= set(record["manifest"]["training"]["objective"])
        assert record["manifest"]["reward"]["code"]
    for cell in [runs[0].base, *runs]:
        command("generate", TASK, cell.name)
        command("score", TASK, cell.name)
        directory = study(own).resolve(cell).paths.directory
        assert 0 <= read_json(directory / "metrics.json")["win_rate"] <= 100
    command("table", "mine")
    assert "Objective: Margin." in (own / "results" / "smoke" / "tables" / "mine.md").read_text()


def test_ones_own_objective_on_groups_reads_all_rows_and_draws_them_itself(
    config, own, monkeypatch
):
    """This package's own reads those alone that it uses; another may choose among them."""
    (own / "whole.py").write_text(
        "from dataclasses import replace\n"
        "from humanline.trainers.registry import OBJECTIVES\n"
        "GRPO = OBJECTIVES['grpo']\n"
        "OBJECTIVE = replace(GRPO, label='Whole', arguments=GRPO.arguments"
        " | {'shuffle_dataset': False})\n"
    )
    monkeypatch.delitem(sys.modules, "whole", raising=False)
    settings = {"whole": {"batch_size": 4, "beta": 0.0, "epsilon": 0.2}}
    options = config(
        task__training__objectives=settings, row__objective="whole", row__data="online"
    )
    for command in (["data", TASK, "s1"], ["base-model", TASK, "base-s1"]):
        assert main([*command, *options]) == 0
    cell = next(c for c in study(own).all_cells() if c.objective == "whole" and c.seed == 1)
    run = study(own).resolve(cell)
    rows = training_rows(run)
    assert list(used_groups(run, rows)) != list(range(len(rows)))
    trainer = build_trainer(run, rows, own / "out")
    assert len(trainer.train_dataset) == len(rows)
    assert trainer.shuffle_dataset is False


@pytest.mark.slow
@pytest.mark.parametrize("humanline", [True, False])
def test_a_recipe_trains_it(humanline, own, model_folder, groups):
    rows = preferences.pairs(groups, 0.01)
    (own / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "objective": "margin",
        "model_name_or_path": str(model_folder),
        "dataset_name": str(own / "rows.jsonl"),
        "output_dir": str(own / "out"),
        "margin": 0.5,
        "humanline": humanline,
        "max_steps": 2,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 4,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
    }
    (own / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["recipe", str(own / "recipe.yaml"), "--logging_steps", "1"]) == 0
    trained, before = (
        load_file(folder / "model.safetensors") for folder in (own / "out", model_folder)
    )
    assert any(not torch.equal(before[name], weight) for name, weight in trained.items())
    history = read_json(own / "out" / "checkpoint-2" / "trainer_state.json")["log_history"]
    # At the first step policy and reference are alike, and the loss is -log sigmoid(-margin).
    assert history[0]["loss"] == pytest.approx(0.974077, abs=1e-4)


def test_its_loss_is_what_its_docstring_says(own):
    module = sys.modules[load(find_objective("margin").trainer).__module__]
    policy, reference = torch.tensor([[-1.0, -3.0, 9.0]]), torch.tensor([[-2.0, -2.0, 0.0]])
    mask = torch.tensor([[1, 1, 0]])
    found = module.mean_log_ratio(policy, reference, mask, lambda ratio: ratio.clamp(-0.5, 0.5))
    assert found.tolist() == [0.0]
    mask = torch.tensor([[1, 0, 0]])
    found = module.mean_log_ratio(policy, reference, mask, lambda ratio: ratio)
    assert found.tolist() == [1.0]
