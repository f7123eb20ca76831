"""The paper's claims as tests on cells: workflow/config/claims.yaml.

Snakefiles import this module, so it is cheap.
"""

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from humanline.files.validation import Strict, fault, first_fault
from humanline.study.experiments import Cell, HumanlineDefaults, Row, base_cell
from humanline.study.tasks import TaskName

Scalar = bool | int | float | str


class Rule(Strict):
    """The rule that decides whether a claim is supported, contradicted or undecided."""

    alpha: float = Field(0.05, gt=0, lt=1, description="family-wise error of either verdict")
    power: float = Field(0.8, gt=0, lt=1, description="power for the sample size that would decide")


class Test(Strict):
    """Comparisons of cells, seed by seed."""

    task: TaskName = Field(description="the task of both cells")
    each: dict[str, Annotated[list[Scalar], Field(min_length=1)]] = Field(
        {}, description="fields of both cells; there is a comparison for every combination"
    )
    cell: dict[str, Any] = Field(description="a row as in experiments.yaml; a grid: all its cells")
    against: dict[str, Any] | Literal["base"] = Field(
        description="the cell to compare with, as `cell`; base: the model that training starts from"
    )
    measure: Literal["score", "training_seconds"] = Field(
        "score", description="score: the headline score of runs, per cent; or seconds of training"
    )
    compare: Literal["ratio", "difference"] = Field(
        "ratio", description="ratio: mean of cell over mean of against; difference: cell - against"
    )
    expect: Literal["greater", "less", "equivalent"] = Field(description="what the claim says")
    to: float | None = Field(
        None,
        description="the value to compare the ratio or difference with; null: 1 or 0",
    )
    margin: float | None = Field(
        None, gt=0, description="margin of equivalence: a factor above 1, or a difference"
    )

    @model_validator(mode="after")
    def _expectation_is_complete(self) -> Self:
        if self.expect == "equivalent" and self.margin is None:
            raise fault("margin", "missing, but equivalent needs it; add it")
        if self.expect != "equivalent" and self.margin is not None:
            raise fault("margin", f"only equivalent has one, not {self.expect}; remove it")
        if self.compare == "ratio":
            if self.margin is not None and self.margin <= 1:
                raise fault("margin", f"{self.margin:g} is no factor above 1; change it")
            if self.to is not None and self.to <= 0:
                raise fault("to", f"{self.to:g} is not positive, as ratios are; change it")
        for name in ("cell", "against"):
            given = getattr(self, name)
            if isinstance(given, dict) and (twice := set(given) & set(self.each)):
                raise fault(f"{name}.{sorted(twice)[0]}", "given in each, too; remove one")
            if isinstance(given, dict) and "task" in given:
                raise fault(f"{name}.task", "the test has one task for both cells; remove it")
        if self.against == "base" and self.measure == "training_seconds":
            raise fault("against", "a base model is not trained; name a cell, or measure score")
        return self


class Claim(Strict):
    """A claim of the paper."""

    id: str = Field(min_length=1, description="such as C1")
    claim: str = Field(description="the claim in one sentence")
    source: Literal["abstract", "notes", "ours"] = Field(
        description="the paper's abstract, a public summary that was not checked against it, or a "
        "question of this suite"
    )
    paper_value: str | None = Field(None, description="the paper's number, if any")
    untested: str | None = Field(None, description="the part of the claim that no test covers")
    tests: list[Test] = Field(min_length=1, description="the claim is supported if all tests are")


class Claims(Strict):
    """workflow/config/claims.yaml."""

    rule: Rule = Field(description="the rule for verdicts; fixed before the runs")
    claims: list[Claim] = Field(min_length=1, description="the claims, in order")

    @model_validator(mode="after")
    def _ids_are_distinct(self) -> Self:
        ids = [claim.id for claim in self.claims]
        for index, name in enumerate(ids):
            if name in ids[:index]:
                raise fault(f"claims.{index}.id", f"{name} is there twice; rename one")
        return self


@dataclass(frozen=True)
class Comparison:
    """One comparison of a claim's test: two cells; their seed does not count."""

    claim: Claim
    test: Test
    cell: Cell
    against: Cell

    @property
    def center(self) -> float:
        """The value that the claim compares the ratio or difference with; 1 or 0 by default."""
        neutral = 1.0 if self.test.compare == "ratio" else 0.0
        return neutral if self.test.to is None else self.test.to

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value of a claimed equivalence; else twice the center."""
        center, margin = self.center, self.test.margin
        if margin is None:
            return center, center
        if self.test.compare == "ratio":
            return center / margin, center * margin
        return center - margin, center + margin

    @property
    def words(self) -> str:
        """The claim in short: two variants and a relation, such as ``A / B > 1``."""
        test = self.test
        sign = {"greater": ">", "less": "<", "equivalent": "="}[test.expect]
        claimed = f"{sign} {self.center:g}"
        if test.margin:
            sign = "x/" if test.compare == "ratio" else "+-"
            claimed += f" {sign} {test.margin:g}"
        measure = "seconds of " if test.measure == "training_seconds" else ""
        operator = "/" if test.compare == "ratio" else "-"
        return f"{measure}{self.cell.variant} {operator} {self.against.variant} {claimed}"


class ClaimError(ValueError):
    """A test's cells are wrong. The message gives place, reason and remedy."""


def comparisons(
    claims: Claims, defaults: dict[str, HumanlineDefaults]
) -> list[tuple[str, Comparison]]:
    """List every comparison of every claim.

    Args:
        claims: the claims.
        defaults: humanline's defaults by task.

    Returns:
        Pairs of the place in claims.yaml, such as ``claims.0.tests.1``, and the comparison.

    Raises:
        ClaimError: if a test's cells are wrong.
    """
    found = []
    for i, claim in enumerate(claims.claims):
        for j, test in enumerate(claim.tests):
            place = f"claims.{i}.tests.{j}"
            if test.task not in defaults:
                reason = f"experiments.yaml has no defaults for {test.task}; add them"
                raise ClaimError(f"{place}.task: {reason}")
            for cell, against in _pairs(place, test, defaults[test.task]):
                if cell == against:
                    reason = f"{cell.variant} would be compared with itself; change one"
                    raise ClaimError(f"{place}.against: {reason}")
                found.append((place, Comparison(claim, test, cell, against)))
    return found


def _pairs(place: str, test: Test, defaults: HumanlineDefaults) -> list[tuple[Cell, Cell]]:
    pairs = []
    fields = [name for name in Row.model_fields if name != "task"]
    if unknown := sorted(set(test.each) - set(fields)):
        known = ", ".join(fields)
        raise ClaimError(f"{place}.each.{unknown[0]}: unknown key; use one of {known}")
    for point in itertools.product(*test.each.values()):
        shared = dict(zip(test.each, point, strict=True))
        cells = _cells(f"{place}.cell", test.cell | shared, test.task, defaults)
        if test.against == "base":
            pairs += [(cell, base_cell(test.task, 0, cell.base_model)) for cell in cells]
        else:
            row = test.against | shared
            others = _cells(f"{place}.against", row, test.task, defaults)
            pairs += itertools.product(cells, others)
    return pairs


def _cells(place: str, row: dict, task: TaskName, defaults: HumanlineDefaults) -> list[Cell]:
    try:
        cells = Row(**row).cells(task, defaults, seed=0)
    except ValidationError as error:
        raise ClaimError(f"{place}.{first_fault(error, row)}") from None
    if any(cell.humanline and cell.trust_region for cell in cells):
        reason = "true, but humanline is true, too; choose one"
        raise ClaimError(f"{place}.trust_region: {reason}")
    return cells
