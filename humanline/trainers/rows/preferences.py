"""Views on scored groups of completions: pairs, labelled completions, groups.

A group is ``{"prompt": str, "completions": [str], "scores": [float]}``, the only form in which
offline data are stored.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from humanline.files.validation import ConfigError


def best_versus_worst(scores: list[float], min_difference: float) -> tuple[int, int] | None:
    """Indices of the best and the worst score, or None where they differ too little."""
    best = max(range(len(scores)), key=scores.__getitem__)
    worst = min(range(len(scores)), key=scores.__getitem__)
    return (best, worst) if scores[best] - scores[worst] > min_difference else None


def user_turn(prompt: str) -> list[dict]:
    """A prompt as a conversation."""
    return [{"role": "user", "content": prompt}]


def assistant_turn(completion: str) -> list[dict]:
    """A completion as a conversation's continuation."""
    return [{"role": "assistant", "content": completion}]


def pairs(groups: Iterable[dict], min_difference: float) -> list[dict]:
    """TRL's conversational preference rows: the best against the worst completion of a group."""
    rows = []
    for group in groups:
        if pair := best_versus_worst(group["scores"], min_difference):
            chosen, rejected = (assistant_turn(group["completions"][i]) for i in pair)
            prompt = user_turn(group["prompt"])
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def labelled(groups: Iterable[dict], min_difference: float) -> list[dict]:
    """TRL's unpaired rows: each pair's chosen completion as desirable, its rejected one as not.

    Desirable and undesirable rows take turns, because TRL trains on them in this order. A pair's
    two rows stand apart: TRL gives a prompt its neighbour's completion in the KL term, and that of
    the same prompt would not be mismatched.
    """
    paired = pairs(groups, min_difference)
    rows = []
    for i, row in enumerate(paired):
        other = paired[(i + 2) % len(paired)]
        rows.append({"prompt": row["prompt"], "completion": row["chosen"], "label": True})
        rows.append({"prompt": other["prompt"], "completion": other["rejected"], "label": False})
    return rows


def stored_groups(groups: Iterable[dict], min_difference: float = 0) -> list[dict]:
    """Rows of whole groups. A group needs no pair, so `min_difference` is not asked for."""
    return [
        {
            "prompt": user_turn(group["prompt"]),
            "completions": group["completions"],
            "scores": group["scores"],
        }
        for group in groups
    ]


def quartile(groups: Sequence[dict], likelihoods: Sequence[dict], number: int) -> list[dict]:
    """The groups in a quartile of mean token log-probability, averaged over their completions.

    Args:
        groups: scored groups.
        likelihoods: a row for each group, with `mean_token_log_probability` of each completion.
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
