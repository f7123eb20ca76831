"""Turning the trainers' datasets into token ids.

An error in a row names the row's number. For a stream it is raised when the row is read.
"""

import logging
from collections import Counter
from collections.abc import Callable

from datasets import Dataset
from jinja2 import TemplateError

from humanline.files.validation import ConfigError
from humanline.trainers.rows.conversations import encode_prompt, template_options
from humanline.trainers.rows.encoded import OPTIONS, Encoded, Rows, map_encoded, map_rows
from humanline.trainers.rows.examples import has_media, has_parts_of_content, read
from humanline.trainers.rows.formats import as_label
from humanline.trainers.rows.scores import shortened

_log = logging.getLogger(__name__)
_PAIR = ("chosen", "rejected")
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")


def tokenized_pairs(dataset, processing_class, name: str, num_proc: int | None = None):
    """Tokenize preference rows, as TRL's `DPOTrainer` does.

    The prompt is the common beginning of both conversations, up to the assistant's turn.

    Args:
        dataset: rows with `chosen`, `rejected` and, unless these begin with it, `prompt`.
        processing_class: a tokenizer or processor.
        name: "train" or "eval", for errors.
        num_proc: processes that tokenize; None: this one.

    Returns:
        The dataset with `prompt_ids`, `chosen_ids`, `rejected_ids` and `longest`, the number of
        tokens of the longer sequence.

    Raises:
        ConfigError: if a row is wrong, naming it.
    """

    def read_row(row: dict) -> tuple:
        return read(row.get("prompt"), [row.get(key) for key in _PAIR], _PAIR)

    def columns_of_row(row: dict, prompt, encoded: Encoded) -> dict:
        start = min(len(prompt_ids) for prompt_ids, _ in encoded)
        whole = [prompt_ids + ids for prompt_ids, ids in encoded]
        first, second = (ids[start:] for ids in whole)
        columns = {"prompt_ids": whole[0][:start], "chosen_ids": first, "rejected_ids": second}
        return columns | {"longest": max(map(len, whole))}

    rows = Rows(processing_class, read_row, _PAIR, columns_of_row)
    return map_encoded(dataset, rows, name, num_proc)


def tokenized_labelled(dataset, processing_class, name: str, num_proc: int | None = None):
    """Tokenize labelled rows, as TRL's `KTOTrainer` does.

    Args:
        dataset: rows with `label`, `completion` and, unless this begins with it, `prompt`.
        processing_class, name, num_proc: as in `tokenized_pairs`.

    Returns:
        The dataset with `prompt_ids`, `completion_ids`, a boolean `label` and `longest`, the number
        of tokens of the sequence.

    Raises:
        ConfigError: if a row is wrong, naming it.
    """

    def read_row(row: dict) -> tuple:
        try:
            as_label(row.get("label"))
        except ValueError as error:
            raise ValueError(f"label: {error}") from None
        return read(row.get("prompt"), [row.get("completion")], ("completion",))

    def columns_of_row(row: dict, prompt, encoded: Encoded) -> dict:
        prompt_ids, ids = encoded[0]
        columns = {"prompt_ids": prompt_ids, "completion_ids": ids, "label": as_label(row["label"])}
        return columns | {"longest": len(prompt_ids) + len(ids)}

    rows = Rows(processing_class, read_row, ("completion",), columns_of_row)
    return map_encoded(dataset, rows, name, num_proc)


def drop_too_long(dataset, max_length: int | None, keeps_start: bool, name: str):
    """Drop the rows whose prompt alone has `max_length` tokens, as TRL does.

    Longer sequences are cut off later, by TRL's collator; here they are only counted.

    Args:
        dataset: rows with `prompt_ids` and `longest`.
        max_length: tokens of a sequence at most; None: no limit.
        keeps_start: whether the start of a sequence is kept; otherwise no row is dropped.
        name: "train" or "eval", for errors.

    Returns:
        The dataset, and ``{"rows_dropped": ..., "rows_cut": ...}``. For a stream the second has
        dropped rows alone, counted while the stream is read.

    Raises:
        ConfigError: if no row is left.
    """
    kept, counts = dataset, Counter[str]()
    if max_length is not None and keeps_start:
        kept = dataset.filter(_LeavesRoom(max_length, counts), with_indices=True)
    if not isinstance(dataset, Dataset):
        return kept, counts
    dropped = len(dataset) - len(kept)
    if dropped and not len(kept):
        raise ConfigError(
            f"{name} set: the prompts of all {dropped} rows have max_length={max_length} tokens or "
            "more, which leaves nothing to train on; raise max_length"
        )
    cut = sum(longest > max_length for longest in kept["longest"][:]) if max_length else 0
    if dropped or cut:
        _log.warning(
            "%s set: of %s rows %s are left out, as their prompts have max_length=%s tokens or "
            "more, and %s are cut off there",
            *(name, len(dataset), dropped, max_length, cut),
        )
    return kept, {"rows_dropped": dropped, "rows_cut": cut}


class _LeavesRoom:
    """Say whether a prompt leaves room for an answer, and count the others.

    A stream that is read again counts once: row number 0 starts a new count.
    """

    def __init__(self, max_length: int, counts: Counter):
        self._max_length, self._counts, self._dropped = max_length, counts, 0

    def __call__(self, row: dict, number: int) -> bool:
        has_room = len(row["prompt_ids"]) < self._max_length
        self._dropped = (self._dropped if number else 0) + (not has_room)
        self._counts["rows_dropped"] = max(self._counts["rows_dropped"], self._dropped)
        return has_room


def unpaired(dataset, name: str, num_proc: int | None = None):
    """Turn preference rows into labelled ones, in TRL's order.

    Each thousand of rows gives first its chosen completions, then its rejected ones.

    Args:
        dataset, name, num_proc: as in `tokenized_pairs`.

    Returns:
        The dataset with `prompt`, `completion` and `label`, twice as long.

    Raises:
        ConfigError: if a row is wrong, naming it.
    """

    def explicit(row: dict) -> dict:
        prompt, completions = read(row.get("prompt"), [row.get(key) for key in _PAIR], _PAIR)
        return {"prompt": prompt} | dict(zip(_PAIR, completions, strict=True))

    def unpair(columns: dict) -> dict:
        chosen, rejected = columns.pop("chosen"), columns.pop("rejected")
        labels = [True] * len(chosen) + [False] * len(rejected)
        others = {key: values + values for key, values in columns.items()}
        return others | {"completion": chosen + rejected, "label": labels}

    explicit_rows = map_rows(dataset, explicit, name, num_proc)
    options = {"num_proc": num_proc} if isinstance(dataset, Dataset) else {}
    return explicit_rows.map(
        unpair, batched=True, remove_columns=columns_of(explicit_rows), **options
    )


def with_mismatched(dataset, batch_size: int, num_proc: int | None = None):
    """Add `KL_completion_ids`: the completion of the row before in the same batch, as in TRL.

    Args:
        dataset: rows with `completion_ids`.
        batch_size: rows of a batch.
        num_proc: processes that work; None: this one.
    """

    def rotate(columns: dict) -> dict:
        ids = columns["completion_ids"]
        return {"KL_completion_ids": ids[-1:] + ids[:-1]}

    options = {"num_proc": num_proc} if isinstance(dataset, Dataset) else {}
    return dataset.map(rotate, batched=True, batch_size=batch_size, **options)


def all_prompt_ids(
    processing_class, prompts: list, rows: list[dict], options: dict
) -> list[list[int]]:
    """Do what `prompt_ids_of` does for each prompt, but once for equal ones in a row.

    A rollout has a prompt once for each completion of its group.
    """
    found: list[list[int]] = []
    last = None
    for prompt, row in zip(prompts, rows, strict=True):
        given = [prompt, *map(row.get, OPTIONS)]
        is_new = given != last
        found.append(
            prompt_ids_of(processing_class, prompt, row, options) if is_new else list(found[-1])
        )
        last = given
    return found


def prompt_ids_of(processing_class, prompt, row: dict, options: dict) -> list[int]:
    """Tokenize a prompt to sample from, with its row's template options.

    Tools in `options` are those that the trainer calls, and come before those of a row.

    Raises:
        ConfigError: if it is no prompt, has images, or the template refuses it.
    """
    if not isinstance(prompt, str | list):
        given = shortened(prompt)
        raise ConfigError(f"a prompt must be a text or messages; got {given}; mend its row")
    if has_media(prompt):
        raise ConfigError(f"a prompt has images or other media, beside text: {shortened(prompt)}")
    own = template_options(row)
    if options.get("tools"):
        own.pop("tools")
    try:
        return encode_prompt(processing_class, prompt, **options | own)
    except (TemplateError, TypeError) as error:
        raise ConfigError(f"the chat template refuses {shortened(prompt)} ({error})") from None


def require_rows(dataset, name: str) -> None:
    """Raise a ConfigError if a dataset has no rows. None, no dataset, is allowed."""
    if dataset is not None and next(iter(dataset), None) is None:
        raise ConfigError(f"{name}: no rows; give it some")


def require_prompts(dataset, name: str) -> None:
    """Raise a ConfigError if a dataset to sample from has no column `prompt`."""
    if "prompt" not in (columns := columns_of(dataset)):
        raise ConfigError(
            f"{name}: needs a column `prompt`, and has {', '.join(columns)}; rename the column of "
            "the prompts"
        )


def refuse_media(dataset, name: str) -> None:
    """Refuse a dataset with images, as columns or in prompts, where text alone is trained on.

    That is with a model that reads nothing else, and on stored groups.

    Prompts of a stream are checked when they are read.

    Raises:
        ConfigError: naming the column or the row.
    """
    if dataset is None:
        return
    if found := [column for column in columns_of(dataset) if column in _MEDIA]:
        raise ConfigError(
            f"{name}: has a column {found[0]}; this model reads text only, and stored groups have "
            "text only: remove the column, or sample with a model that has a processor of images"
        )
    has_parts = isinstance(dataset, Dataset) and "prompt" in dataset.column_names
    first: dict = next(iter(dataset), {})
    if has_parts and has_parts_of_content(first.get("prompt")):
        for index, prompt in enumerate(dataset["prompt"]):
            if has_media(prompt):
                raise ConfigError(
                    f"row {index} of the {name}: prompt has images or other media; this model "
                    "reads text only, and stored groups have text only: remove the row"
                )


def columns_of(dataset) -> list[str]:
    """List the names of a dataset's columns. A stream that does not know them gives a first row."""
    names = getattr(dataset, "column_names", None)
    return list(names or next(iter(dataset), {}))


def for_each_dataset(datasets, function: Callable, name: str):
    """Apply `function(dataset, name)` to one dataset, to a dictionary of several, or to none."""
    if isinstance(datasets, dict):
        return type(datasets)(
            {key: function(dataset, f"{name} {key}") for key, dataset in datasets.items()}
        )
    return None if datasets is None else function(datasets, name)
