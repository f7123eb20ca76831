"""Losses of DPO, KTO, GRPO and PPO, as pure functions of token log-probabilities.

Conventions, common to all functions:

- `policy` and `reference` are (B, T) log-probabilities, in nats, of the tokens that were sampled.
- `mask` is (B, T) and non-zero on completion tokens. The other positions (prompt, padding) change
  neither values nor gradients, even where they hold nan or infinity.
- `perceive` maps token log-ratios, policy minus reference, to perceived ones: `identity` for the
  objective as published, `Clipping` for its humanline variant (arXiv 2509.24207).
- Shapes that do not fit raise a ValueError: broadcasting would hide the mistake.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from humanline.method.perception import Perceive, identity

# Keeps the advantages of a group finite when all its scores are equal.
_STD_OFFSET = 0.01


class DPOLoss(NamedTuple):
    """Losses (B,), and detached rewards (B,): beta times the perceived log-ratio, in nats."""

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


class KTOKLTerms(NamedTuple):
    """Two scalars: the sum of the sequences' perceived log-ratios, in nats, and their number."""

    total: Tensor
    sequences: Tensor


class KTOLoss(NamedTuple):
    """Losses (B,), and detached rewards (B,): the perceived log-ratio, in nats, without beta."""

    losses: Tensor
    rewards: Tensor


class TokenLoss(NamedTuple):
    """Losses (B, T), and the detached KL estimate (B, T) in nats. Both are zero off the mask."""

    losses: Tensor
    kl: Tensor


def dpo_loss(
    policy_chosen: Tensor,
    reference_chosen: Tensor,
    chosen_mask: Tensor,
    policy_rejected: Tensor,
    reference_rejected: Tensor,
    rejected_mask: Tensor,
    *,
    beta: float,
    perceive: Perceive = identity,
) -> DPOLoss:
    """Compute the loss of direct preference optimization (arXiv 2305.18290, equation 7).

    The loss of a pair is -log sigmoid(r_chosen - r_rejected), where r is beta times the perceived
    log-ratio, summed over the completion.

    Args:
        policy_chosen, reference_chosen, chosen_mask: (B, T) of the chosen completions.
        policy_rejected, reference_rejected, rejected_mask: (B, U) of the rejected completions.
        beta: strength of the pull towards the reference.
        perceive: maps token log-ratios to perceived ones.

    Returns:
        The loss of each pair, and the rewards of its two completions.

    Raises:
        ValueError: if shapes do not fit.
    """
    chosen = beta * _sequence_log_ratio(policy_chosen, reference_chosen, chosen_mask, perceive)
    rejected = beta * _sequence_log_ratio(
        policy_rejected, reference_rejected, rejected_mask, perceive
    )
    _require_shape(chosen.shape, rejected_rewards=rejected)
    return DPOLoss(-logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())


@torch.no_grad()
def kto_kl_terms(
    policy: Tensor, reference: Tensor, mask: Tensor, *, perceive: Perceive = identity
) -> KTOKLTerms:
    """Compute the sum and the count behind `kto_kl`, so that processes can add theirs up.

    Args:
        policy, reference, mask, perceive: as in `kto_kl`.

    Returns:
        The arguments of `floored_mean`, without gradient.

    Raises:
        ValueError: if shapes do not fit.
    """
    log_ratios = _sequence_log_ratio(policy, reference, mask, perceive)
    # An empty completion says nothing about the policy; its zero must not dilute the mean.
    return KTOKLTerms(log_ratios.sum(), mask.bool().any(-1).sum())


def floored_mean(total: Tensor, count: Tensor) -> Tensor:
    """Divide a sum by a count, and raise a negative mean to zero: no KL divergence is negative.

    Args:
        total, count: of one shape; see `KTOKLTerms`.

    Returns:
        The means, in that shape; zero where the count is zero.
    """
    return (total / count.clamp(min=1)).clamp(min=0)


def kto_kl(
    policy: Tensor, reference: Tensor, mask: Tensor, *, perceive: Perceive = identity
) -> Tensor:
    """Estimate KL(policy || reference), the reference point of KTO (arXiv 2402.01306).

    Args:
        policy, reference, mask: (B, T) of mismatched pairs of prompt and completion.
        perceive: maps token log-ratios to perceived ones.

    Returns:
        A scalar in nats, without gradient: the mean over non-empty completions of the perceived
        log-ratio of the sequence, floored at zero.

    Raises:
        ValueError: if shapes do not fit.
    """
    return floored_mean(*kto_kl_terms(policy, reference, mask, perceive=perceive))


def kto_loss(
    policy: Tensor,
    reference: Tensor,
    mask: Tensor,
    desirable: Tensor,
    kl: Tensor,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
    perceive: Perceive = identity,
) -> KTOLoss:
    """Compute the loss of Kahneman-Tversky optimization (arXiv 2402.01306, equations 7 and 8).

    With r the perceived log-ratio of a completion, the loss is w_D (1 - sigmoid(beta (r - kl)))
    if it is desirable, and w_U (1 - sigmoid(beta (kl - r))) if it is not.

    Args:
        policy, reference, mask: (B, T), desirable and undesirable completions in any order.
        desirable: (B,) boolean.
        kl: scalar in nats, from `kto_kl`.
        beta: risk aversion; the larger, the sooner losses and gains saturate.
        desirable_weight, undesirable_weight: w_D and w_U.
        perceive: maps token log-ratios to perceived ones.

    Returns:
        The loss and the reward of each completion.

    Raises:
        ValueError: if shapes do not fit.
    """
    rewards = _sequence_log_ratio(policy, reference, mask, perceive)
    _require_shape(rewards.shape, desirable=desirable)
    gains = torch.where(desirable, rewards - kl, kl - rewards)
    losses = torch.sigmoid(-beta * gains)
    weighted = torch.where(desirable, desirable_weight * losses, undesirable_weight * losses)
    return KTOLoss(weighted, rewards.detach())


def group_advantages(scores: Tensor) -> Tensor:
    """Compute GRPO's advantages: scores relative to their group (arXiv 2402.03300, section 4.1.2).

    Args:
        scores: (N, G), G completions for each of N prompts.

    Returns:
        (N, G): (score - mean) / (std + 0.01), with mean and population std of the row. The
        offset is the one in the Humanline authors' code.
    """
    centred = scores - scores.mean(-1, keepdim=True)
    return centred / (scores.std(-1, correction=0, keepdim=True) + _STD_OFFSET)


def grpo_loss(
    policy: Tensor,
    reference: Tensor,
    mask: Tensor,
    advantages: Tensor,
    *,
    epsilon_low: float,
    epsilon_high: float,
    beta: float,
    perceive: Perceive = identity,
    weights: Tensor | None = None,
) -> TokenLoss:
    """Compute the token losses of group relative policy optimization (arXiv 2402.03300, eq. 3, 4).

    As in Humanline, one reference serves both the ratio and the KL penalty. With A the advantage,
    rho the exponential of the perceived log-ratio and d = reference - policy, a token's loss is
    -min(A rho, A clip(rho, 1 - epsilon_low, 1 + epsilon_high)) + beta (exp(d) - d - 1). The KL
    penalty is not perceived: it still pulls back the tokens that have no other gradient.

    Args:
        policy, reference, mask: (B, T).
        advantages: (B,), from `group_advantages`.
        epsilon_low, epsilon_high: how far the ratio may move from one before clipping.
        beta: weight of the KL penalty.
        perceive: maps token log-ratios to perceived ones.
        weights: (B, T) or (B, 1), factors of the first term. TRL corrects by them completions from
            an engine whose probabilities are not exactly the policy's.

    Returns:
        Losses and KL of each token; `masked_mean` of the losses is the authors' objective.

    Raises:
        ValueError: if shapes do not fit.
    """
    _require_shape(policy.shape, reference=reference, mask=mask)
    _require_shape(policy.shape[:1], advantages=advantages)
    log_ratio = _masked(policy - reference, mask)
    surrogate = _clipped_surrogate(
        perceive(log_ratio), _masked(advantages[:, None], mask), epsilon_low, epsilon_high
    )
    if weights is not None:
        surrogate = surrogate * weights
    # exp(d) - d - 1. expm1 stays exact where the policy has hardly moved.
    kl = torch.expm1(-log_ratio) + log_ratio
    return TokenLoss(surrogate + beta * kl, kl.detach())


def ppo_loss(
    policy: Tensor,
    reference: Tensor,
    mask: Tensor,
    advantages: Tensor,
    values: Tensor,
    returns: Tensor,
    *,
    epsilon: float,
    critic_coef: float,
    kl_coef: float,
    perceive: Perceive = identity,
) -> TokenLoss:
    """Compute the token losses of PPO with a critic (arXiv 1707.06347, equations 7 and 9).

    As in Humanline, the reference takes the place of the old policy. With A the advantage and rho
    the exponential of the perceived log-ratio, a token's loss is -min(A rho, A clip(rho,
    1 - epsilon, 1 + epsilon)) + critic_coef (value - return)^2 / 2 + kl_coef (policy - reference).
    The last term is the plain estimate of the KL divergence, not perceived.

    Args:
        policy, reference, mask: (B, T).
        advantages, returns: (B, T), of the rollout.
        values: (B, T), the critic's estimates of the returns.
        epsilon: how far the ratio may move from one before clipping.
        critic_coef: weight of the critic's loss.
        kl_coef: weight of the KL penalty.
        perceive: maps token log-ratios to perceived ones.

    Returns:
        Losses and KL of each token; `masked_mean` of the losses is the authors' objective.

    Raises:
        ValueError: if shapes do not fit.
    """
    _require_shape(
        policy.shape,
        reference=reference,
        mask=mask,
        advantages=advantages,
        values=values,
        returns=returns,
    )
    log_ratio = _masked(policy - reference, mask)
    surrogate = _clipped_surrogate(perceive(log_ratio), _masked(advantages, mask), epsilon, epsilon)
    critic = _masked(values - returns, mask).square() / 2
    return TokenLoss(surrogate + critic_coef * critic + kl_coef * log_ratio, log_ratio.detach())


def perceived_log_ratios(
    policy: Tensor, reference: Tensor, mask: Tensor, perceive: Perceive
) -> Tensor:
    """Compute token log-ratios and perceive them.

    Args:
        policy, reference, mask: (B, T).
        perceive: maps token log-ratios to perceived ones.

    Returns:
        (B, T), in nats, zero off the mask.

    Raises:
        ValueError: if shapes do not fit.
    """
    _require_shape(policy.shape, reference=reference, mask=mask)
    return perceive(_masked(policy - reference, mask))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Average x over the non-zero elements of a mask of the same shape.

    Returns:
        A scalar; zero if the mask is empty.

    Raises:
        ValueError: if shapes do not fit.
    """
    _require_shape(x.shape, mask=mask)
    return _masked(x, mask).sum() / mask.bool().sum().clamp(min=1)


def _clipped_surrogate(
    log_ratio: Tensor, advantages: Tensor, epsilon_low: float, epsilon_high: float
) -> Tensor:
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1 - epsilon_low, 1 + epsilon_high)
    return -torch.minimum(advantages * ratio, advantages * clipped)


def _sequence_log_ratio(
    policy: Tensor, reference: Tensor, mask: Tensor, perceive: Perceive
) -> Tensor:
    return perceived_log_ratios(policy, reference, mask, perceive).sum(-1)


def _masked(x: Tensor, mask: Tensor) -> Tensor:
    # Selecting, unlike multiplying by zero, removes nan and infinity from values and gradients.
    return torch.where(mask.bool(), x, 0.0)


def _require_shape(shape: torch.Size, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {tuple(shape)}; got {tuple(tensor.shape)}")
