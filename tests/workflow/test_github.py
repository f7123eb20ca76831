"""The workflows of GitHub call scripts of this repository, and nothing of their own."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What a step may run: a script of .ci with arguments: words, variables, values of the job's matrix.
WORD = r"[\w./*-]+|\"\$\{?\w+\}?\"|\$\{\{ matrix\.\w+ \}\}"
CALL = re.compile(rf"(?:bash )?(\.ci/\w+)(?: (?:{WORD}))*")


def steps(path: Path) -> list[dict]:
    jobs = yaml.safe_load(path.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_the_workflows_are_there():
    names = {path.stem for path in WORKFLOWS}
    assert {"ci", "newest", "release", "site"} <= names


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_steps_call_scripts_that_exist(path):
    found = [step["run"] for step in steps(path) if "run" in step]
    assert found
    for command in found:
        called = CALL.fullmatch(command)
        assert called, command
        assert (ROOT / called[1]).is_file(), command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_with_their_version(path):
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} {2}# v\d+(\.\d+)+", action), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_jobs_may_write_only_where_they_must(path):
    """Whoever reads is the default; a job that publishes asks for what it needs, and no more."""
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    asked = {
        f"{name}: {right}": job.get("permissions", {})[right]
        for name, job in workflow["jobs"].items()
        for right in job.get("permissions", {})
        if job["permissions"][right] == "write"
    }
    allowed = {
        "release": {"pypi: id-token", "github: contents"},
        "site": {"publish: pages", "publish: id-token"},
    }
    assert set(asked) == allowed.get(path.stem, set())


def test_ci_tries_the_oldest_and_the_newest_python_on_two_systems():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    matrix = workflow["jobs"]["run"]["strategy"]["matrix"]
    oldest, newest = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    assert matrix["python"] == [f"3.{oldest}", f"3.{int(newest) - 1}"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos"}


def test_the_site_the_badges_and_the_project_name_one_repository():
    site = (ROOT / "mkdocs.yml").read_text()
    (address,) = re.findall(r"^  repository: (https://github\.com/\w+/\w+)$", site, flags=re.M)
    assert f"link: {address}}}" in site
    badges = re.findall(r"^\[!\[.*", (ROOT / "README.md").read_text(), flags=re.M)
    assert len(badges) >= 5
    for badge in badges:  # PyPI shows them, too
        assert re.findall(r"\((?!https://)", badge) == []
        assert re.findall(r"github\.com/\w+/\w+", badge) in ([], 2 * [address[8:]], [address[8:]])
        for named in re.findall(r"workflows/(\w+\.yml)", badge):
            assert (ROOT / ".github" / "workflows" / named).exists()
    urls = PROJECT["project"].get("urls", {}).values()
    assert [url for url in urls if "github.com" in url and not url.startswith(address)] == []


NOTES = ROOT / ".ci" / "notes"


@pytest.fixture
def release(tmp_path):
    """Writes a project with a changelog and asks for a tag's notes."""

    def notes(tag: str, changelog: str, version: str = "1.2.0") -> subprocess.CompletedProcess:
        folder = tmp_path / ".ci"
        folder.mkdir()
        shutil.copy(NOTES, folder)
        (tmp_path / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
        (tmp_path / "CHANGELOG.md").write_text(changelog)
        command = [sys.executable, folder / "notes", *tag.split()]
        return subprocess.run(command, capture_output=True, text=True)

    return notes


def test_notes_of_a_release_are_its_section(release):
    run = release(
        "v1.2.0",
        "# Changelog\n\n## [1.2.0] - 2026-11-27\n\n- New.\n\n## [1.1.0] - 2026\n\n- Old.\n",
    )
    assert (run.returncode, run.stdout) == (0, "- New.\n")


@pytest.mark.parametrize(
    ("tag", "changelog", "said"),
    [
        ("v1.3.0", "## [1.2.0] - 2026-11-27\n- New.\n", "the tag must be v1.2.0; got v1.3.0"),
        ("", "", "the tag must be v1.2.0"),
        ("v1.2.0", "## [1.1.0] - 2026-11-27\n- Old.\n", "no section [1.2.0]; add it"),
        ("v1.2.0", "## [1.2.0] - unreleased\n- New.\n", "no date; write ## [1.2.0] - YYYY-MM-DD"),
        ("v1.2.0", "## [1.2.0] - 2026-11-27\n\n## [1.1.0] - 2026-01-01\n- Old.\n", "empty"),
    ],
)
def test_a_tag_without_notes_is_refused_in_one_line(tag, changelog, said, release):
    run = release(tag, changelog)
    assert run.returncode == 1 and run.stdout == ""
    assert said in run.stderr and run.stderr.count("\n") == 1
