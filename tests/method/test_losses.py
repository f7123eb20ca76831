import json
import math
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from humanline.method.losses import (
    dpo_loss,
    floored_mean,
    group_advantages,
    grpo_loss,
    kto_kl,
    kto_kl_terms,
    kto_loss,
    masked_mean,
    ppo_loss,
)
from humanline.method.perception import Clipping, Rejection, identity, passing

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "objectives.json").read_text())

quickly = settings(deadline=None, max_examples=30)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def leaf(values):
    return tensor(values).requires_grad_()


def assert_close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(
        actual.detach(), torch.as_tensor(expected, dtype=actual.dtype), rtol=0, atol=tolerance
    )


# ---------------------------------------------------------------------------------------------
# The authors' numbers
# ---------------------------------------------------------------------------------------------


def golden(objective, only_humanline=False):
    cases = [case for case in GOLDEN if case["objective"] == objective]
    cases = [case for case in cases if case["humanline"] or not only_humanline]
    ids = [
        f"{objective}-{'humanline' if case['humanline'] else 'plain'}-{number}"
        for number, case in enumerate(cases)
    ]
    return pytest.mark.parametrize("case", cases, ids=ids)


def perception(case):
    return Clipping(case["log_eps_p"], case["log_eps_r"]) if case["humanline"] else identity


def tensors(case, *names):
    return [tensor(case[name]) for name in names]


def check_gradient(parameter, expected, mask):
    assert_close(parameter.grad[mask.bool()], tensor(expected)[mask.bool()])
    assert not parameter.grad[~mask.bool()].any()


def check_unclipped(case, expected, policy, reference, mask):
    """The authors divide in float32, hence the tolerance."""
    bounds = (case["log_eps_p"], case["log_eps_r"]) if case["humanline"] else (None, None)
    unclipped = passing(policy - reference, mask, Clipping(*bounds)).sum() / mask.bool().sum()
    assert_close(unclipped, expected, 1e-7)


def test_golden_cases_are_all_here():
    counts = {
        name: sum(case["objective"] == name for case in GOLDEN)
        for name in ("dpo", "kto", "grpo", "ppo")
    }
    assert counts == {"dpo": 8, "kto": 8, "grpo": 8, "ppo": 8} and len(GOLDEN) == 32


@golden("dpo")
def test_dpo_agrees_with_the_authors(case):
    """Losses, rewards, and gradients of the mean loss.

    Gradients are compared on completion tokens. The authors sum over padding too, where both
    log-probabilities have been set to zero before they get here, and so have a gradient there
    that goes nowhere; ours is exactly zero.
    """
    chosen, rejected = leaf(case["policy_chosen"]), leaf(case["policy_rejected"])
    reference_chosen, chosen_mask = tensors(case, "reference_chosen", "chosen_mask")
    reference_rejected, rejected_mask = tensors(case, "reference_rejected", "rejected_mask")
    result = dpo_loss(
        chosen,
        reference_chosen,
        chosen_mask,
        rejected,
        reference_rejected,
        rejected_mask,
        beta=case["beta"],
        perceive=perception(case),
    )
    result.losses.mean().backward()

    assert_close(result.losses, case["per_example_loss"])
    assert_close(result.chosen_rewards, case["chosen_rewards"])
    assert_close(result.rejected_rewards, case["rejected_rewards"])
    check_gradient(chosen, case["grad_policy_chosen"], chosen_mask)
    check_gradient(rejected, case["grad_policy_rejected"], rejected_mask)
    check_unclipped(case, case["unclipped_chosen"], chosen, reference_chosen, chosen_mask)
    check_unclipped(case, case["unclipped_rejected"], rejected, reference_rejected, rejected_mask)


@golden("kto")
def test_kto_agrees_with_the_authors(case):
    """Losses, rewards, KL, and gradients of the mean loss, on completion tokens as in DPO.

    The authors keep the KL in float32, hence its tolerance.
    """
    chosen, rejected = leaf(case["policy_chosen"]), leaf(case["policy_rejected"])
    reference_chosen, chosen_mask = tensors(case, "reference_chosen", "chosen_mask")
    reference_rejected, rejected_mask = tensors(case, "reference_rejected", "rejected_mask")
    kl = kto_kl(*tensors(case, "policy_kl", "reference_kl", "kl_mask"), perceive=perception(case))
    result = kto_loss(
        torch.cat([chosen, rejected]),
        torch.cat([reference_chosen, reference_rejected]),
        torch.cat([chosen_mask, rejected_mask]),
        torch.tensor([True] * len(chosen) + [False] * len(rejected)),
        kl,
        beta=case["beta"],
        desirable_weight=case["desirable_weight"],
        undesirable_weight=case["undesirable_weight"],
        perceive=perception(case),
    )
    result.losses.mean().backward()

    assert_close(kl, case["kl"], 1e-7)
    assert_close(result.losses, case["per_example_loss"])
    assert_close(result.rewards, case["chosen_rewards"] + case["rejected_rewards"])
    check_gradient(chosen, case["grad_policy_chosen"], chosen_mask)
    check_gradient(rejected, case["grad_policy_rejected"], rejected_mask)


@golden("grpo")
def test_grpo_agrees_with_the_authors(case):
    """Loss and KL as means over tokens, and the gradient of the loss."""
    policy = leaf(case["policy"])
    reference, mask, advantages = tensors(case, "reference", "mask", "advantages")
    result = grpo_loss(
        policy,
        reference,
        mask,
        advantages,
        epsilon_low=case["epsilon"],
        epsilon_high=case["epsilon"],
        beta=case["kl_beta"],
        perceive=perception(case),
    )
    loss = masked_mean(result.losses, mask)
    loss.backward()

    assert_close(loss, case["loss"])
    assert_close(masked_mean(result.kl, mask), case["kl"])
    check_gradient(policy, case["grad_policy"], mask)
    check_unclipped(case, case["unclipped"], policy, reference, mask)


@golden("grpo", only_humanline=True)
def test_the_limit_of_humanline_sampling_has_the_authors_gradients(case):
    """Theorem 4.3: with its draws at their means, sampling is clipping. Losses may differ, for a
    rejected token keeps its value."""
    policy = leaf(case["policy"])
    reference, mask, advantages = tensors(case, "reference", "mask", "advantages")
    result = grpo_loss(
        policy,
        reference,
        mask,
        advantages,
        epsilon_low=case["epsilon"],
        epsilon_high=case["epsilon"],
        beta=case["kl_beta"],
        perceive=Rejection(case["log_eps_p"], case["log_eps_r"], 1e12, 1e12).drawn([1]),
    )
    masked_mean(result.losses, mask).backward()
    check_gradient(policy, case["grad_policy"], mask)


@golden("ppo")
def test_ppo_agrees_with_the_authors(case):
    """Loss as a mean over tokens, and its gradients with respect to policy and values."""
    policy, values = leaf(case["policy"]), leaf(case["values"])
    reference, mask, advantages, returns = tensors(
        case, "reference", "mask", "advantages", "returns"
    )
    result = ppo_loss(
        policy,
        reference,
        mask,
        advantages,
        values,
        returns,
        epsilon=case["cliprange"],
        critic_coef=case["critic_coef"],
        kl_coef=case["kl_coef"],
        perceive=perception(case),
    )
    loss = masked_mean(result.losses, mask)
    loss.backward()

    assert_close(loss, case["loss"])
    check_gradient(policy, case["grad_policy"], mask)
    check_gradient(values, case["grad_values"], mask)


# ---------------------------------------------------------------------------------------------
# By hand
# ---------------------------------------------------------------------------------------------


def test_dpo_by_hand():
    """Clipped to [-1, 1.5], with beta 0.5:

    chosen log-ratios    0.4, 2.0 -> 0.4, 1.5, reward 0.5 * 1.9 = 0.95
    rejected log-ratios -0.1, -2.0 -> -0.1, -1.0, reward 0.5 * -1.1 = -0.55
    loss = log(1 + exp(-(0.95 + 0.55))) = log(1.22313016) = 0.20141328

    A token within the bounds has gradient -+0.5 * sigmoid(-1.5) = -+0.5 * 0.18242552, one beyond
    them none.
    """
    chosen, rejected = leaf([[-1.0, -0.5]]), leaf([[-1.0, -3.0]])
    mask = torch.ones(1, 2)
    result = dpo_loss(
        chosen,
        tensor([[-1.4, -2.5]]),
        mask,
        rejected,
        tensor([[-0.9, -1.0]]),
        mask,
        beta=0.5,
        perceive=Clipping(-1.0, 1.5),
    )
    result.losses.sum().backward()
    assert_close(result.chosen_rewards, [0.95])
    assert_close(result.rejected_rewards, [-0.55])
    assert_close(result.losses, [0.20141328], 1e-8)
    assert_close(chosen.grad, [[-0.09121276, 0.0]], 1e-8)
    assert_close(rejected.grad, [[0.09121276, 0.0]], 1e-8)


def test_kto_kl_by_hand():
    """Log-ratios of the sequences are 0.7 + 0.3 = 1 and -0.4; the third row is empty.

    Mean over the two that are not empty: 0.6 / 2 = 0.3. Without the first row, -0.4 is floored.
    """
    policy = leaf([[-1.0, -1.0], [-1.0, -7.0], [-7.0, -7.0]])
    reference = tensor([[-1.7, -1.3], [-0.6, -7.0], [-9.0, -9.0]])
    mask = torch.tensor([[1, 1], [1, 0], [0, 0]])
    kl = kto_kl(policy, reference, mask)
    assert_close(kl, 0.3)
    assert not kl.requires_grad
    assert kto_kl(policy[1:], reference[1:], mask[1:]) == 0
    assert kto_kl(policy[2:], reference[2:], mask[2:]) == 0


def test_kto_by_hand():
    """With beta 2 and KL 0.3:

    undesirable, log-ratio -0.2: gain 0.3 + 0.2 = 0.5, loss 1 - sigmoid(1) = 0.26894142
    desirable, log-ratio 0.8: gain 0.8 - 0.3 = 0.5, loss 1.1 times as much = 0.29583556

    The derivative of 1 - sigmoid(x) at 1 is -0.19661193; times beta it is -0.39322387, which
    an undesirable completion sees with the opposite sign and a desirable one times 1.1.
    """
    policy = leaf([[-1.2, -5.0], [-1.0, -0.5]])
    result = kto_loss(
        policy,
        tensor([[-1.0, -6.0], [-1.3, -1.0]]),
        torch.tensor([[1, 0], [1, 1]]),
        torch.tensor([False, True]),
        tensor(0.3),
        beta=2.0,
        desirable_weight=1.1,
        undesirable_weight=1.0,
    )
    result.losses.sum().backward()
    assert_close(result.rewards, [-0.2, 0.8])
    assert_close(result.losses, [0.26894142, 0.29583556], 1e-8)
    assert_close(policy.grad, [[0.39322387, 0.0], [-0.43254625, -0.43254625]], 1e-8)


def test_group_advantages_by_hand():
    """Scores 1, 3: mean 2, population std 1, so -+1 / 1.01. Equal scores: no advantage."""
    scores = tensor([[1.0, 3.0], [5.0, 5.0]])
    assert_close(group_advantages(scores), [[-0.99009901, 0.99009901], [0.0, 0.0]], 1e-8)


def test_grpo_by_hand():
    """Advantage 1 in the first row and -1 in the second, ratios 2 and 0.5, bounds [0.8, 1.3]:

    advantage 1: -min(2, 1.3) = -1.3, without gradient; -min(0.5, 0.8) = -0.5, gradient -0.5
    advantage -1: -min(-2, -1.3) = 2, gradient 2; -min(-0.5, -0.8) = 0.8, without gradient

    KL is 1/2 + log 2 - 1 = 0.19314718 at ratio 2 and 2 - log 2 - 1 = 0.30685282 at 0.5, with
    gradients 1 - 1/2 and 1 - 2. Both enter times beta, 0.1. The third column is padding.
    """
    policy = leaf([[-1.0, -2.0, -4.0], [-1.0, -2.0, -4.0]])
    reference = policy.detach() - tensor([2.0, 0.5, 8.0]).log()
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    result = grpo_loss(
        policy,
        reference,
        mask,
        tensor([1.0, -1.0]),
        epsilon_low=0.2,
        epsilon_high=0.3,
        beta=0.1,
    )
    result.losses.sum().backward()
    assert_close(result.kl, [[0.19314718, 0.30685282, 0.0]] * 2, 1e-8)
    assert_close(
        result.losses,
        [[-1.28068528, -0.46931472, 0.0], [2.01931472, 0.83068528, 0.0]],
        1e-8,
    )
    assert_close(policy.grad, [[0.05, -0.6, 0.0], [2.05, -0.1, 0.0]])


def test_grpo_clips_twice_and_penalises_what_was_not_clipped():
    """Log-ratio 2 is perceived as 0.1: ratio 1.10517092, within the bounds, but a constant now.

    The KL penalty sees log-ratio 2: exp(-2) + 2 - 1 = 1.13533528, gradient 1 - exp(-2).
    """
    policy = leaf([[-1.0]])
    result = grpo_loss(
        policy,
        tensor([[-3.0]]),
        torch.ones(1, 1),
        tensor([1.0]),
        epsilon_low=0.2,
        epsilon_high=0.2,
        beta=1.0,
        perceive=Clipping(-0.1, 0.1),
    )
    result.losses.sum().backward()
    assert_close(result.losses, [[-1.10517092 + 1.13533528]], 1e-8)
    assert_close(policy.grad, [[0.86466472]], 1e-8)


def test_ppo_by_hand():
    """Ratio 2, advantage 1, clip range 0.5: -min(2, 1.5) = -1.5, without gradient.

    Critic: (3 - 1)^2 / 2 = 2, gradient 2, times 0.01. KL: log 2 = 0.69314718, gradient 1,
    times 0.1. Sum: -1.5 + 0.02 + 0.06931472.
    """
    policy, values = leaf([[-1.0]]), leaf([[3.0]])
    result = ppo_loss(
        policy,
        tensor([[-1.0 - math.log(2)]]),
        torch.ones(1, 1),
        tensor([[1.0]]),
        values,
        tensor([[1.0]]),
        epsilon=0.5,
        critic_coef=0.01,
        kl_coef=0.1,
    )
    result.losses.sum().backward()
    assert_close(result.losses, [[-1.41068528]], 1e-8)
    assert_close(result.kl, [[0.69314718]], 1e-8)
    assert_close(policy.grad, [[0.1]])
    assert_close(values.grad, [[0.02]])


def test_masked_mean_by_hand():
    x = leaf([[1.0, math.nan], [3.0, 5.0]])
    mean = masked_mean(x, torch.tensor([[1, 0], [1, 1]]))
    mean.backward()
    assert_close(mean, 3.0)
    assert_close(x.grad, [[1 / 3, 0.0], [1 / 3, 1 / 3]])
    assert masked_mean(x, torch.zeros(2, 2)) == 0


# ---------------------------------------------------------------------------------------------
# Properties
# ---------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    policy: Tensor
    reference: Tensor
    mask: Tensor
    scores: Tensor  # (B, 1): advantages, and through their sign labels

    @property
    def size(self):
        return self.policy.shape


@st.composite
def batches(draw):
    """At least one completion token per row, in any place: masks need not be contiguous."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 5))

    def matrix(elements, width=columns):
        values = st.lists(elements, min_size=width, max_size=width)
        return draw(st.lists(values, min_size=rows, max_size=rows))

    log_probabilities = st.floats(-3, 0)
    masks = st.lists(st.booleans(), min_size=columns, max_size=columns).filter(any)
    return Batch(
        tensor(matrix(log_probabilities)),
        tensor(matrix(log_probabilities)),
        torch.tensor(draw(st.lists(masks, min_size=rows, max_size=rows))),
        tensor(matrix(st.floats(-2, 2), width=1)),
    )


# Each objective as a function of one batch that returns something of shape (B,) or (B, T).


def dpo(batch, perceive=identity):
    """The completions as chosen ones, against rejected ones with a log-ratio of zero."""
    zeros = torch.zeros_like(batch.policy)
    return dpo_loss(
        batch.policy,
        batch.reference,
        batch.mask,
        zeros,
        zeros,
        batch.mask,
        beta=0.1,
        perceive=perceive,
    ).losses


def kto(batch, perceive=identity):
    kl = kto_kl(batch.policy, batch.reference, batch.mask, perceive=perceive)
    return kto_loss(
        batch.policy,
        batch.reference,
        batch.mask,
        batch.scores[:, 0] > 0,
        kl,
        beta=0.1,
        desirable_weight=1.1,
        undesirable_weight=1.0,
        perceive=perceive,
    ).losses


def grpo(batch, perceive=identity):
    return grpo_loss(
        batch.policy,
        batch.reference,
        batch.mask,
        batch.scores[:, 0],
        epsilon_low=0.2,
        epsilon_high=0.2,
        beta=0.05,
        perceive=perceive,
    ).losses


def ppo(batch, perceive=identity):
    """Values and returns are made up from the log-probabilities, garbage included."""
    return ppo_loss(
        batch.policy,
        batch.reference,
        batch.mask,
        batch.reference * batch.scores,
        2 * batch.policy,
        3 * batch.reference,
        epsilon=0.5,
        critic_coef=0.01,
        kl_coef=0.1,
        perceive=perceive,
    ).losses


objectives = pytest.mark.parametrize("objective", [dpo, kto, grpo, ppo])


def losses_and_gradient(objective, batch, perceive=identity):
    policy = batch.policy.clone().requires_grad_()
    losses = objective(batch._replace(policy=policy), perceive)
    losses.sum().backward()
    return losses.detach(), policy.grad


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        assert_close(one, other, 1e-12)


@objectives
@quickly
@given(batches())
def test_clipping_that_reaches_no_token_is_identity(objective, batch):
    assert_same(
        losses_and_gradient(objective, batch),
        losses_and_gradient(objective, batch, Clipping(-3.1, 3.1)),
    )


@objectives
@quickly
@given(garbage=st.sampled_from([math.nan, math.inf, -math.inf]), batch=batches())
def test_garbage_at_padding_never_matters(objective, garbage, batch):
    """Neither in the losses nor in the gradient, which is exactly zero at padding."""
    filled = batch._replace(
        policy=batch.policy.masked_fill(~batch.mask, garbage),
        reference=batch.reference.masked_fill(~batch.mask, garbage),
    )
    result = losses_and_gradient(objective, filled, Clipping(-1.0, 1.5))
    assert_same(result, losses_and_gradient(objective, batch, Clipping(-1.0, 1.5)))
    assert not result[1][~batch.mask].any()


@objectives
@quickly
@given(batch=batches())
def test_an_empty_completion_has_no_gradient(objective, batch):
    empty = batch._replace(mask=torch.zeros_like(batch.mask))
    losses, gradient = losses_and_gradient(objective, empty)
    assert losses.isfinite().all()
    assert not gradient.any()


@objectives
@quickly
@given(dtype=st.sampled_from([torch.int64, torch.float32]), batch=batches())
def test_masks_may_be_of_any_type(objective, dtype, batch):
    assert_same(
        losses_and_gradient(objective, batch),
        losses_and_gradient(objective, batch._replace(mask=batch.mask.to(dtype))),
    )


@objectives
@quickly
@given(batch=batches(), data=st.data())
def test_losses_follow_the_order_of_the_batch(objective, batch, data):
    order = data.draw(st.permutations(range(len(batch.policy))))
    shuffled = Batch(*(part[order] for part in batch))
    assert_close(objective(shuffled), objective(batch)[order], 1e-12)


@objectives
def test_a_dtype_is_kept(objective):
    """Python numbers (beta, the weights) must not promote the tensors."""
    batch = Batch(*(torch.full((2, 1), -0.5) for _ in range(4)))
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        assert objective(Batch(*(part.to(dtype) for part in batch))).dtype == dtype


@quickly
@given(batches(), st.data())
def test_dpo_loss_falls_when_a_chosen_token_becomes_likelier(batch, data):
    row, column = data.draw(st.sampled_from(batch.mask.nonzero().tolist()))
    likelier = batch.policy.clone()
    likelier[row, column] += 0.5
    change = dpo(batch._replace(policy=likelier)) - dpo(batch)
    assert change[row] < 0
    change[row] = 0
    assert not change.any()


@quickly
@given(batches(), batches())
def test_dpo_probabilities_of_both_preferences_add_up_to_one(first, second):
    """exp(-loss) is the probability that chosen beats rejected; lengths may differ."""
    rows = min(len(first.policy), len(second.policy))
    one = [part[:rows] for part in first[:3]]
    other = [part[:rows] for part in second[:3]]
    preferred = dpo_loss(*one, *other, beta=0.7).losses
    reversed_ = dpo_loss(*other, *one, beta=0.7).losses
    assert_close(torch.exp(-preferred) + torch.exp(-reversed_), torch.ones(rows), 1e-12)


@quickly
@given(batches())
def test_kto_losses_of_both_labels_add_up_to_their_weight(batch):
    kl = kto_kl(*batch[:3])
    labels = torch.zeros(len(batch.policy), dtype=torch.bool)
    weights = {"beta": 0.5, "desirable_weight": 1.3, "undesirable_weight": 1.3}
    desirable = kto_loss(*batch[:3], ~labels, kl, **weights).losses
    undesirable = kto_loss(*batch[:3], labels, kl, **weights).losses
    assert_close(desirable + undesirable, torch.full_like(desirable, 1.3), 1e-12)


@quickly
@given(batches(), st.integers(0, 4))
def test_kto_kl_of_two_processes_is_that_of_their_joint_batch(batch, cut):
    """Only the terms add up: a floor per process would not."""
    total, count = map(
        sum,
        zip(
            kto_kl_terms(*(part[:cut] for part in batch[:3])),
            kto_kl_terms(*(part[cut:] for part in batch[:3])),
            strict=True,
        ),
    )
    assert_close(floored_mean(total, count), kto_kl(*batch[:3]), 1e-12)
    assert floored_mean(total, count) >= 0


@quickly
@given(
    st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=1, max_size=4),
    st.floats(-100, 100),
)
def test_group_advantages_do_not_depend_on_the_level_of_scores(scores, shift):
    scores = tensor(scores)
    advantages = group_advantages(scores)
    assert_close(group_advantages(scores + shift), advantages, 1e-9)
    assert_close(advantages.sum(-1), torch.zeros(len(scores)), 1e-9)
    assert torch.equal(group_advantages(scores.flip(0)), advantages.flip(0))


@pytest.mark.parametrize("perceive", [identity, Clipping(-1.0, 1.5)])
@quickly
@given(batch=batches())
def test_grpo_without_a_policy_change_is_policy_gradient(perceive, batch):
    """The ratio is one and the KL zero: loss -mean(A), gradient -A / N at each of N tokens."""
    policy = batch.reference.clone().requires_grad_()
    losses = grpo(batch._replace(policy=policy), perceive)
    loss = masked_mean(losses, batch.mask)
    loss.backward()
    advantages = batch.scores.expand(batch.size)
    assert_close(loss, -advantages[batch.mask].mean(), 1e-12)
    expected = torch.where(batch.mask, -advantages / batch.mask.sum(), 0.0)
    assert_close(policy.grad, expected, 1e-12)


@quickly
@given(batches())
def test_grpo_kl_is_positive_and_blind_to_perception(batch):
    settings_ = {"epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.05}
    kl = grpo_loss(*batch[:3], batch.scores[:, 0], **settings_).kl
    clipped = Clipping(-0.01, 0.01)
    perceived = grpo_loss(*batch[:3], batch.scores[:, 0], **settings_, perceive=clipped).kl
    assert (kl >= -1e-15).all()
    assert torch.equal(kl, perceived)
    assert not kl[~batch.mask].any()


def test_rewards_and_kl_are_detached():
    """They are for logs, which must not keep a graph alive."""
    ones = torch.ones(2, 3)
    policy = torch.zeros(2, 3, requires_grad=True)
    dpo_result = dpo_loss(policy, ones, ones, policy, ones, ones, beta=0.1)
    kto_result = kto_loss(
        policy,
        ones,
        ones,
        torch.tensor([True, False]),
        torch.tensor(0.0),
        beta=0.1,
        desirable_weight=1.0,
        undesirable_weight=1.0,
    )
    grpo_result = grpo_loss(
        policy, ones, ones, torch.ones(2), epsilon_low=0.2, epsilon_high=0.2, beta=0.1
    )
    ppo_result = ppo_loss(
        policy, ones, ones, ones, policy, ones, epsilon=0.5, critic_coef=0.01, kl_coef=0.1
    )
    for losses, *logged in (dpo_result, kto_result, grpo_result, ppo_result):
        assert losses.requires_grad
        assert not any(item.requires_grad for item in logged)


# ---------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------


def shape_errors():
    full, row, column = torch.zeros(3, 3), torch.zeros(1, 3), torch.zeros(3)
    labels = torch.zeros(1, dtype=torch.bool)
    kto_settings = {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}
    grpo_settings = {"epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.1}
    ppo_settings = {"epsilon": 0.5, "critic_coef": 0.01, "kl_coef": 0.1}
    three = (full, full, full)
    return {
        "dpo-reference": ("reference", lambda: dpo_loss(full, row, full, *three, beta=0.1)),
        "dpo-mask": ("mask", lambda: dpo_loss(*three, full, full, row, beta=0.1)),
        "dpo-batch": ("rejected", lambda: dpo_loss(*three, row, row, row, beta=0.1)),
        "kto-kl": ("mask", lambda: kto_kl(full, full, row)),
        "kto-labels": ("desirable", lambda: kto_loss(*three, labels, column[0], **kto_settings)),
        "grpo-reference": (
            "reference",
            lambda: grpo_loss(full, row, full, column, **grpo_settings),
        ),
        "grpo-advantages": ("advantages", lambda: grpo_loss(*three, full, **grpo_settings)),
        "ppo-advantages": (
            "advantages",
            lambda: ppo_loss(*three, column, full, full, **ppo_settings),
        ),
        "ppo-returns": ("returns", lambda: ppo_loss(*three, full, full, row, **ppo_settings)),
        "masked-mean": ("mask", lambda: masked_mean(full, row)),
    }


@pytest.mark.parametrize("error", shape_errors().values(), ids=shape_errors())
def test_shapes_that_would_broadcast_are_refused_by_name(error):
    name, call = error
    with pytest.raises(ValueError, match=f"{name}.* must have shape"):
        call()
