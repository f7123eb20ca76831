"""Trains runs of the smoke scale as one of several processes, each with a part of the weights.

    torchrun --nproc-per-node 2 sharded.py RESULTS RUN...

`test_launch.py` starts it. `accelerate launch` would do, but shards on GPUs alone.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "trainers"))

import torch
from distributed import run_on_cpus

from humanline import training
from humanline.study import load_study

CONFIG = Path(__file__).parents[1] / "workflow" / "config"

if __name__ == "__main__":
    run_on_cpus()
    results, *runs = sys.argv[1:]
    study = load_study(CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", Path(results))
    for run in runs:
        training.train(study, study.find("instruction_following", run))
    torch.distributed.destroy_process_group()
    # Threads of gloo now and then abort an interpreter that ends; all is written, so leave at once.
    sys.stdout.flush()
    os._exit(0)
