"""Converting a GGUF file into a model's folder in Hugging Face's format."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from humanline.files.json_files import disk_fault
from humanline.files.validation import ConfigError, first_line
from humanline.files.weights import load_causal_lm, require_whole
from humanline.study.scale.models import PackageModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# Fields of a GGUF file that a conversion needs; the last one, how text is split, may be missing.
_NEEDED = (
    "general.architecture",
    "tokenizer.ggml.model",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.pre",
)
# Likewise; their names begin with the architecture.
_NEEDED_OF_MODEL = (
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
)
_TOKENIZERS = ("gpt2", "llama")
_ANOTHER = "name another file"


def convert(file: Path, folder: Path, source: PackageModel) -> None:
    """Write the model of a GGUF file as float32 safetensors, with its tokenizer and chat template.

    Args:
        file: the GGUF file.
        folder: where to write.
        source: names the tokens that end a turn and that pad.

    Raises:
        ConfigError: if `gguf` is not installed, if the file lacks a field or a weight, if
            transformers cannot read it, or if the model is not whole, as `require_whole` says.
    """
    if find_spec("gguf") is None:
        reason = "needs the package gguf, which is not installed"
        raise ConfigError(f"{source.package}: {reason}; pip install 'humanline[workstation]'")
    import torch
    from transformers import AutoTokenizer

    place = f"{file.name} of {source.package}"
    try:
        fields = _fields(file)
        options = {"gguf_file": file.name, "trust_remote_code": False}
        # It checks that no weight is missing: transformers would draw it at random.
        read = load_causal_lm(file.parent, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
        _mend_tokenizer(tokenizer, file, source, read.config.max_position_embeddings)
        if fields["tokenizer.ggml.pre"] == "smollm":
            _split_digits(tokenizer)
        _plain(read, tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        require_whole(folder)
    except ConfigError as error:
        reason = str(error).removeprefix(f"{file.parent}: ").removeprefix(f"{folder}: ")
        raise ConfigError(f"{place}: {reason}") from None
    except Exception as error:  # transformers and gguf raise many kinds
        if disk_fault(error):
            raise
        reason = f"cannot be converted ({first_line(error)})"
        raise ConfigError(f"{place}: {reason}; name another package or file") from None


def _fields(file: Path) -> dict[str, object]:
    """Read the fields of a GGUF file that a conversion needs; transformers takes defaults instead.

    Raises:
        ConfigError: if one is missing.
    """
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    found = {name: field.contents() for name in _NEEDED if (field := fields.get(name))}
    architecture = found.get("general.architecture")
    needed = (*_NEEDED[:-1], *(f"{architecture}.{name}" for name in _NEEDED_OF_MODEL))
    if missing := [name for name in needed if name not in fields]:
        raise ConfigError(f"no field {missing[0]}; {_ANOTHER}")
    if (kind := found["tokenizer.ggml.model"]) not in _TOKENIZERS:
        known = " and ".join(_TOKENIZERS)
        raise ConfigError(
            f"tokenizer.ggml.model: {kind!r} is not {known}, which can be converted; {_ANOTHER}"
        )
    return found | {_NEEDED[-1]: found.get(_NEEDED[-1])}


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
            raise ConfigError(f"{field}: {reason}; name one of its tokens")
        setattr(tokenizer, field, token)
    if not tokenizer.chat_template:
        raise ConfigError("it has no chat template; take a chat model")
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"  # the second is saved
    tokenizer.model_max_length = context
    tokenizer.clean_up_tokenization_spaces = False  # it would change decoded text


def _split_digits(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Split text at every digit first, as the model's own tokenizer does.

    transformers does not. It then reads the spaces before a number as other tokens.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    parts = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(parts)
