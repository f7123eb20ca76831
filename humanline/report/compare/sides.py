"""Find and read the two sides of a comparison: result folders, scales, or commits of this clone."""

import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import pandas as pd
from pydantic import Field

from humanline.data.training_files import Git, Machine
from humanline.files.json_files import read_json
from humanline.files.seals import require_seal
from humanline.files.typed_files import number_fault, read_csv, read_record
from humanline.files.validation import ConfigError, Record
from humanline.report.formats import is_figure

SCORES = "scores"
_SCORE_COLUMNS = ["task", "variant", "seed", "score"]
_ESTIMATES = ["seeds", "estimate", "estimate_low", "estimate_high"]
_COMPARISON_COLUMNS = ["claim", "comparison", "measure", *_ESTIMATES]


@dataclass(frozen=True)
class Side:
    """The results of one side.

    Attributes:
        name: what the user called it.
        scale: the scale's name.
        files: all CSV files by name.
        tables: those of them in which a row is a cell.
        scores: a row per run: task, variant, seed, score; None if an earlier version wrote none.
        verdicts: a row per claim, with its verdict; None if there are none.
        comparisons: a row per comparison of the claims; None if there are none.
        provenance: how each table was made, by the table's name.
    """

    name: str
    scale: str
    files: dict[str, pd.DataFrame]
    tables: dict[str, pd.DataFrame]
    scores: pd.DataFrame | None
    verdicts: pd.DataFrame | None
    comparisons: pd.DataFrame | None
    provenance: dict[str, dict]


def find_sides(
    first: str, second: str | None, *, results: Path, scale: str, place: Path
) -> tuple[Side, Side]:
    """Find and read both sides.

    Args:
        first, second: a result folder, a scale in `results`, or a commit. Without the second it is
            the reference of the first one's scale.
        results: the folder of all scales' results, in which `reference` is.
        scale: the scale to read of a commit, if the other side is a commit, too.
        place: an empty folder to unpack commits in.

    Raises:
        ConfigError: if a side is not there, cannot be read, or both are of different scales.
    """
    folder = _folder(first, results)
    own = scale if folder is None else _scale(folder)
    reference = results / "reference" / own
    if second is None and not reference.is_dir():
        raise ConfigError(f"compare: there is no reference {reference}; name the second side")
    second = str(reference) if second is None else second
    other = _folder(second, results)
    if folder is None and other is not None:
        own = _scale(other)
    places = [
        found or _unpacked(name, results / "reference" / own / "tables", place / str(number))
        for number, (name, found) in enumerate([(first, folder), (second, other)])
    ]
    sides = [_read(name, at) for name, at in zip((first, second), places, strict=True)]
    if sides[0].scale != sides[1].scale:
        raise ConfigError(
            f"compare: {first} is of the scale {sides[0].scale}, {second} of {sides[1].scale}; "
            "name results of one scale"
        )
    return sides[0], sides[1]


def _folder(name: str, results: Path) -> Path | None:
    """Find a folder of tables by its path or its scale; None if there is no such folder."""
    if not name:
        raise ConfigError("compare: the name of a side is empty; name a folder, scale or commit")
    for path in (Path(name), results / name):
        for tables in (path / "tables", path):
            if any(tables.glob("*.csv")):
                return tables
    if Path(name).exists():
        raise ConfigError(
            f"{name}: has no tables; name a folder of a scale's results, such as "
            f"{results / 'laptop'}"
        )
    return None


def _scale(tables: Path) -> str:
    """Read of which scale the tables are; the name of their folder if they do not say it."""
    for path in sorted(tables.glob("*.provenance.json")):
        content = read_json(path)
        if isinstance(content, dict) and isinstance(content.get("scale"), str):
            return content["scale"]
    claims = tables / "claims.csv"
    if claims.is_file() and "scale" in (frame := _csv(claims)) and len(frame):
        return str(frame["scale"].iloc[0])
    return (tables.parent if tables.name == "tables" else tables).resolve().name


def _unpacked(name: str, tables: Path, place: Path) -> Path:
    """Unpack the folder of tables of a commit."""
    shown = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if shown is None:
        raise ConfigError(
            f"compare: {name!r} is no folder with tables, no scale in {tables.parents[2]} and no "
            "commit of this repository; name one of them"
        )
    archive = None
    if not tables.is_absolute():
        archive = _git("archive", "--format=tar", shown.decode().strip(), str(tables))
    if not archive:
        raise ConfigError(
            f"compare: commit {name} has no {tables}; name a commit that has it, or a folder"
        )
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(place, filter="data")
    return place / tables


def _git(*arguments: str) -> bytes | None:
    """Ask git in the working directory; None if it fails."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def _read(name: str, tables: Path) -> Side:
    files = {path.stem: _csv(path) for path in sorted(tables.glob("*.csv"))}
    if not files:
        raise ConfigError(f"{tables}: has no CSV file; make the tables first")
    of_cells = {
        key: frame for key, frame in files.items() if "variant" in frame and "seed" not in frame
    }
    for key, frame in of_cells.items():
        _require_unique(tables / f"{key}.csv", frame, keys_of(frame))
        for column in (own for own in map(str, frame) if is_figure(own.removesuffix("_se"))):
            if reason := number_fault(frame[column], gaps=True):
                raise ConfigError(f"{tables / key}.csv: {reason}; make it again")
    named = [frame for frame in files.values() if {"claim", "verdict"} <= set(frame)]
    verdicts = next((frame for frame in named if frame["claim"].is_unique), None)
    if verdicts is None and "claims" in files and {"claim", "verdict"} <= set(files["claims"]):
        _require_unique(tables / "claims.csv", files["claims"], ["claim"])
    return Side(
        name=name,
        scale=_scale(tables),
        files=files,
        tables=of_cells,
        scores=_scores(tables / f"{SCORES}.csv", files.get(SCORES)),
        # An earlier version had a verdict in every comparison, and those of claims in another file.
        verdicts=verdicts,
        comparisons=_comparisons(tables / "comparisons.csv", files.get("comparisons")),
        provenance={
            path.name.removesuffix(".provenance.json"): _record(path)
            for path in sorted(tables.glob("*.provenance.json"))
        },
    )


def keys_of(frame: pd.DataFrame) -> list[str]:
    """Return the columns that name a row of a table of cells."""
    return [name for name in ("task", "variant") if name in frame]


def _csv(path: Path) -> pd.DataFrame:
    frame = read_csv(path, "make it again")
    require_seal(path)
    return frame


class _Seeds(Record):
    report: list[int] | None = None


class _MadeRun(Record):
    learning_rate: float | None = None


class _Made(Record):
    """The part of a table's provenance that is compared; earlier versions had less."""

    scale: str | None = None
    config_hash: str | None = None
    git: Git = Field(default_factory=Git)
    packages: dict[str, str] = Field(default_factory=dict)
    machine: Machine = Field(default_factory=Machine)
    seeds: _Seeds | None = None
    runs: dict[str, str | _MadeRun] = Field(default_factory=dict)


def _record(path: Path) -> dict:
    return read_record(path, _Made, "make the table again").model_dump(exclude_unset=True)


def _scores(path: Path, frame: pd.DataFrame | None) -> pd.DataFrame | None:
    if frame is None:
        return None
    if missing := [name for name in _SCORE_COLUMNS if name not in frame]:
        raise ConfigError(f"{path}: field {missing[0]}: missing; make it again")
    if frame.empty:
        raise ConfigError(f"{path}: has no runs; make it again")
    for name in ("seed", "score"):
        number = pd.to_numeric(frame[name], errors="coerce")
        if not (known := number.abs() < float("inf")).all():
            _refuse(path, frame, frame.index[~known][0], name)
    _require_unique(path, frame, _SCORE_COLUMNS[:3])
    return frame


def _comparisons(path: Path, frame: pd.DataFrame | None) -> pd.DataFrame | None:
    if frame is None or "compare" not in frame:
        return None
    if missing := [name for name in _COMPARISON_COLUMNS if name not in frame]:
        raise ConfigError(f"{path}: field {missing[0]}: missing; make it again")
    for name in _ESTIMATES:
        is_word = pd.to_numeric(frame[name], errors="coerce").isna() & frame[name].notna()
        if is_word.any():
            _refuse(path, frame, frame.index[is_word][0], name)
    return frame


def _refuse(path: Path, frame: pd.DataFrame, row: int, name: str) -> NoReturn:
    told = f"{path}: line {row + 2}: field {name}: {str(frame[name][row])!r} is no number"
    raise ConfigError(f"{told}; make it again")


def _require_unique(path: Path, frame: pd.DataFrame, keys: list[str]) -> None:
    repeated = frame.duplicated(keys)
    if repeated.any():
        row = frame.index[repeated][0]
        words = " ".join(str(frame[key][row]) for key in keys)
        raise ConfigError(f"{path}: line {row + 2}: {words} is there twice; make it again")
