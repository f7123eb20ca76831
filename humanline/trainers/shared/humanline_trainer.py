"""The mixin that all humanline trainers share: their reference follows the policy."""

import copy
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast
from unittest import mock

import torch
from accelerate.utils import is_peft_model, send_to_device
from torch import Tensor
from transformers import PreTrainedModel
from trl.models.utils import disable_gradient_checkpointing, prepare_deepspeed, prepare_fsdp

from humanline.files.validation import ConfigError
from humanline.files.weights import load_whole, not_finite
from humanline.method.perception import Perceive, Sampling
from humanline.method.reference import (
    AdapterReference,
    ModelReference,
    PolicyReference,
    Reference,
    leaving_the_base,
    load_reference,
    require_same_architecture,
    save_reference,
)
from humanline.trainers.batches.follow_policy import FollowPolicy
from humanline.trainers.batches.order import OwnOrder
from humanline.trainers.batches.require_steps import RequireSteps, require_batches
from humanline.trainers.batches.together import Sequences, images_of, scores_of
from humanline.trainers.batches.windows import SCORES, ReadsAhead
from humanline.trainers.rows.tokens import refuse_media, require_rows
from humanline.trainers.shared.checkpoints import WholeCheckpoints
from humanline.trainers.shared.manifest import read_manifest
from humanline.trainers.shared.metrics import KeepsMetrics
from humanline.trainers.shared.model_card import WritesCard
from humanline.trainers.shared.numbers import RequiresNumbers
from humanline.trainers.shared.stop_signal import StopsOnSigterm


class HumanlineTrainer(
    RequiresNumbers,
    KeepsMetrics,
    ReadsAhead,
    OwnOrder,
    StopsOnSigterm,
    WritesCard,
    WholeCheckpoints,
):
    """Mixin before a TRL trainer: its reference follows the policy.

    A trainer provides `_tokenized`, `_sequences` and `_add_head`. In return `_reference_scores`
    gives the log-probabilities of these sequences under the reference, however it is kept.
    """

    # For the run's record: this process's seconds of sampling and labelling, and its tokens.
    sampling_seconds = 0.0
    sampled_tokens = 0
    # True for an objective that TRL does not have: its loss is ours even with humanline=False.
    loss_is_ours = False
    # Numbers of rows of the training set that were left out or cut off; of a stream, so far.
    _row_counts: Mapping[str, int] = MappingProxyType({})

    def create_accelerator_and_postprocess(self):
        """Do what the Trainer does first while it is made, and say that the trainer is ours."""
        self.args.is_in_our_hands = True
        super().create_accelerator_and_postprocess()

    def _start_humanline(self, given_reference=None) -> None:
        """Make perception, reference and callbacks. Every trainer calls it last in `__init__`."""
        args = self.args
        args.is_in_our_hands = False  # another trainer may be given the same config
        self.perceive = args.make_perceive()
        self.add_callback(RequireSteps())
        # Of a random perception's last draw, in training and evaluation: its step and its number.
        self._last_draw = {True: (-1, 0), False: (-1, 0)}
        self.forget_what_is_ahead()
        if self.is_fsdp_enabled:
            self._sample_in_step()
        reference = self._reference = self._make_reference(given_reference)
        if args.humanline and args.sync_interval and isinstance(reference, PolicyReference):
            self._cached = reference
        if self._uses_reference:
            self.add_callback(FollowPolicy(self))
        self._watch_signal()

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name: str):
        """Tokenize a dataset by our code instead of TRL's."""
        require_rows(dataset, f"{dataset_name} set")
        if args.humanline:
            refuse_media(dataset, f"{dataset_name} set")
        dataset, counts = self._tokenized(dataset, processing_class, args, dataset_name)
        if dataset_name == "train":
            self._row_counts = counts
        return dataset

    def _tokenized(
        self, dataset, processing_class, args, name: str
    ) -> tuple[Any, Mapping[str, int]]:
        """The rows of a dataset as token ids, and how many were left out or cut off, by a name."""
        raise NotImplementedError

    def _sequences(self, inputs: dict) -> dict[str, Sequences]:
        """What of a batch the reference scores, by a name."""
        raise NotImplementedError

    def _add_head(self, model) -> None:
        """Give a model TRL's fused head for log-probabilities, as TRL gives it to references."""
        raise NotImplementedError

    def get_train_dataloader(self):
        return require_batches(super().get_train_dataloader(), self.args)

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            logs |= {f"humanline/{name}": count for name, count in self._row_counts.items()}
        super().log(logs, *args, **kwargs)

    def _sample_in_step(self) -> None:
        """Let `generate` continue until all processes are done: each has a part of every layer.

        transformers does so for a model with this mark. accelerate's sharding does not set it.
        """
        _inner(self.model)._is_fsdp_managed_module = True

    @property
    def _uses_reference(self) -> bool:
        """Whether the loss is ours: then it needs our reference."""
        return self.args.humanline or self.loss_is_ours

    def _make_reference(self, given) -> Reference | None:
        """Make the reference that the options ask for; take TRL's where the loss is TRL's."""
        args, kind, is_peft = self.args, self.args.reference, is_peft_model(self.model)
        if not self._uses_reference:
            return ModelReference(self.model, self.ref_model) if self.ref_model else None
        if given is not None:
            kind = "model"
            if args.humanline and args.sync_interval:
                require_same_architecture(self.model, self.ref_model)
        elif kind == "cached" and not (args.humanline and args.sync_interval):
            # Without syncs the policy is never the reference again, so a copy is needed.
            kind = "adapter" if is_peft else "model"
        if is_peft and AdapterReference.NAME in self.model.peft_config:
            # TRL made it. A Trainer that resumes would load it instead of the policy's adapter.
            self.model.delete_adapter(AdapterReference.NAME)
        if kind == "cached":
            return PolicyReference(self.model)
        if self.is_deepspeed_enabled and args.humanline and args.sync_interval:
            raise ValueError(
                "DeepSpeed updates the weights within the backward pass and leaves no moment to "
                "sync a reference before it; use reference='cached'"
            )
        if kind == "adapter":
            if not is_peft:
                raise ValueError("reference='adapter' needs a PEFT model; use cached or model")
            return AdapterReference(self.model)
        if self.ref_model is None:
            self.ref_model = self._second_model()
        return ModelReference(self.model, self.ref_model)

    def _second_model(self) -> torch.nn.Module:
        """Make a frozen copy of the policy, on the device."""
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and plugin.cpu_ram_efficient_loading:
            raise ValueError(
                "fsdp_cpu_ram_efficient_loading leaves every process but one without weights to "
                "copy; set it to false, or use reference='cached' with a sync_interval"
            )
        model = copy.deepcopy(self.model).eval().requires_grad_(False)
        # The copied `forward` was patched by TRL and still calls the policy. Patch the copy anew.
        inner = _inner(model)
        inner.__dict__.pop("forward", None)
        self._add_head(inner)
        if self.is_deepspeed_enabled:
            return prepare_deepspeed(model, self.accelerator)
        if self.is_fsdp_enabled:
            # FSDP2 adds FSDPModule to the model's own class, which TRL's type leaves out.
            return cast(torch.nn.Module, prepare_fsdp(model, self.accelerator))
        return self.accelerator.prepare_model(model, evaluation_mode=True)

    def _reference_scores(self, inputs: dict) -> dict[str, Tensor]:
        """Give the reference's log-probabilities of a batch: cached with it, or computed now."""
        return inputs[SCORES] if SCORES in inputs else self._scored([inputs])[0]

    @torch.no_grad()
    def _scored(self, batches: list[dict]) -> list[dict[str, Tensor]]:
        """Compute the reference's log-probabilities of batches; on a GPU of several at once."""
        of_batches = [self._sequences(batch) for batch in batches]
        sequences = [one for named in of_batches for one in named.values()]
        # Within one autocast the weights are cast once. It ends before the weights change.
        with self.reference.scoring() as model, self.log_probs_alone():
            was_training = model.training
            model.eval()
            checkpointing = self.args.gradient_checkpointing_kwargs
            try:
                # It is of the policy's class, of which `method` knows torch's alone.
                whole = cast(PreTrainedModel, model)
                with disable_gradient_checkpointing(whole, checkpointing):
                    scores = iter(scores_of(model, sequences, self._batches_at_once))
            finally:
                model.train(was_training)
        return [{name: next(scores) for name in named} for named in of_batches]

    @contextmanager
    def log_probs_alone(self) -> Iterator[None]:
        """Give the policy the head of a second model: it leaves out entropies and other metrics."""
        policy = _inner(self.model)
        forward = policy.forward
        self._add_head(policy)
        try:
            with self.accelerator.autocast():  # accelerate has put it into `forward`
                yield
        finally:
            policy.forward = forward

    @property
    def _batches_at_once(self) -> int:
        """How many batches are scored at once: in less memory than a training step takes.

        A step keeps what a batch leaves in all layers, or by gradient checkpointing the inputs of
        all layers, and scoring only what it leaves in one. Processes that share the weights must
        make equally many passes. On a CPU nothing would be faster.
        """
        if self.accelerator.device.type == "cpu" or self._shard is not None:
            return 1
        layers = getattr(self.model.config.get_text_config(), "num_hidden_layers", 1)
        return max(1, layers // (8 if self.args.gradient_checkpointing else 4))

    def _perception_of_batch(self) -> Perceive:
        """Make the batch's perception; seed a random one by run, step, batch and process."""
        if not isinstance(self.perceive, Sampling):
            return self.perceive
        step, is_training = self.state.global_step, self.model.training
        before, number = self._last_draw[is_training]
        self._last_draw[is_training] = (step, number + 1 if before == step else 0)
        seed = [self.args.seed, *self._last_draw[is_training], self.accelerator.process_index]
        return self.perceive.drawn([*seed, is_training], self.accelerator.device)

    @torch.no_grad()
    def _plain_outputs(self, model, inputs):
        """Compute the policy's logits for `compute_metrics`: the fused head makes none."""
        names = ("input_ids", "attention_mask")
        of_text = {name: inputs[name] for name in names}
        return model(**of_text, **images_of(inputs), use_cache=False)

    def _steps_since_sync(self) -> int:
        """Count the updates since the reference was copied; a sync before an update leaves one."""
        step, interval = self.state.global_step, self.args.sync_interval
        if not interval or step < interval:
            return step
        return step % interval + (0 if self.args.sync_after_update else 1)

    # Checkpoints.

    def save_whole_model(self, folder: Path) -> None:
        """Save the whole model in a folder, also if each process holds a part of it."""
        if not self.is_fsdp_enabled:
            self.save_model(str(folder))
            return
        # With another type the Trainer would save no model.
        plugin = self.accelerator.state.fsdp_plugin
        kind = plugin.state_dict_type
        plugin.set_state_dict_type("FULL_STATE_DICT")
        self.save_model(str(folder))
        plugin.set_state_dict_type(kind)

    @property
    def _shard(self) -> int | None:
        """The number of this process if each holds a part of the weights, else None."""
        is_sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        return self.accelerator.process_index if is_sharded else None

    @property
    def _reference_moves(self) -> bool:
        return bool(self.args.humanline and self.args.sync_interval)

    def _save(self, output_dir=None, state_dict=None):
        if broken := not_finite(self.model):
            raise ConfigError(
                f"step {self.state.global_step}: training ended with weights that are not finite, "
                f"{broken[0]} among them; nothing is saved: lower learning_rate"
            )
        if not isinstance(self._reference, AdapterReference):
            super()._save(output_dir, state_dict)
            return
        with self._reference.hidden():
            whole = self.model.state_dict() if state_dict is None else state_dict
            super()._save(output_dir, self._reference.without_it(whole))

    def _write_beside(self, folder):
        super()._write_beside(folder)
        if self.args.save_only_model:
            return
        self.save_unlogged(folder)
        if not self._reference_moves:
            return
        if self._shard is not None or self.args.should_save:
            save_reference(self.reference.state(), folder, self._shard)
        if self._cached:
            ahead = {"batches": list(self._ahead), "next_unscored": self._next_unscored}
            torch.save(ahead, folder / self._ahead_file)

    def _position(self):
        tokens = {"num_tokens": int(self._total_train_tokens)}
        return {"prepared_batches": self._prepared_batches} | tokens

    def _run_facts(self):
        facts = super()._run_facts() | {"humanline": self.args.humanline}
        if self._reference_moves or self.args.humanline:  # with sync_interval=None too
            for name in ("sync_interval", "sync_after_update", "sync_alpha"):
                facts[name] = getattr(self.args, name)
        if self._reference_moves:
            kinds = {PolicyReference: "cached", AdapterReference: "adapter"}
            facts["reference"] = kinds.get(type(self.reference), "model")
        return facts

    def _load_optimizer_and_scheduler(self, checkpoint):
        """Resume our state here: the Trainer calls this in every kind of distributed training."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        with self.reading(checkpoint):
            self._load_beside(Path(checkpoint))

    def _load_beside(self, checkpoint: Path) -> None:
        self.load_unlogged(checkpoint)
        position = read_manifest(checkpoint)["position"]
        self._prepared_batches = position["prepared_batches"]
        self._total_train_tokens = position["num_tokens"]
        if self._reference_moves:
            self.reference.load(load_reference(checkpoint, self._shard))
        if self._cached:
            ahead = load_on(self.accelerator.device, checkpoint / self._ahead_file)
            self._ahead, self._next_unscored = deque(ahead["batches"]), ahead["next_unscored"]

    @property
    def _ahead_file(self) -> str:
        return f"ahead-{self.accelerator.process_index}.pt"


def _inner(model):
    """The model that PEFT has wrapped, or a model itself."""
    return model.get_base_model() if is_peft_model(model) else model


def load_on(device: torch.device, path: Path):
    """Load saved batches, and move them to a device. torch.load itself refuses a device `cpu:0`."""
    return send_to_device(torch.load(path, map_location="cpu", weights_only=True), device)


@contextmanager
def only_the_policy(module, model, loss_is_ours: bool):
    """Let TRL's `__init__` load the policy alone if the loss is ours: no second model.

    Our reference is made from the policy itself, whose weights may differ from those at its path.
    Models that are loaded must have all of their weights.

    Args:
        module: TRL's module with the trainer.
        model: the trainer's argument: a model or its path.
        loss_is_ours: whether to load the policy alone.

    Raises:
        ConfigError: if a model lacks weights, or the policy's adapter has another name than TRL's.
    """
    load = partial(load_whole, module.create_model_from_path)
    policies = iter([load] if isinstance(model, str) else [])

    def load_policy(*args, **kwargs):
        loader = next(policies, None) if loss_is_ours else load
        return loader and loader(*args, **kwargs)

    loaders: dict[str, Any] = {"create_model_from_path": load_policy}
    if classifiers := getattr(module, "AutoModelForSequenceClassification", None):
        load_reward = partial(load_whole, classifiers.from_pretrained)
        loaders["AutoModelForSequenceClassification"] = SimpleNamespace(from_pretrained=load_reward)
    with mock.patch.multiple(module, **loaders), _trls_adapter(model):
        yield


def _trls_adapter(model):
    """Keep the base model unchanged while TRL adds its reference's adapter to a PEFT model."""
    if isinstance(model, str) or not is_peft_model(model):
        return nullcontext()
    if "default" not in model.peft_config:
        names = ", ".join(model.peft_config)
        raise ConfigError(f"the model's adapter is called {names}; TRL needs it to be `default`")
    return leaving_the_base(model)
