"""Bounds of a study: how many runs it stands for, and which names its files can have."""

from collections.abc import Iterable

from humanline.files.validation import ConfigError, known_names
from humanline.study.claims import Claims
from humanline.study.experiments import MOST_RUNS, Cell, Experiments, Table
from humanline.study.scale.scale import Scale

MOST_PAIRS = 2_000  # of cells that claims compare
_LONGEST = 200  # bytes of a run's name: file systems take 255, and its files have endings

# Files beside the tables'.
_TAKEN = {"claims", "comparisons", "scores", "power"}


def require_few_runs(scale: Scale, experiments: Experiments) -> None:
    """Refuse a study of too many runs, before they are listed.

    Raises:
        ConfigError: the table, its number of runs, and the remedy.
    """
    total, most = 0, scale.seeds
    seeds = max(len(most.report), len(most.sweep or most.report))
    for name, table in experiments.tables.items():
        number = sum(row.size for row in table.cells)
        total += number * len(table.seeds or ()) if table.seeds else number * seeds
        if table.tuned:
            total += number * _tuning_runs(scale, table)
        if total > MOST_RUNS:
            raise ConfigError(
                f"tables.{name}: {number} cells; with the tables before it, their seeds and the "
                f"rates to try, that is {total} runs, more than {MOST_RUNS}; shorten its lists"
            )


def _tuning_runs(scale: Scale, table: Table) -> int:
    """Count the runs that tuning a table's cell takes."""
    rates = [
        len(task.training.tune_learning_rates) + len(task.training.wider_learning_rates or ())
        for name, task in scale.tasks.items()
        if name in table.tasks
    ]
    return max(rates, default=0) * len(scale.seeds.tune)


def claims_fault(claims: Claims) -> str | None:
    """Find the claim with which there are too many comparisons, before they are listed.

    Returns:
        Place, reason and remedy. None: there are few enough.
    """
    total = 0
    for i, claim in enumerate(claims.claims):
        for j, test in enumerate(claim.tests):
            number = 1
            sides = (side for side in (test.cell, test.against) if isinstance(side, dict))
            overrides = (
                side["overrides"] for side in sides if isinstance(side.get("overrides"), dict)
            )
            grids = (*test.each.values(), *_grids((test.cell, test.against)), *_grids(overrides))
            for grid in grids:
                number *= len(grid)
            total += number
            if total > MOST_PAIRS:
                reason = f"{number} pairs of cells; with those before, {total} are more than"
                return f"claims.{i}.tests.{j}: {reason} {MOST_PAIRS}; shorten its lists"
    return None


def _grids(sides: Iterable[object]) -> list[list]:
    return [
        value
        for side in sides
        if isinstance(side, dict)
        for value in side.values()
        if isinstance(value, list)
    ]


def require_names(experiments: Experiments, left_out: Iterable[str]) -> None:
    """Refuse tables whose files would be those of others.

    Raises:
        ConfigError: the table, the reason and the remedy.
    """
    curves = {f"{name}_curves": name for name, own in experiments.tables.items() if own.has_curves}
    seen: dict[str, str] = {}
    for name in (*experiments.tables, *left_out):
        if name.lower() in _TAKEN:
            raise ConfigError(f"tables.{name}: its files would be those of {name}; rename it")
        if name in curves:
            raise ConfigError(f"tables.{name}: the name of the curves of {curves[name]}; rename it")
        if other := seen.get(name.lower()):
            raise ConfigError(f"tables.{name}: some disks take it for {other}; rename one")
        seen[name.lower()] = name


def require_short_names(cells: Iterable[Cell]) -> None:
    """Refuse runs whose names are too long for a file.

    Raises:
        ConfigError: the run, the reason and the remedy.
    """
    for cell in cells:
        if len(cell.name) > _LONGEST:
            raise ConfigError(
                f"tables: a cell of {cell.task} would have a name of {len(cell.name)} letters, "
                f"{cell.name}, more than {_LONGEST}; give its row fewer options"
            )


def require_tables_of_plan(scale: Scale, tables: Iterable[str]) -> None:
    """Refuse limits of a plan for tables that are not there.

    Raises:
        ConfigError: field, reason and remedy.
    """
    limits = scale.plan.limits if scale.plan else None
    known = list(tables)
    for index, name in enumerate(limits.tables if limits else []):
        if name not in known:
            choices = known_names(name, dict.fromkeys(known))
            raise ConfigError(f"plan.limits.tables.{index}: no table {name!r}; use {choices}")
