"""A run's progress: its last complete checkpoint, and its cost up to that step."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate.utils import gather_object
from transformers import TrainerCallback

from humanline.data.training_files import Point, ProgressNote, Seconds
from humanline.files.typed_files import read_record, write_record

if TYPE_CHECKING:
    from humanline.trainers.shared.humanline_trainer import HumanlineTrainer

# Files of a checkpoint that only a resumed training needs, by the trainers' names for them. The
# optimizer's moments alone are twice as large as the model.
_TO_GO_ON = (
    "optimizer*",
    "pytorch_model_fsdp*",
    "reference*.safetensors",
    "ahead-*.pt",
    "rollout-*.pt",
    "unlogged-*.pt",
)
_NOTHING = ProgressNote(
    step=0, seconds=Seconds(sample=0.0, total=0.0), sampled_tokens=0, timeline=[]
)


class Progress(TrainerCallback):
    """Records every checkpoint after it is written, and adds up seconds over interruptions.

    A note says from which checkpoint a run continues, and the cost up to it. If several processes
    train, the first writes the note.

    A run can continue from its last checkpoint alone. Of earlier checkpoints, only the models that
    are evaluated are kept.

    Args:
        checkpoints: the folder of the run's checkpoints.
        keep_every: optimizer steps between models that are evaluated.
        is_new: begin at step 0, even if the folder has a note.
    """

    _trainer: "HumanlineTrainer"  # set by `watch`

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
        """The checkpoint to resume from; None at the beginning of a run."""
        step = self._before.step
        return str(self._checkpoints / f"checkpoint-{step}") if step else None

    def watch(self, trainer) -> None:
        """Follow a trainer; it counts its own `sampling_seconds` and `sampled_tokens`."""
        self._trainer = trainer
        trainer.add_callback(self)
        trainer.also_write.append(self._write_whole_model)

    def end(self) -> None:
        """Delete the last checkpoint: the run is complete and its model is saved."""
        shutil.rmtree(self._checkpoints / f"checkpoint-{self._trainer.state.global_step}")

    def record(self) -> dict:
        """Return the run's cost so far, for its record. Every process must call this.

        Returns:
            ``seconds`` (sample, train, total), ``timeline`` (total seconds by step) and
            ``sampled_tokens``.
        """
        return {
            "seconds": self._seconds(),
            "timeline": [point.model_dump() for point in self._before.timeline + self._new],
            "sampled_tokens": self._sampled_tokens(),
        }

    def _seconds(self) -> dict[str, float]:
        """Return the seconds of sampling and labelling, of the rest of training, and in all."""
        before = self._before.seconds
        sample = before.sample + self._trainer.sampling_seconds
        total = before.total + time.perf_counter() - self._started
        parts = {"sample": sample, "train": total - sample, "total": total}
        return {name: round(value, 2) for name, value in parts.items()}

    def _sampled_tokens(self) -> int:
        """Count the completion tokens that all processes have sampled from the policy."""
        return self._before.sampled_tokens + sum(gather_object([self._trainer.sampled_tokens]))

    def _write_whole_model(self, folder: Path) -> None:
        """Save the whole model for evaluation: a sharded checkpoint has a part per process."""
        step = self._trainer.state.global_step
        if self._trainer.is_fsdp_enabled and step % self._keep_every == 0:
            self._trainer.save_whole_model(folder)

    def on_save(self, args, state, control, **kwargs):
        self._new.append(Point(step=state.global_step, seconds=self._seconds()["total"]))
        note = {"step": state.global_step} | self.record()
        if state.is_world_process_zero:
            write_record(self._note, ProgressNote, note, sealed=False)  # read in this stage alone
            self._thin(state.global_step)

    def _thin(self, last: int) -> None:
        """Delete earlier checkpoints, except the models that are evaluated."""
        for folder in self._checkpoints.glob("checkpoint-*"):
            step = int(folder.name.removeprefix("checkpoint-"))
            if step >= last:
                continue
            if step % self._keep_every:
                shutil.rmtree(folder)
            for path in (path for pattern in _TO_GO_ON for path in folder.glob(pattern)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
