"""Locks that a killed run left are taken away; those of a living one, or of another's, are not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from humanline.cli.run_locks import JOBS, VARIABLE, keep_locks

RUN = """
import pathlib, sys, time
from humanline.cli.run_locks import take_over
folder = pathlib.Path(sys.argv[1])
take_over(folder)
locks = folder / "locks"
locks.mkdir(exist_ok=True)
found = sorted(lock.name for lock in locks.iterdir())
(locks / "0.output.lock").write_text("a.csv")
print(*found, flush=True)
time.sleep(float(sys.argv[2]))
"""
JOB = """
import sys, time
from humanline.cli.run_locks import hold_as_job
hold_as_job()
print("holds", flush=True)
time.sleep(60)
"""


@pytest.fixture
def start():
    """Start a program; return it once it has told something, and what it told."""
    started = []

    def run(code, *arguments, **environment) -> tuple[subprocess.Popen, str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / ".snakemake"


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_locks_of_a_killed_run_are_removed(start, folder):
    first, found = start(RUN, folder, 60)
    assert found == ""
    kill(first)
    assert (folder / "locks" / "0.output.lock").exists()
    _, found = start(RUN, folder, 0)
    assert found == ""


def test_locks_of_a_living_run_stay(start, folder):
    start(RUN, folder, 60)
    second, found = start(RUN, folder, 60)
    assert found == "0.output.lock"
    kill(second)
    _, found = start(RUN, folder, 0)  # the first one lives
    assert found == "0.output.lock"


def test_locks_of_runs_that_lived_together_are_removed_when_all_are_gone(start, folder):
    runs = [start(RUN, folder, 60)[0] for _ in range(3)]
    for run in runs:
        kill(run)
    assert start(RUN, folder, 0)[1] == ""


@pytest.mark.parametrize("host", ["", "another machine"])
def test_locks_that_another_machine_may_have_made_stay(host, start, folder):
    kill(start(RUN, folder, 60)[0])
    (folder / "humanline-runs").write_text(host)
    assert start(RUN, folder, 0)[1] == "0.output.lock"


def test_locks_of_a_run_with_jobs_elsewhere_stay_until_they_are_taken_away(start, folder):
    kill(start(RUN, folder, 60)[0])
    keep_locks(folder)
    run, found = start(RUN, folder, 60)
    assert found == "0.output.lock"
    kill(run)
    (folder / "locks" / "0.output.lock").unlink()  # as `snakemake --unlock` does
    kill(start(RUN, folder, 60)[0])
    assert start(RUN, folder, 0)[1] == ""


def test_jobs_of_a_killed_run_are_waited_for(start, folder):
    kill(start(RUN, folder, 60)[0])
    job, told = start(JOB, **{VARIABLE: str(folder / JOBS)})
    assert told == "holds"
    later = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), "0"], stderr=subprocess.PIPE, text=True
    )
    assert "jobs of a run that was killed have not ended" in later.stderr.readline()
    time.sleep(0.3)
    assert later.poll() is None
    kill(job)
    later.communicate(timeout=20)
    assert later.returncode == 0


def test_a_command_that_no_workflow_runs_holds_nothing(start):
    assert start(JOB, **{VARIABLE: ""})[1] == "holds"
