"""What of a page's tables, claims and runs is on disk, so that it can show that much.

What was begun has to be whole: a table that is there in part, or without one of its runs, is an
error. Only a table without any file, and a run without a score, were not made yet.
"""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from humanline.files.validation import ConfigError
from humanline.study.runs.requests import ClaimsRequest, NotMade, PageRequest, TableRequest
from humanline.study.runs.resolved import Run

_TABLE = ("csv", "md", "tex", "provenance.json")
_CLAIMS = ("claims.csv", "comparisons.csv")


def on_disk(request: PageRequest) -> PageRequest:
    """Leave out of a page what was not made yet.

    Args:
        request: the whole page.

    Returns:
        The same if all is there; else a page of what is, which says in `not_made` what is not.

    Raises:
        ConfigError: if there is no scored run, or a table or the claims are there in part, or
            without one of their runs.
    """
    absent = {_key(run) for run in request.runs if not run.paths.scored.exists()}
    made = [table for table in request.tables if _is_made(request, table, absent)]
    has_verdicts = request.claims is None or _has_verdicts(request, request.claims, absent)
    has_scores = (request.paths.tables / "scores.csv").exists()
    if not absent and len(made) == len(request.tables) and has_verdicts and has_scores:
        return request
    runs = _there(request.runs, absent)
    if not runs:
        raise ConfigError(
            f"{request.paths.results}: no run is scored yet, so there is nothing to show; "
            f"make all by {workflow_command(request, 'report')}"
        )
    others = [table for table in request.tables if table not in made]
    claims = request.claims and _with_all_runs(request.claims, absent)
    not_made = NotMade(
        tables=[replace(table, runs=_there(table.runs, absent)) for table in others],
        lacking={table.name: len(_absent(table.runs, absent)) for table in others},
        has_verdicts=has_verdicts,
        has_scores=has_scores,
        runs=len(absent),
        command=workflow_command(request, "report"),
    )
    return replace(request, tables=made, claims=claims, runs=runs, not_made=not_made)


def workflow_command(request: PageRequest, target: str) -> str:
    """Write the command that makes a target of the workflow, for a shell.

    Args:
        request: a page of the same scale, configuration and results.
        target: the target.
    """
    options = {"scale": request.scale}
    if request.config != Path("workflow/config"):
        options["config_directory"] = str(request.config)
    if (root := request.paths.results.parent) != Path("results"):
        options["results"] = str(root)
    words = [shlex.quote(f"{key}={value}") for key, value in options.items()]
    return f"snakemake --cores all {target} --config {' '.join(words)}"


def _key(run: Run) -> tuple[str, str]:
    return run.cell.task, run.name


def _absent(runs: Sequence[Run], absent: Collection[tuple[str, str]]) -> list[Run]:
    return [run for run in runs if _key(run) in absent]


def _there(runs: Sequence[Run], absent: Collection[tuple[str, str]]) -> list[Run]:
    return [run for run in runs if _key(run) not in absent]


def _is_made(
    request: PageRequest, table: TableRequest, absent: Collection[tuple[str, str]]
) -> bool:
    """Say whether a table is there; it is an error if that is so in part."""
    files = [table.paths.tables / f"{table.name}.{suffix}" for suffix in _TABLE]
    if table.spec.has_curves:
        files.append(table.paths.tables / f"{table.name}_curves.svg")
    missing = [path for path in files if not path.exists()]
    if len(missing) == len(files):
        return False
    again = f"make it again: {workflow_command(request, f'--force table_{table.name}')}"
    if missing:
        raise ConfigError(f"{missing[0]}: missing, but table {table.name} has its others; {again}")
    for run in _absent(table.runs, absent):
        raise ConfigError(
            f"{run.paths.scored}: missing, but table {table.name} is there, which needs it (or its "
            f"cells or seeds were changed since); {again}"
        )
    return True


def _has_verdicts(
    request: PageRequest, asked: ClaimsRequest, absent: Collection[tuple[str, str]]
) -> bool:
    """Say whether the files of the claims are there; without one of their runs it is an error."""
    path = asked.paths.tables / _CLAIMS[0]
    if not any(path.with_name(name).exists() for name in _CLAIMS):
        return False
    for run in _absent(asked.runs, absent):
        raise ConfigError(
            f"{run.paths.scored}: missing, but {path} has verdicts that need it; "
            f"make them again: {workflow_command(request, '--force claims')}"
        )
    return True


def _with_all_runs(asked: ClaimsRequest, absent: Collection[tuple[str, str]]) -> ClaimsRequest:
    """Keep the comparisons of claims whose runs are all there."""
    lacking = {
        comparison.claim.id
        for comparison, pairs in asked.compared
        if any(_absent(side, absent) for pair in pairs for side in pair)
    }
    kept = [own for own in asked.compared if own[0].claim.id not in lacking]
    return replace(asked, compared=kept)
