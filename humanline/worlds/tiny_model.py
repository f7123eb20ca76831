"""The miniature world's tokenizer and model, in Hugging Face's formats.

The tokenizer is a real `PreTrainedTokenizerFast` with one token per character and a chat template,
so later stages treat it like that of a large model.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PAD, EOS, USER, ASSISTANT = "<pad>", "<|end|>", "<|user|>", "<|assistant|>"
CHARACTERS = " +-*<~,=()0123456789abcdefghLMS}"
BOXED = "\\boxed{"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}<|user|>{{ message.content }}<|assistant|>"
    "{%- elif message.role == 'assistant' -%}{{ message.content }}<|end|>"
    "{%- else -%}{{ raise_exception('this chat template knows user and assistant only') }}"
    "{%- endif -%}{%- endfor -%}"
)


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """Build the tokenizer: a character-level WordLevel model, four special tokens, `\\boxed{`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [PAD, EOS, USER, ASSISTANT, BOXED, *CHARACTERS]
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def divide_logits(model: "Module", temperature: float) -> None:
    """Divide the logits of a model of `build_model` by a temperature, in place.

    The weights of the last norm are divided: the head shares its own with the embeddings.
    """
    import torch

    with torch.no_grad():
        model.get_parameter("model.norm.weight").div_(temperature)


def build_model(
    *,
    hidden_size: int,
    intermediate_size: int,
    layers: int,
    heads: int,
    seed: int,
    architecture: str = "llama",
    initializer_range: float = 0.02,
) -> "PreTrainedModel":
    """Build an untrained float32 model over this vocabulary.

    Args:
        hidden_size: width of the residual stream; a multiple of `heads`.
        intermediate_size: width of the feed-forward layers.
        layers: number of transformer layers.
        heads: number of attention heads.
        seed: the seed of the weights; it also sets torch's global seed.
        architecture: transformers' name of the architecture.
        initializer_range: standard deviation of the first weights; transformers' default.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = build_tokenizer()
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden_size // heads,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=initializer_range,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
