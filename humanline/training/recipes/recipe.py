"""Recipes: one YAML file trains any model with a humanline trainer.

A recipe has the key `objective` and any of TRL's script arguments, TRL's model options and the
options of the objective's humanline config. A fault is a one-line error, before a model is loaded.
"""

from argparse import ArgumentError, ArgumentParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

from trl import get_peft_config, get_quantization_config

from humanline.files import user_code
from humanline.files.validation import ConfigError, load_yaml
from humanline.trainers.classes import load
from humanline.trainers.registry import OBJECTIVES, find_objective
from humanline.trainers.rows.formats import PAIRED
from humanline.trainers.rows.tokens import columns_of, unpaired
from humanline.training.recipes import checks
from humanline.training.recipes.data import load_split, load_splits, require_rendered
from humanline.training.recipes.effects import check_effects
from humanline.training.recipes.options import Parser, Recipe, library_error, sources
from humanline.training.recipes.outputs import delete_earlier, make_output, reached_step


def run(path: Path, overrides: list[str]) -> None:
    """Train as a recipe says, and save the model to its `output_dir`.

    Unless the recipe has `enable_jit_checkpoint: false` or saves nothing to resume from, SIGTERM
    ends training after the running step, with a checkpoint and exit status 143.

    Args:
        path: the recipe's YAML file.
        overrides: arguments ``--key value`` that take precedence.

    Raises:
        ConfigError: if the recipe, its data or its model is wrong, or nothing is left to train.
    """
    recipe = read(path, overrides)
    trainer = build_trainer(recipe)
    with _told_as_one_line(recipe):
        checkpoint = recipe.training.resume_from_checkpoint
        delete_earlier(recipe)
        trainer.train(resume_from_checkpoint=checkpoint)
        if trainer.state.global_step <= reached_step(checkpoint):
            reason = f"{checkpoint} is of the last step, and nothing is left to train"
            raise recipe.fault("resume_from_checkpoint", f"{reason}; raise num_train_epochs")
        trainer.save_whole_model(Path(recipe.training.output_dir))
        if recipe.training.push_to_hub:
            trainer.push_to_hub(dataset_name=recipe.script.dataset_name)


def read(path: Path, overrides: list[str]) -> Recipe:
    """Read and validate a recipe; `--key value` in `overrides` takes precedence.

    Raises:
        ConfigError: if a key or a value is wrong, or a local file or a package is missing.
    """
    content = load_yaml(path)
    objective, overrides = _objective(path, content, overrides)
    given = sources(content, overrides)
    content.setdefault("enable_jit_checkpoint", True)
    recipe = Recipe(path, objective, given, *Parser(objective).read(path, content, overrides))
    if recipe.training.save_strategy == "no" or recipe.training.save_only_model:
        recipe.training.enable_jit_checkpoint = False  # SIGTERM then ends it at once
    with _told_as_one_line(recipe):
        checks.check(recipe)
        check_effects(recipe)
    return recipe


def build_trainer(recipe: Recipe):
    """Load and check a recipe's data, and load the model into its objective's trainer.

    Raises:
        ConfigError: if the model or the data are wrong, or the trainer refuses the options.
    """
    with _told_as_one_line(recipe):
        return _build_trainer(recipe)


def _build_trainer(recipe: Recipe):
    model, training = recipe.model, recipe.training
    processor = checks.check_model(recipe)
    options: dict[str, Any] = {}
    if recipe.row.view.takes_groups:
        options["reward_funcs"] = _reward_functions(recipe)
    splits = load_splits(recipe)
    options["train_dataset"] = _dataset(recipe, splits, "dataset_train_split", processor)
    if training.eval_strategy != "no":
        options["eval_dataset"] = _dataset(recipe, splits, "dataset_test_split", processor)
    make_output(recipe)
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        "use_safetensors": True,
    } | recipe.model_options
    options["quantization_config"] = get_quantization_config(model)
    options["peft_config"] = get_peft_config(model)
    try:
        trainer = load(recipe.row.trainer)(recipe.model_name, args=training, **options)
    except ConfigError:
        # The trainer counts the rows that it got, which were shuffled and unpaired.
        require_rendered(recipe, splits, processor)
        raise
    checks.check_adapter(recipe, trainer.model)
    return trainer


@contextmanager
def _told_as_one_line(recipe: Recipe):
    """Turn errors that libraries raise for a recipe's options and files into one line."""
    try:
        yield
    except ConfigError as error:
        if "Original Traceback" in str(error):  # a dataloader's worker puts it first
            raise ConfigError(str(error).rpartition("ConfigError: ")[2].strip()) from error
        raise
    except Exception as error:
        raise library_error(recipe.path, error, recipe.values) from error


# Options.


def _objective(path: Path, content: dict, overrides: list[str]) -> tuple[str, list[str]]:
    """Take the objective out of the file's keys and the overrides; return it and the overrides."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--objective", default=content.pop("objective", None))
    try:
        known, overrides = parser.parse_known_args(overrides)
    except ArgumentError as error:
        raise ConfigError(f"command line: objective: {error.message}; change it") from None
    if not isinstance(known.objective, str):
        given = f"{known.objective!r} is unknown" if known.objective else "missing"
        raise ConfigError(f"{path}: objective: {given}; use one of {', '.join(OBJECTIVES)}")
    try:
        return find_objective(known.objective).name, overrides
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


# Data.


def _dataset(recipe: Recipe, splits: dict, field: str, processor):
    dataset = load_split(recipe, splits, field)
    checks.check_template(recipe, processor, next(iter(dataset)))
    if recipe.row.view.is_in_order:
        # TRL trains in the order of the rows. Its own unpairing puts all chosen rows first.
        if set(columns_of(dataset)) >= PAIRED:
            dataset = unpaired(dataset, f"{recipe.script.dataset_name} data")
        dataset = dataset.shuffle(seed=recipe.training.seed)
    return dataset


# Rewards.


def _reward_functions(recipe: Recipe) -> list | None:
    """Return online training's rewards: a model's name, and functions by path or TRL's name."""
    # The registry's script class for groups has these two fields.
    script = cast(_WithRewards, recipe.script)
    model: list = [script.reward_model_name_or_path] if script.reward_model_name_or_path else []
    return model + [_import(recipe, name) for name in script.reward_funcs or ()] or None


class _WithRewards(Protocol):
    """The script arguments of an objective that samples and scores completions."""

    reward_model_name_or_path: str | None
    reward_funcs: list[str] | None


def _import(recipe: Recipe, name: str):
    try:
        return user_code.function(name, home="trl.rewards")
    except ConfigError as error:
        raise recipe.fault("reward_funcs", str(error)) from error
