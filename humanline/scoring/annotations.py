"""Read and check annotations in AlpacaEval's format.

A fault is a `ConfigError` of one line: the file, the row (from 0), the field and the remedy.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from humanline.files.json_files import write_list
from humanline.files.seals import require_seal
from humanline.files.validation import ConfigError, cause_of
from humanline.scoring.difficulties import find_difficulty
from humanline.scoring.length_control import (
    Difficulty,
    length_control_warning,
    length_controlled_win_rate,
)

_WRITTEN = 2**12  # rows that are made at once
_TEXTS = ("instruction", "output_1", "output_2")
_GENERATORS = ("generator_1", "generator_2")
_NAMES = (*_GENERATORS, "annotator")


def read_annotations(path: Path, remedy: str = "mend that row") -> pd.DataFrame:
    """Read annotations, one row per instruction; `preference` is nan where the file has null.

    Args:
        path: JSON, or JSON compressed by gzip.
        remedy: what the user should do about a fault; the error line ends with it.

    Returns:
        The file's columns; `preference` runs from 1 (the baseline's output is better) to 2 (the
        model's is better).

    Raises:
        ConfigError: if the file has no rows, a field is missing or has another type, a preference
            is not a number from 1 to 2, an instruction occurs twice, or generators are mixed.
    """
    rows = _read(path)
    if not isinstance(rows, list):
        raise ConfigError(f"{path}: not a list of annotations; {remedy}")
    if not rows:
        raise ConfigError(f"{path}: no rows; {remedy}")
    first: dict[str, int] = {}
    for number, row in enumerate(rows):
        if reason := _fault(row, rows[0]):
            raise ConfigError(f"{path}: row {number}: {reason}; {remedy}")
        if (before := first.setdefault(row["instruction"], number)) != number:
            reason = f"field instruction: the same as in row {before}"
            raise ConfigError(f"{path}: row {number}: {reason}; {remedy}")
    require_seal(path)
    table = pd.DataFrame(rows, dtype=object)  # texts stay as they are: pandas' own cost a third
    return table.assign(preference=pd.to_numeric(table["preference"]).astype(float))


def write_annotations(annotations: pd.DataFrame, path: Path) -> None:
    """Write annotations as JSON records, AlpacaEval's format, atomically; nan becomes null."""

    def rows() -> Iterator[dict]:
        for start in range(0, len(annotations), _WRITTEN):
            for row in annotations[start : start + _WRITTEN].to_dict(orient="records"):
                row["preference"] = None if np.isnan(row["preference"]) else row["preference"]
                yield row

    write_list(path, rows(), sealed=True)


def _read(path: Path):
    """Read JSON with Python's parser: published files contain NaN, which stricter ones refuse."""
    open_text = gzip.open if path.suffix == ".gz" else open
    if path.is_char_device():  # it may never end; a pipe of a shell does
        raise ConfigError(f"{path}: cannot be read (it is a device); name a file")
    try:
        with open_text(path, "rt", encoding="utf-8-sig") as file:  # with a byte order mark or not
            return json.load(file, object_pairs_hook=_Rows())
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be read ({cause_of(error)}); make it again") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON ({error}); make it again") from None


class _Rows:
    """Make the rows of a file, in which all with the same name of a model share its text."""

    def __init__(self):
        self._names: dict[str, str] = {}

    def __call__(self, pairs: list[tuple]) -> dict:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"a row has the field {twice!r} twice")
        for field in _NAMES:
            if isinstance(name := row.get(field), str):
                row[field] = self._names.setdefault(name, name)
        return row


def _fault(row, first) -> str | None:
    """Say what is wrong with a row; its generators must equal those of the first row."""
    if not isinstance(row, dict):
        return "not an object"
    for field in (*_TEXTS, "preference"):
        if field not in row:
            return f"field {field}: missing"
        if field in _TEXTS and not isinstance(row[field], str):
            return f"field {field}: no text"
    for field, value in row.items():
        if not _is_unicode(f"{field}{value}" if isinstance(value, str) else field):
            return f"field {field}: holds half a character, \\ud..."
    for field in _GENERATORS:
        if not isinstance(row.get(field), str | None):
            return f"field {field}: no text"
        if row.get(field) != first.get(field):
            return f"field {field}: {row.get(field)!r}, but {first.get(field)!r} in row 0"
    preference = row["preference"]
    is_number = isinstance(preference, int | float) and not isinstance(preference, bool)
    if preference is not None and not (is_number and 1 <= preference <= 2):
        # alpaca_eval reads 0 as a draw; others write 0 for a loss.
        hint = ", write 1.5 for a draw" if preference == 0 and is_number else ""
        return f"field preference: not always a number from 1 to 2, but {preference!r:.40}{hint}"
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can hold one half of a surrogate pair
        return False
    return True


def difficulty_of(annotations: pd.DataFrame) -> Difficulty | None:
    """Find the difficulties of the instructions; None unless all are AlpacaEval's."""
    return find_difficulty(annotations["instruction"].to_list())


def columns(annotations: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split annotations into three arrays (N,).

    Returns:
        Preferences for the model in [0, 1] (nan if not judged), lengths of the baseline's outputs
        and lengths of the model's outputs, both in characters.
    """
    baseline, model = (
        np.fromiter(map(len, annotations[name]), dtype=int, count=len(annotations))
        for name in ("output_1", "output_2")
    )
    return annotations["preference"].to_numpy(dtype=float) - 1, baseline, model


def length_controlled(annotations: pd.DataFrame) -> tuple[float, str | None]:
    """Compute the length-controlled win rate.

    Args:
        annotations: N rows, as `read_annotations` returns them.

    Returns:
        The win rate in per cent, and the warning of `length_control_warning` or None.
    """
    win_rate = length_controlled_win_rate(
        *columns(annotations), difficulty=difficulty_of(annotations)
    )
    return 100 * win_rate, length_control_warning(*columns(annotations), win_rate)
