"""Simulate how often intervals cover the truth and tests find what is not there.

    python benchmarks/coverage.py              the tables of docs/statistics.md
    python benchmarks/coverage.py --draws 500  the same, rougher and sooner

Two cells are run on the same seeds, and each is scored as the share of P prompts that it wins. A
prompt has a difficulty, which both cells share, and suits one cell more than the other. A seed
moves the score of each cell. A mean is over three such pairs, of three objectives, on the same
seeds and prompts. Length-controlled win rates are fitted to single judgements, with each group of
prompts left out. All estimates and tests are those of the tables and claims, for many experiments
at once.
tests/tables/statistics/test_coverage.py runs this simulation, too.
"""

import argparse
import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from humanline.study.experiments import Cell
from humanline.tables.estimates import length_controlled, scores_on
from humanline.tables.run_results import Judged
from humanline.tables.statistics.inference import intervals, significance
from humanline.tables.statistics.scores import (
    GROUPS,
    Contrast,
    Scores,
    difference,
    log_ratio,
    mean_of,
)

LEVELS = (40.0, 30.0)  # per cent: true scores of the two cells
DIFFICULTY, PREFERENCE = 25.0, 15.0  # standard deviation over prompts, in points
MARGIN = 5.0  # of equivalence, in points; for a ratio, the same share of the second score
JUDGED_PROMPTS = 128  # of length-controlled win rates, each fitted 65 times
ANY_CELL = {"task": "instruction_following", "objective": "dpo", "data": "offline"}


@dataclass(frozen=True)
class Design:
    """An experiment.

    Attributes:
        seeds: the number of seeds.
        shares_prompts: whether all seeds have the same prompts.
        seed_sd: the standard deviation of the cells' difference over seeds, in points.
        compare: ``difference``, ``ratio``, or ``mean``: of the log ratios of three objectives.
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

    @property
    def objectives(self) -> int:
        """The number of pairs of cells."""
        return 3 if self.compare == "mean" else 1


def simulate(design: Design, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the scores of the cells by seed and group of prompts.

    Returns:
        (objectives, 2, draws, seeds, GROUPS).
    """
    size, pairs = design.prompts // GROUPS, design.objectives
    n_seeds, own = design.seeds, 1 if design.shares_prompts else design.seeds
    difficulty = rng.normal(0, DIFFICULTY / size**0.5, (1, draws, own, GROUPS))
    preference = rng.normal(0, PREFERENCE / size**0.5, (pairs, 2, draws, own, GROUPS))
    # Each of the two cells has half of the variance of their difference, and of that half the
    # objectives share a half: they have a base model and prompts in common.
    seeds = rng.normal(0, design.seed_sd / 2, (pairs, 2, draws, n_seeds, 1))
    seeds += rng.normal(0, design.seed_sd / 2, (2, draws, n_seeds, 1))
    if design.common_sd:
        seeds += rng.normal(0, design.common_sd, (1, draws, n_seeds, 1))
    if design.collapses:
        seeds[:, 0] -= 30 * (rng.random((draws, n_seeds, 1)) < design.collapses)
    levels = np.reshape(LEVELS, (2, 1, 1, 1))
    share = np.clip((levels + difficulty + preference + seeds) / 100, 0.01, 0.99)
    return 100 * rng.binomial(size, share) / size


def contrast(design: Design, scores: np.ndarray) -> Contrast:
    """Compute the contrasts of all experiments, (draws, seeds), as the tables and claims do."""
    compare = difference if design.compare == "difference" else log_ratio
    return mean_of([compare(*(_scores(design, cell) for cell in pair)) for pair in scores])


def _scores(design: Design, scores: np.ndarray) -> Scores:
    whole = scores.mean(axis=-1)
    left_out = (GROUPS * whole[..., None] - scores) / (GROUPS - 1)
    left_out = left_out if design.shares_prompts else None
    return Scores(tuple(range(design.seeds)), whole, left_out, floor=50 / design.prompts)


def length_controlled_contrast(seeds: int, draws: int, rng: np.random.Generator) -> Contrast:
    """Compute log ratios of length-controlled win rates on shared prompts, (draws, seeds).

    A verdict follows the cell, the seed, the prompt and the difference in length, which differs
    between cells.
    """
    made = [_length_controlled_draw(seeds, rng) for _ in range(draws)]
    values, pseudo = (
        np.stack([getattr(own, name) for own in made]) for name in ("values", "pseudo")
    )
    return Contrast(made[0].seeds, values, pseudo)


def _length_controlled_draw(seeds: int, rng: np.random.Generator) -> Contrast:
    difficulty = rng.normal(0, 1.2, JUDGED_PROMPTS)
    baseline = rng.gamma(9, 100, JUDGED_PROMPTS)
    cells = [Cell(**ANY_CELL, seed=seed) for seed in range(seeds)]
    pair = []
    for score, longer in zip(LEVELS, (1.3, 1.0), strict=True):
        preference = rng.normal(0, 0.7, JUDGED_PROMPTS)
        level = 1.25 * np.log(score / (100 - score)) + difficulty + preference
        runs = []
        for seed in rng.normal(0, 0.2, seeds):
            length = baseline * longer * rng.gamma(16, 1 / 16, JUDGED_PROMPTS)
            gap = length - baseline
            chance = expit(level + seed + np.tanh(gap / gap.std()))
            win = (rng.random(JUDGED_PROMPTS) < chance).astype(float)
            runs.append(Judged(win, length, baseline, np.nan, np.nan, np.nan))
        pair.append(scores_on(cells, runs, length_controlled, shares_prompts=True))
    return log_ratio(*pair)


def rates(contrast: Contrast, width: float = 0.0) -> dict[str, float]:
    """Compute the rates of success and of error of many experiments, in per cent.

    Args:
        contrast: numbers by experiment and seed; the truth is the mean of them all.
        width: of the interval of equivalence, whose upper end is the truth.

    Returns:
        ``coverage`` of the two-sided 95 % interval; ``size``: how often a one-sided test at 5 %
        rejects a true null, on the worse of both sides; ``equivalence`` and ``non_inferiority``:
        how often these are found at 5 % if the truth lies at the margin.
    """
    truth = float(contrast.values.mean())
    *_, low, high = intervals(contrast)
    above, below = (significance(contrast, truth, side) < 0.05 for side in ("greater", "less"))
    found = {
        "coverage": (low <= truth) & (truth <= high),
        "size": max(above, below, key=np.count_nonzero),
        "equivalence": below & (significance(contrast, truth - width, "greater") < 0.05),
        "non_inferiority": above,
    }
    return {name: 100 * float(hits.mean()) for name, hits in found.items()}


def simulated_rates(design: Design, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Simulate a design, and compute its `rates`."""
    width = 2 * MARGIN / (1 if design.compare == "difference" else LEVELS[1])
    return rates(contrast(design, simulate(design, draws, rng)), width)


def bootstrap_coverage(design: Design, draws: int, rng: np.random.Generator) -> float:
    """Compute the coverage, in per cent, of percentiles of resampled seeds and prompts."""
    (scores,) = simulate(design, draws, rng)
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
        (False, True), ("difference", "ratio", "mean"), (2, 3, 5, 10)
    ):
        designs = [Design(seeds, shares, sd, compare) for sd in (2.0, 5.0, 10.0)]
        found = pd.DataFrame([simulated_rates(design, draws, rng) for design in designs])
        single = designs if compare != "mean" else []
        before = [bootstrap_coverage(design, draws // 4, rng) for design in single]
        rows.append(
            {
                "Prompts": "shared" if shares else "own",
                "Of": {"mean": "mean of 3 ratios"}.get(compare, compare),
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
        found = pd.DataFrame([simulated_rates(design, draws, rng) for design in designs])
        own = {"Covers, %": _range(found["coverage"]), "One-sided size, %": _range(found["size"])}
        rows.append({"From seed to seed": world, "Of": compare} | own)
    return pd.DataFrame(rows)


def length_controlled_table(draws: int) -> pd.DataFrame:
    """Make the table of length-controlled win rates; fewer seeds are the first of ten."""
    made = length_controlled_contrast(10, draws, np.random.default_rng(2))
    names = {"coverage": "Covers, %", "size": "One-sided size, %"}
    found = {seeds: rates(made.on(range(seeds))) for seeds in (2, 3, 5, 10)}
    rows = [
        {"Seeds": seeds} | {title: f"{own[name]:.1f}" for name, title in names.items()}
        for seeds, own in found.items()
    ]
    return pd.DataFrame(rows)


def _range(values) -> str:
    if not len(values):
        return "\N{EN DASH}"
    return f"{min(values):.1f} to {max(values):.1f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=8000, help="simulated experiments per row")
    draws = parser.parse_args().draws
    for made in (table(draws), length_controlled_table(draws // 4), harsh(draws)):
        print(made.to_markdown(index=False, disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    main()
