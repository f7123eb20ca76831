"""The reference of a humanline objective: the policy as it stood at the last sync.

Three classes keep a reference, with one interface: `scoring()` lends the reference as a model, and
`sync()` gives it the policy's present weights.

- `ModelReference`: a second model.
- `AdapterReference`: a frozen copy of a PEFT policy's adapter, on the same base model.
- `PolicyReference`: the policy itself until its first update after a sync; from then on a snapshot
  of its weights, kept in main memory and swapped in to score.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule


class Reference(Protocol):
    """A model that an objective compares the policy with, however its weights are kept."""

    def scoring(self) -> AbstractContextManager[torch.nn.Module]:
        """Lend the reference."""

    def sync(self, alpha: float = 1.0) -> None:
        """Move all weights to alpha policy + (1 - alpha) reference; 1 copies the policy."""

    def state(self) -> dict[str, Tensor]:
        """What of the reference a checkpoint needs, by the names of weights."""

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""


class ModelReference:
    """Keep the reference as a second model of the policy's architecture."""

    def __init__(self, policy: torch.nn.Module, model: torch.nn.Module):
        self._policy, self._model = policy, model

    @contextmanager
    def scoring(self) -> Iterator[torch.nn.Module]:
        """Lend the reference."""
        yield self._model

    def sync(self, alpha: float = 1.0) -> None:
        """Set all weights to alpha policy + (1 - alpha) reference; alpha = 1 copies the policy."""
        copy_weights(self._policy, self._model, alpha)

    def state(self) -> dict[str, Tensor]:
        """Give the reference's weights by name, for a checkpoint."""
        return {name: tensor.contiguous() for name, tensor in _weights(self._model).items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the weights that `state` gave."""
        _fill(_weights(self._model), state)


class AdapterReference:
    """Keep the reference as a frozen copy of a PEFT policy's adapter, on the same base model.

    Raises:
        ValueError: if PEFT refuses a second adapter.
    """

    NAME = "ref"  # TRL's name

    def __init__(self, policy: Any):
        self._policy = policy
        self._adapter = policy.active_adapter
        if self.NAME in policy.peft_config:
            policy.delete_adapter(self.NAME)  # an older reference, perhaps of another adapter
        # PEFT draws random weights, which are then overwritten. Leave the random state as it was.
        with torch.random.fork_rng(), leaving_the_base(policy):
            try:
                policy.add_adapter(self.NAME, copy.deepcopy(policy.peft_config[self._adapter]))
            except ValueError as error:
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"reference='adapter': PEFT refuses a second adapter ({reason}); use cached or "
                    "model"
                ) from None
        self._freeze()
        self.sync()

    @contextmanager
    def scoring(self) -> Iterator[torch.nn.Module]:
        """Lend the policy with the reference's adapter instead of its own."""
        self._policy.set_adapter(self.NAME, inference_mode=True)
        try:
            yield self._policy
        finally:
            self._policy.set_adapter(self._adapter)
            self._freeze()

    def sync(self, alpha: float = 1.0) -> None:
        """Set the reference's adapter to alpha policy + (1 - alpha) reference."""
        _blend(self._weights(self._adapter), self._weights(self.NAME), alpha)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide the reference's adapter while the policy is saved.

        From a checkpoint with both the Trainer would load the reference's adapter alone.
        """
        config = self._policy.peft_config.pop(self.NAME)
        try:
            yield
        finally:
            self._policy.peft_config[self.NAME] = config

    def without_it(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Leave its weights out of a policy's state dict: hidden, PEFT would save them, too."""
        return {
            name: tensor
            for name, tensor in state.items()
            if f".{self.NAME}." not in name and not name.endswith(f".{self.NAME}")
        }

    def state(self) -> dict[str, Tensor]:
        """Give the adapter's weights by name, for a checkpoint."""
        return self._weights(self.NAME)

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the weights that `state` gave."""
        _fill(self._weights(self.NAME), state)

    def _freeze(self) -> None:
        for parameter in self._parameters(self.NAME).values():
            parameter.requires_grad_(False)

    def _weights(self, adapter: str) -> dict[str, Tensor]:
        _reshard(self._policy)
        return {name: _local(tensor) for name, tensor in self._parameters(adapter).items()}

    def _parameters(self, adapter: str) -> dict[str, torch.nn.Parameter]:
        infix, suffix = f".{adapter}.", f".{adapter}"
        return {
            name.replace(infix, ".").removesuffix(suffix): parameter
            for name, parameter in self._policy.named_parameters()
            if infix in name or name.endswith(suffix)
        }


@contextmanager
def leaving_the_base(policy: Any) -> Iterator[None]:
    """Keep the base model unchanged while a PEFT policy gets a second adapter.

    Some initializations (PiSSA, OLoRA, LoftQ) take the adapter's weights out of the base model, and
    some replicate layers. The first adapter has done so already, and the second gets its weights.
    """
    neutral = {"init_lora_weights": True, "layer_replication": None}
    held = [
        (config, name, getattr(config, name))
        for config in policy.peft_config.values()
        for name in neutral
        if hasattr(config, name)
    ]
    for config, name, _ in held:
        setattr(config, name, neutral[name])
    try:
        yield
    finally:
        for config, name, value in held:
            setattr(config, name, value)


class PolicyReference:
    """Take the policy itself for the reference until it is updated, then a snapshot.

    Whoever updates the policy calls `forget_policy`. A snapshot exists only if `keep_snapshot` was
    called before the update; it holds the trainable weights alone.
    """

    def __init__(self, policy: torch.nn.Module):
        self._policy = policy
        self._snapshot: dict[str, Tensor] = {}  # of trainable weights; empty: none is kept
        self._is_policy = True
        self._is_lent = False  # whether the snapshot's weights are in the policy now

    @contextmanager
    def scoring(self) -> Iterator[torch.nn.Module]:
        """Lend the policy with the reference's weights; a call within a call swaps nothing.

        Raises:
            RuntimeError: if the policy was updated and no snapshot was kept.
        """
        if self._is_policy or self._is_lent:
            yield self._policy
            return
        if not self._snapshot:
            raise RuntimeError(
                "reference='cached' kept no old weights for this evaluation: give the trainer an "
                "eval_dataset from the start of the run, before any resume, and evaluate by "
                "eval_strategy, or use reference='model'"
            )
        self._swap()
        self._is_lent = True
        try:
            yield self._policy
        finally:
            self._is_lent = False
            self._swap()

    def sync(self, alpha: float = 1.0) -> None:
        """Make the policy's present weights the reference.

        Raises:
            ValueError: unless alpha is 1, for the weights to mix with are not kept.
        """
        if alpha != 1:
            raise ValueError(f"alpha={alpha} mixes the policy with weights that are not kept")
        self._is_policy = True
        self._snapshot = {}

    def keep_snapshot(self) -> None:
        """Copy the reference's weights to main memory, before the policy's next update."""
        if not self._is_policy or self._snapshot:
            return
        weights = self._trainable()
        self._snapshot = {name: tensor.to("cpu", copy=True) for name, tensor in weights.items()}

    def forget_policy(self) -> None:
        """Note that the policy is no longer the reference: it is being updated."""
        self._is_policy = False

    def state(self) -> dict[str, Tensor]:
        """Give the snapshot, for a checkpoint; empty if none is kept."""
        return self._snapshot

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the weights that `state` gave."""
        self._is_policy = False
        self._snapshot = state

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange policy and snapshot tensor by tensor, so that memory holds one extra at most."""
        for name, tensor in self._trainable().items():
            held = tensor.to("cpu", copy=True)
            tensor.copy_(self._snapshot[name])
            self._snapshot[name].copy_(held)

    def _trainable(self) -> dict[str, Tensor]:
        _reshard(self._policy)
        named = self._policy.named_parameters()
        return {name: _local(tensor) for name, tensor in named if tensor.requires_grad}


def copy_weights(source: torch.nn.Module, target: torch.nn.Module, alpha: float = 1.0) -> None:
    """Set all parameters and buffers of `target` to alpha source + (1 - alpha) target, in place.

    Raises:
        ValueError: if the two models differ in architecture.
    """
    require_same_architecture(source, target)
    _blend(_weights(source), _weights(target), alpha)


def require_same_architecture(policy: torch.nn.Module, reference: torch.nn.Module) -> None:
    """Raise a ValueError unless the reference can take the policy's weights."""
    ours, theirs = (
        {name: tensor.shape for name, tensor in _weights(model).items()}
        for model in (policy, reference)
    )
    if ours != theirs:
        raise ValueError(
            "the reference must have the architecture of the policy, whose weights it takes at a "
            "sync, PEFT's wrapping included; leave ref_model out, or set sync_interval=None"
        )


@torch.no_grad()
def _blend(source: dict[str, Tensor], target: dict[str, Tensor], alpha: float) -> None:
    for name, tensor in target.items():
        if alpha == 1.0 or not tensor.is_floating_point():
            tensor.copy_(source[name])
        else:
            tensor.lerp_(source[name].to(tensor), alpha)


@torch.no_grad()
def _fill(target: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    if target.keys() != state.keys():
        raise ValueError("the saved reference is not of this model's architecture")
    for name, tensor in target.items():
        tensor.copy_(state[name])


def _weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """List all parameters and buffers by name, tied ones once."""
    _reshard(model)
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: _local(tensor) for name, tensor in named}


def _reshard(model: torch.nn.Module) -> None:
    """Free the whole weights that FSDP2 gathered: the next forward pass would use the old ones."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _local(tensor: Tensor) -> Tensor:
    """Give this process's part of a tensor: its shard under FSDP2 or ZeRO-3, else all of it."""
    if hasattr(tensor, "ds_tensor"):
        return tensor.ds_tensor
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor.detach()


def save_reference(state: dict[str, Tensor], checkpoint: Path, rank: int | None = None) -> None:
    """Save a reference's `state` in a checkpoint's folder; `rank` is the number of a shard."""
    from safetensors.torch import save_file

    save_file(state, reference_file(checkpoint, rank))


def load_reference(checkpoint: Path, rank: int | None = None) -> dict[str, Tensor]:
    """Load what `save_reference` saved."""
    from safetensors.torch import load_file

    return load_file(reference_file(checkpoint, rank))


def reference_file(checkpoint: Path, rank: int | None = None) -> Path:
    """Name the file of a checkpoint's reference, or of one shard."""
    return checkpoint / (
        "reference.safetensors" if rank is None else f"reference-{rank}.safetensors"
    )
