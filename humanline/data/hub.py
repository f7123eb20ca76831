"""Repositories of the hub as folders in the cache: at a pinned commit, complete and checked.

Missing files are fetched if there is a network. Compute nodes often have none: `humanline prefetch`
fetches all files of a scale ahead of time.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path

from humanline.files.validation import ConfigError
from humanline.study.scale.data import HubDataset
from humanline.study.scale.hub import HubSource
from humanline.study.scale.rewards import HubReward

WEIGHTS = "*.safetensors"  # other formats can hold code
_INDEX = "model.safetensors.index.json"
_AGAIN = "copy it again, or run `snakemake prefetch` for this scale where there is a network"


def dataset_files(source: HubDataset) -> Path:
    """Return the folder of a dataset's files, or its one `file`.

    Raises:
        ConfigError: if the dataset cannot be fetched, or lacks the file.
    """
    folder = _folder(source, [source.file] if source.file else None)
    path = folder / source.file if source.file else folder
    if not path.exists():
        raise ConfigError(f"dataset {source.repo}: no file {source.file!r}; mend its name")
    return path


def model_folder(source: HubSource) -> Path:
    """Return the folder of a model's files.

    Raises:
        ConfigError: if a file is missing, or if the files do not have the configured fingerprint.
    """
    folder = _folder(source, _patterns(source))
    files = model_files(source, folder)
    if broken := [file for file in files if not file.is_file()]:
        reason = f"{folder}: {broken[0].name} is no file, or a link to none"
        raise ConfigError(f"model {source.repo}: {reason}; {_AGAIN}")
    _require_weights(source, folder, {file.name for file in files})
    check_fingerprint(source, lambda: files_fingerprint(files))
    return folder


def model_files(source: HubSource, folder: Path) -> list[Path]:
    """List a model's files: configuration, tokenizer, weights, and its code if that is trusted."""
    patterns = _patterns(source)
    return [f for f in sorted(folder.iterdir()) if any(fnmatch(f.name, p) for p in patterns)]


def rows_fingerprint(rows: Iterable[dict]) -> str:
    """Hash rows as JSON Lines with sorted keys and no spaces.

    Returns:
        The sha256, hexadecimal.
    """
    digest = hashlib.sha256()
    for row in rows:
        text = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def files_fingerprint(files: Iterable[Path]) -> str:
    """Hash files: the sha256 of what `sha256sum` prints about them, in the order of their names.

    Returns:
        The sha256, hexadecimal.
    """
    lines = []
    for file in sorted(files, key=lambda file: file.name):
        with file.open("rb") as content:
            lines.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {file.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_fingerprint(source: HubSource, fingerprint: Callable[[], str]) -> None:
    """Check content against the configured fingerprint, if there is one.

    Args:
        source: the dataset or the model.
        fingerprint: computes the content's fingerprint.

    Raises:
        ConfigError: if the two differ.
    """
    if source.fingerprint and (found := fingerprint()) != source.fingerprint:
        raise ConfigError(
            f"{source.repo_type} {source.repo}: the content's fingerprint is {found}, not "
            f"{source.fingerprint}; fetch it anew, or correct fingerprint if you trust the content"
        )


def _patterns(source: HubSource) -> list[str]:
    code = ["*.py"] if isinstance(source, HubReward) and source.trust_remote_code else []
    return [WEIGHTS, "*.json", "*.model", "*.txt", "*.jinja", *code]


def _folder(source: HubSource, patterns: list[str] | None) -> Path:
    """Return the local folder, or the cached one; first fetch missing files that fit the patterns.

    Offline, the hub's client reads the cache alone, and knows whether the fetch was complete.
    """
    if source.is_local:
        if not (local := Path(source.repo)).is_dir():
            raise ConfigError(f"{source.repo_type} {source.repo}: no folder; mend repo")
        return local
    if not source.is_pinned:
        raise ConfigError(f"{source.repo_type} {source.repo}: {source.how_to_pin}")
    from huggingface_hub import constants, snapshot_download

    try:
        folder = snapshot_download(
            source.repo,
            repo_type=source.repo_type,
            revision=source.revision,
            allow_patterns=patterns,
            local_files_only=constants.HF_HUB_OFFLINE,
        )
    except Exception as error:  # the hub and its client raise many kinds
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"{source.repo_type} {source.repo} at revision {source.revision}: not in the cache, "
            f"and cannot be fetched ({reason}); run `snakemake prefetch` for this scale where "
            "there is a network, or set repo to a local copy and revision to null"
        ) from None
    if not Path(folder).is_dir():
        reason = f"{folder} is no folder"
        raise ConfigError(f"{source.repo_type} {source.repo}: {reason}; remove it, {_AGAIN}")
    return Path(folder)


def _require_weights(source: HubSource, folder: Path, names: set[str]) -> None:
    """Refuse a model if its safetensors are missing or incomplete."""
    if _INDEX in names:
        if missing := sorted(_indexed(source, folder / _INDEX) - names):
            raise ConfigError(
                f"model {source.repo}: no file {missing[0]!r}, which its index lists; {_AGAIN}"
            )
    elif not any(fnmatch(name, WEIGHTS) for name in names):
        raise ConfigError(
            f"model {source.repo}: no weights in safetensors; convert them: other formats can "
            "contain code"
        )


def _indexed(source: HubSource, path: Path) -> set[str]:
    """Read the names of the files in an index."""
    try:
        return set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"model {source.repo}: {path.name} is no index of weights; {_AGAIN}"
        ) from None
