"""Checkpoints that appear whole or not at all, and that only their own run resumes.

A checkpoint is written in another folder and moved to its place when it is whole. Its last file,
`humanline.json`, lists the other files with their checksums (see `manifest`), and the options that
decide what a step trains on.
"""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import torch
from accelerate.logging import get_logger
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch.utils.data import IterableDataset
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import safe_globals
from transformers.trainer_utils import get_last_checkpoint

from humanline.files.validation import ConfigError, first_line
from humanline.trainers.options.trainer import TrainerOfTrl
from humanline.trainers.shared.manifest import (
    CheckpointError,
    fault_of,
    fingerprints,
    has_checksums,
    read_manifest,
    write_manifest,
)

logger = get_logger(__name__)

_PARTIAL = ".incomplete"  # folder within the run's: a checkpoint while it is written
_ROWS_HASHED = 512


class WholeCheckpoints(TrainerOfTrl):
    """Mixin before a Trainer.

    `_write_beside` and `_position` save what the Trainer does not, and
    `_load_optimizer_and_scheduler` restores it. `_options_of_order` names the options that a
    resumed run must share.
    """

    _options_of_order: tuple[str, ...] = (
        "seed",
        "data_seed",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "dataloader_drop_last",
        "train_sampling_strategy",
        "optim",
    )
    _written: Path | None = None  # stands for the run's folder during a save
    _pushed = False
    _usable: Path | None = None  # a checkpoint that was found to be whole and of this run

    @cached_property
    def also_write(self) -> list[Callable[[Path], None]]:
        """Functions that write more files into a checkpoint's folder, on every process."""
        return []

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """Train as TRL does; a checkpoint to resume from must be whole and of the same run.

        "The same run" has the same options that decide which rows a step trains on and what its
        reference is: the data, seeds, batch size, accumulation, number of processes,
        `sync_interval`, how the reference is kept, and GRPO's options of sampling. It also has the
        same `optim`, whose state is resumed. Others, such as the learning rate or `max_steps`, may
        change.

        Args:
            resume_from_checkpoint: a folder; True: the last checkpoint of `output_dir`.
            args, kwargs: as in TRL.

        Raises:
            ConfigError: before any work, naming the missing part or the option.
        """
        checkpoint = resume_from_checkpoint
        if checkpoint is True:
            checkpoint = _last_of(Path(self.args.output_dir))
            if checkpoint is None:
                raise ConfigError(
                    f"{self.args.output_dir}: no checkpoint to resume from; train without "
                    "resume_from_checkpoint"
                )
        if checkpoint and self.args.ignore_data_skip:
            raise ConfigError(
                "ignore_data_skip=True would train on the first rows of an epoch again, and with "
                "another reference; set it to False to resume"
            )
        if checkpoint:
            self.require_usable(Path(checkpoint))
            self._usable = None  # it may change before it is loaded again
        return super().train(checkpoint, *args, **kwargs)

    # Saving.

    def _save_checkpoint(self, model, trial):
        run, name = Path(self._get_output_dir(trial)), f"checkpoint-{self.state.global_step}"
        with self._telling(run / name), self._writing_in(run / _PARTIAL):
            super()._save_checkpoint(model, trial)
            self._note_best(run, run / _PARTIAL / name)
            self._write_beside(run / _PARTIAL / name)
            self.accelerator.wait_for_everyone()
            self._write_manifest(run / _PARTIAL / name)
            self.accelerator.wait_for_everyone()
            if self.args.local_process_index == 0:
                _put_in_place(run / _PARTIAL / name, run / name)
            self.accelerator.wait_for_everyone()
        if self._pushed:
            self._pushed = False
            super()._push_from_checkpoint(str(run / name))
        if self.args.should_save:  # delete old checkpoints last
            kept = {run / name, Path(self.state.best_model_checkpoint or run / name)}
            _delete_oldest(run, self.args.save_total_limit, kept)

    @contextmanager
    def _telling(self, checkpoint: Path):
        """Turn a failed write into one line that names the last whole checkpoint."""
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            kept = _last_of(checkpoint.parent) or "none"
            raise OSError(
                f"{checkpoint} could not be written ({reason}); make room, and resume from the "
                f"last one that is whole: {kept}"
            ) from error

    @contextmanager
    def _writing_in(self, folder: Path):
        """Let the Trainer write into an empty folder instead of the run's."""
        if self.args.local_process_index == 0:
            shutil.rmtree(folder, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._written = folder
        try:
            yield
        finally:
            self._written = None
            if self.args.world_size == 1:  # otherwise other processes may still be writing
                shutil.rmtree(folder, ignore_errors=True)
        if self.args.local_process_index == 0:
            shutil.rmtree(folder, ignore_errors=True)

    def _get_output_dir(self, trial):
        return str(self._written) if self._written else super()._get_output_dir(trial)

    def _push_from_checkpoint(self, checkpoint_folder):
        self._pushed = True  # pushed after the move to its place

    def _note_best(self, run: Path, written: Path) -> None:
        """Write the best checkpoint's final path into the state.

        The path stays as it was if the best step was not saved, as in the Trainer, or was saved by
        an earlier run in another folder.
        """
        best = f"checkpoint-{self.state.best_global_step}"
        if best == written.name or (run / best).is_dir():
            self.state.best_model_checkpoint = str(run / best)
            if self.args.should_save:
                self.state.save_to_json(str(written / TRAINER_STATE_NAME))

    def _write_beside(self, folder: Path) -> None:
        """Write what else a checkpoint needs. Every process calls this."""
        for write in self.also_write:
            write(folder)

    def _position(self) -> dict:
        """Give the numbers that a resumed run continues from, the same on all processes."""
        return {}

    def _write_manifest(self, folder: Path) -> None:
        """Write the manifest. The processes of a machine share the work of reading the files."""
        part, parts = self._part_of_machine
        found = gather_object([(self.args.process_index - part, fingerprints(folder, part, parts))])
        if not self.args.should_save:
            return
        own = [files for first, files in found if first == self.args.process_index - part]
        content = {
            "run": self._run_facts(),
            "save_only_model": self.args.save_only_model,
            "position": self._position(),
            "files": {name: known for files in own for name, known in files.items()},
        }
        write_manifest(folder, content)

    @property
    def _part_of_machine(self) -> tuple[int, int]:
        """This process's number on its machine, and how many there are."""
        parts = int(os.environ.get("LOCAL_WORLD_SIZE", self.args.world_size))
        return self.args.local_process_index, parts

    # Resuming.

    def require_usable(self, checkpoint: Path) -> None:
        """Refuse a checkpoint that is not whole, or that a run with other options wrote.

        Every process calls this; they share the work of reading the files.

        Raises:
            CheckpointError: on all processes, naming the file or the option and the remedy.
        """
        if checkpoint == self._usable:
            return
        manifest = read_manifest(checkpoint)
        if manifest["save_only_model"]:
            raise CheckpointError(
                f"{checkpoint} has the model alone (save_only_model=True), and not the state of "
                "training; train anew, and leave save_only_model out to resume later"
            )
        faults = gather_object([fault_of(checkpoint, manifest, *self._part_of_machine)])
        if fault := next(filter(None, faults), None):
            raise CheckpointError(fault)
        if not has_checksums(manifest):
            logger.warning(
                f"{checkpoint} is of an older version: its files have the right sizes, but what "
                "they hold cannot be checked"
            )
        began, now = manifest["run"], self._run_facts()
        for name in now | began:  # either may lack an option of the other
            if began.get(name) != now.get(name):
                raise CheckpointError(
                    f"{checkpoint} is of a run with {name}={began.get(name)!r}, and this one has "
                    f"{now.get(name)!r}; resume it with the options it began with, or train anew"
                )
        self._usable = checkpoint

    @contextmanager
    def reading(self, checkpoint: str | Path | None) -> Iterator[None]:
        """Tell in one line which file cannot be loaded: it holds code, or was made to mislead."""
        try:
            yield
        except (ConfigError, torch.OutOfMemoryError):
            raise
        except _UNREADABLE as error:
            if checkpoint is None:
                raise
            name = next(filter(_is_unreadable, sorted(Path(checkpoint).rglob("*"))), None)
            reason = f"{name.name}: {_reason(error)}" if name else first_line(error)
            raise ConfigError(
                f"{checkpoint} cannot be loaded ({reason}); resume from another checkpoint, or "
                "train anew"
            ) from error

    def _load_from_checkpoint(self, resume_from_checkpoint, *args, **kwargs):
        with self.reading(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)

    def _load_rng_state(self, checkpoint):
        with self.reading(checkpoint):
            super()._load_rng_state(checkpoint)

    def _load_scaler(self, checkpoint):
        with self.reading(checkpoint):
            super()._load_scaler(checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint):
        with self.reading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint and self.state.best_model_checkpoint is None:
            # The folder of checkpoints may have been moved.
            best = Path(checkpoint).with_name(f"checkpoint-{self.state.best_global_step}")
            self.state.best_model_checkpoint = str(best) if best.is_dir() else None

    def _run_facts(self) -> dict:
        """Collect what a resumed run must share, by the option's name, with JSON's types."""
        args = self.args
        facts = {name: getattr(args, name) for name in self._options_of_order}
        facts["number of processes"] = args.world_size
        return json.loads(json.dumps(facts | self._data_facts, default=str))

    @cached_property
    def _data_facts(self) -> dict:
        """Facts that tell the training set from others."""
        return self._facts_of_data()

    def _facts_of_data(self) -> dict:
        return dataset_facts(self.train_dataset)


def _last_of(run: Path) -> str | None:
    return get_last_checkpoint(str(run)) if run.is_dir() else None


def _delete_oldest(run: Path, limit: int | None, kept: set[Path]) -> None:
    """Delete the oldest checkpoints beyond `limit`, never those in `kept`.

    transformers sorts checkpoints of the same second by number, and so may delete the new one.
    """
    folders = [path for path in run.glob("checkpoint-*") if path.is_dir() and path not in kept]
    folders.sort(key=lambda path: (path.stat().st_mtime_ns, len(path.name), path.name))
    count = len(folders) - max((limit or 0) - len(kept), 0)
    for folder in folders[: max(count, 0)] if limit and limit > 0 else ():
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(written: Path, place: Path) -> None:
    """Move a whole checkpoint to its place, then delete the one that it replaces."""
    replaced = written.with_name(f"replaced-{place.name}")
    with suppress(FileNotFoundError):
        if written.exists():
            os.replace(place, replaced)
    with suppress(FileNotFoundError):  # another machine that shares the disk was first
        os.replace(written, place)
        os.utime(place)  # `_delete_oldest` goes by this time
    shutil.rmtree(replaced, ignore_errors=True)


_UNREADABLE = (
    *(pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError),
    *(ValueError, KeyError, TypeError, AttributeError, IndexError),
)


def _is_unreadable(path: Path) -> bool:
    """Say whether a torch file cannot be loaded without running code."""
    if path.suffix not in (".pt", ".pth"):
        return False
    try:
        with safe_globals():
            torch.load(path, map_location="meta", weights_only=True)
    except Exception:
        return True
    return False


def _reason(error: Exception) -> str:
    is_code = isinstance(error, pickle.UnpicklingError)
    return "holds code, which is not run, or is damaged" if is_code else first_line(error)


def dataset_facts(dataset) -> dict:
    """Describe a dataset: the number of rows and a hash of up to 512 rows, spread evenly.

    A stream is described by its columns alone.
    """
    if isinstance(dataset, IterableDataset):
        return {"columns of the training set": getattr(dataset, "column_names", None)}
    count = len(dataset)
    step = -(-count // _ROWS_HASHED) or 1
    return {"rows of the training set": count, "their hash": _hash(dataset[0:count:step])}


def _hash(columns: dict) -> str:
    """Hash columns by sha256. Of a column that JSON cannot hold (images) it hashes the name."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        try:
            content = json.dumps(columns[name], sort_keys=True)
        except TypeError:
            content = ""
        digest.update(f"{name}\n{content}\n".encode())
    return digest.hexdigest()
