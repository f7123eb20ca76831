"""Reading and validating the user's files: an error is one clear line about the first fault.

A `ConfigError` names the file, the field and the remedy.
"""

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from humanline.files.yaml_text.loader import MOST_VALUES, parse

TRACEBACK = "HUMANLINE_TRACEBACK"  # environment variable; 1: errors come with tracebacks


# Bounds of a YAML file, far beyond what a person writes. They stop bombs before memory ends.
MOST_BYTES = 1 << 20
DEEPEST = 50  # levels of lists and mappings
LARGEST = 2**53  # of an integer
_LONGEST = 600  # characters of an error's line; its end has the remedy
_MOST_CHOICES = 20  # that an error lists


class ConfigError(ValueError):
    """The user's input is wrong. The message is one line: file, field and remedy.

    What is quoted from a file may hold line breaks and control characters; they become escapes.
    """

    def __init__(self, message: object = ""):
        super().__init__(_one_line(str(message)))


# What helps against an error of the system, by its number.
_REMEDIES = {
    errno.ENOSPC: "free some space, or use another disk",
    errno.EDQUOT: "free some space, or use another disk",
    errno.EACCES: "make it readable and writable, or name another",
    errno.EPERM: "make it readable and writable, or name another",
    errno.EROFS: "name a place that is not read-only",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENXIO: "name a file, or start what reads this pipe",
}


def of_system(error: OSError) -> ConfigError:
    """Describe an error of the system, such as a full disk, in one line."""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if name]
    remedy = _REMEDIES.get(error.errno or 0, "mend the path, or name another")
    reason = error.strerror or first_line(error)
    return ConfigError(f"{names[0] if names else 'a file or folder'}: {reason}; {remedy}")


def _one_line(text: str) -> str:
    """Join lines, escape what a terminal would obey, and cut the middle of what is too long."""
    text = re.sub(r"\s*[\r\n]\s*", " ", text.strip())
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} [...] {text[-_LONGEST // 2 :]}"
    return text


Choice = TypeVar("Choice")
Model = TypeVar("Model", bound=BaseModel)


def pick(kind: str, name: str | None, choices: Mapping[str, Choice]) -> Choice:
    """Look up a name, or refuse it: code that branches on a name does it here.

    Args:
        kind: the word before the name in an error, such as ``task``.
        name: the name; None is unknown.
        choices: the values by name.

    Raises:
        ConfigError: if the name is unknown; the message lists the known names, or the nearest of
            many.
    """
    if name is None or name not in choices:
        raise ConfigError(f"{kind}: {name!r} is unknown here; use {known_names(name, choices)}")
    return choices[name]


def known_names(name: str | None, choices: Mapping[str, Any]) -> str:
    """List the names that a wrong one may stand for: ``one of a, b``, or the nearest of many."""
    names = list(choices)
    if len(names) <= _MOST_CHOICES:
        return f"one of {', '.join(names)}"
    # Long names would take a long time to compare, and none is near.
    near = get_close_matches(str(name), names, n=5, cutoff=0.5) if len(str(name)) < 300 else []
    return f"one of {', '.join(near or names[:5])}, ... ({len(names)} in all)"


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
    """A frozen model that refuses unknown keys and numbers that are not finite.

    It takes each value for what it is: no number as text, and no true or 1 for each other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class Record(BaseModel):
    """A model of the fields that are read; others are ignored. Numbers are finite and not text."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def load_yaml(path: Path) -> dict:
    """Read a YAML mapping, or raise a `ConfigError` that names the file and the line.

    It may be a regular file of at most `MOST_BYTES`, with values within the bounds of this module.
    """
    try:
        content = parse(_read_text(path))
    except (OSError, UnicodeError) as error:
        told = f"{path}: cannot be read ({cause_of(error)}); check that the file exists"
        beside = sorted(other.name for other in path.parent.glob("*.yaml"))[:_MOST_CHOICES]
        there = f"; beside it are {', '.join(beside)}" if beside and not path.exists() else ""
        raise ConfigError(f"{told}{there}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of a date, of a long integer
        raise ConfigError(f"{path}: not valid YAML ({error}); mend that line") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a mapping of keys to values; see the files beside it")
    with at(path):
        for field, value, depth in _values(content):
            if reason := _value_fault(value, depth):
                raise ConfigError(f"{field}: {reason}")
    return content


def _read_text(path: Path) -> str:
    # Without waiting for a writer, if it is a pipe.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is no regular file")
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(f"it has more than {MOST_BYTES >> 20} MiB")
    return content.decode("utf-8-sig")


def _values(content: dict) -> Iterator[tuple[str, Any, int]]:
    """Yield every key and value with its field and its depth, and those of aliases again."""
    stack: list[tuple[str, Any, int]] = [("(file)", content, 0)]
    number = 0
    while stack and number <= MOST_VALUES:
        field, value, depth = stack.pop()
        number += 1
        yield field, value, depth
        inner: Any = ()
        if isinstance(value, dict):
            inner = value.items()
            yield from ((f"{field} (key)", key, depth) for key in value)
        elif isinstance(value, list):
            inner = enumerate(value)
        if depth <= DEEPEST:
            start = "" if field == "(file)" else f"{field}."
            stack += [(f"{start}{key}"[:200], own, depth + 1) for key, own in inner]
    if stack:
        reason = f"more than {MOST_VALUES} values, with those of aliases; write fewer"
        raise ConfigError(f"{stack[-1][0]}: {reason}")


def _value_fault(value: Any, depth: int) -> str | None:
    """Find out whether no setting can have a value: reason and remedy."""
    if depth > DEEPEST:
        return f"deeper than {DEEPEST} lists and mappings, or within itself; write it flat"
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"an integer of {value.bit_length()} bits; no setting is so large, so change it"
    if isinstance(value, str) and not value.isprintable():
        wrong = (c for c in value if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs"))
        if character := next(wrong, None):
            return f"holds the character {character!r}, which is no text; remove it"
    return None


@contextmanager
def at(place: Path | str) -> Iterator[None]:
    """Within this context, errors begin with a place, such as the file that a field is in."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or of its cause, if `datasets` hides the cause.

    An error without a message gives the name of its class.
    """
    text = str(error).strip() or type(error).__name__
    if "generating the dataset" in text and error.__cause__:
        return first_line(error.__cause__)
    return text.splitlines()[0]


def cause_of(error: Exception) -> str:
    """Return why a file cannot be read, without its path and number: the line names the path."""
    return getattr(error, "strerror", None) or first_line(error)


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
            if reason := _mistaken(detail["type"], detail.get("input")):
                return f"{field}: {reason}{more}"
            given = " ".join(str(detail.get("input")).split())
            given = given if len(given) < 60 else given[:57] + "..."
            remedy = _remedy(detail["type"], detail.get("input"))
            return f"{field}: {detail['msg']}, but the file says {given!r}; {remedy}{more}"


def _mistaken(kind: str, given: Any) -> str | None:
    """Say which of truth values and numbers a field takes, where it has the other."""
    if kind in ("int_type", "float_type") and isinstance(given, bool):
        return f"{given} is no number; write one"
    if kind == "bool_type" and isinstance(given, int | float | str):
        return f"{given!r:.60} is no truth value; write true or false without quotes"
    return None


def _remedy(kind: str, given: Any) -> str:
    """Say what to do about a value of another type; people often have quotes wrong."""
    if kind == "string_type" and isinstance(given, bool | int | float | date):
        return "change it; a text that looks like a number needs quotes"
    if kind in ("int_type", "float_type") and isinstance(given, str):
        return "change it; it is text, and numbers are decimal and without quotes"
    return "change it"
