"""Every command and the code of the README work as they stand."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "recipes" / "dpo.yaml"
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


def test_snakemake_is_installed():
    run = subprocess.run([BIN / "snakemake", "--version"], capture_output=True, text=True)
    assert run.stdout.startswith("9.")


@pytest.mark.parametrize("command", [c for c in commands() if "/snakemake" in c])
def test_snakemake_commands_plan_something(command, tmp_path):
    arguments = shlex.split(command)[1:]
    if "--config" not in arguments:
        arguments += ["--config"]
    plan = forked.snakemake(*arguments, f"results={tmp_path}", "-n", "--nolock")
    assert plan.returncode == 0, plan.stderr
    assert "Job stats:" in plan.stdout + plan.stderr


@pytest.mark.parametrize("command", [c for c in commands() if "/humanline" in c])
def test_humanline_commands_name_a_real_run(command, tmp_path):
    from humanline.cli.commands import main
    from humanline.cli.parser import parser
    from humanline.study.study import load_study

    arguments = parser().parse_args(shlex.split(command)[1:])
    if arguments.command.name == "compare":  # whoever has the shipped numbers agrees with them
        folders = [ROOT / "results" / "reference" / Path(arguments.a).name, "--output", tmp_path]
        assert main(["compare", *map(str, folders)]) == 0
        return
    config = ROOT / "workflow" / "config"
    study = load_study(
        config / f"{arguments.scale}.yaml", config / "experiments.yaml", arguments.results
    )
    assert study.find(arguments.task, arguments.run_name)


@pytest.fixture
def reader(tmp_path, monkeypatch, model_folder, groups, hub_cache):
    """A reader with an empty folder, whose cache of the hub has what the examples name.

    The repositories hold a tiny model and a few pairs. Returns the folder.
    """
    import datasets

    from humanline.trainers.rows.preferences import pairs

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    rows = datasets.Dataset.from_list(pairs(groups[:8], 0))
    rows.to_parquet(tmp_path / "pairs" / "data" / "train-00000-of-00001.parquet")
    for recipe in (yaml.safe_load(text) for text in (*blocks("yaml"), SHIPPED.read_text())):
        revision = recipe.get("model_revision", "b2" * 20)
        hub_cache(model_folder, recipe["model_name_or_path"], revision)
        hub_cache(tmp_path / "pairs", recipe["dataset_name"], "a1" * 20, "dataset")
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def is_trained(model_folder: Path, folder: Path) -> bool:
    before, after = (load_file(f / "model.safetensors") for f in (model_folder, folder))
    return any((before[name] != after[name]).any() for name in before)


def test_the_python_example_trains(model, tokenizer, groups, tmp_path, monkeypatch):
    """To the letter, with or without a GPU; its readers bring model, tokenizer and dataset."""
    from datasets import Dataset

    from humanline.trainers.rows.preferences import pairs

    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    names = {"model": model, "tokenizer": tokenizer, "dataset": Dataset.from_list(pairs(groups, 0))}
    exec(example, names)
    assert names["trainer"].state.global_step == 2


def test_the_recipe_trains(reader, model_folder):
    """The file as it is printed, by the command that is printed below it."""
    from humanline.cli.commands import main

    (recipe,) = blocks("yaml")
    (command,) = [c for c in commands() if c.startswith("humanline recipe")]
    program, *arguments = shlex.split(command)
    assert program == "humanline"
    (reader / "my.yaml").write_text(recipe)
    assert main(arguments) == 0
    adapter = load_file(reader / "out" / "adapter_model.safetensors")
    assert any((tensor != 0).any() for name, tensor in adapter.items() if "lora_B" in name)
    assert json.loads((reader / "out" / "adapter_config.json").read_text())["r"] == 16


def test_the_line_for_several_gpus(reader, model_folder):
    """Accelerate takes its options; the recipe behind it trains, here on a CPU in one process.

    Two processes with weights sharded as in this configuration train in test_launch.
    """
    from accelerate.commands.launch import launch_command_parser

    from humanline.cli.commands import main

    (command,) = [c for c in commands() if c.startswith("accelerate launch")]
    arguments = launch_command_parser().parse_args(shlex.split(command)[2:])
    assert (ROOT / arguments.config_file).exists()
    assert arguments.module and arguments.training_script == "humanline"
    subcommand, recipe, *options = arguments.training_script_args
    on_a_cpu = ["--use_cpu", "true", "--max_steps", "1", "--warmup_steps", "0"]
    assert main([subcommand, str(ROOT / recipe), *options, *on_a_cpu]) == 0
    output = yaml.safe_load((ROOT / recipe).read_text())["output_dir"]
    assert is_trained(model_folder, reader / output)


def test_other_python_or_yaml_of_the_docs_has_a_test():
    """A block that nothing runs is a block that nobody has seen work."""
    tested = {
        "docs/paper-scale.md: yaml",  # the judge's options, below
        "docs/scales.md: yaml",  # test_plan
        *("docs/extending.md: python", "docs/extending.md: yaml"),  # test_extending
        # test_trainer_pages
        *("docs/dpo.md: python", "docs/kto.md: python", "docs/grpo.md: python"),
    }
    found = {
        f"{page.relative_to(ROOT)}: {language}"
        for page in [*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"]
        for language in re.findall(r"^```(python|yaml)$", page.read_text(), flags=re.M)
    }
    assert found == tested


def test_the_judges_options_are_valid():
    from humanline.files.validation import validate
    from humanline.study.scale.judges import OpenAIJudge

    page = (ROOT / "docs" / "paper-scale.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.S)
    judge = validate(OpenAIJudge, yaml.safe_load(block)["judge"], "docs/paper-scale.md")
    assert judge.model in judge.prices


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http") and "learning_rates" not in target:
            assert (ROOT / target).exists(), target
