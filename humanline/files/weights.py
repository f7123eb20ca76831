"""Loading all of a model's weights, or raising a one-line error.

If a file lacks a weight, transformers draws it at random and only logs a warning. Weights are read
from safetensors alone, and a repository's own code is not run unless the caller says so: without an
answer, transformers would ask at the terminal.
"""

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from humanline.files.json_files import (
    NotWrittenError,
    disk_fault,
    disk_words,
    read_json,
    replacing,
    strict_json,
    write_json,
)
from humanline.files.validation import ConfigError

_ANOTHER = "restore the file, or give another model"
_OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_PLAIN = {"use_safetensors": True, "trust_remote_code": False}
# Of values in config.json: least and greatest.
_BOUNDS = {
    "num_hidden_layers": (1, 10_000),
    "hidden_size": (1, 10**6),
    "vocab_size": (1, 10**8),
    "max_position_embeddings": (1, 10**9),
}
# Of a chat template on one word: the time, and the characters of a system prompt and of tools.
_SECONDS, _LONGEST = 5.0, 100_000
_MEMORY = 1 << 30  # bytes that a chat template may take


def load_causal_lm(path: str | Path, **options):
    """Load a model with `AutoModelForCausalLM.from_pretrained`, and check its weights.

    Args:
        path: a folder, or a name on the hub.
        options: passed to `from_pretrained`.

    Raises:
        ConfigError: if a weight is missing, is not finite or has another shape than config.json
            says, if the file cannot be read, or if this is a PEFT adapter.
        OSError: if there is no model.
    """
    from transformers import AutoModelForCausalLM

    return load_whole(AutoModelForCausalLM.from_pretrained, path, **options)


def load_whole(load: Callable, path: str | Path, **options):
    """Load a model with any loader, and check its weights as `load_causal_lm` does.

    Args:
        load: a class's `from_pretrained`, or a function that passes its options to one.
        path: a folder, or a name on the hub.
        options: passed to `load`.

    Raises:
        ConfigError: as `load_causal_lm`.
    """
    from safetensors import SafetensorError

    options = _PLAIN | options
    if options["use_safetensors"]:
        _refuse_other_formats(Path(path))
    # Mismatched sizes are refused below, with the weights' names.
    told = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        model, loaded = load(path, **options | told)
    except SafetensorError as error:
        raise ConfigError(f"{path}: weights cannot be read ({error}); {_ANOTHER}") from None
    # A file holds tied weights once; transformers does not count the copy as missing.
    if missing := sorted(loaded["missing_keys"]):
        raise ConfigError(f"{path}: no weights for {_some(missing)}; {_ANOTHER}")
    if others := _of_other_layers(model, loaded["unexpected_keys"]):
        reason = f"weights for {_some(others)}, a layer more than config.json says"
        raise ConfigError(f"{path}: {reason}; {_ANOTHER}")
    if mismatched := sorted(name for name, *_ in loaded["mismatched_keys"]):
        raise ConfigError(
            f"{path}: {_some(mismatched)} has another shape than config.json says; {_ANOTHER}"
        )
    if getattr(model, "_hf_peft_config_loaded", False):  # save_pretrained saves the adapter alone
        raise ConfigError(
            f"{path}: this is a PEFT adapter; load it with peft and give the model, or merge it "
            "into its model (merge_and_unload) and give the folder of both"
        )
    if broken := not_finite(model):
        raise ConfigError(f"{path}: {_some(broken)} has values that are not finite; {_ANOTHER}")
    return model


def _of_other_layers(model, names: Iterable[str]) -> list[str]:
    """List the names that differ from those of a model's weights in the layer's number alone."""
    alike = {re.sub(r"\d+", "#", name) for name, _ in model.named_parameters()}
    return sorted(name for name in names if re.sub(r"\d+", "#", name) in alike)


def _refuse_other_formats(folder: Path) -> None:
    """Refuse a folder that has weights in other formats alone: they can hold code."""
    others = [path.name for pattern in _OTHER_FORMATS for path in sorted(folder.glob(pattern))]
    others = [name for name in others if name != "training_args.bin"]
    if others and not [*folder.glob("*.safetensors")]:
        raise ConfigError(
            f"{folder}: its weights are in {others[0]}, a format that can hold code, and not in "
            f"safetensors; if you trust it, load it with transformers, save it with "
            "save_pretrained, and give that folder"
        )


def load_folder(path: Path, **options):
    """Load a folder's model as `load_causal_lm` does, and its tokenizer.

    Args:
        path: the folder.
        options: passed to `from_pretrained`.

    Returns:
        The model and the tokenizer.

    Raises:
        ConfigError: if any part of the folder is missing or wrong.
    """
    _require_configuration(path)
    try:
        model = load_causal_lm(path, **options)
    except ConfigError:
        raise
    except Exception as error:  # a wrong value in config.json raises any kind
        if "out of memory" in str(error):
            raise
        raise _not_whole(path, error) from None
    tokenizer = load_tokenizer(path)
    rows, last = model.get_input_embeddings().num_embeddings, max(tokenizer.get_vocab().values())
    if last >= rows:
        reason = f"its tokenizer has a token {last}, but the model has {rows} tokens"
        raise ConfigError(f"{path}: {reason}; {_ANOTHER}")
    return model, tokenizer


def _require_configuration(path: Path) -> None:
    """Refuse values of a model's configuration that transformers takes, or builds without end."""
    for name in ("config.json", "generation_config.json"):
        if not (file := path / name).exists():
            continue  # transformers says which files a model needs
        try:
            content = strict_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: {name}: not JSON ({error}); {_ANOTHER}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: {name}: not an object; {_ANOTHER}")
        for field, (low, high) in _BOUNDS.items():
            value = content.get(field, low)
            if isinstance(value, int) and not low <= value <= high:
                reason = f"{name}: {field}: {value} is not from {low} to {high}"
                raise ConfigError(f"{path}: {reason}; {_ANOTHER}")
        ends, tokens = content.get("eos_token_id"), content.get("vocab_size")
        for end in ends if isinstance(ends, list) else [ends]:
            if isinstance(end, int) and isinstance(tokens, int) and not 0 <= end < tokens:
                reason = f"{name}: eos_token_id: {end} is none of {tokens} tokens"
                raise ConfigError(f"{path}: {reason}; {_ANOTHER}")


def load_tokenizer(path: Path):
    """Load the tokenizer of a folder.

    Raises:
        ConfigError: if it cannot be loaded, has no end of sequence, or has no chat template that
            writes a message within `_SECONDS`.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # tokenizers raises plain `Exception`
        raise _not_whole(path, error) from None
    if not tokenizer.chat_template:
        raise ConfigError(f"{path}: the tokenizer has no chat template; give a chat model")
    if tokenizer.eos_token is None:
        raise ConfigError(f"{path}: the tokenizer has no eos_token; name it in its configuration")
    if not isinstance(tokenizer.model_max_length, int | float):
        reason = f"tokenizer_config.json: model_max_length: {tokenizer.model_max_length!r:.40}"
        raise ConfigError(f"{path}: {reason} is no number; {_ANOTHER}")
    _require_template(path, tokenizer)
    return tokenizer


def _require_template(path: Path, tokenizer) -> None:
    """Try the chat template on one word: a template is a program, and may fail or never end."""
    word = "Zebra"
    try:
        with _time_limit(_SECONDS), _memory_limit(_MEMORY):
            asked = [{"role": "user", "content": word}]
            text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    except MemoryError:
        reason = f"it takes more than {_MEMORY >> 30} GB of memory for a message of one word"
    except Exception as error:  # Jinja and what a template calls raise many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
    else:
        if word in text and len(text) < _LONGEST:
            return
        reason = f"it writes {len(text)} characters for a message of one word"
        reason = reason if word in text else "it leaves the message out"
    raise ConfigError(f"{path}: chat_template: {reason}; mend it, or give another model")


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise a `TimeoutError` in a block that takes longer; only the main thread can be stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise TimeoutError(f"it does not end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _memory_limit(more: int) -> Iterator[None]:
    """Raise a `MemoryError` in a block that takes so many more bytes, where the system can tell."""
    size = Path("/proc/self/statm")
    if not size.exists():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(size.read_text().split()[0]) * resource.getpagesize() + more
    lowest = min((own for own in before if own != resource.RLIM_INFINITY), default=limit)
    resource.setrlimit(resource.RLIMIT_AS, (min(limit, lowest), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def require_whole(path: Path) -> None:
    """Check a model's folder as `load_folder` does, with one weight in memory at a time.

    Raises:
        ConfigError: as `load_folder`.
    """
    from safetensors import safe_open

    load_folder(path, device_map="meta")
    for file in _files(path):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                if not _is_finite(weights.get_tensor(name)):
                    raise ConfigError(f"{path}: {name} has values that are not finite; {_ANOTHER}")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder to write a model into; then it takes the place of `path`.

    Args:
        path: the model's folder; an existing one is replaced.

    Raises:
        NotWrittenError: if the disk is full, or nothing may be written there.
    """
    written = path.with_name(f".{path.name}.incomplete")
    shutil.rmtree(written, ignore_errors=True)
    try:
        written.mkdir(parents=True)
        yield written
        put_in_place(written, path)
    except Exception as error:
        shutil.rmtree(written, ignore_errors=True)
        if disk_fault(error) is None:
            raise
        reason = getattr(error, "strerror", None) or disk_words(error)
        raise NotWrittenError(getattr(error, "errno", None), reason, str(path)) from error


def put_in_place(written: Path, path: Path) -> None:
    """Replace a folder, or what is in its place, by a whole one; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    os.replace(written, path)


def store_as(path: Path, dtype: str) -> None:
    """Convert the weights of a model's folder, one file after the other.

    Args:
        path: the folder.
        dtype: torch's name of the type of all floating-point weights.
    """
    import torch
    from safetensors.torch import load_file, save_file

    for file in _files(path):
        weights = {
            name: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
            for name, tensor in load_file(file).items()
        }
        with replacing(file) as whole:  # without the metadata, transformers refuses it
            save_file(weights, whole, metadata={"format": "pt"})
    config = read_json(path / "config.json")
    write_json(path / "config.json", config | {"dtype": dtype})


def _files(path: Path) -> list[Path]:
    """List the files of a model's weights: one file, or those in its index."""
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return [path / "model.safetensors"]
    weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    return [path / name for name in sorted(set(weight_map.values()))]


def _not_whole(path: Path, error: Exception) -> ConfigError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ConfigError(f"{path}: no whole model ({reason}); {_ANOTHER}")


def not_finite(model) -> list[str]:
    """List the names of the floating-point parameters that hold NaN or infinity."""
    return [name for name, tensor in model.named_parameters() if not _is_finite(tensor)]


def _is_finite(tensor) -> bool:
    import torch

    plain = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return tensor.is_meta or tensor.dtype not in plain or bool(tensor.isfinite().all())


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
