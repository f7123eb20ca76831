"""The seconds that jobs took, as Snakemake measures them: one file of its `benchmark` a job."""

import csv
import math
from pathlib import Path

from humanline.files.validation import ConfigError

_UNKNOWN = ("-", "NA")  # what Snakemake writes of what it could not measure
_REMEDY = "remove it: only times depend on it"


def seconds_of(path: Path) -> list[float | None]:
    """Read the seconds of each measurement in a file of Snakemake's.

    Args:
        path: the file, TSV with a column `s`.

    Returns:
        The seconds; None: it could not be measured.

    Raises:
        ConfigError: if the file is not such a file.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file, delimiter="\t", strict=True)
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "no table with a header"
        raise ConfigError(f"{path}: cannot be read ({reason}); {_REMEDY}") from None
    if "s" not in header or not rows:
        raise ConfigError(f"{path}: field s: missing; {_REMEDY}")
    found: list[float | None] = []
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            reason = f"{len(row)} fields, but the header has {len(header)}"
            raise ConfigError(f"{path}: line {number}: {reason}; {_REMEDY}")
        text = row[header.index("s")]
        found.append(None if text in _UNKNOWN else _number(path, number, text))
    return found


def _number(path: Path, line: int, text: str) -> float:
    try:
        seconds = float(text) if "_" not in text else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        reason = f"field s: {text[:40]!r} is no number of seconds"
        raise ConfigError(f"{path}: line {line}: {reason}; {_REMEDY}")
    return seconds
