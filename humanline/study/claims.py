"""The paper's claims as tests on cells: workflow/config/claims.yaml.

Snakefiles import this module, so it is cheap.
"""

import itertools
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from humanline.files.validation import Strict, fault, first_fault
from humanline.study.experiments import Cell, HumanlineDefaults, Row, base_cell
from humanline.study.runs.verdicts import Registration, Rule
from humanline.study.tasks import TaskName
from humanline.study.values import FileName, Said

Scalar = bool | int | float | str
Side = Literal["greater", "less"]
Source = Literal["abstract", "notes", "ours"]


class PaperEffect(Strict):
    """The paper's ratio or difference, for which the power is computed."""

    value: float | dict[str, float] = Field(
        description="the ratio or difference; a mapping: by the values of `each`"
    )
    source: Source = Field(description="where it comes from, as a claim's source")
    derived: str | None = Field(None, description="how it follows from what is published")


class Test(Strict):
    """Comparisons of cells, seed by seed."""

    says: str | None = Field(
        None, description="what it asks, in a few words, such as `beats offline`; for the report"
    )
    task: TaskName = Field(description="the task of both cells")
    each: dict[str, Annotated[list[Scalar], Field(min_length=1)]] = Field(
        {}, description="fields of both cells; there is a comparison for every combination"
    )
    over: Literal["mean"] | None = Field(
        None,
        description="mean: the claim is about the mean over `each`, seed by seed; afterwards the "
        "combinations are tested in order, each only if all before it are significant; null: "
        "every combination must hold",
    )
    cell: dict[str, Any] = Field(description="a row as in experiments.yaml; a grid: all its cells")
    against: dict[str, Any] | Literal["base"] = Field(
        description="the cell to compare with, as `cell`; base: the model that training starts from"
    )
    measure: Literal["score", "curve_mean", "training_seconds"] = Field(
        "score",
        description="score: the headline score of the last step, per cent; curve_mean: its mean "
        "over the evaluated steps of the learning curve; or seconds of training",
    )
    compare: Literal["ratio", "difference"] = Field(
        "ratio",
        description="ratio: the geometric mean over seeds of cell / against; difference: the mean "
        "of cell - against, in percentage points, so not of training_seconds",
    )
    expect: Literal["greater", "less", "equivalent", "not_less"] = Field(
        description="what the claim says; not_less: not worse by more than the margin"
    )
    to: float | None = Field(
        None,
        description="the value to compare the ratio or difference with; null: 1 or 0",
    )
    margin: float | None = Field(
        None,
        gt=0,
        description="margin of equivalent and not_less: a factor above 1, or a difference",
    )
    negligible: float | None = Field(
        None,
        gt=0,
        description="of greater and less: an effect that is shown to be smaller than this "
        "contradicts the claim, too; a factor above 1, or a difference",
    )
    paper_effect: PaperEffect | None = Field(
        None, description="the paper's ratio or difference; null: it gives none"
    )

    @model_validator(mode="after")
    def _expectation_is_complete(self) -> Self:
        has_margin = self.expect in ("equivalent", "not_less")
        if has_margin and self.margin is None:
            raise fault("margin", f"missing, but {self.expect} needs it; add it")
        if not has_margin and self.margin is not None:
            reason = f"only equivalent and not_less have one, not {self.expect}; remove it"
            raise fault("margin", reason)
        if has_margin and self.negligible is not None:
            raise fault("negligible", f"{self.expect} has a margin instead; remove this")
        if self.compare == "ratio":
            for name in ("margin", "negligible"):
                factor = getattr(self, name)
                if factor is not None and factor <= 1:
                    raise fault(name, f"{factor:g} is no factor above 1; change it")
            if self.to is not None and self.to <= 0:
                raise fault("to", f"{self.to:g} is not positive, as ratios are; change it")
        for name in ("cell", "against"):
            given = getattr(self, name)
            if isinstance(given, dict) and (twice := set(given) & set(self.each)):
                raise fault(f"{name}.{sorted(twice)[0]}", "given in each, too; remove one")
            if isinstance(given, dict) and "task" in given:
                raise fault(f"{name}.task", "the test has one task for both cells; remove it")
        if self.against == "base" and self.measure != "score":
            raise fault("against", "a base model is not trained; name a cell, or measure score")
        if self.measure == "training_seconds" and self.compare != "ratio":
            raise fault("compare", "training_seconds are compared as a ratio; remove this")
        if self.over and not self.each:
            raise fault("over", f"{self.over}, but each is empty; give each, or remove this")
        return self

    @model_validator(mode="after")
    def _paper_effect_is_possible(self) -> Self:
        if self.paper_effect is None:
            return self
        value = self.paper_effect.value
        values = value.values() if isinstance(value, dict) else [value]
        if self.compare == "ratio" and min(values) <= 0:
            reason = f"{min(values):g} is not positive, as ratios are; change it"
            raise fault("paper_effect.value", reason)
        grids = [{str(v) for v in grid} for grid in self.each.values()]
        if isinstance(value, dict) and set(value) not in grids:
            reason = f"has {', '.join(value)}; name all values of a field in each, and no others"
            raise fault("paper_effect.value", reason)
        return self


class Claim(Strict):
    """A claim of the paper."""

    id: FileName = Field(description="its name, such as C1")
    claim: Said = Field(description="the claim in one sentence")
    primary: bool = Field(
        False,
        description="true: it gets a verdict, and its cells the scale's report seeds; false: it is "
        "explored, with estimates alone and the sweep seeds",
    )
    registered: Registration = Field(description="when and why it got this form")
    source: Source = Field(
        description="the paper's abstract, a public summary that was not checked against it, or a "
        "question of this suite"
    )
    paper_value: str | None = Field(None, description="the paper's number, if any")
    untested: str | None = Field(None, description="the part of the claim that no test covers")
    tests: list[Test] = Field(min_length=1, description="the claim is supported if all tests are")

    @model_validator(mode="after")
    def _seconds_decide_nothing(self) -> Self:
        for index, test in enumerate(self.tests):
            if self.primary and test.measure == "training_seconds":
                reason = (
                    "training_seconds depend on the jobs beside it, so they decide no primary "
                    "claim; measure score, or remove primary"
                )
                raise fault(f"tests.{index}.measure", reason)
        return self


class Claims(Strict):
    """workflow/config/claims.yaml."""

    rule: Rule = Field(description="the rule for verdicts; fixed before the runs")
    registration: str | None = Field(
        None,
        pattern="^[0-9a-f]{7,40}$",
        description="the commit that fixed the rule and the tests, before the runs; null: none did",
    )
    claims: list[Claim] = Field(min_length=1, description="the claims, in order")
    dropped: dict[str, str] = Field({}, description="registered claims that went, and why, by id")

    @model_validator(mode="after")
    def _ids_are_distinct(self) -> Self:
        ids = [claim.id for claim in self.claims]
        for index, name in enumerate(ids):
            if name in ids[:index] or name in self.dropped:
                raise fault(f"claims.{index}.id", f"{name} is there twice; rename one")
        return self

    @property
    def primary(self) -> list[str]:
        """The names of the primary claims."""
        return [claim.id for claim in self.claims if claim.primary]

    @property
    def strictest_level(self) -> float:
        """Holm's level for the smallest p-value of the primary claims, at the first look."""
        return self.rule.first_level / max(1, len(self.primary))


@dataclass(frozen=True)
class Comparison:
    """One comparison of a claim's test: two cells, or the mean over such pairs.

    Args:
        claim: the claim.
        test: the claim's test.
        pairs: the two cells, seed 0; of a mean, those of every combination in `each`.
        point: the combination in `each`, by field; of a mean, empty.
        role: ``all``: the claim needs it; ``mean``: the claim is about it, and it opens the way to
            the combinations; ``point``: tested after the mean and the points before it.
    """

    claim: Claim
    test: Test
    pairs: tuple[tuple[Cell, Cell], ...]
    point: dict[str, Scalar] = field(default_factory=dict)
    role: Literal["all", "mean", "point"] = "all"

    @property
    def cell(self) -> Cell:
        """The cell; of a mean, its first."""
        return self.pairs[0][0]

    @property
    def against(self) -> Cell:
        """The cell to compare with; of a mean, its first."""
        return self.pairs[0][1]

    @property
    def cells(self) -> list[Cell]:
        """All of its cells."""
        return [cell for pair in self.pairs for cell in pair]

    @property
    def center(self) -> float:
        """The value that the claim compares the ratio or difference with; 1 or 0 by default."""
        neutral = 1.0 if self.test.compare == "ratio" else 0.0
        return neutral if self.test.to is None else self.test.to

    @property
    def bounds(self) -> tuple[float, float]:
        """The values that it must be above and below; twice the same if there is one."""
        center, margin = self.center, self.test.margin
        if margin is None:
            return center, center
        if self.test.compare == "ratio":
            low, high = center / margin, center * margin
        else:
            low, high = center - margin, center + margin
        return (low, low) if self.test.expect == "not_less" else (low, high)

    @property
    def hypotheses(self) -> list[tuple[float, Side]]:
        """The one-sided tests that must all succeed: bound and side.

        The bound is on the scale of the test: the logarithm of a ratio, or a difference.
        """
        low, high = (math.log(b) if self.test.compare == "ratio" else b for b in self.bounds)
        match self.test.expect:
            case "greater" | "not_less":
                return [(low, "greater")]
            case "less":
                return [(high, "less")]
            case "equivalent":
                return [(low, "greater"), (high, "less")]

    @property
    def refutations(self) -> list[tuple[float, Side]]:
        """The one-sided tests of which any contradicts the claim: bound and side.

        They are the opposite sides of `hypotheses`, or of the smallest effect that counts.
        """
        effect = self.test.negligible
        if effect is not None and self.test.compare == "ratio":
            effect = math.log(effect)
        opposite: dict[Side, Side] = {"greater": "less", "less": "greater"}
        sign = {"greater": 1, "less": -1}
        return [
            (bound + sign[side] * (effect or 0.0), opposite[side])
            for bound, side in self.hypotheses
        ]

    @property
    def paper_effect(self) -> float | None:
        """The paper's ratio or difference; of a mean, the geometric or arithmetic mean."""
        if self.test.paper_effect is None:
            return None
        value = self.test.paper_effect.value
        if not isinstance(value, dict):
            return value
        if self.role != "mean":
            return next(value[str(v)] for v in self.point.values() if str(v) in value)
        if self.test.compare == "ratio":
            return math.prod(value.values()) ** (1 / len(value))
        return sum(value.values()) / len(value)

    @property
    def claimed(self) -> str:
        """What the claim says about the number, such as ``> 1``."""
        low, counts = self.bounds[0], ""
        if self.test.negligible:
            bound, side = self.refutations[0]
            number = math.exp(bound) if self.test.compare == "ratio" else bound
            counts = f" ({'<' if side == 'less' else '>'} {number:.3g} contradicts)"
        match self.test.expect:
            case "greater" | "not_less":
                return f"> {low:.3g}{counts}"
            case "less":
                return f"< {low:.3g}{counts}"
            case "equivalent":
                sign = "x/" if self.test.compare == "ratio" else "+-"
                return f"= {self.center:g} {sign} {self.test.margin:g}"

    @property
    def words(self) -> str:
        """The claim in short: two variants and a relation, such as ``A / B > 1``."""
        return f"{self.contrast} {self.claimed}"

    @property
    def contrast(self) -> str:
        """What is compared, without what is claimed of it, such as ``A / B``."""
        names = {"training_seconds": "seconds of ", "curve_mean": "mean of the curve of "}
        operator = "/" if self.test.compare == "ratio" else "-"
        pairs = [f"{cell.variant} {operator} {against.variant}" for cell, against in self.pairs]
        compared = f"mean of {', '.join(pairs)}" if self.role == "mean" else pairs[0]
        return names.get(self.test.measure, "") + compared


class ClaimError(ValueError):
    """A test's cells are wrong. The message gives place, reason and remedy."""


def comparisons(
    claims: Claims, defaults: dict[str, HumanlineDefaults]
) -> list[tuple[str, Comparison]]:
    """List every comparison of every claim; a mean comes before its points.

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
            pairs = _pairs(place, test, defaults[test.task])
            for _, (cell, against) in pairs:
                if cell == against:
                    reason = f"{cell.variant} would be compared with itself; change one"
                    raise ClaimError(f"{place}.against: {reason}")
            found += [(place, own) for own in _compared(place, claim, test, pairs)]
    return found


Point = tuple[dict[str, Scalar], tuple[Cell, Cell]]  # a combination of `each`, and its two cells


def _compared(place: str, claim: Claim, test: Test, pairs: list[Point]) -> list[Comparison]:
    if test.over is None:
        return [Comparison(claim, test, (pair,), point) for point, pair in pairs]
    if len(pairs) != math.prod(map(len, test.each.values())):
        reason = "with over, each combination of each has one pair of cells; give no lists here"
        raise ClaimError(f"{place}.cell: {reason}")
    mean = Comparison(claim, test, tuple(pair for _, pair in pairs), role="mean")
    return [mean, *(Comparison(claim, test, (pair,), point, "point") for point, pair in pairs)]


def _pairs(place: str, test: Test, defaults: HumanlineDefaults) -> list[Point]:
    pairs: list[Point] = []
    fields = [name for name in Row.model_fields if name != "task"]
    if unknown := sorted(set(test.each) - set(fields)):
        known = ", ".join(fields)
        raise ClaimError(f"{place}.each.{unknown[0]}: unknown key; use one of {known}")
    for values in itertools.product(*test.each.values()):
        point = dict(zip(test.each, values, strict=True))
        cells = _cells(f"{place}.cell", test.cell | point, test.task, defaults)
        if test.against == "base":
            found = [(cell, base_cell(test.task, 0, cell.base_model)) for cell in cells]
        else:
            row = test.against | point
            others = _cells(f"{place}.against", row, test.task, defaults)
            found = list(itertools.product(cells, others))
        pairs += [(point, pair) for pair in found]
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
