"""Make offline data: the base model's completions, sampled once and scored by the training reward.

A second function measures how likely another model finds them: in the paper, the data's worth
depends on it.
"""

import math

from humanline.data.stage_files import Group, Likelihood, prompts_of
from humanline.files.typed_files import read_rows, write_rows
from humanline.study.runs.resolved import Run
from humanline.study.scale.data import HubData


def make(base: Run) -> None:
    """Write the scored groups of completions of a base model.

    If the data are preferences from the hub with stored, scored completions of this base model,
    those are used. Otherwise the base model samples completions and the task's reward scores them.

    Args:
        base: the base model's run, with its data and paths.

    Raises:
        ConfigError: if the prompts or the stored data are damaged, or the reward fails.
    """
    if isinstance(base.data, HubData) and base.is_stored:
        groups = _stored(base, base.data)
    else:
        groups = _sampled(base)
    write_rows(base.paths.offline_groups, Group, groups)
    alike = sum(len(set(group["scores"])) == 1 for group in groups)
    print(f"{len(groups)} groups; in {alike} of them all completions have the same score")


def _stored(base: Run, data: HubData) -> list[dict]:
    from humanline.data.hub_datasets import groups

    # A group size divides all of these batches if it divides their greatest common divisor.
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
    """Write the mean token log-probability of one base model's completions under another.

    A row per group: ``{"prompt", "mean_token_log_probability": [nats, one per completion]}``.

    Args:
        source: the run of the base model whose completions are scored.
        base: the run of the base model that scores them.

    Raises:
        ConfigError: if a prompt with its completion is longer than the model's context.
    """
    from humanline.generation.engines import load_model
    from humanline.scoring.likelihood.tokens import token_log_probabilities

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
