"""Jobs in Apptainer's container: interpreter and packages are the image's, the code is ours.

Apptainer passes the environment on, and the abstract sockets of this machine. So a job would look
for this process's interpreter, and would hand its command to this process's worker, outside.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from humanline.cli import WORKER
from humanline.files.validation import ConfigError

IMAGE = Path("container", "humanline.sif")  # where `container/build` writes it
PROJECT = "/opt/humanline"  # in the image, where its packages find the project
_INSIDE = {"HUMANLINE_PYTHON": "python3", WORKER: ""}


def enter(folders: Iterable[Path]) -> None:
    """Change this process's environment so that its jobs run in the container.

    The image's copy of the project is covered by ours, so that the code that runs is the code whose
    hash decides what is made again.

    Args:
        folders: what jobs read or write; those outside the working folder are mounted.

    Raises:
        ConfigError: if Apptainer cannot mount one of these folders, by its name.
    """
    here = _require_name(Path.cwd())
    mounted = [folder.absolute() for folder in folders if not _is_below(folder, here)]
    binds = [*_code(), *(f"{folder}:{folder}" for folder in map(_require_name, mounted))]
    prefix = "APPTAINER" if shutil.which("apptainer") else "SINGULARITY"  # as Snakemake chooses
    for name, value in _INSIDE.items():
        os.environ[f"{prefix}ENV_{name}"] = value
    # A job on a cluster reads the Snakefile again, with this variable set.
    before = [bind for bind in os.environ.get(f"{prefix}_BIND", "").split(",") if bind]
    os.environ[f"{prefix}_BIND"] = ",".join(dict.fromkeys([*before, *binds]))


def image(root: Path) -> str:
    """Name the image, relative to the working folder.

    Args:
        root: the folder of the Snakefile.

    Raises:
        ConfigError: if the name has characters that Snakemake does not quote.
    """
    name = os.path.relpath(root / IMAGE)
    if not re.fullmatch(r"[\w./+@=-]+", name):
        raise ConfigError(
            f"{name}: this name of the container's image cannot be in Snakemake's commands; run "
            "snakemake in the folder of the Snakefile"
        )
    return name


def require(name: str, folders: Iterable[Path]) -> None:
    """Check that the image is there, and make the folders that are mounted.

    Raises:
        ConfigError: if it is not there.
    """
    if not Path(name).exists():
        raise ConfigError(
            f"{name}: no such image; make it by `bash container/build apptainer` in a clone"
        )
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


def _code() -> Iterator[str]:
    """Say what is mounted where, so that the image has our code, and its commit for provenance."""
    package = Path(__file__).resolve().parents[2]
    root = _require_name(package.parent)
    if not (root / "pyproject.toml").exists():  # installed without its checkout
        yield f"{package}:{PROJECT}/humanline:ro"
        return
    yield f"{root}:{PROJECT}:ro"
    if (pointer := root / ".git").is_file():  # of a worktree: REPOSITORY/.git/worktrees/NAME
        words = pointer.read_text().removeprefix("gitdir:")
        repository = _require_name(Path(root, words.strip()).parents[1])
        yield f"{repository}:{repository}:ro"


def _is_below(folder: Path, other: Path) -> bool:
    return folder.resolve().is_relative_to(other.resolve())


def _require_name(folder: Path) -> Path:
    if found := re.search(r"[:,'\"\\$`\n]", str(folder)):
        raise ConfigError(
            f"{folder}: Apptainer mounts no folder with {found[0]!r} in its name; rename it"
        )
    return folder
