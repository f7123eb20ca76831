"""Kill a whole study at random moments, run the README's command again, and compare bytes.

    python tests/workflow/kills.py --kills 30 --seed 1

The study has every objective, online and offline, math, tables, claims, figures and the page. In
one copy of it kills follow each other, a kind at a time; after each, the same command goes on, and
nothing else. Once it is done, it is compared with a study that was not killed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import yaml

from humanline.files.seals import seal_of

ROOT = Path(__file__).parents[2]
COMMAND = ["snakemake", "--cores", "all", "--config", "scale=smoke"]  # as in the README
RESULTS = Path("results", "smoke")
GRACE = 2.0  # seconds until a killed study must be silent
ENDS = 300.0  # seconds until a study must have ended that was asked to
# Of a run's record and of provenance: what the clock, the memory and the file system have told.
_OF_THE_CLOCK = ("seconds", "timeline", "peak_memory_mib")
_REMAKE = """
import sys
from humanline.cli.commands import main

for words in sys.argv[1:]:
    assert main([*words.split(), "--scale=smoke"]) == 0, words
"""


def small(experiments: dict) -> dict:
    """Keep of the tests' experiments one cell of each kind."""
    tables = experiments["tables"]
    headline = tables["instruction_following"] | {
        "cells": [
            {"objective": ["dpo", "kto", "grpo"], "data": ["offline", "online"]},
            {"objective": "dpo", "data": "online", "humanline": True},
            {"objective": "kto", "data": "offline", "humanline": True},
            {"objective": "grpo", "data": "offline", "humanline": True},
        ]
    }
    kept = {"instruction_following": headline, "math_reasoning": tables["math_reasoning"]}
    cost = tables["cost"] | {"cells": [{"objective": "grpo", "data": ["offline", "online"]}]}
    return experiments | {"tables": kept | {"cost": cost}}


def tiny(experiments: dict) -> dict:
    """Keep three runs, for tests: DPO offline, GRPO online with humanline, and GRPO in math."""
    tables = experiments["tables"]
    cells = [
        {"objective": "dpo", "data": "offline"},
        {"objective": "grpo", "data": "online", "humanline": True},
    ]
    kept = {"instruction_following": tables["instruction_following"] | {"cells": cells}}
    cells = [{"objective": "grpo", "data": "online"}]
    kept |= {"math_reasoning": tables["math_reasoning"] | {"cells": cells}}
    return {k: v for k, v in experiments.items() if k != "implied_capacity"} | {"tables": kept}


def checkout(folder: Path, choose=small) -> Path:
    """Make a checkout whose smoke scale has a part of the tests' experiments."""
    for name in ("humanline", "workflow", "profiles", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    config = folder / "workflow" / "config"
    experiments = yaml.safe_load(Path(__file__).with_name("experiments.yaml").read_text())
    (config / "experiments.yaml").write_text(yaml.safe_dump(choose(experiments), sort_keys=False))
    (config / "claims.yaml").unlink()
    if choose is small:  # the claims compare its cells
        shutil.copy(Path(__file__).with_name("claims.yaml"), config)
    return folder


def start(folder: Path, *more: str) -> subprocess.Popen:
    """Run the README's command, perhaps with more words; it adds its lines to `console.txt`."""
    words = [Path(sys.executable).parent / COMMAND[0], *more, *COMMAND[1:]]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HUMANLINE")}
    with open(folder / "console.txt", "a") as console:
        return subprocess.Popen(
            words,
            cwd=folder,
            env=environment | {"PYTHONPATH": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )


def finish(folder: Path) -> int:
    """Run the README's command to its end; return its exit status."""
    return start(folder).wait()


# Killing.


def processes(folder: Path) -> list[psutil.Process]:
    """List the processes of a study: those that run in its folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder:
                found.append(process)
    return found


def _alone(number: int):
    return lambda run, folder: run.send_signal(number)


def _group(run: subprocess.Popen, folder: Path) -> None:
    os.killpg(run.pid, signal.SIGKILL)


def _every_process(run: subprocess.Popen, folder: Path) -> None:
    for process in processes(folder):
        with suppress(psutil.Error):
            process.kill()


KINDS = {
    "SIGKILL, snakemake alone": _alone(signal.SIGKILL),
    "SIGKILL, its group": _group,
    "SIGKILL, every process": _every_process,
    "SIGTERM, snakemake alone": _alone(signal.SIGTERM),
    "SIGINT, snakemake alone": _alone(signal.SIGINT),
}


@dataclass(frozen=True)
class Moment:
    """When to kill.

    Attributes:
        kind: a key of `KINDS`.
        after: seconds.
        is_early: count them from the start of snakemake, and else from its first jobs.
        files: or count them once so many files of the study are done.
    """

    kind: str
    after: float
    is_early: bool = False
    files: int = 0

    def __str__(self) -> str:
        since = f"{self.files} more files" if self.files else "its first jobs"
        return f"{self.kind:25} {self.after:5.1f} s after {'start' if self.is_early else since}"


@dataclass
class Kill:
    """What a kill did.

    Attributes:
        moment: when it was.
        done: the files that were done then.
        took: seconds until snakemake had ended.
        outlived: the command lines of processes that lived longer than `GRACE` after its end.
        wrote: the files that were changed after that.
    """

    moment: Moment
    done: int
    took: float
    outlived: list[str]
    wrote: list[str]


def kill(folder: Path, moment: Moment) -> Kill | None:
    """Run the README's command, and kill it; None if it had ended before."""
    run = start(folder)
    before = files_done(folder)
    while run.poll() is None and not (moment.is_early or has_begun(folder, run)):
        time.sleep(0.02)
    while run.poll() is None and files_done(folder) < before + moment.files:
        time.sleep(0.1)
    try:
        run.wait(timeout=moment.after)
        return None
    except subprocess.TimeoutExpired:
        pass
    KINDS[moment.kind](run, folder)
    struck = time.monotonic()
    run.wait(timeout=ENDS)
    took = time.monotonic() - struck
    time.sleep(GRACE)
    outlived = [" ".join(process.cmdline()) for process in processes(folder)]
    before = stamps(folder)
    time.sleep(1.0)
    wrote = sorted(str(p) for p in dict(before.items() ^ stamps(folder).items()))
    return Kill(moment, files_done(folder), took, outlived, wrote)


def has_begun(folder: Path, run: subprocess.Popen) -> bool:
    """Say whether a run holds the folder: it starts its worker and its first jobs then."""
    try:
        record = json.loads((folder / ".snakemake" / "humanline-runs").read_text())
    except (OSError, ValueError):
        return False
    return record["process"] == run.pid


def files_done(folder: Path) -> int:
    """Count the files that Snakemake has recorded as done."""
    return sum(1 for path in (folder / ".snakemake" / "metadata").rglob("*") if path.is_file())


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Read size and time of change of all files."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(OSError):
            state = path.stat()
            if path.is_file():
                found[path] = (state.st_size, state.st_mtime_ns)
    return found


# Comparing.


def differences(whole: Path, other: Path) -> list[str]:
    """Compare two studies that have ended; the other is changed.

    Models, samples, annotations, grades and data are compared as they are. Tables and the page have
    seconds: the other's are made again with the seconds of the first, and then compared.
    """
    for path in _files(whole, "train.json"):
        ours, own = (json.loads((f / RESULTS / path).read_text()) for f in (whole, other))
        own |= {name: ours[name] for name in _OF_THE_CLOCK}
        (other / RESULTS / path).write_text(json.dumps(own))
        seal_of(other / RESULTS / path).unlink(missing_ok=True)
    for path in _files(whole, "metrics.csv"):
        if _content(whole, str(path)) == _content(other, str(path)):  # but for seconds of steps
            for name in (path, seal_of(path)):
                with suppress(FileNotFoundError):
                    shutil.copy(whole / RESULTS / name, other / RESULTS / name)
    shutil.rmtree(other / RESULTS / "benchmarks")
    shutil.copytree(whole / RESULTS / "benchmarks", other / RESULTS / "benchmarks")
    made = [path.name.split(".")[0] for path in (whole / RESULTS / "tables").glob("*.prov*.json")]
    alone = [name for name in ("scores", "claims") if name in made]
    words = [f"table {name}" for name in sorted(made) if name not in alone]
    words += [*alone, "report"]
    for folder in (whole, other):  # in both, because what a job is told differs from a person's
        environment = os.environ | {"PYTHONPATH": str(folder)}
        again = [sys.executable, "-c", _REMAKE, *words]
        subprocess.run(again, cwd=folder, env=environment, check=True, capture_output=True)
    names = {str(path) for folder in (whole, other) for path in _files(folder, "*")}
    return sorted(name for name in names if _content(whole, name) != _content(other, name))


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    for path in sorted((folder / RESULTS).rglob(pattern)):
        name = path.relative_to(folder / RESULTS)
        is_state = "checkpoints" in name.parts and name.suffix != ".safetensors"
        is_timed = name.parts[0] in ("logs", "benchmarks", "seconds.csv")
        # The trainer's arguments have the name of the checkpoints' folder, and that has times.
        is_beside = name.suffix == ".seal" or name.name == "training_args.bin"
        if path.is_file() and not (is_state or is_timed or is_beside):
            yield name


def _content(folder: Path, name: str):
    path = folder / RESULTS / name
    if "/checkpoints/" in name:
        run, _, (_, *step) = (part.split("/") for part in name.rpartition("/checkpoints/"))
        found = sorted(Path(folder, RESULTS, *run, "checkpoints").glob(f"*/{'/'.join(step)}"))
        return [file.read_bytes() for file in found]
    if not path.exists():
        return None
    if path.name == "metrics.csv":
        return (
            pd.read_csv(path).drop(columns="step_time", errors="ignore").sort_index(axis=1).to_csv()
        )
    if path.name == "train.json":
        record = json.loads(path.read_text())
        return {k: v for k, v in record.items() if k not in (*_OF_THE_CLOCK, "checkpoints")}
    return path.read_bytes()


# A person's command.


def run_of_kills(whole: Path, folder: Path, moments: list[Moment]) -> tuple[list, list]:
    """Kill a study again and again, let it end, and compare it.

    Returns:
        The kills, and the names of the files that differ.
    """
    kills = [done for moment in moments if (done := kill(folder, moment))]
    status = finish(folder)
    if status:
        return kills, [f"exit status {status}; see {folder / 'console.txt'}"]
    return kills, differences(whole, folder)


def moments(chance: random.Random, seconds: float) -> list[Moment]:
    """Draw one moment for each kind of kill.

    One in five comes while snakemake starts, one in five while its first jobs run, and the others
    after some more of the study's files.
    """
    found = []
    for kind in chance.sample(sorted(KINDS), len(KINDS)):
        when, after = chance.random(), chance.uniform(0.0, seconds)
        files = chance.randint(1, 16) if when > 0.4 else 0
        found.append(Moment(kind, after, is_early=when < 0.2, files=files))
    return found


def main() -> int:
    """Run the kills, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0, help="the latest moment")
    parser.add_argument("--folder", type=Path, help="an empty folder; it is kept")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    top = (options.folder or Path(tempfile.mkdtemp(prefix="kills"))).resolve()
    chance = random.Random(options.seed)
    whole = top / "whole"
    began = time.monotonic()
    if not whole.exists() and finish(checkout(whole)):
        print(f"the study that is not killed fails; see {whole / 'console.txt'}")
        return 1
    print(f"not killed: {time.monotonic() - began:.0f} s, in {whole}", flush=True)
    number, bad, turn = 0, 0, 0
    while number < options.kills:
        folder, turn = top / f"killed-{options.seed}-{turn}", turn + 1
        drawn = moments(chance, options.seconds)
        if options.kills - number > len(KINDS):  # two of each kind
            drawn += moments(chance, options.seconds)
        kills, differing = run_of_kills(whole, checkout(folder), drawn)
        number += len(kills)
        for own in kills:
            told = f"{own.moment}, with {own.done} files, ended in {own.took:5.1f} s"
            print(told, *own.outlived, *own.wrote, flush=True)
            bad += bool(own.outlived or own.wrote)
        bad += bool(differing)
        print("  differs: " + "; ".join(differing) if differing else "  equal", flush=True)
        if not differing:
            shutil.rmtree(folder)
    print(f"{number} kills; {bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
