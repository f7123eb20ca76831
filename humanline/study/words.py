"""Words for people: which comparison of its claim a comparison is.

Tables and reports have their words from here. Snakefiles may import this module: it is cheap.
"""

from collections.abc import Callable, Sequence

from humanline.study.claims import Comparison, Scalar
from humanline.study.experiments import Cell
from humanline.study.tasks import find_task
from humanline.trainers.registry import find_objective


def comparison_words(comparison: Comparison, label: str) -> str:
    """Say what a comparison asks, and of what.

    Args:
        comparison: the comparison.
        label: its label by `labels`.
    """
    if comparison.test.says is None:
        return comparison.words
    return (f"{label}: " if label else "") + comparison.test.says


def labels(found: Sequence[Comparison]) -> list[str]:
    """Say for people which of its claim's comparisons each is: ``mean``, or ``KTO``.

    It is the combination of `each`. Comparisons of a claim that ask the same of the same
    combination have what tells them apart, too, such as ``log_eps_p -1.5, log_eps_r 0.5``.

    Args:
        found: comparisons of any claims.
    """
    told = [
        "mean" if own.role == "mean" else ", ".join(_label(*each) for each in own.point.items())
        for own in found
    ]
    alike: dict[tuple[str, str, str], list[int]] = {}
    for index, own in enumerate(found):
        asked = own.test.says or own.claimed
        alike.setdefault((own.claim.id, asked, told[index]), []).append(index)
    for same in alike.values():
        apart = _told_apart([found[index] for index in same], [_tasks, _fields, _measures])
        for index, text in zip(same, apart, strict=True):
            told[index] = ", ".join(filter(None, [told[index], text]))
    return told


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
        rows = [[_options(pair[side]) for pair in own.pairs] for own in group]
        for field in dict.fromkeys(name for row in rows for cell in row for name in cell):
            values = [tuple(dict.fromkeys(cell.get(field) for cell in row)) for row in rows]
            if len(set(values)) > 1:
                for texts, own in zip(told, values, strict=True):
                    texts += [_label(field, value) for value in own]
    return [", ".join(dict.fromkeys(texts)) for texts in told]


def _options(cell: Cell) -> dict[str, Scalar | None]:
    return cell.model_dump(exclude={"overrides"}) | cell.overrides


def _label(field: str, value: Scalar | None) -> str:
    if field == "objective":
        return find_objective(str(value)).label
    if value is None:
        return f"{field} none"
    if isinstance(value, bool):
        return field if value else f"no {field}"
    return value if isinstance(value, str) else f"{field} {value:g}"
