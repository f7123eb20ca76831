"""How far a run has come: its last complete checkpoint, and its cost up to there."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate.utils import gather_object
from transformers import TrainerCallback

from humanline.data.training_files import Point, ProgressNote, Seconds
from humanline.files.typed_files import read_record, write_record

if TYPE_CHECKING:
    from humanline.trainers.humanline_trainer import HumanlineTrainer

# Of a checkpoint, by the names that the trainers give them: what training goes on from, and nothing
# else needs. Moments alone are twice as large as a model.
_TO_GO_ON = (
    "optimizer*",
    "pytorch_model_fsdp*",
    "reference*.safetensors",
    "ahead-*.pt",
    "rollout-*.pt",
)
_NOTHING = ProgressNote(
    step=0, seconds=Seconds(sample=0.0, total=0.0), sampled_tokens=0, timeline=[]
)


class Progress(TrainerCallback):
    """Notes every checkpoint once it is written, and adds up seconds over interruptions.

    The note says which checkpoint a run goes on from, and what it had cost by then. Where several
    processes train, the first keeps the note.

    What a run can go on from is its last checkpoint alone; of those before, the models that are
    evaluated are kept.

    Args:
        checkpoints: the folder of the run's checkpoints.
        keep_every: optimizer steps between models that are evaluated.
        is_new: whether to begin at the beginning, whatever the folder holds.
    """

    _trainer: "HumanlineTrainer"  # that `watch` is given

    def __init__(self, checkpoints: Path, keep_every: int, *, is_new: bool = False):
        self._checkpoints = checkpoints
        self._keep_every = keep_every
        self._note = checkpoints / "progress.json"
        is_begun = self._note.exists() and not is_new
        self._before = read_record(self._note, ProgressNote) if is_begun else _NOTHING
        self._started = time.perf_counter()
        self._new: list[Point] = []

    @property
    def last_checkpoint(self) -> str | None:
        """The checkpoint to resume from, or None where a run begins."""
        step = self._before.step
        return str(self._checkpoints / f"checkpoint-{step}") if step else None

    def watch(self, trainer) -> None:
        """Follow a trainer, which counts its own `sampling_seconds` and `sampled_tokens`."""
        self._trainer = trainer
        trainer.add_callback(self)
        trainer.also_write.append(self._write_whole_model)

    def end(self) -> None:
        """The run is complete, and its model saved: its last checkpoint has no use any more."""
        shutil.rmtree(self._checkpoints / f"checkpoint-{self._trainer.state.global_step}")

    def record(self) -> dict:
        """What the run has cost so far, for its record. Every process must ask for it."""
        return {
            "seconds": self._seconds(),
            "timeline": [point.model_dump() for point in self._before.timeline + self._new],
            "sampled_tokens": self._sampled_tokens(),
        }

    def _seconds(self) -> dict[str, float]:
        """Seconds spent on sampling and labelling, on the rest, and in all."""
        before = self._before.seconds
        sample = before.sample + self._trainer.sampling_seconds
        total = before.total + time.perf_counter() - self._started
        parts = {"sample": sample, "train": total - sample, "total": total}
        return {name: round(value, 2) for name, value in parts.items()}

    def _sampled_tokens(self) -> int:
        """Tokens sampled from the policy by all processes, completions only."""
        return self._before.sampled_tokens + sum(gather_object([self._trainer.sampled_tokens]))

    def _write_whole_model(self, folder: Path) -> None:
        """Beside each process's part, for evaluation."""
        step = self._trainer.state.global_step
        if self._trainer.is_fsdp_enabled and step % self._keep_every == 0:
            self._trainer.save_whole_model(folder)

    def on_save(self, args, state, control, **kwargs):
        self._new.append(Point(step=state.global_step, seconds=self._seconds()["total"]))
        note = {"step": state.global_step} | self.record()
        if state.is_world_process_zero:
            write_record(self._note, ProgressNote, note)
            self._thin(state.global_step)

    def _thin(self, last: int) -> None:
        """Leave of the checkpoints before the last what is evaluated."""
        for folder in self._checkpoints.glob("checkpoint-*"):
            step = int(folder.name.removeprefix("checkpoint-"))
            if step >= last:
                continue
            if step % self._keep_every:
                shutil.rmtree(folder)
            for path in (path for pattern in _TO_GO_ON for path in folder.glob(pattern)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
