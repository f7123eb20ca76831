"""The plan of a scale from its configuration: GPU hours, memory, tokens, dollars and disk.

Nothing is run. The scale's `plan` has the assumptions, which are printed with the result.
"""

from collections.abc import Iterator

import pandas as pd
from pydantic import BaseModel

from humanline.cli.jobs import WEIGHTS, Job, billions_of, jobs, model_of
from humanline.files.validation import ConfigError
from humanline.study.experiments import Cell
from humanline.study.scale.rewards import HubReward
from humanline.study.study import Study
from humanline.study.study_cells import TARGETS
from humanline.tables.power import weigh

# Bytes per parameter in training besides the weights: gradients, and AdamW's two moments.
_GRADIENTS, _MOMENTS = 4, 8
_HALF = 2  # bytes per parameter of a reward model, in bfloat16


def describe(study: Study) -> str:
    """Write the plan of a scale in Markdown; without assumptions, only its jobs."""
    planned = jobs(study)
    parts = [f"# Plan of scale {study.scale.scale}", study.scale.description, *_doubts(study)]
    table = stages(study, planned)
    if study.scale.plan is None:
        known = table.drop(columns=["GPU hours", "longest, hours"])
        return "\n\n".join([*parts, "## Jobs", _markdown(known), _UNKNOWN])
    parts += ["## Jobs", _markdown(table), _FOOTNOTE, *_warnings(table)]
    parts += ["## Memory of training, gigabytes", _markdown(memory(study)), _memory_footnote(study)]
    parts += ["## Tokens, dollars, disk", _markdown(totals(study, planned))]
    parts += ["## Assumptions", "Guesses until a first run replaces them.", _assumptions(study)]
    return "\n\n".join(parts)


# Sums.


def hours(study: Study, job: Job) -> float:
    """Compute the hours of a job, on the GPUs that it requests, or else on one.

    Raises:
        ConfigError: if the job has work and the scale no `plan`.
    """
    if not job.work:
        return 0
    plan = study.scale.assumptions
    rates = plan.tokens_per_second
    seconds = sum(w.tokens * w.billions / getattr(rates, w.kind) for w in job.work)
    return seconds / max(1, job.gpus) / 3600 + plan.startup_minutes / 60


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
    return {
        **{target: len(by_target.get(target, [])) for target in TARGETS},
        "GPUs": ", ".join(map(str, sorted({job.gpus for job in together}))),
        "GPU hours": sum(hours * job.gpus for hours, job in zip(each, together, strict=True)),
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


def memory(study: Study) -> pd.DataFrame:
    """Compute the memory for training each model, in gigabytes of a GPU, without activations."""
    cells = [cell for cell in study.all_cells() if cell.objective != "base"]
    # Online cells come last, because the last cell of a model counts and they need most memory.
    cells.sort(key=lambda cell: cell.data == "online")
    rows = {(cell.task, model_of(study, cell).repo): _memory(study, cell) for cell in cells}
    table = pd.DataFrame(
        [{"task": task, "model": repo} | row for (task, repo), row in rows.items()]
    )
    table.insert(6, "together", table[["training", "vLLM", "reward model"]].sum(axis=1))
    return table


def _memory(study: Study, cell: Cell) -> dict[str, float]:
    plan, generation = study.scale.assumptions, study.scale.generation
    run = study.resolve(cell)
    gpus, reward = run.gpus("train"), run.reward
    beside = (
        cell.data == "online" and generation.engine == "vllm" and generation.online == "colocate"
    )
    labels = reward.repo if cell.data == "online" and isinstance(reward, HubReward) else None
    each = billions_of(study, cell) * (WEIGHTS + _GRADIENTS + _MOMENTS)
    return {
        "GPUs": gpus,
        "training": each / max(1, gpus),
        "vLLM": generation.online_memory_utilization * plan.device_gigabytes if beside else 0,
        "reward model": _HALF * plan.parameters[labels] if labels else 0,
        "main memory": WEIGHTS * billions_of(study, cell) * max(1, gpus),
        "of": run.memory("train") / 1e3,
    }


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


def _memory_footnote(study: Study) -> str:
    """Explain the table of memory, and name the models that do not fit."""
    available = study.scale.assumptions.device_gigabytes
    told = (
        "Training: sharded weights, gradients and moments, without activations. vLLM and the reward"
        f" model: beside online training. A GPU has {available:.0f}. Main memory: of all processes"
        " at their start, each with the whole model."
    )
    table = memory(study)
    is_too_large = (table["together"] > available) | (table["main memory"] > table["of"])
    too_large = table.loc[is_too_large, "model"].unique()
    remedy = "give it more `gpus`, or GPUs with more memory, or raise `mem_mb`"
    return "\n\n".join([told, *(f"**{model}** does not fit; {remedy}." for model in too_large)])


def _warnings(table: pd.DataFrame) -> Iterator[str]:
    """Yield a warning for each stage whose resources are too small."""
    for row in table.to_dict("records"):
        if row["GPUs"] == "0" and row["longest, hours"] > 0:
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


def _assumptions(study: Study) -> str:
    lines = "\n".join(_described(study.scale.assumptions))
    return f"{lines}\n- weights, gradients and moments in float32, {WEIGHTS} bytes each"


def _described(model: BaseModel, prefix: str = "") -> Iterator[str]:
    """Yield a line for every value, with its field's description."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _described(value, f"{prefix}{name}.")
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
