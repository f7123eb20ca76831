"""The wheel, unpacked and used in an empty folder: it holds what its commands need."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from humanline.cli.install.starter import REFERENCES
from humanline.files.code_hashes import code_hash
from humanline.files.seals import seal_of

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
STATE = (
    "import json; from humanline.files.provenance import git_state; print(json.dumps(git_state()))"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason="pip install '.[lint]'")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """What `pip install` would put beside other packages; it has the list of its files, too."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(folder)
    return folder


@pytest.fixture
def run(installed, tmp_path):
    def call(*words: str, status: int = 0) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        return done

    return call


def test_the_wheel_has_all_files_of_the_package_and_the_workflow(installed):
    def files(folder: Path, *below: str) -> set[str]:
        found = (path for name in below for path in (folder / name).rglob("*") if path.is_file())
        names = {str(path.relative_to(folder)) for path in found if "__pycache__" not in path.parts}
        return {name for name in names if not name.startswith("humanline/starter/")}

    assert files(installed, "humanline") == files(ROOT, "humanline")
    below = ("workflow", "profiles", "recipes", *REFERENCES)
    assert files(installed / "humanline" / "starter", *below) == files(ROOT, *below)
    assert not (installed / "tests").exists()


def test_the_metadata_describe_the_project_and_link_to_it(installed):
    (place,) = installed.glob("*.dist-info/METADATA")
    head, _, readme = place.read_text().partition("\n\n")
    assert f"Version: {VERSION}" in head and "Author: " in head and "Keywords: " in head
    for label in ("Homepage", "Documentation", "Source", "Changelog", "Issues"):
        assert f"Project-URL: {label}, https://" in head
    assert "Classifier: Programming Language :: Python :: 3.14" in head
    assert not re.findall(r"\]\((?!https?://|#)[^)]*\)", readme)
    assert "](https://raw.githubusercontent.com/humanline/humanline/main/docs/page.png)" in readme


def test_the_version_is_the_same_everywhere(installed, run):
    said = run("-c", "import humanline; print(humanline.__version__)").stdout.strip()
    assert said == VERSION
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == VERSION
    released = citation["date-released"].isoformat()
    assert f"\n## [{VERSION}] - {released}\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    "path",
    [".pre-commit-config.yaml", "CITATION.cff", "env.yml", "mkdocs.yml", "recipes", ".github"],
)
def test_yaml_that_only_other_programs_read_is_yaml(path):
    found = [ROOT / path, *(ROOT / path).rglob("*.y*ml")]
    read = [yaml.compose(file.read_text()) for file in found if file.is_file()]
    assert read and None not in read


@pytest.mark.parametrize("command", ["train", "score", "report"])
def test_code_has_the_same_hash_in_a_wheel(command, installed):
    """Else a study would start again when humanline is installed in another way."""
    assert code_hash(command, package=installed / "humanline") == code_hash(command)


def test_an_installed_package_is_told_by_its_version_and_changes_to_it_are_seen(installed, run):
    def state() -> dict:
        return json.loads(run("-c", STATE).stdout)

    assert state() == {"commit": None, "modified": False, "version": VERSION}
    changed = installed / "humanline" / "rewards.py"
    before = changed.read_bytes()
    changed.write_bytes(before + b"# mine\n")
    try:
        assert state() == {"commit": None, "modified": True, "version": VERSION}
    finally:
        changed.write_bytes(before)


def test_the_commit_of_a_users_own_repository_is_not_taken_for_ours(installed, run):
    subprocess.run(["git", "init", "-q", str(installed)], check=True)
    assert json.loads(run("-c", STATE).stdout)["commit"] is None


def test_a_workflow_of_a_wheel_plans_and_runs(run, tmp_path):
    run("-m", "humanline", "init", ".")
    assert "all numbers are equal" in run("-m", "humanline", "compare", *REFERENCES[:1]).stdout
    snakemake = ("-m", "snakemake", "--cores", "1", "--config", "scale=smoke")
    planned = run(*snakemake, "-n", "table_first_taste")
    assert "Job stats:" in planned.stdout + planned.stderr
    prompts = "results/smoke/data/math_reasoning/s1/evaluation.jsonl"
    run(*snakemake, "--", prompts)
    seal = json.loads(seal_of(tmp_path / prompts).read_text())
    assert seal["made"]["git"] == {"commit": None, "modified": False, "version": VERSION}
