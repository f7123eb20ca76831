"""Offline data: completions sampled once from the base model, scored by the training reward."""

from humanline.config import HubData
from humanline.experiments import Cell
from humanline.files import read_jsonl, write_jsonl
from humanline.study import Study


def make(study: Study, task: str, seed: int) -> None:
    """Write the scored groups of a seed's base model.

    A task whose data come from the hub already has completions with scores: these are used.
    """
    config = study.scale.tasks[task]
    groups = _stored(config) if isinstance(config.data, HubData) else _sampled(study, task, seed)
    write_jsonl(study.offline_groups(task, seed), groups)


def _stored(config):
    from humanline.data.hub import groups

    return groups(config.data)


def _sampled(study: Study, task: str, seed: int) -> list[dict]:
    from humanline.generation import load_model, sample_text
    from humanline.rewards import load_reward

    config = study.scale.tasks[task]
    rows = read_jsonl(study.data(task, "train"), ("prompt",))
    base = study.directory(Cell(task=task, objective="base", seed=seed)) / "model"
    completions = sample_text(
        *load_model(base),
        [row["prompt"] for row in rows],
        n=config.training.group_size,
        sampling=config.training.sampling,
        seed=seed,
        progress=True,
    )
    score = load_reward(config.reward)
    return [
        {
            "prompt": row["prompt"],
            "completions": group,
            "scores": score([row["prompt"]] * len(group), group, [row.get("answer")] * len(group)),
        }
        for row, group in zip(rows, completions, strict=True)
    ]
