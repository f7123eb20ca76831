"""The real model of the workstation's package: it answers sensibly, and trains on a CPU."""

import os
from pathlib import Path

import pytest
import yaml
from cached_package import needs_cached_package

from humanline.cli.commands import main
from humanline.data import packages
from humanline.files.json_files import read_json, read_jsonl
from humanline.files.validation import ConfigError
from humanline.generation.engines import open_engine, sample_text
from humanline.study.scale.sampling import Generation, Sampling
from humanline.study.scale.scale import load_scale
from humanline.study.study import load_study

pytest.importorskip("gguf", reason="pip install 'humanline[workstation]'")
CONFIG = Path(__file__).parents[2] / "workflow" / "config"
SCALE = CONFIG / "workstation.yaml"


@pytest.mark.slow
def test_the_model_of_the_package_answers_and_ends():
    source = load_scale(SCALE).tasks["instruction_following"].base_model.start
    try:
        folder = packages.model_folder(source)
    except ConfigError as error:
        pytest.skip(str(error))
    greedy = Sampling(temperature=0, max_new_tokens=24)
    prompts = ["What is the capital of France?", "Say hello."]
    with open_engine(folder, Generation()) as engine:
        answers = sample_text(engine, prompts, n=1, sampling=greedy, seed=1)
        lengths = [len(engine.tokenizer(text).input_ids) for (text,) in answers]
    assert "Paris" in answers[0][0] and "Hello" in answers[1][0]
    assert lengths[0] < 24  # it ends by itself


@pytest.mark.slow
@needs_cached_package
def test_a_few_steps_on_a_cpu(tmp_path, monkeypatch):
    """Every stage of the scale workstation_cpu, with two steps of training."""
    task, base, run = "instruction_following", "base-s1", "grpo-online-every1-lora16-s1"
    few = {"steps": 2, "evaluate_every": 2, "warmup_steps": 0, "group_size": 4}
    few["objectives"] = {"grpo": {"batch_size": 8}}
    sampling = {"max_new_tokens": 12}
    content = {
        "extends": os.path.relpath(CONFIG / "workstation_cpu.yaml", tmp_path),
        "scale": "few",
        "tasks": {
            task: {
                "data": {"train": 8, "validation": 4, "evaluation": 8},
                "base_model": {"examples": 8, "batch_size": 4},
                "training": few | {"sampling": sampling},
                "evaluation": sampling,
            }
        },
    }
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(content))
    rows = [{"objective": "grpo", "data": "online", "sample_every": 1}]
    defaults = {"sample_every": 1, "sync_interval": 1, "log_eps_p": -1, "log_eps_r": 1}
    experiments = {"defaults": {task: defaults}}
    experiments["tables"] = {"mine": {"task": task, "description": "Mine.", "cells": rows}}
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(experiments))
    monkeypatch.chdir(tmp_path)
    study = load_study(Path("few.yaml"), Path("experiments.yaml"), Path("results"))
    ((pretrained, _),) = study.pretrained(task).items()
    stages = [("data", "s1"), ("pretrained", pretrained), ("base_model", base)]
    stages += [("train", run), ("generate", run), ("score", run)]
    for stage, name in stages:
        assert main([stage, task, name, "--scale=few", "--config=.", "--results=results"]) == 0
    paths = study.run(task, run).paths
    record, samples = read_json(paths.record), read_jsonl(paths.samples)
    assert record["steps"] == 2 and record["sampled_tokens"] > 0
    assert len(samples) == 8 and all(row["completion"].strip() for row in samples)
    assert paths.scored.exists()
