"""Refuse options of a recipe that have no effect beside its other options."""

import logging
import os
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any

from humanline.trainers.classes import load
from humanline.trainers.options.humanline import HumanlineOptions
from humanline.trainers.options.losses import READ_BY
from humanline.training.recipes.options import COMMAND_LINE, Recipe

_log = logging.getLogger(__name__)
_OURS = {field.name for field in fields(HumanlineOptions)}
_ADD = "add that, or remove this"
_CHOOSE = "remove one of them"
# Optimizers that read no optim_args, and those that have no moments of Adam's.
_PLAIN = ("adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused")
_NOT_ADAM = ("sgd", "adagrad", "rmsprop", "adafactor")


class _Options(dict):
    """A recipe's options by name; one that the objective lacks is None."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


@dataclass(frozen=True)
class _Needs:
    """Options that act only beside certain values of others.

    Args:
        names: the options.
        others: the options that they depend on.
        acts: says whether the options act.
        why: why they do not, and what to do; it follows "has no effect".
    """

    names: str
    others: str
    acts: Callable[[_Options], object]
    why: str


def _reports(o: _Options) -> list:
    return [o.report_to] if isinstance(o.report_to, str) else list(o.report_to or ())


def _losses(o: _Options) -> set[str]:
    return {o.loss_type} if isinstance(o.loss_type, str) else set(o.loss_type or ())


def _has_loss(losses: set[str]) -> Callable[[_Options], object]:
    return lambda o: _losses(o) & losses


def _is_online(o: _Options) -> bool:
    return bool(o.reward_funcs or o.reward_model_name_or_path)


def _rewards(o: _Options) -> int:
    return len(o.reward_funcs or ()) + bool(o.reward_model_name_or_path)


def _shards(o: _Options) -> bool:
    return bool(o.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "") == "true"


_NEEDS = (
    _Needs(
        "sync_interval log_eps_p log_eps_r perception gamma_p gamma_r second_moment "
        "sync_after_update sync_alpha",
        "humanline",
        lambda o: o.humanline,
        f"with humanline: false; {_CHOOSE}",
    ),
    _Needs(
        "reference",
        "humanline",
        lambda o: o.humanline or o.keeps_reference,
        f"with humanline: false; {_CHOOSE}",
    ),
    _Needs(
        "sync_after_update sync_alpha",
        "sync_interval",
        lambda o: o.sync_interval,
        "without a sync_interval; give one, or remove this",
    ),
    _Needs(
        "log_eps_p log_eps_r",
        "perception",
        lambda o: o.perception in ("clip", "sample"),
        "with this perception; use clip or sample, or remove this",
    ),
    _Needs(
        "lora_r lora_alpha lora_dropout lora_target_modules lora_target_parameters "
        "lora_modules_to_save lora_task_type use_rslora use_dora",
        "use_peft",
        lambda o: o.use_peft,
        f"without use_peft: true; {_ADD}",
    ),
    _Needs(
        "bnb_4bit_quant_type use_bnb_nested_quant bnb_4bit_quant_storage",
        "load_in_4bit",
        lambda o: o.load_in_4bit,
        f"without load_in_4bit: true; {_ADD}",
    ),
    _Needs(
        "eval_steps eval_delay per_device_eval_batch_size eval_accumulation_steps eval_on_start "
        "dataset_test_split bf16_full_eval fp16_full_eval num_generations_eval do_eval",
        "eval_strategy",
        lambda o: o.eval_strategy != "no",
        "without an eval_strategy; set one, or remove this",
    ),
    _Needs(
        "eval_steps",
        "eval_strategy",
        lambda o: o.eval_strategy == "steps",
        "without eval_strategy: steps; use that, or remove this",
    ),
    _Needs(
        "save_steps",
        "save_strategy",
        lambda o: o.save_strategy == "steps",
        "without save_strategy: steps; use that, or remove this",
    ),
    _Needs(
        "save_total_limit save_only_model save_on_each_node",
        "save_strategy",
        lambda o: o.save_strategy != "no",
        "with save_strategy: no; use another, or remove this",
    ),
    _Needs(
        "logging_steps",
        "logging_strategy eval_strategy",
        # Evaluation takes its interval from it.
        lambda o: o.logging_strategy == "steps" or o.eval_strategy == "steps",
        "without logging_strategy: steps; use that, or remove this",
    ),
    _Needs(
        "metric_for_best_model greater_is_better",
        "load_best_model_at_end save_strategy lr_scheduler_type",
        lambda o: o.load_best_model_at_end
        or o.save_strategy == "best"
        or o.lr_scheduler_type == "reduce_lr_on_plateau",
        f"without load_best_model_at_end: true; {_ADD}",
    ),
    _Needs(
        "hub_model_id hub_private_repo hub_strategy hub_revision hub_always_push",
        "push_to_hub",
        lambda o: o.push_to_hub,
        f"without push_to_hub: true; {_ADD}",
    ),
    _Needs(
        "trackio_space_id trackio_bucket_id trackio_static_space_id project",
        "report_to",
        lambda o: {"trackio", "all"} & set(_reports(o)),
        f"without report_to: trackio; {_ADD}",
    ),
    _Needs(
        "num_train_epochs",
        "max_steps",
        lambda o: o.max_steps < 1,
        f"beside max_steps; {_CHOOSE}",
    ),
    _Needs(
        "warmup_steps",
        "lr_scheduler_type",
        lambda o: o.lr_scheduler_type not in ("constant", "reduce_lr_on_plateau", "greedy"),
        "with this lr_scheduler_type; use constant_with_warmup, or remove this",
    ),
    _Needs(
        "lr_scheduler_kwargs",
        "lr_scheduler_type",
        lambda o: o.lr_scheduler_type not in ("constant", "constant_with_warmup"),
        "with this lr_scheduler_type; use another, or remove this",
    ),
    _Needs(
        "gradient_checkpointing_kwargs",
        "gradient_checkpointing",
        lambda o: o.gradient_checkpointing,
        f"with gradient_checkpointing: false; {_CHOOSE}",
    ),
    _Needs(
        "dataloader_prefetch_factor dataloader_persistent_workers "
        "dataloader_multiprocessing_context",
        "dataloader_num_workers",
        lambda o: o.dataloader_num_workers,
        "without dataloader_num_workers; give some, or remove this",
    ),
    _Needs("fsdp_config", "fsdp", _shards, f"without fsdp; {_ADD}"),
    _Needs(
        "liger_kernel_config",
        "use_liger_kernel",
        lambda o: o.use_liger_kernel,
        f"without use_liger_kernel: true; {_ADD}",
    ),
    _Needs(
        "adam_beta1 adam_beta2 adam_epsilon",
        "optim",
        lambda o: o.optim not in _NOT_ADAM,
        "with this optim; use one of Adam's kind, or remove this",
    ),
    _Needs(
        "optim_args",
        "optim",
        lambda o: o.optim not in _PLAIN,
        "with this optim; use another, or remove this",
    ),
    _Needs(
        "optim_target_modules",
        "optim",
        lambda o: any(name in str(o.optim) for name in ("galore", "apollo")),
        "with this optim; use GaLore's or APOLLO's, or remove this",
    ),
    _Needs(
        "ref_model_sync_steps ref_model_mixup_alpha",
        "sync_ref_model",
        lambda o: o.sync_ref_model,
        "without sync_ref_model, which humanline refuses; use sync_interval and sync_alpha",
    ),
    _Needs(
        "precompute_ref_batch_size",
        "precompute_ref_log_probs",
        lambda o: o.precompute_ref_log_probs,
        f"without precompute_ref_log_probs: true; {_ADD}",
    ),
    _Needs(
        "truncation_mode",
        "max_length",
        lambda o: o.max_length,
        "without a max_length; give one, or remove this",
    ),
    _Needs(
        "train_sampling_strategy",
        "",
        lambda o: not o.takes_groups,
        "on groups, whose order is the trainer's own; remove this",
    ),
    _Needs(
        "length_column_name",
        "train_sampling_strategy",
        lambda o: o.train_sampling_strategy in ("group_by_length", "batch_rebalance"),
        "without train_sampling_strategy: group_by_length; use that, or remove this",
    ),
    _Needs(
        "ignore_data_skip restore_callback_states_from_checkpoint",
        "resume_from_checkpoint",
        lambda o: o.resume_from_checkpoint,
        f"without resume_from_checkpoint; {_ADD}",
    ),
    _Needs(
        "f_alpha_divergence_coef",
        "f_divergence_type",
        lambda o: o.f_divergence_type == "alpha_divergence",
        "without f_divergence_type: alpha_divergence; use that, or remove this",
    ),
    *(
        _Needs(
            names,
            "loss_type",
            _has_loss(losses),
            f"with this loss_type; use {' or '.join(sorted(losses))}, or remove this",
        )
        for names, losses in READ_BY
    ),
    _Needs(
        "entropy_target entropy_coef_min entropy_coef_max entropy_coef_delta",
        "use_adaptive_entropy",
        lambda o: o.use_adaptive_entropy,
        f"without use_adaptive_entropy: true; {_ADD}",
    ),
    _Needs(
        "use_bias_correction_kl",
        "beta",
        lambda o: o.beta,
        "without a beta; give one, or remove this",
    ),
    _Needs(
        "num_completions_to_print log_unique_prompts log_completions_hub_repo",
        "log_completions",
        lambda o: o.log_completions,
        f"without log_completions: true; {_ADD}",
    ),
    _Needs(
        "ds3_gather_for_generation",
        "deepspeed",
        lambda o: o.deepspeed or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true",
        f"without deepspeed; {_ADD}",
    ),
    _Needs(
        "top_p top_k min_p repetition_penalty generation_kwargs cache_implementation "
        "use_transformers_continuous_batching use_transformers_paged "
        "transformers_continuous_batching_config",
        "reward_funcs reward_model_name_or_path",
        _is_online,
        "on stored completions, as nothing is sampled; add reward_funcs, or remove this",
    ),
    _Needs(
        "transformers_continuous_batching_config",
        "use_transformers_continuous_batching",
        lambda o: o.use_transformers_continuous_batching,
        f"without use_transformers_continuous_batching: true; {_ADD}",
    ),
    _Needs(
        "multi_objective_aggregation",
        "reward_funcs reward_model_name_or_path",
        lambda o: _rewards(o) > 1,
        "with less than two rewards; add reward_funcs, or remove this",
    ),
    _Needs(
        "vllm_mode vllm_model_impl vllm_gpu_memory_utilization vllm_tensor_parallel_size "
        "vllm_max_model_length vllm_enable_sleep_mode vllm_structured_outputs_regex "
        "vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout "
        "vllm_group_port vllm_importance_sampling_correction vllm_importance_sampling_mode "
        "vllm_importance_sampling_cap vllm_importance_sampling_clip_min "
        "vllm_importance_sampling_clip_max",
        "use_vllm",
        lambda o: o.use_vllm,
        f"without use_vllm: true; {_ADD}",
    ),
    _Needs(
        "max_tool_calling_iterations",
        "",
        lambda o: False,
        "in a recipe, which has no tools to call; remove this",
    ),
    _Needs(
        "include_for_metrics batch_eval_metrics label_names prediction_loss_only "
        "eval_do_concat_batches eval_use_gather_object",
        "",
        lambda o: False,
        "in a recipe, which has no compute_metrics; remove this",
    ),
    _Needs("do_predict", "", lambda o: False, "in a recipe, which predicts nothing; remove this"),
)


def check_effects(recipe: Recipe) -> None:
    """Refuse an option that was given, differs from its default and has no effect.

    An option of the file that an option of the command line makes idle is told instead. So a file
    can be tried with one thing switched off.

    Raises:
        ConfigError: naming the option and the remedy.
    """
    parts = (recipe.script, recipe.training, recipe.model)
    options = _Options({name: value for part in parts for name, value in vars(part).items()})
    defaults = {field.name: _default(field) for part in parts for field in fields(part)}
    options["takes_groups"] = recipe.row.view.takes_groups
    options["keeps_reference"] = options.takes_groups or load(recipe.row.trainer).loss_is_ours
    for needs in _NEEDS:
        for name in (name for name in needs.names.split() if name in recipe.given):
            value = options.get(name)
            # One of ours is told even where it has its default, but not where it is switched off.
            is_off = value is False if name in _OURS else value == defaults[name]
            is_left = value is None or is_off
            if not is_left and not needs.acts(options):
                _tell(recipe, name, needs)


def _default(field):
    return field.default_factory() if field.default is MISSING else field.default


def _tell(recipe: Recipe, name: str, needs: _Needs) -> None:
    fault = recipe.fault(name, f"has no effect {needs.why}")
    switched = [recipe.given.get(other) for other in needs.others.split()]
    if recipe.given[name] == COMMAND_LINE or COMMAND_LINE not in switched:
        raise fault
    _log.warning("%s", str(fault).partition(";")[0])
