"""GRPO with tools trains with humanline as with TRL: a tool's answer is read and not trained on."""

from pathlib import Path
from unittest import mock

import pytest
import torch
import trl
from datasets import Dataset
from tiny import make_trainer, weights
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 3, "b": 4}}\n</tool_call>'
BROKEN = CALL.replace('"a"', "a")


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.

    Returns:
        The sum.
    """
    return a + b


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and a template that TRL can read tool calls of."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **ends)
    templates = Path(trl.__file__).parent / "chat_templates"
    tokenizer.chat_template = (templates / "qwen3.jinja").read_text()
    return tokenizer


def untrained(tokenizer) -> LlamaForCausalLM:
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    size |= {"num_attention_heads": 2, "vocab_size": len(tokenizer)}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**size, **ends, bos_token_id=None))


def says(tokenizer, *texts):
    """Stand in for sampling, which at random would never call a tool."""
    rows = [tokenizer.encode(text + "<|im_end|>") for text in texts]
    width = max(map(len, rows))
    return torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])


@pytest.mark.parametrize("is_humanline", [True, False])
def test_a_tool_is_called_and_its_answer_read(is_humanline, tokenizer, tmp_path):
    pytest.importorskip("jmespath", reason="jmespath is not installed, which TRL's tools need")
    seen = []

    def reward(completions, **_):
        seen.extend(completions)
        return [float(len(turns)) for turns in completions]

    def generate(input_ids, **_):
        assert "Add two numbers" in tokenizer.decode(input_ids[-1])  # the tool's description
        texts = [CALL, "none", BROKEN, "none"] if len(input_ids) == 4 else ["7"] * len(input_ids)
        return torch.cat([input_ids, says(tokenizer, *texts)], dim=1)

    prompts = [{"prompt": [{"role": "user", "content": f"{i}+4"}]} for i in range(2)]
    model = untrained(tokenizer)
    before = weights(model)
    options = {"max_steps": 2, "per_device_train_batch_size": 4, "max_completion_length": 512}
    trainer = make_trainer(
        "grpo", model, tokenizer, Dataset.from_list(prompts), tmp_path,
        {"reward_funcs": reward, "tools": [add]}, humanline=is_humanline, **options,
    )  # fmt: skip
    with mock.patch.object(trainer.model, "generate", side_effect=generate):
        trainer.train()
    called, silent = seen[:2]
    assert [turn["role"] for turn in called] == ["assistant", "tool", "assistant"]
    assert called[1]["content"] == "7" == called[2]["content"]
    assert [turn["role"] for turn in silent] == ["assistant"]
    first = trainer.state.log_history[0]
    assert first["tools/call_frequency"] == pytest.approx(1 / 4)
    assert first["tools/failure_frequency"] == 0
    assert any(not torch.equal(before[name], w) for name, w in weights(trainer.model).items())
