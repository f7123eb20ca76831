"""Files are the interface between stages: JSON Lines and JSON, written once and atomically."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

from humanline.validation import ConfigError


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it: readers see all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, content) -> None:
    """Write JSON for people and machines; raise a `ConfigError` if a number is not finite."""
    write_text(path, _dumps(path, content, indent=1) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Write JSON Lines; raise a `ConfigError` if a number is not finite."""
    lines = [_dumps(f"{path}: line {number}", row) for number, row in enumerate(rows, 1)]
    write_text(path, "".join(f"{line}\n" for line in lines))


def _dumps(place: Path | str, content, **options) -> str:
    try:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, **options)
    except ValueError as error:
        raise ConfigError(
            f"{place}: a number is not finite, and so is not written; see which stage made it "
            f"({error})"
        ) from None


def read_json(path: Path):
    """Read JSON, or raise a `ConfigError` that names the file and the fault."""
    return parse_json(path, _read(path), 1)


def read_jsonl(path: Path, fields: tuple[str, ...] = ()) -> list[dict]:
    """Read JSON Lines whose rows have `fields`, or raise a `ConfigError` that names the line."""
    return [row for _, row in read_lines(path, fields)]


def read_lines(path: Path, fields: tuple[str, ...] = ()) -> list[tuple[int, dict]]:
    """As `read_jsonl`, with the number of each row's line."""
    rows = []
    # Not splitlines: JSON may contain the other characters that Python takes for line breaks.
    for number, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            continue
        row = parse_json(path, line, number)
        if not isinstance(row, dict):
            raise ConfigError(f"{path}: line {number}: not an object; make it again")
        if missing := [field for field in fields if field not in row]:
            raise ConfigError(f"{path}: line {number}: no field {missing[0]!r}; add it")
        rows.append((number, row))
    if not rows:
        raise ConfigError(f"{path}: empty; make it again")
    return rows


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); make it again") from None


def parse_json(path: Path, text: str, line: int = 1):
    """Parse the text that a file has from a line on, or raise a `ConfigError` about the fault.

    What Python would take and JSON does not know is a fault, too: numbers that are not finite, and
    a key that is given twice.
    """
    try:
        return json.loads(
            text,
            parse_constant=_finite,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
        )
    except json.JSONDecodeError as error:
        where = line + error.lineno - 1
        raise ConfigError(f"{path}: line {where}: not JSON ({error.msg}); make it again") from None
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, a thousand brackets
        raise ConfigError(f"{path}: line {line}: not JSON ({error}); make it again") from None


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text} is not finite")
    return number


def _without_repeats(pairs: list[tuple]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return content
