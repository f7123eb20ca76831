"""Cells: the unit of every experiment, one training run or one base model.

A run's name contains every option of its cell, so two tables with the same cell share its run.
Snakefiles import this module, so it is cheap.
"""

from functools import cache
from typing import Literal

from pydantic import Field

from humanline.files.validation import Strict
from humanline.study.tasks import TaskName
from humanline.study.values import Lora, Objective

Data = Literal["offline", "online"]
Perception = Literal["clip", "sample", "authors", "second_moment"]
Selection = Literal["spread", "score"]
# Perceptions that take no bounds from log_eps_p and log_eps_r.
WITHOUT_BOUNDS = ("authors", "second_moment")


class Cell(Strict):
    """One training run, or for objective ``base`` the model that training starts from."""

    task: TaskName = Field(description="what it is trained for")
    base_model: str | None = Field(None, description="a name in base_models; null: the task's own")
    objective: Objective | Literal["base"] = Field(description="the loss; base: not trained")
    data: Data | None = Field(None, description="sampled from the base model, or from the policy")
    data_from: str | None = Field(None, description="base model that offline data come from")
    quartile: int | None = Field(
        None, ge=1, le=4, description="quartile of offline data by likelihood; see `Row`"
    )
    select: Selection | None = Field(
        None, description="the best quarter of the offline prompts; see `Row`"
    )
    groups: int | None = Field(None, ge=1, description="number of prompts of offline data")
    sample_every: int | None = Field(None, ge=1, description="optimizer steps per sampling")
    last_sampling: int | None = Field(
        None, ge=1, description="optimizer step of the last sampling; null: to the end"
    )
    humanline: bool = Field(False, description="clip and sync as humanline does")
    trust_region: bool = Field(False, description="no clipping, and sync after the update")
    perception: Perception | None = Field(None, description="how bounds are applied")
    sync_interval: int | None = Field(
        None, ge=1, description="k: optimizer steps per sync; null: never"
    )
    sync_alpha: float | None = Field(
        None, gt=0, le=1, description="share of the policy in a soft sync; null: a copy"
    )
    log_eps_p: float | None = Field(None, le=0, description="lower bound of the log-ratio, nats")
    log_eps_r: float | None = Field(None, ge=0, description="upper bound of the log-ratio, nats")
    lora: Lora | None = Field(None, description="adapters that train; null: the whole model does")
    overrides: dict[str, float] = Field({}, description="training options in place of the scale's")
    seed: int = Field(description="seed of the data's order and of sampling")

    @property
    def variant(self) -> str:
        """The readable name without the seed, such as OBJECTIVE-offline-humanline-k4."""
        if self.objective == "base":
            return "-".join(filter(None, ("base", self.base_model)))
        parts = [self.base_model, self.objective, self.data]
        if self.data == "online":
            parts.append(f"every{self.sample_every}")
        if self.last_sampling:
            parts.append(f"until{self.last_sampling}")
        if self.data_from:
            parts.append(f"from-{self.data_from}")
        if self.quartile:
            parts.append(f"quartile{self.quartile}")
        if self.select:
            parts.append(f"best-{self.select}")
        if self.groups:
            parts.append(f"groups{self.groups}")
        if self.humanline or self.trust_region:
            parts.append("humanline" if self.humanline else "trust-region")
            parts.append(f"k{self.sync_interval}" if self.sync_interval else "never-synced")
        if self.sync_alpha:
            parts.append(f"alpha{_short(self.sync_alpha)}")
        if self.humanline:
            if self.perception not in WITHOUT_BOUNDS:
                parts.append(self._bounds())
            parts.append((self.perception or "").replace("_", "-"))
        if self.lora:
            parts += [_lora(self.lora), self.lora.reference]
        parts += [f"{key}={_short(value)}" for key, value in sorted(self.overrides.items())]
        return "-".join(filter(None, parts))

    def _bounds(self) -> str:
        bounds = [self.log_eps_p, self.log_eps_r]
        if bounds == [None, None]:
            return "unclipped"
        return "clip" + "_".join("none" if b is None else _short(b) for b in bounds)

    @property
    def name(self) -> str:
        """The run's name: variant and seed."""
        return f"{self.variant}-s{self.seed}"

    @property
    def base(self) -> "Cell":
        """The cell of the model that this run starts from."""
        return base_cell(self.task, self.seed, self.base_model)

    @property
    def data_base(self) -> "Cell":
        """The cell of the model that this run's offline data are sampled from."""
        return base_cell(self.task, self.seed, self.data_from or self.base_model)


@cache  # every cell asks for it, and there are thousands
def base_cell(task: TaskName, seed: int, base_model: str | None = None) -> Cell:
    """Make the cell of a base model.

    Args:
        task: the task's name.
        seed: the seed.
        base_model: a name in the scale's `base_models`; None: the task's own model.
    """
    return Cell(task=task, objective="base", seed=seed, base_model=base_model)


def _lora(lora: Lora) -> str:
    return f"lora{lora.r}" + (f"a{_short(lora.alpha)}" if lora.alpha else "")


def _short(value: float) -> str:
    """Write a number in the shortest form that reads back as the same number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
