"""How far a run has come: its last complete checkpoint, and its cost up to there."""

import time
from pathlib import Path

from transformers import TrainerCallback

from humanline.files import read_json, write_json

_NOTHING = {
    "step": 0,
    "seconds": {"sample": 0.0, "total": 0.0},
    "sampled_tokens": 0,
    "timeline": [],
}


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
        self._before = _NOTHING | (read_json(self._note) if self._note.exists() else {})
        self._started = time.perf_counter()
        self._trainer = None
        self._new: list[dict] = []

    @property
    def last_checkpoint(self) -> str | None:
        """The checkpoint to resume from, or None where a run begins."""
        step = self._before["step"]
        return str(self._checkpoints / f"checkpoint-{step}") if step else None

    def watch(self, trainer) -> None:
        """Follow a trainer, which counts its own `sampling_seconds` and `sampled_tokens`."""
        self._trainer = trainer
        trainer.add_callback(self)

    def seconds(self) -> dict[str, float]:
        """Seconds spent on sampling and labelling, on the rest, and in all."""
        before = self._before["seconds"]
        sample = before["sample"] + self._trainer.sampling_seconds
        total = before["total"] + time.perf_counter() - self._started
        parts = {"sample": sample, "train": total - sample, "total": total}
        return {name: round(value, 2) for name, value in parts.items()}

    def sampled_tokens(self) -> int:
        """Tokens sampled from the policy, completions only."""
        return self._before["sampled_tokens"] + self._trainer.sampled_tokens

    def timeline(self) -> list[dict]:
        """Seconds in all until each checkpoint, ``{"step", "seconds"}``."""
        return self._before["timeline"] + self._new

    def on_save(self, args, state, control, **kwargs):
        seconds = self.seconds()
        self._new.append({"step": state.global_step, "seconds": seconds["total"]})
        note = {"step": state.global_step, "seconds": seconds}
        note |= {"sampled_tokens": self.sampled_tokens(), "timeline": self.timeline()}
        write_json(self._note, note)
