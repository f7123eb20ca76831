"""Words for people: what a cell is, and which comparison of its claim a comparison is.

Tables, claims, plots and the page have their words from here. What all cells of a table have in
common stands above it, so words can leave out fields. Snakefiles may import this module: it is
cheap.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from humanline.study.cells import WITHOUT_BOUNDS, Cell
from humanline.study.claims import Comparison
from humanline.study.tasks import find_task
from humanline.trainers.registry import find_objective

_PERCEPTIONS = {
    None: "clipping",
    "clip": "clipping",
    "sample": "sampling",
    "authors": "the authors' sampling",
    "second_moment": "second moment",
}
_OVERRIDES = {
    "learning_rate": "learning rate {:g}",
    "learning_rate_factor": "learning rate x{:g}",
    "max_grad_norm": "gradient norm {:g}",
}
# Fields of which every value has words, so that a table can leave out the value of most rows.
_ALWAYS_SAID = ("sample_every", "sync_interval", "bounds")
_TITLES = {
    "objective": "Objective",
    "data": "Data",
    "base_model": "Base model",
    "data_from": "Data from",
    "quartile": "Quartile",
    "select": "Prompts",
    "groups": "Prompts",
    "sample_every": "Sampled",
    "last_sampling": "Last sampling",
    "humanline": "Humanline",
    "trust_region": "Trust region",
    "perception": "Perception",
    "sync_interval": "Synced",
    "sync_alpha": "Soft sync",
    "bounds": "Bounds, nats",
    "lora": "LoRA",
    "reference": "Reference",
}


def fields_of(cell: Cell) -> dict[str, Any]:
    """List the fields that have a meaning for a cell, in the order of its words.

    Both bounds of the log-ratio are one field, ``bounds``; every override is one of its own.
    """
    if cell.objective == "base":
        return {"base_model": cell.base_model}
    found: dict[str, Any] = {"data": cell.data, "objective": cell.objective}
    if cell.data == "offline":
        offline = ("data_from", "quartile", "select", "groups")
        found |= {name: getattr(cell, name) for name in offline}
    else:
        found |= {"sample_every": cell.sample_every, "last_sampling": cell.last_sampling}
    found |= {"humanline": cell.humanline, "trust_region": cell.trust_region}
    if cell.humanline:
        found["perception"] = cell.perception
    if cell.humanline or cell.trust_region:
        found |= {"sync_interval": cell.sync_interval, "sync_alpha": cell.sync_alpha}
    if cell.humanline and cell.perception not in WITHOUT_BOUNDS:
        found["bounds"] = (cell.log_eps_p, cell.log_eps_r)
    found["lora"] = cell.lora and (cell.lora.r, cell.lora.alpha)
    if cell.lora and cell.sync_interval:
        found["reference"] = cell.lora.reference
    found["base_model"] = cell.base_model
    return found | dict(sorted(cell.overrides.items()))


def field_words(name: str, value: Any) -> str:
    """Say the value of a field: ``synced every 4 steps``, or ``never synced``.

    Args:
        name: the field, as in `fields_of`, or one of the two bounds.
        value: its value; None of a field that is not always given is its usual value.
    """
    match name, value:
        case "objective", _:
            return find_objective(str(value)).label
        case "task", _:
            return find_task(value).label
        case "data", _:
            return str(value)
        case "humanline", _:
            return f"with{'' if value else 'out'} humanline"
        case "trust_region", _:
            return "trust region" if value else "no trust region"
        case "perception", _:
            return _PERCEPTIONS[value]
        case "sync_interval", None:
            return "never synced"
        case "sync_interval" | "sample_every", _:
            verb = "synced" if name == "sync_interval" else "sampled"
            return f"{verb} every {_steps(value)}"
        case "last_sampling", int():
            return f"sampled until step {value}"
        case "sync_alpha", float():
            return f"soft sync of {value:g}"
        case "bounds", _:
            return _bounds(*value)
        case "log_eps_p" | "log_eps_r", _:
            side = "lower" if name == "log_eps_p" else "upper"
            return f"no {side} bound" if value is None else f"{side} bound {value:g}"
        case "lora" | "reference", tuple() | str():
            return f"LoRA of {_lora(*value)}" if name == "lora" else f"{value} reference"
        case "base_model", _:
            return f"base model {value or 'default'}"
        case "quartile", int():
            return f"quartile {value}"
        case "select", str():
            return f"best quarter by {value}"
        case "groups", int():
            return f"{value} prompts"
        case "data_from", str():
            return f"data from {value}"
    plain = name.replace("_", " ")
    if value is None:
        return "whole model" if name == "lora" else f"usual {plain}"
    return _OVERRIDES.get(name, f"{plain} {{:g}}").format(value)


def _lora(r: int, alpha: float | None) -> str:
    return f"rank {r}" + (f" and alpha {alpha:g}" if alpha else "")


def _steps(number: int) -> str:
    return "step" if number == 1 else f"{number} steps"


def _bounds(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "without clipping"
    if low is None or high is None:
        return field_words("log_eps_r", high) if low is None else field_words("log_eps_p", low)
    return f"bounds {low:g} and {high:g}"


def cell_words(cell: Cell, *, without: Collection[str] = ()) -> str:
    """Say what a cell is: ``online ..., sampled every 64 steps, with humanline``.

    The seed and the task have no words.

    Args:
        cell: the cell.
        without: fields that are said elsewhere, named as in `fields_of`.
    """
    if cell.objective == "base":
        named = cell.base_model and "base_model" not in without
        return f"base model {cell.base_model}" if named else "base model"
    said = {name: own for name, own in fields_of(cell).items() if name not in without}
    head = " ".join(field_words(name, said[name]) for name in ("data", "objective") if name in said)
    clauses = [
        field_words(name, value)
        for name, value in said.items()
        if name not in ("data", "objective") and not _goes_without_saying(name, value)
    ]
    if head and clauses[:1] == ["with humanline"]:
        head, clauses = f"{head} with humanline", clauses[1:]
    return ", ".join(filter(None, [head, *clauses])) or "plain"


def kind_words(cell: Cell) -> str:
    """Say of what kind a cell is, without its options: ``offline ... with humanline``."""
    return cell_words(cell, without=set(fields_of(cell)) - {"objective", "data", "humanline"})


def _goes_without_saying(name: str, value: Any) -> bool:
    return not value and name not in (*_ALWAYS_SAID, *_OVERRIDES) and not isinstance(value, float)


def rows_in_words(cells: Sequence[Cell]) -> tuple[list[str], dict[str, str]]:
    """Say what tells the cells of a table apart, and what is the same in all or in most of them.

    Args:
        cells: the cells of a table's rows, of any tasks.

    Returns:
        The words of every row, and the rest by its title: what all cells have to which it applies,
        or most ("unless a row says otherwise"), by task where tasks differ. Rows of one task have
        different words if their cells differ in more than the seed.
    """
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    told = {task: _common([cell for cell in cells if cell.task == task]) for task in tasks}
    in_all = _common(cells)
    for own in told.values():  # the head of a row's words is the same kind of words in all rows
        for name in {"data", "objective"} - set(in_all):
            own.pop(name, None)
    rows = [
        cell_words(
            cell,
            without=[
                name
                for name, (value, is_all) in told[cell.task].items()
                if is_all or fields_of(cell).get(name) == value
            ],
        )
        for cell in cells
    ]
    found_names = dict.fromkeys(name for own in told.values() for name in own)
    names = [*(name for name in _TITLES if name in found_names)]
    names += [name for name in found_names if name not in _TITLES]
    above = {}
    for name in names:
        found = {task: own[name] for task, own in told.items() if name in own}
        if text := _above(name, found, of_all=len(found) == len(tasks)):
            title = _TITLES.get(name, name.replace("_", " ").capitalize())
            above[title] = text
    return rows, above


def _common(cells: Sequence[Cell]) -> dict[str, tuple[Any, bool]]:
    """Find the values that all cells have to which a field applies (True), or most (False)."""
    rows = [fields_of(cell) for cell in cells]
    trained = [own for own in rows if "objective" in own]
    found: dict[str, tuple[Any, bool]] = {}
    for name in dict.fromkeys(name for own in rows for name in own):
        among = rows if name == "base_model" else trained
        values = [own.get(name) for own in among if name in own or name not in _TITLES]
        ((usual, count),) = Counter(values).most_common(1)  # the first of those as frequent
        if count == len(values):
            found[name] = (usual, True)
        elif name in _ALWAYS_SAID and len(values) > 2 and 2 * count > len(values):
            found[name] = (usual, False)
    return found


def _above(name: str, found: Mapping[str, tuple[Any, bool]], *, of_all: bool) -> str:
    """Write what is common to the rows of each task; empty if it goes without saying."""
    said: dict[str, list[str]] = {}
    for task, (value, is_all) in found.items():
        if _goes_without_saying(name, value):
            continue
        text = _value(name, value) + (not is_all) * " unless a row says otherwise"
        said.setdefault(text, []).append(find_task(task).label)
    if len(said) == 1 and of_all and len(found) == len(next(iter(said.values()))):
        return next(iter(said))
    return ", ".join(f"{text} ({' and '.join(tasks)})" for text, tasks in said.items())


def _value(name: str, value: Any) -> str:
    """Write a value beside its field's title."""
    match name, value:
        case "humanline" | "trust_region", _:
            return "yes" if value else "no"
        case "bounds", _:
            return _bounds(*value).removeprefix("bounds ")
        case "objective" | "data" | "perception", _:
            return field_words(name, value)
        case "sync_interval" | "sample_every", int():
            return f"every {_steps(value)}"
        case "sync_interval", None:
            return "never"
        case "lora", _:
            return _lora(*value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def contrast_words(comparison: Comparison) -> str:
    """Say what a comparison compares: ``seconds of online ... / offline ...``."""
    measures = {"training_seconds": "seconds of ", "curve_mean": "mean of the curve of "}
    operator = "/" if comparison.test.compare == "ratio" else "-"
    cells = [fields_of(cell) for cell in comparison.cells]
    methods = ("data", "objective", "humanline", "trust_region")
    common = [
        name
        for name in cells[0]
        if name not in methods and all(name in c and c[name] == cells[0][name] for c in cells)
    ]
    pairs = [
        f"{cell_words(cell, without=common)} {operator} {cell_words(against, without=common)}"
        for cell, against in comparison.pairs
    ]
    compared = f"mean of {'; '.join(pairs)}" if comparison.role == "mean" else pairs[0]
    return measures.get(comparison.test.measure, "") + compared


def comparison_words(comparison: Comparison, label: str) -> str:
    """Say what a comparison asks, and of what.

    Args:
        comparison: the comparison.
        label: its label by `labels`.
    """
    if comparison.test.says is None:
        return contrast_words(comparison)
    return (f"{label}: " if label else "") + comparison.test.says


def labels(found: Sequence[Comparison]) -> list[str]:
    """Say for people which of its claim's comparisons each is.

    It is ``mean``, or the combination of `each`. Comparisons of a claim that ask the same of the
    same combination have what tells them apart, too, such as ``bounds -1.5 and 0.5``.

    Args:
        found: comparisons of any claims.
    """
    told = ["mean" if own.role == "mean" else _point(own.point.items()) for own in found]
    alike: dict[tuple[str, str, str], list[int]] = {}
    for index, own in enumerate(found):
        asked = own.test.says or own.claimed
        alike.setdefault((own.claim.id, asked, told[index]), []).append(index)
    for same in alike.values():
        apart = _told_apart([found[index] for index in same], [_tasks, _fields, _measures])
        for index, text in zip(same, apart, strict=True):
            told[index] = ", ".join(filter(None, [told[index], text]))
    return told


def _point(fields: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(field_words(*field) for field in fields)


# Returns a text for every comparison, the same if they agree in a trait.
Trait = Callable[[Sequence[Comparison]], list[str]]


def _told_apart(group: Sequence[Comparison], traits: Sequence[Trait]) -> list[str]:
    """Say in what comparisons differ; a trait counts if those before it leave some alike."""
    if len(group) < 2 or not traits:
        return [""] * len(group)
    trait, *others = traits
    told = trait(group)
    if len(set(told)) == 1:
        return _told_apart(group, others)
    found = list(told)
    for text in set(told):
        same = [index for index, other in enumerate(told) if other == text]
        more = _told_apart([group[index] for index in same], others)
        for index, rest in zip(same, more, strict=True):
            found[index] = ", ".join(filter(None, [text, rest]))
    return found


def _tasks(group: Sequence[Comparison]) -> list[str]:
    return [find_task(own.test.task).label for own in group]


def _measures(group: Sequence[Comparison]) -> list[str]:
    return [f"{own.test.measure.replace('_', ' ')} {own.claimed}" for own in group]


def _fields(group: Sequence[Comparison]) -> list[str]:
    """Write the fields of cells in which comparisons differ, of either side."""
    told: list[list[str]] = [[] for _ in group]
    for side in (0, 1):
        rows = [[fields_of(pair[side]) for pair in own.pairs] for own in group]
        for name in dict.fromkeys(name for row in rows for cell in row for name in cell):
            values = [
                tuple(dict.fromkeys(cell[name] for cell in row if name in cell)) for row in rows
            ]
            if len(set(values)) > 1:
                for texts, own in zip(told, values, strict=True):
                    texts += [field_words(name, value) for value in own]
    return [", ".join(dict.fromkeys(texts)) for texts in told]
