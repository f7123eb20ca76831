"""A study that is killed and started again ends with the bytes of one that was not.

`python tests/workflow/kills.py` does it with every kind of cell, and many more kills. In CI
test_one_task.py kills a study once, test_run_locks.py has two runs in a folder, and test_dag.py
looks for secrets.
"""

import json
import shutil
import subprocess
import time
from pathlib import Path

import kills
import pytest
from kills import Moment

from humanline.files.seals import seal_of

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
ALONE, GROUP, EVERY, TERM, INTERRUPT = kills.KINDS


SECRET = "canary-9f2c71d0"
KEYS = ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A small study that was not killed, on one core, of somebody who has keys."""
    folder = kills.checkout(tmp_path_factory.mktemp("whole") / "study", kills.tiny)
    with pytest.MonkeyPatch.context() as patch:
        for key in KEYS:
            patch.setenv(key, SECRET)
        return started(folder)


def started(folder: Path) -> Path:
    assert kills.start(folder, "--cores", "1").wait() == 0, (folder / "console.txt").read_text()
    return folder


def test_a_secret_is_in_no_file_of_a_study(whole):
    """Neither in results, logs and the page, nor in what Snakemake keeps for itself."""
    files = [path for path in whole.rglob("*") if path.is_file()]
    assert {"index.html", "train.json", "console.txt"} <= {path.name for path in files}
    assert any(".snakemake" in path.parts for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_killed_study_goes_on_to_the_same_bytes_on_any_cores(whole, tmp_path):
    """The first kills meet the worker's start, when jobs run by themselves."""
    moments = [
        Moment(ALONE, 0.2),
        Moment(GROUP, 3.0),
        Moment(TERM, 12.0),
        Moment(ALONE, 6.0, is_early=True),
    ]
    folder = kills.checkout(tmp_path / "study", kills.tiny)
    done, differing = kills.run_of_kills(whole, folder, moments)
    assert len(done) >= 3
    assert [(kill.outlived, kill.wrote) for kill in done] == [([], [])] * len(done)
    assert differing == []
    left = [path.name for path in (folder / kills.RESULTS).rglob("*.tmp")]
    left += [path.name for path in (folder / kills.RESULTS).rglob("*.incomplete")]
    assert left == []
    assert not [*(folder / ".snakemake" / "locks").glob("*")]


def told(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Run snakemake in a folder, and read what it tells."""
    console = folder / "console.txt"
    console.unlink(missing_ok=True)
    status = kills.start(folder, *words).wait()
    return subprocess.CompletedProcess(words, status, console.read_text())


def test_two_runs_refuse_each_other_and_a_killed_one_is_forgotten(tmp_path):
    folder = kills.checkout(tmp_path / "study", kills.tiny)
    first = kills.start(folder)
    while not kills.has_begun(folder, first):
        assert first.poll() is None
        time.sleep(0.05)
    second = told(folder, "table_math_reasoning")  # of other files, but for the data's
    assert second.returncode == 1
    lines = [line for line in second.stdout.splitlines() if "humanline: error:" in line]
    assert len(lines) == 1 and f"held by process {first.pid} on " in lines[0]
    assert "Traceback" not in second.stdout
    first.kill()
    first.wait()
    assert [*(folder / ".snakemake" / "locks").glob("*.lock")]
    planned = told(folder, "-n", "table_math_reasoning")
    assert planned.returncode == 0 and "cannot be locked" not in planned.stdout

    kills.kill(folder, Moment(ALONE, 0.1))
    record = folder / ".snakemake" / "humanline-runs"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"host": "another"}))
    refused = told(folder)
    assert refused.returncode == 1
    assert "run `snakemake --unlock`, then the same command" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert told(folder, "--unlock").returncode == 0
    assert told(folder, "prefetch").returncode == 0


def test_comparing_finds_a_changed_weight(whole, tmp_path):
    """The comparison itself can fail."""
    other = shutil.copytree(whole, tmp_path / "study")
    (weights,) = (other / kills.RESULTS).glob("runs/*/dpo-offline-s1/model/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    samples = weights.parents[1] / "samples.jsonl"
    seal_of(samples).unlink(missing_ok=True)  # else the change is refused before
    samples.write_text(samples.read_text().replace("dpo", "DPO", 1) + "\n")
    assert kills.differences(whole, other) == [
        str(path.relative_to(other / kills.RESULTS)) for path in (weights, samples)
    ]
