"""Models of the rows that users write for training, and the check of each row."""

import logging
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from humanline.files.validation import ConfigError, Record, fault, require_as_many, validate
from humanline.trainers.registry import LABELLED, PAIRED, PROMPTS, STORED
from humanline.trainers.rows.conversations import template_options
from humanline.trainers.rows.examples import read

_log = logging.getLogger(__name__)
LARGEST_SCORE = 1e15  # TRL squares scores, in single precision
_ANSWERS = ("chosen", "rejected", "completion", "completions")


def as_label(value) -> bool:
    """Convert a label to a truth value: true, false, 0 or 1, also of NumPy and torch.

    Raises:
        ValueError: for anything else, such as -1, 0.9, None or "true".
    """
    given = value
    if hasattr(value, "item"):
        value = value.item()  # raises a ValueError if there are several
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise ValueError(f"{given!r} is no label; use 1 or true for desirable, else 0 or false")
    return bool(value)


def _label(value) -> bool:
    try:
        return as_label(value)
    except ValueError as error:
        raise fault("", str(error)) from None


def _not_blank(value: str) -> str:
    if not value.strip():
        raise fault("", "empty; give a text, or remove the row")
    return value


def _answered(turns: list) -> list:
    if turns[-1].role != "assistant":
        raise fault("", f"ends with a turn of {turns[-1].role}; end it with one of the assistant")
    return turns


Label = Annotated[bool, BeforeValidator(_label)]
Text = Annotated[str, AfterValidator(_not_blank)]
Role = Literal["system", "developer", "user", "assistant", "tool", "function", "ipython"]


class Turn(Record):
    """One turn of a conversation, as text."""

    role: Role
    content: str


class Message(Record):
    """One turn as chat templates take it: text, blocks of content, or calls of tools."""

    role: Role
    content: str | list[dict] | None = None
    tool_calls: list | None = None

    @model_validator(mode="after")
    def _says_something(self):
        if self.content is None and not self.tool_calls:
            raise fault("content", "missing or null; give a text, or remove the row")
        return self


Turns = Annotated[list[Turn], Field(min_length=1)]
Messages = Annotated[list[Message], Field(min_length=1)]
_FORMS: dict[type, str] = {str: "text", list: "messages"}
_TextOrMessages = Discriminator(
    lambda value: _FORMS.get(type(value)),
    custom_error_type="fault",
    custom_error_message="{reason}",
    custom_error_context={"field": "", "reason": "not a text or a list of messages; change it"},
)
Prompt = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Messages, Tag("messages")], _TextOrMessages
]
Answer = Annotated[
    Annotated[str, Tag("text")] | Annotated[Messages, AfterValidator(_answered), Tag("messages")],
    _TextOrMessages,
]


class Row(Record):
    """The columns that rows of every objective may have."""

    tools: str | list | None = None
    chat_template_kwargs: dict | None = None

    @property
    def teaches(self) -> bool:
        """Whether the row's loss has a gradient."""
        return True


class WholePair(Row):
    """Two whole conversations, or texts, with the same prompt; `chosen` is the better one."""

    chosen: Answer
    rejected: Answer

    @property
    def teaches(self) -> bool:
        return self.chosen != self.rejected


class Pair(WholePair):
    """A prompt with a better and a worse answer."""

    prompt: Prompt


class Labelled(Row):
    """A prompt with a completion that is desirable or not."""

    prompt: Prompt
    completion: Answer
    label: Label


class Prompted(Row):
    """A prompt to sample completions for."""

    prompt: Prompt


class Group(Row):
    """A prompt with all of its completions and their scores."""

    prompt: Prompt
    completions: Annotated[list[Answer], Field(min_length=1)]
    scores: list[Annotated[float, Field(ge=-LARGEST_SCORE, le=LARGEST_SCORE)]]

    @model_validator(mode="after")
    def _all_are_scored(self):
        require_as_many("scores", self.scores, self.completions, "completions")
        return self

    @property
    def teaches(self) -> bool:
        return len(set(self.scores)) > 1


def _claims(found: Row, row: dict) -> Iterator[tuple[tuple, bool | float]]:
    """Yield what a row says of a prompt's completions: a label, a score, or which is better."""
    prompt = repr(row.get("prompt"))
    match found:
        case Labelled():
            yield (prompt, repr(row["completion"])), found.label
        case WholePair():
            chosen, rejected = repr(row["chosen"]), repr(row["rejected"])
            if chosen != rejected:
                yield (prompt, chosen, rejected), True
                yield (prompt, rejected, chosen), False
        case Group():
            for completion, score in zip(row["completions"], found.scores, strict=True):
                yield (prompt, repr(completion)), score


def row_model(columns: Iterable[str], wanted: frozenset[str]) -> type[Row]:
    """Choose the model of a dataset's rows.

    Args:
        columns: the dataset's columns.
        wanted: the set of columns that the objective needs: `PAIRED`, `LABELLED`, `STORED` or
            `PROMPTS` of the registry.
    """
    if wanted == PAIRED:
        return Pair if "prompt" in columns else WholePair
    models: dict[frozenset[str], type[Row]]
    models = {LABELLED: Labelled, STORED: Group, PROMPTS: Prompted}
    return models[wanted]


class RowCheck:
    """Checks the rows of a dataset one after another.

    All rows must have the form of the first: texts, or conversations.

    Args:
        model: the model of a row.
        group_size: how many completions each prompt must have; None: any number.
    """

    def __init__(self, model: type[Row], group_size: int | None = None):
        self._model = model
        self._group_size = group_size
        self._forms: dict[str, tuple[str, str]] = {}  # of a column, and where it was first seen
        self._rows, self._idle, self._opposed = 0, 0, 0
        self._claims: dict[int, bool | float] = {}  # of rows so far, by a hash of what they are of

    def __call__(self, row: dict, place: str) -> dict[str, Any]:
        """Check a row, and return it with labels as truth values and scores as floats.

        Args:
            row: the row.
            place: its file and number, for errors.

        Raises:
            ConfigError: naming the place, the field and the remedy.
        """
        found = validate(self._model, row, place)
        self._rows += 1
        self._idle += not found.teaches
        self._opposed += self._is_opposed(found, row)
        for name in ("prompt", *_ANSWERS):
            value = getattr(found, name, [])
            for part in value if name == "completions" else [value] * (value != []):
                self._require_one_form(name, part, place)
        self._check_reading(row, place)
        if isinstance(found, Group):
            self._check_size(found, place)
        read = ("label", "scores")
        return {**row, **{name: getattr(found, name) for name in read if hasattr(found, name)}}

    def require_something_to_learn(self, place: str) -> None:
        """Raise a ConfigError if none of the rows that were checked has a gradient."""
        if self._idle == self._rows:
            raise ConfigError(
                f"{place}: nothing to learn: in each row all scores, or chosen and rejected, are "
                "alike; give rows that tell better from worse"
            )

    def tell(self, place: str) -> None:
        """Warn of rows without a gradient, and of rows that contradict others.

        Annotators do contradict each other, so such rows are trained on.
        """
        if self._idle or self._opposed:
            _log.warning(
                "%s: of %s rows %s teach nothing (chosen and rejected, or all scores, are alike) "
                "and %s judge a completion otherwise than a row before",
                *(place, self._rows, self._idle, self._opposed),
            )

    def _is_opposed(self, found: Row, row: dict) -> bool:
        """Note what a row claims, and say whether a row before claims otherwise."""
        is_new = [
            self._claims.setdefault(hash(key), value) == value for key, value in _claims(found, row)
        ]
        return not all(is_new)

    def _check_reading(self, row: dict, place: str) -> None:
        """Refuse a row whose prompt and completions cannot be told apart."""
        columns = {name: row[name] for name in _ANSWERS if name in self._model.model_fields}
        columns |= {f"completion {n}": c for n, c in enumerate(columns.pop("completions", []))}
        try:
            template_options(row)
            if columns:
                read(row.get("prompt"), list(columns.values()), tuple(columns))
        except ValueError as error:
            raise ConfigError(f"{place}: {error}") from None

    def _require_one_form(self, name: str, value, place: str) -> None:
        form = "text" if isinstance(value, str) else "a conversation"
        first, where = self._forms.setdefault(name, (form, place))
        if form != first:
            raise ConfigError(
                f"{place}: {name}: {form}, but {where} has {first}; write all rows alike"
            )

    def _check_size(self, group: Group, place: str) -> None:
        size = self._group_size or len(group.completions)
        if len(group.completions) != size:
            raise ConfigError(
                f"{place}: completions: {len(group.completions)}, but num_generations is {size}; "
                "give every prompt that many, or change num_generations"
            )
