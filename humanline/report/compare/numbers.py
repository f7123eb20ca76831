"""Compare the numbers of two sides: runs, cells, rows of tables, comparisons and verdicts."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from humanline.files.validation import ConfigError
from humanline.report.compare.exact import (
    TIME_MEASURE,
    Found,
    claims_of_time,
    compare_files,
    is_of_time,
    lone_files,
)
from humanline.report.compare.sides import Side, keys_of
from humanline.tables.statistics.agreement import (
    Spread,
    are_equal,
    compare_cells,
    compare_runs,
    compare_tasks,
    two_estimates,
)
from humanline.tables.statistics.multiplicity import holm

ALPHA = 0.05
EQUAL, WITHIN, DIFFERS, UNTESTED = "equal", "within", "differs", "not tested"
ONLY_A, ONLY_B = "only in A", "only in B"
KINDS = {
    "cell": "scores of cells",
    "run": "scores of runs",
    "task": "all cells of a task",
    "number": "numbers of tables",
    "comparison": "estimates of claims",
    "verdict": "verdicts",
    "exact": "all else that follows",
    "other": "without an interval",
    "time": "times",
}
_TESTED = ("cell", "run", "task", "number", "comparison")
_COLUMNS = ["kind", "where", "row", "column", "a", "b", "difference", "standard_error"]
_COLUMNS += ["low", "high", "p", "p_corrected", "status"]
_NAMES = ["kind", "where", "row", "column", "status", "a", "b"]
_MEAN_SQUARES = {"seen": "difference", "usual": "standard_error"}
OPPOSITES = {"supported", "contradicted"}


@dataclass(frozen=True)
class Comparison:
    """What was compared.

    Attributes:
        rows: a row per number: kind (a key of `KINDS`), where, row, column, a, b, difference,
            standard_error, p, p_corrected and status. What only one side has is a row, too.
        tasks: a row per task with common seeds: task; seen, the root mean square of the
            differences of its runs; usual, what it is usually, between machines; smallest, the
            difference of a cell that is found; all in points.
        is_same: whether all runs are equal, so that all that follows from them is compared.
    """

    rows: pd.DataFrame
    tasks: pd.DataFrame
    is_same: bool

    @property
    def differing(self) -> pd.DataFrame:
        """The rows that differ by more than chance and another machine explain."""
        return self.rows[self.rows["status"] == DIFFERS]

    @property
    def counts(self) -> pd.DataFrame:
        """The number of rows by kind and status."""
        order = [EQUAL, WITHIN, DIFFERS, UNTESTED, ONLY_A, ONLY_B]
        table = pd.crosstab(self.rows["kind"], self.rows["status"])
        kinds = [kind for kind in KINDS if kind in table.index]
        return table.reindex(index=kinds, columns=order, fill_value=0)


def compare_sides(a: Side, b: Side, usual: Spread | None = None) -> Comparison:
    """Compare all numbers of two sides.

    Three families of tests share the level `ALPHA`: cells and tasks, runs, and derived numbers. So
    chance alone reports any difference in at most 5 of 100 comparisons.

    Args:
        a, b: the sides.
        usual: how much a rerun on another machine usually differs; None: as `USUAL` says.

    Raises:
        ConfigError: if the sides have no number in common, or nothing of what they have in common
            can be tested.
    """
    runs = _runs(a, b)
    is_same = runs is not None and bool(are_equal(runs["a"], runs["b"]).all())
    derived = [*_tables(a, b), *_claims(a, b)]
    if is_same:
        derived = [frame[frame["kind"] != "other"] for frame in derived]
    families, tasks = [[], [], derived], pd.DataFrame(columns=["task"])
    if runs is not None:
        cells, each = compare_cells(runs, usual), compare_runs(runs, usual)
        together = compare_tasks(runs, usual).assign(variant="all cells")
        families[0] = [
            _shaped(cells, "cell", "scores", column="score"),
            _shaped(together, "task", "scores", column="seed deviations"),
        ]
        families[1] = [_shaped(each, "run", "scores", column="score")]
        tasks = _of_tasks(cells, each)
    found = [_corrected(pd.concat(family), is_same) for family in families if family]
    found += [*_alone(runs), *_verdicts(a, b, is_same), _exact(lone_files(a, b))]
    if is_same:
        done = pd.concat(found)
        done = done[~done["status"].isin([ONLY_A, ONLY_B])]
        covered = set(zip(done["where"], done["column"], strict=True))
        found.append(_exact(compare_files(a, b, covered)))
    rows = pd.concat([one for one in found if len(one)], ignore_index=True)
    _require_common(rows, a, b)
    return Comparison(rows.reindex(columns=_COLUMNS).drop_duplicates(_NAMES), tasks, is_same)


def _exact(found: list[Found]) -> pd.DataFrame:
    """Bring what must be the same, and what one side lacks, into the form of all rows."""
    only = {"left": ONLY_A, "right": ONLY_B}
    rows = []
    for one in found:
        status = only[str(one["side"])] if "side" in one else EQUAL if one["is_equal"] else DIFFERS
        rows.append({**one, "kind": "number" if "side" in one else "exact", "status": status})
    return pd.DataFrame(rows, columns=_COLUMNS)


def _require_common(rows: pd.DataFrame, a: Side, b: Side) -> None:
    common = rows[~rows["status"].isin([ONLY_A, ONLY_B])]
    if not len(common):
        raise ConfigError(f"compare: {a.name} and {b.name} have no number in common; name others")
    if not common["status"].isin([EQUAL, WITHIN, DIFFERS]).any():
        raise ConfigError(
            f"compare: no number that {a.name} and {b.name} have in common is equal or has an "
            "interval; run two seeds or more"
        )


def _runs(a: Side, b: Side) -> pd.DataFrame | None:
    """Join the scores of both sides; None if a side has none."""
    if a.scores is None or b.scores is None:
        return None
    keys = ["task", "variant", "seed"]
    sides = [
        side.scores[[*keys, "score"]].rename(columns={"score": name})
        for name, side in (("a", a), ("b", b))
        if side.scores is not None
    ]
    return sides[0].merge(sides[1], "outer", keys)


def _shaped(frame: pd.DataFrame, kind: str, where: str, column: str) -> pd.DataFrame:
    """Bring tests of scores into the form of all rows."""
    if frame.empty:
        return pd.DataFrame(columns=_COLUMNS)
    row = frame["task"] + " " + frame["variant"]
    if "seed" in frame and kind == "run":
        row += " s" + frame["seed"].astype(str)
    kept = frame.reindex(columns=_COLUMNS[4:-2])
    return kept.assign(kind=kind, where=where, row=row, column=column)


def _alone(runs: pd.DataFrame | None) -> list[pd.DataFrame]:
    """List the cells that one side lacks, and the runs of other cells if seeds are common."""
    if runs is None:
        return []
    known = runs.groupby(["task", "variant"], sort=False)[["a", "b"]].count().reset_index()
    found = []
    for status, other in ((ONLY_A, "b"), (ONLY_B, "a")):
        cells = known[known[other] == 0]
        if len(cells):
            shaped = _shaped(cells.drop(columns=["a", "b"]), "cell", "scores", column="score")
            found.append(shaped.assign(status=status))
        rest = runs[runs[other].isna()].merge(known[known[other] > 0][["task", "variant"]])
        if len(rest) and runs[["a", "b"]].notna().all(axis=1).any():
            shaped = _shaped(rest.drop(columns=["a", "b"]), "run", "scores", column="score")
            found.append(shaped.assign(status=status))
    return found


def _of_tasks(cells: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Say of each task how much its runs differ, and which difference of a cell is found."""
    half = (cells["high"] - cells["difference"]) / cells["standard_error"]
    # The interval's quantile tells the degrees of freedom; the normal one is near for many.
    strict = stats.norm.isf(ALPHA / 6 / max(1, len(cells))) * half / stats.norm.isf(0.025)
    needed = cells.assign(needed=strict * cells["standard_error"])
    rows = []
    for task, own in runs.groupby("task", sort=False):
        row = {name: np.sqrt((own[of] ** 2).mean()) for name, of in _MEAN_SQUARES.items()}
        smallest = needed.loc[needed["task"] == task, "needed"].median()
        rows.append({"task": task, **row, "smallest": smallest})
    return pd.DataFrame(rows, columns=["task", *_MEAN_SQUARES, "smallest"])


def _tables(a: Side, b: Side) -> list[pd.DataFrame]:
    """Compare the tables that both sides have, number by number."""
    names = sorted(a.tables.keys() & b.tables.keys())
    return [part for name in names for part in _table(name, a.tables[name], b.tables[name])]


def _table(name: str, a: pd.DataFrame, b: pd.DataFrame) -> list[pd.DataFrame]:
    keys = [key for key in keys_of(a) if key in b]
    if any(frame.duplicated(keys).any() for frame in (a, b)):
        # An earlier version named the rows in another way.
        rows = [_row("number", name, "all", "all", status=status) for status in (ONLY_A, ONLY_B)]
        return [pd.DataFrame(rows)]
    both = a.merge(b, "outer", keys, suffixes=("_a", "_b"), indicator=True, sort=False)
    words = both[keys].astype(str).agg(" ".join, axis=1)
    sides = {"left_only": ONLY_A, "right_only": ONLY_B}
    found = [
        pd.DataFrame([_row("number", name, word, "all", status=sides[side])])
        for word, side in zip(words, both["_merge"], strict=True)
        if side in sides
    ]
    both, words = both[both["_merge"] == "both"], words[both["_merge"] == "both"]
    results, others = (_results(frame, [*a, *b]) for frame in (a, b))
    for one, other, status in ((results, others, ONLY_A), (others, results, ONLY_B)):
        lacking = [column for column in one if column not in other]
        found += [
            pd.DataFrame([_row("number", name, "all", column, status=status)]) for column in lacking
        ]
    for column in [column for column in results if column in others]:
        values = [both[f"{column}_{side}"] for side in "ab"]
        shown = (values[0].notna() | values[1].notna()).to_numpy()
        errors = tuple(_error(both, column, side) for side in "ab")
        seeds = tuple(both[f"seeds_{side}"] for side in "ab")
        is_ratio = column.startswith("ratio")
        frame = _estimates(values, errors, seeds, is_ratio=is_ratio)
        has_interval = f"{column}_low" in a or f"{column}_se" in a
        kind = "time" if is_of_time(column) else "number" if has_interval else "other"
        frame = frame.assign(kind=kind, where=name, row=words, column=column)
        found.append(frame[shown])
    return found


def _results(frame: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """Return the columns of results: the numbers after the seeds, and not their intervals.

    A table says first what a row is, up to the number of its seeds.

    Args:
        frame: the table of one side.
        names: the columns of both sides.
    """
    own = list(map(str, frame))
    after = own[own.index("seeds") + 1 :] if "seeds" in own else []
    parts = {f"{name}_{end}" for name in names for end in ("se", "low", "high")}
    numeric = frame.select_dtypes("number").columns
    return [name for name in after if name in numeric and name not in parts]


def _error(both: pd.DataFrame, column: str, side: str) -> np.ndarray:
    """Compute the standard error of a column: its own, or that of its interval."""
    names = [f"{column}_{end}_{side}" for end in ("se", "low", "high")]
    if names[0] in both:
        return both[names[0]].to_numpy(dtype=float)
    if names[1] not in both:
        return np.full(len(both), np.nan)
    low, high, seeds = (both[name] for name in (*names[1:], f"seeds_{side}"))
    return error_of(low, high, seeds, is_ratio=column.startswith("ratio"))


def error_of(
    low: pd.Series, high: pd.Series, seeds: pd.Series, *, is_ratio: bool | pd.Series
) -> np.ndarray:
    """Compute standard errors from 95 % t intervals, of logarithms for ratios."""
    with np.errstate(invalid="ignore", divide="ignore"):
        width = np.where(is_ratio, np.log(high) - np.log(low), high - low)
        return width / 2 / stats.t.isf(0.025, seeds - 1)


def _estimates(
    values: list[pd.Series], errors: tuple, seeds: tuple, *, is_ratio: bool | pd.Series
) -> pd.DataFrame:
    """Test estimates of both sides; the difference of ratios is that of their logarithms."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (np.where(is_ratio, np.log(value), value) for value in values)
    columns = {"a": values[0], "b": values[1], "difference": b - a}
    columns["standard_error"] = np.hypot(*errors)
    return pd.DataFrame(columns).assign(p=two_estimates(a, b, errors, seeds))


def _claims(a: Side, b: Side) -> list[pd.DataFrame]:
    """Compare the estimates of the claims' comparisons."""
    if a.comparisons is None or b.comparisons is None:
        return []
    # Words for people, of other columns, change from version to version.
    keys = ["claim", "comparison"]
    sides = [a.comparisons, b.comparisons]
    if any(frame.duplicated(keys).any() for frame in sides):
        keys += ["point", "asked"]
        sides = [frame.assign(point=frame["point"].fillna("").astype(str)) for frame in sides]
    both = sides[0].merge(sides[1], "outer", keys, suffixes=("_a", "_b"), indicator=True)
    words = both["claim"] + " " + both["comparison"]
    known = both["_merge"] == "both"
    found = [
        pd.DataFrame([_row("comparison", "comparisons", word, "estimate", status=status)])
        for side, status in (("left_only", ONLY_A), ("right_only", ONLY_B))
        for word in words[both["_merge"] == side]
    ]
    both, words = both[known], words[known]
    is_ratio = both["compare_a"] == "ratio"
    seeds = both["seeds_a"], both["seeds_b"]
    errors = tuple(
        error_of(
            both[f"estimate_low_{side}"],
            both[f"estimate_high_{side}"],
            both[f"seeds_{side}"],
            is_ratio=is_ratio,
        )
        for side in "ab"
    )
    frame = _estimates([both["estimate_a"], both["estimate_b"]], errors, seeds, is_ratio=is_ratio)
    kind = np.where(both["measure_a"] == TIME_MEASURE, "time", "comparison")
    found.append(frame.assign(kind=kind, where="comparisons", row=words, column="estimate"))
    return found


def _verdicts(a: Side, b: Side, is_same: bool) -> list[pd.DataFrame]:
    """Compare the verdicts; only opposite ones differ, as chance may decide or not decide.

    If all runs are equal, all verdicts must be, but for those on times.
    """
    if a.verdicts is None or b.verdicts is None:
        return []
    sides = [side.verdicts.set_index("claim")["verdict"] for side in (a, b)]  # type: ignore[union-attr]
    both = pd.concat(sides, axis=1, keys=["a", "b"], sort=False)
    rows, timed = [], claims_of_time(a, b)
    for claim, one, other in both.itertuples():
        if pd.isna(one) or pd.isna(other):
            status = ONLY_B if pd.isna(one) else ONLY_A
        elif one == other:
            status = EQUAL
        else:
            must_equal = is_same and claim not in timed
            status = DIFFERS if must_equal or {one, other} == OPPOSITES else WITHIN
        row = _row("verdict", "claims", str(claim), "verdict", status=status)
        rows.append(row | {"a": one, "b": other})
    return [pd.DataFrame(rows)]


def _row(kind: str, where: str, row: str, column: str, status: str) -> dict:
    return dict(zip([*_COLUMNS[:4], "status"], (kind, where, row, column, status), strict=True))


def _corrected(rows: pd.DataFrame, is_same: bool) -> pd.DataFrame:
    """Add the corrected p and the status to a family of tests.

    Args:
        rows: the numbers; those with a status are on one side only.
        is_same: whether all runs are equal, so that all that is computed from them must be.
    """
    rows = rows.reindex(columns=_COLUMNS).reset_index(drop=True)
    tested = rows["kind"].isin(_TESTED) & rows["status"].isna()
    # A family of no rows, as that of runs without common seeds, has no types of its own.
    numbers = rows[["a", "b", "difference"]].apply(pd.to_numeric, errors="coerce").astype(float)
    equal = np.where(
        rows["kind"] == "task",
        are_equal(numbers["difference"], 0),
        are_equal(numbers["a"], numbers["b"]),
    )
    p = rows["p"].astype(float).where(tested)
    if is_same:
        p = p.mask(tested & ~equal, 0.0)
    corrected = p.copy()
    if p.notna().any():
        corrected[p.notna()] = np.minimum(1, 3 * holm(p[p.notna()]))
    found = np.select(
        [rows["status"].notna(), equal, tested & (corrected < ALPHA), tested & corrected.notna()],
        [rows["status"].astype(object), EQUAL, DIFFERS, WITHIN],
        UNTESTED,
    )
    return rows.assign(p=p, p_corrected=corrected, status=found)
