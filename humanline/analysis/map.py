"""The map: where offline training reaches online training, and which measures predict it."""

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from humanline.data.training_files import Predictors
from humanline.files.json_files import write_text
from humanline.files.typed_files import csv_text, read_record
from humanline.report.plots import figure_files, plot_map
from humanline.study.experiments import Cell
from humanline.study.runs.resolved import Run
from humanline.tables.run_results import scores

PREDICTORS = (
    "mean_token_log_probability",
    "unclipped",
    "distance_gains",
    "distance_losses",
    "unclipped_chosen",
    "unclipped_rejected",
    "log_ratio_chosen",
    "log_ratio_rejected",
)
USUAL = "default"  # the task's own base model, as tables name it
ALL = "all"


def make_map(pairs: list[tuple[Run, Run]], folder: Path, *, scale: str) -> None:
    """Write the map of all exploratory offline runs: map.csv, correlations.csv, and the figure.

    Args:
        pairs: each offline run with the online run to compare it with.
        folder: where to write.
        scale: the scale's name, for the notes.

    Raises:
        ConfigError: if a run's scores or predictors are missing or damaged.
    """
    paths = {(run.cell.task, run.name): run.paths for pair in pairs for run in pair}

    def score(cell: Cell) -> float:
        return list(scores(cell, paths[cell.task, cell.name].directory).values())[-1]

    def measured(cell: Cell) -> dict:
        return read_record(paths[cell.task, cell.name].predictors, Predictors).model_dump()

    frame = map_frame([(run.cell, online.cell) for run, online in pairs], score, measured)
    ranks = rank_correlations(frame)
    write_text(folder / "map.csv", csv_text(frame))
    write_text(folder / "correlations.csv", csv_text(by_objective(frame)))
    plot_map(frame, ranks, *figure_files(folder / "map"), scale=scale)


def map_frame(
    pairs: list[tuple[Cell, Cell]],
    score: Callable[[Cell], float],
    measured: Callable[[Cell], dict],
) -> pd.DataFrame:
    """Make a table with a row per offline run and the plain online run to compare it with.

    Args:
        pairs: cells of the offline and the online run.
        score: returns a run's score in per cent.
        measured: returns the quantities that `predictors.measure` wrote for a run.

    Returns:
        Columns task, variant, seed, base_model, objective, method, score, online (the online run's
        score), share (score / online; NaN if online is 0), and the predictors.
    """
    rows = []
    for cell, online in pairs:
        own, aim = score(cell), score(online)
        rows.append(
            {
                "task": cell.task,
                "variant": cell.variant,
                "seed": cell.seed,
                "base_model": cell.base_model or USUAL,
                "objective": cell.objective,
                "method": "humanline" if cell.humanline else "plain",
                "score": own,
                "online": aim,
                "share": own / aim if aim else math.nan,
                **measured(cell),
            }
        )
    return pd.DataFrame(rows).astype(dict.fromkeys(PREDICTORS, float))


def rank_correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """Correlate every predictor with the share of online training's score (Spearman, by SciPy).

    The correlations are over variants, each the mean of its seeds, for all methods together and for
    each method. The p-values are not corrected, and variants that share a base model are not
    independent. So the p-values only order the predictors; they prove nothing.

    Args:
        frame: the result of `map_frame`.

    Returns:
        Columns method, predictor, variants (their number), rho and p.
    """
    from scipy.stats import spearmanr

    means = frame.groupby(["variant", "method"], as_index=False)[["share", *PREDICTORS]].mean()
    groups = {ALL: means} | dict(tuple(means.groupby("method")))
    rows = []
    for method, group in groups.items():
        for predictor in PREDICTORS:
            known = group[["share", predictor]].dropna()
            if known[predictor].nunique() < 3:
                continue
            rho, p = spearmanr(known["share"], known[predictor])
            rows.append((method, predictor, len(known), rho, p))
    return pd.DataFrame(rows, columns=["method", "predictor", "variants", "rho", "p"])


def by_objective(frame: pd.DataFrame) -> pd.DataFrame:
    """Correlate all runs, then those from the usual base model, together and by objective.

    Base models differ in so much that they can hide what orders the runs of one.

    Args:
        frame: the result of `map_frame`.

    Returns:
        Columns base_model and objective (`all`: not split by it), and those of `rank_correlations`.
    """
    usual = frame[frame["base_model"] == USUAL]
    parts = {(ALL, ALL): frame, (USUAL, ALL): usual}
    parts |= {(USUAL, str(name)): own for name, own in usual.groupby("objective")}
    ranks = {keys: rank_correlations(part) for keys, part in parts.items()}
    return pd.concat(ranks, names=["base_model", "objective"]).reset_index(level=[0, 1])
