"""Repositories of the hub as folders: at a pinned commit, whole and checked, from the cache.

What the cache lacks is fetched where there is a network. `humanline prefetch` does so for a whole
scale, for compute nodes that have none.
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


def dataset_files(source: HubDataset) -> Path:
    """The folder of a dataset's files, or its one `file`; raise a one-line `ConfigError`."""
    folder = _folder(source, [source.file] if source.file else None)
    path = folder / source.file if source.file else folder
    if not path.exists():
        raise ConfigError(f"dataset {source.repo}: no file {source.file!r}; mend its name")
    return path


def model_folder(source: HubSource) -> Path:
    """The folder of a model's files.

    Raises:
        ConfigError: if one is missing, or they are not those of the configured fingerprint.
    """
    folder = _folder(source, _patterns(source))
    files = model_files(source, folder)
    _require_weights(source, folder, {file.name for file in files})
    check(source, lambda: files_fingerprint(files))
    return folder


def model_files(source: HubSource, folder: Path) -> list[Path]:
    """What a model consists of: configuration, tokenizer, weights, and code where it is trusted."""
    patterns = _patterns(source)
    return [f for f in sorted(folder.iterdir()) if any(fnmatch(f.name, p) for p in patterns)]


def rows_fingerprint(rows: Iterable[dict]) -> str:
    """Sha256, hexadecimal, of rows as JSON Lines with sorted keys and no spaces."""
    digest = hashlib.sha256()
    for row in rows:
        text = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def files_fingerprint(files: Iterable[Path]) -> str:
    """Sha256, hexadecimal, of what `sha256sum` prints of files, in the order of their names."""
    lines = []
    for file in sorted(files, key=lambda file: file.name):
        with file.open("rb") as content:
            lines.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {file.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check(source: HubSource, fingerprint: Callable[[], str]) -> None:
    """Refuse content that has not the configured fingerprint, if there is one."""
    if source.fingerprint and (found := fingerprint()) != source.fingerprint:
        raise ConfigError(
            f"{source.repo_type} {source.repo}: the content's fingerprint is {found}, not "
            f"{source.fingerprint}; fetch it anew, or correct fingerprint if you trust the content"
        )


def _patterns(source: HubSource) -> list[str]:
    code = ["*.py"] if isinstance(source, HubReward) and source.trust_remote_code else []
    return [WEIGHTS, "*.json", "*.model", "*.txt", "*.jinja", *code]


def _folder(source: HubSource, patterns: list[str] | None) -> Path:
    """The local folder, or the cached one, after fetching what fits the patterns and is not there.

    Offline the cache alone is asked, and it knows whether a fetch had ended.
    """
    if source.is_local:
        return Path(source.repo)
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
    return Path(folder)


def _require_weights(source: HubSource, folder: Path, names: set[str]) -> None:
    """Refuse a model without weights in safetensors, or with some of them missing."""
    if _INDEX in names:
        if missing := sorted(_indexed(source, folder / _INDEX) - names):
            raise ConfigError(
                f"model {source.repo}: no file {missing[0]!r}, which its index lists; copy it, or "
                "run `snakemake prefetch` for this scale where there is a network"
            )
    elif not any(fnmatch(name, WEIGHTS) for name in names):
        raise ConfigError(
            f"model {source.repo}: no weights in safetensors; convert them, for other formats can "
            "hold code"
        )


def _indexed(source: HubSource, path: Path) -> set[str]:
    """The files that an index lists."""
    try:
        return set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"model {source.repo}: {path.name} is no index of weights; copy it again, or run "
            "`snakemake prefetch` for this scale where there is a network"
        ) from None
