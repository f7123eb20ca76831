"""What may happen to a file: one change in place each, for tests of what is noticed."""

import os
import shutil
from pathlib import Path


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "one bit flipped": _flipped,
}


def files_of(folder: Path) -> list[str]:
    """List the names of a folder's files."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def damaged(folder: Path, place: Path, others: dict[str, Path]):
    """Yield copies of a folder with one damaged file, again and again in the same place.

    Args:
        folder: a whole folder.
        place: where the copy is; links make it cheap.
        others: by a name, folders whose files take the place of this one's where they differ.

    Yields:
        The file's name and the damage.
    """
    for name in files_of(folder):
        foreign = {
            f"of {whose}": other / name
            for whose, other in others.items()
            if (other / name).exists()
            and (other / name).read_bytes() != (folder / name).read_bytes()
        }
        for damage in (*DAMAGES, *foreign):
            shutil.copytree(folder, place, copy_function=os.link)
            path = place / name
            whole = path.read_bytes()
            path.unlink()  # the link
            if damage in foreign:
                path.write_bytes(foreign[damage].read_bytes())
            else:
                path.write_bytes(whole)
                DAMAGES[damage](path)
            yield name, damage
            shutil.rmtree(place)
