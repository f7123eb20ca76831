"""SIGTERM while a run trains: a checkpoint of that step, no result, and the same model later."""

import os
import signal
from pathlib import Path

import pytest

from humanline.files.json_files import read_json, write_jsonl
from humanline.generation import offline
from humanline.study.study import load_study
from humanline.training import base_model
from humanline.training import cell as training
from humanline.worlds import miniature

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
TASK = "instruction_following"
RUNS = ("dpo-offline-humanline-k4-clip-1.5_1.5-s1", "grpo-online-every8-s1")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = load_study(
        CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", tmp_path_factory.mktemp("results")
    )
    config = study.scale.tasks[TASK]
    for split, rows in miniature.splits(TASK, config.data, 1).items():
        write_jsonl(study.paths.prompts(TASK, "s1", split), rows)
    base = study.run(TASK, "base-s1")
    base_model.make(TASK, config.base_model, 1, base.paths.model, config.data)
    offline.make(base)
    return study


def stop_at(step: int, monkeypatch) -> None:
    """Send this process SIGTERM as a step begins."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training.Progress, "on_step_begin", on_step_begin)


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_writes_a_checkpoint_and_goes_on_to_the_same_model(name, study, monkeypatch):
    run = study.run(TASK, name)
    training.train(run)
    whole = (run.paths.model / "model.safetensors").read_bytes()
    run.paths.record.unlink()
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        stop_at(5, patch)  # it keeps every second step, so not this one
        training.train(run)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert not run.paths.record.exists()
    checkpoints = training._checkpoints(run)
    assert read_json(checkpoints / "progress.json")["step"] == 5
    assert (checkpoints / "checkpoint-5" / "optimizer.pt").exists()
    training.train(run)
    assert read_json(run.paths.record)["timeline"][-1]["step"] == 8
    assert (run.paths.model / "model.safetensors").read_bytes() == whole


def test_the_last_step_is_not_stopped(study, monkeypatch):
    run = study.run(TASK, RUNS[0])
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        training.train(run)
    assert read_json(run.paths.record)["steps"] == 8
