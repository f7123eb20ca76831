"""Bounds of the numbers in TRL's configs. TRL itself checks few of them."""

import math
import types
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from typing import Union, get_args, get_origin, get_type_hints

_POSITIVE = {
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "logging_steps",
    "save_steps",
    "eval_steps",
    "max_length",
    "max_completion_length",
    "num_generations",
    "num_generations_eval",
    "steps_per_generation",
    "generation_batch_size",
    "num_iterations",
    "temperature",
    "top_p",
    "dataset_num_proc",
    "pad_to_multiple_of",
    "gamma_p",
    "gamma_r",
    "second_moment",
    "discopop_tau",
    "save_total_limit",
    "eval_accumulation_steps",
    "torch_empty_cache_steps",
    "precompute_ref_batch_size",
    "dataloader_prefetch_factor",
    "ddp_bucket_cap_mb",
    "ddp_timeout",
    "repetition_penalty",
    "num_completions_to_print",
    "ref_model_sync_steps",
    "vllm_gpu_memory_utilization",
    "vllm_tensor_parallel_size",
    "vllm_max_model_length",
    "vllm_server_timeout",
}
_NOT_NEGATIVE = {
    "neftune_noise_alpha",
    "learning_rate",
    "beta",
    "weight_decay",
    "max_grad_norm",
    "warmup_steps",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "desirable_weight",
    "sft_weight",
    "undesirable_weight",
    "epsilon",
    "epsilon_high",
    "top_entropy_quantile",
    "label_smoothing",
    "ld_alpha",
    "router_aux_loss_coef",
    "loss_weights",
    "entropy_coef_delta",
    "vespo_k_pos",
    "vespo_k_neg",
    "vespo_lambda_pos",
    "vespo_lambda_neg",
    "dataloader_num_workers",
    "seed",
    "data_seed",
    "eval_delay",
    "min_p",
    "entropy_target",
    "ref_model_mixup_alpha",
}
_BELOW_ONE = {"adam_beta1", "adam_beta2"}
_AT_MOST_ONE = {
    *("top_p", "min_p", "top_entropy_quantile", "label_smoothing", "ld_alpha"),
    *("ref_model_mixup_alpha", "vllm_gpu_memory_utilization"),
}
_SEEDS = {"seed", "data_seed"}


def require_bounds(config, positive: frozenset[str] = frozenset()) -> None:
    """Refuse a config with a number that is not finite or out of its bounds.

    Args:
        config: a TRL config.
        positive: further fields that must be above 0.

    Raises:
        ValueError: naming the first such field, its bound and its value.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        for name, number in _numbers(field.name, value):
            bound = _bound_broken(name, number, positive)
            if bound:
                raise ValueError(f"{name} must be {bound}; got {value}")
    if config.warmup_steps > 1 and config.warmup_steps % 1:
        raise ValueError(
            f"warmup_steps must be a share below 1, or a whole number; got {config.warmup_steps}"
        )
    if config.max_steps == 0 or config.max_steps < -1:
        raise ValueError(
            f"max_steps must be at least 1, or -1 to train for num_train_epochs; "
            f"got {config.max_steps}"
        )


def require_types(config) -> None:
    """Refuse a config with another value where a number or a truth value is needed.

    A text that is a number, such as YAML makes of 1e-3, becomes that number.

    Args:
        config: a TRL config.

    Raises:
        ValueError: naming the field, the type and the value.
    """
    for name, (kind, may_be_none) in _simple_fields(config.__class__).items():
        value = _read(kind, getattr(config, name, None))
        setattr(config, name, value)
        if not (value is None and may_be_none) and not _fits(kind, value):
            or_none = " or None" if may_be_none else ""
            words = {bool: "True or False", int: "an integer", float: "a number"}[kind]
            raise ValueError(f"{name} must be {words}{or_none}; got {value!r}")


def _read(kind: type, value):
    if kind is bool or not isinstance(value, str):
        return value
    try:
        return kind(value)
    except ValueError:
        return value


def _fits(kind: type, value) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, Integral if kind is int else Real)


@cache
def _simple_fields(config: type) -> dict[str, tuple[type, bool]]:
    """List the fields that take only numbers, or only truth values, and whether None is one."""
    hints, found = get_type_hints(config), {}
    for field in fields(config):
        hint = hints[field.name]
        parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        kinds, is_optional = set(parts) - {type(None)}, type(None) in parts
        kind = float if kinds == {int, float} else next(iter(kinds))
        # Some have None as a default that their type lacks.
        if len(kinds) <= 2 and kinds <= {bool, int, float} and kinds != {bool, int}:
            found[field.name] = (kind, is_optional or field.default is None)
    return found


def _numbers(name: str, value) -> Iterator[tuple[str, float]]:
    """List the numbers of an option, also those within a mapping or a list."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(name, inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def _bound_broken(name: str, number: float, positive: frozenset[str]) -> str | None:
    if not math.isfinite(number):
        return "finite"
    if name in _POSITIVE | positive and number <= 0:
        return "above 0"
    if name in _NOT_NEGATIVE and number < 0:
        return "at least 0"
    if name in _BELOW_ONE and number >= 1:
        return "below 1"
    if name in _AT_MOST_ONE and number > 1:
        return "at most 1"
    if name in _SEEDS and number >= 2**32:
        return "below 2**32"
    return None
