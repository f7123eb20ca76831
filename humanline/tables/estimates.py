"""Estimates of variants from their runs, and comparisons of variants, for the tables.

A column named x may have companions: x_se, its standard error, and x_low and x_high, its 95 %
interval. `report.formats` writes such a group as one column.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import numpy as np
import pandas as pd

from humanline.files.validation import pick
from humanline.study.claims import Comparison
from humanline.study.experiments import Cell
from humanline.study.runs.resolved import Run
from humanline.study.tasks import find_task
from humanline.tables.run_results import (
    Graded,
    Judged,
    RunFolder,
    read_graded,
    read_judged,
    scores,
    training_seconds,
)
from humanline.tables.statistics.inference import Alternative, estimate, p_value
from humanline.tables.statistics.scores import GROUPS, Contrast, Scores, log_ratio

Measure = Literal["score", "curve_mean", "training_seconds"]
_WEIGHTS = 2**22  # weights of prompts that are made at once, 32 MiB
# Returns the measures of both cells of each pair of a comparison.
Values = Callable[[Comparison], list[tuple[Scores, Scores]]]
Plain = Callable[..., str | None]  # see `plain_of`


def scores_of(runs: Sequence[Run], measure: Measure = "score") -> Scores:
    """Read a measure of a cell's runs, one for each seed, in rising order of seeds.

    Args:
        runs: resolved runs that differ in their seed alone.
        measure: ``score``: the length-controlled win rate or Pass@1 after the last step, per cent;
            ``curve_mean``: its mean over the evaluated steps of the learning curve without step 0,
            NaN for a run without a curve; ``training_seconds``: NaN for a base model.

    Raises:
        ConfigError: if a run's file is missing or damaged.
    """
    folders = [(run.cell, run.paths.directory) for run in runs]
    shares_prompts = any(run.shares_prompts for run in runs)
    return read_scores(folders, measure, shares_prompts=shares_prompts)


def values_of(pairs: Callable[[Comparison], list[tuple[list[Run], list[Run]]]]) -> Values:
    """Make the function that reads a comparison's measures; every run is read once.

    Args:
        pairs: returns the runs of both cells of each pair of a comparison.
    """
    read: dict[tuple, Scores] = {}

    def scores(runs: list[Run], measure: Measure) -> Scores:
        key = (measure, runs[0].cell.task, *(run.name for run in runs))
        if key not in read:
            read[key] = scores_of(runs, measure)
        return read[key]

    def values(comparison: Comparison) -> list[tuple[Scores, Scores]]:
        measure = comparison.test.measure
        return [(scores(a, measure), scores(b, measure)) for a, b in pairs(comparison)]

    return values


def read_scores(
    runs: Sequence[RunFolder], measure: Measure = "score", *, shares_prompts: bool
) -> Scores:
    """Read a measure of a cell's runs; see `scores_of`.

    Args:
        runs: the cell on each seed, with the folders of its runs.
        measure: as in `scores_of`.
        shares_prompts: whether all seeds have the same evaluation prompts.
    """
    measures = {"score": _final, "curve_mean": _means_of_curves, "training_seconds": _seconds}
    group = sorted(runs, key=lambda run: run[0].seed)
    return pick("measure", measure, measures)(group, shares_prompts)


def _final(group: list[RunFolder], shares_prompts: bool) -> Scores:
    return final_scores({"": group}, shares_prompts=shares_prompts)[""]


def _means_of_curves(group: list[RunFolder], shares_prompts: bool) -> Scores:
    cells = cells_of(group)
    if find_task(cells[0].task).scoring == "grade":
        graded = read_graded({"": group})[""]
        return scores_on(cells, graded, mean_pass_at_1, shares_prompts=shares_prompts)
    final = _final(group, False)
    # A judged run keeps no verdicts of earlier steps: what shared prompts add there is unknown.
    unknown = np.full((len(group), GROUPS), np.nan) if shares_prompts else None
    means = [curve_mean(scores(*run)) for run in group]
    return Scores(final.seeds, np.array(means), unknown, final.floor)


def _seconds(group: list[RunFolder], shares_prompts: bool) -> Scores:
    """Read the seconds of training, which do not depend on the evaluation prompts."""
    seconds = [training_seconds(*run) for run in group]
    return Scores(tuple(cell.seed for cell, _ in group), np.array(seconds))


def curve_mean(curve: Mapping[int, float]) -> float:
    """Average a learning curve (score by step) without step 0; NaN for fewer than two steps."""
    later = [score for step, score in curve.items() if step > 0]
    return float(np.mean(later)) if len(later) > 1 else math.nan


def scores_on(
    cells: Sequence[Cell],
    runs: Sequence[Judged | Graded],
    statistic: Callable[..., np.ndarray],
    *,
    shares_prompts: bool,
) -> Scores:
    """Compute a statistic of runs that differ in their seed alone.

    Args:
        cells: the runs' cells, in rising order of seeds.
        runs: what was read of the runs, each on P prompts in the same order.
        statistic: returns a run's figure, in per cent, of each row of weights of prompts, (R, P).
        shares_prompts: whether all seeds have the same evaluation prompts.
    """
    rows = np.stack([_figures(run, statistic, shares_prompts) for run in runs])
    left_out = rows[:, 1:] if shares_prompts else None
    floor = 50 / min(run.n_prompts for run in runs)
    return Scores(tuple(cell.seed for cell in cells), rows[:, 0], left_out, floor)


def _figures(
    run: Judged | Graded, statistic: Callable[..., np.ndarray], shares_prompts: bool
) -> np.ndarray:
    """Compute a run's figure on all prompts and, for shared prompts, without each group, (R,)."""
    everything = np.ones((1, run.n_prompts))
    if not shares_prompts:
        return statistic(run, everything)
    groups = min(GROUPS, run.n_prompts)
    # By chance, so that a group is no special kind of prompts; the same for all runs of P prompts.
    group = np.random.default_rng(0).permutation(run.n_prompts) % groups
    most = max(1, _WEIGHTS // run.n_prompts)
    if most > groups:
        return statistic(run, np.vstack([everything, group != np.arange(groups)[:, None]]))
    found = [statistic(run, everything)]
    for start in range(0, groups, most):
        left_out = np.arange(start, min(start + most, groups))
        found.append(statistic(run, (group != left_out[:, None]).astype(float)))
    return np.concatenate(found)


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average values (P,) with each row of weights (R, P); nan values are left out."""
    known = ~np.isnan(values)
    return weights[:, known] @ values[known] / weights[:, known].sum(axis=1)


def raw_win_rate(run: Judged, weights: np.ndarray) -> np.ndarray:
    """Compute the win rate, in per cent, of each row of weights (R, P)."""
    return _means(100 * run.win, weights)


def length_controlled(run: Judged, weights: np.ndarray) -> np.ndarray:
    """Compute the length-controlled win rate, in per cent, of each row of weights (R, P)."""
    return 100 * run.length_controlled_replicates(weights)


def final_pass_at_1(run: Graded, weights: np.ndarray) -> np.ndarray:
    """Compute Pass@1 after the last step, in per cent, of each row of weights (R, P)."""
    return _means(100 * run.final, weights)


def mean_pass_at_1(run: Graded, weights: np.ndarray) -> np.ndarray:
    """Compute the mean of Pass@1 over the evaluated steps without step 0, as `final_pass_at_1`."""
    later = run.correct[run.correct.index > 0]
    if len(later) < 2:
        return np.full(len(weights), np.nan)
    return _means(100 * later.mean().to_numpy(), weights)


def final_scores(
    variants: dict[str, list[RunFolder]], *, shares_prompts: bool
) -> dict[str, Scores]:
    """Read the score of every variant of one task after the last step, in per cent.

    Args:
        variants: runs by variant, as `by_variant` returns them.
        shares_prompts: whether all seeds have the same evaluation prompts.

    Raises:
        ConfigError: if a run's file is missing or damaged, or runs of a seed have other prompts.
    """
    cell, _ = next(iter(variants.values()))[0]
    is_graded = find_task(cell.task).scoring == "grade"
    statistic = final_pass_at_1 if is_graded else length_controlled
    read: Mapping[str, Sequence[Judged | Graded]]
    read = read_graded(variants) if is_graded else read_judged(variants)
    return {
        name: scores_on(cells_of(variants[name]), group, statistic, shares_prompts=shares_prompts)
        for name, group in read.items()
    }


def score_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Make the table of every run's score, so that anyone can compute intervals and tests again.

    Args:
        runs: resolved runs; one that is there twice has one row.

    Returns:
        Columns task, variant, seed; step: the last that is evaluated; score, in per cent, and
        score_se: its standard error over the run's prompts alone; curve_mean, in per cent;
        n_prompts; training_seconds. `scores_of` explains the measures.

    Raises:
        ConfigError: if a run's file is missing or damaged.
    """
    cells: dict[tuple[str, str], dict[int, RunFolder]] = {}
    for run in sorted(runs, key=lambda run: run.cell.seed):
        own = cells.setdefault((run.cell.task, run.cell.variant), {})
        own[run.cell.seed] = (run.cell, run.paths.directory)
    rows = []
    for (task, variant), group in cells.items():
        folders = list(group.values())
        # With groups of prompts left out, also where seeds have their own: for the standard error.
        score = read_scores(folders, shares_prompts=True)
        pseudo = cast(np.ndarray, score.itself.pseudo)
        errors = pseudo.std(axis=1, ddof=1) / math.sqrt(pseudo.shape[1])
        for row, (cell, directory) in enumerate(folders):
            curve = scores(cell, directory)
            rows.append(
                {
                    "task": task,
                    "variant": variant,
                    "seed": cell.seed,
                    "step": max(curve),
                    "score": score.values[row],
                    "score_se": errors[row],
                    "curve_mean": curve_mean(curve),
                    "n_prompts": round(50 / score.floor),
                    "training_seconds": training_seconds(cell, directory),
                }
            )
    return pd.DataFrame(rows)


def cells_of(group: list[RunFolder]) -> list[Cell]:
    """Return the cells of runs."""
    return [cell for cell, _ in group]


def plain_of(variants: dict[str, list[RunFolder]]) -> Plain:
    """Make the function that finds the plain variant to compare a cell with.

    Plain means: no humanline, no trust region, all data of its own base model, no overrides. It has
    the cell's objective and base model, and trains the same weights: the whole model, or the same
    LoRA.

    Args:
        variants: runs by variant.

    Returns:
        A function of a cell, its data (offline or online) and the steps between samplings; None
        takes the variant that samples most often. It returns the variant's name, or None if the
        table lacks it.
    """
    # A row asks for one, so the variants are gone through once and not again for each row.
    known: dict[tuple, dict[int | None, str]] = {}
    for name, ((cell, _), *_) in variants.items():
        wanted = Cell(
            task=cell.task,
            base_model=cell.base_model,
            objective=cell.objective,
            data=cell.data,
            sample_every=cell.sample_every,
            lora=cell.lora and cell.lora.model_copy(update={"reference": None}),
            seed=cell.seed,
        )
        if cell == wanted:
            known.setdefault(_kind(cell, cell.data), {})[cell.sample_every] = name

    def plain(cell: Cell, data: str | None, sample_every: int | None = None) -> str | None:
        found = known.get(_kind(cell, data), {})
        if sample_every is not None:
            return found.get(sample_every)
        return found[min(found, key=lambda every: every or 0)] if found else None

    return plain


def _kind(cell: Cell, data: str | None) -> tuple:
    """Return what plain variants with another interval of sampling have in common."""
    lora = cell.lora and (cell.lora.r, cell.lora.alpha)
    return cell.task, cell.base_model, cell.objective, data, lora


def columns(name: str, scores: Scores, *, interval: bool = True) -> dict[str, float]:
    """Write a mean over seeds as columns: `name`, its standard error, and on request its bounds."""
    found = estimate(scores.itself)
    row = {name: found.value, f"{name}_se": found.standard_error}
    if interval:
        row |= {f"{name}_low": found.low, f"{name}_high": found.high}
    return row


Compare = Callable[[Scores, Scores], Contrast]  # `difference` or `log_ratio`


def comparison(
    column: str, compare: Compare, scores: dict[str, Scores], name: str, other: str | None
) -> dict[str, float]:
    """Compare two variants on the seeds that both have: a column and its 95 % interval.

    Args:
        column: the column's name.
        compare: `difference`, or `log_ratio`: the column is then the ratio of geometric means.
        scores: the scores by variant.
        name, other: the two variants. All values are NaN without `other`; a variant compared with
            itself has no interval.
    """
    value, low, high = (math.nan,) * 3
    if other is not None:
        found = estimate(compare(scores[name], scores[other]))
        is_ratio = compare is log_ratio
        value, low, high = found.exponential if is_ratio else (found.value, found.low, found.high)
    if other == name:
        low, high = math.nan, math.nan
    return {column: value, f"{column}_low": low, f"{column}_high": high}


def compared_p_value(
    compare: Compare,
    scores: dict[str, Scores],
    name: str,
    other: str | None,
    alternative: Alternative,
    most: int,
) -> float:
    """Test the comparison of two variants against no difference.

    Args:
        compare, scores, name, other: as for `comparison`.
        alternative: as for `p_value`.
        most: the most seeds of a row; see `most_seeds`.

    Returns:
        The p-value; NaN without another variant, and if the two have fewer common seeds than other
        rows of the table have: these are explored, so their intervals must do.
    """
    if other is None or other == name:
        return math.nan
    contrast = compare(scores[name], scores[other])
    return p_value(contrast, alternative=alternative) if len(contrast.seeds) >= most else math.nan


def most_seeds(scores: Mapping[str, Scores]) -> int:
    """Count the seeds of the variant that has most."""
    return max(len(each.seeds) for each in scores.values())


def mean_seconds(group: list[RunFolder]) -> float:
    """Average a variant's wall-clock seconds of training over seeds; NaN for a base model."""
    return float(np.mean([training_seconds(cell, directory) for cell, directory in group]))
