"""Seals: beside a stage's file, the hash of what the stage wrote, and which code wrote it.

Rows of another run, or a number that somebody changed, fit every model of a file. The seal tells
them. It is a hidden file, `.samples.jsonl.seal` beside `samples.jsonl`: JSON with the sha256, the
file's place (task, run and name), and what made it. A file without a seal is read, too: others
write files in these formats. A copy outside of a study's folders of runs and data, and a table of
a folder that was renamed, need the same name and content alone.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from humanline.files.validation import ConfigError

_PARTS = 3  # of a path, which tell a run's file from another's wherever the results lie
_REMEDY = "make the file again, or remove its seal"
_maker: Callable[[], dict] = dict


@contextlib.contextmanager
def made_by(describe: Callable[[], dict]) -> Iterator[None]:
    """Let the seals of the files that are written meanwhile name what makes them.

    Args:
        describe: returns what the seals say of it; it is called at the first seal.
    """
    global _maker
    before, _maker = _maker, cache(describe)
    try:
        yield
    finally:
        _maker = before


def seal_of(path: Path) -> Path:
    """Return the path of a file's seal."""
    return path.with_name(f".{path.name}.seal")


def seal(path: Path, sha256: str) -> bytes:
    """Make the seal of a file whose content has this hash."""
    place = "/".join(path.absolute().parts[-_PARTS:])
    facts = {"sha256": sha256, "place": place, "made": _maker()}
    return json.dumps(facts, indent=1).encode() + b"\n"


def _is_at(path: Path, place: object) -> bool:
    """Whether a file is at the place of its seal; elsewhere than in a study its name counts."""
    *folders, name = path.absolute().parts
    is_in_study = folders[-1] != "tables" and not {"runs", "data"}.isdisjoint(folders[-3:-1])
    known = [*folders, name][-_PARTS:] if is_in_study else [name]
    return str(place).split("/")[-len(known) :] == known


def require_seal(path: Path) -> None:
    """Refuse a file that is not what its stage wrote there; one without a seal is accepted.

    Raises:
        ConfigError: if the seal is of another content or of a file at another place, or cannot be
            read.
    """
    if (found := _read(path)) is None:
        return
    with open(path, "rb") as file:  # in pieces, because it may be large
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    wrong = "sha256" if found.get("sha256") != sha256 else "place"
    if wrong == "sha256" or not _is_at(path, found.get("place")):
        name = seal_of(path).name
        raise ConfigError(
            f"{path}: {wrong}: not that of the file which was written, by {name}; make it again,"
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
