"""Bounds of the numbers in TRL's configs. TRL itself checks few of them."""

import math
from collections.abc import Iterator
from dataclasses import fields

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
}
_BELOW_ONE = {"adam_beta1", "adam_beta2"}
_AT_MOST_ONE = {"top_p", "top_entropy_quantile", "label_smoothing", "ld_alpha"}
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
    if config.max_steps == 0 or config.max_steps < -1:
        raise ValueError(
            f"max_steps must be at least 1, or -1 to train for num_train_epochs; "
            f"got {config.max_steps}"
        )


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
