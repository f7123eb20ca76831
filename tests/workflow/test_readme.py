"""Every command and the code of the README work as they stand."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def commands() -> list[str]:
    lines = [line.split("  #")[0] for block in blocks("bash") for line in block.splitlines()]
    return [part.strip() for line in lines for part in line.split("&&")]


def test_ci_finds_the_readmes_test_command():
    lines = [line for line in README.splitlines() if "/pytest" in line]
    install, run = lines[0].split(" && ")
    assert install == ".venv/bin/pip install -e '.[test]'" and run.startswith(".venv/bin/pytest -n")
    assert "grep -m 1 -F -- '/pytest' README.md" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("command", [c for c in commands() if "/snakemake" in c])
def test_snakemake_commands_plan_something(command, tmp_path):
    arguments = shlex.split(command)[1:]
    if "--config" not in arguments:
        arguments += ["--config"]
    arguments += [f"results={tmp_path}"]
    plan = subprocess.run(
        [BIN / "snakemake", *arguments, "-n", "--nolock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert plan.returncode == 0, plan.stderr
    assert "Job stats:" in plan.stdout + plan.stderr


@pytest.mark.parametrize("command", [c for c in commands() if "/humanline" in c])
def test_humanline_commands_name_a_real_run(command):
    from humanline.cli import _parser
    from humanline.study import load_study

    arguments = _parser().parse_args(shlex.split(command)[1:])
    config = ROOT / "workflow" / "config"
    study = load_study(
        config / f"{arguments.scale}.yaml", config / "experiments.yaml", arguments.results
    )
    assert study.find(arguments.task, arguments.run_name)


def test_the_python_example_trains(model, tokenizer, groups, tmp_path, monkeypatch):
    from datasets import Dataset

    from humanline.data.preferences import pairs

    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    names = {"model": model, "tokenizer": tokenizer, "dataset": Dataset.from_list(pairs(groups, 0))}
    exec(example.replace('output_dir="out",', 'output_dir="out", bf16=False,'), names)
    assert names["trainer"].state.global_step == 2


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http") and "learning_rates" not in target:
            assert (ROOT / target).exists(), target
