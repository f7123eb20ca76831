"""A run's progress: its last complete checkpoint, and its cost up to that step."""

import re
import shutil
import time
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate.utils import gather_object
from transformers import TrainerCallback

from humanline.data.training_files import Point, ProgressNote, Seconds
from humanline.files.json_files import read_json, write_json
from humanline.files.validation import ConfigError, validate
from humanline.trainers.shared.manifest import keep_model_alone, read_manifest

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
    "round-*.pt",
)
NOTE = "progress.json"
_NOTHING = ProgressNote(
    run="", step=0, seconds=Seconds(sample=0.0, total=0.0), sampled_tokens=0, timeline=[]
)


class Progress(TrainerCallback):
    """Adds up a run's cost over interruptions, and finds the checkpoint that it continues from.

    Every checkpoint has a note of the cost up to it; people find a copy beside the checkpoints. If
    several processes train, the first writes the note.

    A run can continue from its last checkpoint alone. Of earlier checkpoints, only the models that
    are evaluated are kept.

    Args:
        checkpoints: the folder of the run's checkpoints. Its name says which run they are of.
        keep_every: optimizer steps between models that are evaluated.
    """

    _trainer: "HumanlineTrainer"  # set by `watch`

    def __init__(self, checkpoints: Path, keep_every: int):
        self._checkpoints = checkpoints
        self._keep_every = keep_every
        self._before = _NOTHING
        self._started = time.perf_counter()
        self._new: list[Point] = []

    def watch(self, trainer) -> None:
        """Follow a trainer; it counts its own `sampling_seconds` and `sampled_tokens`."""
        self._trainer = trainer
        trainer.add_callback(self)
        trainer.also_write += [self._write_whole_model, self._write_note]

    def last_usable(self) -> str | None:
        """Find the last checkpoint that is whole, and take its cost for the run's so far.

        Checkpoints that are not whole, or not of this run, are told and set aside under a name that
        is told. Every process must call this.

        Returns:
            The folder; None: training begins anew.
        """
        folders = sorted(_checkpoints_in(self._checkpoints), key=_step_of, reverse=True)
        for folder in folders:
            fault = None
            try:
                if read_manifest(folder)["save_only_model"]:
                    continue  # it was kept to be evaluated
                self._trainer.require_usable(folder)
                note = validate(ProgressNote, read_json(folder / NOTE), folder / NOTE)
                if note.step != _step_of(folder) or note.run != self._checkpoints.name:
                    fault = f"{folder} is of another step or run"
            except ConfigError as error:
                fault = str(error).rpartition("; ")[0] or str(error)
            if fault is None:
                self._before = note
                return str(folder)
            self._trainer.accelerator.wait_for_everyone()  # until all have read it
            if self._trainer.is_world_process_zero():
                _set_aside(folder, fault)
            self._trainer.accelerator.wait_for_everyone()
        return None

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

    def _write_note(self, folder: Path) -> None:
        step = self._trainer.state.global_step
        self._new.append(Point(step=step, seconds=self._seconds()["total"]))
        note = {"step": step, "run": self._checkpoints.name} | self.record()
        if self._trainer.is_world_process_zero():
            # Without a seal, which is of a place: the manifest has its checksum.
            found = validate(ProgressNote, note, folder / NOTE)
            write_json(folder / NOTE, found.model_dump(mode="json"))

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            folder = self._checkpoints / f"checkpoint-{state.global_step}"
            shutil.copyfile(folder / NOTE, self._checkpoints / NOTE)
            self._thin(state.global_step)

    def _thin(self, last: int) -> None:
        """Delete earlier checkpoints, except the models that are evaluated."""
        for folder in _checkpoints_in(self._checkpoints):
            step = _step_of(folder)
            if step >= last:
                continue
            if step % self._keep_every:
                shutil.rmtree(folder)
                continue
            keep_model_alone(folder, _TO_GO_ON)


def _checkpoints_in(folder: Path) -> list[Path]:
    """List the checkpoints of a folder, without copies under other names."""
    names = re.compile(r"checkpoint-[0-9]+")
    return [path for path in folder.glob("checkpoint-*") if names.fullmatch(path.name)]


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _set_aside(folder: Path, fault: str) -> None:
    """Rename a checkpoint that cannot be used, and say so."""
    names = chain([""], (f"-{number}" for number in count(2)))
    places = (folder.with_name(f"unusable-{folder.name}{name}") for name in names)
    aside = next(place for place in places if not place.exists())
    folder.rename(aside)
    print(f"humanline: warning: {fault}; set aside as {aside}, and trained again", flush=True)
