"""Measure how much a run differs from its rerun on another processor.

    python benchmarks/other_machines.py --cores 2
    python benchmarks/other_machines.py --first results --settings avx2

A processor's instructions decide in which order sums are made, so their last digits differ. The
settings below have PyTorch, oneDNN and MKL use the instructions of older processors. Each setting
makes everything again, from the pretrained model to the scores, in a folder of its own, and is
compared with the first: this machine as it is. `--first FOLDER` takes runs that were made before.
What is there is not made again. The results are `other_machines.csv`, a row per rerun, and
`other_machines.md`. `humanline.tables.statistics.agreement.USUAL` is to be above the spread there,
which needs two seeds or more. Seeds that no table reports are the default.
"""

import argparse
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from humanline.files.json_files import write_text
from humanline.files.provenance import describe
from humanline.report.origins.mixed import commit_words
from humanline.report.page.runs import record_of
from humanline.study.runs.resolved import Run
from humanline.study.study import load_study
from humanline.tables.estimates import score_table
from humanline.tables.statistics.agreement import Spread, are_equal, kind_of, measure_spread

FIRST = "as it is"
SETTINGS = {
    FIRST: {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "MKL_CBWR": "AVX2",
    },
    "sse": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "MKL_CBWR": "SSE4_2",
    },
}
CELLS = (
    "instruction_following/base",
    "instruction_following/dpo-offline",
    "instruction_following/dpo-offline-humanline-k4-clip-1.5_1.5",
    "instruction_following/dpo-online-every8",
    "instruction_following/kto-offline",
    "instruction_following/grpo-offline",
    "instruction_following/grpo-offline-humanline-k4-clip-1.5_1.5",
    "instruction_following/grpo-online-every8",
    "math_reasoning/base",
    "math_reasoning/grpo-online-every1",
    "math_reasoning/grpo-online-every64-humanline-k24-clip-1.5_1.5",
)
SPREAD = Path("results/reference/laptop/tables/scores.csv")
CONFIG = Path("workflow/config")


def main() -> None:
    """Make the runs of every setting, and write what differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", default="laptop")
    parser.add_argument("--cells", nargs="+", default=CELLS, metavar="TASK/VARIANT")
    parser.add_argument("--seeds", nargs="+", type=int, default=[101, 102, 103])
    parser.add_argument("--settings", nargs="+", default=[*SETTINGS][1:], choices=SETTINGS)
    parser.add_argument("--first", type=Path, metavar="FOLDER", help="results of the first runs")
    parser.add_argument("--spread", type=Path, default=SPREAD, metavar="CSV", help="many seeds")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--cores", type=int, default=1)
    options = parser.parse_args()
    first = runs_of(options.first or made(FIRST, options), options)
    again = {name: runs_of(made(name, options), options) for name in options.settings}
    scores = score_table(first)
    rows = [compared(scores, score_table(runs), name) for name, runs in again.items()]
    frame = pd.concat(rows, ignore_index=True)
    runs = [*first, *itertools.chain.from_iterable(again.values())]
    deviations = pd.read_csv(options.spread).groupby(["task", "variant"])["score"].std()
    text = report(frame, deviations, options.scale, commits(runs))
    write_text(options.output / "other_machines.csv", frame.to_csv(index=False))
    write_text(options.output / "other_machines.md", text)
    print(text)


def made(setting: str, options: argparse.Namespace) -> Path:
    """Make the runs with a setting, unless they are there; return the folder of their results."""
    folder = options.output / "other_machines" / setting.replace(" ", "_")
    targets = [str(run.paths.scored) for run in runs_of(folder, options)]
    command = [sys.executable, "-m", "snakemake", "--cores", str(options.cores)]
    command += ["--quiet", "rules", "--rerun-triggers", "mtime"]
    command += ["--config", f"scale={options.scale}", f"results={folder}", "--", *targets]
    subprocess.run(command, env=os.environ | SETTINGS[setting], check=True)
    return folder


def runs_of(folder: Path, options: argparse.Namespace) -> list[Run]:
    """List the runs in a folder of results."""
    study = load_study(CONFIG / f"{options.scale}.yaml", CONFIG / "experiments.yaml", folder)
    cells = [cell.split("/") for cell in options.cells]
    return [study.run(task, f"{name}-s{seed}") for task, name in cells for seed in options.seeds]


def compared(first: pd.DataFrame, again: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Join the scores of the first runs, a, and of their reruns, b."""
    keys = ["task", "variant", "seed"]
    sides = [
        frame[[*keys, "score"]].rename(columns={"score": side})
        for side, frame in (("a", first), ("b", again))
    ]
    return sides[0].merge(sides[1], on=keys).assign(setting=setting)


def commits(runs: list[Run]) -> str:
    """List the commits that trained some runs."""
    records = [record_of(run) for run in runs if run.is_trained]
    return ", ".join(sorted({commit_words(record.provenance.git) for record in records}))


def report(frame: pd.DataFrame, deviations: pd.Series, scale: str, commits: str) -> str:
    """Write what was measured as Markdown."""
    kinds = frame["variant"].map(kind_of)
    rows = []
    for (task, kind), own in frame.groupby(["task", kinds], sort=False):
        names = {"task": task, "training": kind}
        for setting, part in own.groupby("setting", sort=False):
            rows.append({**names, "setting": setting, **summary(part, deviations)})
        rows.append({**names, "setting": "all", **summary(own, deviations)})
    for kind, own in frame.groupby(kinds, sort=False):
        names = {"task": "all", "training": kind}
        for setting, part in own.groupby("setting", sort=False):
            rows.append({**names, "setting": setting, **summary(part, deviations)})
        rows.append({**names, "setting": "all", **summary(own, deviations)})
    known = pd.DataFrame(rows).astype(object)
    table = known.where(known.notna(), None).to_markdown(index=False, floatfmt=".2f", missingval="")
    machine = describe()
    packages = ", ".join(
        f"{name} {machine['packages'][name]}" for name in ("torch", "transformers")
    )
    return "\n".join(
        [
            f"# Reruns with the instructions of other processors, scale {scale}",
            "",
            f"Commits {commits}; {packages}; {machine['machine']['processor']}. Differences are in "
            "points. *run* and *shared* are in standard deviations over the seeds that the tables "
            "report, as docs/statistics.md explains. Training *base*: base models.",
            "",
            table,
            "",
        ]
    )


def summary(own: pd.DataFrame, deviations: pd.Series) -> dict:
    """Summarise the differences of some reruns."""
    difference = own["b"] - own["a"]
    has_seeds = own.groupby(["setting", "task", "variant"]).size().max() > 1
    spread = measure_spread(own, deviations) if has_seeds else Spread(math.nan, math.nan)
    return {
        "runs": len(own),
        "equal": int(are_equal(own["a"], own["b"]).sum()),
        "root mean square": math.sqrt((difference**2).mean()),
        "greatest": difference.abs().max(),
        "run": spread.run,
        "shared": spread.shared,
    }


if __name__ == "__main__":
    main()
