"""Converting a GGUF file into a model's folder in Hugging Face's format."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from humanline.files.validation import ConfigError
from humanline.study.scale.models import PackageModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def convert(file: Path, folder: Path, source: PackageModel) -> None:
    """Write the model of a GGUF file as float32 safetensors, with its tokenizer and chat template.

    Args:
        file: the GGUF file.
        folder: where to write.
        source: names the tokens that end a turn and that pad.

    Raises:
        ConfigError: if `gguf` is not installed, if transformers cannot read the file, or if the
            tokenizer lacks a token or a chat template.
    """
    if find_spec("gguf") is None:
        reason = "needs the package gguf, which is not installed"
        raise ConfigError(f"{source.package}: {reason}; pip install 'humanline[workstation]'")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        options = {"gguf_file": file.name, "trust_remote_code": False}
        read = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
    except Exception as error:  # transformers and gguf raise many kinds
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"{file.name} of {source.package}: cannot be read ({reason}); fetch it again"
        ) from None
    _mend_tokenizer(tokenizer, file, source, read.config.max_position_embeddings)
    _plain(read, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _plain(read: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedModel":
    """Copy a dequantised model into a new one, since transformers refuses to save the first."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    config = read.config
    del config.quantization_config, config._model_name_or_path
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model = AutoModelForCausalLM.from_config(config, dtype=read.dtype)
    model.load_state_dict(read.state_dict())
    model.generation_config = GenerationConfig.from_model_config(config)
    return model


def _mend_tokenizer(
    tokenizer: "PreTrainedTokenizerBase", file: Path, source: PackageModel, context: int
) -> None:
    """Correct what transformers' conversion leaves out or takes from the wrong field."""
    known = tokenizer.get_vocab()
    for field in ("eos_token", "pad_token"):
        if (token := getattr(source, field)) not in known:
            reason = f"{token!r} is no token of {file.name}"
            raise ConfigError(f"{source.package}: {field}: {reason}; name one of its tokens")
        setattr(tokenizer, field, token)
    if not tokenizer.chat_template:
        raise ConfigError(f"{source.package}: {file.name} has no chat template; take a chat model")
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"  # the second is saved
    tokenizer.model_max_length = context
    tokenizer.clean_up_tokenization_spaces = False  # it would change decoded text
    if _splitting(file) == "smollm":
        _split_digits(tokenizer)


def _splitting(file: Path) -> str | None:
    """Read how the file's tokenizer splits text before it looks for tokens: llama.cpp's name."""
    from gguf import GGUFReader

    field = GGUFReader(file).fields.get("tokenizer.ggml.pre")
    return field and field.contents()


def _split_digits(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Split text at every digit first, as the model's own tokenizer does.

    transformers does not. It then reads the spaces before a number as other tokens.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    parts = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(parts)
