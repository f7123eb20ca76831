"""A study with one task: it resolves in all its targets, and runs, killed and in odd places."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import forked
import psutil
import pytest
import yaml

from humanline.cli.commands import main

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "workflow" / "config"
TASKS = ("instruction_following", "math_reasoning", "shared_divisors")
RUN = "grpo-online-every1-s1"
TARGETS = ("all", "tune", "explore")
# Quotes, spaces, patterns and commands, as a shell, Python and Snakemake see them.
ODD = "a folder; touch 'y' $(touch z) `touch y` \"ü\" %s \\n * ~#&"
ODD_COPY, ODD_CONFIG, ODD_ENVIRONMENT = "-a copy's é", "con fig;&'ü", "an \"env's $(touch y)"


def write_study(folder: Path, task: str) -> None:
    """A study of moments, of one task."""
    folder.mkdir(parents=True)
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    scale["tasks"] = {task: scale["tasks"][task]}
    tables = {
        "headline": {"task": task, "view": "headline", "tuned": True, "description": "One task."},
        "looked_into": {"task": task, "exploratory": True, "description": "More."},
    }
    row = {"objective": "grpo", "data": "online", "sample_every": 1}
    for table in tables.values():
        table["cells"] = [row]
    tables["looked_into"]["cells"] = [row, {"objective": "grpo", "data": "offline"}]
    experiments = yaml.safe_load((CONFIG / "experiments.yaml").read_text())
    experiments = {"defaults": experiments["defaults"], "tables": tables}
    (folder / "smoke.yaml").write_text(yaml.safe_dump(scale))
    (folder / "experiments.yaml").write_text(yaml.safe_dump(experiments))


def snakemake(*arguments, **config) -> subprocess.CompletedProcess:
    options = [f"{key}={value}" for key, value in config.items()]
    return forked.snakemake("--cores", "2", *arguments, "--config", *options)


@pytest.mark.parametrize("task", TASKS)
def test_it_resolves_in_every_target(task, tmp_path):
    write_study(tmp_path / "config", task)
    study = {"scale": "smoke", "config_directory": tmp_path / "config", "results": tmp_path / "r"}
    run = snakemake(*TARGETS, "-n", "--nolock", **study)
    assert run.returncode == 0, run.stderr
    scored = f"score_{task}"
    for rule in ("data", "train", "generate", scored, "table_headline", "table_looked_into", "map"):
        assert f"\n{rule} " in run.stdout + run.stderr, rule


def test_a_target_without_tables_is_one_line_and_no_success(tmp_path):
    write_study(tmp_path / "config", TASKS[1])
    path = tmp_path / "config" / "experiments.yaml"
    experiments = yaml.safe_load(path.read_text())
    del experiments["tables"]["looked_into"]
    path.write_text(yaml.safe_dump(experiments))
    study = {"scale": "smoke", "config_directory": tmp_path / "config", "results": tmp_path / "r"}
    run = snakemake("explore", "-n", "--nolock", **study)
    assert run.returncode != 0
    assert "tables: none is exploratory; add one, or name another target" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("task", TASKS)
def test_it_is_told_what_it_would_take_and_cost(task, tmp_path, capfd):
    from humanline.study.study import load_study

    write_study(tmp_path / "config", task)
    options = ["--scale=smoke", f"--config={tmp_path / 'config'}", f"--results={tmp_path}"]
    for command in ("check", "plan", "judge_cost"):
        assert main([command, *options]) == 0, capfd.readouterr().err
    told = capfd.readouterr().out
    cost = "its judge, gold, costs nothing" if task == TASKS[0] else "no task of it is judged"
    assert "| train " in told and cost in told
    study = load_study(tmp_path / "config/smoke.yaml", tmp_path / "config/experiments.yaml", ROOT)
    assert study.scored_by("judge") == [task] * (task == TASKS[0])


@pytest.mark.parametrize("command", [["data", "s1"], ["score", "base-s1"], ["train", "base-s1"]])
def test_a_task_that_the_scale_lacks_is_one_line(command, tmp_path, capfd):
    write_study(tmp_path / "config", "math_reasoning")
    options = ["--scale=smoke", f"--config={tmp_path / 'config'}", f"--results={tmp_path}"]
    assert main([command[0], "instruction_following", *command[1:], *options]) == 1
    error = capfd.readouterr().err
    expected = (
        "scale smoke: tasks: 'instruction_following' is unknown here; use one of math_reasoni"
    )
    assert error.startswith(f"humanline: error: {expected}") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("results", "a{b}c", "has braces"),
        ("results", "a\tb", "has a line break, a control character"),
        ("results", "a\nb", "is 'a b' to Snakemake"),
        ("results", "a #b", "is 'a' to Snakemake"),
        ("results", "a" * 250, "is too long"),
        ("results", "README.md", "is a file"),
        ("results", "README.md/a", "is a file"),
        ("results", "1", "results: 1 is no text"),
        ("scale", "../smoke", "is not the name of a scale"),
    ],
)
def test_what_cannot_be_a_path_is_one_line(key, value, expected, tmp_path):
    run = snakemake("-n", "--nolock", **({"scale": "smoke", "results": tmp_path} | {key: value}))
    assert run.returncode != 0
    lines = [line for line in run.stderr.splitlines() if line.startswith("humanline: error: ")]
    assert len(lines) == 1 and expected in lines[0], run.stderr
    assert "Traceback" not in run.stderr


class Workflow:
    """The README's command in a copy of the workflow, of which one is killed."""

    def __init__(self, folder: Path, temporary: Path):
        self.folder, self.run = folder, folder / ODD / "smoke/runs/math_reasoning"
        for name in ("Snakefile", "profiles", "workflow/rules"):
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy(source, folder / name)
        write_study(folder / ODD_CONFIG, "math_reasoning")
        # The interpreter of an environment whose folder has a space in its name.
        (folder / ODD_ENVIRONMENT).symlink_to(sys.prefix)
        self.command = [
            *(folder / ODD_ENVIRONMENT / "bin" / "python", "-m", "snakemake", "--cores", "all"),
            *("--config", "scale=smoke", f"config_directory={ODD_CONFIG}", f"results={ODD}"),
        ]
        self.environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
        self.console = folder / "console.txt"

    def start(self) -> subprocess.Popen:
        with open(self.console, "a") as output:
            return subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, workflow: subprocess.Popen, pattern: str) -> None:
        """Until a file of a run is new."""
        since, end = time.time(), time.monotonic() + 300
        while not any(path.stat().st_mtime > since for path in self.run.glob(pattern)):
            assert workflow.poll() is None and time.monotonic() < end, self.console.read_text()
            time.sleep(0.01)


@pytest.mark.slow
def test_the_readmes_command_goes_on_after_it_was_killed_whatever_the_folders_names(tmp_path):
    """With SIGKILL, of snakemake alone, to the bytes of a run that is not cut.

    See test_kills.py for other kinds, and for the bytes of all files.
    """
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as temporary:
        workflow = Workflow(tmp_path / ODD_COPY, Path(temporary))
        first = workflow.start()
        workflow.wait_for(first, f"{RUN}/checkpoints/*/progress.json")
        jobs = psutil.Process(first.pid).children(recursive=True)
        first.kill()
        first.wait()

        second = workflow.start()
        assert second.wait(timeout=900) == 0, workflow.console.read_text()
        assert not any(job.is_running() for job in jobs)
        _, still = psutil.wait_procs(jobs, timeout=10)
        assert not still and list(Path(temporary).glob("humanline-*")) == []
    table = workflow.folder / ODD / "smoke/tables/headline.csv"
    assert len(table.read_text().splitlines()) == 3
    assert not [path for path in (tmp_path / ODD_COPY).iterdir() if path.name in ("y", "z")]

    uncut = shutil.copytree(workflow.folder / ODD, tmp_path / "uncut")
    run = uncut / workflow.run.relative_to(workflow.folder / ODD) / RUN
    shutil.rmtree(run)
    options = ["--scale=smoke", f"--config={workflow.folder / ODD_CONFIG}", f"--results={uncut}"]
    assert main(["train", "math_reasoning", RUN, *options]) == 0
    model = Path("model", "model.safetensors")
    assert (run / model).read_bytes() == (workflow.run / RUN / model).read_bytes()
