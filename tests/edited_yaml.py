"""YAML files that tests write and edit."""

from collections.abc import Callable
from pathlib import Path

import yaml


def write(path: Path, content: dict) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a file's content in place."""
    content = yaml.safe_load(path.read_text())
    change(content)
    write(path, content)
