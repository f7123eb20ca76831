"""Print one table of what `benchmarks/gpu.sh` has left in a folder."""

import re
import sys
from pathlib import Path

import pandas as pd


def main(folder: Path) -> None:
    parts = pd.read_csv(
        folder / "parts.csv", names=["part", "status", "seconds", "limit"], index_col="part"
    )
    rows = []
    for part, read in (
        ("tests", _tests),
        ("benchmark", _benchmark),
        ("first_taste", _first_taste),
    ):
        status, seconds, limit = parts.loc[part]
        end = {0: "done", 124: f"cut off after {limit} s", 137: f"cut off after {limit} s"}
        rows.append((part, "seconds", seconds, end.get(status, f"failed, status {status}")))
        try:
            rows += [(part, *row) for row in read(folder)]
        except (OSError, ValueError, KeyError, IndexError) as error:
            rows.append((part, "no result", "", f"{type(error).__name__}: {error}"))
    print("| part | what | value | note |\n|:--|:--|--:|:--|")
    for row in rows:
        print("|", " | ".join(str(cell) for cell in row), "|")


def _tests(folder: Path) -> list[tuple]:
    log = (folder / "tests.log").read_text()
    counts = re.findall(r"(\d+) (passed|failed|errors?|skipped)", log.splitlines()[-1])
    if not counts:  # cut off: each test has left a letter
        letters = "".join(re.findall(r"^[.FEsx]+(?= |$)", log, re.MULTILINE))
        counts = [
            (letters.count(letter), what) for letter, what in ((".", "passed"), ("F", "failed"))
        ]
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", log, re.MULTILINE)
    return [(what, count, "") for count, what in counts] + [("failed", "", one) for one in failed]


def _benchmark(folder: Path) -> list[tuple]:
    """Ratios within a repeat, their median, least and greatest; milliseconds and memory beside."""
    runs = pd.read_csv(folder / "trainers.csv")
    rows = []
    for objective, group in runs.groupby("objective", sort=False):
        of = {name: one.set_index("repeat") for name, one in group.groupby("variant")}
        for what, column, other in (
            ("time", "seconds_per_step", "trl"),
            ("memory", "peak_memory_mib", "trl"),
            ("memory", "peak_memory_mib", "none"),
        ):
            if not {"cached", other} <= of.keys():
                continue
            ratio = (of["cached"][column] / of[other][column]).dropna()
            name = f"{objective}: {what}, cached / {'no reference' if other == 'none' else other}"
            rows.append((name, f"{ratio.median():.3f}", f"{ratio.min():.3f} to {ratio.max():.3f}"))
        for variant, one in of.items():
            parts = ("policy forward", "reference", "backward", "update", "rest")
            note = ", ".join(f"{part} {1000 * one[part].median():.1f}" for part in parts)
            memory = f"{one['peak_memory_mib'].median():,.0f} MiB"
            step = f"{1000 * one['seconds_per_step'].median():.1f} ms"
            rows.append((f"{objective}: step of {variant}", step, f"{memory}; ms: {note}"))
    millions, device = runs["parameters"].iloc[0] / 1e6, runs["device"].iloc[0]
    return [("parameters", f"{millions:.0f} M", f"{device}, {runs['optimizer'].iloc[0]}"), *rows]


def _first_taste(folder: Path) -> list[tuple]:
    log = (folder / "first_taste.log").read_text().strip().splitlines()
    found = [*(folder / "results").rglob("tables/first_taste.csv")]
    if not found:
        return [("last line", "", log[-1] if log else "nothing was said")]
    table = pd.read_csv(found[0])
    return [
        (str(row.variant), f"{row.score:.1f}", f"from {row.score_low:.1f} to {row.score_high:.1f}")
        for row in table.itertuples()
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
