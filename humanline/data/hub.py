"""Real data: prompts and scored completions from the Hugging Face hub, or a folder like it."""

from collections.abc import Iterator

from humanline.config import ConfigError, HubData, HubSource


def load(source: HubSource):
    """Load one split of a dataset at its pinned revision, or raise a one-line `ConfigError`."""
    from datasets import load_dataset

    try:
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
    train = [read(row) for row in load(config.train)]
    evaluation = [read(row) for row in load(config.evaluation)]
    held_out = train[: config.validation]
    return {
        "train": train[config.validation :],
        "validation": [row for row in held_out if task == "math_reasoning" or row["reference"]],
        "evaluation": evaluation,
    }


def groups(config: HubData) -> Iterator[dict]:
    """Scored groups of the training set: prompt, all completions and the reward model's scores.

    princeton-nlp's UltraFeedback sets name them `all_generated_responses` and `all_rm_scores`.
    """
    for row in load(config.train):
        yield {
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
