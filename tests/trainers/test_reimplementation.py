"""Whole trainings against the method written out plainly: a second model, a loop, no TRL."""

import copy

import pytest
import torch
from tiny import final_losses, make_trainer, rows

from humanline.trainers.rows.preferences import assistant_turn, user_turn

STEPS, K, BETA, LOW, HIGH, RATE = 7, 3, 0.5, -0.02, 0.03, 1e-2


def completion_log_probs(model, tokenizer, prompt, completion):
    """Log-probabilities (T,) of one completion's tokens, and of the end of the turn."""
    before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    ids = torch.tensor(tokenizer.apply_chat_template(prompt + completion)["input_ids"])
    log_probs = model(ids[None]).logits[0, :-1].log_softmax(-1)
    return log_probs.gather(1, ids[1:, None]).squeeze(1)[len(before) - 1 :]


def perceived(policy, reference, tokenizer, prompt, completion):
    """Log-ratios clipped to [LOW, HIGH]."""
    with torch.no_grad():
        fixed = completion_log_probs(reference, tokenizer, prompt, completion)
    free = completion_log_probs(policy, tokenizer, prompt, completion)
    return torch.clamp(free - fixed, LOW, HIGH)


def dpo_loss(policy, reference, tokenizer, pairs):
    losses = []
    for pair in pairs:
        sums = [
            perceived(policy, reference, tokenizer, pair["prompt"], pair[side]).sum()
            for side in ("chosen", "rejected")
        ]
        losses.append(-torch.nn.functional.logsigmoid(BETA * (sums[0] - sums[1])))
    return torch.stack(losses).mean()


def grpo_loss(policy, reference, tokenizer, groups):
    """TRL's advantages and its average over all tokens of the step ("dapo"); epsilon 0.2."""
    losses = []
    for group in groups:
        scores = torch.tensor(group["scores"])
        advantages = (scores - scores.mean()) / (scores.std() + 1e-4)
        for text, advantage in zip(group["completions"], advantages, strict=True):
            turns = group["prompt"], assistant_turn(text)
            ratio = torch.exp(perceived(policy, reference, tokenizer, *turns))
            clipped = torch.clamp(ratio, 0.8, 1.2)
            losses.append(-torch.minimum(advantage * ratio, advantage * clipped))
    return torch.cat(losses).mean()


def train_plainly(policy, tokenizer, data, loss_of) -> list[float]:
    """The authors' loop: before every k-th update the second model takes the policy's weights."""
    reference = copy.deepcopy(policy)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
    losses = []
    for step in range(1, STEPS + 1):
        loss = loss_of(policy, reference, tokenizer, data)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        if step % K == 0:
            reference.load_state_dict(policy.state_dict())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("reference", ["cached", "model"])
@pytest.mark.parametrize("objective", ["dpo", "grpo"])
def test_a_training_is_the_plain_one(objective, reference, model, tokenizer, groups, tmp_path):
    """Every step trains on all data, so that their order does not matter."""
    dataset = rows(objective, groups[:4])
    plain = copy.deepcopy(model)
    if objective == "dpo":
        data, loss_of, options = list(dataset), dpo_loss, {"beta": BETA}
    else:
        data = [group | {"prompt": user_turn(group["prompt"])} for group in groups[:4]]
        loss_of, options = grpo_loss, {"loss_type": "dapo", "beta": 0.0}
    expected = train_plainly(plain, tokenizer, data, loss_of)

    options |= {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4 if objective == "dpo" else 16,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "sync_interval": K,
        "log_eps_p": LOW,
        "log_eps_r": HIGH,
        "reference": reference,
    }
    trainer = make_trainer(objective, model, tokenizer, dataset, tmp_path, **options)
    losses = final_losses(trainer)
    assert losses == pytest.approx(expected, abs=2e-5)
    assert len(set(losses)) > 3  # something was learned
    for name, parameter in plain.state_dict().items():
        trained = trainer.model.state_dict()[name].cpu()  # the plain training's device
        torch.testing.assert_close(trained, parameter, atol=2e-4, rtol=0)
