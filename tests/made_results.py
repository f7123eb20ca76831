"""A folder of results that no model made: the files that the page reads."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from humanline.study.runs.requests import ClaimsRequest, PageRequest, TableRequest
from humanline.study.runs.resolved import Run
from humanline.study.study import Study, load_study
from humanline.study.tasks import find_task
from humanline.tables.claims import claim_table, comparison_table
from humanline.tables.statistics.scores import Scores

CONFIG = Path(__file__).parents[1] / "workflow" / "config"
PROMPTS = 12
COMMIT = "0123456789abcdef"
# Columns of wide tables, by view: the range of their values, and whether they have an interval.
COLUMNS = {
    "judge": {
        "length_controlled_win_rate": (20, 75, True),
        "ratio_to_offline": (0.5, 2, True),
        "ratio_to_online": (0.5, 2, True),
        "win_rate": (20, 75, False),
        "mean_length": (1500, 2500, False),
    },
    "grade": {
        "pass_at_1": (30, 80, True),
        "difference_to_online": (-30, 30, True),
        "p_beats_plain": (0, 1, False),
        "steps_to_online": (8, 128, False),
        "training_seconds": (8, 4000, False),
    },
    "sweep": {
        "score": (20, 75, True),
        "difference_to_offline": (-40, 40, True),
        "difference_to_online": (-40, 40, True),
        "unclipped": (0.7, 1, False),
        "data_log_probability": (-3, -1, False),
    },
    "cost": {
        "score": (20, 75, False),
        "training_seconds": (8, 4000, False),
        "ratio_of_seconds": (0.5, 2, True),
        "sampling_share": (0, 0.6, False),
        "peak_memory_mib": (800, 90_000, False),
        "speed_up": (0.5, 10, False),
    },
}
FIGURE = """\
<?xml version="1.0" encoding="utf-8" standalone="no"?>
<svg xmlns="http://www.w3.org/2000/svg" width="374pt" height="30pt" viewBox="0 0 374 30">
 <defs><clipPath id="p1"><rect x="0" y="0" width="374" height="30"/></clipPath></defs>
 <path id="line_1" d="M 0 0 L 374 30" clip-path="url(#p1)" style="stroke: #0072b2"/>
 <text x="10" y="20" style="font: 10px sans-serif">online, sampled every step</text>
</svg>
"""


def made_study(root: Path, scale: str = "smoke") -> Study:
    """The study of a scale, with its results in a folder."""
    return load_study(CONFIG / f"{scale}.yaml", CONFIG / "experiments.yaml", root)


def make_results(
    study: Study, written: Callable[[Run, int, str], str] | None = None
) -> PageRequest:
    """Write the files of all runs, and ask for their page.

    Args:
        study: the study.
        written: (run, number of the prompt, an expert's completion) -> the run's completion.
    """
    request = study.page_request(CONFIG)
    for run in request.runs:
        _write_samples(run, written or (lambda run, number, text: text))
        write_training(run)
    write_scores(request)
    write_tables(request)
    if request.claims:
        write_claims(request.claims)
    return request


def _write_samples(run: Run, written: Callable[[Run, int, str], str]) -> None:
    task, rng = find_task(run.cell.task), random.Random(run.name)
    drawn = {row["prompt"]: row for row in task.draw_prompts(2 * PROMPTS, run.cell.seed)}
    rows = [
        {
            "step": 8,
            "prompt_id": number,
            **row,
            "completion": written(run, number, task.write_completion(row["prompt"], rng, 0.5)),
        }
        for number, row in enumerate([*drawn.values()][:PROMPTS])
    ]
    run.paths.directory.mkdir(parents=True, exist_ok=True)
    run.paths.samples.write_bytes(b"".join(map(_line, rows)))
    if task.scoring == "grade":
        outcomes = [rng.choice(task.outcomes) for _ in rows]
        lines = [f"8,{i},0,{int(o == task.outcomes[0])},{o}" for i, o in enumerate(outcomes)]
        run.paths.grades.write_text(
            "\n".join(["step,problem_id,sample,correct,outcome", *lines, ""])
        )
        return
    annotations = [
        {"instruction": row["prompt"], "output_1": row["reference"], "preference": 1 + rng.random()}
        | {"output_2": "of some length" * (1 + place % 3)}
        for place, row in enumerate(rows)
    ]
    run.paths.annotations.write_text(json.dumps(annotations))
    rates = {"win_rate": 50, "length_controlled_winrate": 50, "avg_length": 28}
    run.paths.summary.write_text(json.dumps(rates))
    run.paths.curve.write_text("step,length_controlled_win_rate\n8,50\n")


def _line(row: dict) -> bytes:
    """A row as JSON; a text with `surrogateescape` has the bytes that it was read from."""
    has_bytes = any(0xDC80 <= ord(c) <= 0xDCFF for c in row["completion"])
    text = json.dumps(row, ensure_ascii=not has_bytes)
    return text.encode("utf-8", "surrogateescape") + b"\n"


def write_training(run: Run) -> None:
    """Write the record and the log of a run's training, if it is trained."""
    if not run.is_trained:
        return
    record = {
        "seconds": {"total": 9.5, "sample": 1.25},
        "manifest": run.hashes.manifest,
        "provenance": {
            "git": {"commit": COMMIT, "modified": False},
            "packages": {"trl": "1.16.0"},
            "machine": {"processor": "a processor", "cores": 2},
        },
    }
    names = ["loss", *(f"humanline/metric_number_{i}" for i in range(24)), "step"]
    values = [f"0.{i}12345678" for i in range(25)]
    rows = [names, [*values, "4"], [*values[:20], *[""] * 5, "8"]]
    run.paths.directory.mkdir(parents=True, exist_ok=True)
    run.paths.record.write_text(json.dumps(record))
    run.paths.log.write_text("".join(",".join(row) + "\n" for row in rows))


def write_scores(request: PageRequest) -> None:
    """Write the table of the scores of all runs."""
    lines = [
        f"{run.cell.task},{run.cell.variant},{run.cell.seed},8,{50 + place / 8},0.75,,12,9.5"
        for place, run in enumerate(request.runs)
    ]
    header = "task,variant,seed,step,score,score_se,curve_mean,n_prompts,training_seconds"
    request.paths.tables.mkdir(parents=True, exist_ok=True)
    (request.paths.tables / "scores.csv").write_text("\n".join([header, *lines, ""]))


def write_claims(asked: ClaimsRequest, level: Callable[[Run], float] | None = None) -> None:
    """Write the tables of the claims, with scores that vary from seed to seed by 2 per cent.

    Args:
        asked: the claims.
        level: (run) -> its score without that.
    """
    found = [comparison for comparison, _ in asked.compared]

    def scores(runs: list[Run]) -> Scores:
        rng = np.random.default_rng([len(runs[0].cell.variant), *(run.cell.seed for run in runs)])
        levels = np.array([level(run) if level else 50 for run in runs])
        values = levels * (1 + rng.normal(0, 0.02, len(runs)))
        return Scores(tuple(run.cell.seed for run in runs), values)

    def values(comparison):
        return [(scores(one), scores(other)) for one, other in asked.pairs(comparison)]

    compared = comparison_table(asked.claims, found, values, asked.added)
    columns = ["seeds_to_decide", "seeds_to_decide_low", "seeds_to_decide_high"]
    compared[columns] = math.nan  # which would take long to compute
    asked.paths.tables.mkdir(parents=True, exist_ok=True)
    compared.to_csv(asked.paths.tables / "comparisons.csv", index=False)
    claim_table(asked.claims, compared).to_csv(asked.paths.tables / "claims.csv", index=False)


def with_many_cells(study: Study, request: PageRequest, count: int) -> PageRequest:
    """Add cells with other learning rates to a request and a table, and write their files."""
    place, cell = next(
        (place, run.cell)
        for place, table in enumerate(request.tables)
        if table.spec.view == "sweep"
        for run in table.runs
        if run.is_trained
    )
    rates = [{"learning_rate": 1e-4 + 1e-8 * number} for number in range(count - len(request.runs))]
    more = [study.resolve(cell.model_copy(update={"overrides": rate})) for rate in rates]
    for run in more:
        write_training(run)
    tables = list(request.tables)
    tables[place] = replace(tables[place], runs=[*tables[place].runs, *more])
    found = replace(request, runs=[*request.runs, *more], tables=tables)
    write_scores(found)
    write_tables(found)
    return found


def write_tables(request: PageRequest) -> None:
    """Write the tables with made-up figures, and their learning curves."""
    for table in request.tables:
        path = table.paths.tables / f"{table.name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        wide_table(table).to_csv(path, index=False)
        for suffix in ("md", "tex", "provenance.json"):
            path.with_suffix(f".{suffix}").write_text("")
        if table.spec.has_curves:
            (path.parent / f"{table.name}_curves.svg").write_text(FIGURE)


def wide_table(table: TableRequest) -> pd.DataFrame:
    """A wide table with made-up figures; seeds as the cells have them."""
    seeds = pd.Series([(run.cell.task, run.cell.variant) for run in table.runs]).value_counts()
    cells = {(run.cell.task, run.cell.variant): run.cell for run in table.runs}
    if table.spec.view == "cost":
        cells = {key: cell for key, cell in cells.items() if cell.objective != "base"}
    frame = pd.DataFrame(
        [
            {"task": task, "objective": cell.objective, "seeds": seeds[task, variant]}
            | {"variant": variant, "steps": 128, "collapsed": 0}
            for (task, variant), cell in cells.items()
        ]
    )
    spec, rng = table.spec, np.random.default_rng(1)
    kind = find_task(spec.tasks[0]).scoring if spec.view == "headline" else spec.view
    for name, (low, high, has_interval) in COLUMNS[kind].items():
        frame[name] = rng.uniform(low, high, len(frame))
        if has_interval:
            ends = frame[name] - 2.5, frame[name] + 2.5
            if name.startswith("ratio"):
                ends = frame[name] / 1.1, frame[name] * 1.1
            frame[f"{name}_low"], frame[f"{name}_high"] = ends
    return frame
