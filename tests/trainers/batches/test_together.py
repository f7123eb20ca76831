"""Batches that are scored together, as on a GPU, get the scores that they get one by one."""

import pytest
import torch
from tiny import OBJECTIVES, final_losses, make_trainer, rows
from trl.trainer.utils import add_fused_lm_head

from humanline.trainers.batches.together import Sequences, _together, scores_of


def batch(rows: int, length: int, draws: torch.Generator) -> Sequences:
    """Random tokens: rows begin or end with padding, and the second half is scored."""
    ids = torch.randint(3, 20, (rows, length), generator=draws)
    attention = torch.ones_like(ids)
    attention[0, :2], attention[-1, -2:] = 0, 0
    scored = attention.clone()
    scored[:, : length // 2] = 0
    return Sequences(ids, attention, scored, width=length - length // 2)


def test_joined_batches_have_the_scores_of_each(model):
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    draws = torch.Generator().manual_seed(0)
    batches = [batch(*shape, draws) for shape in ((4, 12), (2, 11), (3, 12), (3, 5))]
    with torch.no_grad():
        alone, together = scores_of(model, batches), scores_of(model, batches, at_once=8)
    assert list(_together(batches, 8)) == [(0, 3), (3, 4)]  # the last has much shorter sequences
    for one, joined, scored in zip(alone, together, batches, strict=True):
        assert one.shape == joined.shape == (len(scored.input_ids), scored.width)
        assert (one[scored.scored[:, -scored.width :] != 0] < 0).all()
        torch.testing.assert_close(joined, one, atol=1e-5, rtol=0)


def test_as_many_batches_are_together_as_there_is_room_for():
    draws = torch.Generator().manual_seed(0)
    small, large = batch(4, 8, draws), batch(2**5, 2**9, draws)
    assert list(_together([small] * 5, 1)) == [(i, i + 1) for i in range(5)]
    assert list(_together([small] * 5, 2)) == [(0, 2), (2, 4), (4, 5)]
    assert list(_together([large] * 3, 3)) == [(0, 2), (2, 3)]
    assert list(_together([], 3)) == []


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_training_that_scores_batches_together_has_the_same_losses(
    objective, model_folder, tokenizer, groups, tmp_path, monkeypatch
):
    from transformers import AutoModelForCausalLM

    found = []
    for at_once in (1, 8):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        dataset, options = rows(objective, groups), {"sync_interval": 3}
        trainer = make_trainer(objective, model, tokenizer, dataset, tmp_path, **options)
        monkeypatch.setattr(type(trainer), "_batches_at_once", at_once)
        found.append(final_losses(trainer))
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert len(set(found[0])) > 3


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_policy_leaves_out_entropies_only_while_it_scores(
    objective, bf16, model, tokenizer, groups, tmp_path
):
    dataset = rows(objective, groups)
    options = {"bf16": bf16, "use_cpu": True}
    trainer = make_trainer(objective, model, tokenizer, dataset, tmp_path, **options)
    trainer.accelerator.prepare_model(model)  # as before training
    ids = torch.arange(3, 9)[None]

    def outputs():
        return model(input_ids=ids, labels=ids, fused_lm_head=True)

    with torch.no_grad():
        before = outputs()
        with trainer.log_probs_alone():
            lean = outputs()
        after = outputs()
    assert lean.entropy is None
    assert lean.log_probs.tolist() == before.log_probs.tolist()
    assert lean.log_probs.dtype == before.log_probs.dtype
    assert after.entropy.tolist() == before.entropy.tolist()
