"""Check a recipe's packages, files and folders on this machine, before a model is loaded."""

from importlib.util import find_spec
from pathlib import Path

import torch
from huggingface_hub import constants
from transformers import AutoConfig, AutoProcessor, Trainer, get_scheduler
from transformers.integrations import integration_utils

from humanline.files.validation import first_line
from humanline.study.scale.hub import REMOTE_CODE
from humanline.training.recipes.data import FILES, not_loaded
from humanline.training.recipes.options import Recipe
from humanline.training.recipes.outputs import checkpoint_of

# Keys of model_init_kwargs that are set elsewhere: one place decides whose code runs.
_KEPT = {
    "revision": "use model_revision",
    "trust_remote_code": "use the option trust_remote_code",
    "use_safetensors": "remove it, for other formats can hold code",
}


def check(recipe: Recipe) -> None:
    """Refuse a recipe that cannot run here, as far as this is known without data and model.

    Raises:
        ConfigError: naming the field and the remedy.
    """
    _check_given(recipe, "model_name_or_path", recipe.model.model_name_or_path)
    _check_given(recipe, "dataset_name", recipe.script.dataset_name)
    if reward := getattr(recipe.script, "reward_model_name_or_path", None):
        _check_given(recipe, "reward_model_name_or_path", reward)
    _check_options_together(recipe)
    _check_packages(recipe)
    _check_optimizer(recipe)
    _check_reports(recipe)
    recipe.training.resume_from_checkpoint = checkpoint_of(recipe)


def _check_given(recipe: Recipe, field: str, name: str | None) -> None:
    """Refuse a missing name, or a local path (it starts with / or .) that does not exist."""
    if not name:
        raise recipe.fault(field, "missing; add this key")
    is_local = name.startswith(("/", ".")) or Path(name).suffix in FILES
    if is_local and not Path(name).exists():
        raise recipe.fault(field, f"no such file or folder: {name!r}; mend the path")


def _check_options_together(recipe: Recipe) -> None:
    """Refuse options that contradict each other or have no effect together."""
    script, training, model = recipe.script, recipe.training, recipe.model
    if training.reference == "adapter" and not model.use_peft:
        reason = "adapter, which needs PEFT; set use_peft: true, or use cached or model"
        raise recipe.fault("reference", reason)
    if training.learning_rate == 0:
        raise recipe.fault("learning_rate", "0, with which nothing is learned; raise it")
    if training.max_steps > 0 and training.warmup_steps >= training.max_steps:
        reason = f"{training.warmup_steps}, and training ends before, after max_steps"
        raise recipe.fault("warmup_steps", f"{reason}={training.max_steps}; lower it")
    by_length = training.train_sampling_strategy in ("group_by_length", "batch_rebalance")
    if by_length and training.length_column_name == "length":
        reason = f"{training.train_sampling_strategy}, which needs the lengths of rows"
        raise recipe.fault("train_sampling_strategy", f"{reason}; add length_column_name: longest")
    for name in ("use_transformers_paged", "use_transformers_continuous_batching"):
        on_cpu = training.use_cpu or not torch.accelerator.is_available()
        if getattr(training, name, False) and on_cpu:
            raise recipe.fault(name, "true, which needs a GPU; remove it")
    if training.push_to_hub and constants.HF_HUB_OFFLINE:
        raise recipe.fault("push_to_hub", "true, but HF_HUB_OFFLINE=1; unset that, or remove this")
    if script.dataset_streaming and training.max_steps < 1:
        raise recipe.fault("max_steps", "missing; a stream has no length to train epochs of")
    if script.ignore_bias_buffers:
        raise recipe.fault("ignore_bias_buffers", "not supported; remove it")
    if training.load_best_model_at_end and training.eval_strategy == "no":
        reason = "true, but nothing is evaluated; set eval_strategy, or remove it"
        raise recipe.fault("load_best_model_at_end", reason)
    if Path(recipe.model_name).is_dir() and model.model_revision != "main":
        reason = f"{model.model_revision!r} has no effect on a folder; remove it"
        raise recipe.fault("model_revision", reason)
    if model.lora_r < 1:
        raise recipe.fault("lora_r", f"{model.lora_r}; use at least 1")
    if model.lora_alpha < 1:
        raise recipe.fault("lora_alpha", f"{model.lora_alpha}; use at least 1")
    if not 0 <= model.lora_dropout < 1:
        raise recipe.fault("lora_dropout", f"{model.lora_dropout}; use at least 0 and below 1")
    if model.lora_task_type != "CAUSAL_LM":
        raise recipe.fault("lora_task_type", f"{model.lora_task_type!r}; use CAUSAL_LM")


def _check_packages(recipe: Recipe) -> None:
    """Refuse options whose package is not installed."""
    training, model = recipe.training, recipe.model
    needs = {
        "use_peft": ("peft", model.use_peft),
        "load_in_4bit": ("bitsandbytes", model.load_in_4bit),
        "load_in_8bit": ("bitsandbytes", model.load_in_8bit),
        "use_vllm": ("vllm", getattr(training, "use_vllm", False)),
        "use_liger_kernel": ("liger_kernel", training.use_liger_kernel),
        "deepspeed": ("deepspeed", training.deepspeed),
        "optim": ("bitsandbytes", "bnb" in training.optim or "8bit" in training.optim),
    }
    for field, (package, is_asked_for) in needs.items():
        if is_asked_for and find_spec(package) is None:
            name = package.replace("_", "-")
            reason = f"needs the package {name}, which is not installed; pip install {name}"
            raise recipe.fault(field, f"{getattr(training, field, True)!r} {reason}")


def _check_optimizer(recipe: Recipe) -> None:
    """Refuse an optimizer or a schedule that cannot be made, by making it for a number."""
    training = recipe.training
    needs_model = ("galore", "apollo", "layerwise", "lomo")
    try:
        if not any(name in training.optim for name in needs_model):
            Trainer.get_optimizer_cls_and_kwargs(training)
    except Exception as error:  # a package that is missing gives a ValueError or ImportError
        field, value = "optim", training.optim
        if training.optim_args:
            field, value = "optim_args", training.optim_args
        reason = f"{value!r} cannot be used here ({first_line(error)}); mend it, or use another"
        raise recipe.fault(field, reason) from error
    kind, given = training.lr_scheduler_type, training.lr_scheduler_kwargs
    options = dict(given) if isinstance(given, dict) else {}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    try:
        get_scheduler(
            kind,
            optimizer,
            num_warmup_steps=0,
            num_training_steps=10,
            scheduler_specific_kwargs=options,
        )
    except Exception as error:
        reason = f"{options} does not suit lr_scheduler_type {getattr(kind, 'value', kind)}"
        raise recipe.fault(
            "lr_scheduler_kwargs", f"{reason} ({first_line(error)}); mend its keys"
        ) from error


def _check_reports(recipe: Recipe) -> None:
    known = integration_utils.INTEGRATION_TO_CALLBACK
    for name in recipe.training.report_to or ():
        if name not in known:
            choices = ", ".join(["none", *sorted(known)])
            raise recipe.fault("report_to", f"{name!r} is unknown; use one of {choices}")
        package = name.removesuffix("_ml")
        is_available = getattr(integration_utils, f"is_{package}_available", lambda: True)
        if not is_available():
            reason = f"needs the package {name}, which is not installed; pip install {name}"
            raise recipe.fault("report_to", f"{name!r} {reason}, or set report_to: none")


def check_model(recipe: Recipe):
    """Refuse a model that cannot be loaded, by its small files.

    Returns:
        The model's tokenizer or processor.

    Raises:
        ConfigError: naming the field and the remedy.
    """
    name, revision = recipe.model_name, recipe.model.model_revision
    for key, remedy in _KEPT.items():
        if key in recipe.model_options:
            raise recipe.fault("model_init_kwargs", f"has {key}; {remedy}")
    trust = recipe.training.trust_remote_code
    if trust and (name, revision) not in REMOTE_CODE:
        reason = f"true, but {name} at model_revision {revision} is not in REMOTE_CODE of"
        remedy = "humanline/study/scale/hub.py; read its code and add it there"
        raise recipe.fault("trust_remote_code", f"{reason} {remedy}")
    where = "files" if Path(name).exists() else "name and the network"
    options = {"revision": revision, "trust_remote_code": trust}
    try:
        AutoConfig.from_pretrained(name, **options)
    except Exception as error:  # transformers raises many kinds for files that it cannot read
        raise recipe.fault("model_name_or_path", not_loaded(name, error, where)) from error
    _check_weights(recipe, Path(name))
    if reward := getattr(recipe.script, "reward_model_name_or_path", None):
        try:
            AutoConfig.from_pretrained(reward, trust_remote_code=trust)
        except Exception as error:
            reason = not_loaded(reward, error)
            raise recipe.fault("reward_model_name_or_path", reason) from error
    try:
        return AutoProcessor.from_pretrained(name, **options)
    except Exception as error:
        reason = not_loaded(f"the tokenizer of {name}", error, where)
        raise recipe.fault("model_name_or_path", reason) from error


def _check_weights(recipe: Recipe, folder: Path) -> None:
    """Refuse a local folder whose weights are missing or damaged."""
    if not folder.is_dir():
        return
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        reason = f"{folder} has no weights (*.safetensors); give another, or save them there"
        raise recipe.fault("model_name_or_path", reason)
    for path in files:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError, ValueError) as error:
            reason = f"{path} cannot be read ({first_line(error)}); restore the file"
            raise recipe.fault("model_name_or_path", reason) from None


def check_template(recipe: Recipe, processor, row: dict) -> None:
    """Refuse conversations if the tokenizer has no chat template.

    Args:
        recipe: the recipe, for errors.
        processor: the model's tokenizer or processor.
        row: the first row of the data.

    Raises:
        ConfigError: if the row has conversations and there is no template.
    """
    has_conversations = any(
        isinstance(row.get(key), list) and row[key] and isinstance(row[key][0], dict)
        for key in ("prompt", "chosen", "completion")
    )
    if has_conversations and not getattr(processor, "chat_template", None):
        model, data = recipe.model.model_name_or_path, recipe.script.dataset_name
        reason = f"{model} has no chat template, and {data} has conversations"
        raise recipe.fault("model_name_or_path", f"{reason}; give a chat model, or rows of text")


def check_adapter(recipe: Recipe, model) -> None:
    """Refuse names of parameters and modules that the model lacks; PEFT leaves them out.

    Args:
        recipe: the recipe.
        model: the trainer's model, with its adapter.

    Raises:
        ConfigError: naming the parameter or module.
    """
    modules = [name for name, _ in model.named_modules()]
    for name in recipe.model.lora_modules_to_save or ():
        if not any(module.endswith(name) for module in modules):
            reason = f"{name!r} is no module of the model; mend the name"
            raise recipe.fault("lora_modules_to_save", reason)
    found = getattr(getattr(model, "base_model", None), "targeted_parameter_names", ())
    for name in recipe.model.lora_target_parameters or ():
        if not any(each == name or each.endswith(f".{name}") for each in found):
            reason = f"{name!r} is no parameter of the model; mend the name"
            raise recipe.fault("lora_target_parameters", reason)
