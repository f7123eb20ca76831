"""The difficulties of AlpacaEval's instructions, from the file that the package ships.

`benchmarks/difficulties.py` estimated them from the judge's preferences on public models. The file
names these models.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from humanline.files.json_files import read_json
from humanline.scoring.length_control import Difficulty

FILE = Path(__file__).parent / "judges" / "difficulties.json"


def instruction_key(instruction: str) -> str:
    """Return an instruction's key in the file: 16 hex digits of the SHA-256 of its text."""
    return hashlib.sha256(instruction.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def find_difficulty(instructions: Sequence[str]) -> Difficulty | None:
    """Look up the difficulties of N instructions; None unless all are AlpacaEval's."""
    shipped = _shipped()
    values = []
    for text in instructions:
        if (value := shipped["difficulty"].get(instruction_key(text))) is None:
            return None  # at the first that is not: there may be a million
        values.append(value)
    if not values:
        return None
    return Difficulty(np.array(values), tuple(shipped["phi"]), tuple(shipped["psi"]))


@cache
def _shipped() -> dict:
    return read_json(FILE)
