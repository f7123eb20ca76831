"""Humanline's metrics arrive where TRL's users look at them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import OBJECTIVES, make_trainer, rows
from transformers import TrainerCallback

NAMES = {
    f"humanline/{name}_{side}"
    for name in ("unclipped", "log_ratio_q05", "log_ratio_q50", "log_ratio_q95")
    for side in ("chosen", "rejected")
} | {"humanline/steps_since_sync"}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_callback_gets_them_all_as_numbers(objective, model, tokenizer, groups, tmp_path):
    found = []

    class Listens(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            found.append(logs)

    extra = {"callbacks": [Listens()]}
    options = {"max_steps": 2, "log_eps_p": -0.01, "log_eps_r": 0.01, "sync_interval": 2}
    trainer = make_trainer(
        objective, model, tokenizer, rows(objective, groups), tmp_path, extra, **options
    )
    trainer.train()
    first, second, _ = found
    assert set(first) >= NAMES and set(second) >= NAMES
    assert all(isinstance(second[name], float) for name in NAMES)
    assert first["humanline/unclipped_chosen"] == 1 > second["humanline/unclipped_chosen"] >= 0
    assert second["humanline/log_ratio_q05_chosen"] < second["humanline/log_ratio_q95_chosen"]


def of_tensorboard(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name for name in events.Tags()["scalars"] if events.Scalars(name)}


def of_trackio(folder: Path) -> set[str]:
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = SQLiteStorage.get_runs("huggingface")
    return {name for row in SQLiteStorage.get_logs("huggingface", run) for name in row}


def of_wandb(folder: Path) -> set[str]:
    import wandb

    return set(wandb.run.summary.keys())


READERS = {"tensorboard": of_tensorboard, "trackio": of_trackio, "wandb": of_wandb}


@pytest.mark.parametrize("service", READERS)
def test_the_service_has_them(service, model_folder, tmp_path):
    pytest.importorskip(service, reason=f"{service} is not installed: no report to read")
    # A process of its own: these packages keep runs and folders for the life of a process.
    folders = {"TENSORBOARD_LOGGING_DIR": "", "TRACKIO_DIR": "t", "WANDB_DIR": "", "HOME": ""}
    environment = os.environ | {name: str(tmp_path / part) for name, part in folders.items()}
    environment |= {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, service, str(model_folder), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = set(done.stdout.split())
    assert {f"train/{name}" for name in NAMES} <= found


def report(service: str, model_folder: str, folder: str) -> None:
    """Train for two steps with `report_to`, and print what the service has."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    dataset = Dataset.from_list([{"prompt": "1+1", "chosen": "a", "rejected": "b"}] * 8)
    trainer = make_trainer(
        "dpo", model, tokenizer, dataset, Path(folder), report_to=service, max_steps=2
    )
    trainer.train()
    print(*sorted(READERS[service](Path(folder))), sep="\n")


if __name__ == "__main__":
    report(*sys.argv[1:])
