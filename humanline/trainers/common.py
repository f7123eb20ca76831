"""What the three humanline trainers share: a reference that follows the policy."""

import copy
import math
from collections import defaultdict, deque
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from unittest import mock

import torch
from accelerate.utils import is_peft_model, send_to_device
from torch import Tensor
from transformers import TrainerCallback
from trl.models.utils import disable_gradient_checkpointing, prepare_deepspeed, prepare_fsdp

from humanline.perception import Rejection
from humanline.reference import (
    AdapterReference,
    ModelReference,
    PolicyReference,
    leaving_the_base,
    load_reference,
    reference_file,
    require_same_architecture,
    save_reference,
)
from humanline.trainers.lookahead import Lookahead
from humanline.trainers.rows import refuse_media, require_rows
from humanline.trainers.work import RequireSteps
from humanline.validation import ConfigError
from humanline.weights import load_whole

# Keys of a batch that was prepared before its step.
_SCORES = "reference_scores"
_METRICS = "metrics_of_preparation"


class HumanlineTrainer:
    """Mixin before a TRL trainer: its reference follows the policy.

    A trainer provides `_scores(model, inputs)`, the token log-probabilities of a batch by name,
    and `_add_head(model)`, which gives a copy of the policy TRL's fused head;
    `_reference_scores(inputs)` then gives those of the reference, however it is kept.
    """

    # For the run's record: what this process spent on sampling and labelling, and sampled.
    sampling_seconds = 0.0
    sampled_tokens = 0
    _lookahead: Lookahead | None = None
    _keeps_cache = False
    # Rows of the training set that were left out or cut off, those of a stream so far.
    _rows_told: ClassVar[dict[str, int]] = {}

    def _start_humanline(self, given_reference=None) -> None:
        """Call at the end of `__init__`."""
        args = self.args
        self.perceive = args.make_perceive()
        self.add_callback(RequireSteps())
        # In training and in evaluation: the step of a random perception's last draw, its number.
        self._drawn = {True: (-1, 0), False: (-1, 0)}
        self.forget_what_is_ahead()
        if args.humanline:
            self._refuse_unsupported_models()
        if self.is_fsdp_enabled:
            self._sample_in_step()
        self.reference = self._make_reference(given_reference)
        if args.humanline and args.sync_interval:
            self._keeps_cache = isinstance(self.reference, PolicyReference)
            self.add_callback(FollowPolicy(self))

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name: str):
        """TRL's place to tokenize a dataset; rows are read and rendered by our one way."""
        require_rows(dataset, f"{dataset_name} set")
        if args.humanline:
            refuse_media(dataset, f"{dataset_name} set")
        dataset, counts = self._tokenized(dataset, processing_class, args, dataset_name)
        if dataset_name == "train":
            self._rows_told = counts
        return dataset

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            logs |= {f"humanline/{name}": count for name, count in self._rows_told.items()}
        super().log(logs, *args, **kwargs)

    def compute_loss(self, model, inputs, *args, **kwargs):
        """TRL's, and the end of training where it is no number.

        Raises:
            ConfigError: if the loss is nan or infinite, before any weight has changed.
        """
        result = super().compute_loss(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if not loss.isfinite().all():
            raise ConfigError(self._no_number("loss", loss.mean().item()))
        return result

    def _get_grad_norm(self, model, *args, **kwargs):
        """The Trainer's, asked before each update, which a gradient of nan would spread by."""
        norm = super()._get_grad_norm(model, *args, **kwargs)
        skips_itself = getattr(self.accelerator, "scaler", None) is not None  # float16's
        if norm is not None and not math.isfinite(norm) and not skips_itself:
            raise ConfigError(self._no_number("gradient's norm", float(norm)))
        return norm

    def _require_numbers(self, policy: Tensor, reference: Tensor, mask: Tensor) -> None:
        """Refuse log-probabilities that are no numbers: clipped, they would be ones."""
        log_ratio = (policy - reference).detach()[mask.bool()]
        if not log_ratio.isfinite().all():
            value = log_ratio[~log_ratio.isfinite()][0].item()
            raise ConfigError(self._no_number("log-ratio of a token", value))

    def _no_number(self, name: str, value: float) -> str:
        return (
            f"step {self.state.global_step + 1}: the {name} is {value}; nothing is saved: lower "
            "learning_rate, or look for broken weights and rows"
        )

    def _refuse_unsupported_models(self) -> None:
        if getattr(self, "_is_vision_dataset", False):
            raise ValueError("humanline trains on text only; this dataset has images")
        if self.aux_loss_enabled:
            raise ValueError("humanline has no auxiliary loss; set router_aux_loss_coef=0.0")

    def _sample_in_step(self) -> None:
        """Have `generate` go on until all processes are done: each has a part of every layer.

        transformers does so for models with a mark, which its own sharding leaves on them, but
        accelerate's does not.
        """
        policy = self.model.get_base_model() if is_peft_model(self.model) else self.model
        policy._is_fsdp_managed_module = True

    @property
    def _uses_reference(self) -> bool:
        """Whether the loss is ours, and so needs our reference."""
        return self.args.humanline

    def _make_reference(self, given):
        """The reference that the options ask for; TRL's, if any, where the loss is TRL's."""
        args, kind, is_peft = self.args, self.args.reference, is_peft_model(self.model)
        if not self._uses_reference:
            return ModelReference(self.model, self.ref_model) if self.ref_model else None
        if given is not None:
            kind = "model"
            if args.humanline and args.sync_interval:
                require_same_architecture(self.model, self.ref_model)
        elif kind == "cached" and not (args.humanline and args.sync_interval):
            # A reference that stays behind for good has to be kept.
            kind = "adapter" if is_peft else "model"
        if is_peft and AdapterReference.NAME in self.model.peft_config:
            # TRL's, and not needed: a Trainer that resumes would load it and nothing else.
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
        """A frozen copy of the policy, on the device."""
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and plugin.cpu_ram_efficient_loading:
            raise ValueError(
                "fsdp_cpu_ram_efficient_loading leaves every process but one without weights to "
                "copy; set it to false, or use reference='cached' with a sync_interval"
            )
        model = copy.deepcopy(self.model).eval().requires_grad_(False)
        # The copy's patched forward would still reach for the policy: patch it anew.
        inner = model.get_base_model() if is_peft_model(model) else model
        inner.__dict__.pop("forward", None)
        self._add_head(inner)
        if self.is_deepspeed_enabled:
            return prepare_deepspeed(model, self.accelerator)
        if self.is_fsdp_enabled:
            return prepare_fsdp(model, self.accelerator)
        return self.accelerator.prepare_model(model, evaluation_mode=True)

    @torch.no_grad()
    def _reference_scores(self, inputs: dict) -> dict[str, Tensor]:
        """The reference's log-probabilities of a batch: cached with it, or computed now."""
        if _SCORES in inputs:
            return inputs[_SCORES]
        with self.reference.scoring() as model:
            was_training = model.training
            model.eval()
            checkpointing = self.args.gradient_checkpointing_kwargs
            try:
                with disable_gradient_checkpointing(model, checkpointing):
                    return self._scores(model, inputs)
            finally:
                model.train(was_training)

    def _perception_of_batch(self):
        """What to perceive a batch with; a random one is seeded by run, step, batch and process."""
        if not isinstance(self.perceive, Rejection):
            return self.perceive
        step, is_training = self.state.global_step, self.model.training
        before, number = self._drawn[is_training]
        self._drawn[is_training] = (step, number + 1 if before == step else 0)
        seed = [self.args.seed, *self._drawn[is_training], self.accelerator.process_index]
        return self.perceive.drawn([*seed, is_training], self.accelerator.device)

    @torch.no_grad()
    def _plain_outputs(self, model, inputs):
        """The policy's logits of a batch, for `compute_metrics`: the fused head makes none."""
        names = ("input_ids", "attention_mask")
        return model(**{name: inputs[name] for name in names}, use_cache=False)

    def _steps_since_sync(self) -> int:
        """Updates that the policy is ahead of the reference; a sync before one leaves it ahead."""
        step, interval = self.state.global_step, self.args.sync_interval
        if not interval or step < interval:
            return step
        return step % interval + (0 if self.args.sync_after_update else 1)

    # The batches of the steps to come, scored by the policy while it is the reference.

    def forget_what_is_ahead(self) -> None:
        self._ahead: deque[dict] = deque()  # prepared, and scored, before their step
        self._next_unscored = (0, 0)  # step, and batch of that step, that `_ahead` lacks

    def _run_epoch(self, *, epoch, train_dataloader, epochs_trained, **kwargs):
        self._epoch = epoch
        if self._keeps_cache and epoch == epochs_trained:
            self._lookahead = Lookahead(train_dataloader, self.args.gradient_accumulation_steps)
        super()._run_epoch(
            epoch=epoch, train_dataloader=train_dataloader, epochs_trained=epochs_trained, **kwargs
        )

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        if self._keeps_cache:
            self._lookahead.begin(self._epoch, epoch_iterator)
            self._present = self._lookahead.take(self._epoch)
            epoch_iterator = iter(self._present)
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def _prepare_inputs(self, inputs):
        if self.model.training and self._ahead:
            batch = self._ahead.popleft()
            metrics = self._metrics["train"]
            for name, values in batch.pop(_METRICS).items():
                is_total = name == "num_tokens"  # of which the last counts, not the mean
                metrics[name] = values if is_total else metrics[name] + values
            return batch
        batch = self._prepare_batch(inputs)
        if self.model.training and self._keeps_cache:
            # It could not be foreseen. Later its loss would hold the weights that are swapped.
            batch = batch | {_SCORES: self._reference_scores(batch)}
        return batch

    def _prepare_batch(self, inputs) -> dict:
        """What TRL makes of what the dataloader gives: a batch on the device."""
        return super()._prepare_inputs(inputs)

    def _is_next_known(self) -> bool:
        """Whether the next batch to prepare can be prepared before the step that trains on it.

        Without a length it is not known which batches a step at the end of an epoch will have.
        """
        return self._lookahead.has_length

    def score_ahead(self) -> None:
        """At the beginning of a step, score all that has the policy for its reference now.

        Weights change in updates alone, so a sync before this step's update is one with the
        policy as it stands now. What it scores is known, or else its weights are kept.
        """
        step, interval = self.state.global_step, self.args.sync_interval
        self.model.train()  # as TRL prepares batches
        if self.args.sync_after_update and step and step % interval == 0:
            self.reference.sync()
        is_complete = self._score_until(self._last_of_window(step))
        is_due = not self.args.sync_after_update and (step + 1) % interval == 0
        if is_due and self._lookahead.has_length:  # else this step may have more batches
            self.reference.sync()
            is_complete = self._score_until(self._last_of_window(step + 1))
        if not is_complete or self._may_evaluate_soon():
            self.reference.keep_snapshot()

    def sync_now(self) -> None:
        """Sync at the moment that the method says, unless it was foreseen."""
        if not self._keeps_cache:
            self.reference.sync(self.args.sync_alpha)
        elif not self._lookahead.has_length and not self.args.sync_after_update:
            self.reference.sync()
            self.reference.keep_snapshot()

    def _may_evaluate_soon(self) -> bool:
        """Whether the reference may be asked to score other batches before the next sync."""
        end = self.state.global_step + self.args.sync_interval
        if end >= self.state.max_steps:  # there is none, and after training one may evaluate
            return True
        if self.eval_dataset is None:
            return False
        if self.args.eval_strategy != "steps":  # by epochs, or by hand
            return True
        soon = range(self.state.global_step + 1, end + 1)
        return any(step % self.state.eval_steps == 0 for step in soon)

    def _last_of_window(self, step: int) -> int:
        """The last step that has the same reference as `step`."""
        interval = self.args.sync_interval
        return min(step - step % interval + interval, self.state.max_steps) - 1

    def _score_until(self, last: int) -> bool:
        """Prepare and score the batches up to step `last`; false if some are not known yet."""
        present = self.state.global_step
        first, index = self._next_unscored
        for step in range(first, last + 1):
            is_ahead = step > present
            if is_ahead and not self._is_next_known():
                return False
            raw = self._lookahead.peek(step - present - 1) if is_ahead else self._present
            prepared = []
            for batch in raw[index:]:
                if is_ahead and not self._is_next_known():
                    break
                prepared.append(self._prepared(batch))
            with self.reference.scoring():  # once, for weights may have to be swapped
                for batch in prepared:
                    self._ahead.append(batch | {_SCORES: self._reference_scores(batch)})
            index += len(prepared)
            if index < len(raw):
                self._next_unscored = (step, index)
                return False
            self._next_unscored, index = (step + 1, 0), 0
        return True

    def _prepared(self, batch) -> dict:
        """A prepared batch, and the metrics of preparing it."""
        metrics, self._metrics["train"] = self._metrics["train"], defaultdict(list)
        prepared = dict(self._prepare_batch(batch))
        held, self._metrics["train"] = self._metrics["train"], metrics
        return prepared | {_METRICS: dict(held)}

    # Checkpoints.

    def save_whole_model(self, folder: Path) -> None:
        """Save the model, also where each process holds a part and keeps a part of checkpoints."""
        if not self.is_fsdp_enabled:
            self.save_model(str(folder))
            return
        # Under the others the Trainer would save no model at all.
        plugin = self.accelerator.state.fsdp_plugin
        kind = plugin.state_dict_type
        plugin.set_state_dict_type("FULL_STATE_DICT")
        self.save_model(str(folder))
        plugin.set_state_dict_type(kind)

    @property
    def _shard(self) -> int | None:
        """The number of this process where each holds a part of the weights."""
        is_sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        return self.accelerator.process_index if is_sharded else None

    @property
    def _reference_moves(self) -> bool:
        return bool(self.args.humanline and self.args.sync_interval)

    def _save(self, *args, **kwargs):
        is_adapter = isinstance(self.reference, AdapterReference)
        with self.reference.hidden() if is_adapter else nullcontext():
            super()._save(*args, **kwargs)

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        if not self._reference_moves:
            return
        checkpoint = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        checkpoint.mkdir(parents=True, exist_ok=True)
        if self._shard is not None or self.args.should_save:
            save_reference(self.reference.state(), checkpoint, self._shard)
        if self._keeps_cache:
            ahead = {"batches": list(self._ahead), "next_unscored": self._next_unscored}
            torch.save(ahead, checkpoint / self._ahead_file)

    def _load_optimizer_and_scheduler(self, checkpoint):
        """With these the Trainer resumes however the model is distributed."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not self._reference_moves:
            return
        checkpoint = Path(checkpoint)
        files = reference_file(checkpoint, self._shard), checkpoint / self._ahead_file
        if [path.exists() for path in files] != [True, self._keeps_cache]:
            raise ValueError(
                f"{checkpoint} is of a run without humanline or with another way to keep its "
                f"reference than {self.args.reference!r}; resume it with the options it began with"
            )
        self.reference.load(load_reference(checkpoint, self._shard))
        if self._keeps_cache:
            ahead = load_on(self.accelerator.device, checkpoint / self._ahead_file)
            self._ahead, self._next_unscored = deque(ahead["batches"]), ahead["next_unscored"]

    @property
    def _ahead_file(self) -> str:
        return f"ahead-{self.accelerator.process_index}.pt"


class FollowPolicy(TrainerCallback):
    """Syncs a trainer's reference every `sync_interval` optimizer steps.

    The Trainer calls `on_pre_optimizer_step` after the backward pass and gradient clipping, before
    the update. So after the step of a sync the reference equals the policy *before* that step: a
    reference copied after the update would, at an interval of one, make every log-ratio zero.
    """

    def __init__(self, trainer: HumanlineTrainer):
        self._trainer = trainer
        self._has_trained = False

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            self._trainer.forget_what_is_ahead()
            if self._has_trained:  # training anew begins as the first did
                self._trainer.reference.sync()

    def on_train_end(self, args, state, control, **kwargs):
        self._has_trained = True

    def on_step_begin(self, args, state, control, **kwargs):
        if self._trainer._keeps_cache:
            self._trainer.score_ahead()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if not args.sync_after_update:
            self._sync(args, state)

    def on_optimizer_step(self, args, state, control, **kwargs):  # after the update
        if self._trainer._keeps_cache:
            self._trainer.reference.forget_policy()
        if args.sync_after_update:
            self._sync(args, state)

    def _sync(self, args, state) -> None:
        if (state.global_step + 1) % args.sync_interval == 0:
            self._trainer.sync_now()


def load_on(device: torch.device, path: Path):
    """Load batches by way of main memory: torch.load knows no numbered CPU."""
    return send_to_device(torch.load(path, map_location="cpu", weights_only=True), device)


@contextmanager
def only_the_policy(module, model, loss_is_ours: bool):
    """Keep TRL's `__init__` in `module` from loading a second model, where the loss is ours.

    Our reference is made from the policy itself, which may not be what its path holds. What is
    loaded has all of its weights, or is refused.
    """
    load = partial(load_whole, module.create_model_from_path)
    policies = iter([load] if isinstance(model, str) else [])

    def load_policy(*args, **kwargs):
        loader = next(policies, None) if loss_is_ours else load
        return loader and loader(*args, **kwargs)

    loaders = {"create_model_from_path": load_policy}
    if classifiers := getattr(module, "AutoModelForSequenceClassification", None):
        load_reward = partial(load_whole, classifiers.from_pretrained)
        loaders["AutoModelForSequenceClassification"] = SimpleNamespace(from_pretrained=load_reward)
    with mock.patch.multiple(module, **loaders), _trls_adapter(model):
        yield


def _trls_adapter(model):
    """Have TRL add its reference's adapter to a PEFT model without changing the base model.

    Raises:
        ConfigError: if the model's adapter is not called as TRL expects.
    """
    if isinstance(model, str) or not is_peft_model(model):
        return nullcontext()
    if "default" not in model.peft_config:
        names = ", ".join(model.peft_config)
        raise ConfigError(f"the model's adapter is called {names}; TRL needs it to be `default`")
    return leaving_the_base(model)


def token_labels(input_ids: Tensor, mask: Tensor) -> Tensor:
    """Labels (B, T) that score the masked tokens alone."""
    return input_ids.masked_fill(mask == 0, -100)
