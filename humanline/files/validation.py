"""Reading and validating the user's files: an error is one clear line about the first fault.

A `ConfigError` names the file, the field and the remedy.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

TRACEBACK = "HUMANLINE_TRACEBACK"  # environment variable; 1: errors come with tracebacks


class ConfigError(ValueError):
    """The user's input is wrong. The message is one line: file, field and remedy.

    What is quoted from a file may hold line breaks and control characters; they become escapes.
    """

    def __init__(self, message: object = ""):
        text = " ".join(str(message).splitlines())
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


Choice = TypeVar("Choice")
Model = TypeVar("Model", bound=BaseModel)


def pick(kind: str, name: str | None, choices: Mapping[str, Choice]) -> Choice:
    """Look up a name, or refuse it: code that branches on a name does it here.

    Args:
        kind: the word before the name in an error, such as ``task``.
        name: the name; None is unknown.
        choices: the values by name.

    Raises:
        ConfigError: if the name is unknown; the message lists the known names.
    """
    if name is None or name not in choices:
        raise ConfigError(f"{kind}: {name!r} is unknown here; use one of {', '.join(choices)}")
    return choices[name]


def fault(field: str, reason: str) -> PydanticCustomError:
    """Make the error that a validator raises.

    Args:
        field: the faulty field, relative to the validator's model.
        reason: reason and remedy.
    """
    return PydanticCustomError("fault", "{reason}", {"field": field, "reason": reason})


def require_as_many(field: str, values: list, others: list, kind: str) -> None:
    """Refuse a field if the number of its values differs from that of another list.

    Args:
        field: the field's name.
        values: its values.
        others: the other list, for example the completions.
        kind: the word for the other list in the error.

    Raises:
        PydanticCustomError: the numbers and the remedy; for use in a validator.
    """
    if len(values) != len(others):
        raise fault(field, f"{len(values)} of {len(others)} {kind}; mend the row")


class Strict(BaseModel):
    """A frozen model that refuses unknown keys and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Record(BaseModel):
    """A model of the fields that are read; others are ignored. Numbers are finite and not text."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Unique:
    """Refuse a key that is given twice, a mixin of loaders: PyYAML silently takes the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            # A key that is a list is refused in `super`.
            name = key.value if isinstance(key.value, str) else id(key)
            if name in seen:
                problem = f"the key {key.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)  # type: ignore[misc]  # the loader's


class _Loader(_Unique, yaml.SafeLoader):
    """PyYAML's loader in Python; it says exactly where a fault is."""


# Every job reads the whole configuration. PyYAML's loader in C is eight times as fast.
class _FastLoader(_Unique, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's loader in C, where it is installed."""


def load_yaml(path: Path) -> dict:
    """Read a YAML mapping, or raise a `ConfigError` that names the file and the line."""
    try:
        content = _parsed(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); check that the file exists") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of a date, of a long integer
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not valid YAML ({reason}); mend that line") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a mapping of keys to values; see the files beside it")
    return content


def _parsed(text: str):
    try:
        return yaml.load(text, _FastLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return yaml.load(text, _Loader)  # for its error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or of its cause, if `datasets` hides the cause.

    An error without a message gives the name of its class.
    """
    text = str(error).strip() or type(error).__name__
    if "generating the dataset" in text and error.__cause__:
        return first_line(error.__cause__)
    return text.splitlines()[0]


def validate(model: type[Model], content: dict, place: Path | str) -> Model:
    """Validate content.

    Args:
        model: the pydantic model.
        content: the mapping to validate.
        place: the beginning of an error's line: a file, or a file and a row.

    Raises:
        ConfigError: one line about the first fault: place, field, reason and remedy.
    """
    try:
        found = model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{place}: {first_fault(error, content)}") from None
    if isinstance(found, Strict) and (reason := _truth_fault(content, found)):
        raise ConfigError(f"{place}: {reason}")
    return found


def _truth_fault(given: object, found: object, *path: str) -> str | None:
    """Find a truth value that became a number, or something else that became a truth value.

    Pydantic refuses these only together with numbers in texts, such as "1e-5" in YAML.
    """
    if isinstance(given, dict):
        inside = dict(found) if isinstance(found, BaseModel | dict) else {}
        pairs = [(name, given[name], value) for name, value in inside.items() if name in given]
    elif isinstance(given, list) and isinstance(found, list | tuple):
        pairs = [(place, *pair) for place, pair in enumerate(zip(given, found, strict=False))]
    elif isinstance(given, bool) == isinstance(found, bool):
        return None
    else:
        kind = (
            "truth value; write true or false" if isinstance(found, bool) else "number; change it"
        )
        return f"{'.'.join(path)}: {given!r} is no {kind}"
    faults = (_truth_fault(own, value, *path, str(name)) for name, own, value in pairs)
    return next(filter(None, faults), None)


def first_fault(error: ValidationError, content: dict) -> str:
    """Describe the first fault of a mapping in one line: field, reason and remedy.

    Args:
        error: pydantic's error.
        content: the mapping that was validated.
    """
    return _first_fault([(_field(detail, content), detail) for detail in error.errors()])


def _field(detail: ErrorDetails, content) -> tuple[str, ...]:
    """Return the path of a fault as in the file, without pydantic's names of union branches."""
    field = []
    *parents, last = detail["loc"] or ("(file)",)
    for part in parents:
        if isinstance(content, dict) and content.get("kind") == part:
            continue  # the branch, though a field may have the same name
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            continue
        field.append(str(part))
    inside = isinstance(content, dict) and last in content
    inside |= isinstance(content, list) and isinstance(last, int)
    if inside or detail["type"] in ("missing", "extra_forbidden") or not detail["loc"]:
        field.append(str(last))
    return tuple(field)


def _first_fault(faults: list[tuple[tuple[str, ...], ErrorDetails]]) -> str:
    """Describe the first fault in one line; a wrong key comes before faults of its value.

    If no branch of a union fits, the fault with the longest path is described.
    """
    first = faults[0][0]
    others = len({field for field, _ in faults if field[: len(first)] != first})
    more = f" (and {others} more)" if others else ""
    inner = [fault for fault in faults if fault[0][: len(first)] == first]
    path, detail = max(inner, key=lambda fault: ("[key]" in fault[1]["loc"], len(fault[0])))
    field = ".".join(path)
    context = detail.get("ctx", {})
    match detail["type"]:
        case "fault":
            parents = [] if path == ("(file)",) else [field]
            field = ".".join(parents + [context["field"]] * bool(context["field"]))
            return f"{field}: {context['reason']}{more}"
        case "extra_forbidden":
            return f"{field}: unknown key; remove it or mend its spelling{more}"
        case "missing":
            return f"{field}: missing; add this key{more}"
        case "union_tag_not_found":
            return f"{field}.kind: missing; add this key{more}"
        case "union_tag_invalid":
            tags = f"use one of {context['expected_tags']}"
            return f"{field}.kind: {context['tag']!r} is unknown; {tags}{more}"
        case _:
            given = " ".join(str(detail.get("input")).split())
            given = given if len(given) < 60 else given[:57] + "..."
            return f"{field}: {detail['msg']}, but the file says {given!r}; change it{more}"
