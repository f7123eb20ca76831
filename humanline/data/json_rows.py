"""Reading rows of JSON files, each with its place; an error names file and line.

Other readers guess: Arrow turns text that looks like a date into a date, and ujson accepts NaN.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from humanline.files.json_files import strict_json
from humanline.files.validation import ConfigError

_BOM = b"\xef\xbb\xbf"
_INTEGERS = range(-(2**63), 2**63)  # the integers that `datasets` can hold


def read_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """Read a file that is a JSON list of objects, or has one object per line.

    Yields:
        The place of a row, such as "rows.jsonl: line 3", and the row.

    Raises:
        ConfigError: at the first line or item that is not a row, with its number.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(1024).removeprefix(_BOM).lstrip()[:1]
            file.seek(0)
            yield from (_of_list(path, file.read()) if start == b"[" else _of_lines(path, file))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); mend the path") from None


def _of_lines(path: Path, file: IO[bytes]) -> Iterator[tuple[str, dict]]:
    for number, line in enumerate(file, 1):
        line = line.removeprefix(_BOM) if number == 1 else line
        if not line.strip():
            continue
        place = f"{path}: line {number}"
        try:
            row = _parse(line.strip(), place)
        except ConfigError:
            if number == 1 and line.strip() == b"{":  # one object over many lines
                place = f"{path}: one object, not a list of rows"
                raise ConfigError(f"{place}; write one row a line") from None
            raise
        yield place, _required(row, place)


def _of_list(path: Path, content: bytes) -> Iterator[tuple[str, dict]]:
    rows = _parse(content.removeprefix(_BOM), str(path))
    for number, row in enumerate(rows):
        place = f"{path}: row {number}"
        yield place, _required(row, place)


def _required(row: object, place: str) -> dict:
    if not isinstance(row, dict):
        raise ConfigError(f"{place}: not an object with columns; write it as {{...}}")
    return row


def _parse(content: bytes, place: str) -> Any:
    """Parse JSON strictly, and refuse values that no dataset can hold."""
    try:
        found = strict_json(content.decode("utf-8"), parse_int=_integer)
        if b"\\ud" in content.lower():  # JSON can contain half a character (a lone surrogate)
            json.dumps(found, ensure_ascii=False).encode("utf-8")
        return found
    except UnicodeEncodeError:
        raise ConfigError(f"{place}: holds half a character, \\ud...; mend or remove it") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        where = place if content.count(b"\n") < 2 else f"{place}: line {line}"
        raise ConfigError(f"{where}: not UTF-8; write the file in UTF-8") from None
    except json.JSONDecodeError as error:
        where = place if error.lineno == 1 else f"{place}: line {error.lineno}"
        reason = f"not JSON ({error.msg} at column {error.colno})"
        raise ConfigError(f"{where}: {reason}; mend that line") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: {error}; mend or remove it") from None


def _integer(text: str) -> int:
    if len(text) > 20 or int(text) not in _INTEGERS:
        raise ValueError(f"holds the integer {text[:20]}, which has more than 64 bits")
    return int(text)
