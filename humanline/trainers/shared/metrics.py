"""The metrics that the trainers log: TRL's, under TRL's names, and humanline's own."""

import math

import torch
from torch import Tensor

# Of a batch: log-probabilities (B, T) of policy and reference, in nats, and the mask (B, T), which
# is non-zero on the tokens that count.
Scores = tuple[Tensor, Tensor, Tensor]

_QUANTILES = (0.05, 0.5, 0.95)


def log_perception(trainer, log_ratio: Tensor, mask: Tensor, passing: Tensor, suffix="") -> None:
    """Log the share of unclipped tokens and quantiles of the log-ratio.

    Args:
        trainer: a humanline trainer.
        log_ratio, mask: (B, T), in nats.
        passing: (B, T), each token's chance to pass a gradient; see `perception.passing`.
        suffix: end of the metrics' names.
    """
    metrics, counted = metrics_of(trainer), mask.bool()
    unclipped = passing[counted].float().mean()  # nan if there is none
    log_ratio = log_ratio.detach()[counted].float()
    if not log_ratio.numel():  # torch.quantile refuses an empty tensor
        log_ratio = log_ratio.new_full((1,), torch.nan)
    quantiles = torch.quantile(log_ratio, log_ratio.new_tensor(_QUANTILES))
    share, *values = mean_over_processes(trainer, torch.stack([unclipped, *quantiles]))
    if math.isnan(share):  # no process has a token to count
        return
    metrics[f"humanline/unclipped{suffix}"].append(share)
    for level, value in zip(_QUANTILES, values, strict=True):
        metrics[f"humanline/log_ratio_q{round(100 * level):02d}{suffix}"].append(value)


def metrics_of(trainer) -> dict[str, list]:
    """Return the lists that hold the trainer's metrics of training, or of evaluation."""
    return trainer._metrics["train" if trainer.model.training else "eval"]


def mean_over_processes(trainer, values: Tensor) -> list[float]:
    """Average each of (N,) values over the processes, without nan."""
    gathered = trainer.accelerator.gather(values.detach().float()[None])
    return gathered.nanmean(0).tolist()


def log_preference_metrics(trainer, outputs, inputs, chosen: Tensor, rewards: Tensor) -> None:
    """Log the metrics of TRL's `DPOTrainer` and `KTOTrainer` under TRL's names.

    Args:
        trainer: the trainer that logs them.
        outputs: the policy's outputs for the batch, from TRL's fused head.
        inputs: the batch; `completion_mask` is (B, T).
        chosen: (B,) boolean, true for chosen or desirable rows.
        rewards: (B,) beta times the summed perceived log-ratio, in nats.
    """
    metrics, gather = metrics_of(trainer), trainer.accelerator.gather
    mask = inputs["completion_mask"][:, 1:].bool()
    width = mask.size(1)

    def log_mean(name: str, values: Tensor, where: Tensor) -> bool:
        """Log the mean over all processes; false if there is nothing to average."""
        total, count = gather((values * where).sum()).sum(), gather(where.sum()).sum()
        if count:
            metrics[name].append((total / count).item())
        return bool(count)

    if trainer.model.training:
        tokens = gather(inputs["attention_mask"].sum()).sum().item()
        trainer._total_train_tokens += tokens // trainer._tp_size
    metrics["num_tokens"] = [trainer._total_train_tokens]
    log_mean("entropy", outputs.entropy[:, -width:].detach(), mask)
    if outputs.is_top1 is not None:  # None in KTO, as in TRL's
        log_mean("mean_token_accuracy", outputs.is_top1[:, -width:], mask & chosen[:, None])
    log_probs = (outputs.log_probs[:, -width:].detach() * mask).sum(1)
    logits = outputs.mean_logits[:, -width:].detach()
    has_both = True
    for name, rows in (("chosen", chosen), ("rejected", ~chosen)):
        has_both &= log_mean(f"rewards/{name}", rewards, rows)
        log_mean(f"logps/{name}", log_probs, rows)
        log_mean(f"logits/{name}", logits, mask & rows[:, None])
    if has_both:
        margin = metrics["rewards/chosen"][-1] - metrics["rewards/rejected"][-1]
        metrics["rewards/margins"].append(margin)
