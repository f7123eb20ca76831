"""What a scale would run: jobs, GPU hours, tokens, dollars and disk, from its configuration alone.

Nothing else is read, and nothing is run. What the configuration leaves open is assumed in its
`plan`, and printed with the result.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from pydantic import BaseModel

from humanline.config import HubReward, HubSource
from humanline.experiments import Cell
from humanline.predictors import OWN, PROMPTS
from humanline.study import Study
from humanline.validation import ConfigError

TARGETS = ("all", "tune", "explore")
# Bytes per parameter as models are trained and kept: in float32, by AdamW with its two moments.
_WEIGHTS, _GRADIENTS, _MOMENTS = 4, 4, 8
_HALF = 2  # bytes per parameter of a reward model, in bfloat16


@dataclass(frozen=True)
class Work:
    """Tokens that a model trains on, samples or scores.

    Args:
        kind: a field of `Rates`.
        billions: of the model's parameters.
    """

    kind: str
    tokens: float
    billions: float


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Args:
        rule: of the workflow.
        name: what tells it from the rule's other jobs.
        stage: whose resources it asks for.
        work: what its GPUs do.
        gigabytes: of weights that it leaves.
        judged: pairs that a judge compares.
        gpus: that it asks for.
    """

    rule: str
    name: str
    stage: str
    work: tuple[Work, ...] = ()
    gigabytes: float = 0
    judged: int = 0
    gpus: int = 0


def describe(study: Study) -> str:
    """The plan of a scale in Markdown.

    Raises:
        ConfigError: if the scale says nothing about what to assume.
    """
    if study.scale.plan is None:
        raise ConfigError(
            f"scale {study.scale.scale}: plan: missing; add what to reckon with, as paper.yaml does"
        )
    planned = jobs(study)
    parts = [f"# Plan of scale {study.scale.scale}", study.scale.description]
    table = stages(study, planned)
    parts += ["## Jobs", _markdown(table), _FOOTNOTE, *_warnings(table)]
    parts += ["## Memory of training, gigabytes", _markdown(memory(study)), _memory_footnote(study)]
    parts += ["## Tokens, dollars, disk", _markdown(totals(study, planned))]
    parts += ["## Assumptions", "Guesses until a first run replaces them.", _assumptions(study)]
    return "\n\n".join(parts)


# The jobs, as the rules of the workflow have them.


def jobs(study: Study) -> dict[str, list[Job]]:
    """The jobs of every target that those before it have not already."""
    found: dict[str, list[Job]] = {}
    seen = set()
    for target in TARGETS:
        found[target] = []
        for job in _jobs_of(study, target):
            if (job.rule, job.name) not in seen:
                seen.add((job.rule, job.name))
                found[target].append(job)
    return found


def _jobs_of(study: Study, target: str) -> Iterator[Job]:
    """The jobs of a target, some of them repeatedly."""
    scored, measured = _scored(study, target), _measured(study, target)
    perceived = _perceived(study) if target == "all" else []
    for cell in scored + measured + perceived:
        yield from _preparation(study, cell)
    for cell in scored:
        yield _generate(study, cell)
        yield _score(study, cell)
    for cell in measured:
        gpus = study.gpus("generate", cell)
        yield Job("predictors", _name(cell), "generate", tuple(_predictors(study, cell)), gpus=gpus)
    yield from _summaries(study, target)


def _scored(study: Study, target: str) -> list[Cell]:
    """The cells that a target evaluates."""
    if target == "tune":
        return [cell for task in study.scale.tasks for cell in study.tune_cells(task)]
    tables = study.tables(exploratory=target == "explore")
    return [cell for table in tables for cell in study.report_cells(table)]


def _measured(study: Study, target: str) -> list[Cell]:
    """The cells whose data a target looks at."""
    if target == "tune":
        return []
    tables = study.tables(exploratory=target == "explore")
    comparing = [table for table in tables if study.experiments.tables[table].compares_data]
    cells = [cell for table in comparing for cell in study.report_cells(table)]
    mapped = [cell for cell, _ in study.mapped()] if target == "explore" else []
    return [cell for cell in cells if cell.data == "offline"] + mapped


def _perceived(study: Study) -> list[Cell]:
    """The cells of the figures."""
    if not study.experiments.implied_capacity:
        return []
    seeds = study.figure_seeds()
    return [cell for seed in seeds for cell in study.experiments.perceived(seed).values()]


def _summaries(study: Study, target: str) -> Iterator[Job]:
    """Tables and what else looks at many runs."""
    if target == "tune":
        yield Job("learning_rates", "", "table")
        return
    for table in study.tables(exploratory=target == "explore"):
        yield Job(f"table_{table}", "", "table")
    if target == "explore":
        if study.mapped():
            yield Job("map", "", "table")
        return
    if study.claims:
        yield Job("claims", "", "table")
    if study.experiments.implied_capacity:
        yield Job("figures", "", "table")
        for seed in study.figure_seeds():
            gpus = study.gpus("generate", study.experiments.perceived(seed)["policy"])
            yield Job("surprisal", str(seed), "generate", tuple(_surprisal(study, seed)), gpus=gpus)


def _preparation(study: Study, cell: Cell) -> Iterator[Job]:
    """All that makes a cell's model."""
    yield Job("data", cell.task, "data")
    yield _base_model(study, cell.base)
    if cell.data == "offline":
        source = cell.data_base
        yield _base_model(study, source)
        gpus = study.gpus("offline", source)
        yield Job("offline", _name(source), "offline", tuple(_offline(study, source)), gpus=gpus)
        if cell.quartile:
            name = f"{_name(source)} under {cell.base.name}"
            gpus = study.gpus("generate", cell)
            yield Job("likelihood", name, "generate", (_likelihood(study, cell),), gpus=gpus)
    if cell.objective != "base":
        work = tuple(_train(study, cell))
        options = {"gigabytes": _kept_gigabytes(study, cell), "gpus": study.gpus("train", cell)}
        yield Job("train", _name(cell), "train", work, **options)


def _base_model(study: Study, base: Cell) -> Job:
    return Job("base_model", _name(base), "base_model")  # links into the hub's cache


def _generate(study: Study, cell: Cell) -> Job:
    outputs = _outputs(study, cell)
    work = (_sample(study, cell, outputs),)
    return Job("generate", _name(cell), "generate", work, gpus=study.gpus("generate", cell))


def _score(study: Study, cell: Cell) -> Job:
    if cell.task == "math_reasoning":
        return Job("grade", _name(cell), "score")
    return Job("judge", _name(cell), "score", judged=_outputs(study, cell))


def _name(cell: Cell) -> str:
    return f"{cell.task}/{cell.name}"


# What a job does.


def _train(study: Study, cell: Cell) -> Iterator[Work]:
    training = study.scale.tasks[cell.task].training
    batch, group = study.objective(cell).batch_size, training.group_size
    billions = _billions(study, cell)
    completions = training.steps * batch * (2 if cell.objective == "dpo" else 1)
    yield Work("train", completions * _text_tokens(study, cell.task), billions)
    if cell.objective == "kto":  # its mismatched completions
        yield Work("score", completions * _text_tokens(study, cell.task), billions)
    if cell.data == "online":
        sampled = {"dpo": batch * group, "kto": batch // 2 * group, "grpo": batch}
        yield from _sample_and_label(study, cell, training.steps * sampled[cell.objective])


def _offline(study: Study, base: Cell) -> Iterator[Work]:
    task = study.scale.tasks[base.task]
    if not study.is_stored(base):
        prompts = study.scale.plan.lengths[base.task].train_prompts
        yield from _sample_and_label(study, base, prompts * task.training.group_size)


def _likelihood(study: Study, cell: Cell) -> Work:
    group = _group_size(study, cell.data_base)
    completions = study.scale.plan.lengths[cell.task].train_prompts * group
    return Work("score", completions * _text_tokens(study, cell.task), _billions(study, cell.base))


def _predictors(study: Study, cell: Cell) -> Iterator[Work]:
    """The policy's own completions, scored by both models, and the data, by the first one twice."""
    prompts = min(PROMPTS, study.scale.plan.lengths[cell.task].train_prompts)
    group = _group_size(study, cell.data_base)
    yield _sample(study, cell, OWN * prompts)
    scored = prompts * (2 * OWN + 3 * group)
    yield Work("score", scored * _text_tokens(study, cell.task), _billions(study, cell))


def _surprisal(study: Study, seed: int) -> Iterator[Work]:
    """A completion of every source, and one more of the policy, scored by two models."""
    cells = list(study.experiments.perceived(seed).values())
    policy = cells[0]
    prompts = _prompts(study, policy)
    scored = 2 * prompts * _text_tokens(study, policy.task)
    for source in (policy, *cells):
        yield _sample(study, source, prompts)
        yield Work("score", scored, _billions(study, policy))


def _sample(study: Study, cell: Cell, completions: float) -> Work:
    tokens = completions * study.scale.plan.lengths[cell.task].completion_tokens
    return Work("sample", tokens, _billions(study, cell))


def _sample_and_label(study: Study, cell: Cell, completions: float) -> Iterator[Work]:
    yield _sample(study, cell, completions)
    reward = study.scale.tasks[cell.task].reward
    if isinstance(reward, HubReward):
        billions = study.scale.plan.parameters[reward.repo]
        yield Work("score", completions * _text_tokens(study, cell.task), billions)


def _group_size(study: Study, base: Cell) -> int:
    """Completions of each prompt in a base model's offline data; all, where none are left out."""
    task = study.scale.tasks[base.task]
    kept = task.data.stored_group_size if study.is_stored(base) else None
    return kept or task.training.group_size


def _outputs(study: Study, cell: Cell) -> int:
    """Completions that a cell is evaluated on, of all evaluated checkpoints."""
    has_one = cell.objective == "base" or not study.has_curve(cell)
    return _prompts(study, cell) * (1 if has_one else _evaluations(study, cell.task))


def _prompts(study: Study, cell: Cell) -> int:
    """Prompts that a cell is evaluated on."""
    if study.split(cell.seed) == "validation":
        return study.scale.tasks[cell.task].data.validation
    return study.scale.plan.lengths[cell.task].evaluation_prompts


def _text_tokens(study: Study, task: str) -> int:
    """Tokens of a prompt and a completion."""
    lengths = study.scale.plan.lengths[task]
    return lengths.prompt_tokens + lengths.completion_tokens


def _billions(study: Study, cell: Cell) -> float:
    return study.scale.plan.parameters[_model(study, cell).repo]


def _model(study: Study, cell: Cell) -> HubSource:
    return study.base_model(cell.task, cell.base_model)


def _kept_gigabytes(study: Study, cell: Cell) -> float:
    """Of all models that are evaluated, or could be."""
    return _WEIGHTS * _billions(study, cell) * _evaluations(study, cell.task)


def _evaluations(study: Study, task: str) -> int:
    """How often a run may be evaluated, its end included."""
    training = study.scale.tasks[task].training
    return -(-training.steps // training.evaluate_every)


# Sums.


def hours(study: Study, job: Job) -> float:
    """How long a job has a model compute, on the GPUs it asks for, or else on one."""
    if not job.work:
        return 0
    plan = study.scale.plan
    rates = plan.tokens_per_second
    seconds = sum(w.tokens * w.billions / getattr(rates, w.kind) for w in job.work)
    return seconds / max(1, job.gpus) / 3600 + plan.startup_minutes / 60


def stages(study: Study, planned: dict[str, list[Job]]) -> pd.DataFrame:
    """Jobs by rule and target, and what they take; tables and the like are one row."""
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
    asked = study.resources(together[0].stage)
    each = [hours(study, job) for job in together]
    return {
        **{target: len(by_target.get(target, [])) for target in TARGETS},
        "GPUs": ", ".join(map(str, sorted({job.gpus for job in together}))),
        "GPU hours": sum(hours * job.gpus for hours, job in zip(each, together, strict=True)),
        "longest, hours": max(each),
        "limit, hours": asked["runtime"] / 60,
    }


def totals(study: Study, planned: dict[str, list[Job]]) -> pd.DataFrame:
    """Tokens, the judge's dollars and the disk, by target."""
    columns = {target: _total(study, of_target) for target, of_target in planned.items()}
    table = pd.DataFrame(columns)
    return table.assign(total=table.sum(axis=1, min_count=len(TARGETS))).reset_index(names="")


def _total(study: Study, planned: list[Job]) -> dict:
    tokens = dict.fromkeys(("train", "sample", "score"), 0.0)
    for work in (work for job in planned for work in job.work):
        tokens[work.kind] += work.tokens
    pairs = sum(job.judged for job in planned)
    read = pairs * _judge_prompt_tokens(study)
    return {
        "millions of tokens trained on": tokens["train"] / 1e6,
        "millions of tokens sampled": tokens["sample"] / 1e6,
        "millions of tokens scored": tokens["score"] / 1e6,
        "pairs judged": pairs,
        "millions of tokens that the judge reads": read / 1e6,
        "dollars for the judge": judge_dollars(study, read, pairs),
        "terabytes of models": sum(job.gigabytes for job in planned) / 1e3,
    }


def _judge_prompt_tokens(study: Study) -> int:
    """Of one pair: instructions, the prompt, and two completions."""
    lengths = study.scale.plan.lengths.get("instruction_following")
    if lengths is None:
        return 0
    return study.scale.plan.judge_tokens + lengths.prompt_tokens + 2 * lengths.completion_tokens


def judge_dollars(study: Study, prompt_tokens: float, answer_tokens: float) -> float | None:
    """What judgements cost; None where the scale's judge has no price."""
    task = study.scale.tasks.get("instruction_following")
    price = getattr(task and task.judge, "price", None)
    return price and price.dollars(prompt_tokens, answer_tokens)


def memory(study: Study) -> pd.DataFrame:
    """Gigabytes of a GPU's memory that training each model takes, activations not counted."""
    cells = [cell for cell in study.all_cells() if cell.objective != "base"]
    cells.sort(key=lambda cell: cell.data == "online")  # which takes most: the last one counts
    rows = {(cell.task, _model(study, cell).repo): _memory(study, cell) for cell in cells}
    table = pd.DataFrame(
        [{"task": task, "model": repo} | row for (task, repo), row in rows.items()]
    )
    table.insert(6, "together", table[["training", "vLLM", "reward model"]].sum(axis=1))
    return table


def _memory(study: Study, cell: Cell) -> dict[str, float]:
    plan, generation = study.scale.plan, study.scale.generation
    gpus, reward = study.gpus("train", cell), study.scale.tasks[cell.task].reward
    beside = (
        cell.data == "online" and generation.engine == "vllm" and generation.online == "colocate"
    )
    labels = cell.data == "online" and isinstance(reward, HubReward)
    each = _billions(study, cell) * (_WEIGHTS + _GRADIENTS + _MOMENTS)
    return {
        "GPUs": gpus,
        "training": each / max(1, gpus),
        "vLLM": generation.online_memory_utilization * plan.device_gigabytes if beside else 0,
        "reward model": _HALF * plan.parameters[reward.repo] if labels else 0,
        "main memory": _WEIGHTS * _billions(study, cell) * max(1, gpus),
        "of": study.memory("train", gpus) / 1e3,
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
    "`tune` and `explore`: what they add. Longest: the stage's longest job; limit: what it asks of"
    " the scheduler at its first attempt."
)


def _memory_footnote(study: Study) -> str:
    """What the table of memory leaves out, and which models do not fit."""
    available = study.scale.plan.device_gigabytes
    told = (
        "Training: weights, gradients and moments, sharded; activations come on top. vLLM and the"
        f" reward model: beside online training. A GPU has {available:.0f}. Main memory: of all"
        " processes as they start, each with the whole model."
    )
    table = memory(study)
    is_too_large = (table["together"] > available) | (table["main memory"] > table["of"])
    too_large = table.loc[is_too_large, "model"].unique()
    remedy = "give it more `gpus`, or GPUs with more memory, or raise `mem_mb`"
    return "\n\n".join([told, *(f"**{model}** does not fit; {remedy}." for model in too_large)])


def _warnings(table: pd.DataFrame) -> Iterator[str]:
    """The stages that ask for too little."""
    for row in table.to_dict("records"):
        if row["GPUs"] == "0" and row["longest, hours"] > 0:
            yield f"**{row['stage']}** has a model compute, but `resources` gives it no GPU."
        elif row["longest, hours"] > row["limit, hours"]:
            yield f"**{row['stage']}** takes longer than its `runtime` in `resources`."


def _assumptions(study: Study) -> str:
    lines = "\n".join(_described(study.scale.plan))
    return f"{lines}\n- weights, gradients and moments in float32, {_WEIGHTS} bytes each"


def _described(model: BaseModel, prefix: str = "") -> Iterator[str]:
    """A line for every value, with what its field means."""
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
