"""The devices of a training: the processes that share it, and the GPUs that a process sees."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from humanline.files.validation import ConfigError

if TYPE_CHECKING:
    from transformers import TrainingArguments


def device_count() -> int:
    """Return how many processes train together, each on its own device."""
    return int(os.environ.get("WORLD_SIZE", 1))


def require_company(found: int) -> None:
    """Refuse to train if each process would train alone, on its part of the batch."""
    if found != device_count():
        raise ConfigError(
            f"{device_count()} processes were started to train together, but see no GPU to share "
            "the work by; give the job its GPUs, or set ACCELERATE_USE_CPU=true to train on CPUs"
        )


def require_one_in_sight(args: "TrainingArguments", place: Path) -> None:
    """Refuse several GPUs for one process. TRL refuses them, too, but not in one line.

    Args:
        args: the arguments of a trainer.
        place: the folder of what it trains, for the error.
    """
    if args.n_gpu > 1:
        raise ConfigError(
            f"{place}: {args.n_gpu} GPUs are visible, and transformers' DataParallel would "
            "multiply the batch by their number; set CUDA_VISIBLE_DEVICES to one of them"
        )
