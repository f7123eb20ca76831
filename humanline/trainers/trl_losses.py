"""What TRL's own code adds to our losses: its other losses, and a mixture of experts' own loss."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

from torch import Tensor

from humanline.trainers.metrics import mean_over_processes, metrics_of


def loss_of_trl(
    trainer, compute_loss: Callable, inputs: dict, outputs, perceived: Tensor
) -> Tensor:
    """The loss that TRL's code computes, on perceived log-ratios; logs TRL's metrics, too.

    TRL subtracts the reference's log-probabilities from the policy's, and sums over the completion.
    A reference of policy minus perceived log-ratio makes the difference the perceived log-ratio, in
    value and in gradient. What TRL makes of the policy alone stays as it is: the likelihood of
    `sft`, the weights of `use_weighting`, and the metrics.

    Args:
        trainer: a TRL trainer of preferences.
        compute_loss: TRL's `_compute_loss`, bound to the trainer.
        inputs: the batch.
        outputs: of the policy for the batch, with TRL's fused head; nothing is computed twice.
        perceived: (B, T) log-ratios in nats, zero off the completion mask.

    Returns:
        A scalar.
    """
    reference = SimpleNamespace(log_probs=outputs.log_probs[:, -perceived.size(1) :] - perceived)
    with mock.patch.object(trainer, "ref_model", lambda **_: reference):
        return compute_loss(lambda **_: outputs, inputs, return_outputs=False)


def router_request(trainer) -> dict[str, Any]:
    """What the policy's forward pass needs besides, for `with_auxiliary_loss`.

    The reference's does without: it trains no router.
    """
    return {"output_router_logits": True} if trainer.aux_loss_enabled else {}


def with_auxiliary_loss(trainer, loss: Tensor, auxiliary: Tensor) -> Tensor:
    """Add what balances the load of a mixture of experts, as TRL's trainers do, and log it.

    Args:
        trainer: a TRL trainer; without experts, or with a coefficient of 0, the loss stays.
        loss: a scalar.
        auxiliary: a scalar, `aux_loss` of the policy's outputs; without experts nothing reads it.
    """
    if not trainer.aux_loss_enabled:
        return loss
    metrics_of(trainer)["aux_loss"] += mean_over_processes(trainer, auxiliary[None])
    return loss + trainer.router_aux_loss_coef * auxiliary
