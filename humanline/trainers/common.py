"""What the three humanline trainers share: options, the synced reference, metrics."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from trl.models.utils import disable_gradient_checkpointing

from humanline.perception import Clipping, identity, unclipped_fraction
from humanline.reference import SyncReference, copy_weights, load_reference, save_reference


@dataclass
class HumanlineOptions:
    """The options that humanline adds to a TRL config."""

    humanline: bool = field(
        default=True,
        metadata={"help": "Train the humanline variant. False: the objective as TRL defines it."},
    )
    log_eps_p: float | None = field(
        default=-1.5,
        metadata={"help": "Lower bound of a token's log-ratio, in nats. None: no bound."},
    )
    log_eps_r: float | None = field(
        default=1.5,
        metadata={"help": "Upper bound of a token's log-ratio, in nats. None: no bound."},
    )
    sync_interval: int | None = field(
        default=1,
        metadata={
            "help": "k: the reference takes the policy's weights every k optimizer steps, before "
            "the update. None: never."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        Clipping(self.log_eps_p, self.log_eps_r)  # refuses impossible bounds
        if self.sync_interval is not None and self.sync_interval < 1:
            raise ValueError(f"sync_interval must be at least 1 or None; got {self.sync_interval}")
        if self.humanline:
            self._refuse_meaningless_options()

    def _refuse_meaningless_options(self):
        for name, (allowed, reason) in self.needs.items():
            if getattr(self, name) != allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} has no humanline meaning: {reason}. "
                    f"Set {name}={allowed!r}, or humanline=False"
                )


class HumanlineTrainer:
    """Mixin before a TRL trainer: perceives log-ratios, and keeps the reference in step."""

    sampling_seconds = 0.0  # spent on sampling and labelling, for the run's record

    def _start_humanline(self) -> None:
        """Call at the end of `__init__`, when TRL has made `self.ref_model`."""
        args = self.args
        if not isinstance(args, HumanlineOptions):
            name = type(self).__name__.replace("Trainer", "Config")
            raise ValueError(f"args must be a {name}; got {type(args).__name__}")
        if args.humanline:
            self._refuse_unsupported_models()
        self.perceive = Clipping(args.log_eps_p, args.log_eps_r) if args.humanline else identity
        if args.humanline and args.sync_interval:
            self.add_callback(SyncReference(self.sync_reference, args.sync_interval))

    def _refuse_unsupported_models(self) -> None:
        if self.ref_model is None:
            raise ValueError("humanline needs a reference model; PEFT is not supported yet")
        if getattr(self, "_is_vision_dataset", False):
            raise ValueError("humanline trains on text only; this dataset has images")
        if self.aux_loss_enabled:
            raise ValueError("humanline has no auxiliary loss; set router_aux_loss_coef=0.0")

    def sync_reference(self) -> None:
        """Give the reference the policy's present weights."""
        unwrap = self.accelerator.unwrap_model
        copy_weights(unwrap(self.model), unwrap(self.ref_model))

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        if self.ref_model is not None and self.args.should_save:
            checkpoint = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
            save_reference(self.accelerator.unwrap_model(self.ref_model), checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.ref_model is not None:
            reference = self.accelerator.unwrap_model(self.ref_model)
            load_reference(reference, Path(resume_from_checkpoint))

    @torch.no_grad()
    def _reference_outputs(self, **inputs):
        """The reference's outputs for a batch, with TRL's fused head."""
        checkpointing = self.args.gradient_checkpointing_kwargs
        with disable_gradient_checkpointing(self.ref_model, checkpointing):
            return self.ref_model(**inputs, use_cache=False, fused_lm_head=True)

    def _log_perception(self, policy: Tensor, reference: Tensor, mask: Tensor, suffix="") -> None:
        """Log how much of (B, T) log-ratios is unclipped, and how old the reference is."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        log_ratio = (policy - reference).detach()
        unclipped = unclipped_fraction(log_ratio, mask, self.args.log_eps_p, self.args.log_eps_r)
        metrics[f"humanline/unclipped{suffix}"].append(self._mean_over_processes(unclipped))
        metrics["humanline/steps_since_sync"] = [float(self._steps_since_sync())]

    def _steps_since_sync(self) -> int:
        """Updates that the policy is ahead of the reference; a sync leaves it one ahead."""
        step, interval = self.state.global_step, self.args.sync_interval
        return step % interval + 1 if interval and step >= interval else step

    def _mean_over_processes(self, value: Tensor) -> float:
        return self.accelerator.gather(value.detach().float()).nanmean().item()


def token_labels(input_ids: Tensor, mask: Tensor) -> Tensor:
    """Labels (B, T) that score the masked tokens alone."""
    return input_ids.masked_fill(mask == 0, -100)


def log_preference_metrics(trainer, outputs, inputs, chosen: Tensor, rewards: Tensor) -> None:
    """Log TRL's metrics of preference training under TRL's names.

    Args:
        trainer: whose `_metrics` to add to.
        outputs: of the policy for the batch, with TRL's fused head.
        inputs: the batch; `completion_mask` is (B, T).
        chosen: (B,) boolean, true for chosen or desirable rows.
        rewards: (B,) beta times the summed perceived log-ratio.
    """
    mode = "train" if trainer.model.training else "eval"
    metrics, gather = trainer._metrics[mode], trainer.accelerator.gather
    mask = inputs["completion_mask"][:, 1:].bool()
    width = mask.size(1)

    def mean(values: Tensor, where: Tensor) -> float:
        total, count = (values * where).sum(), where.sum()
        return (gather(total).sum() / gather(count).sum().clamp(min=1)).item()

    if mode == "train":
        tokens = gather(inputs["attention_mask"].sum()).sum().item()
        trainer._total_train_tokens += tokens // trainer._tp_size
    metrics["num_tokens"] = [trainer._total_train_tokens]
    metrics["entropy"].append(mean(outputs.entropy[:, -width:].detach(), mask))
    if outputs.is_top1 is not None:  # TRL's KTO does without
        accuracy = mean(outputs.is_top1[:, -width:], mask & chosen[:, None])
        metrics["mean_token_accuracy"].append(accuracy)
    log_probs = (outputs.log_probs[:, -width:].detach() * mask).sum(1)
    logits = outputs.mean_logits[:, -width:].detach()
    for name, rows in (("chosen", chosen), ("rejected", ~chosen)):
        metrics[f"rewards/{name}"].append(mean(rewards, rows))
        metrics[f"logps/{name}"].append(mean(log_probs, rows))
        metrics[f"logits/{name}"].append(mean(logits, mask & rows[:, None]))
    margin = metrics["rewards/chosen"][-1] - metrics["rewards/rejected"][-1]
    metrics["rewards/margins"].append(margin)
