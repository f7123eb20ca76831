"""A full or read-only disk: one line, nothing lost, and the same command goes on later."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from humanline.cli.local.run_locks import only_run, require_room
from humanline.files.json_files import NotWrittenError, disk_fault, read_json, write_json
from humanline.files.validation import ConfigError
from humanline.files.weights import whole_folder

ROOT = Path(__file__).parents[2]
LINE = (
    r"^humanline: error: (\S+): cannot be written \((.+)\); make room, or let this user write "
    r"there; then the same command goes on$"
)


def mount(*arguments) -> bool:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A disk of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or not mount("-t", "tmpfs", "-o", "size=128k", "tmpfs", folder):
        pytest.skip("only Linux' root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> None:
    """Leave no room; the last bytes go one by one."""
    for size in (4096, 1):
        with open(disk / f"filler-{size}", "wb", buffering=0) as file:
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                pass


def humanline(*words) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "humanline", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("fault", ["No space left on device", "Read-only file system"])
def test_a_command_that_cannot_write_says_so_in_one_line(fault, log, disk):
    """Its log is on the same disk."""
    results = disk / "results"
    results.mkdir()
    if fault == "No space left on device":
        fill(disk)
    else:
        assert mount("-o", "remount,ro", disk)
    words = ["data", "instruction_following", "s1", "--scale=smoke", f"--results={results}"]
    words += [f"--log={results}/logs/data.log"] if log else []
    run = humanline(*words)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    lines = re.findall(LINE, run.stderr, flags=re.M)
    assert len(lines) == 1 and lines[0][1] == fault, run.stderr
    assert lines[0][0].startswith(f"{results}/")
    assert mount("-o", "remount,rw,size=1m", disk)
    again = humanline(*words)
    assert again.returncode == 0, again.stderr
    assert not [path for path in results.rglob("*") if path.suffix == ".tmp"]


@pytest.mark.parametrize("fault", ["No space left on device", "Read-only file system"])
def test_snakemakes_own_folder_is_tried_before_it_is_needed(fault, disk):
    require_room(disk)
    assert [*disk.iterdir()] == []
    if fault == "No space left on device":
        fill(disk)
    else:
        assert mount("-o", "remount,ro", disk)
    with pytest.raises(ConfigError, match=rf"disk: cannot be written \({fault}\); make room"):
        require_room(disk)
    if fault == "No space left on device":
        with pytest.raises(ConfigError, match="cannot be written"), only_run(disk):
            pass


def test_a_file_that_does_not_fit_leaves_the_old_one(disk):
    write_json(disk / "record.json", {"a": 1})
    with pytest.raises(NotWrittenError) as error:
        write_json(disk / "record.json", {"a": "x" * 200_000})
    assert str(disk_fault(error.value)).startswith(f"{disk / 'record.json'}: cannot be written (No")
    assert read_json(disk / "record.json") == {"a": 1}
    assert [path.name for path in disk.iterdir()] == ["record.json"]


def test_a_model_that_does_not_fit_leaves_the_old_one(disk, model):
    (disk / "model").mkdir()
    (disk / "model" / "config.json").write_text("{}")
    fill(disk)
    with pytest.raises(NotWrittenError) as error, whole_folder(disk / "model") as folder:
        model.save_pretrained(folder)
    assert str(disk_fault(error.value)).startswith(f"{disk / 'model'}: cannot be written (")
    assert [path.name for path in (disk / "model").iterdir()] == ["config.json"]
    assert not (disk / ".model.incomplete").exists()


def test_a_folder_takes_the_place_of_the_old_one_when_it_is_whole(tmp_path):
    for word in ("first", "second"):
        with pytest.raises(KeyError), whole_folder(tmp_path / "model") as folder:
            (folder / "half").write_text("half")
            raise KeyError
        with whole_folder(tmp_path / "model") as folder:
            (folder / word).write_text(word)
            assert not (tmp_path / "model" / word).exists()
        assert [path.name for path in (tmp_path / "model").iterdir()] == [word]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(2, "No such file", "x"), None),
        (PermissionError(13, "Permission denied", "read.json"), None),  # of reading, perhaps
        (ValueError("a number"), None),
        (OSError(28, "No space left on device", "b"), "b: cannot be written (No space left"),
        (OSError(28, "No space left on device"), "a file: cannot be written (No space left"),
        (RuntimeError("PytorchStreamWriter failed: file write failed"), "a file of a model: "),
        (Exception("No space left on device (os error 28)"), "a file of a model: cannot be wr"),
        (
            OSError("c/checkpoint-4 could not be written (No space left on device); make"),
            "c/checkpoint-4",
        ),
    ],
)
def test_errors_that_mean_a_full_disk(error, line):
    fault = disk_fault(error)
    assert fault is None if line is None else str(fault).startswith(line)
