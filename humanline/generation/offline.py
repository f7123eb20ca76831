"""Offline data: completions sampled once from the base model, scored by the training reward.

And how likely another model finds them, which is what the paper says their worth depends on.
"""

import math

from humanline.data.stage_files import Group, Likelihood, prompts_of
from humanline.files.typed_files import read_rows, write_rows
from humanline.study.runs.resolved import Run
from humanline.study.scale.data import HubData


def make(base: Run) -> None:
    """Write the scored groups of a base model.

    Preferences from the hub already have the completions of the task's own model, with scores, and
    those of the other models in `stored`: these are used.
    """
    if isinstance(base.data, HubData) and base.is_stored:
        groups = _stored(base, base.data)
    else:
        groups = _sampled(base)
    write_rows(base.paths.offline_groups, Group, groups)
    alike = sum(len(set(group["scores"])) == 1 for group in groups)
    print(f"{len(groups)} groups, {alike} of them with completions that all score alike")


def _stored(base: Run, data: HubData) -> list[dict]:
    from humanline.data.hub import groups

    # A size divides all of these batches if it divides their greatest common divisor.
    batch_size = math.gcd(*base.training.batches_of_groups.values())
    return groups(data, base.cell.base_model, batch_size or None)


def _sampled(base: Run) -> list[dict]:
    from humanline.generation.engines import open_engine, sample_text
    from humanline.scoring.rewards import load_reward

    path = base.paths.prompts
    rows = read_rows(path, prompts_of(base.cell.task))
    with open_engine(base.paths.model, base.generation, base.shards) as engine:
        completions = sample_text(
            engine,
            [row["prompt"] for row in rows],
            n=base.training.group_size,
            sampling=base.training.sampling,
            seed=base.cell.seed,
            place=path,
            progress=True,
        )
    score = load_reward(base.reward, base.cell.task)
    return [
        {
            "prompt": row["prompt"],
            "completions": group,
            "scores": score([row["prompt"]] * len(group), group, [row.get("answer")] * len(group)),
        }
        for row, group in zip(rows, completions, strict=True)
    ]


def measure_likelihood(source: Run, base: Run) -> None:
    """Write the mean token log-probability of a base model's completions under another.

    One row per group, ``{"prompt", "mean_token_log_probability": [nats, one per completion]}``.

    Args:
        source: the base model whose completions are scored.
        base: the base model that scores them.
    """
    from humanline.generation.engines import load_model
    from humanline.generation.likelihood import token_log_probabilities

    model, tokenizer = load_model(base.paths.model, base.generation.dtype, base.shards)
    place = source.paths.offline_groups
    groups = read_rows(place, Group)
    pairs = [(group["prompt"], text) for group in groups for text in group["completions"]]
    scores = token_log_probabilities(model, tokenizer, pairs, progress=True, place=place)
    means = iter([float(tokens.mean()) for tokens in scores])
    rows = [
        {
            "prompt": group["prompt"],
            "mean_token_log_probability": [next(means) for _ in group["completions"]],
        }
        for group in groups
    ]
    write_rows(base.paths.likelihoods_of(source.cell), Likelihood, rows)
