"""Read the data of a recipe, and check every row before a model is loaded."""

import glob
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets import Dataset, IterableDataset, load_dataset
from huggingface_hub import constants, snapshot_download

from humanline.data import feedback
from humanline.data.json_rows import read_rows
from humanline.files.validation import ConfigError, first_line
from humanline.trainers.rows import formats
from humanline.trainers.rows.encoded import require_template

_JSON = (".json", ".jsonl")
_OTHERS = (".csv", ".tsv", ".txt", ".gz", ".zip", ".zst", ".xz", ".arrow", ".xlsx")  # known by name
FILES = (*_JSON, ".parquet", *_OTHERS)
_FORMATS = "write JSON Lines (.jsonl), a JSON list (.json) or Parquet (.parquet)"


@dataclass
class _Rows:
    """The rows of a split, each with its place for errors, and their dataset if it exists."""

    place: str
    pairs: Iterable[tuple[str, dict]]
    dataset: Dataset | IterableDataset | None = None


def load_splits(recipe) -> dict:
    """Find the splits of a recipe's dataset on the hub, in a local folder or in one file.

    Returns:
        By split, its dataset, or the path of a JSON file that `load_split` reads.

    Raises:
        ConfigError: if the dataset cannot be read.
    """
    script = recipe.script
    name, path = script.dataset_name, Path(script.dataset_name)
    is_file = path.is_file()
    if is_file and path.suffix not in (*_JSON, ".parquet"):
        raise recipe.fault("dataset_name", f"{name}: files like this are not read; {_FORMATS}")
    if path.exists() and not is_file and not path.is_dir():
        raise recipe.fault("dataset_name", f"{name} is no file and no folder; mend the path")
    if is_file and path.suffix == ".parquet" and "::" in name:
        raise recipe.fault("dataset_name", f"{name}: has '::', which joins addresses; rename it")
    if path.is_dir() and path.suffix in FILES:
        raise recipe.fault("dataset_name", f"{name}: a folder, named as a file; rename it")
    if is_file and script.dataset_config:
        reason = f"{script.dataset_config!r}, but a file has no configurations; remove it"
        raise recipe.fault("dataset_config", reason)
    if is_file and not script.dataset_train_split.isidentifier():
        reason = f"{script.dataset_train_split!r} is no name; a file is one split, such as train"
        raise recipe.fault("dataset_train_split", reason)
    if is_file and path.suffix in _JSON:
        return {script.dataset_train_split: path}
    options = {"path": name, "name": script.dataset_config}
    if is_file:
        # `datasets` takes stars and brackets for patterns.
        files = {script.dataset_train_split: glob.escape(name)}
        options = {"path": "parquet", "data_files": files}
    with _readable(recipe):
        return _load(options | {"streaming": script.dataset_streaming})


@contextmanager
def _readable(recipe):
    """Turn any error about data that cannot be read into one line."""
    name = recipe.script.dataset_name
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # the hub, its client and file formats raise many kinds
        if Path(name).is_dir():
            _tell_faulty_file(Path(name))
        where = "files" if Path(name).exists() else "name and the network"
        raise recipe.fault("dataset_name", not_loaded(name, error, where)) from error


def _load(options: dict):
    """Load a dataset; without a network, read it from the hub's cache.

    Offline, `load_dataset` finds only datasets that it has prepared itself. Files that were fetched
    ahead, for nodes without a network, are in the hub's cache alone.
    """
    try:
        return load_dataset(**options)
    except ConnectionError:
        if not constants.HF_HUB_OFFLINE:
            raise
        try:
            folder = snapshot_download(options["path"], repo_type="dataset", local_files_only=True)
        except (OSError, ValueError):  # the cache lacks the dataset or a part of it
            folder = None
        if folder is None:
            raise
    return load_dataset(**options | {"path": folder})


def _tell_faulty_file(folder: Path) -> None:
    """Raise the fault of a folder's first faulty JSON file, which `datasets` does not name."""
    for path in sorted(folder.rglob("*.json*")):
        if path.suffix in _JSON:
            for _ in read_rows(path):
                pass


def not_loaded(name: str, error: Exception, where: str = "name and the network") -> str:
    """Write the reason that a name cannot be loaded, with what to check.

    Args:
        name: the model's or dataset's name.
        error: the library's error; its first line is quoted.
        where: what the user should check.
    """
    return f"{name} cannot be loaded ({first_line(error)}); check its {where}"


def load_split(recipe, splits: dict, field: str) -> Dataset | IterableDataset:
    """Load a split with the objective's columns, its rows checked (a stream's as they come).

    Args:
        recipe: the recipe.
        splits: the result of `load_splits`.
        field: the option that names the split.

    Raises:
        ConfigError: if the split is missing or empty, lacks a column, or has a faulty row.
    """
    name, dataset_name = getattr(recipe.script, field), recipe.script.dataset_name
    if name not in splits:
        known = ", ".join(map(str, splits))
        reason = f"no split {name!r} in {dataset_name}; use one of {known}"
        raise recipe.fault(field, reason)
    rows = _rows(recipe, splits[name], name)
    with _readable(recipe):  # a stream is read now
        first = next(iter(rows.pairs), None)
    if first is None:
        raise recipe.fault(field, f"no rows in split {name!r} of {dataset_name}; give it some")
    rows = _without_feedback(recipe, rows, first[1], name)
    _, row = next(iter(rows.pairs))
    wanted = _wanted_columns(recipe, set(row))
    size = _group_size(recipe, field) if wanted == formats.STORED else None
    model = formats.row_model(row, wanted)
    if recipe.script.dataset_streaming and not isinstance(rows.dataset, Dataset):
        return _checked_stream(rows, model, size)
    return _checked(rows, model, size)


def _rows(recipe, source, split: str) -> _Rows:
    name = recipe.script.dataset_name
    if isinstance(source, Path):
        place = str(source)
        if recipe.script.dataset_streaming:
            return _Rows(place, _File(source))
        return _Rows(place, list(read_rows(source)))
    place = f"dataset {name}: split {split}"
    return _Rows(place, _Places(source, place), source)


class _File:
    """The rows of a file, which is read again in each iteration."""

    def __init__(self, path: Path):
        self._path = path

    def __iter__(self) -> Iterator[tuple[str, dict]]:
        return read_rows(self._path)


class _Places:
    """The rows of a dataset, with their places for errors."""

    def __init__(self, rows: Iterable[dict], place: str):
        self._rows, self._place = rows, place

    def __iter__(self) -> Iterator[tuple[str, dict]]:
        return ((f"{self._place}: row {n}", row) for n, row in enumerate(self._rows))


def _without_feedback(recipe, rows: _Rows, first: dict, split: str) -> _Rows:
    """Turn the rows of a HALOs feedback file into TRL's: groups, pairs or labelled completions."""
    if not feedback.is_feedback(first):
        return rows
    view = feedback.groups if recipe.row.view.takes_groups else feedback.preferences
    found = view([row for _, row in rows.pairs], rows.place, split)
    if not found:
        reason = f"no rows of split {split!r} in {rows.place}; choose another"
        raise recipe.fault("dataset_name", reason)
    place = f"{rows.place}: group" if view is feedback.groups else f"{rows.place}: row"
    numbered = [(f"{place} {number}", row) for number, row in enumerate(found)]
    return _Rows(rows.place, numbered, Dataset.from_list(found))


def _wanted_columns(recipe, columns: set[str]) -> frozenset[str]:
    """Choose the objective's columns; an error names the columns that the nearest choice lacks."""
    script, remedy = recipe.script, "rename its columns or choose another dataset"
    is_online = getattr(script, "reward_funcs", None) or getattr(
        script, "reward_model_name_or_path", None
    )
    view = recipe.row.view
    choices = view.sampled_columns if is_online else view.columns
    if view.sampled_columns and not is_online:
        remedy = f"{remedy}, or sample online by adding reward_funcs"
    wanted = min(choices, key=lambda choice: len(choice - columns))
    if lacking := wanted - columns:
        lacks = f"{script.dataset_name} lacks {', '.join(sorted(lacking))}"
        has = f"has {', '.join(sorted(columns))}"
        reason = f"{lacks}, which {recipe.objective} needs, and {has}; {remedy}"
        raise recipe.fault("dataset_name", reason)
    return wanted


def require_rendered(recipe, splits: dict, processor) -> None:
    """Refuse the first row of the training data that the chat template refuses.

    Args:
        recipe, splits: as in `load_split`.
        processor: the model's tokenizer or processor.

    Raises:
        ConfigError: naming the row's place.
    """
    name = recipe.script.dataset_train_split
    rows = _rows(recipe, splits[name], name)
    rows = _without_feedback(recipe, rows, next(iter(rows.pairs))[1], name)
    for place, row in rows.pairs:
        try:
            require_template(processor, row)
        except ValueError as error:
            raise ConfigError(f"{place}: {error}") from None


def _group_size(recipe, field: str) -> int:
    is_test = field == "dataset_test_split"
    training = recipe.training
    return (training.num_generations_eval if is_test else None) or training.num_generations


def _checked(rows: _Rows, model: type[formats.Row], group_size: int | None) -> Dataset:
    """The dataset, all of its rows checked."""
    check = formats.RowCheck(model, group_size)
    if rows.dataset is None:
        found = [check(row, place) for place, row in rows.pairs]
        check.require_something_to_learn(rows.place)
        check.tell(rows.place)
        # `from_list` takes the first row's columns alone, and would lose the others in silence.
        columns = dict.fromkeys(name for row in found for name in row)
        try:
            whole = [columns | row for row in found]
            return Dataset.from_list(whole, on_mixed_types="use_json")
        except (ValueError, TypeError, OverflowError) as error:  # of columns that are not ours
            reason = f"cannot be a dataset ({first_line(error)}); write all rows alike"
            raise ConfigError(f"{rows.place}: {reason}") from error
    pairs = rows.pairs
    if isinstance(pairs, _Places):  # without columns that are slow to read, as images
        known = [name for name in rows.dataset.column_names if name in model.model_fields]
        pairs = _Places(rows.dataset.select_columns(known), rows.place)
    for place, row in pairs:
        check(row, place)
    check.require_something_to_learn(rows.place)
    check.tell(rows.place)
    return rows.dataset


def _checked_stream(
    rows: _Rows, model: type[formats.Row], group_size: int | None
) -> IterableDataset:
    """Return a stream whose rows are checked as they come."""
    if rows.dataset is None:
        generate = partial(_generate, rows.pairs, model, group_size)
        return IterableDataset.from_generator(generate)
    check = _IndexedCheck(rows.place, model, group_size)
    return rows.dataset.map(check, with_indices=True)


def _generate(pairs, model, group_size) -> Iterator[dict]:
    check = formats.RowCheck(model, group_size)
    for place, row in pairs:
        yield check(row, place)


class _IndexedCheck:
    """Checks a stream's rows by number; each new iteration begins with a new check."""

    def __init__(self, place: str, model: type[formats.Row], group_size: int | None):
        self._place, self._model, self._group_size = place, model, group_size

    def __call__(self, row: dict, number: int) -> dict:
        if number == 0:
            self._check = formats.RowCheck(self._model, self._group_size)
        return self._check(row, f"{self._place}: row {number}")
