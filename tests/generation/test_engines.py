import pytest
import torch

from humanline.generation.engines import TransformersEngine, load_model, sample, sample_text
from humanline.study.scale.sampling import Sampling
from humanline.trainers.rows.preferences import assistant_turn, user_turn

PROMPTS = ["1+2", "a+ ~ L", "10-3+4-1", "b- * S", "7"]
SAMPLING = Sampling(temperature=1.0, max_new_tokens=12)
CONVERSATIONS = [user_turn(prompt) for prompt in PROMPTS]


def draw(model, tokenizer, prompts=CONVERSATIONS, batch_size=1024, **options):
    options = {"n": 3, "sampling": SAMPLING, "seed": 1} | options
    return sample(TransformersEngine(model, tokenizer, batch_size), prompts, **options)


@pytest.fixture
def forgetful(model, tokenizer):
    """A model that ends a completion about every third token."""
    head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.bias[tokenizer.eos_token_id] = torch.tensor(float(len(tokenizer) / 2)).log()
    model.lm_head = head
    return model


@pytest.fixture
def echo(model):
    """A model that repeats its last token for ever."""
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        table = 100 * torch.nn.functional.one_hot(
            torch.arange(model.config.vocab_size) % 16, model.config.hidden_size
        )
        model.model.embed_tokens.weight.copy_(table)
    return model


def test_the_same_seed_gives_the_same_samples(model, tokenizer):
    assert draw(model, tokenizer) == draw(model, tokenizer)
    assert draw(model, tokenizer) != draw(model, tokenizer, seed=2)


@pytest.mark.parametrize("n", [1, 4])
def test_every_prompt_gets_n_completions(model, tokenizer, n):
    groups = draw(model, tokenizer, n=n)
    assert [len(group["completion_ids"]) for group in groups] == [n] * len(PROMPTS)


def test_completions_of_a_group_are_drawn_independently(model, tokenizer):
    for group in draw(model, tokenizer, n=4):
        assert len(set(map(tuple, group["completion_ids"]))) == 4


@pytest.mark.parametrize("batch_size", [1, 2, 6, 7, 1024])
def test_order_and_prompts_do_not_depend_on_the_batch_size(model, tokenizer, batch_size):
    groups = draw(model, tokenizer, batch_size=batch_size)
    decoded = [tokenizer.decode(group["prompt_ids"]) for group in groups]
    assert decoded == [f"<|user|>{prompt}<|assistant|>" for prompt in PROMPTS]


@pytest.mark.parametrize("batch_size", [1, 6, 1024])
def test_completions_belong_to_their_prompts(model, tokenizer, batch_size):
    """At a tiny temperature sampling is greedy, so each prompt alone says what must come out."""
    cold = Sampling(temperature=1e-4, max_new_tokens=6)
    together = draw(model, tokenizer, sampling=cold, batch_size=batch_size)
    alone = [draw(model, tokenizer, [prompt], sampling=cold)[0] for prompt in CONVERSATIONS]
    assert together == alone


@pytest.mark.parametrize("batch_size", [1, 6, 1024])
def test_no_two_prompts_completions_are_swapped(model, tokenizer, batch_size, monkeypatch):
    """A stand-in for the model's sampling says the last character of each row's own prompt."""

    def generate(input_ids, num_return_sequences, **_):
        rows = input_ids.repeat_interleave(num_return_sequences, dim=0)
        return torch.cat([rows, rows[:, -2:-1]], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    engine = TransformersEngine(model, tokenizer, batch_size)
    texts = sample_text(engine, PROMPTS, n=3, sampling=SAMPLING, seed=1)
    assert texts == [[prompt[-1]] * 3 for prompt in PROMPTS]


def test_a_prompt_is_computed_once_for_its_completions(model, tokenizer):
    rows = []
    model.model.embed_tokens.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    draw(model, tokenizer, n=3)
    assert rows[0] == len(PROMPTS)


def test_padding_does_not_reach_prompt_ids(model, tokenizer):
    for group in draw(model, tokenizer):
        assert tokenizer.pad_token_id not in group["prompt_ids"]


def test_the_end_token_is_kept_once_and_nothing_follows(forgetful, tokenizer):
    groups = draw(forgetful, tokenizer, n=20)
    completions = [ids for group in groups for ids in group["completion_ids"]]
    end = tokenizer.eos_token_id
    for ids in completions:
        assert end not in ids[:-1]
        assert ids[-1] == end or len(ids) == SAMPLING.max_new_tokens
    assert len({len(ids) for ids in completions}) > 5


def test_length_is_capped(model, tokenizer):
    groups = draw(model, tokenizer, sampling=Sampling(temperature=1.0, max_new_tokens=4))
    lengths = [len(ids) for group in groups for ids in group["completion_ids"]]
    assert max(lengths) == 4
    assert min(lengths) >= 1


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_its_mode(model, tokenizer, training):
    model.train(training)
    draw(model, tokenizer)
    assert model.training is training


def test_sampling_ignores_dropout(model, tokenizer):
    model.model.layers[0].self_attn.attention_dropout = 0.9
    model.train()
    in_training = draw(model, tokenizer)
    model.eval()
    assert in_training == draw(model, tokenizer)


def test_temperature_flattens(model, tokenizer):
    """All probability of a biased head goes to its favourite when cold, and spreads when hot."""

    def share(temperature):
        sampling = Sampling(temperature=temperature, max_new_tokens=8)
        groups = draw(biased, tokenizer, n=50, sampling=sampling)
        ids = [i for group in groups for completion in group["completion_ids"] for i in completion]
        return ids.count(favourite) / len(ids)

    biased, favourite = model, tokenizer.convert_tokens_to_ids("a")
    biased.lm_head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size)
    with torch.no_grad():
        biased.lm_head.weight.zero_()
        biased.lm_head.bias.zero_()
        biased.lm_head.bias[favourite] = 2.0
    expected = {t: 1 / (1 + (len(tokenizer) - 1) * 2.718281828 ** (-2 / t)) for t in (0.5, 1, 2)}
    assert {t: share(t) for t in expected} == pytest.approx(expected, abs=0.06)


def test_top_p_keeps_only_the_nucleus(model, tokenizer):
    favourite = tokenizer.convert_tokens_to_ids("a")
    model.lm_head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.zero_()
        model.lm_head.bias[favourite] = 4.0  # probability 0.59
    sampling = Sampling(temperature=1.0, top_p=0.5, max_new_tokens=8)
    for group in draw(model, tokenizer, sampling=sampling):
        assert group["completion_ids"] == [[favourite] * 8] * 3


def test_a_last_token_model_continues_its_own_prompt(echo, tokenizer):
    """Left padding: what a completion starts from is its prompt's last token, not padding."""
    cold = Sampling(temperature=1e-3, max_new_tokens=3)
    last = tokenizer.convert_tokens_to_ids("<|assistant|>")
    for group in draw(echo, tokenizer, sampling=cold):
        for ids in group["completion_ids"]:
            assert [i % 16 for i in ids] == [last % 16] * 3


def test_text_is_the_decoded_completion_without_special_tokens(forgetful, tokenizer):
    options = {"n": 3, "sampling": SAMPLING, "seed": 1}
    groups = draw(forgetful, tokenizer, **options)
    texts = sample_text(TransformersEngine(forgetful, tokenizer), PROMPTS, **options)
    assert texts == [
        tokenizer.batch_decode(group["completion_ids"], skip_special_tokens=True)
        for group in groups
    ]
    assert not any("<|" in text or "<pad>" in text for group in texts for text in group)


def test_ids_fit_what_the_chat_template_makes_of_prompt_and_completion(tokenizer):
    conversation = user_turn("1+2") + assistant_turn("3")
    whole = tokenizer.apply_chat_template(conversation, tokenize=True)["input_ids"]
    prompt = tokenizer.apply_chat_template(
        user_turn("1+2"), add_generation_prompt=True, tokenize=True
    )["input_ids"]
    assert whole[: len(prompt)] == prompt


GREEDY = Sampling(temperature=0, max_new_tokens=8)


def test_at_temperature_zero_the_likeliest_token_is_taken(model, tokenizer):
    model.generation_config.update(repetition_penalty=5.0, top_k=1)  # as chat models recommend
    for group in draw(model, tokenizer, n=1, sampling=GREEDY):
        ids = list(group["prompt_ids"])
        for token in group["completion_ids"][0]:
            assert model(torch.tensor([ids])).logits[0, -1].argmax() == token
            ids.append(token)


def test_several_greedy_completions_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match="ask for 1, not 3"):
        draw(model, tokenizer, sampling=GREEDY)


def test_log_probabilities_are_the_models_own_at_temperature_one(forgetful, tokenizer):
    sampling = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=12)
    for group in draw(forgetful, tokenizer, sampling=sampling, log_probabilities=True):
        for ids, found in zip(group["completion_ids"], group["log_probabilities"], strict=True):
            whole = torch.tensor([group["prompt_ids"] + ids])
            with torch.no_grad():
                scores = forgetful(whole).logits[0, :-1].log_softmax(-1)
            expected = scores.gather(-1, whole[0, 1:, None])[-len(ids) :, 0].tolist()
            assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_stop_string_ends_a_completion(model, tokenizer, prompt):
    engine = TransformersEngine(model, tokenizer)

    def text(stop):
        sampling = Sampling(temperature=1.0, max_new_tokens=12, stop=stop)
        ((text,),) = sample_text(engine, [prompt], n=1, seed=1, sampling=sampling)
        (group,) = sample(engine, [user_turn(prompt)], n=1, seed=1, sampling=sampling)
        (ids,) = group["completion_ids"]
        return text, tokenizer.decode(ids, skip_special_tokens=True)

    whole, _ = text(())
    stop = whole[2:4]
    left, with_stop = text(("never", stop))
    assert left == whole[: whole.index(stop)]
    assert with_stop.startswith(left + stop) and whole.startswith(with_stop)


def test_a_stop_string_does_not_begin_in_the_prompt(model, tokenizer):
    greedy = Sampling(temperature=0, max_new_tokens=8)
    (group,) = draw(model, tokenizer, n=1, sampling=greedy)[:1]
    (ids,) = group["completion_ids"]
    stop = tokenizer.decode(group["prompt_ids"][-1:]) + tokenizer.decode(ids[:1])
    sampling = greedy.model_copy(update={"stop": (stop,)})
    assert draw(model, tokenizer, n=1, sampling=sampling)[0]["completion_ids"] == [ids]


def test_what_follows_a_stop_string_is_padding(model, tokenizer):
    """In a batch, a stopped sequence is padded until the others end."""
    sampling = Sampling(temperature=1.0, max_new_tokens=12, stop=("a", "1"))
    groups = draw(model, tokenizer, n=20, sampling=sampling)
    lengths = set()
    for group in groups:
        for ids in group["completion_ids"]:
            text = tokenizer.decode(ids, skip_special_tokens=True)
            assert "a" not in text[:-1] and "1" not in text[:-1]
            assert ids[-1] != tokenizer.pad_token_id or len(ids) == 12
            lengths.add(len(ids))
    assert len(lengths) > 3


def test_every_end_token_of_the_model_ends_a_completion(model, tokenizer):
    end = tokenizer.convert_tokens_to_ids("b")
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, end]
    completions = [ids for group in draw(model, tokenizer, n=50) for ids in group["completion_ids"]]
    assert any(ids[-1] == end for ids in completions)
    assert not any(end in ids[:-1] for ids in completions)


def test_a_tokenizer_without_padding_pads_with_the_end(model_folder, tmp_path):
    import shutil

    from transformers import AutoTokenizer

    folder = shutil.copytree(model_folder, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    _, loaded = load_model(folder)
    assert loaded.pad_token == loaded.eos_token
