"""Feedback files of HALOs (ContextualAI/HALOs, `train/label.py`): JSON lists of labelled outputs.

A row of *binary feedback* has `prompt` and `output` (lists of turns), `prompt_id`, `label` (1:
desirable), `reward` and `type`. A row of *pairwise feedback* has `output_A`, `output_B`,
`reward_A`, `reward_B` and a `label` (1: A is better) instead. A `split` is optional.
"""

from collections.abc import Iterable, Iterator

from pydantic import Field

from humanline.files.validation import ConfigError, Record, validate
from humanline.trainers.rows.formats import Label, Turns

BINARY, PAIRWISE = "binary_feedback", "pairwise_feedback"


class Binary(Record):
    """A row of binary feedback."""

    prompt_id: str | int
    prompt: Turns
    output: Turns
    reward: float
    label: Label

    @property
    def scored(self) -> list[tuple[Turns, float]]:
        """The output with its reward, in a list."""
        return [(self.output, self.reward)]


class Pairwise(Record):
    """A row of pairwise feedback."""

    prompt_id: str | int
    prompt: Turns
    output_a: Turns = Field(alias="output_A")
    output_b: Turns = Field(alias="output_B")
    reward_a: float = Field(alias="reward_A")
    reward_b: float = Field(alias="reward_B")
    label: Label

    @property
    def scored(self) -> list[tuple[Turns, float]]:
        """The two outputs with their rewards."""
        return [(self.output_a, self.reward_a), (self.output_b, self.reward_b)]


def is_feedback(row: dict) -> bool:
    """Say whether a row is of a feedback file."""
    return row.get("type") in (BINARY, PAIRWISE)


def rows_of_split(rows: Iterable[dict], split: str) -> list[dict]:
    """Select the rows of a split; a row that names no split is in all of them."""
    return [row for row in rows if (row.get("split") or split) == split]


def preferences(rows: Iterable[dict], place: str, split: str | None = None) -> list[dict]:
    """Turn feedback into TRL's rows.

    Args and errors are those of `groups`.

    Returns:
        ``{"prompt", "chosen", "rejected"}`` for pairwise feedback, else ``{"prompt", "completion",
        "label"}`` with a bool for a label.
    """
    return [
        _pair(row, found) if isinstance(found, Pairwise) else _labelled(row, found)
        for row, found, _ in _validated(rows, place, split)
    ]


def groups(rows: Iterable[dict], place: str, split: str | None = None) -> list[dict]:
    """Collect all distinct outputs of each prompt, with their rewards.

    Args:
        rows: the rows of a feedback file.
        place: the rows' file or dataset, for errors.
        split: the split to take; None: all rows.

    Returns:
        ``{"prompt", "completions", "scores"}`` for each prompt, in the order of the prompts' first
        rows. A prompt stays a list of turns; completions are text.

    Raises:
        ConfigError: if a field is missing or wrong, with row and field; if rows are of both kinds;
            if two prompts have the same `prompt_id`, or an output has two rewards.
    """
    scored: dict[str | int, tuple[list[dict], dict[str, float]]] = {}
    for row, found, where in _validated(rows, place, split):
        prompt, scores = scored.setdefault(found.prompt_id, (row["prompt"], {}))
        if prompt != row["prompt"]:
            reason = f"{found.prompt_id!r} also belongs to another prompt; give each its own"
            raise ConfigError(f"{where}: prompt_id: {reason}")
        for output, reward in found.scored:
            if len(output) > 1:
                reason = f"{len(output)} turns, but a completion has one; move the others to prompt"
                raise ConfigError(f"{where}: output: {reason}")
            known = scores.setdefault(output[0].content, reward)
            if known != reward:
                reason = f"{reward}, but a row before gives this output {known}; keep one of them"
                raise ConfigError(f"{where}: reward: {reason}")
    return [
        {"prompt": prompt, "completions": list(scores), "scores": list(scores.values())}
        for prompt, scores in scored.values()
    ]


def _validated(
    rows: Iterable[dict], place: str, split: str | None
) -> Iterator[tuple[dict, Binary | Pairwise, str]]:
    """Yield each row of a split as given, its validated model, and its place for errors."""
    first = None
    for number, row in enumerate(rows):
        if split and not rows_of_split([row], split):
            continue
        kind, where = row.get("type"), f"{place}: row {number}"
        first = first or kind
        if kind != first or not is_feedback(row):
            reason = f"{kind!r}, but the rows before have {first!r}; keep one type of row"
            raise ConfigError(f"{where}: type: {reason}")
        model: type[Binary | Pairwise] = Pairwise if kind == PAIRWISE else Binary
        yield row, validate(model, row, where), where


def _pair(row: dict, found: Pairwise) -> dict:
    chosen, rejected = ("output_A", "output_B") if found.label else ("output_B", "output_A")
    return {"prompt": row["prompt"], "chosen": row[chosen], "rejected": row[rejected]}


def _labelled(row: dict, found: Binary) -> dict:
    return {"prompt": row["prompt"], "completion": row["output"], "label": found.label}
