"""Trains runs of the smoke scale as one of several processes, at one start: importing takes long.

    torchrun --nproc-per-node 2 together.py WAY=RESULTS/RUN[@STEP]...

A way is one of `distributed.WAYS`; the folder ``config`` is beside that of results. A run is left
once it has kept the step. `test_launch.py` starts this; `accelerate launch` shards on GPUs alone.
"""

import os
import sys
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent / "trainers"))

import torch
from distributed import WAYS, run_on_cpus

from humanline.files.validation import ConfigError
from humanline.study.study import load_study
from humanline.training import cell as training


@contextmanager
def stopping_at(step: int):
    on_save = training.Progress.on_save

    def on_save_and_stop(self, args, state, control, **kwargs):
        on_save(self, args, state, control, **kwargs)
        control.should_training_stop = state.global_step == step

    stopping = mock.patch.object(training.Progress, "on_save", on_save_and_stop)
    with stopping, suppress(ConfigError):  # that steps are missing
        yield


def train(results: Path, name: str, step: str) -> None:
    files = (results.with_name("config") / file for file in ("smoke.yaml", "experiments.yaml"))
    study = load_study(*files, results)
    run = study.resolve(study.find("instruction_following", name))
    with stopping_at(int(step)) if step else nullcontext():
        training.train(run)


if __name__ == "__main__":
    run_on_cpus()
    for argument in sys.argv[1:]:
        way, _, path = argument.partition("=")
        run, _, step = Path(path).name.partition("@")
        with mock.patch.dict(os.environ, WAYS[way]):
            train(Path(path).parent, run, step)
    torch.distributed.destroy_process_group()
    # Threads of gloo now and then abort an interpreter that ends; all is written, so leave at once.
    sys.stdout.flush()
    os._exit(0)
