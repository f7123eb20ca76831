"""Real data: prompts and scored completions from the Hugging Face hub, or a folder like it."""

from collections.abc import Iterator

from humanline.config import ConfigError, HubData, HubSource


def load(source: HubSource):
    """Load one split of a dataset at its pinned revision, or raise a one-line `ConfigError`."""
    from datasets import load_dataset

    try:
        if source.file:
            # Also where the repository has a loading script, which datasets would refuse.
            hub = f"hf://datasets/{source.repo}@{source.revision or 'main'}"
            path = f"{source.repo if source.is_local else hub}/{source.file}"
            return load_dataset("json", data_files={source.split: path}, split=source.split)
        return load_dataset(source.repo, revision=source.revision, split=source.split)
    except Exception as error:  # the hub, its client and file formats raise many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"dataset {source.repo}: cannot be loaded ({reason}); "
            "check the network, or set repo to a local copy and revision to null"
        ) from None


def splits(task: str, config: HubData) -> dict[str, list[dict]]:
    """Rows of every split, in the form the miniature's have (see `miniature.splits`)."""
    read = _math_row if task == "math_reasoning" else _instruction_row
    held_out, train = _divide(config)
    validation = [_read(config.train, read, row) for row in held_out]
    return {
        "train": [_read(config.train, read, row) for row in train],
        # A judge cannot compare with an empty reference.
        "validation": [row for row in validation if row.get("reference") != ""],
        "evaluation": [_read(config.evaluation, read, row) for row in load(config.evaluation)],
    }


def groups(config: HubData) -> Iterator[dict]:
    """Scored groups of the training split: prompt, all completions and the reward model's scores.

    princeton-nlp's UltraFeedback sets name them `all_generated_responses` and `all_rm_scores`.
    """
    _, train = _divide(config)
    for row in train:
        yield _read(config.train, _group, row)


def _divide(config: HubData) -> tuple[list[dict], list[dict]]:
    """The rows set aside for tuning, and those to train on."""
    rows = list(load(config.train))
    if len(rows) <= config.validation:
        raise ConfigError(
            f"dataset {config.train.repo}: {len(rows)} rows; set validation below that number"
        )
    return rows[: config.validation], rows[config.validation :]


def _read(source: HubSource, read, row: dict) -> dict:
    try:
        return read(row)
    except KeyError as error:
        raise ConfigError(
            f"dataset {source.repo}: no field {error}; choose a dataset that has it"
        ) from None


def _group(row: dict) -> dict:
    return {
        "prompt": row["prompt"],
        "completions": row["all_generated_responses"],
        "scores": row["all_rm_scores"],
    }


def _instruction_row(row: dict) -> dict:
    if "instruction" in row:  # AlpacaEval's baseline outputs
        return {"prompt": row["instruction"], "reference": row["output"]}
    return {"prompt": row["prompt"], "reference": row["chosen"][-1]["content"]}


def _math_row(row: dict) -> dict:
    return {"prompt": row["problem"], "answer": row["answer"]}
