"""Simulate the rule of claims.yaml: how often its verdicts are false, or hide a small gain.

    python benchmarks/verdicts.py                the tables of docs/statistics.md
    python benchmarks/verdicts.py --studies 500  the same, rougher and sooner

A study has the laptop's primary claims and their looks. A cell varies from seed to seed, and the
contrasts that share it are correlated. Contrasts, p-values, looks, Holm's correction and verdicts
are those of the claims' table, for many studies at once. tests/tables/test_verdicts.py runs this
simulation, too.
"""

import argparse
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from humanline.study.claims import Claims, Comparison
from humanline.study.runs.verdicts import Rule
from humanline.study.study import load_study
from humanline.tables.claims import Values, claim_p_values, contrast_of, tested, verdicts
from humanline.tables.statistics.multiplicity import holm
from humanline.tables.statistics.scores import Contrast, Scores

CONFIG = Path(__file__).parents[1] / "workflow" / "config"
SD = 0.034  # of the logarithm of a ratio, over seeds: a middling contrast of the laptop's pilot
FAR = 6  # smallest effects that count: what is so far away is found

Truth = Callable[[Comparison, int], float]  # a comparison's true effect, by its place in its claim


def registered() -> tuple[Claims, list[Comparison]]:
    """Read the laptop's primary claims, and the comparisons that their verdicts need."""
    study = load_study(CONFIG / "laptop.yaml", CONFIG / "experiments.yaml", Path("results"))
    assert study.claims is not None
    primary = [claim for claim in study.claims.claims if claim.primary]
    found = [own for own in study.comparisons() if own.claim.primary and own.role != "point"]
    return study.claims.model_copy(update={"claims": primary}), found


def smallest(comparison: Comparison) -> float:
    """Return the smallest effect that counts, on the scale of the test."""
    size = comparison.test.negligible or comparison.test.margin
    assert size is not None, f"{comparison.words} has no smallest effect"
    return math.log(size) if comparison.test.compare == "ratio" else size


def clear(comparison: Comparison, place: int) -> float:
    """Return an effect that is clearly as claimed."""
    if comparison.test.expect == "equivalent":
        return 0.0
    return FAR * smallest(comparison) * (-1 if comparison.test.expect == "less" else 1)


def no_effect(comparison: Comparison, place: int) -> float:
    """Return the effect at which a comparison just fails to be as claimed."""
    return comparison.hypotheses[0][0]


def one_fails(comparison: Comparison, place: int) -> float:
    """Return the same for a claim's first comparison, and a clear effect for its others."""
    return (clear if place else no_effect)(comparison, place)


def just_counts(comparison: Comparison, place: int) -> float:
    """Return the smallest effect that does not contradict the claim."""
    return comparison.refutations[0][0]


class Studies:
    """Simulated studies: the scores of all cells.

    Args:
        truth: returns a comparison's effect on the scale of its test.
        spread: the standard deviation of a contrast over seeds, in smallest effects that count.
        shape: numbers of studies and of seeds.
        rng: source of chance.
    """

    def __init__(
        self, truth: Truth, spread: float, shape: tuple[int, int], rng: np.random.Generator
    ):
        self._truth, self._spread, self._shape, self._rng = truth, spread, shape, rng
        self._noise: dict[tuple, np.ndarray] = {}
        self._places: dict[str, list[str]] = {}

    def __call__(self, comparison: Comparison) -> list[tuple[Scores, Scores]]:
        """Return the scores of both cells of each pair, (studies, seeds), as `contrast_of` asks."""
        places = self._places.setdefault(comparison.claim.id, [])
        if comparison.words not in places:
            places.append(comparison.words)
        effect = self._truth(comparison, places.index(comparison.words))
        sd = self._spread * smallest(comparison) / math.sqrt(2)
        measure, is_ratio = comparison.test.measure, comparison.test.compare == "ratio"
        found = []
        for pair in comparison.pairs:
            first, second = (sd * self._of((measure, own.task, own.variant)) for own in pair)
            both = (effect + first, second)
            found.append(tuple(self._scores(each, is_ratio=is_ratio) for each in both))
        return found

    def _of(self, cell: tuple) -> np.ndarray:
        if cell not in self._noise:
            self._noise[cell] = self._rng.normal(size=self._shape)
        return self._noise[cell]

    def _scores(self, values: np.ndarray, *, is_ratio: bool) -> Scores:
        scores = 40 * np.exp(values) if is_ratio else 50 + values
        return Scores(tuple(range(self._shape[1])), scores)


def simulate(truth: Truth, spread: float, studies: int, rng: np.random.Generator) -> np.ndarray:
    """Return the verdicts on the registered claims, after each look: (looks, studies, claims).

    Args:
        truth, spread, rng: as of `Studies`.
        studies: number of studies.
    """
    claims, compared = registered()
    assert claims.rule.looks is not None
    values = Studies(truth, spread, (studies, claims.rule.looks.seeds[-1]), rng)
    return decided(contrasts(claims, compared, values), claims.rule)


Compared = Sequence[tuple[Comparison, Contrast]]  # a claim's comparisons


def contrasts(claims: Claims, compared: Sequence[Comparison], values: Values) -> list[Compared]:
    """Compute the contrasts of comparisons, by claim."""
    found = [(own, contrast_of(own, values)) for own in compared]
    return [[pair for pair in found if pair[0].claim.id == claim.id] for claim in claims.claims]


def decided(by_claim: Sequence[Compared], rule: Rule, undecided: int = 0) -> np.ndarray:
    """Judge claims look by look; as with `snakemake decide`, a verdict ends a claim's looks.

    Args:
        by_claim: comparisons and contrasts, by claim.
        rule: the rule, with looks.
        undecided: the number of further primary claims that stay undecided.

    Returns:
        The verdicts after each look, (looks, studies, claims).
    """
    assert rule.looks is not None
    added = [list(range(*pair)) for pair in itertools.pairwise(rule.looks.seeds)]
    found: list[np.ndarray] = []
    p = np.empty(0)
    for look, seeds in enumerate(rule.looks.seeds):
        new = np.stack([_sides(own, rule, seeds, added[:look]) for own in by_claim], axis=-1)
        p = np.where(found[-1] == "undecided", new, p) if found else new
        family = np.concatenate([p, np.ones((*p.shape[:-1], undecided))], axis=-1)
        found.append(verdicts(*holm(family)[..., : p.shape[-1]], rule.alpha))
    return np.stack(found)


def _sides(compared: Compared, rule: Rule, seeds: int, added: list[list[int]]) -> np.ndarray:
    """Return a claim's p-values of both sides, (2, studies)."""
    found = [tested(own, contrast.on(range(seeds)), rule, added) for own, contrast in compared]
    return np.stack(claim_p_values(*np.stack(found, axis=-1)))


def false_verdicts(studies: int) -> pd.DataFrame:
    """Make a table: in how many studies, in per cent, any claim has a false verdict."""
    rng, rows = np.random.default_rng(0), []
    worlds: list[tuple[str, Truth, str]] = [
        ("support", no_effect, "nothing is there"),
        ("support", one_fails, "one comparison of each claim is not there, all others clearly are"),
        ("contradiction", just_counts, "all effects are the smallest that count"),
    ]
    for kind, truth, world in worlds:
        verdict = {"support": "supported", "contradiction": "contradicted"}[kind]
        found = {}
        for spread in (0.36, 1.0, 3.0):
            wrong = (simulate(truth, spread, studies, rng) == verdict).any(axis=-1)
            after = [100 * float(wrong[0].mean()), 100 * float(wrong.any(axis=0).mean())]
            found[f"SD {spread:g}, %"] = f"{after[0]:.1f}; {after[1]:.1f}"
        rows.append({"False": kind, "If": world} | found)
    return pd.DataFrame(rows)


def small_gains(studies: int, gains: Sequence[float] = (1, 2, 3, 4, 6)) -> pd.DataFrame:
    """Make a table: how often a small true gain is supported and contradicted, in per cent.

    The gain, in per cent of a logarithm, is that of a claim's one comparison, as of C1, or of one
    of the six of C2, whose others are clear. The other primary claims are undecided.
    """
    claims, compared = registered()
    rule, rng, rows = claims.rule, np.random.default_rng(1), []
    assert rule.looks is not None
    one, *_ = (own for own in compared if own.claim.id == "C1")
    six = [own for own in compared if own.claim.id == "C2"]
    seeds, undecided = tuple(range(rule.looks.seeds[-1])), len(claims.claims) - 1
    for gain in gains:
        values = rng.normal(gain / 100, SD, (studies, len(seeds)))
        contrast = Contrast(seeds, values)
        others = [(own, Contrast(seeds, values - gain / 100 + clear(own, 1))) for own in six[1:]]
        alone = decided([[(one, contrast)]], rule, undecided)
        among = decided([[(six[0], contrast), *others]], rule, undecided)
        row = {"True gain": f"{gain:g} %"}
        for title, verdict in (("Supported, %", "supported"), ("Contradicted, %", "contradicted")):
            row[title] = _after(alone, verdict)
        rows.append(row | {"Contradicted, one of six, %": _after(among, "contradicted")})
    return pd.DataFrame(rows)


def _after(found: np.ndarray, verdict: str) -> str:
    """Write the shares after the first and after the last look."""
    shares = 100 * (found[..., 0] == verdict).mean(axis=1)
    return f"{shares[0]:.0f}; {shares[-1]:.0f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=20_000, help="simulated studies per figure")
    studies = parser.parse_args().studies
    for made in (small_gains(studies), false_verdicts(studies)):
        print(made.to_markdown(index=False, disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    main()
