"""Tables for people: at most seven columns with short names, made from the wide ones.

A row is named in words. What is the same in all rows stands above the table, what a reader must
know stands below it, and everything else is in the CSV.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from humanline.files.typed_files import number_fault
from humanline.files.validation import ConfigError
from humanline.report.formats import MOST_COLUMNS, UNKNOWN, Narrow, figure, is_figure
from humanline.study.cells import Cell
from humanline.study.runs.requests import TableRequest
from humanline.study.tasks import find_task
from humanline.study.words import rows_in_words
from humanline.tables.headline import explained

RUN = "Run"
# Columns of a view, the most useful first: name in the wide table, and its short header. They are
# shown as far as they fit and differ between rows.
_VIEWS: dict[str, dict[str, str]] = {
    "judge": {
        "seeds": "Seeds",
        "length_controlled_win_rate": "LC win rate, %",
        "ratio_to_offline": "Ratio to offline",
        "ratio_to_online": "Ratio to online",
        "win_rate": "Win rate, %",
        "mean_length": "Length",
    },
    "grade": {
        "seeds": "Seeds",
        "steps": "Steps",
        "pass_at_1": "Pass@1, %",
        "difference_to_online": "To online, points",
        "p_beats_plain": "p, beats plain",
        "steps_to_online": "Catches up",
        "training_seconds": "Training, s",
    },
    "sweep": {
        "seeds": "Seeds",
        "score": "Score, %",
        "difference_to_offline": "To offline, points",
        "difference_to_online": "To online, points",
        "data_log_probability": "Log-prob., nats",
        "peak_memory_mib": "Memory, MiB",
        "unclipped": "Unclipped",
    },
    "cost": {
        "seeds": "Seeds",
        "training_seconds": "Training, s",
        "ratio_of_seconds": "Ratio to online",
        "speed_up": "Speed-up",
        "sampling_share": "Sampling",
        "score": "Score, %",
        "peak_memory_mib": "Memory, MiB",
    },
}
# The figures of which a table marks the best: of a score the highest, of a cost the lowest.
_BEST = {
    "length_controlled_win_rate": max,
    "win_rate": max,
    "pass_at_1": max,
    "score": max,
    "training_seconds": min,
    "speed_up": max,
}
_BEST_NOTE = "Bold: the best figure of its column{of_task}; no test says that it beats the others."


def narrow(frame: pd.DataFrame, table: TableRequest) -> Narrow:
    """Make a table for people from a wide one.

    Args:
        frame: the wide table, also as it is read from its CSV.
        table: the table's request, with the cells of its rows.

    Returns:
        The table. Its first column names the row; the task has a column if there are several.

    Raises:
        ConfigError: if there are no rows, a row is no cell of the table, or a figure no number.
    """
    spec = table.spec
    _check(frame, table)
    kind = find_task(spec.tasks[0]).scoring if spec.view == "headline" else spec.view
    cells = row_cells(frame, table)
    tasks = [cell.task for cell in cells]
    words, constant = rows_in_words(cells)
    names = {RUN: words}
    groups = "Task" if len(set(tasks)) > 1 else None
    if groups:
        names = {groups: [find_task(task).label for task in tasks], **names}
    rows, same = _columns(frame, cells, _VIEWS[kind], MOST_COLUMNS - len(names))
    shown = pd.DataFrame(names | rows)
    best = _best(frame, tasks, shown, _VIEWS[kind])
    caption, notes = explained(
        spec,
        scale=table.scale,
        seeds=len(table.seeds),
        shares_prompts=any(map(table.shares_prompts, spec.tasks)),
        collapse_below=table.collapse_below,
    )
    if best:
        notes.append(_BEST_NOTE.format(of_task=" and task" * bool(groups)))
    notes += _counted(frame, _counts(spec.tasks), words)
    told = Narrow(
        caption,
        shown,
        constant | same,
        best,
        tuple(notes),
        texts=frozenset({RUN}),
        groups=groups,
        sources={header: name for name, header in _VIEWS[kind].items() if header in rows},
    )
    return told.without_notes_of(own for own in _VIEWS[kind].values() if own not in rows | same)


def row_cells(frame: pd.DataFrame, table: TableRequest) -> list[Cell]:
    """Find the cells of a wide table's rows, on any seed.

    Raises:
        ConfigError: if a row is no cell of the table.
    """
    tasks = list(frame["task"]) if "task" in frame else table.spec.tasks[:1] * len(frame)
    known = {(run.cell.task, run.cell.variant): run.cell for run in table.runs}
    keys = list(zip(tasks, frame["variant"], strict=True))
    if missing := [variant for task, variant in keys if (task, variant) not in known]:
        raise ConfigError(
            f"{table.paths.tables / table.name}.csv: variant: {missing[0]} is no cell of table "
            f"{table.name} in experiments.yaml; {again(table)}"
        )
    return [known[key] for key in keys]


def again(table: TableRequest) -> str:
    """Say how to make a table again, as the end of an error."""
    words = f"snakemake --cores all --force table_{table.name} --config scale={table.scale}"
    return f"make it again: {words}"


def _check(frame: pd.DataFrame, table: TableRequest) -> None:
    """Refuse a wide table without rows, or with a text where a number belongs."""
    path = f"{table.paths.tables / table.name}.csv"
    if frame.empty:
        raise ConfigError(f"{path}: no rows; {again(table)}")
    counts = _counts(table.spec.tasks)
    for name in (own for own in map(str, frame) if is_figure(own) or own in counts):
        if reason := number_fault(frame[name], gaps=True):
            raise ConfigError(f"{path}: {reason}; {again(table)}")


def _columns(
    frame: pd.DataFrame, cells: Sequence[Cell], view: Mapping[str, str], most: int
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Format a view's columns; those that are the same in all trained rows come second."""
    shown: dict[str, list[str]] = {}
    same: dict[str, str] = {}
    records = frame.to_dict("records")
    for name, header in view.items():
        if name not in frame:
            continue
        texts = [figure(row, name) for row in records]
        trained = {
            text for text, cell in zip(texts, cells, strict=True) if cell.objective != "base"
        }
        if len(trained) == 1 and len(cells) > 1:
            (text,) = trained
            same |= {header: text} if text != UNKNOWN else {}
        elif set(texts) != {UNKNOWN} and len(shown) < most:
            shown[header] = texts
    return shown, same


def _best(
    frame: pd.DataFrame, tasks: Sequence[str], shown: pd.DataFrame, view: Mapping[str, str]
) -> frozenset[tuple[int, str]]:
    """Find the best figures of each task's trained rows; none where all are the same.

    Figures that look the same are as good as each other.
    """
    found = set()
    numbers = frame.reset_index(drop=True)
    trained = numbers[numbers["objective"] != "base"]
    for name, header in view.items():
        if name not in _BEST or header not in shown:
            continue
        look = shown[header].str.split(n=1).str[0]
        for _, group in trained[name].dropna().groupby(pd.Series(list(tasks))):
            best = look[group.index[group == _BEST[name](group)][0]]
            if look[group.index].nunique() > 1:
                found |= {(row, header) for row in group.index if look[row] == best}
    return frozenset(found)


def _counts(tasks: Sequence[str]) -> dict[str, str]:
    """List the columns that count what a reader must be warned of, with their headers."""
    notices = {n.outcome: n.header for task in tasks for n in find_task(task).notices}
    judged = {"left_out": "Left out", "length_control_warnings": "LC warnings"}
    return judged | notices | {"collapsed": "Collapsed"}


def _counted(frame: pd.DataFrame, counts: Mapping[str, str], words: Sequence[str]) -> list[str]:
    """Say which rows have something that a reader must be warned of, or that none has."""
    there = {name: header for name, header in counts.items() if name in frame}
    if not there:
        return []
    told, none = [], []
    for name, header in there.items():
        numbers = frame[name].fillna(0).astype(int)
        rows = [f"{text} {n}" for text, n in zip(words, numbers, strict=True) if n]
        if rows:
            told.append(f"{header}: {', '.join(rows)}.")
        else:
            none.append(header)
    return told + ([f"{', '.join(none)}: none in any row."] if none else [])
