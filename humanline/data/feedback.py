"""Feedback files of HALOs (ContextualAI/HALOs, `train/label.py`): JSON lists of labelled outputs.

A row of *binary feedback* has `prompt` and `output` (lists of turns), `prompt_id`, `label` (1 is
desirable), `reward`, `type`; one of *pairwise feedback* has `output_A`, `output_B`, `reward_A`,
`reward_B` and a label that is 1 where A is better. A `split` is optional.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from humanline.validation import validate

BINARY, PAIRWISE = "binary_feedback", "pairwise_feedback"


class Record(BaseModel):
    """What is read of a row of somebody's data, which may have more."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Turn(Record):
    """What someone says in a conversation."""

    content: str


Turns = Annotated[list[Turn], Field(min_length=1)]


class Binary(Record):
    """A row of binary feedback."""

    prompt_id: str | int
    prompt: Turns
    output: Turns
    reward: float
    label: Literal[0, 1] | bool

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
    label: Literal[0, 1] | bool

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


def preferences(rows: Iterable[dict], place: str) -> list[dict]:
    """TRL's rows: pairs of chosen and rejected, or completions with a label that is a bool.

    Args and errors are those of `groups`.
    """
    return [
        _pair(row) if row["type"] == PAIRWISE else _labelled(row)
        for row, _ in _validated(rows, place)
    ]


def groups(rows: Iterable[dict], place: str) -> list[dict]:
    """All outputs of each prompt, once, with their rewards.

    Args:
        place: what an error says the rows are of.

    Returns:
        ``{"prompt", "completions", "scores"}``, in the order of the prompts' first rows. Prompts
        remain lists of turns, completions are text.

    Raises:
        ConfigError: naming the first field that is missing, or not what it should be.
    """
    scored: dict[str | int, tuple[list[dict], dict[str, float]]] = {}
    for row, found in _validated(rows, place):
        _, scores = scored.setdefault(found.prompt_id, (row["prompt"], {}))
        for output, reward in found.scored:
            scores.setdefault(output[-1].content, reward)
    return [
        {"prompt": prompt, "completions": list(scores), "scores": list(scores.values())}
        for prompt, scores in scored.values()
    ]


def _validated(rows: Iterable[dict], place: str) -> Iterator[tuple[dict, Binary | Pairwise]]:
    for number, row in enumerate(rows):
        model = Pairwise if row["type"] == PAIRWISE else Binary
        yield row, validate(model, row, f"{place}: row {number}")


def _pair(row: dict) -> dict:
    chosen, rejected = ("output_A", "output_B") if row["label"] == 1 else ("output_B", "output_A")
    return {"prompt": row["prompt"], "chosen": row[chosen], "rejected": row[rejected]}


def _labelled(row: dict) -> dict:
    return {"prompt": row["prompt"], "completion": row["output"], "label": bool(row["label"])}
