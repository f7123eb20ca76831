"""Annotations in AlpacaEval's format: read and checked, and what they say of the model.

A fault is a `ConfigError` of one line: the file, the row (from 0), the field and the remedy.
"""

import gzip
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from humanline.difficulties import find_difficulty
from humanline.length_control import (
    Difficulty,
    length_control_warning,
    length_controlled_win_rate,
)
from humanline.statistics import percentile_interval
from humanline.validation import ConfigError

_TEXTS = ("instruction", "output_1", "output_2")
_GENERATORS = ("generator_1", "generator_2")


def read_annotations(path: Path, remedy: str = "mend that row") -> pd.DataFrame:
    """Read annotations, one row per instruction; `preference` is nan where the file has null.

    Args:
        path: JSON, or JSON compressed by gzip.
        remedy: the end of the message about a fault.

    Raises:
        ConfigError: if there is no row, a field is missing or of another type, a preference is no
            number from 1 to 2, an instruction occurs twice, or generators are mixed.
    """
    rows = _read(path)
    if not isinstance(rows, list):
        raise ConfigError(f"{path}: not a list of annotations; {remedy}")
    if not rows:
        raise ConfigError(f"{path}: no rows; {remedy}")
    first: dict[str, int] = {}
    for number, row in enumerate(rows):
        if reason := _fault(row, rows[0]):
            raise ConfigError(f"{path}: row {number}: {reason}; {remedy}")
        if (before := first.setdefault(row["instruction"], number)) != number:
            reason = f"field instruction: the same as in row {before}"
            raise ConfigError(f"{path}: row {number}: {reason}; {remedy}")
    table = pd.DataFrame(rows)
    return table.assign(preference=pd.to_numeric(table["preference"]).astype(float))


def _read(path: Path):
    """The JSON of a file. Published ones have NaN where nobody looks, so that Python's is taken."""
    open_text = gzip.open if path.suffix == ".gz" else open
    try:
        with open_text(path, "rt", encoding="utf-8-sig") as file:  # with a byte order mark or not
            return json.load(file)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); make it again") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON ({error}); make it again") from None


def _fault(row, first) -> str | None:
    """What is wrong with a row, whose generators are to be those of the first."""
    if not isinstance(row, dict):
        return "not an object"
    for field in (*_TEXTS, "preference"):
        if field not in row:
            return f"field {field}: missing"
        if field in _TEXTS and not isinstance(row[field], str):
            return f"field {field}: no text"
        if field in _TEXTS and not _is_unicode(row[field]):
            return f"field {field}: holds half a character, \\ud..."
    for field in _GENERATORS:
        if not isinstance(row.get(field), str | None):
            return f"field {field}: no text"
        if row.get(field) != first.get(field):
            return f"field {field}: {row.get(field)!r}, but {first.get(field)!r} in row 0"
    preference = row["preference"]
    is_number = isinstance(preference, int | float) and not isinstance(preference, bool)
    if preference is not None and not (is_number and 1 <= preference <= 2):
        # alpaca_eval reads 0 as a draw; others write 0 for a loss.
        hint = ", write 1.5 for a draw" if preference == 0 and is_number else ""
        return f"field preference: not always a number from 1 to 2, but {preference!r:.40}{hint}"
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can write half of a pair that means one character
        return False
    return True


def difficulty_of(annotations: pd.DataFrame) -> Difficulty | None:
    """The difficulties of the instructions; None unless all are AlpacaEval's."""
    return find_difficulty(annotations["instruction"].to_list())


def columns(annotations: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Preference for the model in [0, 1], and lengths of the baseline's and its outputs: (N,)."""
    lengths = [annotations[name].str.len().to_numpy() for name in ("output_1", "output_2")]
    return annotations["preference"].to_numpy(dtype=float) - 1, *lengths


def length_controlled(annotations: pd.DataFrame) -> tuple[float, str | None]:
    """Length-controlled win rate in per cent, and why it may say more than the rows, if so."""
    win_rate = length_controlled_win_rate(
        *columns(annotations), difficulty=difficulty_of(annotations)
    )
    return 100 * win_rate, length_control_warning(*columns(annotations), win_rate)


def describe(annotations: pd.DataFrame, *, replicates: int, rng_seed: int = 0) -> dict:
    """What annotations say of the model: rates in per cent, counts, lengths in characters.

    Rows without a preference are left out. `standard_error` is the standard error of the mean, as
    AlpacaEval's; the length-controlled win rate's, and its 95 % percentile interval, are from a
    bootstrap over instructions. Figures that need two judged rows are None with fewer.
    """
    preference, baseline_length, length = columns(annotations)
    judged = ~np.isnan(preference)
    kept = preference[judged]
    figures = {
        "generator": annotations.get("generator_2", pd.Series([None])).iloc[0],
        "baseline": annotations.get("generator_1", pd.Series([None])).iloc[0],
        "n_rows": len(annotations),
        "n_total": len(kept),
        "n_left_out": int((~judged).sum()),
        "n_wins": int((kept > 0.5).sum()),
        "n_wins_base": int((kept < 0.5).sum()),
        "n_draws": int((kept == 0.5).sum()),
        "win_rate": _percent(kept.mean()) if len(kept) else None,
        "standard_error": _percent(kept.std(ddof=1) / math.sqrt(len(kept)))
        if len(kept) > 1
        else None,
        "difficulties_used": difficulty_of(annotations) is not None,
    }
    if len(kept) > 1:
        figures |= _controlled_figures(annotations[judged], replicates, rng_seed)
    return figures | {
        "avg_length": float(length.mean()),
        "avg_length_baseline": float(baseline_length.mean()),
    }


def _controlled_figures(annotations: pd.DataFrame, replicates: int, rng_seed: int) -> dict:
    value, warning = length_controlled(annotations)
    n = len(annotations)
    weights = np.random.default_rng(rng_seed).multinomial(n, np.full(n, 1 / n), size=replicates)
    draws = 100 * length_controlled_win_rate(
        *columns(annotations), weights, difficulty=difficulty_of(annotations)
    )
    low, high = percentile_interval(draws)
    return {
        "length_controlled_win_rate": value,
        "length_controlled_standard_error": float(draws.std(ddof=1)),
        "length_controlled_win_rate_low": low,
        "length_controlled_win_rate_high": high,
        "length_control_warning": warning,
    }


def _percent(share: float) -> float:
    return float(100 * share)


def told(path: Path, figures: dict) -> str:
    """`describe`'s figures for people, a line each."""

    def number(name: str) -> str:
        value = figures.get(name)
        return "-" if value is None else f"{value:.2f}"

    controlled = number("length_controlled_win_rate")
    if controlled != "-":
        low, high = (number(f"length_controlled_win_rate_{side}") for side in ("low", "high"))
        controlled += f" %, 95 % interval {low} to {high}"
    counts = "{n_wins} wins, {n_wins_base} losses, {n_draws} draws of {n_total}".format(**figures)
    used = "used" if figures["difficulties_used"] else "not used: not all are AlpacaEval's"
    lines = {
        "file": path,
        "model": f"{figures['generator']} against {figures['baseline']}",
        "win rate": f"{number('win_rate')} %, standard error {number('standard_error')}",
        "length-controlled": controlled,
        "counts": counts,
        "left out": f"{figures['n_left_out']} of {figures['n_rows']} rows have no preference",
        "instruction difficulties": used,
        "length": "{avg_length:.0f} characters, the baseline {avg_length_baseline:.0f}".format(
            **figures
        ),
    }
    if warning := figures.get("length_control_warning"):
        lines["warning"] = f"the length-controlled win rate may mislead: {warning}"
    return "\n".join(f"{name + ':':26}{text}" for name, text in lines.items())
