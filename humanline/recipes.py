"""Recipes: one YAML file trains any model with a humanline trainer.

A recipe has the key `objective` and any of TRL's script arguments, TRL's model options and the
options of the objective's humanline config. What is wrong with it is told on one line, before a
model is loaded.
"""

import os
import sys
from argparse import ArgumentParser
from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from datasets import Dataset, load_dataset
from transformers import AutoConfig, TrainingArguments
from trl import (
    ModelConfig,
    ScriptArguments,
    TrlParser,
    get_peft_config,
    get_quantization_config,
)
from trl.scripts.grpo import GRPOScriptArguments

import humanline
from humanline.config import OBJECTIVES, REMOTE_CODE
from humanline.data import feedback
from humanline.trainers.rows import columns_of, unpaired
from humanline.validation import ConfigError, load_yaml, pick

_BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}  # of `datasets`
_PAIRED = {"chosen", "rejected"}
# What decides whose code runs is in one place.
_KEPT = {
    "revision": "use model_revision",
    "trust_remote_code": "use the option trust_remote_code",
    "use_safetensors": "remove it, for other formats can hold code",
}
_STORED = {"prompt", "completions", "scores"}


@dataclass
class Recipe:
    """The options of a valid recipe, and the file, which errors name."""

    path: Path
    objective: str
    script: ScriptArguments
    training: TrainingArguments
    model: ModelConfig

    def fault(self, field: str, reason: str) -> ConfigError:
        """The error that a field is wrong for a reason."""
        return ConfigError(f"{self.path}: {field}: {reason}")


def run(path: Path, overrides: list[str]) -> None:
    """Train as a recipe says, and save the model to its `output_dir`."""
    recipe = read(path, overrides)
    trainer = build_trainer(recipe)
    trainer.train(resume_from_checkpoint=recipe.training.resume_from_checkpoint)
    trainer.save_whole_model(Path(recipe.training.output_dir))
    if recipe.training.push_to_hub:
        trainer.push_to_hub(dataset_name=recipe.script.dataset_name)


def read(path: Path, overrides: list[str]) -> Recipe:
    """Read and validate a recipe; `--key value` in `overrides` takes precedence.

    Raises:
        ConfigError: if a key or a value is wrong, or a local file is missing.
    """
    content = load_yaml(path)
    objective, overrides = _objective(path, content, overrides)
    parser = _Parser(objective)
    arguments = parser.read_file(path, content) + overrides
    parser.check("command line", arguments)
    try:
        options = parser.parse_args_into_dataclasses(arguments, look_for_args_file=False)
    except (TypeError, ValueError) as error:  # of the configs themselves, which name the field
        raise ConfigError(f"{path}: {_first_line(error)}") from None
    recipe = Recipe(path, objective, *options)
    _check_given(recipe, "model_name_or_path", recipe.model.model_name_or_path)
    _check_given(recipe, "dataset_name", recipe.script.dataset_name)
    return recipe


def build_trainer(recipe: Recipe):
    """Load the data, check them, and load the model into its objective's trainer."""
    model, training = recipe.model, recipe.training
    _check_model(recipe)
    options = {"reward_funcs": _reward_functions(recipe)} if recipe.objective == "grpo" else {}
    splits = _load_dataset(recipe)
    options["train_dataset"] = _split(recipe, splits, "dataset_train_split")
    if training.eval_strategy != "no":
        options["eval_dataset"] = _split(recipe, splits, "dataset_test_split")
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        "use_safetensors": True,
    } | (training.model_init_kwargs or {})
    trainer = getattr(humanline, f"Humanline{recipe.objective.upper()}Trainer")
    return trainer(
        model.model_name_or_path,
        args=training,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        **options,
    )


# Options.


def _objective(path: Path, content: dict, overrides: list[str]) -> tuple[str, list[str]]:
    """The objective, taken out of the file's keys, and the overrides without it."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--objective", default=content.pop("objective", None))
    known, overrides = parser.parse_known_args(overrides)
    if known.objective not in OBJECTIVES:
        given = f"{known.objective!r} is unknown" if known.objective else "missing"
        raise ConfigError(f"{path}: objective: {given}; use one of {', '.join(OBJECTIVES)}")
    return known.objective, overrides


class _Parser(TrlParser):
    """TRL's parser of an objective's options, with errors of one line."""

    def __init__(self, objective: str):
        scripts = dict.fromkeys(("dpo", "kto"), ScriptArguments) | {"grpo": GRPOScriptArguments}
        script = pick("objective", objective, scripts)
        config = getattr(humanline, f"Humanline{objective.upper()}Config")
        options = {"prog": "humanline recipe FILE.yaml", "allow_abbrev": False}
        super().__init__((script, config, ModelConfig), **options)
        self._objective = objective

    def read_file(self, path: Path, content: dict) -> list[str]:
        """A file's keys as on a command line, so that types and choices are checked alike.

        What a command line cannot say (null, booleans, mappings) become defaults, as TRL does it.
        """
        defaults = {k: v for k, v in content.items() if v is None or isinstance(v, bool | dict)}
        unknown = self.set_defaults_with_config(**defaults)
        arguments = []
        for key, value in content.items():
            if isinstance(value, list):
                arguments += [f"--{key}", *map(str, value)]
            elif key not in defaults:
                arguments.append(f"--{key}={value}")
        self.check(path, [*arguments, *unknown])
        return arguments

    def check(self, source: Path | str, arguments: list[str]) -> None:
        """Refuse arguments, given by `source`, that are unknown or of a wrong type."""
        self._source = source
        _, unknown = self.parse_known_args(arguments)
        if unknown:
            key = unknown[0].split("=")[0].lstrip("-")
            keys = [f.name for options in self.dataclass_types for f in fields(options)]
            remedy = "remove it or mend its spelling"
            if similar := get_close_matches(key, keys, n=1):
                remedy = f"did you mean {similar[0]}?"
            raise ConfigError(f"{source}: {key}: unknown key of {self._objective}; {remedy}")

    def error(self, message: str):
        names, _, reason = message.removeprefix("argument ").partition(": ")
        key = names.split("/")[0].lstrip("-")
        raise ConfigError(f"{self._source}: {key}: {reason}; change it")


def _check_given(recipe: Recipe, field: str, name: str | None) -> None:
    """Refuse a missing name, and a local path, which starts with / or ., that leads nowhere."""
    if not name:
        raise recipe.fault(field, "missing; add this key")
    is_local = name.startswith(("/", ".")) or Path(name).suffix in _BUILDERS
    if is_local and not Path(name).exists():
        raise recipe.fault(field, f"no such file or folder: {name!r}; mend the path")


def _check_model(recipe: Recipe) -> None:
    """Refuse a model that is not there, by its small configuration."""
    name, revision = recipe.model.model_name_or_path, recipe.model.model_revision
    for key, remedy in _KEPT.items():
        if key in (recipe.training.model_init_kwargs or {}):
            raise recipe.fault("model_init_kwargs", f"has {key}; {remedy}")
    trust = recipe.training.trust_remote_code
    if trust and (name, revision) not in REMOTE_CODE:
        reason = f"true, but {name} at model_revision {revision} is not in REMOTE_CODE of"
        raise recipe.fault(
            "trust_remote_code", f"{reason} humanline/config.py; read its code and add it there"
        )
    try:
        AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise recipe.fault("model_name_or_path", _not_loaded(name, error)) from None


def _not_loaded(name: str, error: Exception) -> str:
    return f"{name} cannot be loaded ({_first_line(error)}); check its name and the network"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


# Data.


def _load_dataset(recipe: Recipe):
    """All splits of the dataset: on the hub, in a local folder, or in a file of one split."""
    script = recipe.script
    name, options = script.dataset_name, {"streaming": script.dataset_streaming}
    builder = _BUILDERS.get(Path(name).suffix)
    try:
        if builder:
            files = {script.dataset_train_split: name}
            return load_dataset(builder, data_files=files, **options)
        return load_dataset(name, name=script.dataset_config, **options)
    except Exception as error:  # the hub, its client and file formats raise many kinds
        raise recipe.fault("dataset_name", _not_loaded(name, error)) from None


def _split(recipe: Recipe, splits, field: str):
    """A split, with the columns that the objective needs."""
    name = getattr(recipe.script, field)
    if name not in splits:
        reason = (
            f"no split {name!r} in {recipe.script.dataset_name}; use one of {', '.join(splits)}"
        )
        raise recipe.fault(field, reason)
    dataset = _without_feedback(recipe, splits[name], name)
    _check_columns(recipe, dataset)
    views = {"dpo": _preferences, "kto": _preferences, "grpo": lambda _, groups: groups}
    return pick("objective", recipe.objective, views)(recipe, dataset)


def _without_feedback(recipe: Recipe, dataset, split: str):
    """TRL's rows of a HALOs feedback file: groups for GRPO, else pairs or labelled completions."""
    if not feedback.is_feedback(next(iter(dataset))):
        return dataset
    views = dict.fromkeys(("dpo", "kto"), feedback.preferences) | {"grpo": feedback.groups}
    view = pick("objective", recipe.objective, views)
    place = f"dataset {recipe.script.dataset_name}: split {split}"
    return Dataset.from_list(view(feedback.of_split(dataset, split), place))


def _check_columns(recipe: Recipe, dataset) -> None:
    """Refuse a dataset that lacks columns; of two choices, name what the nearer one lacks."""
    script, columns = recipe.script, set(next(iter(dataset)))
    remedy = "rename its columns or choose another dataset"
    match recipe.objective:
        case "dpo":
            choices = [_PAIRED]
        case "kto":
            choices = [_PAIRED, {"prompt", "completion", "label"}]
        case "grpo" if script.reward_funcs or script.reward_model_name_or_path:
            choices = [{"prompt"}]
        case "grpo":
            choices, remedy = [_STORED], f"{remedy}, or sample online by adding reward_funcs"
    lacking = min((choice - columns for choice in choices), key=len)
    if lacking:
        lacks = f"{script.dataset_name} lacks {', '.join(sorted(lacking))}"
        has = f"has {', '.join(sorted(columns))}"
        reason = f"{lacks}, which {recipe.objective} needs, and {has}; {remedy}"
        raise recipe.fault("dataset_name", reason)


def _preferences(recipe: Recipe, dataset):
    """Preferences in the order that TRL will train on."""
    if recipe.objective == "kto":
        # TRL trains KTO in the order of the rows, and unpairs all chosen before all rejected.
        if set(columns_of(dataset)) >= _PAIRED:
            dataset = unpaired(dataset, f"{recipe.script.dataset_name} data")
        dataset = dataset.shuffle(seed=recipe.training.seed)
    return dataset


# Rewards.


def _reward_functions(recipe: Recipe) -> list | None:
    """The rewards of online GRPO: a model's name, and functions by dotted path or TRL's name."""
    script = recipe.script
    model = [script.reward_model_name_or_path] if script.reward_model_name_or_path else []
    return model + [_import(recipe, name) for name in script.reward_funcs or ()] or None


def _import(recipe: Recipe, name: str):
    module, _, function = name.rpartition(".")
    sys.path.insert(0, os.getcwd())  # as TRL: functions of one's own stand beside the recipe
    try:
        return getattr(import_module(module or "trl.rewards"), function)
    except (ImportError, AttributeError) as error:
        reason = (
            f"{name!r} cannot be imported ({_first_line(error)}); give a function's dotted path"
        )
        raise recipe.fault("reward_funcs", reason) from None
    finally:
        sys.path.pop(0)
