import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError

from humanline.study.scale.data import MiniatureData
from humanline.study.scale.models import Lessons
from humanline.trainers.rows.preferences import assistant_turn, user_turn
from humanline.worlds import letters, miniature, sums, tiny_model
from humanline.worlds.tiny_model import (
    BOXED,
    CHARACTERS,
    build_model,
    build_tokenizer,
    divide_logits,
)

TOKENIZER = build_tokenizer()
text = st.lists(st.sampled_from([*CHARACTERS, BOXED]), max_size=30).map("".join)


def ids(conversation, **options) -> list[int]:
    return TOKENIZER.apply_chat_template(conversation, tokenize=True, **options)["input_ids"]


def world() -> list[str]:
    """Texts that the world produces, both tasks, careless or not."""
    rng = random.Random(0)
    texts = []
    data = MiniatureData(kind="miniature", train=2, validation=1, evaluation=1)
    lessons = Lessons.model_construct(examples=500, carelessness=0.45)
    for task in ("instruction_following", "math_reasoning"):
        for row in miniature.fine_tuning_rows(task, data, lessons, 3):
            texts += [row["prompt"], row["completion"]]
    for row in sums.problems(300, 4):
        texts += [row["answer"], sums.worked_solution(row["prompt"], rng, 1.0)]
    return texts + [letters.sample_prompt(rng) for _ in range(300)]


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_a_temperature_divides_the_logits_and_leaves_the_likeliest(architecture):
    sizes = {"hidden_size": 16, "intermediate_size": 24, "layers": 1, "heads": 2, "seed": 3}
    model = build_model(**sizes, architecture=architecture).eval()
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        before = model(tokens).logits
        divide_logits(model, 1.25)
        torch.testing.assert_close(model(tokens).logits, before / 1.25)


@given(text)
def test_texts_round_trip(content):
    encoded = TOKENIZER(content, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(encoded) == content
    assert TOKENIZER.decode(encoded, skip_special_tokens=True) == content


def test_all_the_world_round_trips_without_unknown_characters():
    for content in world():
        encoded = TOKENIZER(content, add_special_tokens=False)["input_ids"]
        assert TOKENIZER.unk_token_id is None or TOKENIZER.unk_token_id not in encoded
        assert TOKENIZER.pad_token_id not in encoded
        assert TOKENIZER.decode(encoded, skip_special_tokens=True) == content


def test_one_token_per_character_and_one_for_the_box():
    assert len(TOKENIZER.tokenize("3,7\\boxed{-12}")) == 3 + 1 + 4
    assert len(TOKENIZER.tokenize("a+ ~ L")) == 6


def test_nothing_is_added_around_a_text():
    assert TOKENIZER("ab")["input_ids"] == TOKENIZER("ab", add_special_tokens=False)["input_ids"]


@given(text, text)
def test_prompt_ids_are_a_prefix(prompt, completion):
    before = ids(user_turn(prompt), add_generation_prompt=True)
    whole = ids(user_turn(prompt) + assistant_turn(completion))
    assert whole[: len(before)] == before
    rest = whole[len(before) :]
    assert rest.pop() == TOKENIZER.eos_token_id
    assert TOKENIZER.decode(rest) == completion


def test_the_template_says_who_speaks():
    rendered = TOKENIZER.apply_chat_template(user_turn("1+2") + assistant_turn("3"), tokenize=False)
    assert rendered == "<|user|>1+2<|assistant|>3<|end|>"


def test_the_template_refuses_other_roles():
    with pytest.raises(TemplateError, match="user and assistant"):
        ids([{"role": "system", "content": "a"}])


def test_special_tokens_are_distinct_and_single():
    names = (tiny_model.PAD, tiny_model.EOS, tiny_model.USER, tiny_model.ASSISTANT, BOXED)
    assert [len(TOKENIZER.tokenize(name)) for name in names] == [1] * 5
    assert len(set(TOKENIZER.convert_tokens_to_ids(list(names)))) == 5


def test_the_saved_tokenizer_is_the_built_one(model_folder):
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(model_folder)
    assert loaded.get_vocab() == TOKENIZER.get_vocab()
    assert loaded.chat_template == TOKENIZER.chat_template
    assert (loaded.pad_token, loaded.eos_token) == (tiny_model.PAD, tiny_model.EOS)
    assert loaded.padding_side == "left"
    conversation = user_turn("a+ ~ L") + assistant_turn("adad")
    assert loaded.apply_chat_template(conversation)["input_ids"] == ids(conversation)


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 2**31))
def test_models_depend_on_the_seed_alone(seed):
    size = {"hidden_size": 16, "intermediate_size": 32, "layers": 1, "heads": 2}
    first, second, other = (build_model(**size, seed=s) for s in (seed, seed, seed + 1))
    weights = [m.state_dict()["model.embed_tokens.weight"] for m in (first, second, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_a_saved_untrained_model_loads(tmp_path):
    from transformers import AutoModelForCausalLM

    size = {"hidden_size": 16, "intermediate_size": 32, "layers": 1, "heads": 2}
    build_model(**size, seed=0).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.vocab_size == len(TOKENIZER)
    assert loaded.generation_config.eos_token_id == TOKENIZER.eos_token_id


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_an_architecture_is_transformers_own(architecture):
    size = {"hidden_size": 16, "intermediate_size": 32, "layers": 2, "heads": 2}
    model = build_model(**size, seed=0, architecture=architecture)
    assert model.config.model_type == architecture
    assert model.config.num_key_value_heads == model.config.num_attention_heads == 2
    assert model.lm_head.weight is model.model.embed_tokens.weight
