"""A checkpoint's manifest: its last file, which lists the others with their sizes and checksums.

torch's files have a checksum of every tensor, so of large ones the manifest holds the checksum of
these checksums, which costs nothing. Other files are hashed whole by XXH3, as fast as memory. Both
find damage; neither keeps out who can write a manifest. Reading a checkpoint runs no code,
whoever wrote it: what is loaded is safetensors, JSON, or torch's files with `weights_only`.
"""

import json
import mmap
import pickle
import shutil
import zipfile
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import xxhash

from humanline.files.json_files import write_text
from humanline.files.validation import ConfigError

MANIFEST = "humanline.json"
_OF_TORCH = (".pt", ".pth", ".bin")
# Files that are loaded if they are there, so none may be there that the manifest does not list.
_LOADED = (*_OF_TORCH, ".safetensors", ".distcp", ".metadata")
_ANOTHER = "resume from another checkpoint, or train anew"
_OF_TRL = "resume from another checkpoint, name it as the model if it is TRL's own, or train anew"
_BLOCK = 1 << 24  # bytes that are hashed at once
_THREADS = 4  # that read files at the same time
_LARGE = 1 << 20  # bytes from which on a torch file is not hashed whole


class CheckpointError(ConfigError):
    """A checkpoint is not whole, or not of this run. The message names the file and the remedy."""


def fingerprints(folder: Path, part: int = 0, parts: int = 1) -> dict[str, dict]:
    """Describe the files of a folder, except its manifest, by size and checksum.

    Args:
        folder: the folder.
        part, parts: describe every `parts`-th file, beginning with this one. Processes share.

    Returns:
        By the file's name within the folder: ``size`` in bytes, and ``xxh3`` of its bytes or
        ``crc`` of a torch file's list of checksums.
    """
    own = folder / MANIFEST
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != own]
    mine = files[part::parts]
    names = (path.relative_to(folder).as_posix() for path in mine)
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(names, pool.map(_fingerprint, mine), strict=True))


def _fingerprint(path: Path) -> dict:
    listed = _listed_checksums(path) if torch.serialization.get_crc32_options() else None
    known = {"xxh3": _xxh3(path)} if listed is None else {"crc": listed}
    return {"size": path.stat().st_size} | known


def _listed_checksums(path: Path) -> str | None:
    """Hash the end of a large torch file, which lists its checksums; None for other files."""
    is_large = path.stat().st_size >= _LARGE
    if not is_large or path.suffix not in _OF_TORCH or not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as records, path.open("rb") as file:
            if min(record.header_offset for record in records.infolist()):
                return None  # several archives in one file
            file.seek(records.start_dir)
            return xxhash.xxh3_128_hexdigest(file.read())
    except (zipfile.BadZipFile, OSError, ValueError):
        return None


def _xxh3(path: Path) -> str:
    digest = xxhash.xxh3_128()
    if path.stat().st_size:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as view,
        ):
            for start in range(0, len(view), _BLOCK):
                with view[start : start + _BLOCK] as block:
                    digest.update(block)
    return digest.hexdigest()


def write_manifest(folder: Path, content: dict) -> None:
    """Write a checkpoint's manifest, with a checksum of itself. It must be the last file."""
    text = json.dumps({"checksum": _checksum(content)} | content, indent=1)
    write_text(folder / MANIFEST, text + "\n")


def keep_model_alone(checkpoint: Path, to_go_on: Iterable[str]) -> None:
    """Delete what only a resumed training needs, and first say so in the manifest.

    Args:
        checkpoint: a folder with a manifest.
        to_go_on: patterns of names of files and folders that are deleted.
    """
    content = read_manifest(checkpoint)
    paths = [path for pattern in to_go_on for path in checkpoint.glob(pattern)]
    gone = {path.name for path in paths}
    files = {n: k for n, k in content["files"].items() if n.split("/")[0] not in gone}
    write_manifest(checkpoint, content | {"save_only_model": True, "files": files})
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _checksum(content: dict) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True).encode())


def read_manifest(checkpoint: Path) -> dict:
    """Read the manifest of a checkpoint.

    Raises:
        CheckpointError: if there is no checkpoint, or its manifest is missing or damaged.
    """
    if not checkpoint.is_dir():
        raise CheckpointError(f"{checkpoint}: no such checkpoint; mend the path, or train anew")
    try:
        content = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        found = content.pop("checksum", None)  # manifests of older versions have none
        is_whole = found in (None, _checksum(content)) and _is_complete(content)
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        is_missing = isinstance(error, FileNotFoundError)
        raise CheckpointError(
            f"{checkpoint} is not whole, or not of a humanline trainer: {MANIFEST}, which is "
            f"written last, is {'missing' if is_missing else 'damaged'}; "
            f"{_OF_TRL if is_missing else _ANOTHER}"
        ) from None
    if not is_whole:
        raise CheckpointError(f"{checkpoint} is not whole: {MANIFEST} is damaged; {_ANOTHER}")
    return content


def _is_complete(content: dict) -> bool:
    kinds = {"run": dict, "save_only_model": bool, "position": dict, "files": dict}
    return all(isinstance(content.get(name), kind) for name, kind in kinds.items())


def has_checksums(manifest: dict) -> bool:
    """Say whether a manifest has more of its files than the sizes, as older versions wrote it."""
    return all(isinstance(known, dict) for known in manifest["files"].values())


def fault_of(checkpoint: Path, manifest: dict, part: int = 0, parts: int = 1) -> str | None:
    """Find the first file of a checkpoint that is not as its manifest says.

    Args:
        checkpoint: the folder.
        manifest: what `read_manifest` gave.
        part, parts: look at every `parts`-th file, beginning with this one. Processes share.

    Returns:
        A line that names checkpoint, file and remedy; None if there is no fault.
    """
    for name, known in [*manifest["files"].items()][part::parts]:
        size = known["size"] if isinstance(known, dict) else known
        if fault := _fault(checkpoint / name, size, known):
            return f"{checkpoint} is not whole: {name} {fault}; {_ANOTHER}"
    for path in sorted(checkpoint.rglob("*")):
        name = path.relative_to(checkpoint).as_posix()
        if name not in manifest["files"] and _is_loaded(path):
            return f"{checkpoint} has a file that is not its own, {name}; remove it, or {_ANOTHER}"
        if path.name == ".metadata" and not _is_plain(path):
            return f"{checkpoint}: {name} holds code, which is not run; {_ANOTHER}"
    return None


def _is_loaded(path: Path) -> bool:
    return path.is_file() and (path.suffix in _LOADED or path.name in _LOADED)


def _fault(path: Path, size: int, known) -> str | None:
    if not path.is_file():
        return "is missing"
    if (found := path.stat().st_size) != size:
        return "is empty" if not found else "is cut off" if found < size else "is too long"
    if not isinstance(known, dict):
        return None
    if "crc" in known:
        is_same = _listed_checksums(path) == known["crc"] and _are_right(path)
    else:
        is_same = _xxh3(path) == known["xxh3"]
    return None if is_same else "is damaged, or of another checkpoint"


def _are_right(path: Path) -> bool:
    """Say whether the records of a torch file have the checksums that it lists."""
    try:
        with zipfile.ZipFile(path) as records:
            return records.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, NotImplementedError):
        return False


# `.metadata` of a sharded checkpoint is a pickle that torch loads without `weights_only`.

_PLAIN = {
    "torch.distributed.checkpoint.metadata": {
        *("Metadata", "MetadataIndex", "StorageMeta", "TensorProperties", "_MEM_FORMAT_ENCODING"),
        *("TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata"),
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "pathlib": {"Path", "PosixPath", "WindowsPath"},
    "collections": {"OrderedDict"},
}


class _PlainUnpickler(pickle.Unpickler):
    """Loads the classes of torch's own description of shards, and nothing else."""

    def find_class(self, module: str, name: str):
        is_of_torch = module == "torch" and (
            name == "Size" or isinstance(getattr(torch, name, None), torch.dtype)
        )
        if name in _PLAIN.get(module, ()) or is_of_torch:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def _is_plain(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            _PlainUnpickler(file).load()
    except Exception:  # a pickle that is damaged can raise anything
        return False
    return True
