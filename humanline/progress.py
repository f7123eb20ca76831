"""How far a run has come: its last complete checkpoint, and its cost up to there."""

import time
from pathlib import Path

from accelerate.utils import gather_object
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
    trust. Where several processes train, the first keeps the note.

    Args:
        checkpoints: the folder of the run's checkpoints.
        is_new: whether to begin at the beginning, whatever the folder holds.
    """

    def __init__(self, checkpoints: Path, *, is_new: bool = False):
        self._checkpoints = checkpoints
        self._note = checkpoints / "progress.json"
        is_begun = self._note.exists() and not is_new
        self._before = _NOTHING | (read_json(self._note) if is_begun else {})
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

    def record(self) -> dict:
        """What the run has cost so far, for its record. Every process must ask for it."""
        return {
            "seconds": self._seconds(),
            "timeline": self._before["timeline"] + self._new,
            "sampled_tokens": self._sampled_tokens(),
        }

    def _seconds(self) -> dict[str, float]:
        """Seconds spent on sampling and labelling, on the rest, and in all."""
        before = self._before["seconds"]
        sample = before["sample"] + self._trainer.sampling_seconds
        total = before["total"] + time.perf_counter() - self._started
        parts = {"sample": sample, "train": total - sample, "total": total}
        return {name: round(value, 2) for name, value in parts.items()}

    def _sampled_tokens(self) -> int:
        """Tokens sampled from the policy by all processes, completions only."""
        return self._before["sampled_tokens"] + sum(gather_object([self._trainer.sampled_tokens]))

    def on_save(self, args, state, control, **kwargs):
        self._new.append({"step": state.global_step, "seconds": self._seconds()["total"]})
        note = {"step": state.global_step} | self.record()
        if state.is_world_process_zero:
            write_json(self._note, note)
