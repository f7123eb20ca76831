"""Every command in the pages beside the README, and in the comments of files that have some.

Of snakemake's each is run with `-n`, as it stands. What needs a cluster's plugin is run without it,
and what installs, fetches or trains has its words checked: extras, files, markers and options.
"""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import forked
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("docs/*.md", "*.md", "results/*.md", "benchmarks/*.md", "recipes/*.md")
    for path in ROOT.glob(pattern)
    if path.name not in ("README.md", "CHANGELOG.md") or path.parent != ROOT
    if path.name != "extending.md"  # whose commands test_extending runs
)
COMMENTED = [ROOT / "Snakefile", *sorted((ROOT / "workflow" / "profiles").rglob("*.yaml"))]
PROGRAMS = "snakemake|humanline|pip|python3?|pytest|bash|git|accelerate|sbatch"
COMMAND = re.compile(rf"(?:\.venv/bin/)?(?:{PROGRAMS}) .*")
KNOWN = {"accelerate", "pip", "python", "python3", "pytest", "bash", "git", "sbatch"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def commands_of(path: Path) -> list[str]:
    text = path.read_text()
    if path in COMMENTED:
        lines = re.findall(r"^# +(.*)$", text, flags=re.M)
    else:
        lines = "\n".join(re.findall(r"```\w*\n(.*?)```", text, flags=re.S)).splitlines()
        text = re.sub(r"```.*?```", "", text, flags=re.S)
        lines += re.findall(r"^ {4}(.*)$", text, flags=re.M)
        lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    parts = [part.strip() for line in lines for part in re.split(r" && |  +#|  ", line)]
    return [part for part in parts if COMMAND.fullmatch(part) and "..." not in part]


FOUND = sorted({command for path in (*PAGES, *COMMENTED) for command in commands_of(path)})
OF_SNAKEMAKE = [command for command in FOUND if " " in command and "snakemake " in command]


def test_commands_are_found():
    assert len(OF_SNAKEMAKE) > 12
    for said in ("snakemake plan --config scale=paper", "humanline prefetch --scale paper"):
        assert said in FOUND


@pytest.fixture(scope="session")
def targets() -> set[str]:
    run = forked.snakemake("--list-rules", "--nolock")
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def without_plugin(words: list[str], folder: Path) -> list[str]:
    """The same, with a profile that does not name the executor, which may not be installed."""
    if "--workflow-profile" not in words:
        return words
    place = words.index("--workflow-profile") + 1
    profile = yaml.safe_load((ROOT / words[place] / "profile.yaml").read_text())
    assert profile.pop("executor") == "slurm"
    profile = {key: value for key, value in profile.items() if not key.startswith("slurm-")}
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    return [*words[:place], str(folder), *words[place + 1 :]]


@pytest.mark.parametrize("command", OF_SNAKEMAKE)
def test_snakemakes_options_and_targets_exist(command, targets, tmp_path):
    from snakemake.cli import parse_args, parse_config

    _, arguments = parse_args(without_plugin(shlex.split(command)[1:], tmp_path))
    assert set(arguments.targets or ()) <= targets
    keys = {"scale", "config_directory", "results", "minutes"}
    assert set(parse_config(arguments.config)) <= keys


@pytest.mark.parametrize(
    "command",
    # Others resolve as the defaults, `tune` and whole scales do, which test_dag tries.
    sorted(
        {
            command
            for path in PAGES
            for command in commands_of(path)
            if re.search(r"snakemake .*(explore|plan|prefetch|_cost|table_|--omit)", command)
        }
    ),
)
def test_snakemakes_commands_plan_something(command, tmp_path):
    words = without_plugin(shlex.split(command)[1:], tmp_path)
    option = "--software-deployment-method"
    if option in words and not shutil.which("apptainer"):  # which Snakemake asks for its version
        place = words.index(option)
        assert words[place + 1] == "apptainer"
        del words[place : place + 2]
    if "--config" not in words:
        words.append("--config")
    place = words.index("--config") + 1
    words.insert(place, f"results={tmp_path / 'results'}")
    run = forked.snakemake("-n", "-q", "rules", "--nolock", *words)
    assert run.returncode == 0, run.stderr
    assert "Job stats:" in run.stdout + run.stderr


@pytest.mark.parametrize("command", [c for c in FOUND if "snakemake " not in c])
def test_other_commands_have_words_that_exist(command):
    program, *words = shlex.split(command)
    name = program.rsplit("/")[-1]
    if name == "humanline":
        from humanline.cli.parser import parser
        from humanline.study.study import load_study

        (commands,) = [action.choices for action in parser()._actions if action.choices]
        if len(words) == 1:  # the name alone, in a sentence
            assert words[0] in commands or words[0] == "--help"
            return
        arguments = parser().parse_args(words)
        if "scale" in arguments:
            config = ROOT / "workflow/config"
            load_study(config / f"{arguments.scale}.yaml", config / "experiments.yaml", ROOT)
        return
    assert name in KNOWN
    optional = PROJECT["project"]["optional-dependencies"]
    markers = [
        marker.split(":")[0] for marker in PROJECT["tool"]["pytest"]["ini_options"]["markers"]
    ]
    for before, word in zip([None, *words], words, strict=False):
        if extras := re.fullmatch(r"\.\[(.*)\]", word):
            assert set(extras[1].split(",")) <= set(optional)
        elif before == "-r" or (name != "git" and "/" in word):
            assert (ROOT / word).exists(), command
        elif name == "pytest" and before == "-m":
            assert word.removeprefix("not ") in markers
