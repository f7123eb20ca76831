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


@pytest.mark.slow
def test_the_benchmark_measures_every_variant(tmp_path):
    command = [sys.executable, SCRIPT, *TINY.split(), "--output", tmp_path]
    subprocess.run(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, check=True)
    measured = pd.read_csv(tmp_path / "trainers.csv")
    assert list(measured["variant"]) == VARIANTS
    parts = ["policy forward", "reference", "backward", "update"]
    has_reference = measured["variant"] != "none"
    assert (measured.loc[has_reference, parts] > 0).to_numpy().all()
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
    script = subprocess.run(["bash", "-n", SCRIPT.parent / "gpu.sh"], check=False)
    assert script.returncode == 0
