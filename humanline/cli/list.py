"""The rows of `humanline list`: scales, tables, cells, objectives, tasks and commands."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from tabulate import tabulate

from humanline.cli.parser import COMMANDS, LISTS
from humanline.files.validation import ConfigError, load_yaml, pick
from humanline.study.experiments import Table
from humanline.study.scale.scale import load_scale
from humanline.study.study import Study
from humanline.study.tasks import TASKS, find_task
from humanline.trainers.registry import OBJECTIVES

OF_ALL_SCALES = ("experiments.yaml", "claims.yaml")  # in the folder of the scales' files


def rows(kind: str | None, folder: Path, study: Callable[[], Study]) -> list[dict]:
    """Make the rows of a list, all with the same keys.

    Args:
        kind: one of `LISTS`; None: the list of lists.
        folder: the folder of the configuration's files.
        study: reads the study; it is called for tables and cells only.

    Raises:
        ConfigError: if the configuration is wrong, or the kind is unknown.
    """
    if kind is None:
        return [{"name": name, "description": text} for name, text in LISTS.items()]
    found = {
        "scales": lambda: _scales(folder),
        "tables": lambda: _tables(study()),
        "cells": lambda: _cells(study()),
        "objectives": _objectives,
        "tasks": _tasks,
        "commands": lambda: [{"name": row.name, "description": row.text} for row in COMMANDS],
    }
    return pick("list", kind, found)()


def describe(found: list[dict]) -> str:
    """Format rows as text in columns, with their names above."""
    return tabulate(found, headers="keys", tablefmt="plain", disable_numparse=True)


def _scales(folder: Path) -> list[dict]:
    """List the files of scales, also those with errors."""
    found = [path for path in sorted(folder.glob("*.yaml")) if path.name not in OF_ALL_SCALES]
    if not found:
        raise ConfigError(f"{folder}: no scale is here; name a folder that has some by --config")
    return [_scale(path) for path in found]


def _scale(path: Path) -> dict:
    row = {"name": path.stem, "extends": None, "description": None, "fault": None}
    try:
        content = load_yaml(path)
        row |= {key: content.get(key) for key in ("extends", "description")}
        load_scale(path)
        return row
    except ConfigError as error:
        return row | {"fault": str(error)}


def _objectives() -> list[dict]:
    return [
        {
            "name": name,
            "label": objective.label,
            "hyperparameters": ", ".join(objective.options.model_fields),
            "rows": " or ".join(", ".join(sorted(one)) for one in objective.view.columns),
        }
        for name, objective in OBJECTIVES.items()
    ]


def _tasks() -> list[dict]:
    return [
        {
            "name": name,
            "scoring": find_task(name).scoring,
            "description": str(import_module(f"humanline.tasks.{name}").__doc__).splitlines()[0],
        }
        for name in TASKS
    ]


def _tables(study: Study) -> list[dict]:
    return [
        {
            "name": name,
            "view": table.view,
            "cells": len(study.report_cells(name)),
            "seeds": " ".join(map(str, study.report_seeds(name))),
            "target": _target(table),
            "description": table.description,
        }
        for name, table in study.experiments.tables.items()
    ]


def _target(table: Table) -> str:
    if table.exploratory:
        return "explore"
    return "all_tables" if table.extra else "all"


def _cells(study: Study) -> list[dict]:
    return [
        {
            "task": run.cell.task,
            "name": run.name,
            "variant": run.cell.variant,
            "seed": run.cell.seed,
            "learning_rate": run.learning_rate if run.is_trained else None,
            "done": run.paths.scored.exists(),
        }
        for run in map(study.resolve, study.all_cells())
    ]
