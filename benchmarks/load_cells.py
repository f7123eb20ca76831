"""Measure how a study of many cells loads: its check, a dry run, and a table of all its runs.

    python benchmarks/load_cells.py --cells 250 500 1000 2000 --output results/benchmarks

Each size is a configuration of its own, one table with a row for each variant, and for each run
the files that the table reads. No model makes them. Every command is a process of its own; the
seconds are of the CPU, as user and system, those of its children included. It writes
`load_cells.csv` and `load_cells.md`.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml

from humanline.study.runs.resolved import Run
from humanline.study.study import load_study

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "workflow" / "config"
TASK, TABLE = "instruction_following", "load"
LETTERS = "abcdefghij"


def write_study(folder: Path, cells: int, seeds: int) -> Path:
    """Write the configuration of a study with a table of many cells, of the smoke scale's sizes.

    Args:
        folder: the folder for it.
        cells: trained runs of the table; each has a row of the file for its variant.
        seeds: seeds of each variant.

    Returns:
        The folder of the configuration.
    """
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    scale["seeds"] = {"report": list(range(1, seeds + 1)), "tune": [1001]}
    scale["tasks"] = {TASK: scale["tasks"][TASK]}
    experiments = yaml.safe_load((CONFIG / "experiments.yaml").read_text())
    plain = [{"objective": "grpo", "data": data} for data in ("offline", "online")][:cells]
    rows = plain + [
        plain[0] | {"humanline": True, "log_eps_p": -0.5 - 0.001 * number}
        for number in range(cells // seeds - 2)
    ]
    table = {"task": TASK, "description": "Many cells.", "cells": rows}
    written = {
        "defaults": {TASK: experiments["defaults"][TASK]},
        "tables": {TABLE: table},
    }
    folder.mkdir(parents=True)
    for name, content in (("smoke", scale), ("experiments", written)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def write_runs(config: Path, results: Path, prompts: int) -> None:
    """Write the files of all runs of the table, with verdicts that no judge gave."""
    study = load_study(config / "smoke.yaml", config / "experiments.yaml", results)
    for run in study.table(TABLE).runs:
        _write_run(run, prompts)


def _write_run(run: Run, prompts: int) -> None:
    rng = random.Random(run.name)
    rows = [
        {
            "instruction": f"a+ {run.cell.seed}-{number}",
            "output_1": LETTERS * 2,
            "generator_1": "reference",
            "output_2": LETTERS * rng.randint(1, 3),
            "generator_2": run.name,
            "annotator": "local",
            "preference": 1 + rng.random(),
        }
        for number in range(prompts)
    ]
    rate = 100 * sum(row["preference"] - 1 for row in rows) / prompts
    figures = ("win_rate", "length_controlled_winrate", "length_controlled_win_rate")
    summary = dict.fromkeys(figures, rate) | {"avg_length": 20, "n_left_out": 0}
    files = {run.paths.annotations: json.dumps(rows), run.paths.summary: json.dumps(summary)}
    files[run.paths.curve] = f"step,length_controlled_win_rate\n8,{rate}\n"
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if run.is_trained:
        write_training(run)


def write_training(run: Run) -> None:
    """Write the record and the log of a run's training, which nobody did."""
    record = {
        "steps": 8,
        "checkpoints": "checkpoints",
        "seconds": {"total": 9.5, "sample": 1.25},
        "timeline": [{"step": 8, "seconds": 9.5}],
        "sampled_tokens": 1000,
        "peak_memory_mib": 900,
        "manifest": run.hashes.manifest,
        "provenance": {"git": {"commit": None}, "packages": {}},
    }
    log = "step,num_tokens,humanline/unclipped\n4,500,0.75\n8,1000,0.5\n"
    for path, text in ((run.paths.record, json.dumps(record)), (run.paths.log, log)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def commands(config: Path, results: Path) -> dict[str, list[str]]:
    """The commands to measure, by name: check, dry run (all, and one table), and the table."""
    study = ["--scale", "smoke", "--config", str(config), "--results", str(results)]
    own = [sys.executable, "-m", "humanline"]
    values = {"scale": "smoke", "config_directory": config, "results": results}
    options = ["--config", *(f"{name}={value}" for name, value in values.items())]
    snakemake = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--nolock"]
    return {
        "check": [*own, "check", *study],
        "snakemake -n": [*snakemake, *options],
        f"snakemake -n table_{TABLE}": [*snakemake, f"table_{TABLE}", *options],
        "table": [*own, "table", TABLE, *study],
    }


def measure(command: list[str], cwd: Path = ROOT) -> dict[str, float]:
    """Run a command; return its seconds of the CPU and on the clock, and its peak memory."""
    before, started = _spent(), time.monotonic()
    # A process of its own waits for it, so that the peak is not that of an earlier command.
    code = (
        "import resource, subprocess, sys\n"
        "status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(status)\n"
    )
    watched = [sys.executable, "-c", code, *command]
    done = subprocess.run(watched, cwd=cwd, stdout=subprocess.PIPE, text=True, check=True)
    return {
        "cpu_seconds": round(_spent() - before, 2),
        "wall_seconds": round(time.monotonic() - started, 2),
        "peak_mib": int(done.stdout) // 1024,
    }


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_table(rows: list[dict], size: str, path: Path) -> None:
    """Write what was measured as CSV and Markdown, by command and size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows).sort_values(["command", size], kind="stable")
    frame.to_csv(path.with_suffix(".csv"), index=False)
    path.with_suffix(".md").write_text(frame.to_markdown(index=False) + "\n")


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each variant")
    parser.add_argument("--prompts", type=int, default=64, help="judged prompts of each run")
    parser.add_argument("--only", nargs="+", help="some of the commands")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks")
    options = parser.parse_args()
    rows = []
    for cells in options.cells:
        with tempfile.TemporaryDirectory() as folder:
            config = write_study(Path(folder, "config"), cells, options.seeds)
            results = Path(folder, "results")
            write_runs(config, results, options.prompts)
            for name, command in commands(config, results).items():
                if not options.only or name in options.only:
                    rows.append({"command": name, "cells": cells} | measure(command))
                    print(rows[-1], flush=True)
    write_table(rows, "cells", options.output / "load_cells")


if __name__ == "__main__":
    main()
