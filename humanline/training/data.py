"""Read the data that a run trains on, and refuse data from which nothing can be learned."""

import os
from collections.abc import Mapping, Sequence

from humanline.data.stage_files import Group, prompts_of, read_likelihoods
from humanline.files.typed_files import read_rows
from humanline.files.validation import ConfigError
from humanline.study.runs.resolved import Run
from humanline.trainers.registry import find_objective
from humanline.trainers.rows import lengths, preferences


def training_rows(run: Run) -> list[dict]:
    """Read a run's rows: a base model's scored groups offline, the task's prompts online.

    Raises:
        ConfigError: if the file is missing or damaged, or has fewer groups than the cell needs.
    """
    cell = run.cell
    if cell.data == "offline":
        path = run.paths.offline_groups
        groups = read_rows(path, Group)
        if cell.quartile:
            likelihoods = read_likelihoods(run.paths.likelihoods, groups)
            groups = preferences.quartile(groups, likelihoods, cell.quartile)
        if cell.select:
            groups = preferences.best_quarter(groups, cell.select)
        if cell.groups and len(groups) < cell.groups:
            raise ConfigError(
                f"{path}: {len(groups)} groups, but {cell.name} is to train on {cell.groups}; make "
                "more, or change groups in experiments.yaml"
            )
        return groups[: cell.groups]
    return read_rows(run.paths.prompts, prompts_of(cell.task))


def data_record(run: Run, groups: list[dict]) -> dict[str, int]:
    """Count an offline run's groups, and those whose scores do not differ enough.

    Args:
        run: the run; for an online run there is nothing to count.
        groups: what `training_rows` gives for it.

    Returns:
        ``groups`` and ``groups_without_difference``; empty for an online run.

    Raises:
        ConfigError: if no group has scores that differ.
    """
    if run.cell.data != "offline":
        return {}
    difference = run.training.min_score_difference
    least = find_objective(run.cell.objective).view.least_difference(difference)
    alike = sum(preferences.best_versus_worst(g["scores"], least) is None for g in groups)
    if alike == len(groups):
        raise ConfigError(
            f"{run.paths.offline_groups}: none of the {alike} groups of {run.name} has"
            f" completions whose scores differ by more than {least:g}, so there is nothing to "
            "learn; give it other data"
        )
    if alike and os.environ.get("RANK", "0") == "0":  # only the first process prints
        print(
            f"{run.name}: {alike} of {len(groups)} groups have nothing to learn from: scores "
            f"that differ by at most {least:g}"
        )
    return {"groups": len(groups), "groups_without_difference": alike}


def used_groups(run: Run, rows: list[dict]) -> Sequence[int]:
    """Draw the rows that a run on whole groups uses, in the order in which TRL would draw them.

    To tokenize all rows takes seconds of a short run.

    Args:
        run: the run; its objective trains on whole groups.
        rows: what `training_rows` gives for it.

    Returns:
        The numbers of the rows in the order of training; all, in their own order, if it uses all.
    """
    import torch

    cell, training = run.cell, run.training
    window = min(cell.sample_every or 1, training.steps)
    steps = -(-training.steps // window) * window  # a whole sampling at a time
    size = len(rows[0]["scores"]) if cell.data == "offline" else training.group_size
    used = steps * run.objective.batch_size // size
    if used >= len(rows):
        return range(len(rows))
    generator = torch.Generator().manual_seed(cell.seed)
    return torch.randperm(len(rows), generator=generator)[:used].tolist()


def require_room(run: Run, rows: Mapping[int, dict], model, tokenizer) -> None:
    """Refuse prompts that are too long for the model, before sampling or training begins.

    Args:
        run: the run.
        rows: those of `training_rows` that it uses, by number.
        model: the run's base model.
        tokenizer: the model's.

    Raises:
        ConfigError: naming the file and the prompt.
    """
    from humanline.trainers.rows.conversations import encode_prompts

    generation = run.generation
    context = lengths.context_of(model.config, tokenizer)
    new_tokens, path = 0, run.paths.offline_groups
    if run.cell.data == "online":
        path = run.paths.prompts
        new_tokens = run.training.sampling.max_new_tokens
        if generation.engine == "vllm":
            context = generation.max_model_length or context
    prompts = [preferences.user_turn(row["prompt"]) for row in rows.values()]
    for number, ids in zip(rows, encode_prompts(tokenizer, prompts), strict=True):
        lengths.require_room_for(len(ids), context, new_tokens, f"{path}: row {number}")
