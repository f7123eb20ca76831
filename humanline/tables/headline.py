"""The headline tables and the learning curves, as data frames made from run directories.

Every function takes runs as pairs (cell, directory) and groups them by variant. The base model is
first; the others keep their order. Variants may have different seeds: each figure is a mean over a
variant's own, and two variants are compared on the seeds that both have. All runs of a seed need
the same prompts; otherwise a `ConfigError` names the file. Win rates and Pass@1 are in per cent.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from humanline.files.validation import pick
from humanline.study.experiments import Table
from humanline.study.tasks import find_task, scoring_of, title_of
from humanline.tables.estimates import (
    cells_of,
    columns,
    compared_p_value,
    comparison,
    final_pass_at_1,
    length_controlled,
    mean_seconds,
    most_seeds,
    plain_of,
    raw_win_rate,
    scores_on,
)
from humanline.tables.run_results import Graded, RunFolder, by_variant, read_graded, read_judged
from humanline.tables.statistics.inference import Alternative, estimate
from humanline.tables.statistics.scores import difference, log_ratio

_END_OF_A_SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z])")
_HOW = (
    "Scale: {scale}. Seeds: {seeds}; a row with fewer is exploratory. A figure is the mean over its"
    " row's seeds, and a comparison is over the seeds that both rows have; {prompts}."
)
_P_VALUES = (
    "p-values, here or in the CSV: t-tests of the same comparisons, one-sided for"
    " 'beats', two-sided for 'differs', not corrected for their number; those of claims.md are"
    " corrected. A row with fewer seeds has none."
)
_PROMPTS = {
    False: "each seed has evaluation prompts of its own",
    True: "all seeds share their evaluation prompts, whose variance is added",
}
_SECONDS = (
    "Training: wall-clock seconds. They include online sampling, but not the sampling of offline"
    " data, which is done once per seed."
)
_JUDGED_NOTICES = (
    "Left out: pairs without a verdict of the judge, over all seeds; a pair is left out of its own"
    " run alone. LC warnings: seeds whose LC win rate may mislead; the run's metrics.json says why."
)
_BRACKETS = "Brackets: 95 % t intervals over seeds."
# Headline tables by way of scoring, then the other views: a sentence of the caption, and notes.
_EXPLAINED: dict[str, tuple[str, tuple[str, ...]]] = {
    "judge": (
        "Length-controlled (LC) win rate against the baseline, in per cent, and its ratios to plain"
        " offline and plain online training of the same objective.",
        (
            "Ratios are geometric means over seeds; a rate below half a prompt counts as half a"
            " prompt. LC win rates follow AlpacaEval's formula. It uses the difficulties of the"
            " instructions if all are AlpacaEval's; otherwise it is without them, and without the"
            " penalty of AlpacaEval's implementation. The figures of that implementation are in the"
            " CSV.",
            "Length: characters of an answer.",
        ),
    ),
    "grade": (
        "Pass@1 after the last optimizer step, in per cent, and its difference to plain online"
        " training, in percentage points.",
        (
            "Plain: without humanline; 'beats plain' compares with the plain run that samples"
            " equally often.",
            "Catches up: the first evaluated step at which the mean over seeds reaches the final"
            " mean of plain online training.",
            _SECONDS,
        ),
    ),
    "sweep": (
        "Score: {scores}, in per cent; differences, in percentage points, are to plain offline and"
        " plain online training of the same objective and base model.",
        (
            "Plain training is on all of its own data; plain online training samples as often as is"
            " usual for the task. Learning rates were tuned for the row or taken from the nearest"
            " tuned row, which is a handicap; the columns learning_rate and rate_of of the CSV say"
            " which.",
            "Log-prob.: of a token of the offline data under the initial model, on average.",
            "Unclipped: share of tokens that pass a gradient, mean over training.",
            "Collapsed: seeds whose score is below {collapse_below} times their base model's; this"
            " rule was set before the runs.",
        ),
    ),
    "cost": (
        "Seconds of training, and their ratio to plain online training of the same objective.",
        (
            f"{_SECONDS} Ratios are geometric means. The jobs ran side by side, which affects their"
            " timings.",
            "Speed-up: the seconds of plain online training divided by the seconds until the first"
            " evaluated step at which the mean score over seeds reaches the final mean of plain"
            " online training; a dash: it never does.",
            "Sampling: its share of the seconds.",
            "Memory: the peak, of the GPU, or of the process if there is no GPU.",
        ),
    ),
}


def explained(table: Table, **values: object) -> tuple[str, list[str]]:
    """Explain a table: its contents, its units, and how intervals and tests were made.

    Args:
        table: the table; its description comes first. It is plain text, so its braces stay.
        values: scale, seeds (their number), shares_prompts (whether all seeds have the same
            prompts) and collapse_below (a share, 0 to 1).

    Returns:
        The caption, of three sentences at most, and notes, which are what else a reader must know.
    """
    kind = find_task(table.task).scoring if table.view == "headline" else table.view
    sentence, notes = pick("table", kind, _EXPLAINED)
    values |= {"scores": _scores(table.tasks)}
    values["prompts"] = _PROMPTS[bool(values.pop("shares_prompts"))]
    first, *more = _END_OF_A_SENTENCE.split(" ".join(table.description.split()))
    told = [" ".join(more), *(text.format(**values) for text in (_HOW, *notes))]
    if table.view != "cost":
        told += _notices(table.tasks)
        told += [_P_VALUES] * (not table.exploratory)
    return " ".join([first, sentence.format(**values), _BRACKETS]), list(filter(None, told))


def _scores(tasks: list[str]) -> str:
    """Name the scores of some tasks."""
    titles: dict[str, list[str]] = {}
    for task in tasks:
        titles.setdefault(scoring_of(task).score, []).append(title_of(task))
    return ", ".join(f"{score} of {' and '.join(own)}" for score, own in titles.items())


def _notices(tasks: list[str]) -> list[str]:
    """Explain the outcomes that tables count."""
    found = [find_task(task) for task in tasks]
    sentences = [_JUDGED_NOTICES] * any(task.scoring == "judge" for task in found)
    sentences += [notice.text for task in found for notice in task.notices]
    return list(dict.fromkeys(sentences))


def headline_table(task: str, runs: Sequence[RunFolder], *, shares_prompts: bool) -> pd.DataFrame:
    """Make a task's headline table: win rates if a judge scores it, Pass@1 if it is graded.

    Args:
        task: the task's name.
        runs: the table's cells with the folders of their runs.
        shares_prompts: whether all seeds have the same evaluation prompts.

    Raises:
        ConfigError: if a run's file is missing, damaged or of other prompts.
    """
    kinds = {"judge": win_rate_table, "grade": pass_at_1_table}
    return pick("scoring", find_task(task).scoring, kinds)(runs, shares_prompts=shares_prompts)


def win_rate_table(runs: Sequence[RunFolder], *, shares_prompts: bool) -> pd.DataFrame:
    """Make a table of every variant's win rates, compared with its objective's plain runs.

    The length-controlled win rate is fitted without alpaca_eval's penalty, which pulls it towards
    50 per cent if there are few prompts. alpaca_eval's own figure has a column, too.
    """
    variants = by_variant(runs)
    judged = read_judged(variants)
    raw, controlled = (
        {
            name: scores_on(cells_of(variants[name]), group, rate, shares_prompts=shares_prompts)
            for name, group in judged.items()
        }
        for rate in (raw_win_rate, length_controlled)
    )
    plain, most = plain_of(variants), most_seeds(controlled)

    def p_value(name: str, other: str | None, alternative: Alternative) -> float:
        return compared_p_value(log_ratio, controlled, name, other, alternative, most)

    rows = []
    for name, group in judged.items():
        cell = variants[name][0][0]
        offline, online = plain(cell, "offline"), plain(cell, "online")
        rows.append(
            {
                "objective": cell.objective,
                "data": cell.data,
                "humanline": cell.humanline,
                "k": cell.sync_interval,
                "seeds": len(group),
                **columns("win_rate", raw[name], interval=False),
                **columns("length_controlled_win_rate", controlled[name]),
                **comparison("ratio_to_offline", log_ratio, controlled, name, offline),
                **comparison("ratio_to_online", log_ratio, controlled, name, online),
                "p_beats_offline": p_value(name, offline, "greater"),
                "p_differs_from_online": p_value(name, online, "two-sided"),
                "left_out": sum(run.left_out for run in group),
                "length_control_warnings": sum(bool(run.length_control_warning) for run in group),
                "mean_length": np.mean([run.mean_length for run in group]),
                "training_seconds": mean_seconds(variants[name]),
                "alpaca_eval_lc_win_rate": np.mean([r.alpaca_eval_lc_win_rate for r in group]),
                "variant": name,
            }
        )
    return pd.DataFrame(rows).astype({"k": "Int64"})


def pass_at_1_table(runs: Sequence[RunFolder], *, shares_prompts: bool) -> pd.DataFrame:
    """Make a table of every variant's Pass@1 after its last step, compared with plain online runs.

    A humanline variant is also compared with the plain variant that samples equally often.
    """
    variants = by_variant(runs)
    graded = read_graded(variants, whole_curves=True)
    curves = {name: _curves(variants[name], group) for name, group in graded.items()}
    scores = {
        name: scores_on(
            cells_of(variants[name]), group, final_pass_at_1, shares_prompts=shares_prompts
        )
        for name, group in graded.items()
    }
    plain, most = plain_of(variants), most_seeds(scores)

    rows = []
    for name, group in graded.items():
        cell = variants[name][0][0]
        online = plain(cell, "online")
        same = plain(cell, cell.data, cell.sample_every)
        rows.append(
            {
                "objective": cell.objective,
                "data": cell.data,
                "sample_every": cell.sample_every,
                "humanline": cell.humanline,
                "k": cell.sync_interval,
                "seeds": len(group),
                "steps": group[0].correct.index[-1],
                **columns("pass_at_1", scores[name]),
                **{name: sum(r.notices[name] for r in group) for name in group[0].notices},
                **comparison("difference_to_online", difference, scores, name, online),
                "p_differs_from_online": compared_p_value(
                    difference, scores, name, online, "two-sided", most
                ),
                "p_beats_plain": compared_p_value(difference, scores, name, same, "greater", most),
                "steps_to_online": _first_step(curves[name], curves[online]) if online else None,
                "training_seconds": mean_seconds(variants[name]),
                "variant": name,
            }
        )
    counts = ("sample_every", "k", "steps_to_online")
    return pd.DataFrame(rows).astype(dict.fromkeys(counts, "Int64"))


def _curves(runs: list[RunFolder], graded: list[Graded]) -> pd.DataFrame:
    """Return Pass@1 (0 to 1) of a variant's runs: seeds by optimizer steps."""
    found = {
        cell.seed: run.correct.mean(axis=1) for (cell, _), run in zip(runs, graded, strict=True)
    }
    return pd.DataFrame.from_dict(found, orient="index")


def _first_step(own: pd.DataFrame, online: pd.DataFrame) -> int | None:
    """Return the first step whose mean reaches online training's final mean; None if none does."""
    seeds = own.index.intersection(online.index)
    curve, goal = own.loc[seeds].mean(), online.loc[seeds].mean().iloc[-1]
    reached = curve.index[curve >= goal]
    return int(reached[0]) if len(reached) else None


def learning_curves(runs: Sequence[RunFolder], *, shares_prompts: bool) -> pd.DataFrame:
    """Make the learning curves: Pass@1 by trained variant, seed and evaluated optimizer step.

    Returns:
        Columns variant, seed, step, pass_at_1, and mean, low and high: the mean over seeds and its
        95 % interval, the same in all rows of a variant and step. Step 0 is the seed's base model.
    """
    variants = by_variant(runs)
    graded = read_graded(variants, whole_curves=True)
    base = {
        cell.seed: run for (cell, _), run in zip(variants["base"], graded.pop("base"), strict=True)
    }
    rows = []
    for name, group in graded.items():
        cells = cells_of(variants[name])
        curves = [
            pd.concat([base[cell.seed].correct, run.correct])
            for cell, run in zip(cells, group, strict=True)
        ]
        for step in curves[0].index:
            at_step = [Graded(curve.loc[[step]], {}) for curve in curves]
            scores = scores_on(cells, at_step, final_pass_at_1, shares_prompts=shares_prompts)
            found = estimate(scores.itself)
            for seed, value in zip(scores.seeds, scores.values, strict=True):
                rows.append((name, seed, step, value, found.value, found.low, found.high))
    names = ["variant", "seed", "step", "pass_at_1", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=names)
