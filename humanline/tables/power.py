"""The power of a design: what the claims' comparisons can decide with their seeds, by a pilot.

A claim needs all of its comparisons, but of a mean and its points only the mean: a point is tested
if the mean and all points before it are significant. The level is that of the smallest p-value in
Holm's correction. Snakemake's main process imports this module to refuse a weak design, so it
imports no library that is slow to load.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from humanline.files.validation import ConfigError
from humanline.study.claims import Claim, Claims, Comparison
from humanline.study.runs.pilot import Pilot, Spread
from humanline.study.runs.requests import Design
from humanline.tables.statistics.power import (
    OneSidedTest,
    joint_power,
    least_distance,
    seeds_for_power,
    upper_limit,
)


@dataclass(frozen=True)
class Planned:
    """A comparison of a design.

    Args:
        comparison: the comparison.
        seeds: how many seeds its cells have in the tables.
        spread: the pilot's measure of its contrast.
        alpha: level of its tests.
        wanted: the power that the rule asks for.
        before: a point's mean, and the points that are tested before it.
    """

    comparison: Comparison
    seeds: int
    spread: Spread
    alpha: float
    wanted: float
    before: tuple["Planned", ...] = ()

    @property
    def is_ratio(self) -> bool:
        """Whether it compares by a ratio: its contrast is then a logarithm."""
        return self.comparison.test.compare == "ratio"

    @property
    def sd_limit(self) -> float:
        """The upper 80 % confidence limit of the standard deviation."""
        return upper_limit(self.spread.sd, self.spread.seeds)

    @property
    def effect(self) -> float | None:
        """The true ratio or difference that power is computed for; None: unknown.

        It is the paper's; without one, a claim of equality is taken at its word.
        """
        if self.comparison.paper_effect is None and self.comparison.test.margin is not None:
            return self.comparison.center
        return self.comparison.paper_effect

    def tests(self, *, cautious: bool = False) -> list[OneSidedTest]:
        """List its one-sided tests if the effect is true; none if it is unknown.

        Args:
            cautious: take the upper limit of the standard deviation.
        """
        if self.effect is None:
            return []
        effect = math.log(self.effect) if self.is_ratio else self.effect
        sd = self.sd_limit if cautious else self.spread.sd
        return [
            OneSidedTest(
                sd,
                effect - bound if side == "greater" else bound - effect,
                self.spread.prompts,
            )
            for bound, side in self.comparison.hypotheses
        ]

    def power(self, *, cautious: bool = False) -> float:
        """Compute the chance that it is significant.

        Returns:
            The chance; NaN if the effect is unknown, or if the contrast did not vary in the pilot.
        """
        needed = [*self.before, self]
        if any(own.effect is None for own in needed):
            return math.nan
        tests = [test for own in needed for test in own.tests(cautious=cautious)]
        return joint_power(tests, self.seeds, self.alpha)

    @property
    def smallest(self) -> float:
        """The smallest ratio or difference that it alone finds with the wanted power, or NaN.

        If it has a margin: the smallest margin with which it finds equality, if there is equality.
        """
        comparison = self.comparison
        missed = (1 - self.wanted) / len(comparison.hypotheses)
        distance = least_distance(
            OneSidedTest(self.spread.sd, 0.0, self.spread.prompts),
            self.seeds,
            alpha=self.alpha,
            power=1 - missed,
        )
        if comparison.test.expect == "less":
            distance = -distance
        neutral = 1.0 if self.is_ratio else 0.0
        center = neutral if comparison.test.margin else comparison.center
        return center * math.exp(distance) if self.is_ratio else center + distance


@dataclass(frozen=True)
class PlannedClaim:
    """A claim of a design, with all of its comparisons."""

    claim: Claim
    planned: tuple[Planned, ...]

    @cached_property
    def needed(self) -> list[Planned]:
        """The comparisons that its verdict needs."""
        return [own for own in self.planned if own.comparison.role != "point"]

    @property
    def seeds(self) -> int:
        """The least number of seeds of a comparison."""
        return min(own.seeds for own in self.needed)

    def power(self, *, cautious: bool = False) -> float:
        """Compute a lower bound of the chance that all comparisons with a known effect hold.

        Returns:
            The chance; NaN if no effect is known, or if a contrast did not vary in the pilot.
        """
        tests = [test for own in self.needed for test in own.tests(cautious=cautious)]
        return joint_power(tests, self.seeds, self.needed[0].alpha) if tests else math.nan

    @property
    def seeds_needed(self) -> float:
        """The number of seeds with the wanted power; infinity for more than can be run."""
        tests = [test for own in self.needed for test in own.tests()]
        first = self.needed[0]
        return seeds_for_power(tests, alpha=first.alpha, power=first.wanted)


def design(
    claims: Claims, compared: Sequence[tuple[Comparison, int]], pilot: Pilot
) -> list[PlannedClaim]:
    """Plan the comparisons that a pilot has measured.

    Args:
        claims: the claims and their rule.
        compared: comparisons, in order, and the number of their seeds in the tables.
        pilot: the pilot; comparisons that it lacks are left out.

    Returns:
        The claims with such a comparison, in order. Primary claims share what the first look may
        spend of alpha, as Holm's correction begins; any other has all of it, for information.
    """
    rule = claims.rule
    found = []
    for claim in claims.claims:
        alpha = claims.strictest_level if claim.primary else rule.alpha
        planned: list[Planned] = []
        for comparison, seeds in compared:
            spread = pilot.spread(comparison)
            if comparison.claim is claim and spread:
                before = tuple(
                    own
                    for own in planned
                    if comparison.role == "point" and own.comparison.test is comparison.test
                )
                planned.append(Planned(comparison, seeds, spread, alpha, rule.power, before))
        if planned:
            found.append(PlannedClaim(claim, tuple(planned)))
    return found


def weigh(asked: Design) -> list[str]:
    """Refuse a design whose primary claims could hardly be decided, and list other doubts about it.

    Args:
        asked: the design.

    Returns:
        At most one line, for a warning: what is not known of the primary claims' power.

    Raises:
        ConfigError: as `require_power`, if the scale has a pilot.
    """
    name, pilot = asked.scale, asked.pilot
    measures = f"`snakemake power --config scale={name}`"
    if pilot:
        require_power(asked.claims, asked.planned, pilot, asked.written)
    if asked.pilot_changes:
        remedy = f"measure it again by {measures}, and copy {asked.written} over the pilot's file"
        return [f"scale {name}: pilot: {asked.pilot_changes}; {remedy}"]
    primary = [(own.claim.id, seeds) for own, seeds in asked.planned if own.claim.primary]
    if single := ", ".join(dict.fromkeys(claim for claim, seeds in primary if seeds < 2)):
        remedy = f"give at least 2; {measures} tells how many are enough"
        return [f"scale {name}: seeds.report: one seed cannot decide {single}; {remedy}"]
    if primary and not pilot:
        claims = ", ".join(asked.claims.primary)
        return [
            f"scale {name}: pilot: none, so the power of {claims} is not known; {measures} "
            "measures it"
        ]
    return []


def require_power(
    claims: Claims,
    compared: Sequence[tuple[Comparison, int]],
    pilot: Pilot,
    written: Path,
) -> None:
    """Refuse a design whose primary claims could hardly be decided.

    Args:
        claims, compared, pilot: as in `design`.
        written: where `snakemake power` writes a new pilot.

    Raises:
        ConfigError: if the pilot lacks a comparison of a primary claim, if a primary claim needs
            one whose effect is unknown, or if it has less power than the rule asks for.
    """
    primary = [(own, seeds) for own, seeds in compared if own.claim.primary]
    for comparison, _ in primary:
        if pilot.spread(comparison) is None:
            raise ConfigError(
                f"scale {pilot.scale}: pilot: it lacks {comparison.contrast} of claim "
                f"{comparison.claim.id}; run `snakemake power --config scale={pilot.scale}`, and "
                f"copy {written} over the pilot's file"
            )
    found = design(claims, primary, pilot)
    for own in (own for claim in found for own in claim.needed):
        if own.effect is None:
            raise ConfigError(
                f"claims.yaml: claim {own.comparison.claim.id}: {own.comparison.words}: no "
                f"paper_effect and no margin, so its power at scale {pilot.scale} is not known; "
                "add paper_effect to this test, the effect that it should find"
            )
    weak = [_weakness(own) for own in found if not own.power() >= claims.rule.power]
    if weak:
        raise ConfigError(
            f"scale {pilot.scale}: seeds.report: too few for a power of {claims.rule.power:.0%} by "
            f"the pilot: {'; '.join(weak)}; add seeds, or change these claims before their runs"
        )


def percent(chance: float) -> str:
    """Write a chance in per cent, rounded down: 79.6 % must not look like 80 %."""
    return f"{math.floor(100 * chance + 1e-9)}%"  # 0.29 * 100 is a last digit below 29


def _weakness(claim: PlannedClaim) -> str:
    needed, power = claim.seeds_needed, claim.power()
    if math.isnan(power):
        return f"{claim.claim.id} has none, as its cells did not differ in it"
    number = "more than 1024" if math.isinf(needed) else f"{needed:.0f}"
    return f"{claim.claim.id} has {percent(power)} with {claim.seeds} seeds and needs {number}"
