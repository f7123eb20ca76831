"""The part of the page that shows what the models wrote: prompts, outputs and their scores."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2.utils import htmlsafe_json_dumps

from humanline.files.json_files import parse_json
from humanline.files.seals import require_seal
from humanline.files.typed_files import read_columns
from humanline.files.validation import ConfigError, pick
from humanline.report.page.text import LIMIT, shown
from humanline.scoring.rewards import load_reward
from humanline.scoring.score_files import grades_of
from humanline.study.runs.requests import PageRequest, TableRequest
from humanline.study.runs.resolved import Run
from humanline.study.scale.rewards import EnglishProxyReward, ProxyReward
from humanline.study.tasks import find_task
from humanline.study.words import rows_in_words

PROMPTS = 200  # on the whole page
OUTPUTS = 8_000  # on the whole page; tables of very many cells have fewer prompts
BUDGET = 1_600_000  # bytes of text on the whole page
AGAIN = "generate and score that run again"


def context(request: PageRequest) -> dict:
    """Make the variables of the template: ``rule``, a sentence, and ``data``."""
    tables = _tables(request)
    groups = [
        _group(table, PROMPTS // len(tables) + (number < PROMPTS % len(tables)), len(tables))
        for number, table in enumerate(tables)
    ]
    limit = _limit(groups)
    data = {"groups": [_readable(group, limit) for group in groups], "limit": limit}
    return {"rule": rule(groups) if groups else None, "data": data if groups else None}


def _tables(request: PageRequest) -> list[TableRequest]:
    """Choose the tables whose outputs are shown: the headline tables.

    If some tables are not made yet, or none is one, it is all tables with runs that no table before
    them has.
    """
    tables = [table for table in request.tables if table.spec.view == "headline" and table.runs]
    if tables and not request.not_made:
        return tables
    known = {(run.cell.task, run.name) for table in tables for run in table.runs}
    to_make = request.not_made.tables if request.not_made else []
    others = [own for own in (*to_make, *request.tables) if own not in tables]
    for table in sorted(others, key=lambda own: own.spec.view != "headline"):
        for task in table.spec.tasks:
            runs = [run for run in table.runs if run.cell.task == task]
            names = {(task, run.name) for run in runs}
            if names - known:
                tables.append(replace(table, runs=runs))
            known |= names
    return tables


def rule(groups: Sequence[dict]) -> str:
    """Say how the prompts of some groups were chosen."""
    counts = "; ".join(
        f"{group['title']}: {len(group['prompts'])} of {group['total']:,}, seed {group['seed']}"
        for group in groups
    )
    return (
        f"At most {PROMPTS} prompts, the same number for each table, spaced evenly over"
        " the evaluation prompts of the first seed that all cells of the table have: nobody picked"
        f" them. The outputs are those of the last checkpoint. {counts}."
    )


def _group(table: TableRequest, wanted: int, tables: int) -> dict:
    """Collect the samples of one of some tables: its cells, and the prompts with all outputs."""
    runs = _runs(table)
    wanted = min(wanted, max(1, OUTPUTS // tables // len(runs)))
    first, task = runs[0], find_task(runs[0].cell.task)
    samples = [_last_step(run) for run in runs]
    for run, own in zip(runs, samples, strict=True):
        if [row["prompt"] for row in own] != [row["prompt"] for row in samples[0]]:
            where = f"{run.paths.samples}: field prompt"
            raise ConfigError(f"{where}: not as in {first.paths.samples}; {AGAIN}")
    total = len(samples[0])
    chosen = (
        [place * total // wanted for place in range(wanted)] if total > wanted else [*range(total)]
    )
    score = pick("scoring", task.scoring, {"judge": _judged, "grade": _graded})
    columns = [score(run, [own[i] for i in chosen]) for run, own in zip(runs, samples, strict=True)]
    words, above = rows_in_words([run.cell for run in runs])
    return {
        "title": table.name.replace("_", " "),
        "scoring": task.scoring,
        "outcomes": [outcome.replace("_", " ") for outcome in task.outcomes],
        "reward": getattr(first.reward, "repo", None) or first.reward.kind,
        "seed": first.cell.seed,
        "total": total,
        "cells": words,
        "first": _first([run.cell.objective for run in runs]),
        "above": [f"{title}: {value}" for title, value in above.items()],
        "runs": [f"{run.cell.task}/{run.name}" for run in runs],
        "prompts": _prompts(first, [samples[0][i] for i in chosen], columns, chosen),
    }


def _first(objectives: Sequence[str]) -> list[int]:
    """Choose the cells that are shown at first: the base model and those of the last objective."""
    return [place for place, own in enumerate(objectives) if own in ("base", objectives[-1])]


def _runs(table: TableRequest) -> list[Run]:
    """List a table's runs on the first seed that all of its cells have, else on its first seed."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for run in table.runs:
        seeds.setdefault((run.cell.task, run.cell.variant), set()).add(run.cell.seed)
    seed = min(set.intersection(*seeds.values()) or set.union(*seeds.values()))
    return [run for run in table.runs if run.cell.seed == seed]


def _prompts(run: Run, rows: list[dict], columns: list[list], numbers: list[int]) -> list[dict]:
    """Join prompts, what their data say of them, and the outputs of every cell."""
    task = find_task(run.cell.task)
    in_words = task.prompt_words if run.data.kind == "miniature" else None
    gold = "reference" if "reference" in rows[0] else "answer"
    nothing: list[None] = [None] * len(rows)
    proxy = _proxy(run, rows, gold) or nothing
    return [
        {
            "number": number,
            "prompt": row["prompt"],
            "wishes": in_words(row["prompt"]) if in_words else [],
            "gold": row[gold],
            "proxy": score,
            "outputs": list(outputs),
        }
        for number, row, score, *outputs in zip(numbers, rows, proxy, *columns, strict=True)
    ]


def _last_step(run: Run) -> list[dict]:
    """Read the samples of a run's last evaluated step, in the order of the prompts.

    What is no character becomes a visible mark: the page shows whatever a model wrote.
    """
    path = run.paths.samples
    steps: dict[int, list[dict]] = {}
    kinds = {"step": int, "prompt_id": int, "prompt": str, "completion": str}
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        row = parse_json(path, line, number)
        if not isinstance(row, dict):
            raise ConfigError(f"{path}: line {number}: not an object; {AGAIN}")
        if wrong := [name for name, kind in kinds.items() if not isinstance(row.get(name), kind)]:
            raise ConfigError(f"{path}: line {number}: no {', '.join(sorted(wrong))}; {AGAIN}")
        steps.setdefault(row["step"], []).append({name: _whole(v) for name, v in row.items()})
    if not steps:
        raise ConfigError(f"{path}: empty; {AGAIN}")
    require_seal(path)
    return steps[max(steps)]


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error}); {AGAIN}") from None


def _whole(value: Any) -> Any:
    """Replace halves of characters, which JSON can hold and no other file."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _judged(run: Run, rows: list[dict]) -> list[dict]:
    """Score outputs by the judge and the proxy.

    Returns:
        For each row ``text``; ``judge``, its preference for the output over the reference, from 0
        to 1, or None; ``proxy``, its score, or None; and ``odd``: whether one of the two finds the
        output better, and the other the reference.
    """
    preferences = _preferences(run.paths.annotations)
    nothing: list[None] = [None] * len(rows)
    own, reference = (_proxy(run, rows, field) or nothing for field in ("completion", "reference"))
    found = []
    for row, score, of_reference in zip(rows, own, reference, strict=True):
        judge = preferences.get(row["prompt"])
        is_odd = False
        if judge is not None and score is not None and of_reference is not None:
            is_odd = (judge - 0.5) * (score - of_reference) < 0
        scores = {"judge": judge, "proxy": score, "odd": is_odd}
        found.append({"text": row["completion"], **scores})
    return found


def _preferences(path: Path) -> dict[str, float | None]:
    """Read the judge's preferences for a run's outputs by prompt, from 0 to 1; None: no verdict."""
    try:
        found = {_whole(row["instruction"]): row["preference"] for row in json.loads(_text(path))}
        known = {prompt: None if p is None else float(p) - 1 for prompt, p in found.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not annotations ({error!r}); {AGAIN}") from None
    require_seal(path)
    return {prompt: None if p is None or math.isnan(p) else p for prompt, p in known.items()}


def _proxy(run: Run, rows: list[dict], field: str) -> list[float] | None:
    """Score texts as training does; None if that takes a model, or code of the user's."""
    if not isinstance(run.reward, ProxyReward | EnglishProxyReward):
        return None
    prompts, texts = [row["prompt"] for row in rows], [row[field] for row in rows]
    return load_reward(run.reward, run.cell.task)(prompts, texts, [None] * len(rows))


def _graded(run: Run, rows: list[dict]) -> list[dict]:
    """Read the grading of outputs.

    Returns:
        For each row ``text``; ``outcome``, its place among the task's outcomes, or None; and
        ``odd``: whether it is no success.
    """
    outcomes = find_task(run.cell.task).outcomes
    grades = read_columns(run.paths.grades, grades_of(run.cell.task))
    last = grades[grades["step"] == grades["step"].max()]
    # Older files have no outcomes.
    names = last.get("outcome", last["correct"].map({1: outcomes[0], 0: outcomes[1]}))
    places = dict(zip(last["problem_id"].astype(int), map(outcomes.index, names), strict=True))
    found = [places.get(row["prompt_id"]) for row in rows]
    return [
        {"text": row["completion"], "outcome": place, "odd": place != 0}
        for row, place in zip(rows, found, strict=True)
    ]


def _limit(groups: Sequence[dict]) -> int:
    """Find how many characters of each text the page has room for: at most `LIMIT`."""
    texts = [text for group in groups for row in group["prompts"] for text in _texts(row)]
    limit = LIMIT
    while limit > 100 and sum(_size(shown(text, limit)) for text in texts) > BUDGET:
        limit //= 2
    return limit


def _size(text: str) -> int:
    """Count the bytes of a text on the page, where some characters have six."""
    return len(htmlsafe_json_dumps(text, ensure_ascii=False).encode())


def _texts(row: dict) -> list[str]:
    return [row["prompt"], row["gold"], *(output["text"] for output in row["outputs"])]


def _readable(content: Any, limit: int) -> Any:
    """Make all texts in a group readable and short, and all scores short."""
    match content:
        case dict():
            return {name: _readable(value, limit) for name, value in content.items()}
        case list():
            return [_readable(value, limit) for value in content]
        case str():
            return shown(content, limit)
        case float():
            return float(f"{content:.3g}")
    return content
