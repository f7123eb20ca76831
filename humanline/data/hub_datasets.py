"""Real data: prompts and scored completions from the Hugging Face hub, or from a local folder.

Four kinds of rows are known: princeton-nlp's UltraFeedback (all responses with ArmoRM's scores),
HALOs' feedback files, AlpacaEval's baseline outputs, and problems with answers, such as MATH-500.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from humanline.data import feedback
from humanline.data.hub import check_fingerprint, dataset_files, rows_fingerprint
from humanline.files.validation import ConfigError, Record, require_as_many, validate
from humanline.study.scale.data import HubData, HubDataset
from humanline.study.tasks import find_task
from humanline.trainers.registry import takers_of_groups
from humanline.trainers.rows.formats import Text


def load(source: HubDataset) -> Any:
    """Load one split of a dataset at its pinned revision.

    Returns:
        A `datasets.Dataset`.

    Raises:
        ConfigError: if it cannot be fetched or read, or does not have the configured fingerprint.
    """
    from datasets import load_dataset

    path = dataset_files(source)
    try:
        if source.file:  # a loading script of the repository is not run
            files = {source.split: str(path)}
            dataset = load_dataset("json", data_files=files, split=source.split)
        else:
            dataset = load_dataset(str(path), split=source.split)
    except Exception as error:  # the many kinds of file formats
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"dataset {source.repo}: cannot be read ({reason}); check split, file and revision"
        ) from None
    check_fingerprint(source, lambda: rows_fingerprint(dataset))
    return dataset


def splits(task: str, config: HubData) -> dict[str, list[dict]]:
    """Read the rows of every split, in the same form as `miniature.splits`.

    Args:
        task: the task's name.
        config: the datasets, and the number of prompts set aside for tuning.

    Returns:
        Rows by split: ``train``, ``validation``, ``evaluation``.

    Raises:
        ConfigError: if a dataset cannot be read or has a wrong row.
    """
    read = find_task(task).read_row
    held_out, train = _divide(config, read)
    return {
        "train": train,
        # A judge cannot compare with an empty reference.
        "validation": [row for row in held_out if row.get("reference") != ""],
        "evaluation": _rows(config.evaluation, read),
    }


def groups(
    config: HubData, base_model: str | None = None, batch_size: int | None = None
) -> list[dict]:
    """Read the scored completions of the training prompts.

    Args:
        config: the datasets, and how many completions of a prompt to keep.
        base_model: the model that wrote the completions, a name in `config.stored`; None: the
            task's base model, whose completions are in `config.train`.
        batch_size: the batch size of the objectives that take whole groups; None: no such
            objective.

    Returns:
        ``{"prompt", "completions", "scores"}`` for each prompt.

    Raises:
        ConfigError: if no group is large enough, or if groups do not fill the batches.
    """
    held_out, found = _divide(config, _group)
    source = config.stored[base_model] if base_model else config.train
    if base_model:
        avoid = {group["prompt"] for group in held_out}
        found = [group for group in _rows(source, _group) if group["prompt"] not in avoid]
    size = config.stored_group_size
    kept = [
        _thinned(group, size or len(group["scores"]))
        for group in _once_each(found)
        if len(group["scores"]) >= (size or 1)
    ]
    if not kept:
        raise ConfigError(
            f"dataset {source.repo}: no prompt is left that has {size or 1} completions; lower "
            "stored_group_size or validation"
        )
    if batch_size:
        _require_one_size(source, {len(group["scores"]) for group in kept}, batch_size)
    return kept


def _require_one_size(source: HubDataset, sizes: set[int], batch_size: int) -> None:
    """Refuse groups that do not fill the batches of objectives that take whole groups."""
    if len(sizes) > 1 or 1 in sizes or batch_size % max(sizes):
        found = " or ".join(map(str, sorted(sizes)))
        takers = " or ".join(takers_of_groups())
        raise ConfigError(
            f"dataset {source.repo}: prompts have {found} completions, but {takers} needs one "
            f"number for all, 2 or more, that divides batch_size, {batch_size}; set "
            "stored_group_size"
        )


def _divide(config: HubData, read: Callable) -> tuple[list[dict], list[dict]]:
    """Split the rows: those set aside for tuning, and those to train on; no prompt is in both."""
    rows = list(_once_each(_rows(config.train, read)))
    if len(rows) <= config.validation:
        raise ConfigError(
            f"dataset {config.train.repo}: {len(rows)} rows; set validation below that number"
        )
    return rows[: config.validation], rows[config.validation :]


def _rows(source: HubDataset, read: Callable) -> list[dict]:
    """Apply `read` to a dataset's rows, or to the groups of a feedback file."""
    rows, place = list(load(source)), f"dataset {source.repo}: split {source.split}"
    if rows and feedback.is_feedback(rows[0]):
        rows = feedback.groups(rows, place, source.split)
        rows = [_of_one_turn(source, group) for group in rows]
    if not rows:
        raise ConfigError(f"{place}: no rows; choose another split")
    return [read(row, f"{place}: row {number}") for number, row in enumerate(rows)]


def _of_one_turn(source: HubDataset, group: dict) -> dict:
    """Turn a group's prompt of one turn into text."""
    if len(group["prompt"]) != 1:
        raise ConfigError(
            f"dataset {source.repo}: a prompt has {len(group['prompt'])} turns, but a table's "
            "prompts have one; remove it, or train with a recipe"
        )
    return group | {"prompt": group["prompt"][0]["content"]}


def _group(row: dict, place: str) -> dict:
    if "completions" in row:  # a feedback file
        return row
    found = validate(_Scored, row, place)
    return {
        "prompt": found.prompt,
        "completions": found.all_generated_responses,
        "scores": found.all_rm_scores,
    }


def _once_each(rows: Iterable[dict]) -> Iterator[dict]:
    """Yield the first row of each prompt; data may repeat prompts."""
    seen = set()
    for row in rows:
        if row["prompt"] not in seen:
            seen.add(row["prompt"])
            yield row


def _thinned(group: dict, size: int) -> dict:
    """Keep `size` completions of a group, in their order: best, worst, and evenly spaced ranks."""
    ranks = np.argsort(group["scores"], kind="stable")
    kept = sorted(ranks[np.linspace(0, len(ranks) - 1, size).round().astype(int)].tolist())
    return group | {key: [group[key][i] for i in kept] for key in ("completions", "scores")}


class _Scored(Record):
    """A row of princeton-nlp's UltraFeedback, with all responses."""

    prompt: Text
    all_generated_responses: Annotated[list[str], Field(min_length=1)]
    all_rm_scores: list[float]

    @model_validator(mode="after")
    def _all_are_scored(self) -> Self:
        answers = self.all_generated_responses
        require_as_many("all_rm_scores", self.all_rm_scores, answers, "responses")
        return self
