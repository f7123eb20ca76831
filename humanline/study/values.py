"""Kinds of values that scale and experiments share: objectives, seeds, LoRA, functions.

Snakefiles import this module, so it is cheap.
"""

import datetime
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, computed_field

from humanline.files import user_code
from humanline.files.validation import ConfigError, Strict, fault
from humanline.trainers.registry import OBJECTIVES, find_objective

Stage = Literal["data", "base_model", "offline", "train", "generate", "score", "table"]
MOST = 10**9  # of any number of things or steps: more is a slip, and no machine can serve it
PositiveInt = Annotated[int, Field(gt=0, le=MOST)]
_MOST_SEEDS = 1000


def distinct(values: Sequence) -> Sequence:
    """Refuse a list with the same value twice; a validator of lists of plain values."""
    if len(set(values)) < len(values):
        twice = next(value for index, value in enumerate(values) if value in values[:index])
        raise fault("", f"{twice} is listed twice; remove one")
    return values


SeedList = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**32)]],
    Field(min_length=1, max_length=_MOST_SEEDS),
    AfterValidator(distinct),
]
RateList = Annotated[
    list[Annotated[float, Field(gt=0)]],
    Field(min_length=1, max_length=100),
    AfterValidator(distinct),
]

# A name that is also that of a file, a folder or a rule. Other letters may look like these.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)]


def _is_shown(text: str) -> str:
    if text.strip() != text or not text or not text.isprintable():
        raise fault("", f"{text!r} has blanks at an end, or nothing to show; write a plain name")
    return text


# A name that people read, in a table or a figure.
Label = Annotated[str, Field(max_length=200), AfterValidator(_is_shown)]


def _is_said(text: str) -> str:
    if not text.strip():
        raise fault("", "says nothing; write it")
    return text


# A sentence that must be there.
Said = Annotated[str, Field(min_length=1), AfterValidator(_is_said)]


def _day(given: object) -> object:
    """Read a day as YAML gives it, or as text; numbers are none, though pydantic takes them."""
    if isinstance(given, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", given, re.ASCII):
        with suppress(ValueError):
            return datetime.date.fromisoformat(given)
    if isinstance(given, datetime.date) and not isinstance(given, datetime.datetime):
        return given
    raise fault("", f"{str(given)[:40]!r} is no day; write it as 2026-11-26")


Day = Annotated[
    datetime.date,
    BeforeValidator(_day),
    WithJsonSchema({"type": "string", "format": "date"}),
]


def _known(name: str) -> str:
    """Check an objective's name; it is also a part of file names."""
    if name not in OBJECTIVES and not (re.fullmatch(_OWN, name) and user_code.is_module(name)):
        *others, last = map(repr, OBJECTIVES)
        reason = f"use {', '.join(others)} or {last}, or the dotted path of a module with OBJECTIVE"
        raise fault("", f"{reason}, but the file says {name!r}; change it")
    try:
        objective = find_objective(name)
        if name not in OBJECTIVES:
            objective.require_code()
    except ConfigError as error:
        raise fault("", f"{name}: {error}".removeprefix(f"{name}: objective: ")) from None
    return name


# The dotted path of a user's own module, except "base": that is the name of an untrained model.
_OWN = r"^(?!base$)[a-z]\w*(\.\w+)*$"
_NAMES = {"anyOf": [{"enum": list(OBJECTIVES)}, {"type": "string", "pattern": _OWN}]}
Objective = Annotated[str, AfterValidator(_known), WithJsonSchema(_NAMES)]


class Lora(Strict):
    """Training with LoRA: adapters of the model's linear layers train, its own weights do not."""

    r: PositiveInt = Field(description="rank of the adapters")
    alpha: float | None = Field(
        None, gt=0, description="what adapters add is multiplied by alpha / r; null: twice r"
    )
    reference: Literal["cached", "adapter"] | None = Field(
        None,
        description="how humanline's reference is kept, which changes memory and time but no loss. "
        "cached: the policy scores the batches until the next sync; adapter: a second adapter; "
        "null: cached, or adapter for soft syncs",
    )

    @property
    def scaling(self) -> float:
        """The value of alpha, also where it is left out."""
        return self.alpha or 2 * self.r


def _is_function(path: str) -> str:
    try:
        user_code.require(path)
    except ValueError as error:
        raise fault("", str(error)) from None
    return path


class OwnFunction(Strict):
    """The user's own function, from the working directory or installed."""

    kind: Literal["function"] = Field(description="a function of your own, see docs/extending.md")
    path: Annotated[str, AfterValidator(_is_function)] = Field(
        description="its dotted path, module.function"
    )

    @computed_field  # pydantic makes it a property
    def code(self) -> str:
        """The hash of the module's code; it makes an edit of the code count as another option."""
        return user_code.source_hash(self.path.rpartition(".")[0])
