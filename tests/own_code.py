"""The page of walks: its blocks, and a user's own objective, reward and judge as it shows them."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
# A file's name on the line above a block, and the block.
BLOCK = re.compile(
    r"(?:^\*\*`(?P<file>[^`]+)`\*\*\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)
NAMES = ("margin.py", "margin_trainer.py", "my_reward.py", "my_judge.py")


def write(folder: Path) -> Path:
    """Write a user's modules to a folder."""
    shown = {block["file"]: block["text"] for block in BLOCK.finditer(PAGE)}
    for name in NAMES:
        (folder / name).write_text(shown[name], encoding="utf-8")
    return folder
