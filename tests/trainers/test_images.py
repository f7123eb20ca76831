"""Models that read images train with humanline, too: policy and reference see the images."""

import pytest
import torch
from datasets import Dataset
from tiny import OBJECTIVES, make_trainer, weights
from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from humanline.worlds.tiny_model import build_tokenizer

Image = pytest.importorskip("PIL.Image", reason="pip install pillow")

TEMPLATE = """
{%- for message in messages -%}{%- if message.role == 'user' -%}<|user|>{%- endif -%}
{%- if message.content is string -%}{{ message.content }}{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<image>{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- if message.role == 'user' -%}<|assistant|>{%- else -%}<|end|>{%- endif -%}{%- endfor -%}"""
SIZE = {"height": 28, "width": 28}


@pytest.fixture(scope="module")
def processor() -> LlavaProcessor:
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = TEMPLATE
    images = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=SIZE)
    return LlavaProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default",
        chat_template=TEMPLATE, image_token="<image>", num_additional_image_tokens=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    build(processor).save_pretrained(folder)
    return folder


def build(processor) -> LlavaForConditionalGeneration:
    size = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    vision = {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, **size}
    tokens = len(processor.tokenizer)
    text = {"model_type": "llama", "vocab_size": tokens, "num_key_value_heads": 2, **size}
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            text_config=text | {"num_hidden_layers": 1},
            vision_config=vision | {"num_hidden_layers": 2, "projection_dim": 16},
            image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
            vision_feature_select_strategy="default",
            image_seq_length=4,
        )
    )
    with torch.no_grad():  # so that an image has a say
        model.model.multi_modal_projector.linear_2.weight.normal_(0, 0.5)
    return model


def rows(objective: str) -> Dataset:
    def turn(role, text):
        return [{"role": role, "content": text}]

    def row(number: int) -> dict:
        image = Image.new("RGB", (28, 28), (20 * number, 255 - 20 * number, 0))
        start = {"images": [image], "prompt": turn("user", f"{number}+1")}
        good, bad = turn("assistant", "abc"), turn("assistant", "b")
        by_objective = {
            "dpo": {"chosen": good, "rejected": bad},
            "kto": {"completion": good if number % 2 else bad, "label": bool(number % 2)},
            "grpo": {},
        }
        return start | by_objective[objective]

    return Dataset.from_list([row(number) for number in range(8)])


def load(folder) -> LlavaForConditionalGeneration:
    return LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def trained(objective, processor, folder, output, **options):
    def reward(completions, **_):
        return [float(len(turns[0]["content"]) % 3) for turns in completions]

    extra = {"reward_funcs": reward} if objective == "grpo" else {}
    options = {"max_steps": 3, "per_device_train_batch_size": 4, "max_length": None, **options}
    if objective == "grpo":
        options.pop("max_length")
    trainer = make_trainer(
        objective, load(folder), processor, rows(objective), output, extra, **options
    )
    torch.manual_seed(0)
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row], trainer


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_they_train_alike_however_the_reference_is_kept(objective, processor, folder, tmp_path):
    options = {"sync_interval": 2, "log_eps_p": -0.05, "log_eps_r": 0.05}
    before = weights(load(folder))
    losses, cached = trained(objective, processor, folder, tmp_path, reference="cached", **options)
    others, model = trained(objective, processor, folder, tmp_path, reference="model", **options)
    assert losses == pytest.approx(others, abs=2e-5)
    ends = weights(cached.model)
    for name, value in weights(model.model).items():
        torch.testing.assert_close(ends[name], value, atol=2e-5, rtol=0)
    (projector,) = [name for name in ends if name.endswith("projector.linear_1.weight")]
    assert not torch.equal(ends[projector], before[projector])  # the images pass a gradient


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_without_bounds_and_syncs_they_train_as_with_trl(objective, processor, folder, tmp_path):
    options = {"sync_interval": None, "log_eps_p": None, "log_eps_r": None}
    own, _ = trained(objective, processor, folder, tmp_path, **options)
    of_trl, _ = trained(objective, processor, folder, tmp_path, humanline=False)
    assert own == pytest.approx(of_trl, abs=1e-5)


def test_grpo_begins_as_with_trl(processor, folder, tmp_path):
    """Before the first update the reference is the policy that sampled."""
    own, trainer = trained("grpo", processor, folder, tmp_path, max_steps=1)
    of_trl, _ = trained("grpo", processor, folder, tmp_path, humanline=False, max_steps=1)
    assert own == pytest.approx(of_trl, abs=1e-6)
    assert trainer.state.log_history[0]["humanline/log_ratio_q95_chosen"] == pytest.approx(
        0, abs=1e-5
    )
