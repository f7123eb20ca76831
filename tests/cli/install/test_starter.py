"""`humanline init`: a workflow of one's own, of this clone's files."""

import os
from pathlib import Path

import pytest

from humanline.cli.commands import main
from humanline.cli.install import starter

ROOT = Path(__file__).parents[3]


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_init_writes_the_workflow_as_it_is(tmp_path, capfd):
    folder = tmp_path / "a" / "study"
    assert main(["init", str(folder)]) == 0
    assert "README.md says how to run it" in capfd.readouterr().out
    files = written(folder)
    assert {"Snakefile", "README.md", ".gitignore", "workflow/config/laptop.yaml"} <= files
    assert {"profiles/default/profile.yaml", "recipes/accelerate/fsdp2.yaml"} <= files
    for name in files - {"README.md", ".gitignore"}:
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()
    assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]


def test_init_fills_the_empty_folder_in_which_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = os.stat(tmp_path).st_ino
    assert main(["init", "."]) == 0
    assert os.stat(tmp_path).st_ino == before and (tmp_path / "Snakefile").exists()
    assert main(["check", "--scale", "smoke"]) == 0


def test_init_fills_a_folder_that_has_a_repository_and_an_environment(tmp_path):
    for name in (".git", ".venv"):
        (tmp_path / name).mkdir()
    (tmp_path / ".gitignore").write_text("mine")
    assert main(["init", str(tmp_path)]) == 0
    assert (tmp_path / "Snakefile").exists() and (tmp_path / ".gitignore").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir() if path.name[0] == "."} == {
        ".git", ".venv", ".gitignore",
    }  # fmt: skip


@pytest.mark.parametrize("what", ["has files", "is a file"])
def test_init_refuses_a_folder_that_is_in_use(what, tmp_path, capfd):
    place = tmp_path / "x"
    if what == "is a file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine").touch()
    assert main(["init", str(place)]) == 1
    assert capfd.readouterr().err == (
        f"humanline: error: {place}: it {what}; name a folder that is new or empty\n"
    )
    assert place.read_text() == "mine" if place.is_file() else written(place) == {"mine"}


def test_a_package_without_the_workflow_says_so(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(starter, "PACKAGE", tmp_path / "humanline")
    assert main(["init", str(tmp_path / "new")]) == 1
    assert "install the package again, or clone https" in capfd.readouterr().err
    assert not (tmp_path / "new").exists()


def test_nothing_is_left_of_what_could_not_be_written(tmp_path, monkeypatch, capfd):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "new" / "Snakefile"))

    monkeypatch.setattr(starter.shutil, "copyfile", full)
    assert main(["init", str(tmp_path / "new")]) == 1
    assert capfd.readouterr().err.count("\n") == 1
    assert not list((tmp_path / "new").iterdir())
