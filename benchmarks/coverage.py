"""Simulate how often intervals cover the truth and tests find what is not there.

    python benchmarks/coverage.py              the tables of docs/statistics.md
    python benchmarks/coverage.py --draws 500  the same, rougher and sooner

Two cells are run on the same seeds, and each is scored as the share of P prompts that it wins. A
prompt has a difficulty, which both cells share, and suits one cell more than the other. A seed
moves the score of each cell. tests/tables/statistics/test_coverage.py runs this simulation, too.
"""

import argparse
import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from humanline.tables.statistics.inference import bounds
from humanline.tables.statistics.scores import GROUPS, pseudo_values

LEVELS = (40.0, 30.0)  # per cent: true scores of the two cells
DIFFICULTY, PREFERENCE = 25.0, 15.0  # standard deviation over prompts, in points
MARGIN = 5.0  # of equivalence, in points; for a ratio, the same share of the second score


@dataclass(frozen=True)
class Design:
    """An experiment.

    Attributes:
        seeds: the number of seeds.
        shares_prompts: whether all seeds have the same prompts.
        seed_sd: the standard deviation of the cells' difference over seeds, in points.
        compare: ``difference`` or ``ratio``.
        prompts: the number of prompts.
        common_sd: the standard deviation over seeds of both cells' common level, in points.
        collapses: the chance that a run of the first cell falls by 30 points.
    """

    seeds: int
    shares_prompts: bool
    seed_sd: float
    compare: str
    prompts: int = 512
    common_sd: float = 0.0
    collapses: float = 0.0


def simulate(design: Design, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the scores of both cells by seed and group of prompts: (2, draws, seeds, GROUPS)."""
    size = design.prompts // GROUPS
    n_seeds, own = design.seeds, 1 if design.shares_prompts else design.seeds
    difficulty = rng.normal(0, DIFFICULTY / size**0.5, (1, draws, own, GROUPS))
    preference = rng.normal(0, PREFERENCE / size**0.5, (2, draws, own, GROUPS))
    # Each of the two cells has half of the variance of their difference.
    seeds = rng.normal(0, design.seed_sd / 2**0.5, (2, draws, n_seeds, 1))
    if design.common_sd:
        seeds += rng.normal(0, design.common_sd, (1, draws, n_seeds, 1))
    if design.collapses:
        seeds[0] -= 30 * (rng.random((draws, n_seeds, 1)) < design.collapses)
    levels = np.reshape(LEVELS, (2, 1, 1, 1))
    share = np.clip((levels + difficulty + preference + seeds) / 100, 0.01, 0.99)
    return 100 * rng.binomial(size, share) / size


def contrast(design: Design, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Compute the contrast, (draws, seeds), and its pseudo-values if prompts are shared."""
    whole = scores.mean(axis=-1)
    left_out = (GROUPS * whole[..., None] - scores) / (GROUPS - 1)
    if design.compare == "ratio":
        floor = 50 / design.prompts
        whole, left_out = (np.log(np.maximum(part, floor)) for part in (whole, left_out))
    values = whole[0] - whole[1]
    pseudo = pseudo_values(values, left_out[0] - left_out[1]) if design.shares_prompts else None
    return values, pseudo


def rates(design: Design, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Compute the rates of success and of error of one design, in per cent.

    Returns:
        ``coverage`` of the two-sided 95 % interval; ``size``: how often a one-sided test at 5 %
        rejects a true null, on the worse of both sides; ``equivalence`` and ``non_inferiority``:
        how often these are found at 5 % if the truth lies at the margin.
    """
    scores = simulate(design, draws, rng)
    values, pseudo = contrast(design, scores)
    truth = values.mean()
    low, high = bounds(values, pseudo)
    lower, upper = bounds(values, pseudo, tail=0.05)
    width = 2 * MARGIN / (LEVELS[1] if design.compare == "ratio" else 1)
    found = {
        "coverage": (low <= truth) & (truth <= high),
        "size": max(lower > truth, upper < truth, key=np.count_nonzero),
        "equivalence": (lower > truth - width) & (upper < truth),
        "non_inferiority": lower > truth,
    }
    return {name: 100 * float(hits.mean()) for name, hits in found.items()}


def bootstrap_coverage(design: Design, draws: int, rng: np.random.Generator) -> float:
    """Compute the coverage, in per cent, of percentiles of resampled seeds and prompts."""
    scores = simulate(design, draws, rng)
    resamples = 500
    seeds = rng.multinomial(design.seeds, [1 / design.seeds] * design.seeds, resamples)
    groups = rng.multinomial(GROUPS, [1 / GROUPS] * GROUPS, resamples)
    weights = seeds[:, :, None] * groups[:, None, :] / (design.seeds * GROUPS)
    first, second = (each.reshape(draws, -1) @ weights.reshape(resamples, -1).T for each in scores)
    means = scores.mean(axis=(1, 2, 3))
    if design.compare == "ratio":
        found, truth = first / second, means[0] / means[1]
    else:
        found, truth = first - second, means[0] - means[1]
    low, high = np.quantile(found, [0.025, 0.975], axis=1)
    return 100 * float(((low <= truth) & (truth <= high)).mean())


def table(draws: int) -> pd.DataFrame:
    """Make the table; its ranges are over standard deviations of seeds of 2, 5 and 10 points."""
    rng, rows = np.random.default_rng(0), []
    for shares, compare, seeds in itertools.product(
        (False, True), ("difference", "ratio"), (2, 3, 5, 10)
    ):
        designs = [Design(seeds, shares, sd, compare) for sd in (2.0, 5.0, 10.0)]
        found = pd.DataFrame([rates(design, draws, rng) for design in designs])
        before = [bootstrap_coverage(design, draws // 4, rng) for design in designs]
        rows.append(
            {
                "Prompts": "shared" if shares else "own",
                "Of": compare,
                "Seeds": seeds,
                "Bootstrap covers, %": _range(before),
                "Covers, %": _range(found["coverage"]),
                "One-sided size, %": _range(found["size"]),
                "Equal, at the margin, %": _range(found["equivalence"]),
                "Not worse, at the margin, %": _range(found["non_inferiority"]),
            }
        )
    return pd.DataFrame(rows)


def harsh(draws: int) -> pd.DataFrame:
    """Make a table of worlds in which Student's t does less well."""
    rng, rows = np.random.default_rng(1), []
    worlds = {
        "the level moves by 5 points": {"common_sd": 5.0},
        "the level moves by 10 points": {"common_sd": 10.0},
        "one run in seven collapses": {"collapses": 1 / 7},
    }
    for (world, options), compare in itertools.product(worlds.items(), ("difference", "ratio")):
        designs = [Design(seeds, False, 2.0, compare, **options) for seeds in (3, 5, 10)]
        found = pd.DataFrame([rates(design, draws, rng) for design in designs])
        own = {"Covers, %": _range(found["coverage"]), "One-sided size, %": _range(found["size"])}
        rows.append({"From seed to seed": world, "Of": compare} | own)
    return pd.DataFrame(rows)


def _range(values) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=8000, help="simulated experiments per row")
    draws = parser.parse_args().draws
    for made in (table(draws), harsh(draws)):
        print(made.to_markdown(index=False, disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    main()
