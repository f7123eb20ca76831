"""Locks that a killed run left are taken away; those of a living one, or of another's, are not."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from humanline.cli.local import run_locks
from humanline.cli.local.run_locks import JOBS, RUNS, VARIABLE, keep_folder, keep_locks, only_run
from humanline.files.validation import ConfigError

RUN = """
import pathlib, sys, time
from humanline.cli.local.run_locks import only_run
from humanline.files.validation import ConfigError
folder = pathlib.Path(sys.argv[1])
try:
    with only_run(folder):
        locks = folder / "locks"
        locks.mkdir(exist_ok=True)
        found = sorted(lock.name for lock in locks.iterdir())
        (locks / "0.output.lock").write_text("a.csv")
        print("runs", *found, flush=True)
        time.sleep(float(sys.argv[2]))
except ConfigError as error:
    print(error, flush=True)
"""
JOB = """
import sys, time
from humanline.cli.local.run_locks import hold_as_job
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
    first, told = start(RUN, folder, 60)
    assert told == "runs"
    kill(first)
    assert (folder / "locks" / "0.output.lock").exists()
    assert start(RUN, folder, 0)[1] == "runs"


def test_a_second_run_is_refused_in_one_line_that_names_the_first(start, folder):
    first, _ = start(RUN, folder, 60)
    _, told = start(RUN, folder, 60)
    assert f"held by process {first.pid} on " in told and "; wait for it, or stop it: " in told
    assert f"`snakemake {folder} 60`" in told
    assert (folder / "locks" / "0.output.lock").exists()
    kill(first)
    assert start(RUN, folder, 0)[1] == "runs"


def test_a_process_id_that_another_program_has_got_holds_nothing(start, folder):
    kill(start(RUN, folder, 60)[0])
    record = json.loads((folder / RUNS).read_text())
    (folder / RUNS).write_text(json.dumps(record | {"process": os.getpid()}))  # it lives
    assert start(RUN, folder, 0)[1] == "runs"


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ('{"host": "another 5f0c", "process": 7, "arguments": []}', "of another machine or"),
        ("", "of an unknown machine or container"),
        ("vm", "of an unknown machine or container"),  # as earlier versions wrote it
        ("[1]", "of an unknown machine or container"),
    ],
)
def test_locks_that_another_machine_may_have_made_stay(record, told, start, folder):
    kill(start(RUN, folder, 60)[0])
    (folder / RUNS).write_text(record)
    with pytest.raises(ConfigError, match=told) as refused, only_run(folder):
        pass
    assert "run `snakemake --unlock`, then the same command" in str(refused.value)
    assert (folder / "locks" / "0.output.lock").exists()
    (folder / "locks" / "0.output.lock").unlink()  # as `snakemake --unlock` does
    assert start(RUN, folder, 0)[1] == "runs"


def test_locks_of_a_run_with_jobs_elsewhere_stay_until_they_are_taken_away(start, folder):
    kill(start(RUN, folder, 60)[0])
    keep_locks(folder)
    assert "a run whose jobs are on other machines, and nobody" in start(RUN, folder, 60)[1]
    (folder / "locks" / "0.output.lock").unlink()
    kill(start(RUN, folder, 60)[0])
    assert start(RUN, folder, 0)[1] == "runs"


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


@pytest.mark.parametrize("kept", [False, True])
def test_a_dry_run_beside_a_run_finds_the_folder_of_unfinished_files(kept, folder):
    from snakemake.persistence.file import FilePersistence

    run, dry_run = FilePersistence(path=folder), FilePersistence(path=folder)
    if kept:
        keep_folder(folder)
    name = f"results/{'long/' * 40}scores.csv"  # Snakemake makes folders within it for such a path
    run._mark_incomplete(name, None)
    assert run._filter_incomplete_keys({name, "a.csv"}) == {name}
    run._unmark_incomplete(name)
    if kept:
        assert dry_run._filter_incomplete_keys({name, "a.csv"}) == set()
    else:  # else Snakemake has mended it, and `keep_folder` may go
        with pytest.raises(FileNotFoundError, match="incomplete"):
            dry_run._filter_incomplete_keys({name, "a.csv"})


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match=r"humanline-runs: cannot be written \(.*\); make room"),
        only_run(tmp_path / "file" / ".snakemake"),
    ):
        pass


def test_python_may_call_snakemake_again(monkeypatch):
    """The second workflow is not within the first, and takes the lock once."""
    from snakemake.persistence import PersistenceBase

    for name in ("lock", "lock_warn_only"):
        monkeypatch.setattr(PersistenceBase, name, getattr(PersistenceBase, name))
    monkeypatch.setenv("HUMANLINE_WORKFLOW", "")
    run_locks.guard()
    first = PersistenceBase.lock
    run_locks.guard()
    assert PersistenceBase.lock is first
    run_locks.announce()
    assert run_locks.waiting_workflow() is None
    code = "from humanline.cli.local import run_locks; print(run_locks.waiting_workflow().process)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(told.stdout) == os.getpid()


def test_jobs_are_waited_for_on_nfs_too(start, folder):
    """NFS makes locks of a file's bytes from `flock`, so a shared one needs a readable file."""
    nfs = "import fcntl; fcntl.flock = fcntl.lockf\n"
    kill(start(RUN, folder, 60)[0])
    start(nfs + JOB, **{VARIABLE: str(folder / JOBS)})
    with open(folder / JOBS, "a+") as jobs, pytest.raises(BlockingIOError):
        fcntl.lockf(jobs, fcntl.LOCK_EX | fcntl.LOCK_NB)
