"""Make the pictures of the README: the page's first screen, and the graph of the rules.

    python docs/pictures.py results/laptop

The argument is a folder of results with its page. Writes docs/page.png, for which it needs
Chromium, and docs/rulegraph.svg, for which it needs Graphviz (`dot`, `tred`); Debian's packages are
`chromium` and `graphviz`. Without one of them that picture stays as it is.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from html import escape
from pathlib import Path

from PIL import Image

from humanline.cli.parser import COMMANDS

DOCS = Path(__file__).parent
WIDTH, HEIGHT = 1200, 1040  # of the screen; GitHub shows a README about 850 wide
DENSITY = 2  # pixels of the picture for one of the screen, so that text is sharp
COLOURS = 64  # of the picture: enough for text and marks, and a third of the bytes
MAX_BYTES = 300_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    """Make both pictures, as far as there are programs for them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, help="a folder of results, such as results/laptop")
    page = parser.parse_args().results / "report" / "index.html"
    if not page.exists():
        print(f"{page}: missing; make it by `snakemake report`", file=sys.stderr)
        return 1
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser:
        photograph(browser, page, DOCS / "page.png")
    if shutil.which("dot"):
        draw_rules(DOCS / "rulegraph.svg")
    missing = ["Chromium"] * (not browser) + ["Graphviz"] * (not shutil.which("dot"))
    for name in missing:
        print(f"{name} is not installed, and its picture stays as it is", file=sys.stderr)
    return bool(missing)


def photograph(browser: str, page: Path, path: Path) -> None:
    """Write what a screen shows of a page when it is opened, as a PNG.

    Raises:
        ValueError: if the picture has more bytes than `MAX_BYTES`.
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "page.png"
        options = [
            "--headless",
            "--no-sandbox",  # which root cannot have
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--force-device-scale-factor={DENSITY}",
            f"--screenshot={raw}",
        ]
        command = [browser, *options, page.resolve().as_uri()]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if not raw.exists():  # Chromium complains even if all is well
            raise RuntimeError(f"{browser} made no picture: {run.stderr}")
        # Without dithering, whose dots make text grey and the file large.
        picture = Image.open(raw).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes are too many; lower COLOURS")


def draw_rules(path: Path) -> None:
    """Write the rules of `all`, and which needs whose files, as an SVG."""
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "--nolock"]
    run = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=True)
    graph = merged(run.stdout)
    # `tred` leaves out an arrow where a longer way leads there, too.
    for program in (["tred"], ["dot", "-Tsvg"]):
        run = subprocess.run(program, input=graph, stdout=subprocess.PIPE, text=True, check=True)
        graph = run.stdout
    path.write_text(graph)


def merged(graph: str) -> str:
    """Draw a rule with the words of its command, and those of all tables, or of all scores, as one.

    Args:
        graph: of Snakemake, in Graphviz's language.
    """
    labels = re.findall(r'(\d+)\[label = "(\w+)"', graph)
    names = {number: re.sub(r"^(table|score)_\w+", r"\1_…", label) for number, label in labels}
    arrows = {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", graph)}
    lines = [f'"{a}" -> "{b}"' for a, b in sorted(arrows) if a != b and b != "all"]
    lines += [f'"{name}" [label=<{label(name)}>]' for name in sorted({*names.values()} - {"all"})]
    style = (
        "graph[bgcolor=white, rankdir=LR, ranksep=0.2, nodesep=0.12]\n"
        'node[shape=box, style=rounded, fontname=sans, fontsize=9, margin="0.04,0.02"]\n'
        "edge[color=grey40, arrowsize=0.6]\n"
    )
    return "digraph {\n" + style + "\n".join(lines) + "\n}\n"


def label(name: str) -> str:
    """Set a rule's name above what its command does, in Graphviz's HTML."""
    texts = {command.name: command.text for command in COMMANDS}
    lines = textwrap.wrap(texts[name.removesuffix("_…")], 15, break_on_hyphens=False)
    words = "<br/>".join(map(escape, lines))
    rows = f'<tr><td><font point-size="11"><b>{name}</b></font></td></tr><tr><td>{words}</td></tr>'
    return f'<table border="0" cellspacing="0" cellpadding="1">{rows}</table>'


if __name__ == "__main__":
    sys.exit(main())
