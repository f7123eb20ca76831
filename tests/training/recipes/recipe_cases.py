"""Bad recipes: what is wrong with each, and how it has to end."""

import json
import math
import os
import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

ABSENT = object()  # stands for a key that the recipe lacks


@dataclass
class Case:
    """A recipe that differs from a good one, and how it has to end.

    Args:
        kind: the kind of fault, for the summary.
        name: what is wrong, unique within the kind and objective.
        objective: the objective of the good recipe; `sampled` is online GRPO.
        options: keys that differ; `ABSENT` removes one.
        names: a word that the error's line must have. None: the recipe must train.
            A tuple: training, or an error that has its first word.
        argv: arguments of the command line.
        rows: the rows, or the bytes of their file; None: the good ones.
        file: the name of the file of rows.
        text: the recipe's own text instead of options.
        prepare: called with the case's folder before the run.
    """

    kind: str
    name: str
    objective: str = "dpo"
    options: dict[str, Any] = field(default_factory=dict)
    names: str | tuple[str, ...] | None = None
    argv: tuple[str, ...] = ()
    rows: Any = None
    file: str = "rows.jsonl"
    text: str | bytes | None = None
    prepare: Callable[[Path], None] | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.objective}: {self.name}"


GROUPS = [
    {
        "prompt": f"{i}+1",
        "completions": [letter * (1 + i % 3) for letter in "abcd"],
        "scores": [float((i + j) % 5) for j in range(4)],
    }
    for i in range(8)
]
_BASE = {
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "gradient_checkpointing": False,
}
_OF_GROUPS = {"num_generations": 4, "max_completion_length": 4}
_REWARDS = '''"""Reward functions, good and bad."""
import asyncio
import time

def count(completions, **_):
    return [float(len(c)) for c in completions]

def short(completions, **_):
    return [1.0]

def none(completions, **_):
    return [None] * len(completions)

def nothing(completions, **_):
    return None

def one(completions, **_):
    return 1.0

def texts(completions, **_):
    return ["1"] * len(completions)

def nan(completions, **_):
    return [float("nan")] * len(completions)

def huge(completions, **_):
    return [1e300] * len(completions)

def raises(completions, **_):
    raise RuntimeError("the judge\\nis out")

def exits(completions, **_):
    raise SystemExit(3)

def missing(completions, answer, **_):
    return [1.0] * len(completions)

def takes_nothing():
    return []

def nested(completions, **_):
    return [[1.0]] * len(completions)

def booleans(completions, **_):
    return [len(c) > 2 for c in completions]

def constant(completions, **_):
    return [1.0] * len(completions)

async def later(completions, **_):
    await asyncio.sleep(0.01)
    return [float(len(c)) for c in completions]

async def later_raises(completions, **_):
    raise ValueError("later")

def slow(completions, **_):
    time.sleep(0.2)
    return [float(len(c)) for c in completions]

number = 5

class Scorer:
    pass
'''


def good_rows(objective: str) -> list[dict]:
    """Rows from which a recipe of an objective learns."""
    from humanline.trainers.rows import preferences

    match objective:
        case "dpo":
            return preferences.pairs(GROUPS, 0.01)
        case "kto":
            return preferences.labelled(GROUPS, 0.01)
        case "grpo":
            return preferences.stored_groups(GROUPS)
    return [{"prompt": group["prompt"]} for group in GROUPS]


def write(case: Case, folder: Path, model: Path) -> Path:
    """Write a case's recipe and rows into a folder; returns the recipe."""
    data = folder / case.file
    rows = good_rows(case.objective) if case.rows is None else case.rows
    if not isinstance(rows, bytes):
        rows = "".join(json.dumps(row) + "\n" for row in rows).encode()
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_bytes(rows)
    is_online = case.objective == "sampled"
    content = {
        "objective": "grpo" if is_online else case.objective,
        "model_name_or_path": str(model),
        "dataset_name": str(data),
        "output_dir": str(folder / "out"),
        **_BASE,
        **(_OF_GROUPS if case.objective in ("grpo", "sampled") else {}),
        **({"reward_funcs": ["own_rewards.count"]} if is_online else {}),
        **case.options,
    }
    content = {key: value for key, value in content.items() if value is not ABSENT}
    path = folder / "recipe.yaml"
    text = yaml.safe_dump(content) if case.text is None else case.text
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if is_online:
        (folder / "own_rewards.py").write_text(_REWARDS)
    if case.prepare:
        case.prepare(folder)
    return path


def all_cases() -> list[Case]:
    """All bad recipes, and a good one of each objective."""
    found = [Case("good", "as it is", each) for each in ("dpo", "kto", "grpo", "sampled")]
    for make in (_types, _numbers, _texts, _spellings, _other_objectives, _no_effect, _pairs):
        found += make()
    for make in (_rewards, _folders, _yaml, _command_line):
        found += make()
    return found


# Every field, with values of other types and out of its bounds.


def _all_fields() -> Iterator[tuple[str, str, Any, Any]]:
    """Yield each field once: an objective that has it, its name, its type and its default."""
    from humanline.training.recipes.options import Parser

    seen = set()
    for objective in ("dpo", "kto", "grpo"):
        for options in Parser(objective).dataclass_types:
            hints = get_type_hints(options)
            for each in fields(options):
                if not each.init or each.name in seen:
                    continue
                seen.add(each.name)
                default = None if each.default is MISSING else each.default
                yield objective, each.name, hints[each.name], default


def _members(hint) -> set:
    """The types of a union, without their parameters."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return {get_origin(part) or part for part in parts}


# Booleans are checked by argparse: numbers other than 0 and 1 are none.
_WRONG: dict[type, tuple] = {
    int: ("many", True, 1.5, [1, 2], {"a": 1}, math.nan, ""),
    float: ("many", True, [1.0, 2.0], {"a": 1}, math.nan, math.inf, ""),
    bool: ("perhaps", 7, [True, False], {"a": 1}, 0.5, ""),
    str: (["a", "b"], {"a": 1}, True),
    list: ({"a": 1}, True),
    dict: ([1], True, 5, "some text"),
}
_LABELS = {int: "int", float: "float", bool: "bool", str: "str", list: "list", dict: "dict"}
# These are valid although the declared type forbids them, or say what a text means themselves.
_EXCEPT = {
    "resume_from_checkpoint",  # true and false are valid
    "parallelism_config",  # an object of accelerate's
    "debug",
}


def _types() -> Iterator[Case]:
    for objective, name, hint, _ in _all_fields():
        members = _members(hint)
        if name in _EXCEPT:
            continue
        for kind in (bool, int, float, list, dict, str):
            if kind not in members:
                continue
            for value in _WRONG[kind]:
                if type(value) in members or (kind is dict and isinstance(value, str)):
                    continue
                if isinstance(value, list) and list in members:
                    continue
                if value == "" and str in members:
                    continue
                yield Case("type", f"{name}: {value!r}", objective, {name: value}, name)
            break
        if type(None) not in members:
            yield Case("type", f"{name}: null", objective, {name: None}, name)


_MINUS_IS_RIGHT = {"log_eps_p", "max_steps", "local_rank", "top_k", "entropy_coef"}
_ZERO_IS_RIGHT = {
    *("log_eps_p", "log_eps_r", "weight_decay", "max_grad_norm", "warmup_steps", "adam_beta1"),
    *("adam_beta2", "adam_epsilon", "label_smoothing_factor", "label_smoothing", "beta"),
    *("desirable_weight", "undesirable_weight", "sft_weight", "epsilon", "seed", "data_seed"),
    *("eval_delay", "dataloader_num_workers", "top_k", "min_p", "entropy_coef", "num_train_epochs"),
    *("router_aux_loss_coef", "local_rank", "epsilon_high", "neftune_noise_alpha", "ld_alpha"),
}
_ZERO_IS_WRONG = {"beta"}  # of the first objective that has it: dpo
# With no value has it an effect without another option; tested below.


def _numbers() -> Iterator[Case]:
    for objective, name, hint, default in _all_fields():
        members = _members(hint) & {int, float}
        if not members or name in ("resume_from_checkpoint",):
            continue
        kind = int if int in members else float
        for value, right in ((-1, _MINUS_IS_RIGHT), (0, _ZERO_IS_RIGHT - _ZERO_IS_WRONG)):
            names: Any = None if name in right or value == default else name
            if name in ("num_train_epochs",):
                names = name
            yield Case("bound", f"{name}: {value}", objective, {name: kind(value)}, names)
        value = 10**12 if kind is int else 1e30
        yield Case("huge", f"{name}: {value}", objective, {name: value}, (name,))


def _texts() -> Iterator[Case]:
    """A text that is none of the known words, for each option with words."""
    free = {
        *("dataset_name", "dataset_config", "model_name_or_path", "output_dir", "run_name"),
        *("optim_args", "hub_token", "project", "length_column_name", "resume_from_checkpoint"),
    }
    for objective, name, hint, _ in _all_fields():
        if str in _members(hint) and name not in free | _EXCEPT:
            yield Case("word", f"{name}: zigzag", objective, {name: "zigzag"}, name)


def _spellings() -> Iterator[Case]:
    for objective, name, _, default in _all_fields():
        wrong = name[:-1] if len(name) > 4 else f"{name}s"
        yield Case("spelling", wrong, objective, {wrong: default}, wrong)


def _other_objectives() -> Iterator[Case]:
    """Keys that another objective has."""
    from humanline.training.recipes.options import Parser

    known = {
        objective: {f.name for kind in Parser(objective).dataclass_types for f in fields(kind)}
        for objective in ("dpo", "kto", "grpo")
    }
    for objective, other in (("dpo", "grpo"), ("kto", "dpo"), ("grpo", "kto"), ("grpo", "dpo")):
        for name in sorted(known[other] - known[objective]):
            yield Case("other objective", f"{name} of {other}", objective, {name: 1}, name)


# Options that have no effect beside others.

_NEVER = {"eval_strategy": "no"}
_IDLE: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    # objective, options without an effect, the rest
    ("dpo", {"sync_interval": 4}, {"humanline": False}),
    ("dpo", {"log_eps_p": -1.0}, {"humanline": False}),
    ("dpo", {"log_eps_r": 1.0}, {"humanline": False}),
    ("dpo", {"reference": "model"}, {"humanline": False}),
    ("dpo", {"perception": "sample"}, {"humanline": False}),
    ("dpo", {"sync_after_update": True}, {"humanline": False}),
    ("dpo", {"sync_alpha": 0.5, "reference": "model"}, {"humanline": False}),
    ("dpo", {"sync_after_update": True}, {"sync_interval": None}),
    ("dpo", {"sync_alpha": 0.5}, {"sync_interval": None, "reference": "model"}),
    ("dpo", {"log_eps_p": -1.0}, {"perception": "authors"}),
    ("dpo", {"log_eps_r": 1.0}, {"perception": "second_moment"}),
    ("dpo", {"gamma_p": 1.0}, {}),
    ("dpo", {"second_moment": 0.1}, {}),
    ("dpo", {"sft_weight": 0.1}, {"humanline": False}),
    ("dpo", {"lora_alpha": 8}, {}),
    ("dpo", {"lora_target_modules": ["q_proj"]}, {}),
    ("dpo", {"use_dora": True}, {}),
    ("dpo", {"bnb_4bit_quant_type": "fp4"}, {}),
    ("dpo", {"use_bnb_nested_quant": True}, {}),
    ("dpo", {"bnb_4bit_quant_storage": "uint8"}, {}),
    ("dpo", {"eval_steps": 5}, {}),
    ("dpo", {"eval_delay": 5}, {}),
    ("dpo", {"per_device_eval_batch_size": 2}, {}),
    ("dpo", {"eval_accumulation_steps": 2}, {}),
    ("dpo", {"dataset_test_split": "held_out"}, {}),
    ("dpo", {"bf16_full_eval": True}, {}),
    ("dpo", {"eval_on_start": True}, {}),
    ("dpo", {"do_eval": True}, {}),
    ("dpo", {"do_predict": True}, {}),
    ("dpo", {"save_steps": 5}, {}),
    ("dpo", {"save_total_limit": 2}, {}),
    ("dpo", {"save_only_model": True}, {}),
    ("dpo", {"logging_steps": 5}, {"logging_strategy": "no"}),
    ("dpo", {"logging_steps": 5}, {"logging_strategy": "epoch"}),
    ("dpo", {"metric_for_best_model": "loss"}, {}),
    ("dpo", {"greater_is_better": True}, {}),
    ("dpo", {"hub_model_id": "a/b"}, {}),
    ("dpo", {"hub_private_repo": True}, {}),
    ("dpo", {"hub_strategy": "end"}, {}),
    ("dpo", {"hub_revision": "b"}, {}),
    ("dpo", {"hub_always_push": True}, {}),
    ("dpo", {"num_train_epochs": 5.0}, {}),
    ("dpo", {"warmup_steps": 5}, {"lr_scheduler_type": "constant"}),
    ("dpo", {"lr_scheduler_kwargs": {"num_cycles": 1}}, {"lr_scheduler_type": "constant"}),
    ("dpo", {"gradient_checkpointing_kwargs": {"use_reentrant": True}}, {}),
    ("dpo", {"dataloader_prefetch_factor": 2}, {}),
    ("dpo", {"dataloader_persistent_workers": True}, {}),
    ("dpo", {"dataloader_multiprocessing_context": "fork"}, {}),
    ("dpo", {"fsdp_config": {"version": 2}}, {}),
    ("dpo", {"liger_kernel_config": {"rope": True}}, {}),
    ("dpo", {"adam_beta1": 0.5}, {"optim": "sgd"}),
    ("dpo", {"adam_epsilon": 0.5}, {"optim": "sgd"}),
    ("dpo", {"optim_args": "a=1"}, {}),
    ("dpo", {"optim_target_modules": ["q_proj"]}, {}),
    ("dpo", {"ref_model_sync_steps": 5}, {}),
    ("dpo", {"ref_model_mixup_alpha": 0.5}, {}),
    ("dpo", {"precompute_ref_batch_size": 5}, {}),
    ("dpo", {"discopop_tau": 0.1}, {}),
    ("dpo", {"f_alpha_divergence_coef": 0.1}, {}),
    ("dpo", {"label_smoothing": 0.1}, {}),
    ("dpo", {"label_smoothing": 0.1}, {"loss_type": "hinge", "humanline": False}),
    ("dpo", {"truncation_mode": "keep_end"}, {"max_length": None}),
    ("dpo", {"length_column_name": "size"}, {}),
    ("dpo", {"ignore_data_skip": True}, {}),
    ("dpo", {"include_for_metrics": ["loss"]}, {}),
    ("dpo", {"batch_eval_metrics": True}, {}),
    ("dpo", {"label_names": ["a"]}, {}),
    ("dpo", {"trackio_space_id": "a/b"}, {}),
    ("dpo", {"project": "mine"}, {}),
    ("dpo", {"restore_callback_states_from_checkpoint": True}, {}),
    ("kto", {"precompute_ref_batch_size": 5}, {}),
    ("grpo", {"epsilon_high": 0.3}, {"loss_type": "sapo"}),
    ("grpo", {"delta": 3.0}, {"loss_type": "cispo"}),
    ("grpo", {"epsilon": 0.1}, {"loss_type": "cispo"}),
    ("grpo", {"sapo_temperature_pos": 0.5}, {}),
    ("grpo", {"vespo_k_pos": 0.5}, {}),
    ("grpo", {"entropy_target": 0.5}, {}),
    ("grpo", {"entropy_coef_max": 0.5}, {}),
    ("grpo", {"entropy_coef_delta": 0.5}, {}),
    ("grpo", {"use_bias_correction_kl": True}, {"humanline": False}),
    ("grpo", {"num_completions_to_print": 5}, {}),
    ("grpo", {"log_unique_prompts": True}, {}),
    ("grpo", {"log_completions_hub_repo": "a/b"}, {}),
    ("grpo", {"num_generations_eval": 2}, {}),
    ("grpo", {"max_tool_calling_iterations": 2}, {}),
    ("grpo", {"ds3_gather_for_generation": False}, {}),
    ("grpo", {"vllm_mode": "server"}, {}),
    ("grpo", {"vllm_gpu_memory_utilization": 0.5}, {}),
    ("grpo", {"vllm_importance_sampling_clip_max": 2.0}, {}),
    ("grpo", {"vllm_server_port": 8001}, {}),
    # Stored groups: nothing is sampled and nothing rewarded.
    ("grpo", {"top_p": 0.9}, {}),
    ("grpo", {"top_k": 5}, {}),
    ("grpo", {"min_p": 0.1}, {}),
    ("grpo", {"repetition_penalty": 1.1}, {}),
    ("grpo", {"generation_kwargs": {"do_sample": False}}, {}),
    ("grpo", {"cache_implementation": "static"}, {}),
    ("grpo", {"use_transformers_continuous_batching": True}, {}),
    ("grpo", {"multi_objective_aggregation": "normalize_then_sum"}, {}),
    ("sampled", {"multi_objective_aggregation": "normalize_then_sum"}, {}),
    ("sampled", {"transformers_continuous_batching_config": {"block_size": 4}}, {}),
    ("sampled", {"sapo_temperature_neg": 0.5}, {}),
)


def _no_effect() -> Iterator[Case]:
    for objective, idle, rest in _IDLE:
        name = next(iter(idle))
        beside = f" beside {rest}" if rest else ""
        yield Case("no effect", f"{name}{beside}", objective, idle | rest, name)


# Contradictions.

_BOTH: tuple[tuple[str, dict[str, Any], str | tuple | None], ...] = (
    ("dpo", {"log_eps_p": 1.0}, "log_eps_p"),
    ("dpo", {"log_eps_r": -1.0}, "log_eps_r"),
    ("dpo", {"log_eps_p": 1.5, "log_eps_r": -1.5}, "log_eps_"),
    ("dpo", {"log_eps_p": 0.0, "log_eps_r": 0.0}, "log_eps_"),
    ("dpo", {"log_eps_p": None, "log_eps_r": None}, None),
    ("dpo", {"sync_interval": 0}, "sync_interval"),
    ("dpo", {"sync_interval": -1}, "sync_interval"),
    ("dpo", {"sync_interval": 100}, None),  # more than there are steps: never synced
    ("dpo", {"sync_interval": None}, None),
    ("dpo", {"sync_alpha": 0.0}, "sync_alpha"),
    ("dpo", {"sync_alpha": 1.1}, "sync_alpha"),
    ("dpo", {"sync_alpha": 0.5}, "sync_alpha"),
    ("dpo", {"reference": "adapter"}, "reference"),
    ("dpo", {"reference": "Model"}, "reference"),
    ("dpo", {"perception": "clips"}, "perception"),
    ("dpo", {"gamma_p": 0.0, "perception": "sample"}, "gamma_p"),
    ("dpo", {"gamma_p": 1e30, "perception": "sample"}, ("gamma_p",)),
    ("dpo", {"second_moment": 0.0, "perception": "second_moment"}, "second_moment"),
    ("dpo", {"perception": "sample", "log_eps_p": None}, ("log_eps_p",)),
    ("dpo", {"bf16": True, "fp16": True}, "fp16"),
    ("dpo", {"fp16": True}, ("fp16",)),
    ("dpo", {"bf16": True}, None),
    ("dpo", {"tf32": True}, ("tf32",)),
    ("dpo", {"load_in_4bit": True, "load_in_8bit": True}, "load_in_"),
    ("dpo", {"load_in_4bit": True}, "load_in_4bit"),
    ("dpo", {"load_in_8bit": True}, "load_in_8bit"),
    ("dpo", {"use_liger_kernel": True}, "use_liger_kernel"),
    ("dpo", {"deepspeed": {"zero_optimization": {"stage": 3}}}, "deepspeed"),
    ("dpo", {"deepspeed": "none.json"}, "deepspeed"),
    ("dpo", {"fsdp": "full_shard"}, ("fsdp",)),
    ("dpo", {"optim": "adamw_bnb_8bit"}, "optim"),
    ("dpo", {"optim": "galore_adamw"}, "optim"),
    ("dpo", {"optim": "lomo"}, "optim"),
    ("dpo", {"optim": "adamw_apex_fused"}, "optim"),
    ("dpo", {"optim": "adamw_torch_xla"}, "optim"),
    ("dpo", {"optim": "adamw_anyprecision"}, "optim"),
    ("dpo", {"optim": "adamw_torch_8bit"}, ("optim",)),
    ("dpo", {"optim": "schedule_free_adamw"}, "optim"),
    ("dpo", {"optim": "grokadamw"}, "optim"),
    ("dpo", {"optim": "stable_adamw"}, "optim"),
    ("dpo", {"optim": "apollo_adamw"}, "optim"),
    ("dpo", {"optim": "adafactor"}, None),
    ("dpo", {"optim": "sgd"}, None),
    ("dpo", {"optim": "adamw_torch", "optim_args": "nonsense"}, "optim_args"),
    ("dpo", {"learning_rate": 0.0}, "learning_rate"),
    ("dpo", {"learning_rate": 1e30, "max_steps": 3}, "learning_rate"),
    ("dpo", {"max_length": 1}, "max_length"),
    ("dpo", {"max_length": 2}, "max_length"),
    ("kto", {"max_length": 2}, "max_length"),
    ("dpo", {"max_length": 2, "truncation_mode": "keep_end"}, ("max_length",)),
    ("grpo", {"max_completion_length": 1}, None),
    ("grpo", {"max_completion_length": 1, "mask_truncated_completions": True},
     "max_completion_length"),
    ("grpo", {"max_completion_length": None}, ("max_completion_length",)),
    ("sampled", {"max_completion_length": None}, ("max_completion_length",)),
    ("sampled", {"max_completion_length": 10**6}, ("max_completion_length",)),
    ("dpo", {"eval_strategy": "steps", "eval_steps": 1}, "dataset_test_split"),
    ("dpo", {"eval_strategy": "epoch", "dataset_test_split": "nope"}, "dataset_test_split"),
    ("dpo", {"eval_strategy": "epoch", "dataset_test_split": "train"}, None),
    ("dpo", {"eval_strategy": "epoch", "eval_steps": 5, "dataset_test_split": "train"},
     "eval_steps"),
    ("dpo", {"load_best_model_at_end": True}, "load_best_model_at_end"),
    ("dpo", {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 3,
             "save_strategy": "steps", "save_steps": 5, "dataset_test_split": "train"},
     "load_best_model_at_end"),
    ("dpo", {"load_best_model_at_end": True, "eval_strategy": "epoch",
             "save_strategy": "steps", "dataset_test_split": "train"}, "load_best_model_at_end"),
    ("dpo", {"metric_for_best_model": "zeal", "load_best_model_at_end": True,
             "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1,
             "dataset_test_split": "train"}, "metric_for_best_model"),
    ("dpo", {"save_strategy": "best"}, "save_strategy"),
    ("dpo", {"save_steps": 0.5, "save_strategy": "steps"}, None),
    ("dpo", {"save_steps": 1.5, "save_strategy": "steps"}, "save_steps"),
    ("dpo", {"logging_steps": 1.5}, "logging_steps"),
    ("dpo", {"warmup_steps": 1.5}, "warmup_steps"),
    ("dpo", {"warmup_steps": 100}, "warmup_steps"),
    ("dpo", {"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler"),
    ("dpo", {"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type"),
    ("dpo", {"lr_scheduler_type": "warmup_stable_decay"}, "lr_scheduler"),
    ("dpo", {"lr_scheduler_kwargs": {"nonsense": 1}}, "lr_scheduler"),
    ("dpo", {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": "x"}},
     "lr_scheduler"),
    ("dpo", {"report_to": "nonsense"}, "report_to"),
    ("dpo", {"report_to": ["tensorboard", "nonsense"]}, "report_to"),
    ("dpo", {"report_to": "wandb"}, "report_to"),
    ("dpo", {"report_to": "all"}, ("report_to",)),
    ("dpo", {"report_to": []}, None),
    ("dpo", {"push_to_hub": True}, "push_to_hub"),
    ("dpo", {"attn_implementation": "flash_attention_2"}, "attn_implementation"),
    ("dpo", {"attn_implementation": "nonsense"}, "attn_implementation"),
    ("dpo", {"attn_implementation": "eager"}, None),
    ("dpo", {"dtype": "auto"}, None),
    ("dpo", {"dtype": "float16"}, ("dtype",)),
    ("dpo", {"dtype": "bfloat16"}, None),
    ("dpo", {"model_init_kwargs": {"nonsense": 1}}, "model_init_kwargs"),
    ("dpo", {"model_init_kwargs": {"dtype": "float99"}}, "model_init_kwargs"),
    ("dpo", {"model_init_kwargs": {"trust_remote_code": True}}, "model_init_kwargs"),
    ("dpo", {"model_init_kwargs": {"device_map": "nowhere"}}, "model_init_kwargs"),
    ("dpo", {"model_init_kwargs": {"num_hidden_layers": 0}}, ("model_init_kwargs",)),
    ("dpo", {"trust_remote_code": True}, "trust_remote_code"),
    ("dpo", {"model_revision": "other"}, "model_revision"),
    ("dpo", {"dataset_config": "other"}, "dataset_config"),
    ("dpo", {"dataset_streaming": True, "max_steps": -1}, "max_steps"),
    ("dpo", {"dataset_streaming": True}, None),
    ("dpo", {"dataset_train_split": "validation"}, None),  # a file is one split, of any name
    ("dpo", {"dataset_train_split": "train[:4]"}, "dataset_train_split"),
    ("dpo", {"dataset_num_proc": 2}, None),
    ("dpo", {"per_device_train_batch_size": 10**6}, None),
    ("dpo", {"per_device_train_batch_size": 100, "dataloader_drop_last": True},
     "per_device_train_batch_size"),
    ("dpo", {"gradient_accumulation_steps": 10**6}, None),
    ("dpo", {"auto_find_batch_size": True}, ("auto_find_batch_size",)),
    ("dpo", {"torch_compile": True, "torch_compile_backend": "nope"}, "torch_compile_backend"),
    ("dpo", {"neftune_noise_alpha": 5.0}, None),
    ("dpo", {"padding_free": True}, ("padding_free",)),
    ("dpo", {"precompute_ref_log_probs": True}, "precompute_ref_log_probs"),
    ("dpo", {"sync_ref_model": True}, "sync_ref_model"),
    ("dpo", {"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
    ("dpo", {"loss_type": ["sigmoid", "nope"]}, "loss_type"),
    ("dpo", {"loss_type": []}, "loss_type"),
    ("dpo", {"loss_type": "sft"}, "loss_type"),
    ("dpo", {"loss_type": "aot"}, "loss_type"),
    ("dpo", {"loss_type": ["sigmoid", "sigmoid"]}, ("loss_type",)),
    ("dpo", {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "loss_weights"),
    ("dpo", {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.0, 0.0]}, "loss_weights"),
    ("dpo", {"loss_type": "robust", "label_smoothing": 0.5}, "label_smoothing"),
    ("dpo", {"loss_type": "exo_pair"}, "label_smoothing"),
    ("dpo", {"f_divergence_type": "nope"}, "f_divergence_type"),
    ("dpo", {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.0}, None),
    ("dpo", {"ld_alpha": 1.5}, "ld_alpha"),
    ("dpo", {"pad_token": "nope"}, "pad_token"),
    ("dpo", {"remove_unused_columns": False}, ("remove_unused_columns",)),
    ("dpo", {"train_sampling_strategy": "group_by_length"}, ("train_sampling_strategy",)),
    ("dpo", {"accelerator_config": {"nonsense": 1}}, "accelerator_config"),
    ("dpo", {"accelerator_config": "none.json"}, "accelerator_config"),
    ("dpo", {"gradient_checkpointing": True,
             "gradient_checkpointing_kwargs": {"nonsense": 1}}, "gradient_checkpointing_kwargs"),
    ("dpo", {"debug": "nonsense"}, "debug"),
    ("dpo", {"log_level": "nonsense"}, "log_level"),
    ("dpo", {"local_rank": 3}, ("local_rank",)),
    ("dpo", {"ddp_backend": "nonsense"}, "ddp_backend"),
    ("dpo", {"use_peft": True, "lora_r": 0}, "lora_r"),
    ("dpo", {"use_peft": True, "lora_r": -4}, "lora_r"),
    ("dpo", {"use_peft": True, "lora_alpha": 0}, "lora_alpha"),
    ("dpo", {"use_peft": True, "lora_alpha": -1}, "lora_alpha"),
    ("dpo", {"use_peft": True, "lora_dropout": 1.0}, "lora_dropout"),
    ("dpo", {"use_peft": True, "lora_target_modules": ["nope"]}, "lora_target_modules"),
    ("dpo", {"use_peft": True, "lora_target_modules": []}, "lora_target_modules"),
    ("dpo", {"use_peft": True, "lora_target_parameters": ["nope"]}, "lora_target_parameters"),
    ("dpo", {"use_peft": True, "lora_modules_to_save": ["nope"],
             "lora_target_modules": ["q_proj", "v_proj"]}, "lora_modules_to_save"),
    ("dpo", {"use_peft": True, "lora_task_type": "SEQ_CLS"}, "lora_task_type"),
    ("dpo", {"use_peft": True, "lora_target_modules": ["q_proj", "v_proj"],
             "reference": "adapter"}, None),
    ("kto", {"desirable_weight": 0.0, "undesirable_weight": 0.0}, "desirable_weight"),
    ("kto", {"loss_type": "nope"}, "loss_type"),
    ("kto", {"beta": 0.0}, "beta"),
    ("kto", {"per_device_train_batch_size": 1}, ("per_device_train_batch_size",)),
    ("grpo", {"num_generations": 1}, "num_generations"),
    ("grpo", {"num_generations": 3}, "num_generations"),
    ("grpo", {"num_generations": 2}, "num_generations"),
    ("grpo", {"num_generations": None}, "num_generations"),
    ("grpo", {"per_device_train_batch_size": 6}, ("num_generations",)),
    ("grpo", {"per_device_train_batch_size": 3}, "num_generations"),
    ("grpo", {"generation_batch_size": 6}, "generation_batch_size"),
    ("grpo", {"generation_batch_size": 8, "steps_per_generation": 2}, "generation_batch_size"),
    ("grpo", {"steps_per_generation": 100}, "steps_per_generation"),
    ("grpo", {"per_device_train_batch_size": 400}, "per_device_train_batch_size"),
    ("grpo", {"num_iterations": 0}, "num_iterations"),
    ("grpo", {"beta": 0.1, "use_bias_correction_kl": True}, "use_bias_correction_kl"),
    ("grpo", {"loss_type": "nope"}, "loss_type"),
    ("grpo", {"importance_sampling_level": "word"}, "importance_sampling_level"),
    ("grpo", {"scale_rewards": "nope"}, "scale_rewards"),
    ("grpo", {"epsilon": 0.3, "epsilon_high": 0.1}, None),
    ("grpo", {"epsilon": 1.5}, ("epsilon",)),
    ("grpo", {"delta": 0.5, "epsilon_high": 0.9}, ("delta",)),
    ("grpo", {"use_vllm": True}, "use_vllm"),
    ("sampled", {"use_vllm": True}, "use_vllm"),
    ("grpo", {"reward_funcs": ["humanline.rewards.armorm"]}, "reward_funcs"),
    ("grpo", {"reward_weights": [1.0, 2.0]}, "reward_weights"),
    ("sampled", {"reward_weights": [1.0, 2.0]}, "reward_weights"),
    ("sampled", {"reward_weights": [0.0]}, "reward_weights"),
    ("sampled", {"reward_weights": []}, "reward_weights"),
    ("sampled", {"temperature": 0.0}, "temperature"),
    ("sampled", {"temperature": -1.0}, "temperature"),
    ("sampled", {"top_p": 0.0}, "top_p"),
    ("sampled", {"top_k": 10**6}, None),
    ("sampled", {"min_p": 1.5}, "min_p"),
    ("sampled", {"repetition_penalty": 0.0}, "repetition_penalty"),
    ("sampled", {"repetition_penalty": -1.0}, "repetition_penalty"),
    ("sampled", {"generation_kwargs": {"nonsense": 1}}, "generation_kwargs"),
    ("sampled", {"generation_kwargs": {"max_new_tokens": -1}}, "generation_kwargs"),
    ("sampled", {"generation_kwargs": {"num_return_sequences": 2}}, "generation_kwargs"),
    ("sampled", {"cache_implementation": "nonsense"}, "cache_implementation"),
    ("sampled", {"chat_template_kwargs": {"enable_thinking": False}}, None),
    ("sampled", {"num_generations_eval": 0}, "num_generations_eval"),
    ("sampled", {"entropy_coef_min": 2.0, "use_adaptive_entropy": True}, "entropy_coef_min"),
    ("sampled", {"use_transformers_paged": True}, ("use_transformers_paged",)),
    ("sampled", {"use_transformers_continuous_batching": True},
     ("use_transformers_continuous_batching",)),
    ("sampled", {"reward_funcs": ABSENT}, "reward_funcs"),
    ("sampled", {"reward_funcs": []}, "reward_funcs"),
    ("sampled", {"reward_model_name_or_path": "./none"}, "reward_model_name_or_path"),
    ("sampled", {"reward_model_name_or_path": "nobody/none"}, "reward_model_name_or_path"),
    ("sampled", {"vllm_structured_outputs_regex": "["}, "vllm_structured_outputs_regex"),
)  # fmt: skip


def _pairs() -> Iterator[Case]:
    for objective, options, names in _BOTH:
        shown = ", ".join(
            f"{key}: {'(none)' if value is ABSENT else value}" for key, value in options.items()
        )
        yield Case("contradiction", shown, objective, options, names)


def _rewards() -> Iterator[Case]:
    wrong = ("short", "none", "nothing", "one", "texts", "nan", "huge", "raises", "exits")
    wrong += ("missing", "takes_nothing", "nested", "later_raises")
    for name in wrong:
        yield Case("reward", name, "sampled", {"reward_funcs": [f"own_rewards.{name}"]}, name)
    for name in ("booleans", "later", "slow"):
        yield Case("reward", name, "sampled", {"reward_funcs": [f"own_rewards.{name}"]}, None)
    options = {"reward_funcs": ["own_rewards.Scorer"]}
    yield Case("reward", "a class", "sampled", options, "Scorer")
    for path in ("own_rewards.number", "own_rewards.no", "none.count"):
        yield Case("reward", path, "sampled", {"reward_funcs": [path]}, "reward_funcs")
    for path in ("", ".", "..count", "own rewards.count", "own_rewards/count.py", "a.b;c"):
        yield Case("reward", repr(path), "sampled", {"reward_funcs": [path]}, "reward_funcs")
    yield Case("reward", "a text", "sampled", {"reward_funcs": "own_rewards.count"}, None)
    twice = ["own_rewards.count", "own_rewards.count"]
    yield Case("reward", "the same twice", "sampled", {"reward_funcs": twice}, ("reward_funcs",))
    one_lacks = ["own_rewards.count", "own_rewards.none"]
    yield Case("reward", "none beside a number", "sampled", {"reward_funcs": one_lacks}, None)


# Files and folders.


def finished(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "model.safetensors").write_bytes(b"precious")
    (folder / "out" / "config.json").write_text("{}")


def half_done(folder: Path) -> None:
    (folder / "out" / "checkpoint-3").mkdir(parents=True)
    (folder / "out" / "checkpoint-3" / "trainer_state.json").write_text('{"global_step": 3}')


def _notes(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")


def _read_only(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out").chmod(0o555)


def _dangling(folder: Path) -> None:
    (folder / "out").symlink_to(folder / "nowhere" / "else")


def _folders() -> Iterator[Case]:
    kind = "output"
    yield Case(kind, "a finished training", names="output_dir", prepare=finished)
    yield Case(kind, "checkpoints of another", names="output_dir", prepare=half_done)
    yield Case(kind, "notes of the user", prepare=_notes)
    yield Case(kind, "a dangling link", names=("output_dir",), prepare=_dangling)
    if os.geteuid():
        yield Case(kind, "read-only", names="output_dir", prepare=_read_only)
    for value in ("", " ", "/proc/none", "/dev/null", "recipe.yaml", "recipe.yaml/out", "a" * 300):
        yield Case(kind, repr(value)[:20], options={"output_dir": value}, names="output_dir")
    yield Case(kind, "a NUL", options={"output_dir": "a\0b"}, names="output_dir")
    yield Case(kind, "absent", options={"output_dir": ABSENT}, names=("output_dir",))
    yield Case(kind, "half done, resumed", names="checkpoint-3", prepare=half_done,
               options={"resume_from_checkpoint": True, "max_steps": 5})  # fmt: skip
    for value in (True, "true", "checkpoint-9", "/", "recipe.yaml", "", "out"):
        yield Case("resume", repr(value), options={"resume_from_checkpoint": value},
                   names="resume_from_checkpoint" if value != "" else None)  # fmt: skip
    yield Case("resume", "False", options={"resume_from_checkpoint": False})
    for field_ in ("model_name_or_path", "dataset_name"):
        for value in ("", " ", "./none", "/none", "no one/none", "a/b/c", "-x", "a\0b", "~/x"):
            yield Case("name", f"{field_}: {value!r}", options={field_: value}, names=field_)
        yield Case("name", f"{field_}: a file", options={field_: "recipe.yaml"}, names=field_)
        yield Case("name", f"{field_}: a folder", options={field_: "."}, names=field_)
        yield Case("name", f"{field_}: absent", options={field_: ABSENT}, names=field_)
        yield Case("name", f"{field_}: fifo", options={field_: "./pipe.jsonl"}, names=field_,
                   prepare=lambda folder: os.mkfifo(folder / "pipe.jsonl"))  # fmt: skip


_TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "null": "null",
    "a list": "- objective: dpo\n",
    "a text": "dpo",
    "broken": "objective: [dpo\n",
    "tabs": "objective:\tdpo\n\tx: 1\n",
    "not UTF-8": b"objective: dpo\nrun_name: \xff\xfe\n",
    "UTF-16": "objective: dpo\n".encode("utf-16"),
    "NUL": "objective: dpo\0\n",
    "twice": "objective: dpo\nbeta: 0.1\nbeta: 0.2\n",
    "two documents": "objective: dpo\n---\nobjective: kto\n",
    "a tag of Python": "objective: !!python/object/apply:os.getcwd []\n",
    "a long integer": f"objective: dpo\nseed: {'9' * 5000}\n",
    "deep": f"objective: dpo\nmodel_init_kwargs: {'[' * 3000}{']' * 3000}\n",
    "a date for a name": "objective: dpo\nrun_name: 2026-13-45\n",
    "a key that is a list": "objective: dpo\n? [a]\n: 1\n",
    "a key that is a number": "objective: dpo\n1: 2\n",
    "a key that is null": "objective: dpo\n~: 2\n",
    "a key that is true": "objective: dpo\non: 2\n",
    "an option as key": "objective: dpo\n--help: 1\n",
    "a key with a space": "objective: dpo\nlearning rate: 1\n",
    "an objective of a list": "objective: [dpo]\n",
    "an unknown objective": "objective: ipo\n",
    "an objective in capitals": "objective: DPO\n",
    "a merge of aliases": "a: &a {x: 1}\nobjective: dpo\n<<: *a\n",
    "an alias bomb": "\n".join(
        ["objective: dpo", "a: &a [x,x,x,x,x,x,x,x,x]"]
        + [
            f"{n}: &{n} [{','.join([f'*{p}'] * 9)}]"
            for p, n in zip("abcdefgh", "bcdefghi", strict=True)
        ]
        + ["lora_target_modules: *i"]
    ),
    "an alias of itself": "objective: dpo\nmodel_init_kwargs: &a {a: *a}\n",
}


def _yaml() -> Iterator[Case]:
    for name, text in _TEXTS.items():
        yield Case("YAML", name, text=text, names="recipe.yaml")


def _command_line() -> Iterator[Case]:
    for argv, names in (
        (("--beta", "-0.1"), "beta"),
        (("--beta", "nan"), "beta"),
        (("--beta=inf",), "beta"),
        (("--beta", "x"), "beta"),
        (("--beta",), "beta"),
        (("--beta", "0.1", "0.2"), "0.2"),
        (("--betta", "0.1"), "betta"),
        (("--bet", "0.1"), "bet"),
        (("-beta", "0.1"), "beta"),
        (("beta=0.1",), "beta"),
        (("--beta=0.2",), None),
        (("--beta", "0.2", "--beta", "0.3"), ("beta",)),
        (("--max_steps", "1.5"), "max_steps"),
        (("--max_steps", "0"), "max_steps"),
        (("--max_steps", "1e1"), "max_steps"),
        (("--humanline", "perhaps"), "humanline"),
        (("--humanline", "false"), None),
        (("--no_humanline",), None),
        (("--no_humanline", "false"), ("humanline",)),
        (("--sync_interval", "none"), None),
        (("--sync_interval", "0"), "sync_interval"),
        (("--sync_interval", "null"), None),
        (("--log_eps_p", "1"), "log_eps_p"),
        (("--humanline", "false", "--sync_interval", "4"), "sync_interval"),
        (("--lora_r", "4"), "lora_r"),
        (("--num_generations", "4"), "num_generations"),
        (("--objective", "ipo"), "objective"),
        (("--objective",), "objective"),
        (("--objective", "kto"), None),
        (("--objective", "grpo"), "num_generations"),
        (("--dataset_name", ""), "dataset_name"),
        (("--model_name_or_path=",), "model_name_or_path"),
        (("--output_dir=",), "output_dir"),
        (("--loss_type",), "loss_type"),
        (("--loss_type", "sigmoid", "nope"), "loss_type"),
        (("--model_init_kwargs", "{"), "model_init_kwargs"),
        (("--model_init_kwargs", "[1]"), "model_init_kwargs"),
        (("--model_init_kwargs", "{}"), None),
        (("--lr_scheduler_kwargs", "x"), "lr_scheduler_kwargs"),
        (("--report_to", "nonsense"), "report_to"),
        (("--resume_from_checkpoint", "true"), "resume_from_checkpoint"),
        (("--resume_from_checkpoint", "maybe"), "resume_from_checkpoint"),
        (("--", "--beta", "0.2"), None),
        (("--config", "other.yaml"), "config"),
        (("--learning_rate", "1e-2"), None),
        (("--learning_rate", "0,01"), "learning_rate"),
        (("--learning_rate", "1_0"), ("learning_rate",)),
        (("--eval_strategy", "no"), None),
        (("--\ud800", "1"), "\\ud800"),
        (("--run_name", "\ud800"), ("run_name",)),
    ):  # fmt: skip
        yield Case("command line", " ".join(argv), argv=argv, names=names)
