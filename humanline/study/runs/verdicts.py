"""What is fixed before the runs: the rule for verdicts, its looks, and a claim's registration.

A look tests a claim on all seeds that it has so far. The rule fixes the looks before the runs.
Every claim has the first one, on the report seeds; `snakemake decide` takes the others for claims
that are undecided, and records them in a file before it runs their seeds. Snakefiles import this
module, so it is cheap.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from humanline.files.validation import ConfigError, Strict, fault
from humanline.study.scale.scale import Seeds
from humanline.study.values import Day, PositiveInt, Said, SeedList


class Looks(Strict):
    """When claims are tested, and how much of alpha each time may spend."""

    seeds: list[PositiveInt] = Field(min_length=1, description="numbers of seeds, rising")
    weights: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        description="each look's share of alpha; their sum is at most 1"
    )

    @model_validator(mode="after")
    def _is_a_plan(self) -> Self:
        if self.seeds != sorted(set(self.seeds)):
            raise fault("seeds", f"{self.seeds} do not rise; mend their order")
        if self.seeds[0] < 2:
            raise fault("seeds", "a look at 1 seed can decide nothing; begin with 2 or more")
        if len(self.weights) != len(self.seeds):
            reason = f"{len(self.weights)} for {len(self.seeds)} looks; give each look one"
            raise fault("weights", reason)
        if (total := sum(self.weights)) > 1 + 1e-9:
            raise fault("weights", f"their sum is {total:g}; make it at most 1")
        return self

    def require(self, seeds: Seeds) -> None:
        """Refuse seeds of a scale that do not fit the looks.

        Raises:
            ConfigError: field, reason and remedy.
        """
        if len(seeds.report) != self.seeds[0]:
            raise ConfigError(
                f"seeds.report: {len(seeds.report)} in number, but the first of rule.looks in "
                f"claims.yaml has {self.seeds[0]}; change either, or remove seeds.more"
            )
        if (number := len(seeds.report) + len(seeds.more or [])) < self.seeds[-1]:
            raise ConfigError(
                f"seeds.more: {number} with seeds.report, but the last of rule.looks in "
                f"claims.yaml has {self.seeds[-1]}; add seeds"
            )

    def added(self, seeds: Seeds, look: int) -> list[int]:
        """List the seeds that a look adds to those of the look before it.

        Args:
            seeds: the scale's seeds.
            look: the look's number, from 2.
        """
        before, number = self.seeds[look - 2], self.seeds[look - 1]
        return [*seeds.report, *(seeds.more or [])][before:number]


class Rule(Strict):
    """The rule that decides whether a claim is supported, contradicted or undecided."""

    alpha: float = Field(0.05, gt=0, lt=1, description="family-wise error of either verdict")
    power: float = Field(0.8, gt=0, lt=1, description="power for the sample size that would decide")
    looks: Looks | None = Field(
        None,
        description="for `snakemake decide`: at a scale with seeds.more, undecided claims get more "
        "seeds, and each p-value is the least over looks of p / weight; null: one look",
    )

    @property
    def first_level(self) -> float:
        """The share of alpha that the first look may spend."""
        return self.alpha * (self.looks.weights[0] if self.looks else 1.0)


class Registration(Strict):
    """When and why a claim got its present form, before the runs that decide it."""

    date: Day = Field(description="the day of its present form")
    reason: Said = Field(description="why it has this form, in one line")


class Look(Strict):
    """A look that was taken for a claim."""

    claim: str
    look: int = Field(ge=2, description="its number; the first look is on the report seeds")
    seeds: SeedList = Field(description="the seeds that it adds")
    date: Day
    commit: str | None = Field(None, description="commit of the code that took it")


class LooksTaken(Strict):
    """The file that `snakemake decide` writes: every look after a claim's first."""

    looks: Looks | None = Field(None, description="the rule's looks when they were taken")
    taken: list[Look] = Field([], description="the looks, in the order of time")

    def added(self, claim: str) -> list[list[int]]:
        """List the seeds that a claim's later looks have added, look by look."""
        return [own.seeds for own in self.taken if own.claim == claim]

    def seeds(self, claim: str) -> list[int]:
        """List all seeds that a claim's later looks have added."""
        return [seed for seeds in self.added(claim) for seed in seeds]

    def require(
        self, looks: Looks | None, seeds: Seeds, primary: Iterable[str], file: Path
    ) -> None:
        """Refuse looks that the rule, the scale's seeds or the claims do not have any more.

        Args:
            looks: the rule's looks at this scale.
            seeds: the scale's seeds.
            primary: the names of the primary claims.
            file: the record's file, for the error.

        Raises:
            ConfigError: the first fault.
        """
        remedy = "undo that change, or remove this file to begin with the first look again"
        if self.looks != looks or looks is None:
            raise ConfigError(f"{file}: rule.looks in claims.yaml is another one now; {remedy}")
        known, numbers = set(primary), dict.fromkeys(primary, 1)
        for own in self.taken:
            if own.claim not in known:
                raise ConfigError(f"{file}: {own.claim} is no primary claim now; {remedy}")
            numbers[own.claim] += 1
            is_next = own.look == numbers[own.claim] <= len(looks.seeds)
            if not is_next or own.seeds != looks.added(seeds, own.look):
                where = f"{file}: look {own.look} of {own.claim}"
                raise ConfigError(f"{where} has other seeds than the scale now; {remedy}")
