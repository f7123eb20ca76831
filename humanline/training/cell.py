"""Train one cell: from a run's options to a TRL trainer, its model and its records.

On several devices every process calls `train`; together they train one run (see `cli.launch`).
"""

import shutil
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from humanline.data.training_files import TRAIN_AGAIN, LogRow, TrainingRecord
from humanline.files.json_files import write_json
from humanline.files.provenance import describe, peak_memory
from humanline.files.typed_files import write_columns, write_record
from humanline.files.validation import ConfigError
from humanline.files.weights import load_folder, not_finite, store_as
from humanline.study.cells import Cell
from humanline.study.runs.hashes import code_of_run, content_hash
from humanline.study.runs.resolved import Run
from humanline.study.scale.training import Training
from humanline.trainers.classes import load
from humanline.trainers.registry import OBJECTIVES, find_objective
from humanline.trainers.rows import preferences
from humanline.training import adapters
from humanline.training.data import data_record, require_room, training_rows, used_groups
from humanline.training.devices import device_count, require_company, require_one_in_sight
from humanline.training.progress import Progress


def train(run: Run) -> None:
    """Train a cell and write its model, `metrics.csv` and `train.json` to its directory.

    An interrupted run continues from its last checkpoint that is whole; one that is not is told and
    set aside. Checkpoints are in a folder that is named by the hash of the run's options, code and
    inputs, so a run never resumes another's.
    A run that had ended begins again, and so does one that is not `resumable`.

    Raises:
        ConfigError: before training, if the batch does not divide among the devices, or the
            processes do not find each other; afterwards, if there were too few prompts, or the
            weights are not finite.
    """
    run.batch_share(device_count())
    rows = training_rows(run)
    data = data_record(run, rows)
    directory = run.paths.directory
    checkpoints = _checkpoints(run)
    is_new = _ended(checkpoints).exists() or not run.training.resumable
    evaluated = run.training.evaluate_every
    progress = Progress(checkpoints, evaluated)
    trainer = build_trainer(run, rows, checkpoints)
    require_company(trainer.args.world_size)
    if trainer.is_world_process_zero():
        if is_new and checkpoints.exists():
            shutil.rmtree(checkpoints)
        write_json(checkpoints / "manifest.json", run.hashes.manifest)
    trainer.accelerator.wait_for_everyone()
    progress.watch(trainer)
    trainer.train(resume_from_checkpoint=progress.last_usable())
    if trainer.state.global_step < trainer.args.max_steps:
        raise ConfigError(
            f"{directory}: trained {trainer.state.global_step} of {trainer.args.max_steps} steps,"
            " since its prompts do not fill one sampling; give it more prompts or smaller batches"
        )
    if broken := not_finite(trainer.model):
        raise ConfigError(
            f"{directory}: training ended with weights that are not finite, {broken[0]} among "
            "them; lower its learning_rate"
        )
    adapters.save_whole(trainer, run, checkpoints)
    cost = progress.record()
    if trainer.is_world_process_zero():
        _write_records(run, trainer, data | cost)
        _ended(checkpoints).touch()
        progress.end()
        _convert(run, checkpoints)


def _checkpoints(run: Run) -> Path:
    """Return the folder of the run's checkpoints.

    Its name depends on the number of devices, since their checkpoints have different parts, and on
    the code, since a run must not continue with samples and weights that other code made.
    """
    code = code_of_run("train", run, by_value=True)
    identity = content_hash([run.hashes.manifest, _inputs(run), device_count(), code])
    return run.paths.checkpoints / identity


def _ended(checkpoints: Path) -> Path:
    """Return the path of the file that exists once a run has ended."""
    return checkpoints / "ended"


def _convert(run: Run, checkpoints: Path) -> None:
    """Store the models of a run that has ended as its scale says."""
    dtype = run.training.save_dtype
    if dtype != "float32":  # in which they are trained
        for folder in (run.paths.model, *checkpoints.glob("checkpoint-*")):
            store_as(folder, dtype)


def _write_records(run: Run, trainer, measured: dict) -> None:
    import pandas as pd

    log = pd.DataFrame([row for row in trainer.state.log_history if "loss" in row])
    columns = ["step", *sorted(log.columns.drop("step"))]  # a resumed run has them in another order
    write_columns(run.paths.log, LogRow, log[columns])
    write_record(
        run.paths.record,
        TrainingRecord,
        {
            "cell": run.cell.model_dump(),
            "manifest": run.hashes.manifest,
            "checkpoints": str(_checkpoints(run).relative_to(run.paths.directory)),
            "steps": trainer.state.global_step,
            "devices": trainer.args.world_size,
            **measured,
            "peak_memory_mib": peak_memory() // 2**20,
            "provenance": describe(),
        },
        TRAIN_AGAIN,
    )


def _inputs(run: Run) -> list:
    """Identify the base model's weight files by name, size and time of change."""
    base = sorted(run.paths.base_model.glob("*.safetensors"))
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in base]


def build_trainer(run: Run, rows: list[dict], output: Path):
    """Build the trainer of a run with its model and its data.

    Args:
        run: the resolved run.
        rows: what `training_rows` gives for it.
        output: folder of the trainer's checkpoints.

    Returns:
        The objective's trainer, from the registry.

    Raises:
        ConfigError: if the model is missing or damaged, or a prompt is too long for it.
    """
    import torch

    model, tokenizer = load_folder(run.paths.base_model, dtype=torch.float32)
    takes_groups = find_objective(run.cell.objective).view.takes_groups
    # An objective of the user's own may choose among the rows, or draw them, in its own way.
    is_ours = run.cell.objective in OBJECTIVES
    numbers = used_groups(run, rows) if takes_groups and is_ours else range(len(rows))
    used = {number: rows[number] for number in numbers}
    require_room(run, used, model, tokenizer)
    if takes_groups:
        is_drawn = len(used) < len(rows)
        return _on_groups(run, list(used.values()), model, tokenizer, output, is_drawn=is_drawn)
    return _on_pairs(run, rows, model, tokenizer, output)


def _options(run: Run, output: Path) -> dict:
    """Return the trainer arguments that every objective has."""
    import torch

    cell, training = run.cell, run.training
    micro, accumulation = run.batch_share(device_count())
    humanline: dict[str, Any] = {"humanline": cell.humanline}
    if cell.humanline or cell.trust_region:
        humanline = {
            "humanline": True,
            "sync_interval": cell.sync_interval,
            "log_eps_p": cell.log_eps_p,
            "log_eps_r": cell.log_eps_r,
            "perception": cell.perception or "clip",
            "sync_after_update": cell.trust_region,
        }
    if training.bf16 and not torch.accelerator.is_available():
        humanline["use_cpu"] = True  # without it, transformers wants a GPU for bfloat16
    if cell.sync_alpha:
        humanline |= {"sync_alpha": cell.sync_alpha}
    if reference := _reference(cell):
        humanline |= {"reference": reference}
    return humanline | {
        "output_dir": str(output),
        "max_steps": training.steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": run.learning_rate,
        **_schedule(training),
        "max_grad_norm": _max_grad_norm(run),
        "weight_decay": training.weight_decay,
        "adam_epsilon": training.adam_epsilon,
        "bf16": training.bf16,
        "gradient_checkpointing": training.gradient_checkpointing,
        "logging_steps": max(1, training.steps // 32),
        "save_steps": training.save_every,
        "save_only_model": not training.resumable,
        "enable_jit_checkpoint": training.resumable,
        "report_to": list(run.report_to),
        "project": f"humanline-{run.scale}",
        "run_name": f"{cell.task}/{run.name}",
        "seed": cell.seed,
        **run.objective.model_dump(exclude=set(run.objective.OF_STUDIES)),
        **find_objective(cell.objective).arguments,
    }


def _schedule(training: Training) -> dict:
    """Return the options of the learning rate's schedule: a linear warm-up, then constant."""
    options: dict[str, Any] = {"warmup_steps": training.warmup_steps}
    if not training.warmup_from:
        return options | {"lr_scheduler_type": "constant_with_warmup"}
    # The only schedule of transformers whose warm-up begins above 0; its decay takes no step here.
    kwargs = {"num_decay_steps": 0, "min_lr_ratio": training.warmup_from}
    return options | {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": kwargs}


def _max_grad_norm(run: Run) -> float:
    """Return the norm that gradients are clipped to."""
    cell, norm = run.cell, run.training.max_grad_norm
    if cell.data == "online" and not cell.humanline and not cell.trust_region:
        norm = run.objective.online_max_grad_norm or norm
    return cell.overrides.get("max_grad_norm", norm)


def _reference(cell: Cell) -> str | None:
    """Name the way to keep the reference; None: the usual one."""
    soft = "adapter" if cell.lora else "model"
    own = cell.lora.reference if cell.lora else None
    return own or (soft if cell.sync_alpha else None)


def _on_groups(run: Run, rows: list[dict], model, tokenizer, output: Path, *, is_drawn: bool):
    """Build a trainer on whole groups: stored ones offline; online the trainer samples them.

    `is_drawn` says whether the rows are those of the run alone, in the order of training. If not,
    an objective's own arguments may say how they are drawn.
    """
    import numpy as np
    from datasets import Dataset
    from transformers import set_seed

    from humanline.scoring.rewards import load_reward

    cell, training, row = run.cell, run.training, find_objective(run.cell.objective)
    options = _options(run, output)
    accumulation = options["gradient_accumulation_steps"]
    window = min(cell.sample_every or 1, training.steps)
    args = load(row.config)(
        **options,
        num_generations=len(rows[0]["scores"]) if cell.data == "offline" else training.group_size,
        **({"shuffle_dataset": False} if is_drawn else {}),
        steps_per_generation=window * accumulation,
        temperature=training.sampling.temperature,
        top_p=training.sampling.top_p,
        max_completion_length=training.sampling.max_new_tokens,
        **_engine_options(run),
    )
    require_one_in_sight(args, run.paths.directory)
    if cell.data == "offline":
        dataset, reward = Dataset.from_list(load(row.view.rows)(rows, 0)), None
    else:
        prompts = [_prompt_row(row) for row in rows]
        dataset = Dataset.from_list(prompts)
        reward = _reward_function(load_reward(run.reward, cell.task))
    made_with = {"args": args, "train_dataset": dataset, "processing_class": tokenizer}
    with _engine_start(run, args):
        kind = load(row.trainer)
        trainer = kind(model, reward, **made_with, **adapters.adapter_options(run, kind))
    trainer.sequences_at_once = run.generation.most_at_once
    if args.use_vllm:
        # A colocated vLLM replaced the run's seed when it started. Processes that share a model
        # must draw the same numbers. Others must draw their own, since they may sample the same
        # group.
        engine = trainer.accelerator.process_index // run.shards
        set_seed(int(np.random.SeedSequence([cell.seed, engine]).generate_state(1)[0]))
    return trainer


def _engine_options(run: Run) -> dict:
    """Return TRL's options of the engine that samples online; none for transformers."""
    generation = run.generation
    if run.cell.data != "online" or generation.engine == "transformers":
        return {}
    from humanline.generation.vllm_engine import trl_options

    options = {"use_vllm": True} | trl_options(generation, run.shards)
    # TRL's correction assumes that vLLM samples from all tokens, which a top-p below 1 does not.
    is_whole = run.training.sampling.top_p == 1
    return options | {"vllm_importance_sampling_correction": is_whole}


def _engine_start(run: Run, args):
    """Return the context in which a trainer may start vLLM."""
    if not args.use_vllm:
        return nullcontext()
    from humanline.generation.vllm_engine import colocation

    return colocation(run.generation)


def _prompt_row(row: dict) -> dict:
    return {"prompt": preferences.user_turn(row["prompt"]), "answer": row.get("answer")}


def _reward_function(score):
    """Wrap a scoring function as TRL's reward function: conversations in, floats out."""

    def reward(prompts, completions, answer, log_metric=None, **_):
        scores = score(
            [prompt[-1]["content"] for prompt in prompts],
            [completion[-1]["content"] for completion in completions],
            answer,
        )
        for name, share in getattr(score, "shares", {}).items() if log_metric else ():
            log_metric(name, share)
        return scores

    return reward


def _on_pairs(run: Run, rows: list[dict], model, tokenizer, output: Path):
    """Build a trainer on pairs or their halves: offline from stored groups, online in rounds."""
    from datasets import Dataset

    cell, row = run.cell, find_objective(run.cell.objective)
    options = _options(run, output) | {"max_length": run.training.max_length}
    trainer, args = load(row.trainer), load(row.config)(**options)
    require_one_in_sight(args, run.paths.directory)
    if cell.data == "offline":
        dataset = Dataset.from_list(load(row.view.rows)(rows, run.training.min_score_difference))
        rounds = None
    else:
        dataset = trainer.placeholder(args)
        rounds = _rounds(run, rows, output / "rounds")
    made_with = {"args": args, "train_dataset": dataset, "processing_class": tokenizer}
    options = adapters.adapter_options(run, trainer)
    return trainer(model, **made_with, rounds=rounds, **options)


def _rounds(run: Run, rows: list[dict], directory: Path):
    from humanline.generation.engines import TransformersEngine, sample
    from humanline.scoring.rewards import load_reward
    from humanline.trainers.batches.rounds import Rounds

    training, score = run.training, load_reward(run.reward, run.cell.task)
    answers = {row["prompt"]: row.get("answer") for row in rows}

    @cache  # all rounds use one engine
    def engine_of(trainer):
        if run.generation.engine == "transformers":
            most = run.generation.most_at_once
            return TransformersEngine(trainer.model, trainer.processing_class, most)
        from humanline.generation.vllm_engine import PolicyEngine

        return PolicyEngine(trainer, run.generation, run.shards)

    def sample_round(trainer, prompts, draw):
        seed = 1_000_000 * run.cell.seed + draw
        options = {"n": training.group_size, "sampling": training.sampling, "seed": seed}
        return sample(engine_of(trainer), prompts, **options)

    def score_flat(prompts, completions):
        texts = [prompt[-1]["content"] for prompt in prompts]
        return score(texts, completions, [answers[text] for text in texts])

    steps = min(run.cell.sample_every or training.steps, training.steps)
    last = run.cell.last_sampling
    return Rounds(
        prompts=[preferences.user_turn(row["prompt"]) for row in rows],
        sample=sample_round,
        score=score_flat,
        steps=steps,
        directory=directory,
        min_score_difference=training.min_score_difference,
        last=last and last // steps,
    )
