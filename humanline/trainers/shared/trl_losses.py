"""TRL's own code within our trainers: its other losses, and the loss of a mixture of experts."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

from torch import Tensor

from humanline.method.losses import masked_mean
from humanline.trainers.shared.metrics import Mean, metrics_of, reading_nothing


def loss_of_trl(
    trainer, compute_loss: Callable, inputs: dict, outputs, perceived: Tensor
) -> Tensor:
    """Compute a loss by TRL's code on perceived log-ratios, and log TRL's metrics.

    TRL computes policy minus reference and sums over the completion. We give it the reference
    "policy minus perceived log-ratio", so that the difference is the perceived log-ratio, in value
    and in gradient. Terms of the policy alone stay as they are: the likelihood of `sft`, the
    weights of `use_weighting`, and the metrics.

    Args:
        trainer: a TRL trainer of preferences.
        compute_loss: TRL's `_compute_loss`, bound to the trainer.
        inputs: the batch.
        outputs: the policy's outputs for the batch, from TRL's fused head; TRL computes no others.
        perceived: (B, T) perceived log-ratios in nats, zero off the completion mask.

    Returns:
        A scalar.
    """
    reference = SimpleNamespace(log_probs=outputs.log_probs[:, -perceived.size(1) :] - perceived)
    with mock.patch.object(trainer, "ref_model", lambda **_: reference), reading_nothing():
        return compute_loss(lambda **_: outputs, inputs, return_outputs=False)


def router_options(trainer) -> dict[str, Any]:
    """Give the option that makes the policy's forward pass compute the auxiliary loss.

    The reference's forward pass goes without it: it trains no router.
    """
    return {"output_router_logits": True} if trainer.aux_loss_enabled else {}


def with_anchor(
    trainer, loss: Tensor, policy: Tensor, mask: Tensor, rows: Tensor | None = None
) -> Tensor:
    """Add `sft_weight` times the loss of supervised fine-tuning, and log it, unless that is 0.

    Args:
        trainer: a trainer whose config has `sft_weight`.
        loss: a scalar.
        policy, mask: (B, T) log-probabilities of the policy for the completions, in nats.
        rows: (B,) boolean, true for the chosen completions; None: all are.

    Returns:
        A scalar.
    """
    if not trainer.args.sft_weight:
        return loss
    if rows is not None:
        policy, mask = policy[rows], mask[rows]
    likelihood = -masked_mean(policy, mask)
    metrics_of(trainer)["humanline/sft_loss"] += Mean.of_known(likelihood.detach()[None])
    return loss + trainer.args.sft_weight * likelihood


def with_auxiliary_loss(trainer, loss: Tensor, auxiliary: Tensor) -> Tensor:
    """Add the auxiliary loss of a mixture of experts, as TRL's trainers do, and log it.

    The auxiliary loss balances the load of the experts.

    Args:
        trainer: a TRL trainer. Without experts, or with a coefficient of 0, nothing is added.
        loss: a scalar.
        auxiliary: `aux_loss` of the policy's outputs: a scalar; without experts nothing reads it.

    Returns:
        A scalar.
    """
    if not trainer.aux_loss_enabled:
        return loss
    metrics_of(trainer)["aux_loss"] += Mean.of_known(auxiliary.detach()[None])
    return loss + trainer.router_aux_loss_coef * auxiliary
