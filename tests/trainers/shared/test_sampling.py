"""Leaving work out of transformers' sampling changes no sample."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from tiny import make_trainer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    T5Config,
)

from humanline.trainers.rows import preferences
from humanline.trainers.shared.sampling import lean_generate
from humanline.worlds.tiny_model import build_model

SIZES = {"hidden_size": 16, "intermediate_size": 32, "layers": 2, "heads": 2, "seed": 0}
LENGTHS = (3, 1, 7, 4)  # of the prompts
ENDS = list(range(1, 8))  # of 37 tokens, so that completions end at different times
OPTIONS = {"pad_token_id": 0, "eos_token_id": ENDS, "max_new_tokens": 20, "do_sample": True}


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request):
    return build_model(**SIZES, architecture=request.param).eval()


@pytest.fixture(scope="module")
def llama():
    return build_model(**SIZES, architecture="llama").eval()


def inputs(repeats=1):
    """Prompts padded on the left, each `repeats` times in a row."""
    ids = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    draws = torch.Generator().manual_seed(1)
    for row, length in enumerate(LENGTHS):
        ids[row, -length:] = torch.randint(8, 37, (length,), generator=draws)
    mask = (ids > 0).long()
    return {
        "input_ids": ids.repeat_interleave(repeats, 0),
        "attention_mask": mask.repeat_interleave(repeats, 0),
    }


def generate(model, given, **options):
    """Sample, and say how many rows the model has computed at each call."""
    rows = []
    hook = model.get_input_embeddings().register_forward_pre_hook(
        lambda _, given: rows.append(len(given[0]))
    )
    torch.manual_seed(0)
    try:
        return model.generate(**given, **OPTIONS | options), rows
    finally:
        hook.remove()


def both(model, given, **options):
    theirs, their_rows = generate(model, given, **options)
    with lean_generate(model):
        ours, our_rows = generate(model, given, **options)
    assert torch.equal(ours, theirs) and not torch.equal(ours[0], ours[-1])
    return our_rows, their_rows


@pytest.mark.parametrize("repeated", [True, False], ids=["repeated", "num_return_sequences"])
@pytest.mark.parametrize("do_sample", [True, False], ids=["sampled", "greedy"])
def test_samples_are_those_of_transformers(model, do_sample, repeated):
    given = inputs(6) if repeated else inputs()
    options = {} if repeated else {"num_return_sequences": 6 if do_sample else 1}
    ours, theirs = both(model, given, do_sample=do_sample, **options)
    assert ours[0] == len(LENGTHS), "each prompt is computed once"
    assert ours[1:] == sorted(ours[1:], reverse=True) and len(ours) == len(theirs)
    if do_sample:
        assert set(theirs) == {6 * len(LENGTHS)} and sum(ours) < sum(theirs) / 2


ROW_BY_ROW = [
    {"temperature": 0.7, "top_p": 0.9, "top_k": 12, "min_p": 0.01, "repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 2, "bad_words_ids": [[9], [10, 11]], "begin_suppress_tokens": ENDS},
    {"min_new_tokens": 5, "exponential_decay_length_penalty": (6, 1.5), "typical_p": 0.9},
    {"forced_eos_token_id": 3, "eos_token_id": 3, "sequence_bias": {(12,): 2.0}},
]


@pytest.mark.parametrize("options", ROW_BY_ROW, ids=lambda options: next(iter(options)))
def test_every_option_that_works_row_by_row_keeps_its_meaning(llama, options):
    ours, theirs = both(llama, inputs(6), **options)
    assert ours[0] == len(LENGTHS) and sum(ours) < sum(theirs)


LEFT_TO_TRANSFORMERS = [
    {"num_beams": 2},
    {"use_cache": False},
    {"guidance_scale": 1.5},
    {"cache_implementation": "static", "disable_compile": True},
    {"encoder_repetition_penalty": 1.5},
    {"prefill_chunk_size": 2},
    {"position_ids": inputs()["attention_mask"].cumsum(1).repeat_interleave(6, 0)},
]


@pytest.mark.parametrize("options", LEFT_TO_TRANSFORMERS, ids=lambda options: next(iter(options)))
def test_what_does_not_work_row_by_row_is_left_to_transformers(llama, options):
    ours, theirs = both(llama, inputs(6), **options)
    assert ours == theirs


def test_other_caches_are_left_to_transformers():
    sizes = {"vocab_size": 37, "hidden_size": 16, "intermediate_size": 32}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    torch.manual_seed(0)
    window = AutoConfig.for_model("mistral", **sizes, head_dim=8, sliding_window=4)
    for config in (window, AutoConfig.for_model("mamba", **sizes, state_size=4)):
        ours, theirs = both(AutoModelForCausalLM.from_config(config).eval(), inputs(6))
        assert ours == theirs


def test_an_encoder_and_decoder_is_left_to_transformers():
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=37, decoder_start_token_id=0, **sizes)
    both(AutoModelForSeq2SeqLM.from_config(config).eval(), inputs(6))


def test_adapters_sample_as_with_transformers():
    lora = LoraConfig(target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    ours, _ = both(get_peft_model(build_model(**SIZES), lora).eval(), inputs(6))
    assert ours[0] == len(LENGTHS)
    prompt = PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    ours, theirs = both(get_peft_model(build_model(**SIZES), prompt).eval(), inputs(6))
    assert ours == theirs


def test_generate_is_transformers_own_after_the_block(llama):
    with pytest.raises(KeyError), lean_generate(llama):
        assert "generate" in vars(llama)
        raise KeyError
    assert "generate" not in vars(llama)


def test_online_grpo_computes_a_prompt_once_for_its_group(model_folder, tokenizer, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    prompts = [{"prompt": preferences.user_turn(f"{number}+1")} for number in range(2)]
    calls = []

    def reward(completions, **_):
        return [float(len(completion[0]["content"])) for completion in completions]

    trainer = make_trainer(
        "grpo", model, tokenizer, Dataset.from_list(prompts), tmp_path,
        extra={"reward_funcs": reward}, max_steps=1,
    )  # fmt: skip
    embeddings = trainer.model.get_input_embeddings()
    embeddings.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    trainer.train()
    assert calls[0] == 2, "prompts of eight completions"
