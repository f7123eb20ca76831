"""How far a run has come: its last complete checkpoint, and its seconds up to there."""

import time
from pathlib import Path

from transformers import TrainerCallback

from humanline.files import read_json, write_json

_NOTHING = {"step": 0, "seconds": {"sample": 0.0, "total": 0.0}}


class Progress(TrainerCallback):
    """Notes every checkpoint once it is written, and adds up seconds over interruptions.

    A job that is killed while it writes a checkpoint leaves half of one. The note says which to
    trust.

    Args:
        checkpoints: the folder of the run's checkpoints.
    """

    def __init__(self, checkpoints: Path):
        self._checkpoints = checkpoints
        self._note = checkpoints / "progress.json"
        self._before = read_json(self._note) if self._note.exists() else _NOTHING
        self._started = time.perf_counter()
        self._trainer = None

    @property
    def last_checkpoint(self) -> str | None:
        """The checkpoint to resume from, or None where a run begins."""
        step = self._before["step"]
        return str(self._checkpoints / f"checkpoint-{step}") if step else None

    def watch(self, trainer) -> None:
        """Follow a trainer, which counts its own `sampling_seconds`."""
        self._trainer = trainer
        trainer.add_callback(self)

    def seconds(self) -> dict[str, float]:
        """Seconds spent on sampling and labelling, on the rest, and in all."""
        before = self._before["seconds"]
        sample = before["sample"] + self._trainer.sampling_seconds
        total = before["total"] + time.perf_counter() - self._started
        parts = {"sample": sample, "train": total - sample, "total": total}
        return {name: round(value, 2) for name, value in parts.items()}

    def on_save(self, args, state, control, **kwargs):
        write_json(self._note, {"step": state.global_step, "seconds": self.seconds()})
