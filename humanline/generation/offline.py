"""Offline data: completions sampled once from the base model, scored by the training reward.

And how likely another model finds them, which is what the paper says their worth depends on.
"""

import math

from humanline.data.stage_files import Group, Likelihood, prompts_of
from humanline.files.records import read_rows, write_rows
from humanline.study.experiments import Cell
from humanline.study.study import Study


def make(study: Study, base: Cell) -> None:
    """Write the scored groups of a base model.

    Preferences from the hub already have the completions of the task's own model, with scores, and
    those of the other models in `stored`: these are used.
    """
    groups = _stored(study, base) if study.is_stored(base) else _sampled(study, base)
    write_rows(study.offline_groups(base), Group, groups)
    alike = sum(len(set(group["scores"])) == 1 for group in groups)
    print(f"{len(groups)} groups, {alike} of them with completions that all score alike")


def _stored(study: Study, base: Cell) -> list[dict]:
    from humanline.data.hub import groups

    config = study.scale.tasks[base.task]
    # A size divides all of these batches if it divides their greatest common divisor.
    batch_size = math.gcd(*config.training.batches_of_groups.values())
    return groups(config.data, base.base_model, batch_size or None)


def _sampled(study: Study, base: Cell) -> list[dict]:
    from humanline.generation.engines import open_engine, sample_text
    from humanline.scoring.rewards import load_reward

    config = study.scale.tasks[base.task]
    path = study.data(base.task, "train")
    rows = read_rows(path, prompts_of(base.task))
    options = study.scale.generation, study.shards(base)
    with open_engine(study.directory(base) / "model", *options) as engine:
        completions = sample_text(
            engine,
            [row["prompt"] for row in rows],
            n=config.training.group_size,
            sampling=config.training.sampling,
            seed=base.seed,
            place=path,
            progress=True,
        )
    score = load_reward(config.reward, base.task)
    return [
        {
            "prompt": row["prompt"],
            "completions": group,
            "scores": score([row["prompt"]] * len(group), group, [row.get("answer")] * len(group)),
        }
        for row, group in zip(rows, completions, strict=True)
    ]


def measure_likelihood(study: Study, source: Cell, base: Cell) -> None:
    """Write the mean token log-probability of a base model's completions under another.

    One row per group, ``{"prompt", "mean_token_log_probability": [nats, one per completion]}``.

    Args:
        source: the base model whose completions are scored.
        base: the base model that scores them.
    """
    from humanline.generation.engines import load_model
    from humanline.generation.likelihood import token_log_probabilities

    options = study.scale.generation.dtype, study.shards(base)
    model, tokenizer = load_model(study.directory(base) / "model", *options)
    groups = read_rows(study.offline_groups(source), Group)
    pairs = [(group["prompt"], text) for group in groups for text in group["completions"]]
    place = study.offline_groups(source)
    scores = token_log_probabilities(model, tokenizer, pairs, progress=True, place=place)
    means = iter([float(tokens.mean()) for tokens in scores])
    rows = [
        {
            "prompt": group["prompt"],
            "mean_token_log_probability": [next(means) for _ in group["completions"]],
        }
        for group in groups
    ]
    write_rows(study.likelihoods(source, base), Likelihood, rows)
