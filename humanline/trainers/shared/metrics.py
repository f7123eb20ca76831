"""The metrics that the trainers log: TRL's, under TRL's names, and humanline's own.

A device works behind the program, which queues its operations. Whoever reads a number of it waits
until the queue is empty, and then the device waits for the program. So metrics stay on the device,
and are read, for all processes together, when they are logged.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from humanline.trainers.options.trainer import TrainerOfTrl

# Of a batch: log-probabilities (B, T) of policy and reference, in nats, and the mask (B, T), which
# is non-zero on the tokens that count.
Scores = tuple[Tensor, Tensor, Tensor]

_QUANTILES = (0.05, 0.5, 0.95)


class Mean:
    """A mean over all processes that is read when it is logged, or the difference of two of them.

    Args:
        total, count: this process's sum, and the number of its terms; scalars. If no process has
            a term, nothing is logged.
    """

    def __init__(self, total: Tensor, count: Tensor):
        self.parts = [torch.stack([total.detach().float(), count.float()])]  # (2,) each

    def minus(self, other: "Mean") -> "Mean":
        """Make the difference of two means."""
        difference = copy.copy(self)
        difference.parts = [*self.parts, *other.parts]
        return difference

    @classmethod
    def of_known(cls, values: Tensor) -> list["Mean"]:
        """Make the mean of each of (N,) values over the processes, without nan."""
        known = ~values.isnan()
        return list(map(cls, torch.where(known, values, 0.0), known))


class KeepsMetrics(TrainerOfTrl):
    """Mixin before a TRL trainer: it measures, and reads, when the device has other work."""

    _measures: tuple[Callable[[], None], ...] = ()
    _resumed: dict[str, Any] | None = None  # of a checkpoint, until training begins

    def measure_later(self, measure: Callable[[], None]) -> None:
        """Compute metrics while the device computes the gradient; in evaluation compute them now.

        Before the backward pass the device would wait for these many small operations.
        """
        if self.model.training:
            self._measures += (measure,)
        else:
            measure()

    def training_step(self, *args, **kwargs):
        """Do what TRL does, and compute the metrics of this batch."""
        loss = super().training_step(*args, **kwargs)
        self._measure()
        return loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        self._measure()
        self._total_train_tokens = int(self._total_train_tokens)
        for metrics in self._metrics.values():
            _read_all(metrics, self.accelerator.gather)
        super().log(logs, *args, **kwargs)

    def _run_epoch(self, *args, **kwargs):
        resumed, self._resumed = self._resumed, None
        if resumed:
            self._tr_loss += resumed["loss"]
            self._globalstep_last_logged = resumed["last_logged"]
            self._metrics["train"].update(resumed["metrics"])
        super()._run_epoch(*args, **kwargs)

    def save_unlogged(self, folder: Path) -> None:
        """Save what this process has measured since the last log. All processes call this."""
        self._measure()
        metrics = self._metrics["train"]
        _read_all(metrics, self.accelerator.gather)
        plain = {n: [x if type(x) is int else float(x) for x in v] for n, v in metrics.items()}
        content = {"loss": self._tr_loss.item(), "last_logged": self._globalstep_last_logged}
        torch.save(content | {"metrics": plain}, folder / self._unlogged_file)

    def load_unlogged(self, checkpoint: Path) -> None:
        """Load what `save_unlogged` saved, if it did: older checkpoints lack it."""
        path = checkpoint / self._unlogged_file
        self._resumed = torch.load(path, weights_only=True) if path.exists() else None

    @property
    def _unlogged_file(self) -> str:
        return f"unlogged-{self.accelerator.process_index}.pt"

    @torch.no_grad()
    def _measure(self) -> None:
        measures, self._measures = self._measures, ()
        for measure in measures:
            measure()


def _read_all(metrics: dict[str, list], gather: Callable[[Tensor], Tensor]) -> None:
    """Replace what is on the device by numbers, all at once."""
    found = [x for values in metrics.values() for x in values]
    parts = {id(part): part for x in found if isinstance(x, Mean) for part in x.parts}
    read: dict[int, float] = {}  # of tensors; nan for the mean of nothing
    if parts:
        sums = gather(torch.stack([*parts.values()])[None]).sum(0)
        read |= zip(parts, (sums[:, 0] / sums[:, 1]).tolist(), strict=True)
    scalars = [x for x in found if isinstance(x, Tensor)]
    for dtype in {x.dtype for x in scalars}:  # the count of tokens is no float
        alike = {id(x): x for x in scalars if x.dtype == dtype}
        read |= zip(alike, torch.stack([*alike.values()]).tolist(), strict=True)

    def number(x: Any) -> float | None:
        if not isinstance(x, Mean):
            return read[id(x)] if isinstance(x, Tensor) else x
        first, *others = (read[id(part)] for part in x.parts)
        value = first - sum(others)
        return None if math.isnan(value) else value

    for name, values in list(metrics.items()):
        metrics[name] = [x for x in map(number, values) if x is not None]
        if not metrics[name]:
            del metrics[name]


class _Unread(TorchFunctionMode):
    """Leaves a number on the device where a program would read it by `item`."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is Tensor.item:
            return args[0].detach().reshape(())
        return function(*args, **(kwargs or {}))


@contextmanager
def reading_nothing() -> Iterator[None]:
    """Let TRL's code append tensors to its metrics where it would append numbers."""
    with _Unread():
        yield


def least(values: Tensor) -> Tensor:
    """Find the least of (N,) values, without nan; nan if all are. TRL's `nanmin` reads numbers."""
    known = ~values.isnan()
    return torch.where(known.any(), torch.where(known, values, torch.inf).amin(), torch.nan)


def greatest(values: Tensor) -> Tensor:
    """Find the greatest of (N,) values as `least` does; instead of TRL's `nanmax`."""
    return -least(-values)


def log_perception(trainer, log_ratio: Tensor, mask: Tensor, passing: Tensor, suffix="") -> None:
    """Log the share of unclipped tokens and quantiles of the log-ratio.

    Args:
        trainer: a humanline trainer.
        log_ratio, mask: (B, T), in nats.
        passing: (B, T), each token's chance to pass a gradient, and 0 off the mask; see
            `perception.passing`.
        suffix: end of the metrics' names.
    """
    metrics, counted = metrics_of(trainer), mask.bool()
    unclipped = passing.float().sum() / counted.sum()  # nan if there is none
    known = torch.where(counted, log_ratio.detach().float(), torch.nan).flatten()
    levels = torch.tensor(_QUANTILES).to(known.device, non_blocking=True)
    quantiles = torch.nanquantile(known, levels)
    share, *values = Mean.of_known(torch.stack([unclipped, *quantiles]))
    metrics[f"humanline/unclipped{suffix}"].append(share)
    for level, value in zip(_QUANTILES, values, strict=True):
        metrics[f"humanline/log_ratio_q{round(100 * level):02d}{suffix}"].append(value)


def metrics_of(trainer) -> dict[str, list]:
    """Return the lists that hold the trainer's metrics of training, or of evaluation."""
    return trainer._metrics["train" if trainer.model.training else "eval"]


def log_preference_metrics(trainer, outputs, inputs, chosen: Tensor, rewards: Tensor) -> None:
    """Log the metrics of TRL's `DPOTrainer` and `KTOTrainer` under TRL's names.

    Args:
        trainer: the trainer that logs them.
        outputs: the policy's outputs for the batch, from TRL's fused head.
        inputs: the batch; `completion_mask` is (B, T).
        chosen: (B,) boolean, true for chosen or desirable rows.
        rewards: (B,) beta times the summed perceived log-ratio, in nats.
    """
    metrics = metrics_of(trainer)
    mask = inputs["completion_mask"][:, 1:].bool()
    width = mask.size(1)

    def log_mean(name: str, values: Tensor, where: Tensor) -> Mean:
        """Log the mean over all processes, if there is something to average."""
        mean = Mean((values * where).sum(), where.sum())
        metrics[name].append(mean)
        return mean

    if trainer.model.training:
        tokens = trainer.accelerator.gather(inputs["attention_mask"].sum()).sum()
        trainer._total_train_tokens += tokens // trainer._tp_size
    metrics["num_tokens"] = [trainer._total_train_tokens]
    log_mean("entropy", outputs.entropy[:, -width:].detach(), mask)
    if outputs.is_top1 is not None:  # None in KTO, as in TRL's
        log_mean("mean_token_accuracy", outputs.is_top1[:, -width:], mask & chosen[:, None])
    log_probs = (outputs.log_probs[:, -width:].detach() * mask).sum(1)
    logits = outputs.mean_logits[:, -width:].detach()
    of_rewards = []
    for name, rows in (("chosen", chosen), ("rejected", ~chosen)):
        of_rewards.append(log_mean(f"rewards/{name}", rewards, rows))
        log_mean(f"logps/{name}", log_probs, rows)
        log_mean(f"logits/{name}", logits, mask & rows[:, None])
    metrics["rewards/margins"].append(of_rewards[0].minus(of_rewards[1]))
