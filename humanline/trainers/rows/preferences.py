"""Making the rows of each objective from scored groups of completions.

Offline data are stored as groups alone: ``{"prompt": str, "completions": [str], "scores":
[float]}``.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from humanline.files.validation import ConfigError


def best_versus_worst(scores: list[float], min_difference: float) -> tuple[int, int] | None:
    """Find the indices of the best and the worst score.

    Args:
        scores: the scores of a group.
        min_difference: their difference must be larger than this.

    Returns:
        The two indices, or None if the scores differ too little.
    """
    best = max(range(len(scores)), key=scores.__getitem__)
    worst = min(range(len(scores)), key=scores.__getitem__)
    return (best, worst) if scores[best] - scores[worst] > min_difference else None


def user_turn(prompt: str) -> list[dict]:
    """Write a prompt as a conversation."""
    return [{"role": "user", "content": prompt}]


def assistant_turn(completion: str) -> list[dict]:
    """Write a completion as the turn that follows the prompt."""
    return [{"role": "assistant", "content": completion}]


def pairs(groups: Iterable[dict], min_difference: float) -> list[dict]:
    """Make TRL's conversational preference rows: a group's best completion against its worst.

    Args:
        groups: scored groups.
        min_difference: groups whose best and worst score differ by no more than this are left out.

    Returns:
        Rows with `prompt`, `chosen` and `rejected`, each a list of messages.
    """
    rows = []
    for group in groups:
        if pair := best_versus_worst(group["scores"], min_difference):
            chosen, rejected = (assistant_turn(group["completions"][i]) for i in pair)
            prompt = user_turn(group["prompt"])
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def labelled(groups: Iterable[dict], min_difference: float) -> list[dict]:
    """Make TRL's unpaired rows: a pair's chosen completion is desirable, its rejected one is not.

    Desirable and undesirable rows alternate, because TRL trains on rows in the given order. The two
    rows of a pair are not neighbours: in the KL term TRL pairs a prompt with the completion of the
    row before, which must belong to another prompt.

    Args:
        groups, min_difference: as in `pairs`.

    Returns:
        Rows with `prompt`, `completion` (lists of messages) and `label`.
    """
    paired = pairs(groups, min_difference)
    rows = []
    for i, row in enumerate(paired):
        other = paired[(i + 2) % len(paired)]
        rows.append({"prompt": row["prompt"], "completion": row["chosen"], "label": True})
        rows.append({"prompt": other["prompt"], "completion": other["rejected"], "label": False})
    return rows


def stored_groups(groups: Iterable[dict], min_difference: float = 0) -> list[dict]:
    """Make the rows of offline GRPO: whole groups.

    Args:
        groups: scored groups.
        min_difference: not used, because a group needs no pair.

    Returns:
        Rows with `prompt` (a list of messages), `completions` and `scores`.
    """
    return [
        {
            "prompt": user_turn(group["prompt"]),
            "completions": group["completions"],
            "scores": group["scores"],
        }
        for group in groups
    ]


def best_quarter(groups: Sequence[dict], by: str) -> list[dict]:
    """Select the best quarter of scored groups, in their order; of equal ones, the first.

    Args:
        groups: scored groups.
        by: ``spread``, the difference of a group's best and worst score, or ``score``, its best.
    """
    values = [max(g["scores"]) - (by == "spread") * min(g["scores"]) for g in groups]
    order = np.argsort([-value for value in values], kind="stable")
    chosen = set(order[: -(-len(groups) // 4)].tolist())
    return [group for index, group in enumerate(groups) if index in chosen]


def quartile(groups: Sequence[dict], likelihoods: Sequence[dict], number: int) -> list[dict]:
    """Select the groups in a quartile of likelihood.

    The likelihood of a group is the mean token log-probability, averaged over its completions.

    Args:
        groups: scored groups.
        likelihoods: a row for each group, with `mean_token_log_probability` (nats) of each
            completion.
        number: 1, the least likely, to 4, the most likely.

    Raises:
        ConfigError: if there are fewer than four groups, so that a quartile would be empty.
    """
    if len(groups) < 4:
        raise ConfigError(
            f"{len(groups)} groups have no quartiles; make 4 or more, or remove quartile from the "
            "row of experiments.yaml"
        )
    means = [np.mean(row["mean_token_log_probability"]) for row in likelihoods]
    order = np.argsort(means, kind="stable")
    chosen = set(np.array_split(order, 4)[number - 1].tolist())
    return [group for index, group in enumerate(groups) if index in chosen]
