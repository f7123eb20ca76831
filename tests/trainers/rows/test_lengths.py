"""However long a few sequences are, what is padded to them at once stays within one bound."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, LlamaConfig, MambaConfig

from humanline.files.validation import ConfigError
from humanline.generation.engines import TransformersEngine, sample, sample_text
from humanline.scoring import rewards
from humanline.scoring.likelihood.tokens import score_ids, token_log_probabilities
from humanline.study.scale.sampling import Sampling
from humanline.trainers.rows.lengths import TOKENS_AT_ONCE, batches, context_of, require_room
from humanline.trainers.rows.preferences import user_turn

SAMPLING = Sampling(temperature=1.0, max_new_tokens=12)
UNSET = SimpleNamespace(model_max_length=10**30)


def fault(call, *arguments, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@given(st.lists(st.integers(1, 5000), max_size=200), st.integers(1, 50), st.integers(1, 20_000))
def test_batches_are_all_in_order_and_bounded(lengths, sequences, tokens):
    found = [lengths[batch] for batch in batches(lengths, sequences, tokens)]
    assert [length for batch in found for length in batch] == lengths
    for batch in found:
        is_bounded = len(batch) <= sequences and len(batch) * max(batch) <= tokens
        assert is_bounded or len(batch) == 1


@given(st.lists(st.integers(1, 128), min_size=1, max_size=3000))
def test_batches_of_the_miniature_are_the_1024_they_were(lengths):
    found = list(batches(lengths, 1024, TOKENS_AT_ONCE))
    assert found == [
        slice(start, min(start + 1024, len(lengths))) for start in range(0, len(lengths), 1024)
    ]


def test_one_long_sequence_is_not_what_all_are_padded_to():
    lengths = [40] * 31 + [90_000] + [40] * 32
    padded = [len(lengths[b]) * max(lengths[b]) for b in batches(lengths, 1024)]
    assert max(padded) == 90_000 and sum(padded) == sum(lengths)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(max_position_embeddings=128), 128),
        (GPT2Config(n_positions=64), 64),
        (
            LlamaConfig(
                max_position_embeddings=32768,
                rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6},
            ),
            131072,
        ),
        (
            LlamaConfig(
                max_position_embeddings=131072,
                rope_parameters={
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192,
                    "rope_theta": 5e5,
                },
            ),
            131072,
        ),
    ],
    ids=["llama", "gpt2", "yarn", "llama3"],
)
def test_the_context_is_what_the_model_says(config, expected):
    assert context_of(config, UNSET) == expected


def test_without_a_models_word_the_context_is_the_tokenizers():
    config = MambaConfig()  # it has no positions
    assert context_of(config, SimpleNamespace(model_max_length=512)) == 512
    assert context_of(config, UNSET) is None


@pytest.mark.parametrize(("tokens", "fits"), [(116, True), (117, False)])
def test_a_prompt_leaves_room_for_its_completion(tokens, fits):
    prompts = [[1] * 5, [1] * tokens]
    if fits:
        require_room(prompts, 128, 12, "train.jsonl")
        return
    message = fault(require_room, prompts, 128, 12, "train.jsonl")
    assert message.startswith("train.jsonl: row 1: a prompt of 117 tokens, and 12 for its ")


def watch(model, monkeypatch) -> list[int]:
    """The tokens, with padding, of each call of the model's sampling, which is a stand-in."""
    seen = []

    def generate(input_ids, num_return_sequences, max_new_tokens, **_):
        rows = input_ids.repeat_interleave(num_return_sequences, dim=0)
        seen.append(len(rows) * (rows.size(1) + max_new_tokens))
        return torch.cat([rows, rows[:, -2:-1]], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    return seen


@pytest.mark.parametrize("n", [1, 3, 8])
def test_sampling_is_bounded_whatever_the_mixture_of_lengths(n, model, tokenizer, monkeypatch):
    """Each row says the last character of its own prompt."""
    seen = watch(model, monkeypatch)
    engine = TransformersEngine(model, tokenizer, batch_tokens=400)
    prompts = [f"{number % 8}" * (100 if number % 5 == 1 else 4) for number in range(20)]
    texts = sample_text(engine, prompts, n=n, sampling=SAMPLING, seed=1)
    assert texts == [[prompt[-1]] * n for prompt in prompts]
    assert max(seen) <= 400
    assert len(seen) > 1


def test_a_long_prompt_beside_others_has_completions_of_its_own(model, tokenizer):
    """Also where its group does not fit in one call."""
    engine = TransformersEngine(model, tokenizer, batch_tokens=300)
    prompts = [user_turn("1+2"), user_turn("1" * 90), user_turn("7")]
    groups = sample(engine, prompts, n=5, sampling=SAMPLING, seed=1)
    assert [len(group["completion_ids"]) for group in groups] == [5, 5, 5]
    assert len(set(map(tuple, groups[1]["completion_ids"]))) == 5
    assert groups == sample(engine, prompts, n=5, sampling=SAMPLING, seed=1)


@pytest.mark.parametrize("place", ["results/data/train.jsonl", None])
def test_a_prompt_longer_than_the_context_is_refused_before_any_is_sampled(
    place, model, tokenizer, monkeypatch
):
    seen = watch(model, monkeypatch)
    engine = TransformersEngine(model, tokenizer)
    prompts = ["1+2"] * 40 + ["1" * 90_000] + ["7"] * 23
    options = {"place": place} if place else {}
    message = fault(sample_text, engine, prompts, n=1, sampling=SAMPLING, seed=1, **options)
    assert message.startswith(f"{place or 'prompts'}: row 40: a prompt of 90002 tokens, and 12 ")
    assert "context of 128" in message and not seen


def test_scoring_is_bounded_and_alike(model, tokenizer, monkeypatch):
    pairs = [([5] * (60 if number % 4 == 1 else 3), [6, 1]) for number in range(40)]
    expected = [score_ids(model, tokenizer, [pair])[0] for pair in pairs]
    seen, forward = [], type(model).forward

    def watched(self, input_ids, **options):
        seen.append(input_ids.numel())
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr("humanline.trainers.rows.lengths.batches.__defaults__", (200,))
    monkeypatch.setattr(type(model), "forward", watched)
    found = score_ids(model, tokenizer, pairs)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.tensor(own), torch.tensor(other))
    assert max(seen) <= 200 and len(seen) > 1


def test_a_completion_beyond_the_context_is_not_scored(model, tokenizer):
    pairs = [("1+2", "3"), ("7", "1" * 200)]
    message = fault(token_log_probabilities, model, tokenizer, pairs, place="offline.jsonl")
    assert message.startswith("offline.jsonl: prompt '7' has 204 tokens with its completion")


def test_a_reward_model_is_not_asked_beyond_its_context(model, tokenizer, monkeypatch):
    from humanline.study.scale.rewards import HubReward

    monkeypatch.setattr(rewards, "_load_classifier", lambda config: (model, tokenizer))
    score = rewards.load_reward(HubReward(kind="hub", repo="./", revision=None))
    message = fault(score, ["1+2"], ["1" * 200], [None])
    assert "reward ./: prompt '1+2' has 206 tokens with its completion" in message
