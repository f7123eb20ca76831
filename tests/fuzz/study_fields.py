"""Every field of every file of a study: left out, null, of another type, out of range, huge, empty.

The fields are those of the pydantic models, so a new field is tried without an edit here. What is
right is decided by the JSON schemas, as editors read them: what a schema refuses must be refused.
"""

import copy
import datetime
import math
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from pydantic import BaseModel
from study_outcomes import Case, Edit

from humanline.study.claims import Claims
from humanline.study.experiments import Experiments, Row
from humanline.study.runs.pilot import Pilot
from humanline.study.runs.rates import TunedRates
from humanline.study.runs.verdicts import LooksTaken
from humanline.study.scale.scale import Scale

Place = tuple[str | int, ...]
_GONE = object()

# Values of every type; each is tried in every field.
VALUES: dict[str, Any] = {
    "left out": _GONE,
    "null": None,
    "a list": [1, 2],
    "an empty list": [],
    "a mapping": {"a": 1},
    "an empty mapping": {},
    "an unknown name": "no_such_name",
    "an empty text": "",
    "a number as text": "7",
    "a small number as text": "0.5",
    "true": True,
    "false": False,
    "one": 1,
    "zero": 0,
    "a negative number": -3,
    "a fraction": 2.5,
    "an integer of 30 digits": 10**30,
    "an integer beyond 64 bits": 2**64,
    "a number near the largest": 1e300,
    "a tiny number": 1e-320,
    "nan": math.nan,
    "inf": math.inf,
    "minus inf": -math.inf,
    "minus zero": -0.0,
    "a date": datetime.date(2026, 1, 2),
    "a long text": "a" * 5000,
    "a text of two lines": "two\nlines",
    "a text with control characters": "a\x1b[31m\x07b",
    "a nested list": [[[[1]]]],
}
# No field of any file takes them.
REFUSED = ("an integer of 30 digits", "an integer beyond 64 bits", "nan", "inf", "minus inf")

# Every file that a study reads, its model, and a scale that reads it.
FILES: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("config/smoke.yaml", Scale, "smoke"),
    ("config/laptop.yaml", Scale, "laptop"),
    ("config/paper.yaml", Scale, "paper"),
    ("config/workstation.yaml", Scale, "workstation"),
    ("config/experiments.yaml", Experiments, "smoke"),
    ("config/claims.yaml", Claims, "smoke"),
    ("config/learning_rates/laptop.yaml", TunedRates, "laptop"),
    ("config/pilots/laptop.yaml", Pilot, "laptop"),
    ("results/laptop/decide/looks.json", LooksTaken, "laptop"),
)


def cases(base: Path) -> Iterator[Case]:
    """Make the cases of all fields, for the study in a folder."""
    for name, model, scale in FILES:
        content = yaml.safe_load((base / name).read_text())
        for place in _places(model, content):
            for words, value in VALUES.items():
                if value is _GONE and not _is_there(content, place):
                    continue
                change = partial(_put, place=place, value=value)
                yield Case(
                    kind=f"field: {words}",
                    name=f"{name}: {'.'.join(map(str, place))}",
                    files={name: Edit(change)},
                    scale=scale,
                    expect=partial(_expected, words, model, content, change),
                    told=(Path(name).stem,),
                )


def _expected(words: str, model: type[BaseModel], content: dict, change: partial) -> str:
    """Ask the schemas: what they refuse must be refused."""
    changed = copy.deepcopy(content)
    change(changed)
    is_wrong = words in REFUSED or not _validator(model).is_valid(_as_json(changed))
    return "refused" if is_wrong or not _rows_are_valid(changed) else "either"


def _rows_are_valid(content: dict) -> bool:
    """Say whether the rows in claims fit a table's: their schema has any mapping there."""
    claims = content.get("claims")
    tests = [
        test
        for claim in (claims if isinstance(claims, list) else [])
        for test in (claim.get("tests") if isinstance(claim, dict) else None) or []
        if isinstance(test, dict)
    ]
    for test in tests:
        each = test.get("each") or {}
        for row in (test.get("cell"), test.get("against")):
            if isinstance(row, dict) and not _validator(Row).is_valid(_as_json(row | each)):
                return False
    return True


@cache
def _validator(model: type[BaseModel]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(model.model_json_schema())


def _as_json(value: Any) -> Any:
    """Turn YAML's dates, which JSON lacks, into text where it is that of a day."""
    if isinstance(value, dict):
        return {
            str(key): inner.isoformat() if key == "date" and _is_day(inner) else _as_json(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_as_json(inner) for inner in value]
    return {"day": value.isoformat()} if _is_day(value) else value


def _is_day(value: Any) -> bool:
    return isinstance(value, datetime.date)


def _places(model: type[BaseModel], content: dict) -> Iterator[Place]:
    """List the places of all fields: those that are in the content, and those that are left out."""
    try:
        valid = model.model_validate(content)
    except ValueError as error:
        raise AssertionError(f"the study is wrong before any change: {error}") from None
    yield from dict.fromkeys(_fields(valid, content, ()))


def _fields(valid: Any, content: Any, place: Place) -> Iterator[Place]:
    if isinstance(valid, BaseModel):
        for name in type(valid).model_fields:
            yield (*place, name)
            if isinstance(content, dict) and name in content:
                yield from _fields(getattr(valid, name), content[name], (*place, name))
    elif isinstance(valid, dict) and isinstance(content, dict):
        for key, inner in list(content.items())[:6]:
            yield (*place, key)
            yield from _fields(valid.get(key), inner, (*place, key))
        if place[-1:] in (("cell",), ("against",)):  # a row, though its model is a mapping
            yield from ((*place, name) for name in Row.model_fields)
    elif isinstance(valid, list) and isinstance(content, list):
        for index, inner in enumerate(content[:3]):
            yield (*place, index)
            yield from _fields(valid[index], inner, (*place, index))


def _is_there(content: Any, place: Place) -> bool:
    *parents, last = place
    for part in parents:
        content = content[part]
    return not isinstance(content, dict) or last in content


def _put(content: Any, place: Place, value: Any) -> None:
    """Put a value at a place, or remove what is there."""
    *parents, last = place
    for part in parents:
        content = content[part]
    if value is _GONE:
        del content[last]
    else:
        content[last] = copy.deepcopy(value)
