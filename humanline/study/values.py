"""Kinds of values that scale and experiments share: objectives, seeds, LoRA, functions.

Snakefiles import this module, so it is cheap.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, computed_field

from humanline.files import user_code
from humanline.files.validation import ConfigError, Strict, fault
from humanline.trainers.registry import OBJECTIVES, find_objective

Stage = Literal["data", "base_model", "offline", "train", "generate", "score", "table"]
PositiveInt = Annotated[int, Field(gt=0)]


def _distinct(values: list) -> list:
    if twice := [value for index, value in enumerate(values) if value in values[:index]]:
        raise fault("", f"{twice[0]} is listed twice; remove one")
    return values


SeedList = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1), AfterValidator(_distinct)
]
RateList = Annotated[
    list[Annotated[float, Field(gt=0)]], Field(min_length=1), AfterValidator(_distinct)
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

    r: int = Field(gt=0, description="rank of the adapters")
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
