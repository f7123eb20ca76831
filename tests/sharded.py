"""Trains runs of the smoke scale as one of several processes, each with a part of the weights.

    torchrun --nproc-per-node 2 sharded.py CONFIG RESULTS RUN[@STEP]...

and leaves a run once it has kept that step. `test_launch.py` starts it; `accelerate launch` shards
on GPUs alone.
"""

import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "trainers"))

import torch
from distributed import run_on_cpus

from humanline.files.validation import ConfigError
from humanline.study.study import load_study
from humanline.training import cell as training


def stop_at(step: int) -> None:
    on_save = training.Progress.on_save

    def on_save_and_stop(self, args, state, control, **kwargs):
        on_save(self, args, state, control, **kwargs)
        control.should_training_stop = state.global_step == step

    training.Progress.on_save = on_save_and_stop


if __name__ == "__main__":
    run_on_cpus()
    config, results, *runs = sys.argv[1:]
    files = (Path(config, name) for name in ("smoke.yaml", "experiments.yaml"))
    study = load_study(*files, Path(results))
    for run in runs:
        name, _, step = run.partition("@")
        cell = study.find("instruction_following", name)
        if step:
            stop_at(int(step))
        with suppress(ConfigError) if step else nullcontext():  # that steps are missing
            training.train(study.resolve(cell))
    torch.distributed.destroy_process_group()
    # Threads of gloo now and then abort an interpreter that ends; all is written, so leave at once.
    sys.stdout.flush()
    os._exit(0)
