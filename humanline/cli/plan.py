"""The plan of a scale from its configuration: time, memory, tokens, dollars and disk.

Nothing is run. The scale's `plan` has the assumptions, which are printed with the result.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from pydantic import BaseModel

from humanline.cli.jobs import Job, jobs
from humanline.cli.planning.hours import (
    hours,
    jobs_of_limited,
    minutes,
    name_of_limited,
    seconds_taken,
    spans,
)
from humanline.cli.planning.memory import (
    WEIGHTS,
    largest,
    other_memory,
    peaks_taken,
    training_memory,
    vllm_memory,
)
from humanline.files.validation import ConfigError
from humanline.study.study import Study
from humanline.study.study_cells import TARGETS
from humanline.tables.power import weigh


def describe(study: Study) -> str:
    """Write the plan of a scale in Markdown; without assumptions, only its jobs."""
    planned = jobs(study)
    parts = [f"# Plan of scale {study.scale.scale}", study.scale.description, *_doubts(study)]
    table = stages(study, planned)
    if study.scale.plan is None:
        known = table.drop(columns=["GPU hours", "longest, hours"])
        return "\n\n".join([*parts, "## Jobs", _markdown(known), _UNKNOWN])
    parts += ["## Jobs", _markdown(table), _FOOTNOTE, *_warnings(study, table)]
    if study.scale.assumptions.jobs_at_a_time:
        parts += ["## Time", *_time(study, planned)]
    if ratios := ratios_taken(study, planned):
        parts += ["## Planned and measured here", *_measured(study, planned, ratios)]
    if study.scale.assumptions.device_gigabytes:
        parts += ["## Memory of a GPU, gigabytes", *_memory(study)]
    parts += ["## Tokens, dollars, disk", _markdown(totals(study, planned))]
    parts += ["## Assumptions", _origin(study), _assumptions(study)]
    return "\n\n".join(parts)


# Sums.


def stages(study: Study, planned: dict[str, list[Job]]) -> pd.DataFrame:
    """Count jobs by rule and target, with GPUs and hours; all jobs of stage `table` are one row."""
    by_row: dict[str, dict[str, list[Job]]] = {}
    for target, of_target in planned.items():
        for job in of_target:
            row = "tables, figures" if job.stage == "table" else job.rule
            by_row.setdefault(row, {}).setdefault(target, []).append(job)
    rows = [{"stage": row} | _stage(study, by_target) for row, by_target in by_row.items()]
    table = pd.DataFrame(rows)
    total = table[[*TARGETS, "GPU hours"]].sum()
    return pd.concat([table, pd.DataFrame([{"stage": "total", **total}])], ignore_index=True)


def _stage(study: Study, by_target: dict[str, list[Job]]) -> dict:
    together = [job for of_target in by_target.values() for job in of_target]
    asked = study.scale.resources_for(together[0].stage)
    each = [hours(study, job) for job in together]
    # Jobs that share one GPU each ask for a place on it.
    share = (study.scale.plan and study.scale.plan.jobs_at_a_time) or 1
    return {
        **{target: len(by_target.get(target, [])) for target in TARGETS},
        "GPUs": ", ".join(map(str, sorted({job.gpus for job in together}))),
        "GPU hours": sum(own * job.gpus for own, job in zip(each, together, strict=True)) / share,
        "longest, hours": max(each),
        "limit, hours": asked.runtime / 60,
    }


def totals(study: Study, planned: dict[str, list[Job]]) -> pd.DataFrame:
    """Sum tokens, the judge's dollars and disk space, by target."""
    columns = {target: _total(study, of_target) for target, of_target in planned.items()}
    table = pd.DataFrame(columns)
    return table.assign(total=table.sum(axis=1, min_count=len(TARGETS))).reset_index(names="")


def _total(study: Study, planned: list[Job]) -> dict:
    tokens = dict.fromkeys(("train", "sample", "score"), 0.0)
    for work in (work for job in planned for work in job.work):
        tokens[work.kind] += work.tokens
    pairs = {task: 0 for task in study.scored_by("judge")}
    for job in planned:
        if job.judged:
            pairs[job.task] += job.judged
    read = {task: number * _judge_prompt_tokens(study, task) for task, number in pairs.items()}
    dollars = [judge_dollars(study, task, read[task], number) for task, number in pairs.items()]
    return {
        "millions of tokens trained on": tokens["train"] / 1e6,
        "millions of tokens sampled": tokens["sample"] / 1e6,
        "millions of tokens scored": tokens["score"] / 1e6,
        "pairs judged": sum(pairs.values()),
        "millions of tokens that the judge reads": sum(read.values()) / 1e6,
        "dollars for the judge": _sum_of_known(dollars),
        "terabytes of models": sum(job.gigabytes for job in planned) / 1e3,
    }


def _judge_prompt_tokens(study: Study, task: str) -> int:
    """Count the tokens that a judge reads for one pair: instructions, prompt, two completions."""
    lengths = study.scale.assumptions.lengths[task]
    return (
        study.scale.assumptions.judge_tokens + lengths.prompt_tokens + 2 * lengths.completion_tokens
    )


def judge_dollars(
    study: Study, task: str, prompt_tokens: float, answer_tokens: float
) -> float | None:
    """Compute the dollars for judgements of a task; None if its judge has no price.

    Args:
        study: the study.
        task: the task's name.
        prompt_tokens: tokens that the judge reads.
        answer_tokens: tokens that the judge writes.
    """
    price = getattr(study.scale.tasks[task].judge, "price", None)
    return price and price.dollars(prompt_tokens, answer_tokens)


def _sum_of_known(values: list[float | None]) -> float | None:
    """Sum the values that are not None; None if all are."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def times(study: Study, planned: dict[str, list[Job]]) -> pd.DataFrame:
    """Compute minutes and disk of targets and of tables, on a machine that shares its GPU."""
    return pd.DataFrame(
        {
            "target": name,
            "trained": sum(job.rule == "train" for job in found),
            "jobs": len(found),
            "minutes": minutes(study, found),
            "gigabytes of models": sum(job.gigabytes for job in found),
        }
        for name, found in spans(study, planned)
    )


def ratios_taken(study: Study, planned: dict[str, list[Job]]) -> dict[str, "Taken"]:
    """Compare the seconds of the jobs that ran here with those planned, by rule."""
    found: dict[str, Taken] = {}
    for job in (job for of_target in planned.values() for job in of_target if job.work):
        if (taken := seconds_taken(study, job)) is not None:
            before = found.get(job.rule, Taken(0, 0.0, 0.0))
            needed = 3600 * hours(study, job)
            found[job.rule] = Taken(
                before.jobs + 1, before.planned + needed, before.measured + taken
            )
    return found


@dataclass(frozen=True)
class Taken:
    """The jobs of a rule that ran here: their number, and their seconds, planned and measured."""

    jobs: int
    planned: float
    measured: float


# What is printed.


def _markdown(table: pd.DataFrame) -> str:
    cells = table.map(lambda value: value if isinstance(value, str) else _number(value))
    alignment = ["left"] + ["right"] * (table.shape[1] - 1)
    return cells.to_markdown(index=False, disable_numparse=True, colalign=alignment)


def _number(value: float | None) -> str:
    if pd.isna(value):
        return "-"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:,.1f}"


_FOOTNOTE = (
    "`tune` to `power`: the jobs that they add. Longest: the stage's longest job."
    " Limit: what a job requests from the scheduler at its first attempt."
)


_UNKNOWN = (
    "`tune` to `power`: the jobs that they add. Limit: what a job requests from the"
    " scheduler at its first attempt. Hours, tokens, dollars and disk are unknown: this scale has"
    " no `plan` with assumptions, such as paper.yaml has."
)


def _time(study: Study, planned: dict[str, list[Job]]) -> Iterator[str]:
    """Yield the table of times, and whether they keep the limits."""
    at_a_time, limits = study.scale.assumptions.jobs_at_a_time, study.scale.assumptions.limits
    yield _markdown(times(study, planned))
    yield (
        f"Minutes of jobs that use a model, from nothing, {at_a_time} at a time; targets after"
        f" {TARGETS[0]}: the minutes that they add."
    )
    if not limits:
        return
    if limits.minutes:
        yield _compared(TARGETS[0], minutes(study, planned[TARGETS[0]]), limits.minutes, "minutes")
    if limits.tables and limits.tables_minutes:
        needed = minutes(study, jobs_of_limited(study))
        yield _compared(name_of_limited(limits.tables), needed, limits.tables_minutes, "minutes")


def _measured(
    study: Study, planned: dict[str, list[Job]], taken: dict[str, Taken]
) -> Iterator[str]:
    """Yield the seconds of the jobs that ran here, beside those planned, and what they foretell."""
    rows = [
        {
            "stage": rule,
            "jobs that ran": own.jobs,
            "seconds each, planned": own.planned / own.jobs,
            "seconds each, measured": own.measured / own.jobs,
            "ratio": round(own.measured / own.planned, 2),
        }
        for rule, own in taken.items()
    ]
    yield _markdown(pd.DataFrame(rows))
    if study.scale.assumptions.jobs_at_a_time:
        ratios = {rule: own.measured / own.planned for rule, own in taken.items()}
        all_of_it = minutes(study, planned[TARGETS[0]], ratios)
        yield f"At these ratios, and as many jobs at a time: {TARGETS[0]} {all_of_it:,.1f} minutes."
        if limited := jobs_of_limited(study):
            needed = minutes(study, limited, ratios)
            limits = study.scale.assumptions.limits
            yield f"{name_of_limited(limits.tables if limits else [])}: {needed:,.1f} minutes."


def _compared(what: str, needed: float, limit: float, unit: str) -> str:
    """Say whether something keeps its limit; in bold if it does not."""
    if needed <= limit:
        return f"{what}: {needed:,.1f} {unit}, within the limit of {_number(limit)}."
    return f"**{what}: {needed:,.1f} {unit}, more than the limit of {_number(limit)}.**"


def _memory(study: Study) -> Iterator[str]:
    """Yield the tables of memory, and which models or how many jobs do not fit."""
    plan = study.scale.assumptions
    available = plan.device_gigabytes or 0
    table = training_memory(study)
    yield _markdown(table)
    yield (
        "Training: sharded weights, gradients and moments. vLLM and the reward model: beside online"
        " training. In use: activations, or a sampling's cache; unknown of a model that is not in"
        f" `footprints`. Start: what a job takes before it has a model. A GPU has {available:.0f}."
        " Main memory: of all processes at their start, each with the whole model."
    )
    for row in table.to_dict("records"):
        if row["together"] > available:
            needed = f"{row['together']:,.0f} gigabytes of a GPU's {available:,.0f}"
            yield (
                f"**{row['model']}** does not fit, {row['task']}: {needed}; give it more `gpus`,"
                " or GPUs with more memory."
            )
        if row["main memory"] > row["of"]:
            needed = f"{row['main memory']:,.0f} gigabytes of main memory's {row['of']:,.0f}"
            yield f"**{row['model']}** does not fit, {row['task']}: {needed}; raise `mem_mb`."
    yield from _shares(study)
    if plan.footprints:
        yield _markdown(other_memory(study))
        yield _together(study)
    for gpu, peak in peaks_taken(study).items():
        yield f"Measured here, {gpu}: trainings allocated up to {peak:.1f} gigabytes each."


def _shares(study: Study) -> Iterator[str]:
    """Yield the table of vLLM's memory, if it samples, and what its share cannot hold."""
    table = vllm_memory(study)
    if not len(table):
        return
    yield _markdown(table)
    yield (
        "vLLM on each of the GPUs that share a model: its copy of the weights, its share of the"
        " memory, and what is left for keys and values."
    )
    for row in table[table["left"] <= 0].to_dict("records"):
        option = ("gpu", "online")[row["stage"] == "train"] + "_memory_utilization"
        yield (
            f"**{row['model']}** does not fit vLLM's share in `{row['stage']}`: its copy takes"
            f" {row['its copy']:.0f} gigabytes, and the share is {row['share']:.0f}; raise"
            f" `generation.{option}`, or give the model more `gpus`."
        )


def _together(study: Study) -> str:
    """Say what all jobs that run at a time take, if each were the largest."""
    plan = study.scale.assumptions
    count = plan.jobs_at_a_time or 1
    limit = (plan.limits and plan.limits.gigabytes) or plan.device_gigabytes or 0
    what = f"{count} of the largest jobs at a time" if count > 1 else "The largest job"
    return _compared(what, count * largest(study), limit, "gigabytes")


def _warnings(study: Study, table: pd.DataFrame) -> Iterator[str]:
    """Yield a warning for each stage whose resources are too small."""
    is_gpu = study.scale.assumptions.device_gigabytes is not None
    for row in table.to_dict("records"):
        if is_gpu and row["GPUs"] == "0" and row["longest, hours"] > 0:
            yield f"**{row['stage']}** has a model compute, but `resources` gives it no GPU."
        elif row["longest, hours"] > row["limit, hours"]:
            yield f"**{row['stage']}** takes longer than its `runtime` in `resources`."


def _doubts(study: Study) -> list[str]:
    """List what speaks against the claims' design, also what their runs would be refused for."""
    asked = study.design()
    try:
        return [f"**Warning:** {line}." for line in weigh(asked)] if asked else []
    except ConfigError as error:
        return [f"**Refused:** {error}."]


def _origin(study: Study) -> str:
    """Say where the assumptions come from."""
    measured = study.scale.assumptions.measured
    return f"Rates: {measured}." if measured else "Guesses until a first run replaces them."


def _assumptions(study: Study) -> str:
    lines = "\n".join(_described(study.scale.assumptions))
    return f"{lines}\n- weights, gradients and moments in float32, {WEIGHTS} bytes each"


def _described(model: BaseModel, prefix: str = "") -> Iterator[str]:
    """Yield a line for every value, with its field's description."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _described(value, f"{prefix}{name}.")
        elif value is None or value == {} or name == "measured":
            continue
        elif isinstance(value, dict):
            yield f"- {prefix}{name}: {field.description}"
            yield from (line for key, inner in value.items() for line in _entry(key, inner))
        else:
            yield f"- {prefix}{name}: {value} ({field.description})"


def _entry(key: str, value) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from (f"  {line}" for line in _described(value, f"{key}."))
    else:
        yield f"  - {key}: {value}"
