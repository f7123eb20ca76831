"""Offline GRPO: stored completions and scores replace sampling and reward functions."""

from functools import partial

from datasets import Dataset

from humanline.files.validation import ConfigError
from humanline.trainers.rows.encoded import Encoded, Rows, map_encoded
from humanline.trainers.rows.examples import read
from humanline.trainers.rows.scores import check_group
from humanline.trainers.rows.tokens import columns_of
from humanline.trainers.shared.metrics import metrics_of

_COLUMNS = {"completions", "scores"}
# Columns that `tokenized_groups` makes and training reads.
COLUMNS = ("stored_prompt_ids", "stored_completion_ids", "stored_is_cut", "scores")
_ALL_CUT = (
    "max_completion_length={} cuts off all completions, and mask_truncated_completions=True leaves "
    "nothing of them to train on; raise max_completion_length"
)


def is_stored(dataset) -> bool:
    """Say whether a dataset has stored completions with scores."""
    return dataset is not None and set(columns_of(dataset)) >= _COLUMNS


def refuse_sampling(args, kwargs: dict) -> None:
    """Refuse options of sampling: on stored groups nothing is sampled.

    Args:
        args: the trainer's config.
        kwargs: the trainer's other arguments.

    Raises:
        ConfigError: naming the option.
    """
    if args.use_vllm:
        raise ConfigError("use_vllm=True: the training set has completions; set it to False")
    if args.sync_ref_model:
        raise ConfigError(
            "sync_ref_model=True: offline the reference is the model that is assumed to have made "
            "the completions, and stays; set it to False, or humanline=True with a sync_interval"
        )
    for name in ("rollout_func", "environment_factory", "tools"):
        if kwargs.get(name):
            raise ConfigError(f"{name}: the training set has completions; leave it out")


def tokenized_groups(dataset, trainer, group_size: int, name: str):
    """Tokenize stored groups. Completions are cut off at the trainer's `max_completion_length`.

    Args:
        dataset: rows with `prompt`, `completions` and `scores`.
        trainer: a GRPO trainer.
        group_size: completions of each prompt.
        name: "train" or "eval", for errors.

    Returns:
        The dataset with `COLUMNS`, and ``{"rows_cut": number}`` of rows with a completion that was
        cut off (empty for a stream, whose rows are not known yet).

    Raises:
        ConfigError: if a row cannot be read, lacks completions or scores, or all are cut off.
    """
    # `datasets` hashes all that `Rows` refers to. The trainer would bring the model with it.
    limit, processing_class = trainer.max_completion_length, trainer.processing_class
    options = trainer.chat_template_kwargs
    option = "num_generations" if name == "train" else "num_generations_eval"
    names = [f"completion {index}" for index in range(group_size)]

    def columns_of_row(row: dict, prompt, pairs: Encoded) -> dict:
        return {
            "stored_prompt_ids": [prompt_ids for prompt_ids, _ in pairs],
            "stored_completion_ids": [ids[:limit] for _, ids in pairs],
            "stored_is_cut": [limit is not None and len(ids) > limit for _, ids in pairs],
            "scores": [float(score) for score in row["scores"]],
            "prompt": prompt if row.get("prompt") is None else row["prompt"],
        }

    if not is_stored(dataset):
        raise ConfigError(f"{name} set: lacks completions and scores, which the train set has")
    read_row = partial(_read_group, option=option, names=names)
    rows = Rows(processing_class, read_row, names, columns_of_row, options)
    groups = map_encoded(dataset, rows, name, remove_columns=["completions"])
    if not isinstance(groups, Dataset):
        return groups, {}
    are_cut = groups["stored_is_cut"][:]
    if trainer.mask_truncated_completions and all(map(all, are_cut)):
        raise ConfigError(f"{name} set: {_ALL_CUT.format(limit)}")
    return groups, {"rows_cut": sum(map(any, are_cut))}


def _read_group(row: dict, option: str, names: list[str]) -> tuple:
    """Find the prompt and the completions of a row, which must have as many as `names`."""
    completions, size = row["completions"], len(names)
    if not isinstance(completions, list) or len(completions) != size:
        given = len(completions) if isinstance(completions, list) else completions
        raise ValueError(f"it has {given} completions; {option} asks for {size} of each prompt")
    check_group(row["scores"], size)
    return read(row.get("prompt"), completions, names)


def replay(prompts: list, trainer) -> dict:
    """Return stored completions instead of sampling: TRL's `rollout_func` for stored groups."""
    size = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
    # TRL repeats each prompt `size` times and gives every process a stretch of the whole list. The
    # stretch may begin within a group.
    first = trainer.accelerator.process_index * len(prompts)
    indices = [(first + i) % size for i in range(len(prompts))]
    rows = list(zip(trainer._rows_of_rollout, indices, strict=True))
    trainer._is_cut = [row["stored_is_cut"][index] for row, index in rows]
    return {
        "prompt_ids": [row["stored_prompt_ids"][index] for row, index in rows],
        "completion_ids": [row["stored_completion_ids"][index] for row, index in rows],
        "logprobs": None,
        "stored_index": indices,
    }


def stored_score(scores: list, stored_index: list, **_) -> list[float]:
    """Return stored scores: TRL's reward function for stored groups."""
    return [row[index] for row, index in zip(scores, stored_index, strict=True)]


def mark_cut_off(trainer, batch: dict) -> dict:
    """Correct which completions of a replayed rollout count as cut off, in mask and metrics.

    TRL takes a completion for cut off if its last token is not the end of sequence. But the turns
    of many templates end with another token.

    Args:
        trainer: a GRPO trainer, after `replay`.
        batch: TRL's rollout; `completion_mask` is (B, T).
    """
    cut = batch["completion_mask"].new_tensor(trainer._is_cut).bool()
    lengths = batch["completion_mask"].sum(1)
    gather = trainer.accelerator.gather
    all_cut, all_lengths = gather(cut), gather(lengths).float()
    metrics, whole = metrics_of(trainer), all_lengths[~all_cut]
    metrics["completions/clipped_ratio"][-1] = all_cut.float().mean().item()
    for of in ("mean", "min", "max"):
        value = getattr(whole, of)().item() if len(whole) else 0.0
        metrics[f"completions/{of}_terminated_length"][-1] = value
    if not trainer.args.mask_truncated_completions:
        return batch
    mask = batch["completion_mask"] * ~cut[:, None]
    return batch | {"completion_mask": mask, "num_items_in_batch": gather(mask.sum()).sum()}
