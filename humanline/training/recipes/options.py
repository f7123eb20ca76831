"""Parse the keys of a recipe as TRL does, and check their types; errors have one line."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from trl import ModelConfig, ScriptArguments, TrlParser

from humanline.files.validation import TRACEBACK, ConfigError, first_line
from humanline.trainers.classes import load
from humanline.trainers.options.humanline import HumanlineOptions
from humanline.trainers.registry import Objective, find_objective

# Options whose value is a mapping or the name of a file.
_OR_A_FILE = {"deepspeed", "fsdp_config", "accelerator_config"}
FILE, COMMAND_LINE = "file", "command line"  # sources of an option


@dataclass
class OutputOptions:
    """The options of a recipe that TRL does not have."""

    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "Train into an output_dir that holds an earlier training, and lose it."},
    )


@dataclass
class Recipe:
    """The options of a valid recipe.

    Attributes:
        path: the recipe's file, which errors name.
        objective: the objective's name.
        given: the source of each option that was given: `FILE` or `COMMAND_LINE`.
        script, training, model: TRL's script arguments, the objective's config, TRL's model config.
        output: the options that TRL does not have.
    """

    path: Path
    objective: str
    given: dict[str, str]
    script: ScriptArguments
    training: HumanlineOptions
    model: ModelConfig
    output: OutputOptions

    @property
    def row(self) -> Objective:
        """The objective's entry in the registry."""
        return find_objective(self.objective)

    @property
    def model_name(self) -> str:
        """The model's name on the hub, or its folder."""
        if not self.model.model_name_or_path:
            raise self.fault("model_name_or_path", "missing; add this key")
        return self.model.model_name_or_path

    @property
    def model_options(self) -> dict[str, Any]:
        """The recipe's `model_init_kwargs`, which go to `from_pretrained`; TRL has parsed them."""
        given = self.training.model_init_kwargs
        return given if isinstance(given, dict) else {}

    @property
    def values(self) -> dict[str, Any]:
        """The values of the options that were given."""
        parts = (self.script, self.training, self.model, self.output)
        known = {name: value for part in parts for name, value in vars(part).items()}
        return {name: known[name] for name in self.given if name in known}

    def fault(self, field: str, reason: str) -> ConfigError:
        """Make the one-line error of a field: the recipe's file, the field and the reason."""
        return ConfigError(f"{self.path}: {field}: {reason}")


def sources(content: dict, overrides: list[str]) -> dict[str, str]:
    """Say for each option whether the file or the command line gives it; the latter comes first.

    Args:
        content: the file's keys and values.
        overrides: arguments of the command line.
    """
    flags = [text.split("=")[0][2:].replace("-", "_") for text in overrides if text[:2] == "--"]
    flags += [flag.removeprefix("no_") for flag in flags]  # --no_humanline
    return dict.fromkeys(content, FILE) | dict.fromkeys(flags, COMMAND_LINE)


def library_error(path: Path, error: BaseException, given: Mapping[str, Any]) -> ConfigError:
    """Make a one-line error of one that a library raised for a recipe's options.

    Args:
        path: the recipe's file.
        error: the library's error.
        given: the values of the options that were given, one of which may be to blame.
    """
    reason = first_line(error)
    if not isinstance(error, TypeError | ValueError | ImportError | OSError):
        reason = f"{type(error).__name__}: {reason}"
    return ConfigError(f"{path}: {_with_field(reason, given)} ({TRACEBACK}=1 shows where)")


def _with_field(reason: str, given: Mapping[str, Any]) -> str:
    """Put before a library's message the option that it is about, if one can be told."""
    if any(re.search(rf"\b{name}\b", reason) for name in given):
        return reason
    plain = re.sub(r"[\W_]", "", reason).lower()
    for name, value in given.items():
        ends = [name.split("_", n)[-1] for n in range(name.count("_") + 1)]
        words = [end for end in ends if "_" in end or re.search(r"\d", end)]
        words += [*value, *value.values()] if isinstance(value, dict) else []
        words += value if isinstance(value, list) else [value]
        texts = (re.sub(r"[\W_]", "", word).lower() for word in words if isinstance(word, str))
        if any(len(text) > 3 and text in plain for text in texts):
            return f"{name}: {reason}"
    return reason


class Parser(TrlParser):
    """TRL's parser of an objective's options, with one-line errors.

    Args:
        objective: the objective's name; it decides which options are known.
    """

    def __init__(self, objective: str):
        row = find_objective(objective)
        kinds: list[Any] = [load(row.view.script), load(row.config), ModelConfig, OutputOptions]
        super().__init__(kinds, prog="humanline recipe FILE.yaml", allow_abbrev=False)
        self._objective = objective

    def read(self, path: Path, content: dict, overrides: list[str]) -> tuple:
        """Parse a file's options and a command line's, which takes precedence.

        Args:
            path: the recipe's file, for errors.
            content: its keys and values.
            overrides: arguments of the command line.

        Returns:
            TRL's script arguments, the objective's config, TRL's model config and `OutputOptions`.

        Raises:
            ConfigError: if a key is unknown or a value is wrong.
        """
        arguments = self._read_file(path, content) + overrides
        self.check("command line", arguments)
        try:
            options = self.parse_args_into_dataclasses(arguments, look_for_args_file=False)
        except (TypeError, ValueError) as error:  # the configs raise these, and name the field
            raise ConfigError(f"{path}: {_with_field(first_line(error), content)}") from error
        except Exception as error:
            raise library_error(path, error, content) from error
        self._check_mappings(path, options)
        return options

    def _read_file(self, path: Path, content: dict) -> list[str]:
        """Write a file's keys as arguments, so that types and choices are checked the same way.

        Values that arguments cannot express (null, booleans, mappings) become defaults, as in TRL.
        """
        defaults: dict[str, Any]
        defaults = {k: v for k, v in content.items() if v is None or isinstance(v, bool | dict)}
        if self._resumes(defaults):  # its declared type forbids a boolean, which is valid
            defaults.pop("resume_from_checkpoint")
        lists = {key: value for key, value in content.items() if isinstance(value, list)}
        for key, value in (defaults | lists).items():
            self._check_type(path, key, value)
        for key, value in content.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{path}: {key}: {value} is not finite; change it")
        # Arguments can express neither an empty list nor one of an option that may be a text.
        for key in [key for key, value in lists.items() if not (value and self._takes_many(key))]:
            defaults[key] = lists.pop(key)
        unknown = self.set_defaults_with_config(**defaults)
        arguments = []
        for key, value in content.items():
            if key in lists:
                arguments += [f"--{key}", *map(str, value)]
            elif key not in defaults:
                arguments.append(f"--{key}={value}")
        self.check(path, [*arguments, *unknown])
        return arguments

    def _takes_many(self, key: str) -> bool:
        action = self._option_string_actions.get(f"--{key}")
        return action is None or action.nargs is not None

    @staticmethod
    def _resumes(defaults: dict) -> bool:
        return isinstance(defaults.get("resume_from_checkpoint"), bool)

    def _check_type(self, source: Path, key: str, value) -> None:
        """Check the type of a value that arguments cannot express: null, boolean, mapping or list.

        Raises:
            ConfigError: naming the key.
        """
        adapter = _adapters(tuple(self.dataclass_types)).get(key)
        try:
            if adapter:
                adapter.validate_python(value, strict=not isinstance(value, list))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            remedy = "change it"
            if isinstance(value, bool):
                remedy = "write it in quotes if the word is meant: YAML takes it as true or false"
            raise ConfigError(
                f"{source}: {key}: {reason}, but the file says {value!r}; {remedy}"
            ) from None

    def _check_mappings(self, source: Path, options: tuple) -> None:
        """Refuse a text where a mapping is needed and TRL could not parse one."""
        for config in options:
            hints = _hints(config.__class__)
            for name in (each.name for each in fields(config)):
                value = getattr(config, name)
                takes_mapping = "dict" in str(hints[name])
                if takes_mapping and isinstance(value, str) and name not in _OR_A_FILE:
                    raise ConfigError(
                        f"{source}: {name}: {value!r}; write a mapping of keys to values"
                    )

    def check(self, source: Path | str, arguments: list[str]) -> None:
        """Refuse arguments that are unknown or of a wrong type.

        Args:
            source: the file or command line that gave them, for errors.
            arguments: such as ``--key=value``.

        Raises:
            ConfigError: naming the source and the key.
        """
        self._source = source
        known, unknown = self.parse_known_args(arguments)
        for key, value in vars(known).items():
            self._check_json(source, key, value)
        if unknown:
            key = unknown[0].split("=")[0].lstrip("-")
            keys = [f.name for options in self.dataclass_types for f in fields(options)]
            remedy = "remove it or mend its spelling"
            if similar := get_close_matches(key, keys, n=1):
                remedy = f"did you mean {similar[0]}?"
            raise ConfigError(f"{source}: {key}: unknown key of {self._objective}; {remedy}")

    @staticmethod
    def _check_json(source: Path | str, key: str, value) -> None:
        """Refuse a mapping in JSON that cannot be parsed: TRL would not name its option."""
        if isinstance(value, str) and value.startswith("{"):
            try:
                json.loads(value)
            except json.JSONDecodeError as error:
                raise ConfigError(f"{source}: {key}: no JSON ({error.msg}); mend it") from None

    def error(self, message: str):
        names, _, reason = message.removeprefix("argument ").partition(": ")
        key = names.split("/")[0].lstrip("-")
        raise ConfigError(f"{self._source}: {key}: {reason}; change it")


@cache
def _hints(options: type) -> dict:
    return get_type_hints(options)


@cache
def _adapters(options: tuple[type, ...]) -> dict[str, TypeAdapter]:
    """Make, for each option, what checks whether a value has its type."""
    config = ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True)
    return {
        field.name: TypeAdapter(hints[field.name], config=config)
        for kind, hints in zip(options, map(_hints, options), strict=True)
        for field in fields(kind)
        if field.init
    }
