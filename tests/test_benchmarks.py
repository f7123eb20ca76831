"""The benchmark runs, and its table has every variant."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "trainers.py"
VARIANTS = ["trl", "model", "cached", "authors", "none"]
TINY = "--objectives grpo --k 2 --sizes small --steps 2 --repeats 1 --batch 4 --length 16"
PARTS = ["policy forward", "reference", "backward", "update"]


def measured(folder: Path, *options: str) -> pd.DataFrame:
    command = [sys.executable, SCRIPT, *TINY.split(), *options, "--output", folder]
    subprocess.run(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, check=True)
    return pd.read_csv(folder / "trainers.csv")


@pytest.mark.slow
def test_a_measurement_has_a_process_and_a_peak_of_its_own(tmp_path):
    found = measured(tmp_path, "--variants", "cached")
    assert list(found["variant"]) == ["cached"]
    assert (found[[*PARTS, "peak_memory_mib"]] > 0).to_numpy().all()


@pytest.mark.slow
@pytest.mark.thorough
def test_the_benchmark_measures_every_variant(tmp_path):
    """In one process, because a start takes longer than they do."""
    found = measured(tmp_path, "--one-process")
    assert list(found["variant"]) == VARIANTS
    has_reference = found["variant"] != "none"
    assert (found.loc[has_reference, PARTS] > 0).to_numpy().all()
    report = (tmp_path / "trainers.md").read_text()
    assert all(f"| {variant} " in report for variant in VARIANTS)
    assert "memory, cached / authors (goal 0.65)" in report
    assert "memory, cached / none (goal 1.02)" in report


def test_reruns_are_summarised_with_their_spread(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import other_machines

    first = pd.DataFrame(
        {"task": "letters", "variant": "dpo", "seed": [1, 2], "score": [50.0, 52.0]}
    )
    again = first.assign(score=[50.5, 52.0])
    frame = other_machines.compared(first, again, "avx2")
    deviations = first.groupby(["task", "variant"])["score"].std()
    assert other_machines.summary(frame, deviations) | {"run": 0} == pytest.approx(
        {"runs": 2, "equal": 1, "root mean square": 0.125**0.5, "greatest": 0.5}
        | {"run": 0, "shared": 0}
    )
    assert "| avx2 " in other_machines.report(frame, deviations, "laptop", "")


def test_the_table_of_a_gpu_shows_what_there_is(tmp_path):
    """One part ended, one was cut off after a measurement, one failed."""
    (tmp_path / "parts.csv").write_text(
        "benchmark,124,110,110\nfirst_taste,1,9,200\ntests,0,80,99\n"
    )
    (tmp_path / "tests.log").write_text("FAILED tests/a.py::b - E\n1 failed, 9 passed in 80.1s\n")
    (tmp_path / "first_taste.log").write_text("no model\n")
    numbers = {"parameters": 10**9, "device": "GPU", "optimizer": "adamw", "objective": "dpo"}
    parts = dict.fromkeys(["policy forward", "reference", "backward", "update", "rest"], 0.01)
    rows = [
        numbers | parts | {"repeat": 0, "variant": variant, "seconds_per_step": seconds}
        for variant, seconds in (("trl", 0.2), ("cached", 0.19))
    ]
    pd.DataFrame(rows).assign(peak_memory_mib=30000.0).to_csv(tmp_path / "trainers.csv")
    command = [sys.executable, SCRIPT.parent / "gpu_table.py", tmp_path]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in (
        "| benchmark | seconds | 110 | cut off after 110 s |",
        "| benchmark | dpo: time, cached / trl | 0.950 | 0.950 to 0.950 |",
        "| first_taste | last line |  | no model |",
        "| tests | failed | 1 |  |",
        "| tests | failed |  | tests/a.py::b |",
    ):
        assert line in table
    assert "no reference" not in table


def test_what_a_gpu_settles_runs_on_all_cores_and_no_part_stops_another(tmp_path):
    """Instead of Python there is a script that notes what it is called with, and fails."""
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\nexit 3\n')
    python.chmod(0o755)
    path = f"{python.parent}:{os.environ['PATH']}"
    command = ["bash", SCRIPT.parent / "gpu.sh", tmp_path / "out", "300"]
    subprocess.run(command, env=os.environ | {"PATH": path}, check=True, capture_output=True)
    first, second, third, table = (tmp_path / "calls").read_text().splitlines()
    cores = len(os.sched_getaffinity(0))
    assert f"table_first_taste --cores {cores} " in first and "scale=two_seeds" in first
    assert "trainers.py --one-process" in second and "gpu_table.py" in table
    assert f"-n {min(cores, 16)} " in third
    assert all(Path(word).exists() for word in third.split() if word.startswith("tests/"))
    parts = pd.read_csv(tmp_path / "out" / "parts.csv", header=None)
    assert list(parts[0]) == ["first_taste", "benchmark", "tests"] and (parts[1] == 3).all()
