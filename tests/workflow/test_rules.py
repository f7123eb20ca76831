"""What the text of the rules promises: names, logs, and imports that every job repeats."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from humanline.cli.parser import COMMANDS
from humanline.study.scale.scale import load_scale
from humanline.study.tasks import score_rule
from humanline.study.values import Stage

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "workflow" / "config"
PROFILES = sorted((ROOT / "workflow" / "profiles").glob("*/profile.yaml"))
FILES = [ROOT / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))]


def rules() -> dict[str, str]:
    """The text of every rule, by its name; of a name that is made, by how it begins."""
    found = {}
    for path in FILES:
        for text in re.split(r"^ *rule\b", path.read_text(), flags=re.M)[1:]:
            name = re.match(r" (\w+):", text) or re.search(r'\bname:\s+(?:f")?(\w+)', text)
            found[name[1]] = found.get(name[1], "") + text  # two rules may begin alike
    return found


RULES = rules()
COMMAND_OF = {
    rule: command
    for rule, text in RULES.items()
    for command in re.findall(r'\bcommand\(\s*"([\w-]+)', text)
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_run_by_a_rule_or_told_in_the_docs(command):
    """Else nobody finds it. Its name is told as it is typed, with its program."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    prose = " ".join(path.read_text() for path in pages)
    assert command.name in COMMAND_OF.values() or f"humanline {command.name}" in prose


def test_a_rule_has_the_name_of_its_command():
    """One word in rule, command and function; `table_<name>` runs `table`, `score_<task>` score."""
    assert len(COMMAND_OF) > 15
    for rule, command in COMMAND_OF.items():
        assert rule == command or rule.startswith(f"{command}_"), f"{rule} runs {command}"


def test_a_rule_writes_its_log_where_its_name_says():
    for rule, text in RULES.items():
        for folder in re.findall(r"/(?:logs|benchmarks)/([\w{}]+)", text):
            assert rule.startswith(folder), f"{rule}: {folder}"


def test_what_a_scale_gives_resources_to_are_commands():
    assert set(get_args(Stage)) <= {command.name for command in COMMANDS}


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.parent.name)
def test_a_profile_names_rules(profile):
    """Snakemake takes any name, and a wrong one has no effect."""
    options = yaml.safe_load(profile.read_text())
    named = {*options.get("groups", {}), *options.get("set-resources", {})}
    scoring = {score_rule(task) for task in load_scale(CONFIG / "laptop.yaml").tasks}
    assert named <= RULES.keys() | scoring
    groups = {
        *options.get("groups", {}).values(),
        *re.findall(r'group:\s+"(\w+)"', " ".join(RULES.values())),
    }
    assert options.get("group-components", {}).keys() <= groups


def test_what_every_job_imports_is_cheap():
    """Each job of a cluster reads the Snakefile again, so only the study and files are imported."""
    found = [
        line
        for path in FILES
        for line in path.read_text().splitlines()
        if re.match(r"(from|import) .*humanline", line)
    ]
    assert found and all(re.match(r"from humanline\.(study|files)\.", line) for line in found)
