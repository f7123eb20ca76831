"""Public annotations of three models by AlpacaEval 2's judge, and their leaderboard's rows."""

import csv
import gzip
import json

import pandas as pd
import pytest
from conftest import SHARED

FOLDER = SHARED / "data" / "alpaca_eval"
MODELS = ("alpaca-7b", "claude-2.1_concise", "FuseChat-Llama-3.2-1B-Instruct")


def annotations(model: str) -> pd.DataFrame:
    """The annotations of a model; skips the test where they are not at hand."""
    path = FOLDER / f"{model}.annotations.json.gz"
    if not path.exists():
        pytest.skip(f"no public annotations at {path}")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return pd.DataFrame(json.load(file))


def figures(model: str) -> dict[str, str]:
    """A model's row of the leaderboard."""
    with open(FOLDER / "leaderboard.csv", newline="") as file:
        return {row[""]: row for row in csv.DictReader(file)}[model]
