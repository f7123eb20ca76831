"""Write tables as files: CSV for machines, Markdown and LaTeX for people, and their provenance."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from humanline.files.json_files import write_json, write_text
from humanline.study.tasks import find_task
from humanline.trainers.registry import find_objective

# Header and number format of every column that people see.
_COLUMNS = {
    "task": ("Task", "task"),
    "base_model": ("Base model", ""),
    "objective": ("Objective", ""),
    "data": ("Data", ""),
    "data_from": ("Data from", ""),
    "quartile": ("Quartile", "d"),
    "groups": ("Prompts", "d"),
    "sample_every": ("Sampling", "d"),
    "last_sampling": ("Last sampling", "d"),
    "select": ("Best quarter by", ""),
    "humanline": ("Humanline", ""),
    "method": ("Method", ""),
    "k": ("k", "d"),
    "sync_alpha": ("Soft sync", "g"),
    "log_eps_p": ("Lower bound, nats", "g"),
    "log_eps_r": ("Upper bound, nats", "g"),
    "learning_rate_factor": ("Factor of learning rate", "g"),
    "max_grad_norm": ("Gradient norm", "g"),
    "beta": ("beta", "g"),
    "epsilon": ("epsilon", "g"),
    "batch_size": ("Batch", "d"),
    "learning_rate": ("Learning rate", "g"),
    "data_log_probability": ("Data's log-probability, nats", ".2f"),
    "seeds": ("Seeds", "d"),
    "steps": ("Steps", "d"),
    "win_rate": ("Win rate, %", ".1f"),
    "length_controlled_win_rate": ("LC win rate, %", ".1f"),
    "ratio_to_offline": ("Ratio to offline", ".2f"),
    "ratio_to_online": ("Ratio to online", ".2f"),
    "pass_at_1": ("Pass@1, %", ".1f"),
    "score": ("Score, %", ".1f"),
    "difference_to_offline": ("Difference to offline, points", "+.1f"),
    "difference_to_online": ("Difference to online, points", "+.1f"),
    "p_beats_offline": ("p, beats offline", "p"),
    "p_beats_plain": ("p, beats plain", "p"),
    "p_differs_from_offline": ("p, differs from offline", "p"),
    "p_differs_from_online": ("p, differs from online", "p"),
    "steps_to_online": ("Catches up, step", "d"),
    "collapsed": ("Collapsed", "d"),
    "unclipped": ("Unclipped", ".2f"),
    "claim": ("Claim", ""),
    "text": ("What is claimed", ""),
    "source": ("Source", ""),
    "paper_value": ("Value there", ""),
    "comparison": ("Comparison", ""),
    "asked": ("Asked", ""),
    "claimed": ("Claimed", ""),
    "comparisons": ("Comparisons", "d"),
    "estimate": ("Estimate", ".2f"),
    "amount": ("Estimate", ""),
    "estimates": ("Estimates", ""),
    "paper": ("In the paper, or derived from it", ""),
    "p_uncorrected": ("p, not corrected", "p"),
    "p_holm": ("p, Holm", "p"),
    "p_opposite_holm": ("p of the opposite, Holm", "p"),
    "result": ("Result", ""),
    "verdict": ("Verdict", ""),
    "seeds_to_decide": ("Seeds to decide", ".0f"),
    "scale": ("Scale", ""),
    "left_out": ("Left out", "d"),
    "length_control_warnings": ("LC warnings", "d"),
    "mean_length": ("Length", ".0f"),
    "training_seconds": ("Training, s", ".0f"),
    "sampling_share": ("Share of sampling", ".0%"),
    "ratio_of_seconds": ("Ratio to online's", ".2f"),
    "sampled_tokens": ("Tokens sampled", ",.0f"),
    "trained_tokens": ("Tokens trained on", ",.0f"),
    "peak_memory_mib": ("Peak memory, MiB", ",.0f"),
    "seconds_to_online": ("Time to online's score, s", ".0f"),
    "speed_up": ("Speed-up", ".1f"),
    "variant": ("Run", ""),
}
_WORDS = {
    True: "yes",
    False: "no",
}
_MISSING = "\N{EN DASH}"
# Also comparison signs: LaTeX's default font encoding prints `<` as another character.
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{character: f"${character}$" for character in "<>|"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        _MISSING: "--",
    }
)


def write_table(
    frame: pd.DataFrame,
    directory: Path,
    name: str,
    *,
    caption: str,
    provenance: dict,
    headers: dict[str, str] | None = None,
) -> None:
    """Write a table of `humanline.tables.headline` as NAME.csv, .md, .tex and .provenance.json.

    Args:
        frame: the table. Columns x_se, x_low and x_high are shown with x.
        directory: the folder; it is made if it does not exist.
        name: stem of the files' names and of the LaTeX label.
        caption: plain text.
        provenance: how the table was made, JSON-serialisable.
        headers: headers for people of further columns, which hold counts.
    """
    shown = human_readable(frame, headers)
    write_text(directory / f"{name}.csv", frame.to_csv(index=False))
    write_text(directory / f"{name}.md", _markdown(shown, caption))
    write_text(directory / f"{name}.tex", _latex(shown, caption, name))
    write_json(directory / f"{name}.provenance.json", provenance)


def human_readable(frame: pd.DataFrame, headers: dict[str, str] | None = None) -> pd.DataFrame:
    """Format a table for people: cells such as "54.3 ± 2.1 [50.1, 58.2]", and plain headers.

    Columns without a header, here or in `headers`, are for machines and left out.
    """
    known = _COLUMNS | {name: (header, "d") for name, header in (headers or {}).items()}
    if "objective" in frame:
        known = _columns_of_options(frame["objective"]) | known
        frame = frame.assign(objective=frame["objective"].map(_objective))
    columns = [name for name in frame if name in known]
    rows = frame.to_dict("records")
    return pd.DataFrame(
        {known[name][0]: [_cell(row, name, known[name][1]) for row in rows] for name in columns}
    )


def amount(value: float | None, compare: str, low: float = math.nan, high: float = math.nan) -> str:
    """Write a ratio or a difference with its unit and interval: ``1.39x [1.36, 1.41]``.

    Args:
        value: the figure; a dash if it is not known.
        compare: ``ratio``, or ``difference`` of percentage points.
        low, high: its interval, if it has one.
    """
    if value is None or pd.isna(value):
        return _MISSING
    spec, unit = (".2f", "x") if compare == "ratio" else ("+.1f", " points")
    bounds = "" if pd.isna(low) else f" [{low:{spec}}, {high:{spec}}]"
    return f"{value:{spec}}{unit}{bounds}"


def _columns_of_options(objectives: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return header and number format of the hyperparameters of a table's objectives."""
    rows = [find_objective(name) for name in set(objectives) - {"base"}]
    return {option: (option, "g") for row in rows for option in row.options.model_fields}


def _objective(name: str) -> str:
    """Return an objective's label; a base model has no objective."""
    return name if name == "base" else find_objective(name).label


def _cell(row: dict, column: str, spec: str) -> str:
    """Format a value with its standard error and interval, if these are known."""
    value, error, low, high = (
        row.get(f"{column}{suffix}") for suffix in ("", "_se", "_low", "_high")
    )
    text = _format(value, spec)
    if pd.notna(error):
        text += f" ± {_format(error, spec)}"
    if pd.notna(low):
        text += f" [{_format(low, spec)}, {_format(high, spec)}]"
    return text


def _format(value: Any, spec: str) -> str:
    if pd.isna(value):
        return _MISSING
    if spec == "":
        return _WORDS.get(value, str(value))
    if spec == "task":
        return find_task(value).label
    if spec == "p":
        return "<0.001" if value < 0.001 else format(value, "#.2g")
    return format(value, spec)


def _markdown(shown: pd.DataFrame, caption: str) -> str:
    # Without disable_numparse, tabulate would read "0.50" as a number and drop its last digit.
    table = shown.to_markdown(index=False, disable_numparse=True)
    return f"{caption}\n\n{table}\n"


def _latex(shown: pd.DataFrame, caption: str, name: str) -> str:
    table = shown.map(_escape).rename(columns=_escape)
    return "\n".join(
        [
            "% Needs the packages booktabs and graphicx.",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape(caption)}}}",
            rf"\label{{tab:{name}}}",
            r"\resizebox{\linewidth}{!}{%",
            table.to_latex(index=False, escape=False).rstrip() + "}",
            r"\end{table}",
            "",
        ]
    )


def _escape(text: str) -> str:
    return text.translate(_LATEX)
