"""Seconds of a run, over all the processes that an interruption may have split it into."""

import time
from pathlib import Path

from transformers import TrainerCallback

from humanline.files import read_json, write_json


class Stopwatch(TrainerCallback):
    """Wall-clock seconds since it was made, on top of those up to the last checkpoint.

    Args:
        path: where the seconds are kept with every checkpoint.
    """

    def __init__(self, path: Path):
        self._path = path
        self._started = time.perf_counter()
        self._before = read_json(path) if path.exists() else {"sample": 0.0, "total": 0.0}
        self._trainer = None

    def watch(self, trainer) -> None:
        """Follow a trainer, which counts its own `sampling_seconds`."""
        self._trainer = trainer
        trainer.add_callback(self)

    def seconds(self) -> dict[str, float]:
        """Seconds spent on sampling and labelling, on the rest, and in all."""
        sample = self._before["sample"] + self._trainer.sampling_seconds
        total = self._before["total"] + time.perf_counter() - self._started
        parts = {"sample": sample, "train": total - sample, "total": total}
        return {name: round(value, 2) for name, value in parts.items()}

    def on_save(self, args, state, control, **kwargs):
        write_json(self._path, self.seconds())
