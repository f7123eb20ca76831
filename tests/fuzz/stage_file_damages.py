"""Ways in which a file that one stage writes and another reads can be damaged.

A damage takes a file's bytes and a generator of random numbers, and returns other bytes. None
stands for no file, `FOLDER` for a folder in its place.
"""

import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = b"\0folder"
Damage = Callable[[bytes, random.Random], bytes | None]


class Raw(str):
    """Text that stands in JSON as it is: NaN, an integer of 5000 digits, half a character."""


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, max(2, len(content) - 2))]


def _cut_in_last_line(content: bytes, rng: random.Random) -> bytes:
    start = content.rstrip(b"\n").rfind(b"\n") + 1
    return content[: rng.randrange(start + 1, max(start + 2, len(content) - 2))]


def _inserted(what: bytes) -> Damage:
    def damage(content: bytes, rng: random.Random) -> bytes:
        place = rng.randrange(len(content))
        return content[:place] + what + content[place:]

    return damage


def _flipped(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(7)]) + content[place + 1 :]


def _digit(content: bytes, rng: random.Random) -> bytes:
    """Change one digit, so that the file stays well-formed: only its seal can tell."""
    places = [i for i, byte in enumerate(content) if byte in b"123456789"]
    place = rng.choice(places or [0])
    other = rng.choice([d for d in b"123456789" if d != content[place]])
    return content[:place] + bytes([other]) + content[place + 1 :]


ANY: dict[str, Damage] = {
    "missing": lambda content, rng: None,
    "a folder": lambda content, rng: FOLDER,
    "empty": lambda content, rng: b"",
    "blank": lambda content, rng: b" \n\n",
    "null": lambda content, rng: b"null\n",
    "a number": lambda content, rng: b"7\n",
    "a list": lambda content, rng: b"[]\n",
    "an empty object": lambda content, rng: b"{}\n",
    "nested 5000 deep": lambda content, rng: b"[" * 5000 + b"]" * 5000,
    "binary": lambda content, rng: rng.randbytes(500),
    "cut": _cut,
    "cut in its last line": _cut_in_last_line,
    "twice": lambda content, rng: content + content,
    "CRLF": lambda content, rng: content.replace(b"\n", b"\r\n"),
    "byte order mark": lambda content, rng: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda content, rng: content.decode().encode("utf-16"),
    "not UTF-8": _inserted(b"\xff\xfe"),
    "NUL": _inserted(b"\0"),
    "10 MB in a line": _inserted(b"x" * 10_000_000),
    "a bit": _flipped,
    "a digit": _digit,
}


def _of_lines(change: Callable[[list[bytes], random.Random], list[bytes]]) -> Damage:
    """Change the lines of a file; those of a CSV file's rows alone."""

    def damage(content: bytes, rng: random.Random) -> bytes:
        lines = content.splitlines(keepends=True)
        head = 0 if content[:1] in b"{[" else 1
        return b"".join(lines[:head] + change(lines[head:], rng))

    return damage


def _without_one(lines: list[bytes], rng: random.Random) -> list[bytes]:
    place = rng.randrange(len(lines))
    return lines[:place] + lines[place + 1 :]


LINES: dict[str, Damage] = {
    "no rows": _of_lines(lambda lines, rng: []),
    "one row": _of_lines(lambda lines, rng: lines[:1]),
    "without a row": _of_lines(_without_one),
    "without the last row": _of_lines(lambda lines, rng: lines[:-1]),
    "half of the rows": _of_lines(lambda lines, rng: lines[: len(lines) // 2]),
    "a row twice": _of_lines(lambda lines, rng: [*lines, rng.choice(lines)]),
    "reversed": _of_lines(lambda lines, rng: lines[::-1]),
    "reordered": _of_lines(lambda lines, rng: rng.sample(lines, len(lines))),
}

# What stands in place of a value; `Raw` stands as it is.
VALUES: dict[str, object] = {
    "null": None,
    "a text": "text",
    "a number as text": "1.5",
    "an empty text": "",
    "true": True,
    "an empty list": [],
    "a list": ["a", 1, None],
    "an object": {"a": 1},
    "NaN": Raw("NaN"),
    "infinity": Raw("-Infinity"),
    "1e400": Raw("1e400"),
    "5000 digits": Raw("9" * 5000),
    "2 ** 70": 2**70,
    "minus one": -1,
    "zero": 0,
    "a fraction": 0.123456,
    "a million": 1_000_000,
    "half a character": Raw('"\\ud800"'),
    "control characters": "a\0b\x1b[2J\x7f\u202e",
    "20,000 characters": "a" * 20_000,
}


def json_values(content: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Damage every kind of field of JSON, or of a row of JSON Lines, in every way."""
    is_lines = b"\n{" in content.strip()
    found = [json.loads(line) for line in content.splitlines()] if is_lines else json.loads(content)
    seen = set()
    places = [*_places(found)]
    rng.shuffle(places)
    for place in places:
        field = ".".join(part for part in place if isinstance(part, str)) or "row"
        if field in seen:
            continue
        seen.add(field)
        for name, value in VALUES.items():
            yield f"{field}: {name}", _written(_with(found, place, value), is_lines)
        if isinstance(place[-1], str):
            yield f"{field}: missing", _written(_with(found, place, _GONE), is_lines)
            yield f"{field}: renamed", _written(_with(found, place, _RENAMED), is_lines)
            yield f"{field}: twice", _written(_with(found, place, _TWICE), is_lines)
    place = (0, "new") if isinstance(found, list) else ("new",)
    yield "an unknown field", _written(_with(found, place, 1), is_lines)


_GONE, _RENAMED, _TWICE = object(), object(), object()


def _places(content: object, above: tuple = ()) -> Iterator[tuple]:
    """Yield the places of all values, and of the items of lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*above, key))


def _with(content, place, value):
    """Copy content with another value at a place."""
    if not place:
        return value
    key, rest = place[0], place[1:]
    copy = dict(content) if isinstance(content, dict) else list(content)
    if rest or value not in (_GONE, _RENAMED, _TWICE):
        copy[key] = _with(copy[key] if rest else None, rest, value)
    elif value is _GONE:
        del copy[key]
    elif value is _RENAMED:
        copy[f"{key}_"] = copy.pop(key)
    else:
        copy[Twice(key)] = 1
    return copy


class Twice(str):
    """A key that is written like another one."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def _written(content, is_lines: bool) -> bytes:
    if is_lines:
        return "".join(f"{_json(row)}\n" for row in content).encode()
    return f"{_json(content)}\n".encode()


def _json(value) -> str:
    match value:
        case Raw():
            return str(value)
        case dict():
            return f"{{{', '.join(f'{json.dumps(str(k))}: {_json(v)}' for k, v in value.items())}}}"
        case list():
            return f"[{', '.join(map(_json, value))}]"
    return json.dumps(value, ensure_ascii=False)


CELLS = {
    "empty": "",
    "a text": "text",
    "nan": "nan",
    "inf": "inf",
    "1e400": "1e400",
    "5000 digits": "9" * 5000,
    "2 ** 70": str(2**70),
    "minus one": "-1",
    "zero": "0",
    "a fraction": "0.123456",
    "a million": "1000000",
    "true": "True",
    "NUL": "a\0b",
    "a quote": 'a"b\nc',
    "with a blank": " 1 ",
    "hexadecimal": "0x10",
    "digits in groups": "1_000",
    "a formula": "=1+1",
}


def csv_values(content: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Damage every column of CSV in every way, in one row."""
    header, *rows = csv.reader(io.StringIO(content.decode()))
    for place, column in enumerate(header):
        row = rng.randrange(len(rows))
        for name, value in CELLS.items():
            changed = [list(own) for own in rows]
            changed[row][place] = value
            yield f"{column}: {name}", _csv(header, changed)
        kept = [[v for i, v in enumerate(own) if i != place] for own in (header, *rows)]
        yield f"{column}: missing", _csv(*(kept[0], kept[1:]))
        renamed = [f"{name}_" * (i == place) or name for i, name in enumerate(header)]
        yield f"{column}: renamed", _csv(renamed, rows)
        twice = [[*own, own[place]] for own in (header, *rows)]
        yield f"{column}: twice", _csv(twice[0], twice[1:])
    yield "an unknown column", _csv([*header, "new"], [[*own, "1"] for own in rows])
    yield "a longer row", _csv(header, [*rows[:-1], [*rows[-1], "1", "2"]])
    yield "a shorter row", _csv(header, [*rows[:-1], rows[-1][:-1]])
    yield "an open quote", content.rstrip(b"\n") + b'\n"'


def _csv(header: list[str], rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def damages(
    path: Path, others: dict[str, Path], rng: random.Random
) -> Iterator[tuple[str, bytes | None]]:
    """Yield all damages of a file, each with its name.

    Args:
        path: the file.
        others: files that may stand in its place by mistake, by what they are.
        rng: the generator that chooses places.
    """
    content = path.read_bytes()
    kinds = dict(ANY)
    if path.suffix != ".json":
        kinds |= LINES
    for name, damage in kinds.items():
        yield name, damage(content, rng)
    for name, other in others.items():
        yield name, other.read_bytes()
    yield from (csv_values if path.suffix == ".csv" else json_values)(content, rng)
