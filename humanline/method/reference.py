"""The reference of a humanline objective: the policy as it stood at the last sync.

Three ways to have one, with one interface: `scoring()` lends a model that is the reference, and
`sync()` makes the policy's present weights the reference's.

- `ModelReference`: a second model.
- `AdapterReference`: a frozen copy of a PEFT policy's adapter, on the same base model.
- `PolicyReference`: no copy at all for as long as the policy has not been updated since the sync;
  after that a snapshot of its weights, kept off the device and swapped in to score.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule


class ModelReference:
    """A second model of the policy's architecture."""

    def __init__(self, policy: torch.nn.Module, model: torch.nn.Module):
        self._policy, self._model = policy, model

    @contextmanager
    def scoring(self) -> Iterator[torch.nn.Module]:
        """Lend the reference."""
        yield self._model

    def sync(self, alpha: float = 1.0) -> None:
        """Move all weights to alpha policy + (1 - alpha) reference; 1 copies the policy."""
        copy_weights(self._policy, self._model, alpha)

    def state(self) -> dict[str, Tensor]:
        """The reference's weights, for a checkpoint."""
        return {name: tensor.contiguous() for name, tensor in _weights(self._model).items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""
        _fill(_weights(self._model), state)


class AdapterReference:
    """A frozen copy of a PEFT policy's adapter, beside it on the same base model."""

    NAME = "ref"  # as TRL calls it

    def __init__(self, policy):
        self._policy = policy
        self._adapter = policy.active_adapter
        if self.NAME in policy.peft_config:
            policy.delete_adapter(self.NAME)  # another's, of another adapter perhaps
        # Its random weights are overwritten: draw them aside.
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
        """Lend the policy with the reference's adapter in place of its own."""
        self._policy.set_adapter(self.NAME, inference_mode=True)
        try:
            yield self._policy
        finally:
            self._policy.set_adapter(self._adapter)
            self._freeze()

    def sync(self, alpha: float = 1.0) -> None:
        """Move the reference's adapter to alpha policy + (1 - alpha) reference."""
        _blend(self._weights(self._adapter), self._weights(self.NAME), alpha)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """While the policy is saved, as if it had its own adapter alone.

        The Trainer would load the reference's adapter, and then not the policy's.
        """
        config = self._policy.peft_config.pop(self.NAME)
        try:
            yield
        finally:
            self._policy.peft_config[self.NAME] = config

    def state(self) -> dict[str, Tensor]:
        """The adapter's weights, for a checkpoint."""
        return self._weights(self.NAME)

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""
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
def leaving_the_base(policy) -> Iterator[None]:
    """While an adapter is added to a PEFT policy whose weights are to be another adapter's.

    Some ways to initialize an adapter (PiSSA, OLoRA, LoftQ) take its weights out of the base
    model's, and layers may be replicated for it: what was done for the first adapter already.
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
    """The policy itself while it has not been updated since the last sync; then a snapshot.

    Whoever updates the policy must call `forget_policy` after the update. A snapshot is only
    there if `keep_snapshot` was called before it; it holds the trainable weights alone.
    """

    def __init__(self, policy: torch.nn.Module):
        self._policy = policy
        self._snapshot: dict[str, Tensor] | None = None
        self._is_policy = True
        self._is_lent = False  # with the snapshot's weights in place

    @contextmanager
    def scoring(self) -> Iterator[torch.nn.Module]:
        """Lend the policy with the reference's weights; within itself, as it is.

        Raises:
            RuntimeError: if the policy has moved on and no snapshot was kept.
        """
        if self._is_policy or self._is_lent:
            yield self._policy
            return
        if self._snapshot is None:
            raise RuntimeError(
                "reference='cached' keeps no weights to evaluate with here: give the trainer an "
                "eval_dataset from the start of the run, before any resume, and evaluate when "
                "eval_strategy says, or use reference='model'"
            )
        snapshot = self._snapshot
        self._swap(snapshot)
        self._is_lent = True
        try:
            yield self._policy
        finally:
            self._is_lent = False
            self._swap(snapshot)

    def sync(self) -> None:
        """Make the policy's present weights the reference."""
        self._is_policy = True
        self._snapshot = None

    def keep_snapshot(self) -> None:
        """Keep the reference's weights in main memory, to outlast the policy's next update."""
        if not self._is_policy or self._snapshot is not None:
            return
        weights = self._trainable()
        self._snapshot = {name: tensor.to("cpu", copy=True) for name, tensor in weights.items()}

    def forget_policy(self) -> None:
        """The policy is about to be updated: from now on it is not the reference."""
        self._is_policy = False

    def state(self) -> dict[str, Tensor]:
        """The snapshot, for a checkpoint; empty if none is kept."""
        return self._snapshot or {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""
        self._is_policy = False
        self._snapshot = state or None

    @torch.no_grad()
    def _swap(self, snapshot: dict[str, Tensor]) -> None:
        """Exchange policy and snapshot tensor by tensor: never more than one extra."""
        for name, tensor in self._trainable().items():
            held = tensor.to("cpu", copy=True)
            tensor.copy_(snapshot[name])
            snapshot[name].copy_(held)

    def _trainable(self) -> dict[str, Tensor]:
        _reshard(self._policy)
        named = self._policy.named_parameters()
        return {name: _local(tensor) for name, tensor in named if tensor.requires_grad}


def copy_weights(source: torch.nn.Module, target: torch.nn.Module, alpha: float = 1.0) -> None:
    """Move all parameters and buffers of `target` to alpha source + (1 - alpha) target, in place.

    Raises:
        ValueError: if the two models are not of the same architecture.
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
    """All parameters and buffers by name; tied ones once."""
    _reshard(model)
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: _local(tensor) for name, tensor in named}


def _reshard(model: torch.nn.Module) -> None:
    """Free whole weights that FSDP2 has gathered and may keep: the next forward would use them."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor: its shard under FSDP2 or ZeRO-3, else all of it."""
    if hasattr(tensor, "ds_tensor"):
        return tensor.ds_tensor
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor.detach()


def save_reference(state: dict[str, Tensor], checkpoint: Path, rank: int | None = None) -> None:
    """Save a reference's `state` beside a checkpoint of the policy; `rank` numbers shards."""
    from safetensors.torch import save_file

    save_file(state, reference_file(checkpoint, rank))


def load_reference(checkpoint: Path, rank: int | None = None) -> dict[str, Tensor]:
    """Load what `save_reference` saved."""
    from safetensors.torch import load_file

    return load_file(reference_file(checkpoint, rank))


def reference_file(checkpoint: Path, rank: int | None = None) -> Path:
    """Where a checkpoint's reference lies, or a shard of it."""
    return checkpoint / (
        "reference.safetensors" if rank is None else f"reference-{rank}.safetensors"
    )
