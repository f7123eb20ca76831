"""Make the page: each part has a context, from files of the results, and a template."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from humanline.files.json_files import write_text
from humanline.report.page import figures, runs, samples, tables, verdicts
from humanline.report.page.text import shown
from humanline.study.runs.requests import PageRequest

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Part:
    """A section of the page.

    Args:
        name: the section's id in the page, and the name of its template.
        title: its heading.
        context: the variables of its template. Its ``data``, if it has any, is what page.js gives
            to the function of the same name, as JSON.
    """

    name: str
    title: str
    context: Callable[[PageRequest], dict]


# In the order of the page.
PARTS = (
    Part("verdicts", "What holds", verdicts.context),
    Part("tables", "The tables", tables.context),
    Part("figures", "The figures", figures.context),
    Part("samples", "What the models wrote", samples.context),
    Part("runs", "How each number was made", runs.context),
)


def make_page(request: PageRequest) -> None:
    """Write the page of a scale, one HTML file without any other.

    Args:
        request: what the page shows.

    Raises:
        ConfigError: if a file that it reads is missing or damaged.
    """
    write_text(request.paths.page, render(request))


def render(request: PageRequest, parts: tuple[Part, ...] = PARTS) -> str:
    """Write the page of a scale as HTML.

    Args:
        request: what the page shows.
        parts: its sections, in order.
    """
    parts_with_context = [(part, part.context(request)) for part in parts]
    return document("page.html.j2", request=request, parts=parts_with_context)


def document(template: str, *folders: Path, **context: Any) -> str:
    """Write one HTML file without any other, in the page's style and with its script.

    Args:
        template: the name of its template.
        folders: where templates are, before those of the page.
        context: the variables of the template, besides ``style``, ``script`` and ``script_hash``.
    """
    script, style = map(_joined, ("js", "css"))
    return (
        _environment(folders)
        .get_template(template)
        .render(
            script=script,
            style=style,
            # The browser runs this script and no other, whatever a text may hold.
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            **context,
        )
    )


def _joined(kind: str) -> str:
    """Join the page's own file of a kind, which comes first, and those of its parts."""
    files = sorted(_TEMPLATES.glob(f"*.{kind}"), key=lambda path: (path.stem != "page", path.stem))
    return "\n".join(path.read_text("utf-8") for path in files)


def _environment(folders: tuple[Path, ...]) -> Environment:
    found = Environment(
        loader=FileSystemLoader([*folders, _TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["shown"] = shown
    found.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "separators": (",", ":"),
        "allow_nan": False,
    }
    return found
