"""Keys without effect: a row, a table or a claim says something that nothing reads."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from humanline.study.cells import WITHOUT_BOUNDS
from humanline.study.claims import Claim, Claims, Test
from humanline.study.experiments import Cell, HumanlineDefaults, Row, Table
from humanline.study.values import Lora

# Who reads a key of a row, in words for people; the other keys are read by all cells.
_READERS = {
    "data_from": "offline cells",
    "quartile": "offline cells",
    "select": "offline cells",
    "groups": "offline cells",
    "sample_every": "online cells",
    "last_sampling": "online cells",
    "perception": "cells with humanline",
    "log_eps_p": "cells with humanline and a perception that has bounds",
    "log_eps_r": "cells with humanline and a perception that has bounds",
    "sync_interval": "cells with humanline or trust_region",
    "sync_alpha": "cells that sync, with humanline or trust_region",
    "lora.reference": "cells that sync, with humanline or trust_region",
}


def _reads(cell: Cell, key: str) -> bool:
    follows = cell.humanline or cell.trust_region
    match key:
        case "data_from" | "quartile" | "select" | "groups":
            return cell.data == "offline"
        case "sample_every" | "last_sampling":
            return cell.data == "online"
        case "perception":
            return cell.humanline
        case "log_eps_p" | "log_eps_r":
            return cell.humanline and cell.perception not in WITHOUT_BOUNDS
        case "sync_interval":
            return follows
        case "sync_alpha":
            return follows and cell.sync_interval is not None
        case "lora.reference":
            return follows and cell.sync_interval is not None and cell.lora is not None
    return True


def _given(row: Row) -> Iterator[str]:
    """List the keys that a row says, without those that are null, which is as if left out."""
    for name in Row.model_fields:  # in a fixed order
        value = getattr(row, name)
        if name not in row.model_fields_set or value is None:
            continue
        yield name
        grid = value if isinstance(value, list) else [value]
        if any(isinstance(own, Lora) and own.reference for own in grid):
            yield "lora.reference"


def row_fault(row: Row, cells: Iterable[Cell]) -> str | None:
    """Find a key of a row that none of its cells reads, or a value that is there twice.

    Args:
        row: the row.
        cells: its cells, on any seed.

    Returns:
        The key, reason and remedy. None: there is no such key.
    """
    cells = list(cells)
    return _unread(_given(row), cells) or _twice(row)


def _unread(keys: Iterable[str], cells: list[Cell]) -> str | None:
    for key in keys:
        if not any(_reads(cell, key) for cell in cells):
            return f"{key}: only {_READERS[key]} read it, and here are none; remove it"
    return None


def _twice(row: Row) -> str | None:
    grids = {name: getattr(row, name) for name in Row.model_fields if name != "overrides"}
    grids |= {f"overrides.{key}": grid for key, grid in row.overrides.items()}
    for name, grid in grids.items():
        values = [_meaning(value) for value in grid] if isinstance(grid, list) else []
        if len(set(values)) < len(values):
            twice = next(own for i, own in enumerate(values) if own in values[:i])
            return f"{name}: {twice!r} is listed twice; remove one"
    return None


def _meaning(value: Any) -> Any:
    """Return what a value means, so that two ways of writing it are equal."""
    return (value.r, value.scaling, value.reference) if isinstance(value, Lora) else value


def table_fault(table: Table, cells: list[list[Cell]]) -> str | None:
    """Find what a table says in vain.

    Args:
        table: the table.
        cells: the cells of each of its rows, on any seed.

    Returns:
        Field, reason and remedy. None: there is nothing.
    """
    before: set[tuple[str, str]] = set()
    for index, (row, own) in enumerate(zip(table.cells, cells, strict=True)):
        if reason := row_fault(row, own):
            return f"cells.{index}.{reason}"
        found = {(cell.task, cell.variant) for cell in own}
        if found <= before:
            return f"cells.{index}: the rows before it have all of its cells; remove it"
        before |= found
    every = list(itertools.chain(*cells))
    rated = {"learning_rate", "learning_rate_factor"}
    if table.tuned is not False and not any(
        table.tunes(cell) for cell in every if not rated & set(cell.overrides)
    ):
        if table.tuned is True:
            return "tuned: every cell has a rate of its own; remove it"
        return f"tuned: no cell has {table.tuned} and no rate of its own; mend or remove it"
    return None


def claims_fault(claims: Claims, defaults: Mapping[str, HumanlineDefaults]) -> str | None:
    """Find what a claim says in vain, or twice.

    Returns:
        Place, reason and remedy. None: there is nothing.
    """
    for i, claim in enumerate(claims.claims):
        if reason := _claim_fault(claim, defaults):
            return f"claims.{i}.tests.{reason}"
    return None


def _claim_fault(claim: Claim, defaults: Mapping[str, HumanlineDefaults]) -> str | None:
    for j, test in enumerate(claim.tests):
        if test in claim.tests[:j]:
            return f"{j}: the same as tests.{claim.tests.index(test)}; remove one"
        for key, values in test.each.items():
            if len({(type(own), own) for own in values}) < len(values):
                return f"{j}.each.{key}: has a value twice; remove one"
        if reason := _test_fault(test, defaults[test.task]):
            return f"{j}.{reason}"
    return None


def _test_fault(test: Test, defaults: HumanlineDefaults) -> str | None:
    points = [
        dict(zip(test.each, values, strict=True))
        for values in itertools.product(*test.each.values())
    ]
    both: list[Cell] = []
    for name in ("cell", "against"):
        side = getattr(test, name)
        if not isinstance(side, dict):
            continue
        rows = [Row(**(side | point)) for point in points]
        cells = [cell for row in rows for cell in row.cells(test.task, defaults, seed=0)]
        own = [key for key in _given(rows[0]) if key.partition(".")[0] in side]
        if reason := _unread(own, cells) or _twice(rows[0]):
            return f"{name}.{reason}"
        both += cells
    if reason := _unread([key for key in test.each if key in _READERS], both):
        return f"each.{reason}"
    return None
