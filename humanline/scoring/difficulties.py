"""The difficulties of AlpacaEval's instructions that the package ships.

`benchmarks/difficulties.py` estimated them from public models' preferences, which the file names.
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
    """What stands for an instruction in the file: 16 digits of the SHA-256 of its text."""
    return hashlib.sha256(instruction.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def find_difficulty(instructions: Sequence[str]) -> Difficulty | None:
    """The difficulties of instructions; None unless all are AlpacaEval's."""
    shipped = _shipped()
    values = [shipped["difficulty"].get(instruction_key(text)) for text in instructions]
    if not values or None in values:
        return None
    return Difficulty(np.array(values), tuple(shipped["phi"]), tuple(shipped["psi"]))


@cache
def _shipped() -> dict:
    return read_json(FILE)
