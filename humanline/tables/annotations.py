"""The figures of `score_annotations`: a model's rates from annotations in AlpacaEval's format."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from humanline.files.validation import ConfigError
from humanline.scoring.annotations import (
    columns,
    difficulty_of,
    length_controlled,
    read_annotations,
)
from humanline.scoring.length_control import length_controlled_win_rate, replicates_at_once


def scored(path: Path, *, replicates: int, as_json: bool = False) -> str:
    """Read a file of annotations, and write a model's figures as text, or as JSON.

    Raises:
        ConfigError: if the file cannot be read, or no row is judged.
    """
    figures = describe(read_annotations(path), replicates=replicates)
    if not figures["n_total"]:
        raise ConfigError(f"{path}: no row has a preference; judge the outputs first")
    if as_json:
        return json.dumps({"file": str(path)} | figures, indent=1, ensure_ascii=False)
    return told(path, figures)


def describe(annotations: pd.DataFrame, *, replicates: int, rng_seed: int = 0) -> dict:
    """Compute a model's figures: rates in per cent, counts, lengths in characters.

    Rows without a preference are left out. `standard_error` is the standard error of the mean, as
    in AlpacaEval. The length-controlled win rate has its standard error and its 95 % percentile
    interval from a bootstrap over instructions.

    Args:
        annotations: N rows, as `read_annotations` returns them.
        replicates: number of bootstrap replicates.
        rng_seed: seed of the bootstrap.

    Returns:
        The figures by name. Those that need two judged rows are None or missing with fewer.
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
    n, rng = len(annotations), np.random.default_rng(rng_seed)
    arrays, difficulty = columns(annotations), difficulty_of(annotations)
    # As many as are fitted together: all at once would need gigabytes for many instructions.
    most = replicates_at_once(n)
    draws = 100 * np.concatenate(
        [
            length_controlled_win_rate(
                *arrays,
                rng.multinomial(n, np.full(n, 1 / n), size=min(most, replicates - start)),
                difficulty=difficulty,
            )
            for start in range(0, replicates, most)
        ]
    )
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "length_controlled_win_rate": value,
        "length_controlled_standard_error": float(draws.std(ddof=1)),
        "length_controlled_win_rate_low": float(low),
        "length_controlled_win_rate_high": float(high),
        "length_control_warning": warning,
    }


def _percent(share: float) -> float:
    return float(100 * share)


def told(path: Path, figures: dict) -> str:
    """Write the figures of `describe` for people, one per line.

    Args:
        path: the file of the annotations.
        figures: the result of `describe`.
    """

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
