"""Seals: beside a stage's file, the hash of what the stage wrote, and which code wrote it.

Rows of another run, or a number that somebody changed, fit every model of a file. The seal tells
them. It is a hidden file, `.samples.jsonl.seal` beside `samples.jsonl`: JSON with the sha256, the
file's place (task, run and name), and what made it. A file without a seal is read, too: others
write files in these formats.
"""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from humanline.files.validation import ConfigError

_PARTS = 3  # of a path, which tell a run's file from another's wherever the results lie
_REMEDY = "make the file again, or remove its seal"
_maker: Callable[[], dict] = dict


def set_maker(describe: Callable[[], dict]) -> None:
    """Name what makes the files from now on: a command does it before it writes any.

    Args:
        describe: returns what the seals say of it; it is called at the first seal.
    """
    global _maker
    _maker = cache(describe)


def seal_of(path: Path) -> Path:
    """Return the path of a file's seal."""
    return path.with_name(f".{path.name}.seal")


def seal(path: Path, sha256: str) -> bytes:
    """Make the seal of a file whose content has this hash."""
    return json.dumps(_facts(path, sha256) | {"made": _maker()}, indent=1).encode() + b"\n"


def _facts(path: Path, sha256: str) -> dict[str, str]:
    return {"sha256": sha256, "place": "/".join(path.absolute().parts[-_PARTS:])}


def require_seal(path: Path) -> None:
    """Refuse a file that is not what its stage wrote there; one without a seal is accepted.

    Raises:
        ConfigError: if the seal is of another content or of a file at another place, or cannot be
            read.
    """
    if (found := _read(path)) is None:
        return
    with open(path, "rb") as file:  # in pieces, because it may be large
        own = _facts(path, hashlib.file_digest(file, "sha256").hexdigest())
    if wrong := [name for name, value in own.items() if found.get(name) != value]:
        name = seal_of(path).name
        raise ConfigError(
            f"{path}: {wrong[0]}: not that of the file which was written, by {name}; make it again,"
            f" or remove {name} if you changed the file on purpose"
        )


def made(path: Path) -> dict:
    """Read from a file's seal what made the file.

    Returns:
        ``code``, the hash of the command's code, and ``git``, as `provenance.git_state` has it;
        what is not known is left out.

    Raises:
        ConfigError: if the seal cannot be read.
    """
    found = (_read(path) or {}).get("made")
    kinds = {"code": str, "git": dict}
    found = found if isinstance(found, dict) else {}
    return {name: found[name] for name, kind in kinds.items() if isinstance(found.get(name), kind)}


def _read(path: Path) -> dict | None:
    place = seal_of(path)
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: {place.name}: cannot be read ({reason}); {_REMEDY}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: {place.name}: not an object; {_REMEDY}")
    return found
