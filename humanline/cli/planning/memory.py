"""The memory that jobs take of a GPU: each by itself, and all that run at a time."""

import math
from collections.abc import Callable
from functools import partial

import pandas as pd

from humanline.cli.jobs import BYTES
from humanline.cli.planning.work import billions_of, name_of_model
from humanline.files.json_files import read_json
from humanline.scoring.likelihood.tokens import LOGITS
from humanline.study.experiments import Cell
from humanline.study.scale.judges import EnglishJudge
from humanline.study.scale.plan import Footprint
from humanline.study.scale.rewards import HubReward
from humanline.study.scale.sampling import Sampling
from humanline.study.study import Study
from humanline.study.values import Stage
from humanline.trainers.registry import find_objective

# Bytes per parameter in training: the weights, gradients, and AdamW's two moments, in float32.
WEIGHTS, GRADIENTS, MOMENTS = 4, 4, 8
_HALF = 2  # bytes of a number in bfloat16
# Bytes of a completion's token in the logits that TRL computes in tiles: 2**15 in bfloat16.
_TILE = _HALF * 2**15
# Tensors as large as all logits in sampling and scoring: logits, a copy and probabilities; with
# top-p also sorted ones, their places and sums.
_COPIES, _COPIES_TOP_P = 3, 7


def training_memory(study: Study) -> pd.DataFrame:
    """Compute the memory for training each model, in gigabytes, of its run that needs most."""
    cells = [cell for cell in study.all_cells() if cell.objective != "base"]
    rows = _largest(study, cells, _training)
    columns = ["training", "vLLM", "reward model", "in use", "start"]
    rows.insert(8, "together", rows[columns].sum(axis=1))
    return rows


def other_memory(study: Study) -> pd.DataFrame:
    """Compute the memory of the other jobs of each model, in gigabytes."""
    cells = study.all_cells()
    bases = [cell for cell in cells if cell.objective == "base"]
    judged = [cell for cell in cells if isinstance(study.resolve(cell).judge, EnglishJudge)]
    parts = [
        _largest(study, bases, _base_model).assign(stage="base_model"),
        _largest(study, bases, _offline).assign(stage="offline"),
        _largest(study, cells, _generate).assign(stage="generate"),
        _largest(study, judged, _score).assign(stage="score"),
    ]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    columns = ["weights", "in use", "start"]
    return table[["stage", "task", "model", *columns]].assign(together=table[columns].sum(axis=1))


def vllm_memory(study: Study) -> pd.DataFrame:
    """Compute what vLLM's share of a GPU holds, in gigabytes: its copy of each model, and the rest.

    The rest is for keys and values of what it samples. Empty if transformers samples.
    """
    generation, cells = study.scale.generation, study.all_cells()
    if generation.engine != "vllm":
        return pd.DataFrame()
    is_beside = generation.online == "colocate"
    online = [cell for cell in cells if is_beside and cell.data == "online"]
    bases = [cell for cell in cells if cell.objective == "base"]
    parts = [
        _largest(study, online, _colocated).assign(stage="train"),
        _largest(study, bases, partial(_alone, "offline")).assign(stage="offline"),
        _largest(study, cells, partial(_alone, "generate")).assign(stage="generate"),
    ]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    table = table[table["GPUs"] > 0]  # stored completions are not sampled
    columns = ["stage", "task", "model", "GPUs", "its copy", "share"]
    return table[columns].assign(left=table["share"] - table["its copy"])


def largest(study: Study) -> float:
    """Return the gigabytes of the job that needs most."""
    tables = training_memory(study), other_memory(study)
    return max(float(table["together"].max()) for table in tables)


def peaks_taken(study: Study) -> dict[str, float]:
    """Read the largest memory of the runs that were trained here on a GPU, in gigabytes, by GPU."""
    found: dict[str, float] = {}
    for cell in study.all_cells():
        path = study.resolve(cell).paths.record
        if cell.objective != "base" and path.exists():
            record = read_json(path)
            if gpu := record["provenance"]["machine"].get("accelerator"):
                found[gpu] = max(found.get(gpu, 0), record["peak_memory_mib"] * 2**20 / 1e9)
    return found


def _largest(study: Study, cells: list[Cell], of: Callable[[Study, Cell], dict]) -> pd.DataFrame:
    """Compute the memory of some cells, and keep the largest of each task and model."""
    rows: dict[tuple[str, str], dict] = {}
    for cell in cells:
        key, found = (cell.task, name_of_model(study, cell)), of(study, cell)
        if key not in rows or _total(found) >= _total(rows[key]):
            rows[key] = found
    return pd.DataFrame([{"task": task, "model": name} | row for (task, name), row in rows.items()])


def _total(row: dict) -> float:
    besides = ("GPUs", "main memory", "of")
    return sum(value for name, value in row.items() if name not in besides and value == value)


def _training(study: Study, cell: Cell) -> dict[str, float]:
    plan, generation = study.scale.assumptions, study.scale.generation
    run = study.resolve(cell)
    gpus, reward, is_online = run.gpus("train"), run.reward, cell.data == "online"
    beside = is_online and generation.engine == "vllm" and generation.online == "colocate"
    labels = reward.repo if is_online and isinstance(reward, HubReward) else None
    billions = billions_of(study, cell)
    # Adapters are a hundredth of the model.
    each = billions * (WEIGHTS if cell.lora else WEIGHTS + GRADIENTS + MOMENTS)
    return {
        "GPUs": gpus,
        "training": each / max(1, gpus),
        "vLLM": generation.online_memory_utilization * (plan.device_gigabytes or 0) * beside,
        "reward model": _HALF * plan.parameters[labels] if labels else 0,
        "in use": _used_in_training(study, cell),
        "start": plan.startup_gigabytes,
        "main memory": WEIGHTS * billions * max(1, gpus),
        "of": run.memory("train") / 1e3,
    }


def _colocated(study: Study, cell: Cell) -> dict[str, float]:
    """Compute what vLLM holds on a GPU that trains, too: a part of the model if GPUs share it."""
    gpus = study.resolve(cell).shards
    return _share(study, cell, gpus, study.scale.generation.online_memory_utilization)


def _alone(stage: Stage, study: Study, cell: Cell) -> dict[str, float]:
    """Compute what vLLM holds on a GPU of a job that only samples."""
    gpus = study.resolve(cell).gpus(stage)
    return _share(study, cell, gpus, study.scale.generation.gpu_memory_utilization)


def _share(study: Study, cell: Cell, gpus: int, utilization: float) -> dict[str, float]:
    return {
        "GPUs": gpus,
        "its copy": BYTES[study.scale.generation.dtype] * billions_of(study, cell) / max(1, gpus),
        "share": utilization * (study.scale.assumptions.device_gigabytes or 0),
    }


def _used_in_training(study: Study, cell: Cell) -> float:
    """Compute what a step needs besides the states, or a sampling if that needs more."""
    if (of := _footprint(study, cell)) is None:
        return math.nan
    run = study.resolve(cell)
    view, options = find_objective(cell.objective).view, run.training
    micro, _ = options.share(run.objective.batch_size, max(1, run.gpus("train")))
    used = _step(study, cell, of, micro * view.completions)
    if cell.data == "online" and study.scale.generation.engine == "transformers":
        groups = run.objective.batch_size // view.examples_of(options.group_size)
        completions = groups * options.group_size * (cell.sample_every or 1)
        sampled = _sampling(study, cell, of, options.sampling, completions, "float32")
        # No gradients are kept while it samples.
        free = 0 if cell.lora else GRADIENTS * billions_of(study, cell)
        used = max(used, sampled - free)
    return used


def _step(study: Study, cell: Cell, of: Footprint, sequences: int) -> float:
    """Compute the gigabytes of a forward and backward pass, with weights copied to bfloat16."""
    options, lengths = study.resolve(cell).training, study.scale.assumptions.lengths[cell.task]
    most = options.sampling.max_new_tokens
    kept = of.checkpointed if options.gradient_checkpointing else of.activations
    tokens = sequences * (lengths.prompt_tokens + most)
    copied = _HALF * billions_of(study, cell) if options.bf16 else 0
    return copied + tokens * kept / 1e3 + sequences * most * _TILE / 1e9


def _sampling(
    study: Study, cell: Cell, of: Footprint, sampling: Sampling, completions: float, dtype: str
) -> float:
    """Compute the gigabytes of sampling: keys and values of all tokens, and the logits of one."""
    together = min(study.scale.generation.most_at_once, completions)
    prompt = study.scale.assumptions.lengths[cell.task].prompt_tokens
    cached = (prompt + sampling.max_new_tokens) * of.cache * BYTES[dtype] / WEIGHTS
    copies = _COPIES if sampling.top_p == 1 else _COPIES_TOP_P
    return together * (cached + copies * of.logits) / 1e3


def _base_model(study: Study, cell: Cell) -> dict[str, float]:
    model = study.resolve(cell).model
    if model.kind != "fine_tuned":
        return _other(study, cell, 0, 0)
    of = _footprint(study, cell)
    used = _step(study, cell, of, model.batch_size) if of else math.nan
    return _other(study, cell, billions_of(study, cell) * (WEIGHTS + GRADIENTS + MOMENTS), used)


def _offline(study: Study, cell: Cell) -> dict[str, float]:
    run = study.resolve(cell)
    completions = study.scale.assumptions.lengths[cell.task].train_prompts * run.training.group_size
    return _sampler(study, cell, run.training.sampling, completions)


def _generate(study: Study, cell: Cell) -> dict[str, float]:
    run = study.resolve(cell)
    completions = study.scale.assumptions.lengths[cell.task].evaluation_prompts
    return _sampler(study, cell, run.evaluation, completions)


def _sampler(study: Study, cell: Cell, sampling: Sampling, completions: int) -> dict[str, float]:
    dtype, of = study.scale.generation.dtype, _footprint(study, cell)
    if study.scale.generation.engine == "vllm":
        share = study.scale.generation.gpu_memory_utilization
        return _other(study, cell, share * (study.scale.assumptions.device_gigabytes or 0), 0)
    used = _sampling(study, cell, of, sampling, completions, dtype) if of else math.nan
    return _other(study, cell, BYTES[dtype] * billions_of(study, cell), used)


def _score(study: Study, cell: Cell) -> dict[str, float]:
    judge = study.resolve(cell).judge
    assert isinstance(judge, EnglishJudge)
    weights = WEIGHTS * study.scale.assumptions.parameters[judge.model.repo]
    return _other(study, cell, weights, _COPIES * WEIGHTS * LOGITS / 1e9)


def _other(study: Study, cell: Cell, weights: float, used: float) -> dict[str, float]:
    return {"weights": weights, "in use": used, "start": study.scale.assumptions.startup_gigabytes}


def _footprint(study: Study, cell: Cell) -> Footprint | None:
    return study.scale.assumptions.footprints.get(name_of_model(study, cell))
