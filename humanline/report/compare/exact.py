"""Compare what follows from equal runs: then every number of every file must be the same."""

import pandas as pd
from pandas.api.types import is_numeric_dtype

from humanline.report.compare.sides import SCORES, Side
from humanline.tables.statistics.agreement import are_equal

_OF_TIME = ("seconds", "speed_up", "sampling_share", "timed_out", "memory")
# What may name a row. Words for people, of other columns, change from version to version.
_KEYS = ("task", "variant", "seed", "step", "claim", "comparison", "role")
_LISTED = (SCORES, "claims", "comparisons")  # whose rows are compared elsewhere, too
TIME_MEASURE = "training_seconds"

Found = dict[str, object]  # where, row, column, a, b and is_equal, or side and no values


def is_of_time(column: str) -> bool:
    """Say whether a column depends on how fast the machine is, or how busy."""
    return any(word in column for word in _OF_TIME)


def claims_of_time(*sides: Side) -> set[str]:
    """Name the claims about how long training takes."""
    frames = [side.comparisons for side in sides if side.comparisons is not None]
    return {claim for one in frames for claim in one.loc[one["measure"] == TIME_MEASURE, "claim"]}


def compare_files(a: Side, b: Side, covered: set[tuple[str, str]]) -> list[Found]:
    """Compare every number of the files that both sides have, but for times.

    Args:
        a, b: the sides, all of whose runs are equal.
        covered: files and columns that are compared elsewhere.

    Returns:
        Each number, and each row or column that only one side has.
    """
    timed = claims_of_time(a, b)
    found: list[Found] = []
    for name in sorted(a.files.keys() & b.files.keys()):
        own = [_without(side.files[name], timed) for side in (a, b)]
        numeric = {str(name) for one in own for name in one if is_numeric_dtype(one[name])}
        columns = [
            column
            for column in sorted(numeric.difference(_KEYS))
            if (name, column) not in covered and not is_of_time(column)
        ]
        rows = _compared(name, own[0], own[1], columns)
        is_known = name in a.tables or name in _LISTED
        found += [row for row in rows if not (is_known and "side" in row and row["row"] != "all")]
    return found


def _compared(name: str, a: pd.DataFrame, b: pd.DataFrame, columns: list[str]) -> list[Found]:
    keys = [key for key in _KEYS if key in a and key in b]
    both = _named(a, keys).merge(
        _named(b, keys), "outer", [*keys, "again"], suffixes=("_a", "_b"), indicator=True
    )
    words = both[keys].agg(" ".join, axis=1).str.split().str.join(" ") if keys else both["again"]
    found: list[Found] = [
        {"where": name, "row": word, "column": "all", "side": side.removesuffix("_only")}
        for word, side in zip(words, both["_merge"], strict=True)
        if side != "both"
    ]
    is_common = both["_merge"] == "both"
    left, right = (int((both["_merge"] == f"{side}_only").sum()) for side in ("left", "right"))
    if left and right:  # other rows, not missing ones
        row = {"where": name, "row": "all", "column": "rows that the other side has not"}
        found.append({**row, "a": left, "b": right, "is_equal": False})
    for column in columns:
        if not (column in a and column in b):
            side = "left" if column in a else "right"
            found.append({"where": name, "row": "all", "column": column, "side": side})
            continue
        values = [pd.to_numeric(both[f"{column}_{side}"], errors="coerce") for side in "ab"]
        one, other = (value[is_common].astype(float) for value in values)
        equal = are_equal(one, other)
        rows = zip(words[is_common], one, other, equal, strict=True)
        found += [
            {"where": name, "row": word, "column": column, "a": x, "b": y, "is_equal": bool(same)}
            for word, x, y, same in rows
            if not (pd.isna(x) and pd.isna(y))
        ]
    return found


def _named(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Write what names a row as words; rows of one name are numbered."""
    words = {
        key: frame[key].astype(object).fillna("").astype(str).str.removesuffix(".0") for key in keys
    }
    frame = frame.assign(**words)
    again = frame.groupby(keys).cumcount() if keys else pd.Series(range(len(frame)), frame.index)
    return frame.assign(again=again.astype(str))


def _without(frame: pd.DataFrame, claims: set[str]) -> pd.DataFrame:
    """Leave out the rows of some claims."""
    return frame[~frame["claim"].isin(claims)] if "claim" in frame else frame


def lone_files(a: Side, b: Side) -> list[Found]:
    """List the files of one side that the other has not, in a form that can be compared."""
    first, second = _files_of(a), _files_of(b)
    return [
        {"where": name, "row": "all", "column": "all", "side": side}
        for side, own, other in (("left", first, second), ("right", second, first))
        for name in sorted(own - other)
    ]


def _files_of(side: Side) -> set[str]:
    """Name the files that can be compared; verdicts were in a file of another name once."""
    parts = zip(_LISTED, (side.scores, side.verdicts, side.comparisons), strict=True)
    known = {name for name, part in parts if part is not None}
    return known | (side.files.keys() - {*_LISTED, "verdicts"})
