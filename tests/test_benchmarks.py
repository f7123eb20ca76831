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
