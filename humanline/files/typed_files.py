"""Typed files: the stage that writes a file and the stage that reads it check one pydantic model.

A JSON object has a `Record` for its model, a line of JSON Lines a `Row`, and a row of CSV a
`Columns`. A reader that needs a part of a file takes a parent class of the writer's model. So it
can still read files that lack newer fields. A fault is a `ConfigError` of one line: the file, the
row or line, the field and the remedy.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar, get_args

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from humanline.files.json_files import read_json, read_lines, write_json, write_jsonl, write_text
from humanline.files.seals import require_seal
from humanline.files.validation import ConfigError, Record, first_fault, validate

if TYPE_CHECKING:
    import pandas as pd

Count = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]
_NUMBERS = {int, float}
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_MARKED = re.compile(r"'+[=+\-@\t\r\n]")


class Row(Record):
    """A row of JSON Lines. No two rows of a file agree in all fields of `key`, if it has any."""

    key: ClassVar[tuple[str, ...]] = ("prompt",)


class Columns(Record):
    """A row of CSV: its fields are the columns.

    A column is optional if its field has a default, and may have gaps if its field may be None.
    """

    remedy: ClassVar[str] = "make it again"

    @classmethod
    def fault(cls, frame: "pd.DataFrame") -> str | None:
        """Look for faults that the fields' types do not show; subclasses override this.

        Returns:
            The field and the reason, or None.
        """
        return None


SomeRecord = TypeVar("SomeRecord", bound=Record)


# JSON Lines.


def write_rows(path: Path, model: type[Row], rows: Iterable[dict]) -> None:
    """Write rows as JSON Lines.

    Raises:
        ConfigError: if there are no rows, or if one does not fit the model or repeats a key.
    """
    checked = [*_checked_rows(path, model, enumerate(rows, 1))]
    if not checked:
        raise ConfigError(f"{path}: no rows to write; see what this stage was given")
    write_jsonl(path, checked, sealed=True)


def read_rows(path: Path, model: type[Row]) -> list[dict]:
    """Read rows from JSON Lines.

    Raises:
        ConfigError: at the first row that does not fit the model, with file, line and field.
    """
    needed = (name for name, field in model.model_fields.items() if field.is_required())
    rows = [*_checked_rows(path, model, read_lines(path, tuple(needed)))]
    require_seal(path)
    return rows


def _checked_rows(
    path: Path, model: type[Row], lines: Iterable[tuple[int, dict]]
) -> Iterator[dict]:
    """Yield rows that fit the model, one after the other."""
    seen: dict[tuple, int] = {}
    for number, row in lines:
        place = f"{path}: line {number}"
        validate(model, row, place)
        key = tuple(row[name] for name in model.key)
        if key and key in seen:
            fields = " and ".join(model.key)
            raise ConfigError(f"{place}: {fields}: as in line {seen[key]}; remove one of the two")
        seen[key] = number
        yield row


# JSON.


def write_record(
    path: Path, model: type[SomeRecord], content: dict, remedy: str | None = None
) -> None:
    """Write a JSON object.

    Args:
        path: the file.
        model: the model that the object must fit.
        content: the object.
        remedy: the end of an error's line; give the one that `read_record` gets.

    Raises:
        ConfigError: at the first fault, with file and field; also if the model lacks a field.
    """
    if unknown := set(content) - set(model.model_fields):
        raise ConfigError(f"{path}: field {min(unknown)}: {model.__name__} has none; add it there")
    found = _validated(path, model, content, remedy)
    write_json(path, found.model_dump(mode="json", exclude_unset=True), sealed=True)


def read_record(path: Path, model: type[SomeRecord], remedy: str | None = None) -> SomeRecord:
    """Read a JSON object.

    Args:
        path: the file.
        model: the model that the object must fit.
        remedy: the end of an error's line; None: it asks to change the field.

    Raises:
        ConfigError: at the first fault, with file and field.
    """
    found = _validated(path, model, read_json(path), remedy)
    require_seal(path)
    return found


def _validated(
    path: Path, model: type[SomeRecord], content: object, remedy: str | None
) -> SomeRecord:
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not an object; {remedy or 'make it again'}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        if remedy is None:
            raise ConfigError(f"{path}: {first_fault(error, content)}") from None
        raise ConfigError(f"{path}: {_reason(model, error.errors()[0])}; {remedy}") from None


def _reason(model: type[Record], detail: ErrorDetails) -> str:
    """Describe a fault of a file that nobody edits by hand: field and reason."""
    path, field = _found(model, detail)
    where = f"field {'.'.join(map(str, path))}"
    kind = detail["type"]
    if field is None or not _is_number(field):
        return f"{where}: {'missing' if kind == 'missing' else detail['msg']}"
    if kind.startswith(("greater_than", "less_than")):
        low, high = bounds_of(field)
        return f"{where}: {detail['input']:g} is not from {low:g} to {high:g}"
    return f"{where}: missing or no number"


def _found(
    model: type[Record], detail: ErrorDetails
) -> tuple[tuple[int | str, ...], FieldInfo | None]:
    """Find a fault's path and field; if a record is missing, take the record's first field."""
    path, inner, field = tuple(detail["loc"]), model, None
    for part in path:
        field = inner.model_fields.get(part) if isinstance(part, str) else field
        inner = _record_in(field) or inner
    if detail["type"] == "missing" and field is not None and (missing := _record_in(field)):
        name, field = next(iter(missing.model_fields.items()))
        path = (*path, name)
    return path, field


def _record_in(field: FieldInfo | None) -> type[Record] | None:
    """Find the `Record` that a field holds, or holds a list of."""
    kinds = _types(field.annotation) if field else ()
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Record)), None)


def bounds_of(field: FieldInfo) -> tuple[float, float]:
    """Find the bounds of a number's field, or of the numbers in its list.

    Returns:
        The least and the greatest value; infinite where there is no bound.
    """
    constraints = [*field.metadata, *_constraints(field.annotation)]

    def first(names: tuple[str, ...], default: float) -> float:
        found = (getattr(part, name, None) for part in constraints for name in names)
        return next((value for value in found if value is not None), default)

    return first(("ge", "gt"), -math.inf), first(("le", "lt"), math.inf)


def _constraints(annotation: object) -> Iterator[object]:
    """Yield the constraints that an annotation puts on a value, at any depth."""
    for part in getattr(annotation, "__metadata__", ()):
        yield from part.metadata if isinstance(part, FieldInfo) else [part]
    for inner in get_args(annotation):
        yield from _constraints(inner)


def _is_number(field: FieldInfo) -> bool:
    return bool(_NUMBERS & set(_types(field.annotation)))


def _types(annotation: object) -> Iterator[object]:
    """Yield the plain types within a union, a list or an annotation."""
    if getattr(annotation, "__metadata__", ()):
        yield from _types(get_args(annotation)[0])
    elif inner := get_args(annotation):
        for each in inner:
            yield from _types(each)
    else:
        yield annotation


# CSV.


def write_columns(path: Path, model: type[Columns], frame: "pd.DataFrame") -> None:
    """Write rows as CSV.

    Raises:
        ConfigError: if there are no rows, or at the first column that does not fit the model.
    """
    check_columns(path, model, frame)
    write_text(path, csv_text(frame), sealed=True)


def csv_text(frame: "pd.DataFrame") -> str:
    """Write a table as CSV in which no text is a formula.

    Spreadsheets compute a text that begins with one of ``= + - @``, a tab or a line break. It gets
    an apostrophe before it, and so does one that begins so after apostrophes of its own.
    `read_csv` takes it away. Numbers stay, also those that are texts.
    """
    marked = frame.rename(columns=_marked)
    for place in range(frame.shape[1]):
        column = frame.iloc[:, place]
        if any(_marked(value) is not value for value in column.unique()):
            marked.isetitem(place, column.map(_marked).array)
    return marked.to_csv(index=False)


def _marked(value):
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _unmarked(value):
    return value[1:] if isinstance(value, str) and _MARKED.match(value) else value


def read_columns(path: Path, model: type[Columns]) -> "pd.DataFrame":
    """Read rows from CSV.

    Raises:
        ConfigError: if the file cannot be read, has no rows, or does not fit the model; the message
            names file, row (from 0) and field.
    """
    frame = read_csv(path, model.remedy)
    check_columns(path, model, frame)
    require_seal(path)
    return frame


def read_csv(path: Path, remedy: str) -> "pd.DataFrame":
    """Read any CSV, as `csv_text` writes it.

    It is strict: pandas fills short rows, and renames columns that are there twice.

    Args:
        path: the file.
        remedy: the end of an error's line.

    Raises:
        ConfigError: if the file cannot be read, a column is there twice or has no name, or a row
            has another number of fields than the header.
    """
    import pandas as pd

    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            text = file.read()
        if reason := _fault_of_csv(text):
            raise ConfigError(f"{path}: {reason}; {remedy}")
        frame = pd.read_csv(io.StringIO(text), index_col=False)
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except (ValueError, csv.Error) as error:  # pandas' errors are values' errors
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read as CSV ({reason}); {remedy}") from None
    for place, name in enumerate(frame.columns):
        if frame[name].dtype.kind in "iufb":
            continue
        if any(_unmarked(value) is not value for value in frame[name].unique()):
            frame.isetitem(place, frame[name].map(_unmarked).array)
    return frame.rename(columns=_unmarked)


def _fault_of_csv(text: str) -> str | None:
    if "\0" in text:
        return f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: holds a NUL"
    rows = csv.reader(io.StringIO(text), strict=True)
    header = next(rows, [])
    if twice := [name for name in header if header.count(name) > 1]:
        return f"line 1: field {twice[0] or '(no name)'}: there twice"
    for row in rows:
        if row and len(row) != len(header):
            return f"line {rows.line_num}: {len(row)} fields, but the header has {len(header)}"
    return None


def check_columns(path: Path, model: type[Columns], frame: "pd.DataFrame") -> None:
    """Check that there are rows and that their columns fit the model.

    Raises:
        ConfigError: at the first fault, with file, row (from 0) and field.
    """
    reasons = (_column_fault(frame, name, field) for name, field in model.model_fields.items())
    reason = next(filter(None, reasons), None) or model.fault(frame)
    if reason or len(frame) == 0:
        raise ConfigError(f"{path}: {reason or 'no rows'}; {model.remedy}")


def _column_fault(frame: "pd.DataFrame", name: str, field: FieldInfo) -> str | None:
    if name not in frame:
        return f"field {name}: missing" if field.is_required() else None
    if not _is_number(field):
        return None
    return number_fault(frame[name], bounds_of(field), gaps=type(None) in _types(field.annotation))


def number_fault(
    column: "pd.Series", bounds: tuple[float, float] = (-math.inf, math.inf), *, gaps: bool = False
) -> str | None:
    """Find the first value of a column that is not a finite number within bounds.

    Args:
        column: the values, with the column's name.
        bounds: the least and the greatest value.
        gaps: whether missing values are allowed.

    Returns:
        Row (from 0), field and reason, or None.
    """
    import numpy as np
    import pandas as pd

    low, high = bounds
    # NumPy's arrays, because pandas takes ten times as long for a short column.
    is_number = isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf"
    values = column if is_number else pd.to_numeric(column, errors="coerce")
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    good = np.isfinite(numbers) & (low <= numbers) & (numbers <= high)
    if gaps:
        good |= column.isna().to_numpy()
    if good.all():
        return None
    row = int(np.argmin(good))
    given = column.iloc[row]
    reason = f"{given} is no number from {low:g} to {high:g}"
    if not (math.isfinite(low) or math.isfinite(high)):
        reason = f"{getattr(given, 'item', lambda: given)()!r} is no finite number"
    return f"row {row}: field {column.name}: {reason}"
