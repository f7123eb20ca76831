"""Loading a model's weights: all of them, or an error of one line.

transformers draws a weight at random where its file lacks it, and says so in a log alone.
"""

from collections.abc import Callable
from pathlib import Path

from humanline.validation import ConfigError

_ANOTHER = "restore the file, or give another model"


def load_causal_lm(path: str | Path, **options):
    """`AutoModelForCausalLM.from_pretrained` of a model whose weights are all there and finite.

    Args:
        path: a folder, or a name on the hub.
        options: of `from_pretrained`.

    Raises:
        ConfigError: if a weight is missing, of another shape than the configuration's, or not
            finite, if the file cannot be read, or if this is a PEFT adapter.
        OSError: if there is no model.
    """
    from transformers import AutoModelForCausalLM

    return load_whole(AutoModelForCausalLM.from_pretrained, path, **options)


def load_whole(load: Callable, path: str | Path, **options):
    """What `load` makes of a path, refused as `load_causal_lm` does.

    Args:
        load: `from_pretrained` of a model's class, or a function that hands it its options.
    """
    from safetensors import SafetensorError

    told = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # refused here, by name
    try:
        model, loaded = load(path, **options | told)
    except SafetensorError as error:
        raise ConfigError(f"{path}: weights cannot be read ({error}); {_ANOTHER}") from None
    # Tied weights, which a file has once, are not among the missing.
    if missing := sorted(loaded["missing_keys"]):
        raise ConfigError(f"{path}: no weights for {_some(missing)}; {_ANOTHER}")
    if mismatched := sorted(name for name, *_ in loaded["mismatched_keys"]):
        raise ConfigError(
            f"{path}: {_some(mismatched)} has another shape than config.json says; {_ANOTHER}"
        )
    if getattr(model, "_hf_peft_config_loaded", False):  # saved without what is trained beside it
        raise ConfigError(
            f"{path}: this is a PEFT adapter; load it with peft and give the model, or merge it "
            "into its model (merge_and_unload) and give the folder of both"
        )
    if broken := _not_finite(model):
        raise ConfigError(f"{path}: {_some(broken)} has values that are not finite; {_ANOTHER}")
    return model


def _not_finite(model) -> list[str]:
    """The names of the floating-point parameters that hold nan or inf."""
    import torch

    plain = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return [
        name
        for name, tensor in model.named_parameters()
        if tensor.dtype in plain and not tensor.is_meta and not tensor.isfinite().all()
    ]


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
