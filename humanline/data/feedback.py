"""Feedback files of HALOs (ContextualAI/HALOs, `train/label.py`): JSON lists of labelled outputs.

A row of *binary feedback* has `prompt` and `output` (lists of turns), `prompt_id`, `label` (1 is
desirable), `reward`, `type`; one of *pairwise feedback* has `output_A`, `output_B`, `reward_A`,
`reward_B` and a label that is 1 where A is better. A `split` is optional.
"""

from collections.abc import Iterable, Sequence

BINARY, PAIRWISE = "binary_feedback", "pairwise_feedback"


def is_feedback(row: dict) -> bool:
    """Whether a row is one of these files'."""
    return row.get("type") in (BINARY, PAIRWISE)


def of_split(rows: Iterable[dict], split: str) -> list[dict]:
    """The rows of a split; those that name none are in every split."""
    return [row for row in rows if (row.get("split") or split) == split]


def preferences(rows: Iterable[dict]) -> list[dict]:
    """TRL's rows: pairs of chosen and rejected, or completions with a label that is a bool."""
    return [_pair(row) if row["type"] == PAIRWISE else _labelled(row) for row in rows]


def groups(rows: Iterable[dict]) -> list[dict]:
    """All outputs of each prompt, once, with their rewards.

    Returns:
        ``{"prompt", "completions", "scores"}``, in the order of the prompts' first rows. Prompts
        remain lists of turns, completions are text.
    """
    scored: dict[str, tuple[list[dict], dict[str, float]]] = {}
    for row in rows:
        _, scores = scored.setdefault(row["prompt_id"], (row["prompt"], {}))
        for output, reward in _outputs(row):
            scores.setdefault(output[-1]["content"], reward)
    return [
        {"prompt": prompt, "completions": list(scores), "scores": list(scores.values())}
        for prompt, scores in scored.values()
    ]


def _outputs(row: dict) -> Sequence[tuple[list[dict], float]]:
    if row["type"] == PAIRWISE:
        return [(row["output_A"], row["reward_A"]), (row["output_B"], row["reward_B"])]
    return [(row["output"], row["reward"])]


def _pair(row: dict) -> dict:
    chosen, rejected = ("output_A", "output_B") if row["label"] == 1 else ("output_B", "output_A")
    return {"prompt": row["prompt"], "chosen": row[chosen], "rejected": row[rejected]}


def _labelled(row: dict) -> dict:
    return {"prompt": row["prompt"], "completion": row["output"], "label": bool(row["label"])}
