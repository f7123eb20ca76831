"""The lifeline: a job ends when its workflow does, and is asked before by SIGTERM."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from humanline.cli.local import lifeline

WORKFLOW = """
import os, pathlib, signal, subprocess, sys, time
from humanline.cli.local import lifeline

folder, job = sys.argv[1:3]
signal.signal(signal.SIGTERM, lambda *_: None)  # as Snakemake, which waits for its jobs
lifeline.hold(pathlib.Path(folder))
lifeline.stop_jobs_on_signals()
jobs = [subprocess.Popen([sys.executable, "-c", job, *sys.argv[3:]]) for _ in range(3)]
print(os.environ.get(lifeline.VARIABLE), flush=True)
try:
    jobs[0].wait()
except KeyboardInterrupt:
    print("interrupted", flush=True)
for process in jobs:
    process.wait()
print("waited for all", [process.returncode for process in jobs], flush=True)
"""
JOB = """
import os, sys, time
from humanline.cli.local.lifeline import watch
watch()
open(os.path.join(sys.argv[1], f"{os.getpid()}.pid"), "w").close()
time.sleep(120)
"""
WRITES_FIRST = """
import signal
def write_first(*_):
    time.sleep(0.5)
    open(os.path.join(sys.argv[1], "written"), "a").write("x")
    os._exit(143)
import os, sys, time
signal.signal(signal.SIGTERM, write_first)
"""


def is_running(pid: int) -> bool:
    """Say whether a process lives; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        if os.path.exists("/proc/self"):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def started(tmp_path):
    """Start a workflow with three jobs; return it and the jobs' process ids once all run."""
    processes = []

    def run(job=JOB) -> tuple[subprocess.Popen, list[int]]:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKFLOW, tmp_path, job, tmp_path],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        end = time.monotonic() + 60
        while len(found := [int(path.stem) for path in tmp_path.glob("*.pid")]) < 3:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        return process, found

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def wait_until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_jobs_end_with_a_killed_workflow(started):
    workflow, jobs = started()
    assert all(map(is_running, jobs))
    workflow.kill()
    workflow.wait()
    wait_until(lambda: not any(map(is_running, jobs)), seconds=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_jobs_are_asked_to_end_and_may_write_first(number, started, tmp_path):
    workflow, _ = started(WRITES_FIRST + JOB)
    workflow.send_signal(number)
    told = workflow.communicate(timeout=60)[0]
    assert "waited for all [143, 143, 143]" in told
    assert ("interrupted" in told) == (number == signal.SIGINT)
    assert (tmp_path / "written").read_text() == "xxx"


def test_a_job_that_starts_too_late_ends_at_once(started, tmp_path):
    workflow, _ = started()
    value = workflow.stdout.readline().strip()
    workflow.kill()
    workflow.wait()
    late = subprocess.run(
        [sys.executable, "-c", JOB, tmp_path],
        env=os.environ | {"HUMANLINE_LIFELINE": value},
        timeout=60,
    )
    assert late.returncode in (-signal.SIGTERM, -signal.SIGKILL)


@pytest.mark.parametrize("value", ["", "7:/no/such/file"])
def test_a_command_without_a_workflow_lives(value, tmp_path):
    job = JOB.replace("time.sleep(120)", "time.sleep(0.5)")
    environment = os.environ | {"HUMANLINE_LIFELINE": value}
    run = subprocess.run([sys.executable, "-c", job, tmp_path], env=environment, timeout=60)
    assert run.returncode == 0


def test_a_workflow_in_another_thread_changes_no_signals():
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lifeline.stop_jobs_on_signals).result()
    assert signal.getsignal(signal.SIGTERM) is before
