"""The part of the page that shows the figures: the workflow's SVGs, made safe to stand in HTML.

Of an SVG, only shapes and text are kept, so that it can neither load nor run anything, and its ids
are renamed, so that figures do not use each other's shapes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from markupsafe import Markup

from humanline.files.validation import ConfigError
from humanline.report.page.runs import anchor
from humanline.report.page.tables import link
from humanline.report.page.text import shown
from humanline.study.cells import Cell
from humanline.study.runs.requests import PageRequest
from humanline.study.tasks import scoring_of
from humanline.study.words import rows_in_words

_SHAPES = {
    *("svg", "g", "defs", "use", "clipPath", "path", "rect", "circle", "ellipse"),
    *("line", "polyline", "polygon", "text", "tspan"),
}
_GEOMETRY = {"d", "points", *"xyr", *("x1", "y1", "x2", "y2", "cx", "cy", "rx", "ry", "dx", "dy")}
_ATTRIBUTES = {
    *_GEOMETRY,
    *("width", "height", "transform", "style", "id", "href", "clip-path", "clip-rule"),
    *("fill", "fill-rule", "fill-opacity", "opacity", "stroke", "stroke-width", "stroke-opacity"),
    *("stroke-dasharray", "stroke-linecap", "stroke-linejoin", "font-size", "font-family"),
    *("font-weight", "font-style", "text-anchor", "dominant-baseline"),
}
_PLAIN = re.compile(r"[\w\s.,:;#%'\"+-]*")  # no value that can name a file, or be code
_REFERENCE = re.compile(r"(?:url\()?#([^()\s]+)\)?")
_LONG = re.compile(r"-?\d+\.\d{3,}")
_AROUND_LETTERS = re.compile(r"\s*([A-Za-z])\s*")


@dataclass(frozen=True)
class Figure:
    """A figure: the path of its SVG within the results, and what it shows.

    Args:
        path: the path without suffix; a CSV with its data and a PDF may lie beside the SVG.
        title: its name.
        caption: what it shows, in words.
        cells: the cells whose runs it shows.
    """

    path: str
    title: str
    caption: str
    cells: tuple[Cell, ...] = ()


_CURVES = (
    "{score} on the evaluation prompts while a model trains: the mean over seeds, and its 95 %"
    " interval as a band."
)
_THEORY = (
    Figure(
        "figures/capacity",
        "Theory: capacity",
        "How large a probability feels to people, by prospect theory: the extremes weigh more than"
        " they are likely. The smaller gamma is, the more; with gamma 1, a probability feels as"
        " large as it is.",
    ),
    Figure(
        "figures/implied_capacity",
        "Measured: implied capacity",
        "The capacity that each source of data implies, measured on this scale's models: the closer"
        " its curve is to the human one, the more the data look as people perceive the policy's"
        " outputs. Gains are outputs that the policy finds more likely than the reference does.",
    ),
    Figure(
        "figures/perceived_weight",
        "Theory: perceived weight",
        "Humanline lets a token pass a gradient if it seems likely enough under the policy and the"
        " reference. Clipping does so within two bounds; it is the limit of sampling, which does so"
        " by chance.",
    ),
)
_MAP = Figure(
    "map/map",
    "What predicts offline training",
    "Exploratory runs on the tuning seeds: how much of plain online training's score an offline run"
    " reaches, against what may predict it. Each point is a setting.",
)


def context(request: PageRequest) -> dict:
    """Make the variables of the template: ``groups`` of figures, by title.

    Figures of the theory are shown where the workflow made them, and so is the map, which
    ``snakemake explore`` alone makes.

    Raises:
        ConfigError: if learning curves are missing, or a figure is no SVG.
    """
    curves = [
        Figure(
            f"tables/{table.name}_curves",
            table.title,
            _CURVES.format(score=scoring_of(table.spec.tasks[0]).score),
            tuple({run.cell.variant: run.cell for run in table.runs}.values()),
        )
        for table in request.tables
        if table.runs and table.spec.has_curves
    ]
    groups = {
        "Learning curves": curves,
        "The theory, and what was measured": [own for own in _THEORY if _is_made(request, own)],
        "The map": [own for own in (_MAP,) if _is_made(request, own)],
    }
    return {
        "groups": {
            title: [_drawn(request, own) for own in group]
            for title, group in groups.items()
            if group
        }
    }


def _svg(request: PageRequest, figure: Figure) -> Path:
    return request.paths.results / f"{figure.path}.svg"


def _is_made(request: PageRequest, figure: Figure) -> bool:
    return _svg(request, figure).exists()


def _drawn(request: PageRequest, figure: Figure) -> dict:
    path, name = _svg(request, figure), figure.path.rpartition("/")[2]
    files = {"data (CSV)": "csv", "SVG": "svg", "PDF, for papers": "pdf"}
    places = {text: path.with_suffix(f".{suffix}") for text, suffix in files.items()}
    words = rows_in_words(figure.cells)[0] if figure.cells else []
    return {
        "name": name,
        "title": figure.title,
        "caption": figure.caption,
        "svg": safe_svg(path, name, figure.title),
        "runs": list(zip(map(anchor, figure.cells), words, strict=True)),
        "files": [(text, link(request, own)) for text, own in places.items() if own.exists()],
    }


def safe_svg(path: Path, prefix: str, label: str) -> Markup:
    """Read an SVG, and write what is harmless of it, for a page.

    Args:
        path: the file, as Matplotlib writes it.
        prefix: the start of its ids on the page; another figure has another.
        label: what it shows, for those who cannot see it.

    Raises:
        ConfigError: if the file cannot be read or is no SVG, or defines entities.
    """
    root = _parsed(path)
    box = root.get("viewBox", "")
    if _name(root.tag) != "svg" or not re.fullmatch(r"[\d. -]+", box) or len(box.split()) != 4:
        raise ConfigError(f"{path}: no SVG with a viewBox; make the figure again")
    ids = {name: f"{prefix}-{number}" for number, name in enumerate(_references(root))}
    safe = ElementTree.Element("svg", {"viewBox": box, "role": "img", "aria-label": shown(label)})
    # Matplotlib says this in a style sheet, which would be about the whole page.
    safe.attrib |= {"stroke-linejoin": "round", "style": f"max-width: {box.split()[2]}pt"}
    safe.extend(_kept(root, ids))
    return Markup(ElementTree.tostring(safe, "unicode"))


def _parsed(path: Path) -> ElementTree.Element:
    """Parse XML without entities, of which a few lines can fill all memory."""
    try:
        text = path.read_text(encoding="utf-8")
        if "<!ENTITY" in text:
            raise ConfigError(f"{path}: defines entities; make the figure again")
        return ElementTree.fromstring(text)
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); make the figure again") from None


def _name(tag: str) -> str:
    """Return a name without its namespace."""
    return tag.rpartition("}")[2]


def _references(root: ElementTree.Element) -> dict[str, None]:
    """List the ids that shapes refer to."""
    values = (
        value
        for element in root.iter()
        for name, value in element.items()
        if _name(name) in ("href", "clip-path")
    )
    return dict.fromkeys(own[1] for own in map(_REFERENCE.fullmatch, values) if own)


def _kept(parent: ElementTree.Element, ids: dict[str, str]) -> Iterator[ElementTree.Element]:
    """Copy the shapes within an element; other elements are left out with all they contain."""
    for element in parent:
        if _name(element.tag) not in _SHAPES:
            continue
        pairs = ((_name(n), _value(_name(n), v, ids)) for n, v in element.items())
        attributes = {name: value for name, value in pairs if value}
        copy = ElementTree.Element(_name(element.tag), attributes)
        copy.extend(_kept(element, ids))
        if copy.tag in ("text", "tspan"):
            copy.text = shown(element.text or "")
            for own, child in zip(copy, element, strict=True):
                own.tail = shown(child.tail or "")
        if copy.tag == "g" and not copy.attrib:  # most of Matplotlib's groups only had a name
            yield from copy
        elif len(copy) or copy.attrib or copy.text:
            yield copy


def _value(name: str, value: str, ids: dict[str, str]) -> str:
    """Write an attribute's value, short; it is empty if the attribute is not kept."""
    if name == "id":
        return ids.get(value, "")
    if name in ("href", "clip-path"):
        found = _REFERENCE.fullmatch(value)
        own = f"#{ids[found[1]]}" if found else ""
        return f"url({own})" if own and name == "clip-path" else own
    if name == "transform":
        return re.sub(r"[^\w\s.,()+-]", "", value)
    if name not in _ATTRIBUTES or not _PLAIN.fullmatch(value):
        return ""
    if name in _GEOMETRY:  # in points; a hundredth of one is not seen
        value = _LONG.sub(lambda number: f"{float(number[0]):.2f}", value)
        return _AROUND_LETTERS.sub(r"\1", value).strip()
    return re.sub(r"([:;]) ", r"\1", value)
