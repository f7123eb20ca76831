"""The order of rows: a function of seed and epoch alone, on any number of processes.

TRL's samplers and the Trainer's loaders are replaced where they keep state that no checkpoint has,
or where they count within each process instead of over all.
"""

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice, repeat

import numpy as np
import torch
from accelerate.utils import broadcast
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, RandomSampler, Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.trainer.utils import RepeatSampler

from humanline.files.validation import ConfigError
from humanline.trainers.options.trainer import TrainerOfTrl


class OwnOrder(TrainerOfTrl):
    """Mixin before a Trainer: the order of its rows depends on seed and epoch alone."""

    def _get_dataloader(
        self,
        dataset,
        description,
        batch_size,
        sampler_fn=None,
        is_training=False,
        dataloader_key=None,
    ):
        workers = self.args.dataloader_num_workers
        if isinstance(dataset, IterableDataset):
            dataset = Stream(dataset, is_endless=is_training)
            self.args.dataloader_num_workers = min(workers, 1)  # several would mix their rows
        elif is_training and sampler_fn is not None:
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            own, sampler_fn = sampler_fn, lambda rows: with_epochs(own(rows), seed)
        options = description, batch_size, sampler_fn, is_training, dataloader_key
        try:
            return super()._get_dataloader(dataset, *options)
        finally:
            self.args.dataloader_num_workers = workers

    def evaluate(self, *args, **kwargs):
        """Evaluate as TRL does, but leave the random states of training as they were."""
        with random_states_kept(self.accelerator.device):
            return super().evaluate(*args, **kwargs)


class EpochSampler(Sampler):
    """A shuffling sampler whose order depends on the epoch, not on earlier draws.

    The orders are those of the wrapped sampler in a run that is never interrupted.

    Args:
        sampler: TRL's `RepeatSampler`, or a sampler that draws from its `generator` alone.
        seed: the run's seed. TRL's sampler has it already.
    """

    def __init__(self, sampler: RepeatSampler | RandomSampler | LengthGroupedSampler, seed: int):
        self._sampler, self._seed, self._epoch = sampler, seed, 0
        if not isinstance(sampler, RepeatSampler):
            sampler.generator = torch.Generator()

    def set_epoch(self, epoch: int) -> None:
        """Take the order of an epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        sampler, generator = self._sampler, self._sampler.generator
        if isinstance(sampler, RepeatSampler) and sampler.seed is not None:
            generator.manual_seed(sampler.seed)
            for _ in range(self._epoch):  # repeat the draws of earlier epochs
                torch.randperm(sampler.num_samples, generator=generator)
        else:
            generator.manual_seed(self._seed + self._epoch)  # as accelerate does
        return iter(sampler)


def with_epochs(sampler, seed: int):
    """Wrap a sampler in `EpochSampler` if it shuffles; return any other as it is."""
    shuffles = isinstance(sampler, RandomSampler | LengthGroupedSampler)
    shuffles |= isinstance(sampler, RepeatSampler) and sampler.shuffle
    return EpochSampler(sampler, seed) if shuffles else sampler


def set_epoch(loader, epoch: int) -> None:
    """Tell all of a loader's nested samplers the epoch: accelerate does not reach all of them."""
    part = loader
    while part is not None:
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)
        inner = getattr(part, "batch_sampler", None)
        part = inner if inner is not None else getattr(part, "sampler", None)


@contextmanager
def random_states_kept(device: torch.device):
    """Restore the random states of Python, NumPy, torch and the device at the end of a block."""
    accelerator = None if device.type == "cpu" else getattr(torch, device.type)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_device = accelerator and accelerator.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if accelerator:
            accelerator.set_rng_state(on_device)


class Stream(IterableDataset):
    """A dataset without a known length, with the same order on any number of processes.

    It avoids three faults. accelerate gives each process its own shards. In the Trainer, an epoch
    that ends within an accumulation leaves its gradients to the next one, and a resumed run does
    not find its epoch.

    Args:
        rows: a `datasets.IterableDataset`, or torch's.
        is_endless: begin again after the last row, in the order of the next epoch. So a run is one
            epoch, and each of its steps has all of its batches.
    """

    def __init__(self, rows, is_endless: bool):
        self._rows, self._is_endless = rows, is_endless

    def __iter__(self) -> Iterator[dict]:
        epoch = 0
        while True:
            if hasattr(self._rows, "set_epoch"):
                self._rows.set_epoch(epoch)
            is_empty = True
            for row in self._rows:
                is_empty = False
                yield row
            if not self._is_endless:
                return
            if is_empty:
                raise ConfigError(
                    "no step can be taken: the training set gives no row, or for GRPO too few to "
                    "fill one generation batch; mend its path or its filter, raise max_length "
                    "where that drops them, or lower per_device_train_batch_size"
                )
            epoch += 1


class RepeatedRows(Dataset):
    """Rows to evaluate on, with a length that counts each row `times` times.

    Each row makes several completions. With the number of rows for a length, accelerate would take
    the last completions for padding.
    """

    def __init__(self, rows, times: int):
        self._rows, self.total_dataset_length = rows, len(rows) * times

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict:
        return self._rows[index]


class RolloutRows:
    """The rows of a rollout as one object: a loader would iterate over a list row by row."""

    def __init__(self, rows: list[dict]):
        self.rows = rows


def rows_of(batch: list) -> list[dict]:
    """Find the rows of a batch of a loader, which may be one object that holds them all."""
    return batch[0].rows if isinstance(batch[0], RolloutRows) else batch


class RolloutStream(IterableDataset):
    """The rows of rollouts from a stream, in the order of TRL's sampler.

    At each step a process gets its part of the whole rollout, and reads it at the rollout's first
    step alone. So all steps share one object, while TRL copies the rows for each step, all of them
    before the first: with a rollout every 64 steps that costs more than training.

    Args:
        rows: a `datasets.IterableDataset` of prompts. The last ones are left out if they fill no
            rollout.
        prompts: number of prompts in a rollout.
        times: how often each prompt is repeated, in neighbouring rows.
        steps: number of steps for which every process gets the rollout.
        processes: number of processes that share the rows evenly, in order.
        choose: maps rows to rows with the columns that count.
    """

    def __init__(
        self, rows, *, prompts: int, times: int, steps: int, processes: int, choose: Callable
    ):
        self._rows, self._choose = rows, choose
        self._prompts, self._times = prompts, times
        self._steps, self._processes = steps, processes

    def set_epoch(self, epoch: int) -> None:
        """Take the order of an epoch, counted from 0."""
        self._rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[RolloutRows]:
        rows = iter(self._rows)
        while len(prompts := list(islice(rows, self._prompts))) == self._prompts:
            chosen = self._choose(prompts)
            rollout = [copy.deepcopy(row) for row in chosen for _ in range(self._times)]
            size = len(rollout) // self._processes
            parts = [RolloutRows(rollout[i : i + size]) for i in range(0, len(rollout), size)]
            yield from chain.from_iterable(repeat(parts, self._steps))


class RowsOnce(Dataset):
    """A dataset that fetches a batch once if it is asked for several times in a row.

    TRL's loader hands the whole batch of a rollout to every one of its steps, which look at it
    once. With a rollout every 64 steps, fetching 64 steps' rows each step costs more than training.
    """

    def __init__(self, rows):
        self._rows = rows
        self._last: tuple[list[int], list] = ([], [])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: list[int]) -> list[RolloutRows]:
        if indices != self._last[0]:
            columns = self._rows[indices]
            rows = zip(*columns.values(), strict=True)
            held = RolloutRows([dict(zip(columns, row, strict=True)) for row in rows])
            self._last = (indices, [held])
        return self._last[1]


def share_out(rollout: dict, accelerator, steps: int, pad_id: int) -> dict:
    """Shuffle a rollout, and give this process its part of each batch.

    The rows of all processes are shuffled together, so that a batch has the same rows on any number
    of processes. TRL shuffles the rows of each process separately.

    Args:
        rollout: this process's part: tensors (B,) and (B, T), prompts padded on the left, and
            scalars, which stay as they are.
        accelerator: accelerate's.
        steps: number of batches that the rollout makes; a divisor of B.
        pad_id: the padding token.
    """
    processes, process = accelerator.num_processes, accelerator.process_index
    count = len(rollout["prompt_ids"])
    order = torch.randperm(count * processes)
    if processes > 1:  # each process drew an order; all take the first one's
        order = broadcast(order.to(accelerator.device)).cpu()
    mine = order.view(steps, processes, count // steps)[:, process].flatten()

    def part(name: str, values: Tensor) -> Tensor:
        if values.ndim > 1 and processes > 1:
            padding = {"pad_index": pad_id if name.endswith("_ids") else 0}
            padding["pad_first"] = name.startswith("prompt")
            values = accelerator.pad_across_processes(values, dim=1, **padding)
        return accelerator.gather(values)[mine] if values.ndim else values

    return {name: part(name, values) for name, values in rollout.items()}
