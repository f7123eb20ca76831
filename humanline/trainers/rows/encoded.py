"""Adding columns to a dataset, above all token ids, with errors that name the row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from datasets import Dataset, IterableDataset
from jinja2 import TemplateError
from trl.trainer.utils import global_then_local_main_first

from humanline.files.validation import ConfigError
from humanline.trainers.rows.conversations import encode_all, encode_groups, template_options
from humanline.trainers.rows.examples import read

OPTIONS = ("tools", "chat_template_kwargs")  # columns with a row's options for the chat template
Encoded = list[tuple[list[int], list[int]]]  # the ids of the prompt and of each completion


@dataclass(frozen=True)
class Rows:
    """How a trainer reads the rows of its dataset, and which columns it makes of them.

    Args:
        processing_class: a tokenizer or processor.
        read: finds a row's prompt and completions (texts or messages), as `examples.read` does, or
            raises a ValueError.
        names: the completions' names in errors.
        columns: makes new columns of a row, its prompt and its `Encoded` token ids.
        options: the trainer's options for the template; a row's own come first.
    """

    processing_class: Any
    read: Callable[[dict], tuple]
    names: Sequence[str]
    columns: Callable[[dict, Any, Encoded], dict]
    options: dict = field(default_factory=dict)

    def alone(self, row: dict) -> dict:
        """Tokenize a row, and make its new columns.

        Raises:
            ValueError: if the row cannot be read or tokenized.
        """
        prompt, completions = self.read(row)
        options = self.options | template_options(row)
        try:
            encoded = encode_all(self.processing_class, prompt, completions, **options)
        except (TemplateError, TypeError) as error:  # a TypeError: the template cannot use it
            raise ValueError(f"the chat template refuses it ({error}); mend the row") from None
        return self._columns(row, prompt, encoded)

    def together(self, rows: list[dict]) -> list[dict] | None:
        """Do what `alone` does for many rows, in half the time.

        Returns:
            The new columns of each row. None where rows have to be tokenized alone: if one has
            options or is plain text, or if one is wrong, so that `alone` says which and why.
        """
        if self.options or any(row.get(name) for row in rows for name in OPTIONS):
            return None
        try:
            prompts, groups = zip(*map(self.read, rows), strict=True)
            if any(isinstance(prompt, str) for prompt in prompts):
                return None
            encoded = encode_groups(self.processing_class, list(prompts), list(groups))
            return list(map(self._columns, rows, prompts, encoded))
        except (TemplateError, TypeError, ValueError):
            return None

    def _columns(self, row: dict, prompt, encoded: Encoded) -> dict:
        for column, (_, ids) in zip(self.names, encoded, strict=True):
            if not ids:
                raise ValueError(f"{column} has no tokens to train on; leave the row out")
        return self.columns(row, prompt, encoded)


def require_template(processing_class, row: dict) -> None:
    """Check that the chat template takes a row's conversations.

    Args:
        processing_class: a tokenizer or processor.
        row: a row of any objective, in a form that `examples.read` reads.

    Raises:
        ValueError: if the template refuses it.
    """
    answers = [row[name] for name in ("chosen", "rejected", "completion") if name in row]
    answers += row.get("completions") or []
    if not answers:
        return
    names = [f"answer {number}" for number in range(len(answers))]

    def read_row(row: dict) -> tuple:
        return read(row.get("prompt"), answers, names)

    Rows(processing_class, read_row, names, lambda *_: {}).alone(row)


def map_encoded(dataset, rows: Rows, name: str, num_proc=None, **options):
    """Add the columns of `rows`; errors name the row. A stream is tokenized row by row.

    Raises:
        ConfigError: if a row cannot be read or tokenized.
    """
    if not isinstance(dataset, Dataset):
        return map_rows(dataset, rows.alone, name, num_proc, **options)
    return map_rows(dataset, rows, name, num_proc, batched=True, **options)


def map_rows(dataset: Dataset | IterableDataset, function, name: str, num_proc=None, **options):
    """Add the columns that a function of a row, or `Rows` of a batch, returns; errors name the row.

    Raises:
        ConfigError: where the function raises a ValueError.
    """
    if isinstance(dataset, Dataset):
        options |= {"num_proc": num_proc, "desc": f"Reading the {name} set"}
        if dataset.format["type"] != "custom":  # others give arrays for lists
            dataset = dataset.with_format(None)
    with global_then_local_main_first():
        placed = partial(_placed_batch if options.get("batched") else _placed, function, name)
        return dataset.map(placed, with_indices=True, **options)


def _placed(function: Callable, name: str, row: dict, index: int) -> dict:
    try:
        return function(row)
    except ValueError as error:
        raise ConfigError(f"row {index} of the {name} set: {error}") from None


def _placed_batch(rows: Rows, name: str, columns, indices: list[int]) -> dict:
    names = list(columns)
    batch = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    made = rows.together(batch)
    if made is None:
        pairs = zip(batch, indices, strict=True)
        made = [_placed(rows.alone, name, row, index) for row, index in pairs]
    new = dict.fromkeys(key for row in made for key in row)
    return {key: [row[key] for row in made] for key in new}
