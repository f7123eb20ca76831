"""The smoke scale through a real Slurm of one node: preempted, hanging and killed jobs, and GPUs.

    pytest -m cluster tests/workflow/test_cluster.py

as root, with the extras `test` and `slurm`. It installs Debian's Slurm where there is none.
"""

import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path

import kills
import psutil
import pytest
import slurm
import yaml
from edited_yaml import write
from test_dag import ROOT, SNAKEMAKE, config, edit  # noqa: F401

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PROFILES = Path("workflow", "profiles")
AT_A_TIME = os.cpu_count()  # jobs
MEMORY = 3000  # megabytes of a job, Resources' default
FROZEN = "grpo-online-every64"  # in these the fourth step is in the middle of a rollout


@pytest.fixture
def cluster(tmp_path):
    """The environment of a running cluster's commands."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install -e '.[slurm]'")
    if os.geteuid() != 0:
        pytest.skip("installing and starting Slurm needs root")
    if slurm.DEFAULT.exists():
        pytest.skip(f"there is a {slurm.DEFAULT}: this machine is part of a cluster already")
    try:
        slurm.install()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"Slurm cannot be installed here: {error}")
    (tmp_path / "cluster").mkdir()
    with slurm.cluster(tmp_path / "cluster", AT_A_TIME * MEMORY) as environment:
        yield environment | {"ACCELERATE_USE_CPU": "true"}  # its GPUs are in name only


@pytest.fixture
def workflow(cluster, config, tmp_path):  # noqa: F811
    """The command that runs the workflow on the cluster; training has a GPU and a minute."""
    edit(config / "smoke.yaml", lambda c: c.update(resources={"train": {"gpu": 1, "runtime": 1}}))
    return by_profile("slurm", config, tmp_path)


def by_profile(profile: str, config: Path, folder: Path) -> list:  # noqa: F811
    """The command that runs the smoke scale by a profile, into a folder."""
    options = {"workflow-profile": PROFILES / profile, "slurm-logdir": folder / "slurm_logs"}
    # Without accounting; and nothing here is slow.
    options |= {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 2}
    options |= {"latency-wait": 10, "max-jobs-per-timespan": "100/1s"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    study = {"scale": "smoke", "config_directory": config, "results": folder / "results"}
    return [SNAKEMAKE, "--nolock", "--config", *(f"{k}={v}" for k, v in study.items()), *words]


def running(cluster: dict, rule: str) -> list[dict]:
    return [
        job
        for job in slurm.jobs(cluster)
        if job["state"] == "RUNNING" and job["what"].startswith(f"rule_{rule}_")
    ]


def wait_for(process: subprocess.Popen, found, seconds: float = 1.0):
    """What `found` finds while a process runs, looking every so many seconds."""
    while process.poll() is None:
        if result := found():
            return result
        time.sleep(seconds)
    pytest.fail(f"the workflow ended with status {process.returncode} before its time")


def preempt(cluster: dict) -> None:
    """Have more urgent work take the whole node for a moment."""
    memory = f"--mem={AT_A_TIME * MEMORY}"
    command = ["sbatch", "--partition=urgent", memory, "--output=/dev/null", "--wrap", "sleep 1"]
    subprocess.run(command, env=cluster, check=True, capture_output=True)


def freeze(results: Path) -> Path | None:
    """Stop a training that has kept its fourth step, as if it hung: its checkpoint."""
    pattern = f"smoke/runs/math_reasoning/{FROZEN}*/checkpoints/*/progress.json"
    for note in results.glob(pattern):
        run = note.parents[2]
        if json.loads(note.read_text())["step"] < 4 or (run / "train.json").exists():
            continue
        for process in psutil.process_iter(["cmdline"]):
            if {"humanline", "train", run.name} <= set(process.info["cmdline"] or ()):
                process.send_signal(signal.SIGSTOP)
                return note.parent / "checkpoint-4"
    return None


def kill_sampling(results: Path) -> list[Path]:
    """Kill a job that samples, once a run of its submission is trained: what was trained."""
    trained = list(results.glob("smoke/runs/*/*/train.json"))
    for process in psutil.process_iter(["cmdline"]) if trained else ():
        words = process.info["cmdline"] or ()
        if {"humanline", "generate", f"--results={results}"} <= set(words):
            process.kill()
            return trained
    return []


def workers(workflow: subprocess.Popen) -> list[psutil.Process]:
    """The warm workers of a workflow."""
    children = psutil.Process(workflow.pid).children(recursive=True)
    return [child for child in children if {"humanline", "worker"} <= set(child.cmdline())]


def test_smoke_scale_through_slurm(cluster, workflow, tmp_path):
    results, console = tmp_path / "results", tmp_path / "console.txt"
    with open(console, "w") as output:
        process = subprocess.Popen(
            workflow, cwd=ROOT, env=cluster, stdout=output, stderr=subprocess.STDOUT
        )
    wait_for(process, lambda: running(cluster, "train"))
    preempt(cluster)
    checkpoint = wait_for(process, lambda: freeze(results), seconds=0.005)
    saved = (checkpoint / "trainer_state.json").stat().st_mtime_ns
    assert not workers(process)  # whose child a job must not be
    assert process.wait(timeout=3600) == 0, console.read_text()
    jobs = slurm.jobs(cluster)
    print("\n".join("  ".join(job.values()) for job in jobs))

    # The job that hung was ended at its minute, came again with two, and went on from there.
    run = checkpoint.parents[2]
    attempts = [
        job for job in jobs if job["what"].endswith(f"_{run.name}") and "train" in job["what"]
    ]
    assert [(job["state"], job["limit"]) for job in attempts] == [
        ("TIMEOUT", "1:00"),
        ("COMPLETED", "2:00"),
    ]
    assert "SLURM status is: 'TIMEOUT'" in console.read_text()
    assert json.loads((run / "train.json").read_text())["steps"] == 8
    assert (checkpoint / "trainer_state.json").stat().st_mtime_ns == saved

    # A preempted job began anew under its number, and that was no attempt.
    preempted = [job for job in jobs if job["restarts"] != "0"]
    assert any(job["state"] == "COMPLETED" for job in preempted)

    # Every training had its GPU, no other job one; small jobs went together.
    assert {job["gpus"] for job in jobs if job["what"].startswith("rule_train_")} == {"gres:gpu:1"}
    assert {job["gpus"] for job in jobs if "train" not in job["what"]} == {"N/A"}
    generated = [job for job in jobs if job["what"].startswith("rule_generate_")]
    judged = [job for job in jobs if job["what"].startswith("rule_runs_")]
    assert len(judged) == math.ceil(len(generated) / 8)

    logs = {path.stem for path in (tmp_path / "slurm_logs").rglob("*.log")}
    assert {job["id"] for job in jobs if job["what"] != "(null)"} <= logs
    for table in ("instruction_following", "math_reasoning", "cost", "sweep", "claims"):
        assert (results / "smoke" / "tables" / f"{table}.csv").stat().st_size > 0


def test_a_job_with_two_gpus_trains_in_two_processes(cluster, workflow, tmp_path):
    run = tmp_path / "results" / "smoke" / "runs" / "math_reasoning" / "grpo-online-every1-s1"
    more = ["--set-resources", "train:gpu=2", "train:runtime=10", "--", run / "train.json"]
    trained = subprocess.run(
        [*workflow, *more], cwd=ROOT, env=cluster, capture_output=True, text=True
    )
    assert trained.returncode == 0, trained.stdout + trained.stderr
    (job,) = [job for job in slurm.jobs(cluster) if job["what"].startswith("rule_train_")]
    assert job["gpus"] == "gres:gpu:2"
    assert json.loads((run / "train.json").read_text())["devices"] == 2


def test_short_jobs_share_submissions(cluster, config, tmp_path):  # noqa: F811
    """A submission has one GPU and one core; it is tried again if one of its jobs fails."""
    (config / "claims.yaml").unlink()
    experiments = config / "experiments.yaml"
    write(experiments, kills.tiny(yaml.safe_load(experiments.read_text())))
    gpu = {stage: {"gpu": 1} for stage in ("train", "generate")}
    edit(config / "smoke.yaml", lambda c: c.update(resources=gpu))
    results, console = tmp_path / "results", tmp_path / "console.txt"
    with open(console, "w") as output:
        process = subprocess.Popen(
            by_profile("slurm_short", config, tmp_path),
            cwd=ROOT,
            env=cluster,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    trained = wait_for(process, lambda: kill_sampling(results), seconds=0.05)
    assert process.wait(timeout=3600) == 0, console.read_text()
    jobs = slurm.jobs(cluster)
    print("\n".join("  ".join(job.values()) for job in jobs))

    # Three runs and two base models, each sampled from and scored: 13 jobs of 15 minutes.
    attempts = [job for job in jobs if job["what"].startswith("rule_runs_")]
    assert [(job["state"], job["limit"], job["gpus"]) for job in attempts] == [
        ("FAILED", "3:15:00", "gres:gpu:1"),
        ("COMPLETED", "6:30:00", "gres:gpu:1"),
    ]
    (prepared,) = [job for job in jobs if job["what"].startswith("rule_prepare_")]
    assert prepared["gpus"] == "N/A"
    assert len(jobs) == 8
    assert trained


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "slurm").glob("*.sh")), ids=str)
def test_the_scripts_of_recipes_would_be_taken(path, cluster):
    """With the one node that there is; what the nodes start is in test_nodes."""
    options = ["--nodes=1", "--mem=1000", "--test-only"]
    run = subprocess.run(
        ["sbatch", *options, path, "recipes/dpo.yaml"],
        cwd=ROOT,
        env=cluster,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "to start at" in run.stderr and "using 32 processors" in run.stderr
