"""The same conversation is the same tokens in DPO, KTO and GRPO, whatever the chat template."""

import json

import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDataset
from tiny import OBJECTIVES, make_trainer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from humanline.scoring.likelihood.tokens import token_log_probabilities
from humanline.trainers.rows.conversations import (
    encode,
    encode_all,
    encode_groups,
    encode_prompt,
    encode_prompts,
    encode_whole,
    template_options,
)
from humanline.trainers.rows.tokens import all_prompt_ids, tokenized_labelled

MARKS = [
    *("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|end|>"),
    *("<start_of_turn>", "<end_of_turn>", "<|header|>", "<|eot|>"),
]
TURNS = "{% for m in messages %}"
TEMPLATES = {
    "phi": TURNS + "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
    "gemma": "{{ bos_token }}" + TURNS + "<start_of_turn>{{ m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}",
    "chatml": "{% if tools %}<|im_start|>tools {{ tools | tojson }}<|im_end|>\n{% endif %}"
    + TURNS + "<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
    "{% if m.tool_calls is defined %}{{ m.tool_calls | tojson }}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "llama": "{{ bos_token }}" + TURNS + "<|header|>{{ m.role }}\n\n{{ m.content }}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|header|>assistant\n\n{% endif %}",
    "nothing": TURNS + "{{ m.role }}: {{ m.content }}"
    "{% if m.role != 'assistant' %}, {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}",
    "thinks": TURNS + "<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}"
    "<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}"
    "{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    "thinks in vain": TURNS + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}",
}  # fmt: skip
EOS = {"chatml": "<|im_end|>", "thinks": "<|im_end|>", "llama": "<|eot|>"}


def user(text):
    return {"role": "user", "content": text}


def says(text, **more):
    return {"role": "assistant", "content": text} | more


PAIRS = [  # prompt, chosen, rejected
    ([user("q")], [says("good")], [says("bad")]),
    ([{"role": "system", "content": "be brief"}, user(" q ")], [says(" good \n")], [says("bad")]),
    ([user("q"), says("a"), user("q2")], [says("good")], [says("b")]),
    ([user("q")], [says("a"), user("q2"), says("good")], [says("bad"), user("x"), says("y")]),
    ([user("q")], [says("so</think>good")], [says("bad", reasoning_content="hm")]),
]
CALLS = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
OTHER_CALLS = [{"type": "function", "function": {"name": "sub", "arguments": {"b": 2}}}]
TOOL_PAIR = (
    [user("1+1")],
    [says("", tool_calls=CALLS), {"role": "tool", "content": "2"}, says("two")],
    [says("", tool_calls=OTHER_CALLS), {"role": "tool", "content": "0"}, says("none")],
)
TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {}}}}},
    {"type": "function", "function": {"name": "sub", "parameters": {"properties": {"b": {}}}}},
]


def tokenizer_of(template: str, adds_bos: bool = False):
    """A token for each byte and each mark; with `adds_bos` as Llama's, which begins a text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    if adds_bos:
        bos = ("<s>", tokenizer.token_to_id("<s>"))
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[bos])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token=EOS.get(template, "</s>"),
        pad_token="<pad>",
        chat_template=TEMPLATES[template],
        padding_side="left",
    )


@pytest.fixture(scope="module")
def small_model():
    size = len(tokenizer_of("chatml"))
    widths = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    config = AutoConfig.for_model("llama", vocab_size=size, num_hidden_layers=1, **widths)
    return AutoModelForCausalLM.from_config(config)


def columns(objective: str, row: tuple, **more) -> list[dict]:
    """A pair as rows of an objective: one, or two of KTO."""
    prompt, chosen, rejected = row
    prompted = more if prompt is None else {"prompt": prompt} | more
    if objective == "dpo":
        return [prompted | {"chosen": chosen, "rejected": rejected}]
    if objective == "grpo":
        return [prompted | {"completions": [chosen, rejected], "scores": [1.0, 0.0]}]
    labelled = ((chosen, True), (rejected, False))
    return [prompted | {"completion": text, "label": label} for text, label in labelled]


def trained_on(objective, rows: list[dict], model, tokenizer, folder, kind=Dataset.from_list):
    """All (prompt ids, completion ids) that a trainer's batches have, sorted."""
    options = {"num_generations": 2, "per_device_train_batch_size": 2 * len(rows)}
    if objective != "grpo":
        options = {"per_device_train_batch_size": len(rows) if len(rows) > 1 else 2}
    options |= {"max_length": None} if objective != "grpo" else {"max_completion_length": 999}
    trainer = make_trainer(objective, model, tokenizer, kind(rows), folder, **options)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    batch = trainer._prepare_inputs(batch)
    if objective == "grpo":
        pairs = zip(*(masked(batch, part) for part in ("prompt", "completion")), strict=True)
        return sorted(pairs)
    ids, mask = batch["input_ids"], batch["completion_mask"]
    attended = batch["attention_mask"].bool()
    return sorted(
        (row[~own & seen].tolist(), row[own].tolist())
        for row, own, seen in zip(ids, mask.bool(), attended, strict=True)
    )


def masked(batch, part) -> list[list[int]]:
    ids, mask = batch[f"{part}_ids"], batch[f"{part}_mask"].bool()
    return [row[own].tolist() for row, own in zip(ids, mask, strict=True)]


def all_three(rows: list[tuple], model, tokenizer, folder, **more) -> list:
    """What the three trainers train on, the same in all."""
    found = []
    for objective in OBJECTIVES:
        own = [each for row in rows for each in columns(objective, row, **more)]
        found.append(trained_on(objective, own, model, tokenizer, folder))
    assert found[0] == found[1]
    assert found[0] == found[2]
    return found[0]


def text_ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def rendered(tokenizer, prompt, completion, **options):
    text = tokenizer.apply_chat_template([*prompt, *completion], tokenize=False, **options)
    return text_ids(tokenizer, text)


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_three_trainers_train_on_what_the_template_writes(template, small_model, tmp_path):
    tokenizer = tokenizer_of(template)
    found = all_three(PAIRS, small_model, tokenizer, tmp_path)
    expected = [rendered(tokenizer, row[0], side) for row in PAIRS for side in row[1:]]
    assert sorted(prompt + ids for prompt, ids in found) == sorted(expected)
    assert all(ids for _, ids in found)


@pytest.mark.parametrize("as_text", [True, False])
def test_tools_are_in_the_prompt_and_their_turns_are_trained_on(as_text, small_model, tmp_path):
    tokenizer = tokenizer_of("chatml")
    tools = json.dumps(TOOLS) if as_text else TOOLS
    found = all_three([TOOL_PAIR], small_model, tokenizer, tmp_path, tools=tools)
    prompt, *sides = TOOL_PAIR
    expected = [rendered(tokenizer, prompt, side, tools=TOOLS) for side in sides]
    assert sorted(prompt + ids for prompt, ids in found) == sorted(expected)
    assert all(text_ids(tokenizer, "<|im_start|>tool\n")[-1] in ids for _, ids in found)


def test_options_of_the_template_stand_with_the_row(small_model, tmp_path):
    tokenizer = tokenizer_of("thinks")
    options = {"chat_template_kwargs": {"enable_thinking": False}}
    found = all_three(PAIRS[:2], small_model, tokenizer, tmp_path, **options)
    block = text_ids(tokenizer, "<think>\n\n</think>\n\n")
    assert all(prompt[-len(block) :] == block for prompt, _ in found)
    assert not any(ids[: len(block)] == block for _, ids in found)


def test_a_text_begins_and_ends_once(small_model, tmp_path):
    tokenizer = tokenizer_of("phi", adds_bos=True)
    forms = [(begin, end) for begin in ("", "<s>") for end in ("", "</s>", "</s>\n")]
    rows = [(f"{begin}q: ", f"good{end}", f"bad{end}") for begin, end in forms]
    found = all_three(rows, small_model, tokenizer, tmp_path)
    texts = [f"<s>q: {word}{end or '</s>'}" for _, end in forms for word in ("good", "bad")]
    assert sorted(p + c for p, c in found) == sorted(text_ids(tokenizer, t) for t in texts)
    assert {tokenizer.decode(prompt) for prompt, _ in found} == {"<s>q: "}


@pytest.mark.parametrize("end", ["", "</s>"])
def test_a_tokenizer_that_ends_texts_itself_ends_them_once(end, small_model, tmp_path):
    backend = tokenizer_of("phi").backend_tokenizer
    eos = ("</s>", backend.token_to_id("</s>"))
    backend.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[eos])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", padding_side="left"
    )
    found = all_three([("q: ", f"good{end}", f"bad{end}")], small_model, tokenizer, tmp_path)
    texts = [[tokenizer.decode(ids) for ids in pair] for pair in found]
    assert sorted(texts) == [["q: ", "bad</s>"], ["q: ", "good</s>"]]


def test_a_text_that_carries_the_template_is_what_the_template_writes(small_model, tmp_path):
    tokenizer = tokenizer_of("llama", adds_bos=True)
    prompt = tokenizer.apply_chat_template([user("q")], tokenize=False, add_generation_prompt=True)
    texts = all_three([(prompt, "good<|eot|>", "bad")], small_model, tokenizer, tmp_path)
    turns = [([user("q")], [says("good")], [says("bad")])]
    assert texts == all_three(turns, small_model, tokenizer, tmp_path)


@pytest.mark.parametrize("template", ["chatml", "phi", "nothing"])
def test_an_end_that_a_message_has_is_not_written_twice(template, small_model, tmp_path):
    tokenizer = tokenizer_of(template)
    end = tokenizer.eos_token
    ended = [([user("q")], [says(f"good{end}")], [says(f"bad{end}\n")])]
    found = all_three(ended, small_model, tokenizer, tmp_path)
    assert all(ids.count(tokenizer.eos_token_id) == 1 for _, ids in found)


def test_an_end_is_found_where_the_template_takes_only_some_conversations(small_model, tmp_path):
    tokenizer = tokenizer_of("chatml")
    strict = "{% if messages[0].role != 'system' %}{{ raise_exception('who?') }}{% endif %}"
    tokenizer.chat_template = strict + tokenizer.chat_template
    turns, end = [{"role": "system", "content": "s"}, user("q")], tokenizer.eos_token
    found = all_three([(turns, [says(f"a{end}")], [says("b")])], small_model, tokenizer, tmp_path)
    assert found == sorted(encode(tokenizer, turns, [says(word)]) for word in "ab")


def test_nulls_of_tools_in_a_text_are_the_tools_own():
    tools = [{"type": "function", "function": {"name": "f", "default": None}}]
    assert template_options({"tools": json.dumps(tools)})["tools"] == tools


@pytest.mark.parametrize(
    "options", [{"tools": "5"}, {"tools": '{"a": 1}'}, {"chat_template_kwargs": "x"}], ids=str
)
def test_options_of_the_template_are_of_their_type(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} is .*; give a "):
        template_options(options)


def test_what_samples_and_scores_renders_alike(small_model):
    for template in TEMPLATES:
        tokenizer = tokenizer_of(template)
        prompt_ids, ids = encode(tokenizer, [user("q")], [says("good")])
        alone = encode_prompt(tokenizer, [user("q")])
        assert prompt_ids == alone[: len(prompt_ids)]
        assert encode_whole(tokenizer, [user("q")], [says("good")]) == prompt_ids + ids
        (scores,) = token_log_probabilities(small_model, tokenizer, [("q", "good")])
        assert len(scores) == len(ids)


@pytest.mark.parametrize("template", TEMPLATES)
def test_many_prompts_are_rendered_as_each_by_itself(template):
    tokenizer = tokenizer_of(template, adds_bos=True)
    ended = [user("q"), says("good" + tokenizer.eos_token, name=None), user("more")]
    for prompts in ([[user("q")], ended, [user("longer")]], ["q", "longer"], ["q", [user("q")]]):
        alone = [encode_prompt(tokenizer, prompt) for prompt in prompts]
        assert encode_prompts(tokenizer, prompts) == alone
    assert encode_prompts(tokenizer, []) == []


@pytest.mark.parametrize("template", TEMPLATES)
def test_many_groups_are_rendered_as_each_by_itself(template):
    tokenizer = tokenizer_of(template, adds_bos=True)
    ended = says("good" + tokenizer.eos_token, name=None)
    prompts = [[user("q")], [user("q"), ended, user("more")], [user("q")]]
    groups = [[[says("good")], [ended]], [[says("bad")]], [[ended]]]
    alone = [encode_all(tokenizer, *pair) for pair in zip(prompts, groups, strict=True)]
    assert encode_groups(tokenizer, prompts, groups) == alone


def test_neighbours_share_their_tokens_only_if_their_options_are_equal():
    tokenizer = tokenizer_of("chatml")
    rows = [{}, {}, {"tools": TOOLS}, {"tools": TOOLS}, {}]
    ids = all_prompt_ids(tokenizer, [[user("q")]] * 4 + [[user("r")]], rows, {})
    one = encode_prompt(tokenizer, [user("q")])
    two = encode_prompt(tokenizer, [user("q")], tools=TOOLS)
    assert ids == [one, one, two, two, encode_prompt(tokenizer, [user("r")])] and one != two
    ids[0].append(0)
    assert ids[1] == one, "each has a list of its own"


def test_online_prompts_have_their_tools(small_model, tmp_path):
    tokenizer = tokenizer_of("chatml")
    row = {"prompt": [user("q")], "tools": json.dumps(TOOLS)}
    extra = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
    options = {"num_generations": 2, "per_device_train_batch_size": 2, "max_completion_length": 2}
    trainer = make_trainer(
        "grpo", small_model, tokenizer, Dataset.from_list([row]), tmp_path, extra, **options
    )
    trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    assert masked(batch, "prompt")[0] == encode_prompt(tokenizer, [user("q")], tools=TOOLS)


# A row is read for what it is.

ANSWERS = [says("good")], [says("bad")]
WHOLE = tuple([user("q"), *answer] for answer in ANSWERS)
SYSTEM = {"role": "system", "content": "be brief"}
FORMS = {
    "turns beside whole conversations": ([user("q")], *WHOLE),
    "text beside whole conversations": ("q", *WHOLE),
    "text beside answers": ("q", *ANSWERS),
    "turns beside texts": ([user("q")], "good", "bad"),
    "answers": ([user("q")], *ANSWERS),
    "conversations alone": (None, *WHOLE),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_prompt_is_found_wherever_it_stands(form, small_model, tmp_path):
    tokenizer = tokenizer_of("chatml")
    found = all_three([FORMS[form]], small_model, tokenizer, tmp_path)
    assert found == sorted(encode(tokenizer, [user("q")], answer) for answer in ANSWERS)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_system_turn_may_be_in_the_conversations_alone(objective, small_model, tmp_path):
    tokenizer = tokenizer_of("chatml")
    rows = columns(objective, ([user("q")], *([SYSTEM, *turns] for turns in WHOLE)))
    found = trained_on(objective, rows, small_model, tokenizer, tmp_path)
    assert found == sorted(encode(tokenizer, [SYSTEM, user("q")], answer) for answer in ANSWERS)


def test_rows_of_a_stream_may_differ_in_form(small_model, tmp_path):
    tokenizer = tokenizer_of("chatml")
    rows = [columns("dpo", FORMS[form])[0] for form in list(FORMS)[:4]]
    stream = lambda rows: IterableDataset.from_generator(lambda: iter(rows))  # noqa: E731
    found = trained_on("dpo", rows, small_model, tokenizer, tmp_path, stream)
    assert found == sorted(encode(tokenizer, [user("q")], answer) for answer in ANSWERS * 4)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_evaluation_sets_are_read_alike(objective, small_model, tmp_path):
    rows = Dataset.from_list(columns(objective, FORMS["text beside answers"]) * 2)
    options = {"num_generations": 2} if objective == "grpo" else {}
    for sets in (rows, {"a": rows}, DatasetDict(a=rows)):
        extra = {"eval_dataset": sets}
        trainer = make_trainer(
            objective, small_model, tokenizer_of("chatml"), rows, tmp_path, extra,
            per_device_train_batch_size=2, **options,
        )  # fmt: skip
        own = trainer.eval_dataset["a"] if isinstance(sets, dict) else trainer.eval_dataset
        name = "stored_completion_ids" if objective == "grpo" else "prompt_ids"
        assert list(own[name]) == list(trainer.train_dataset[name])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_has_no_reading_is_refused_by_row(objective, small_model, tmp_path):
    good, bad = ([user("q")], *WHOLE), ([user("z")], *WHOLE)
    rows = [*columns(objective, good), *columns(objective, bad)]
    with pytest.raises(ValueError, match=r"row \d of the train set: .*other turns than") as error:
        trained_on(objective, rows, small_model, tokenizer_of("chatml"), tmp_path)
    assert f"row {len(rows) // 2} of" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("label", [-1, 2, 0.1, "true", None, float("nan")])
def test_a_label_is_true_or_false(label):
    rows = [{"prompt": "q", "completion": "a", "label": value} for value in (label, label)]
    message = r"row 0 of the train set: label: .* is no label"
    with pytest.raises(ValueError, match=message):
        tokenized_labelled(Dataset.from_list(rows), tokenizer_of("chatml"), "train")


@pytest.mark.parametrize("labels", [(True, False), (1, 0), (1.0, 0.0)])
def test_ones_and_zeros_are_labels(labels):
    rows = [{"prompt": "q", "completion": "a", "label": label} for label in labels]
    dataset = tokenized_labelled(Dataset.from_list(rows), tokenizer_of("chatml"), "train")
    assert list(dataset["label"]) == [True, False]


# What is cut off is told.


def test_rows_that_are_cut_or_left_out_are_numbers_of_the_log(small_model, tmp_path):
    rows = [("q", "a" * n, "b") for n in (1, 9, 1, 9)] + [("q" * 8, "a", "b")]
    for objective, options, cut, dropped in (
        ("dpo", {"max_length": 8}, 2, 1),
        ("kto", {"max_length": 8}, 2, 2),
        ("grpo", {"max_completion_length": 6, "num_generations": 2}, 2, None),
    ):
        dataset = Dataset.from_list([r for row in rows for r in columns(objective, row)])
        options |= {"per_device_train_batch_size": 2, "max_steps": 1}
        trainer = make_trainer(
            objective, small_model, tokenizer_of("chatml"), dataset, tmp_path, **options
        )
        trainer.train()
        log = trainer.state.log_history[0]
        assert log["humanline/rows_cut"] == cut
        assert log.get("humanline/rows_dropped") == dropped


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_a_length_that_leaves_nothing_is_refused(objective, small_model, tmp_path):
    dataset = Dataset.from_list(columns(objective, ("q" * 9, "a", "b")))
    with pytest.raises(ValueError, match=r"max_length=8 .* raise max_length"):
        make_trainer(
            objective, small_model, tokenizer_of("chatml"), dataset, tmp_path, max_length=8
        )


def test_masking_all_completions_is_refused(small_model, tmp_path):
    dataset = Dataset.from_list(columns("grpo", ("q", "a" * 9, "b" * 9)))
    with pytest.raises(ValueError, match="max_completion_length=6 cuts off all completions"):
        make_trainer(
            "grpo", small_model, tokenizer_of("chatml"), dataset, tmp_path,
            max_completion_length=6, num_generations=2, mask_truncated_completions=True,
            per_device_train_batch_size=2,
        )  # fmt: skip


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_dataset_of_arrays_is_read_as_its_lists(kind, objective, small_model, tmp_path):
    rows = columns(objective, FORMS["turns beside whole conversations"], note=[1.0, 2.0])
    as_arrays = lambda rows: Dataset.from_list(rows).with_format(kind)  # noqa: E731
    found = trained_on(objective, rows, small_model, tokenizer_of("chatml"), tmp_path, as_arrays)
    assert found == trained_on(objective, rows, small_model, tokenizer_of("chatml"), tmp_path)


def test_what_a_template_cannot_write_is_refused_by_row(small_model, tmp_path):
    tokenizer = tokenizer_of("chatml")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role + m.content }}{% endfor %}"
    parts = [{"role": "user", "content": [{"type": "text", "text": "q"}]}]
    rows = columns("dpo", (parts, [says("a")], [says("b")]))
    with pytest.raises(ValueError, match="row 0 of the train set: the chat template refuses it"):
        trained_on("dpo", rows, small_model, tokenizer, tmp_path)


@pytest.mark.parametrize("is_stored", [True, False])
def test_grpo_keeps_the_columns_that_it_uses(is_stored, small_model, tmp_path):
    tokenizer, extra = tokenizer_of("chatml"), {}
    rows = columns("grpo", TOOL_PAIR, tools=json.dumps(TOOLS), note="x")
    if not is_stored:
        rows = [{name: row[name] for name in ("prompt", "tools", "note")} for row in rows]
        extra = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
    trainer = make_trainer(
        "grpo", small_model, tokenizer, Dataset.from_list(rows), tmp_path, extra,
        remove_unused_columns=True, num_generations=2, per_device_train_batch_size=2,
    )  # fmt: skip
    trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    assert masked(batch, "prompt")[0] == encode_prompt(tokenizer, TOOL_PAIR[0], tools=TOOLS)


def test_completions_that_are_cut_off_can_be_masked(small_model, tmp_path):
    """A template's turn may end with another token than eos, and still be whole."""
    rows = [r for n in (1, 9) for r in columns("grpo", ([user("q")], [says("a" * n)], [says("b")]))]
    trainer = make_trainer(
        "grpo", small_model, tokenizer_of("chatml"), Dataset.from_list(rows), tmp_path,
        max_completion_length=6, num_generations=2, per_device_train_batch_size=4,
        mask_truncated_completions=True,
    )  # fmt: skip
    trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    counts = batch["completion_mask"].sum(1)
    assert sorted(counts.tolist()) == [0, 3, 3, 3]
    assert torch.equal(batch["num_items_in_batch"], counts.sum())
    assert trainer._metrics["train"]["completions/clipped_ratio"] == [0.25]
