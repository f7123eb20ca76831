"""The website: mkdocs makes its pages from the repository's Markdown files by these hooks.

GitHub shows the same files, so their links are relative to places in the repository. On the site a
link to a file that is a page leads to that page, and a link to any other file leads to GitHub. The
site asks no other host for anything: equations become MathML, which browsers draw by themselves.

    pip install -e '.[docs]' && mkdocs serve
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Pages whose files are not in docs/, by their places in the repository.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "results/README.md": "results.md",
    "benchmarks/README.md": "benchmarks.md",
}
_FENCED = re.compile(r"^```.*?^```$", flags=re.M | re.S)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)")
_BADGES = re.compile(r"^\[!\[.*\n", flags=re.M)  # pictures of other hosts


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let Markdown read equations."""
    config.markdown_extensions.append(Equations())  # type: ignore[arg-type]  # Markdown takes it
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and the pictures of pages, whose files are not in docs/."""
    own = {f"docs/{file.src_uri}": file.src_uri for file in files}
    tables = (path.relative_to(ROOT).as_posix() for path in ROOT.glob("results/reference/**/*.md"))
    outside = OUTSIDE | {path: path.removeprefix("results/") for path in tables}
    pages = [*outside, *(path for path in own if path.endswith(".md"))]
    pictures = {path for page in pages for path in _pictures(page)} - set(own)
    outside |= {path: path.removeprefix("results/") for path in pictures}
    for path, place in outside.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    config.extra["places"] = own | outside
    return files


def _pictures(page: str) -> Iterator[str]:
    """Yield the pictures of a page that are files of the repository, by their places there."""
    for mark, _, target in _LINK.findall((ROOT / page).read_text()):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        if mark and not target.startswith("http") and (ROOT / path).is_file():
            yield path


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links lead to pages of the site, or to GitHub."""
    places = config.extra["places"]
    (path,) = (path for path, place in places.items() if place == page.file.src_uri)
    if path in OUTSIDE:
        markdown = _BADGES.sub("", markdown)

    def rewritten(link: re.Match) -> str:
        mark, text, target = link.groups()
        text = _LINK.sub(rewritten, text)  # a picture that is a link
        return f"{mark}[{text}]({_target(target, path, places, config.extra['repository'])})"

    parts, blocks = _FENCED.split(markdown), [*_FENCED.findall(markdown), ""]
    parts = [_indented(_LINK.sub(rewritten, part)) for part in parts]
    return "".join(part for pair in zip(parts, blocks, strict=True) for part in pair)


def _indented(text: str) -> str:
    """Indent what belongs to an item of a list by four, as Python's Markdown needs; GitHub by two.

    An item after one with several paragraphs needs an empty line before it.
    """
    lines: list[str] = []
    is_list = is_loose = False
    for line in text.split("\n"):
        is_item = bool(re.match(r"[-*] ", line))
        if is_item and is_loose:
            lines.append("")
        is_list = is_item or (is_list and not line[:2].strip())
        is_loose = is_list and not is_item and (is_loose or not line)
        lines.append("  " + line if is_list and line.startswith("  ") else line)
    return "\n".join(lines)


def _target(target: str, page: str, places: dict[str, str], repository: str) -> str:
    """Find where a link leads on the site.

    Args:
        target: where it leads on GitHub: an address, or a path from the page's file.
        page: the page's file, by its place in the repository.
        places: of files of the repository on the site, by their places in the repository.
        repository: the address of the repository.
    """
    file, mark, heading = target.partition("#")
    here = re.fullmatch(rf"{re.escape(repository)}/(?:blob|tree|raw)/\w+/(.*)", file)
    if not file or (":" in file and not here):
        return target
    path = here[1] if here else posixpath.join(posixpath.dirname(page), file)
    path = posixpath.normpath(path)
    if path in places:
        return posixpath.relpath(places[path], posixpath.dirname(places[page])) + mark + heading
    if not (ROOT / path).exists():
        return target  # of which mkdocs warns
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{repository}/{kind}/main/{path}{mark}{heading}"


class Equations(Extension):
    """Equations as GitHub reads them, in a block of the language `math` or between $` and `$."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802  # Markdown's name
        # Before Markdown's own readers of blocks (25) and of code (190).
        md.preprocessors.register(_Blocks(md), "equations", 30)
        md.inlinePatterns.register(_Inline(r"\$`([^`]+)`\$", md), "equations", 200)


class _Blocks(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        def stash(block: re.Match) -> str:
            equation = f'<div class="equation">{convert(block[1], display="block")}</div>'
            return "\n" + self.md.htmlStash.store(equation) + "\n"

        text = re.sub(r"^```math\n(.*?)^```$", stash, "\n".join(lines), flags=re.M | re.S)
        return text.split("\n")


class _Inline(InlineProcessor):
    def handleMatch(self, m: re.Match, data: str) -> tuple[str, int, int]:  # type: ignore[override]  # noqa: N802
        return self.md.htmlStash.store(convert(m[1])), m.start(0), m.end(0)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a page that asks another host for something, or shows Markdown as it was written.

    Raises:
        PluginError: naming the page.
    """
    for file in Path(config.site_dir).rglob("*.html"):
        text, name = file.read_text(), file.relative_to(config.site_dir)
        for tag in re.findall(r"<(?:script|img|iframe|link)\b[^>]*>", text):
            if re.search(r'\b(?:src|href)="?(https?:)?//', tag) and "canonical" not in tag:
                raise PluginError(f"{name}: {tag} asks another host; use a file of the repository")
        if "$<code>" in text or "math/MathML}" in text or "language-math" in text:
            raise PluginError(f"{name}: an equation was not read; write it as in docs/dpo.md")
        for paragraph in re.findall(r"<p>(.*?)</p>", text, flags=re.S):
            if found := re.search(r"(?:^|\n)(?:- |\d\. |\||```).*", paragraph):
                raise PluginError(f"{name}: not read: {found[0].strip()}; put an empty line before")
