"""Each walk of docs/extending.md, taken as it is written, in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from own_code import BLOCK, PAGE

from humanline.cli import WORKER

ROOT = Path(__file__).parents[2]
WALKS = [part for part in re.split(r"^(?=## )", PAGE, flags=re.M) if part.startswith("## ")]
FIRST, *OTHERS = WALKS
SHOWN = ("bash", "text", "diff")  # other blocks are files


def title(walk: str) -> str:
    return walk.splitlines()[0].removeprefix("## ")


class Reader:
    """Who does what a walk says, and nothing else."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder, self.environment, self.printed = folder, environment, ""

    def take(self, walk: str) -> None:
        for block in BLOCK.finditer(walk):
            kind, text, file = block["kind"], block["text"], block["file"]
            assert bool(file) == (kind not in SHOWN), f"{title(walk)}: a block of {kind}: {text}"
            match kind:
                case "bash":
                    self.type(text)
                case "text":
                    self.look_for(text)
                case "diff":
                    self.edit(text)
                case _:
                    self.write(file, text)

    def write(self, file: str, text: str) -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def edit(self, text: str) -> None:
        """Change the one place that a diff shows."""
        header, *lines = text.splitlines()
        path = self.folder / header.removeprefix("--- ")
        old, new = (
            "".join(f"{line[1:]}\n" for line in lines if line[0] in f" {sign}") for sign in "-+"
        )
        content = path.read_text()
        assert content.count(old) == 1 and old != new, f"{path.name} has not once:\n{old}"
        path.write_text(content.replace(old, new))

    def type(self, commands: str) -> None:
        run = subprocess.run(
            ["bash", "-ec", commands],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert run.returncode == 0, f"{commands}\n{run.stdout}"
        self.printed = run.stdout

    def look_for(self, lines: str) -> None:
        """Lines are shown in the order in which they are printed; how wide columns are is open."""
        printed = iter([" ".join(line.split()) for line in self.printed.splitlines()])
        for line in lines.splitlines():
            words = " ".join(line.split())
            assert words in printed, f"no line {words!r} in its place in\n{self.printed}"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A reader with a fresh copy of the repository, who has taken the steps before all walks.

    A worker runs the `humanline` commands, as it runs a workflow's jobs: each starts sooner so.
    `python -m humanline` asks it, which else is the command `humanline`.
    """
    folder = tmp_path_factory.mktemp("clone") / "humanline"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("results/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as temporary:
        script, socket = Path(temporary, "humanline"), Path(temporary, "socket")
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m humanline "$@"\n')
        script.chmod(0o755)
        path = os.pathsep.join([temporary, str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder), WORKER: str(socket)}
        command = [sys.executable, "-m", "humanline", "worker", socket]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=folder, env=environment)
        try:
            found = Reader(folder, environment)
            found.take(FIRST)
            yield found
        finally:
            worker.communicate()  # it ends with its standard input


@pytest.mark.slow
@pytest.mark.parametrize("walk", OTHERS, ids=title)
def test_a_walk_as_it_is_written(walk, reader):
    reader.take(walk)


def test_there_are_six_walks():
    assert [int(title(walk).split(".")[0]) for walk in OTHERS] == [1, 2, 3, 4, 5, 6]
    assert not BLOCK.findall(PAGE.partition("\n## ")[0])
