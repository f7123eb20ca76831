"""Real data: prompts and scored completions from the Hugging Face hub, or a folder like it.

Rows are princeton-nlp's UltraFeedback (all responses with ArmoRM's scores), HALOs' feedback files,
AlpacaEval's baseline outputs, or problems with answers, as MATH-500's.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from humanline.config import ConfigError, HubData, HubDataset
from humanline.data import feedback
from humanline.snapshots import check, dataset_files, rows_fingerprint


def load(source: HubDataset):
    """Load one split of a dataset at its pinned revision, or raise a one-line `ConfigError`."""
    from datasets import load_dataset

    path = dataset_files(source)
    try:
        if source.file:  # also where the repository has a loading script, which is then not run
            files = {source.split: str(path)}
            dataset = load_dataset("json", data_files=files, split=source.split)
        else:
            dataset = load_dataset(str(path), split=source.split)
    except Exception as error:  # the many kinds of file formats
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"dataset {source.repo}: cannot be read ({reason}); check split, file and revision"
        ) from None
    check(source, lambda: rows_fingerprint(dataset))
    return dataset


def splits(task: str, config: HubData) -> dict[str, list[dict]]:
    """Rows of every split, in the form the miniature's have (see `miniature.splits`)."""
    read = _math_row if task == "math_reasoning" else _instruction_row
    held_out, train = _divide(config, read)
    return {
        "train": train,
        # A judge cannot compare with an empty reference.
        "validation": [row for row in held_out if row.get("reference") != ""],
        "evaluation": _rows(config.evaluation, read),
    }


def groups(config: HubData, base_model: str | None = None) -> Iterator[dict]:
    """Scored groups of the training split: prompt, completions and the reward model's scores.

    Args:
        base_model: whose completions, a name in `config.stored`; None: the task's base model,
            whose completions are those of `config.train`.
    """
    held_out, found = _divide(config, _group)
    if base_model:
        avoid = {group["prompt"] for group in held_out}
        found = [g for g in _rows(config.stored[base_model], _group) if g["prompt"] not in avoid]
    for group in _once_each(found):
        size = config.stored_group_size or len(group["scores"])
        if len(group["scores"]) >= size:
            yield _thinned(group, size)


def _divide(config: HubData, read: Callable) -> tuple[list[dict], list[dict]]:
    """The prompts set aside for tuning, and those to train on; none is among both."""
    rows = list(_once_each(_rows(config.train, read)))
    if len(rows) <= config.validation:
        raise ConfigError(
            f"dataset {config.train.repo}: {len(rows)} rows; set validation below that number"
        )
    return rows[: config.validation], rows[config.validation :]


def _rows(source: HubDataset, read: Callable) -> list[dict]:
    """What `read` makes of a dataset's rows, or of the groups of a feedback file."""
    rows = list(load(source))
    try:
        if rows and feedback.is_feedback(rows[0]):
            rows = feedback.groups(feedback.of_split(rows, source.split))
            rows = [_of_one_turn(source, group) for group in rows]
        return [read(row) for row in rows]
    except KeyError as error:
        raise ConfigError(
            f"dataset {source.repo}: no field {error}; choose a dataset that has it"
        ) from None


def _of_one_turn(source: HubDataset, group: dict) -> dict:
    """A group whose prompt is text."""
    if len(group["prompt"]) != 1:
        raise ConfigError(
            f"dataset {source.repo}: a prompt has {len(group['prompt'])} turns, and the tables' "
            "tasks have prompts of one; remove it, or train with a recipe"
        )
    return group | {"prompt": group["prompt"][0]["content"]}


def _group(row: dict) -> dict:
    if "completions" in row:  # of a feedback file
        return row
    return {
        "prompt": row["prompt"],
        "completions": row["all_generated_responses"],
        "scores": row["all_rm_scores"],
    }


def _once_each(rows: Iterable[dict]) -> Iterator[dict]:
    """The first row of each prompt, which data may repeat."""
    seen = set()
    for row in rows:
        if row["prompt"] not in seen:
            seen.add(row["prompt"])
            yield row


def _thinned(group: dict, size: int) -> dict:
    """`size` completions of a group, its best and its worst and those evenly between by rank.

    They keep their order.
    """
    ranks = np.argsort(group["scores"], kind="stable")
    kept = sorted(ranks[np.linspace(0, len(ranks) - 1, size).round().astype(int)].tolist())
    return group | {key: [group[key][i] for i in kept] for key in ("completions", "scores")}


def _instruction_row(row: dict) -> dict:
    if "instruction" in row:  # AlpacaEval's baseline outputs
        return {"prompt": row["instruction"], "reference": row["output"]}
    if "completions" in row:  # of a feedback file
        best = int(np.argmax(row["scores"]))
        return {"prompt": row["prompt"], "reference": row["completions"][best]}
    return {"prompt": row["prompt"], "reference": row["chosen"][-1]["content"]}


def _math_row(row: dict) -> dict:
    return {"prompt": row["problem"], "answer": row["answer"]}
