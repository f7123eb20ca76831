"""JSON and JSON Lines, the files between stages: strict to read, atomic to write."""

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from humanline.files.seals import seal, seal_of
from humanline.files.validation import ConfigError, cause_of

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # errors of writing alone
_DISK_WORDS = re.compile(
    "No space left on device|Disk quota exceeded|Read-only file system|file write failed"
)


class NotWrittenError(OSError):
    """A file or folder cannot be written; `filename` names it."""


def write_text(path: Path, text: str, *, sealed: bool = False) -> None:
    """Write a file under a temporary name, then rename it: readers see all of it or none.

    Args:
        path: the file.
        text: its content.
        sealed: write its seal, too. The old seal goes first and the new one comes last, so a
            process that is killed in between leaves a file without a seal, never with a wrong one.
    """
    _write_pieces(path, [text], sealed=sealed)


def _write_pieces(path: Path, pieces: Iterable[str], *, sealed: bool) -> None:
    """Write the pieces of a text as `write_text` does; no more than one is in memory."""
    digest = hashlib.sha256()
    with replacing(path) as temporary:
        try:
            with open(temporary, "wb") as file:
                for piece in pieces:
                    content = piece.encode("utf-8")
                    digest.update(content)
                    file.write(content)
        except Exception:  # also of what makes the pieces
            temporary.unlink(missing_ok=True)
            raise
        seal_of(path).unlink(missing_ok=True)
    if sealed:
        with replacing(seal_of(path)) as temporary:
            temporary.write_bytes(seal(path, digest.hexdigest()))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name under which a file is to be written; then rename it.

    The name is always the same, so the next one replaces what a killed process left.

    Raises:
        NotWrittenError: if the disk is full, or nothing may be written there.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # it takes room
        raise NotWrittenError(error.errno, error.strerror or str(error), str(path)) from error


def disk_fault(error: BaseException) -> ConfigError | None:
    """Say in one line that a file cannot be written, if that is what an error means.

    Some libraries have errors of their own for it; their texts tell.
    """
    if isinstance(error, NotWrittenError) or (isinstance(error, OSError) and error.errno in _FULL):
        where, reason = error.filename or "a file", error.strerror
    elif isinstance(error, OSError) and error.errno is None and _DISK_WORDS.search(str(error)):
        return ConfigError(str(error))  # it names the file and the remedy; see `checkpoints`
    elif not isinstance(error, ConfigError) and (words := disk_words(error)):
        where, reason = "a file of a model", words
    else:
        return None
    remedy = "make room, or let this user write there; then the same command goes on"
    return ConfigError(f"{where}: cannot be written ({reason}); {remedy}")


def disk_words(error: BaseException) -> str:
    """Find the words of an error's text that mean a full or read-only disk; empty: none."""
    found = _DISK_WORDS.search(str(error))
    return found[0] if found else ""


def write_json(path: Path, content, *, sealed: bool = False) -> None:
    """Write indented JSON; raise a `ConfigError` if a number is not finite."""
    write_text(path, _dumps(path, content, indent=1) + "\n", sealed=sealed)


def write_list(path: Path, rows: Iterable[dict], *, sealed: bool = False) -> None:
    """Write rows as `write_json` writes their list, one after the other: there may be a million."""
    texts = (_dumps(path, [row], indent=1).removeprefix("[").removesuffix("\n]") for row in rows)
    first = next(texts, None)
    rest = (f",{text}" for text in texts)
    pieces = ["[]\n"] if first is None else chain([f"[{first}"], rest, ["\n]\n"])
    _write_pieces(path, pieces, sealed=sealed)


def write_jsonl(path: Path, rows: Iterable[dict], *, sealed: bool = False) -> None:
    """Write JSON Lines, row by row; raise a `ConfigError` if a number is not finite."""
    lines = (_dumps(f"{path}: line {number}", row) for number, row in enumerate(rows, 1))
    _write_pieces(path, (f"{line}\n" for line in lines), sealed=sealed)


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
    return _whole(path, parse_json(path, text := _read(path), 1), text, 1)


def read_jsonl(path: Path, fields: tuple[str, ...] = ()) -> list[dict]:
    """Read JSON Lines.

    Args:
        path: the file; blank lines are skipped.
        fields: names that every row must have.

    Raises:
        ConfigError: if the file cannot be read or is empty, or at the first bad line, with its
            number.
    """
    return [row for _, row in read_lines(path, fields)]


def read_lines(path: Path, fields: tuple[str, ...] = ()) -> Iterator[tuple[int, dict]]:
    """Read JSON Lines as `read_jsonl` does; yield each row with its line number, from 1."""
    number = None
    for number, line in _lines(path):
        row = _whole(path, parse_json(path, line, number), line, number)
        if not isinstance(row, dict):
            raise ConfigError(f"{path}: line {number}: not an object; make it again")
        if missing := [field for field in fields if field not in row]:
            raise ConfigError(f"{path}: line {number}: no field {missing[0]!r}; add it")
        yield number, row
    if number is None:
        raise ConfigError(f"{path}: empty; make it again")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not blank, with their numbers."""
    try:
        with open(path, encoding="utf-8") as file:
            # Not splitlines: it also splits at other characters, which JSON text may contain.
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({cause_of(error)}); make it again") from None


def _whole(path: Path, found, text: str, line: int):
    """Refuse half a character, which JSON can hold and no file in UTF-8, such as a table."""
    if "\\ud" in text.lower():
        try:
            json.dumps(found, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            reason = "holds half a character, \\ud..."
            raise ConfigError(f"{path}: line {line}: {reason}; make it again") from None
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({cause_of(error)}); make it again") from None


def strict_json(text: str, **hooks):
    """Parse JSON as `json.loads` does, but refuse non-finite numbers and repeated keys.

    Python accepts both. Non-finite numbers are not JSON, and of a repeated key one value is lost.

    Args:
        text: the JSON text.
        hooks: further arguments of `json.loads`.

    Raises:
        ValueError: at the first such fault, or if the text is not JSON (`json.JSONDecodeError`).
    """
    return json.loads(
        text,
        parse_constant=_refuse_constant,
        parse_float=_finite,
        object_pairs_hook=_without_repeats,
        **hooks,
    )


def parse_json(path: Path, text: str, line: int = 1):
    """Parse JSON text from a file.

    Args:
        path: the file, for errors.
        text: the JSON text.
        line: the line of the file where the text begins, from 1.

    Raises:
        ConfigError: if the text is not strict JSON; the message names file and line.
    """
    try:
        return strict_json(text)
    except json.JSONDecodeError as error:
        where = line + error.lineno - 1
        raise ConfigError(f"{path}: line {where}: not JSON ({error.msg}); make it again") from None
    except RecursionError:
        reason = "not JSON that can be read (brackets too deep)"
        raise ConfigError(f"{path}: line {line}: {reason}; make it again") from None
    except ValueError as error:
        raise ConfigError(f"{path}: line {line}: {error}; make it again") from None


def _refuse_constant(text: str):
    raise ValueError(f"holds {text}, which is not JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"holds the number {text}, which is beyond all floats")
    return number


def _without_repeats(pairs: list[tuple]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"has the key {repeated!r} twice")
    return content
