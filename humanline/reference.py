"""The reference model: a second model that takes the policy's weights when it is told to."""

from pathlib import Path

import torch
from transformers import TrainerCallback

_FILE = "reference.safetensors"


@torch.no_grad()
def copy_weights(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Copy all parameters and buffers of `source` into `target`, in place.

    Raises:
        ValueError: if the two models are not of the same architecture.
    """
    pairs = []
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = dict(getattr(target, kind)()), dict(getattr(source, kind)())
        if {n: t.shape for n, t in ours.items()} != {n: t.shape for n, t in theirs.items()}:
            raise ValueError("the reference must have the architecture of the policy")
        pairs += [(tensor, theirs[name]) for name, tensor in ours.items()]
    for tensor, new in pairs:
        tensor.copy_(new)


def save_reference(reference: torch.nn.Module, checkpoint: Path) -> None:
    """Save the reference's weights beside a checkpoint of the policy."""
    from safetensors.torch import save_model

    save_model(reference, str(checkpoint / _FILE))


def load_reference(reference: torch.nn.Module, checkpoint: Path) -> None:
    """Load what `save_reference` saved."""
    from safetensors.torch import load_model

    load_model(reference, checkpoint / _FILE)


class SyncReference(TrainerCallback):
    """Every `interval` optimizer steps, give the reference the policy's weights.

    The Trainer calls this after the backward pass and gradient clipping, before the update. So
    after the step of a sync the reference equals the policy *before* that step: a reference copied
    after the update would, at an interval of one, make every log-ratio zero.
    """

    def __init__(self, sync, interval: int):
        self.sync = sync
        self.interval = interval

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if (state.global_step + 1) % self.interval == 0:
            self.sync()
