import json
import resource
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from humanline.files import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A source tree of our own: `provenance` believes that it lies there."""
    tree = tmp_path / "tree"
    (tree / "humanline" / "files").mkdir(parents=True)
    file = tree / "humanline" / "files" / "provenance.py"
    file.write_text("x = 1\n")
    monkeypatch.setattr(provenance, "__file__", str(file))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return tree


def git(tree: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    command = ["git", "-C", str(tree), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(checkout):
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    git(checkout, "init", "-q")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "-m", "first")
    return checkout


def test_describe_says_code_versions_and_machine():
    content = provenance.describe()
    assert content.keys() == {"git", "packages", "machine"}
    assert content["git"].keys() == {"commit", "modified"}
    expected = {"platform", "python", "processor", "cores"}
    assert content["machine"].keys() - {"accelerator"} == expected  # a GPU's name, if there is one
    assert content["machine"]["cores"] >= 1
    assert json.loads(json.dumps(content)) == content


def test_versions_are_the_installed_ones():
    packages = provenance.describe()["packages"]
    assert packages == {name: version(name) for name in provenance.PACKAGES}
    assert {"humanline", "torch", "transformers", "trl", "math-verify"} <= packages.keys()


def test_a_clean_tree(repository):
    commit = git(repository, "rev-parse", "HEAD")
    assert provenance.git_state() == {"commit": commit, "modified": False}


def test_a_changed_file_is_noticed(repository):
    (repository / "humanline" / "files" / "provenance.py").write_text("x = 2\n")
    assert provenance.git_state()["modified"] is True


def test_files_git_does_not_know_are_no_change(repository):
    (repository / "notes.txt").write_text("mine")
    assert provenance.git_state()["modified"] is False


def test_outside_git_the_commit_is_unknown(checkout):
    assert provenance.git_state() == {"commit": None, "modified": None}
    assert provenance.describe()["git"] == {"commit": None, "modified": None}


def test_without_git_the_commit_is_unknown(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    assert provenance.git_state() == {"commit": None, "modified": None}


def test_the_working_directory_does_not_matter(repository, tmp_path, monkeypatch):
    before = provenance.git_state()
    monkeypatch.chdir(tmp_path)
    assert provenance.git_state() == before


def test_a_machine_without_proc_is_described(monkeypatch):
    def fail(self, *args, **kwargs):
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", fail)
    assert isinstance(provenance.describe()["machine"]["processor"], str)


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes(platform, unit, monkeypatch):
    """The system counts KiB on Linux, bytes on macOS."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    monkeypatch.setattr(resource, "getrusage", lambda _: usage)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert provenance.peak_memory() == unit * usage.ru_maxrss


def test_a_table_tells_runs_that_other_versions_made(tmp_path):
    from humanline.files.json_files import write_json
    from humanline.report.tables import _run_record

    packages = provenance.packages() | {"trl": "0.1"}
    record = {
        "manifest": {"learning_rate": 1},
        "seconds": {"total": 1},
        "provenance": {"git": {}, "packages": packages},
    }
    write_json(tmp_path / "train.json", record)
    assert _run_record(tmp_path / "train.json", provenance.packages())["other_packages"] == {
        "trl": "0.1"
    }
