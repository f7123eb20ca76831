"""Feedback files of HALOs (ContextualAI/HALOs, `train/label.py`): JSON lists of labelled outputs.

A row of *binary feedback* has `prompt` and `output` (lists of turns), `prompt_id`, `label` (1 is
desirable), `reward`, `type`; one of *pairwise feedback* has `output_A`, `output_B`, `reward_A`,
`reward_B` and a label that is 1 where A is better. A `split` is optional.
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
        """Its output and reward."""
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
        """Its outputs and their rewards."""
        return [(self.output_a, self.reward_a), (self.output_b, self.reward_b)]


def is_feedback(row: dict) -> bool:
    """Whether a row is one of these files'."""
    return row.get("type") in (BINARY, PAIRWISE)


def of_split(rows: Iterable[dict], split: str) -> list[dict]:
    """The rows of a split; those that name none are in every split."""
    return [row for row in rows if (row.get("split") or split) == split]


def preferences(rows: Iterable[dict], place: str, split: str | None = None) -> list[dict]:
    """TRL's rows: pairs of chosen and rejected, or completions with a label that is a bool.

    Args and errors are those of `groups`.
    """
    return [
        _pair(row, found) if isinstance(found, Pairwise) else _labelled(row, found)
        for row, found, _ in _validated(rows, place, split)
    ]


def groups(rows: Iterable[dict], place: str, split: str | None = None) -> list[dict]:
    """All outputs of each prompt, once, with their rewards.

    Args:
        place: what an error says the rows are of.
        split: whose rows to take, and those that name none; None: all.

    Returns:
        ``{"prompt", "completions", "scores"}``, in the order of the prompts' first rows. Prompts
        remain lists of turns, completions are text.

    Raises:
        ConfigError: naming the row and the first field that is missing, or not what it should be;
            if rows are of both kinds; or if one `prompt_id` is of two prompts.
    """
    scored: dict[str | int, tuple[list[dict], dict[str, float]]] = {}
    for row, found, where in _validated(rows, place, split):
        prompt, scores = scored.setdefault(found.prompt_id, (row["prompt"], {}))
        if prompt != row["prompt"]:
            reason = f"{found.prompt_id!r} is of another prompt before; give each prompt its own"
            raise ConfigError(f"{where}: prompt_id: {reason}")
        for output, reward in found.scored:
            if len(output) > 1:
                reason = f"{len(output)} turns, but a completion is one; put others in the prompt"
                raise ConfigError(f"{where}: output: {reason}")
            scores.setdefault(output[0].content, reward)
    return [
        {"prompt": prompt, "completions": list(scores), "scores": list(scores.values())}
        for prompt, scores in scored.values()
    ]


def _validated(
    rows: Iterable[dict], place: str, split: str | None
) -> Iterator[tuple[dict, Binary | Pairwise, str]]:
    """The rows of a split, as they are and as they are read, with their places."""
    first = None
    for number, row in enumerate(rows):
        if split and not of_split([row], split):
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
