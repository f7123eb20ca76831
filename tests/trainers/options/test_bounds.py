"""Online GRPO: what is sampled at once is bounded, and a prompt without room is refused before."""

import pytest
import torch
from datasets import Dataset
from tiny import GROUP, make_trainer

from humanline.trainers import grpo
from humanline.trainers.rows.preferences import user_turn

SHORT, LONG = "1+2", "1" * 100


def sampled(prompts: list[str], model, tokenizer, folder, monkeypatch, limit=2**17) -> list[int]:
    """Train one step on the prompts; the tokens, with padding, of each call of the sampling."""
    seen, generate = [], type(model).generate

    def watched(self, input_ids, *args, generation_config, **options):
        seen.append(len(input_ids) * (input_ids.size(1) + generation_config.max_new_tokens))
        return generate(self, input_ids, *args, generation_config=generation_config, **options)

    monkeypatch.setattr(type(model), "generate", watched)
    monkeypatch.setattr("humanline.trainers.rows.lengths.batches.__defaults__", (limit,))
    torch.manual_seed(0)
    rows = Dataset.from_list([{"prompt": user_turn(prompt)} for prompt in prompts])
    options = {"max_steps": 1, "per_device_train_batch_size": GROUP * len(prompts)}
    reward = {"reward_funcs": lambda completions, **_: [float(len(c[0])) for c in completions]}
    trainer = make_trainer("grpo", model, tokenizer, rows, folder, extra=reward, **options)
    trainer.train()
    assert trainer.state.global_step == 1
    return seen


def test_a_long_prompt_is_not_what_all_are_padded_to(model, tokenizer, tmp_path, monkeypatch):
    prompts = [SHORT] * 6 + [LONG]
    seen = sampled(prompts, model, tokenizer, tmp_path, monkeypatch, limit=500)
    assert len(seen) > 1 and max(seen) <= 500


def test_short_prompts_are_sampled_together(model, tokenizer, tmp_path, monkeypatch):
    assert len(sampled([SHORT] * 6, model, tokenizer, tmp_path, monkeypatch)) == 1


def test_a_prompt_without_room_for_its_completion_is_refused_before_sampling(
    model, tokenizer, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        grpo.GRPOTrainer, "_generate_single_turn", lambda *args, **_: seen.append(args)
    )
    with pytest.raises(
        ValueError, match=r"prompt that begins '1111.* a prompt of 127 tokens, and 6"
    ):
        sampled([SHORT, "1" * 125], model, tokenizer, tmp_path, monkeypatch)
    assert not seen
