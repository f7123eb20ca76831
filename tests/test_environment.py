"""Files that name the same versions must agree."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_env_yml_installs_what_the_readme_installs():
    environment = yaml.safe_load((ROOT / "env.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == [
        "--editable .[suite]"
    ]  # as the README's first command: the pins stand in one place
    assert "python=3.11" in environment["dependencies"]


def test_the_readme_tells_the_pythons_that_the_project_takes():
    first, beyond = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    said = f"Python 3.{first} to 3.{int(beyond) - 1};"
    assert said in (ROOT / "README.md").read_text()


def test_pre_commit_and_pyproject_pin_the_same_linters():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    lint = PROJECT["optional-dependencies"]["lint"]
    pinned = dict(line.split("==") for line in lint if "==" in line)
    versions = {repo["repo"].rsplit("/", 1)[-1]: repo["rev"].lstrip("v") for repo in hooks}
    assert versions["ruff-pre-commit"] == pinned["ruff"]
    assert versions["snakefmt"] == pinned["snakefmt"]
    assert versions["codespell"] == pinned["codespell"]
