"""Tables and figures on the page: all of the CSV's rows, each with its run, and harmless SVGs."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from made_results import CONFIG, FIGURE, made_study, write_tables

from humanline.files.validation import ConfigError
from humanline.report.formats import MOST_COLUMNS
from humanline.report.page import figures, page, tables
from humanline.report.page.figures import safe_svg
from humanline.report.page.runs import anchor
from humanline.report.page.text import shown

PLANTED = "<script>alert(1)</script> \u202e"


@pytest.fixture(scope="module")
def request_(tmp_path_factory):
    study = made_study(tmp_path_factory.mktemp("made"))
    found = study.page_request(CONFIG)
    write_tables(found)
    return found


@pytest.fixture(scope="module")
def shown_tables(request_):
    return {own["name"]: own for own in tables.context(request_)["tables"]}


class Elements(HTMLParser):
    """The elements of a part of the page, with the text directly in them."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict, list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), []))

    def handle_data(self, data):
        if self.found:
            self.found[-1][2].append(data)

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes, _ in self.found if name == tag]


def written(request, name: str, part) -> Elements:
    context = part.context(request)
    return Elements(page.document(f"{name}.html.j2", request=request, here=context))


def test_every_row_of_every_table_is_there_with_its_run(request_, shown_tables):
    assert list(shown_tables) == [table.name for table in request_.tables]
    kept = written(request_, "tables", tables)
    runs = {f"#{anchor(run.cell)}" for run in request_.runs}
    links = [own["href"] for own in kept.of("a") if own["href"].startswith("#run-")]
    assert set(links) <= runs
    total = 0
    for table in request_.tables:
        frame = pd.read_csv(table.paths.tables / f"{table.name}.csv")
        own = shown_tables[table.name]
        assert 3 <= len(own["headers"]) <= MOST_COLUMNS and own["headers"][0][0] == "Run"
        cells = {f"run-{r.cell.task}/{r.cell.variant}" for r in table.runs}
        assert [row["anchor"].split("/")[-1] for row in own["rows"]] == list(frame["variant"])
        assert {row["anchor"] for row in own["rows"]} <= cells
        total += len(frame)
    assert len(links) == total
    scopes = [own.get("scope") for own in kept.of("th")]
    assert scopes.count("row") == total and None not in scopes


def test_cells_sort_by_the_figures_of_the_csv(request_, shown_tables):
    """By the numbers themselves, not by their texts; what is not known has no number."""
    table = next(own for own in request_.tables if own.name == "math_reasoning")
    path = table.paths.tables / f"{table.name}.csv"
    frame = pd.read_csv(path)
    frame.loc[1, ["difference_to_online", "difference_to_online_low"]] = None
    frame.to_csv(path, index=False)
    try:
        own = next(t for t in tables.context(request_)["tables"] if t["name"] == table.name)
    finally:
        write_tables(request_)
    place = [header for header, _ in own["headers"][1:]].index("To online, points")
    column = [row["cells"][place] for row in own["rows"]]
    assert column[1]["value"] is None and column[1]["dot"] == ""
    for cell, number in zip(column, frame["difference_to_online"], strict=True):
        if pd.notna(number):
            assert float(cell["value"]) == pytest.approx(number, rel=1e-5)
            assert cell["text"] == f"{number:+.1f}" and cell["interval"].startswith("[")
    assert own["headers"][0] == ("Run", False) and ("To online, points", True) in own["headers"]


def test_dots_have_one_axis_that_shows_all_estimates_and_its_line(shown_tables):
    lines = set()
    for own in shown_tables.values():
        dots = own["dots"]
        for dot in dots.dots:
            assert pd.isna(dot.value) or dots.span.low < dot.value < dots.span.high
        if dots.span.reference is not None:
            assert dots.span.low < dots.span.reference < dots.span.high
        assert dots.span.logarithmic == ("ratio" in dots.header.lower())
        drawn = [cell["dot"] for row in own["rows"] for cell in row["cells"] if cell["dot"]]
        assert len(drawn) == sum(pd.notna(dot.value) for dot in dots.dots) > 0
        lines.add(dots.words.rpartition("; the line is ")[2])
    assert {"plain offline training.", "plain online training."} <= lines


def test_the_best_figures_are_marked_and_files_are_linked(request_, shown_tables):
    assert all(
        any(c["is_best"] for r in t["rows"] for c in r["cells"]) for t in shown_tables.values()
    )
    kept = written(request_, "tables", tables)
    files = [own["href"] for own in kept.of("a") if not own["href"].startswith("#")]
    assert len(files) == 4 * len(request_.tables)
    assert all((request_.paths.page.parent / name).resolve().exists() for name in files)
    marked = sum(own.get("title") == "best of its column" for own in kept.of("strong"))
    assert marked == sum(
        c["is_best"] for t in shown_tables.values() for r in t["rows"] for c in r["cells"]
    )
    (request_.paths.page.parent / files[-1]).resolve().unlink()  # made by an older version
    try:
        kept = written(request_, "tables", tables)
    finally:
        write_tables(request_)
    assert [own["href"] for own in kept.of("a") if own["href"] in files] == files[:-1]


def test_a_table_is_titled_by_its_whole_name(request_):
    table = replace(request_.tables[0], name="k_0.5_of_DPO")
    assert table.title == "K 0.5 of DPO"


def test_rows_with_fewer_seeds_are_told(request_, shown_tables):
    table = request_.tables[0]
    frame = pd.read_csv(table.paths.tables / f"{table.name}.csv").assign(seeds=len(table.seeds))
    assert tables._badges(table, frame) == []
    frame.loc[:1, "seeds"] = 0
    assert tables._badges(table, frame) == [
        f"2 of {len(frame)} rows with fewer seeds than {len(table.seeds)}"
    ]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_text(""), "cannot be read"),
        (lambda path: path.write_text("a,b\n1,2\n"), "no column objective"),
        (lambda path: path.write_text("objective,variant\ngrpo,old\n"), "old is no cell of table"),
        (lambda path: path.write_text("objective,variant\n"), "no rows"),
        (
            lambda path: pd.read_csv(path).assign(score="abc").to_csv(path, index=False),
            "row 0: field score: 'abc' is no finite number",
        ),
    ],
)
def test_a_damaged_table_is_one_clear_line(request_, damage, said):
    table = request_.tables[-1]
    path = table.paths.tables / f"{table.name}.csv"
    damage(path)
    try:
        with pytest.raises(ConfigError) as raised:
            tables.context(request_)
    finally:
        write_tables(request_)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)
    assert said in str(raised.value) and "again" in str(raised.value)


def test_learning_curves_and_the_figures_that_were_made_are_shown(request_):
    assert list(figures.context(request_)["groups"]) == ["Learning curves"]
    for name in ("figures/capacity.svg", "figures/capacity.csv", "figures/capacity.pdf"):
        path = request_.paths.results / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(FIGURE)
    groups = figures.context(request_)["groups"]
    (own,) = groups["The theory, and what was measured"]
    assert [address for _, address in own["files"]] == [
        f"../figures/capacity.{suffix}" for suffix in ("csv", "svg", "pdf")
    ]
    kept = written(request_, "figures", figures)
    assert [own["aria-label"] for own in kept.of("svg")] == [
        "Math reasoning",
        "Shared divisors",
        "Theory: capacity",
    ]
    ids = [own["id"] for _, own, _ in kept.found if "id" in own]
    assert len(set(ids)) == len(ids) > 2  # both figures have the same clip path


SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {}>{}</svg>'
)
BOX = 'viewBox="0 0 100 50"'


def safe(tmp_path: Path, content: str, attributes: str = BOX) -> str:
    path = tmp_path / "figure.svg"
    path.write_text(SVG.format(attributes, content), encoding="utf-8")
    return str(safe_svg(path, "f3", PLANTED))


def test_an_svg_keeps_its_shapes_and_nothing_that_loads_or_runs(tmp_path):
    content = """
        <style>* {fill: red}</style><metadata><title>x</title></metadata>
        <script>alert(1)</script><image xlink:href="http://x.org/y.png"/>
        <foreignObject><p xmlns="http://www.w3.org/1999/xhtml">x</p></foreignObject>
        <a xlink:href="javascript:alert(1)"><path d="M 9 9"/></a>
        <animate attributeName="href" to="javascript:alert(1)"/>
        <defs><path id="m" d="M 1.23456 2 \nL -3.999999 4 \nz"/></defs>
        <g id="axes_1"><g id="line_1" onclick="alert(1)" class="x">
          <use xlink:href="#m" x="1.5" y="2" style="fill: #0072b2; stroke: none"/>
          <use xlink:href="other.svg#m"/><use xlink:href="data:image/svg+xml,x"/>
          <path d="M 0 0" style="fill: url(http://x.org/z)" clip-path="url(http://x.org/#c)"/>
          <path d="M 5 5" clip-path="url(#unknown)" transform="scale(0.083333 -0.083333)"/>
          <text style="font: 10px 'DejaVu Sans'">&lt;script&gt; &#8238; online</text>
        </g></g>
    """
    found = safe(tmp_path, content, BOX + ' onload="alert(1)" width="100pt" height="50pt"')
    assert found == (
        '<svg viewBox="0 0 100 50" role="img" aria-label="'
        '&lt;script&gt;alert(1)&lt;/script&gt; [U+202E]" stroke-linejoin="round"'
        ' style="max-width: 100pt"><defs><path id="f3-0" d="M1.23 2L-4.00 4z" /></defs>'
        '<use href="#f3-0" x="1.5" y="2" style="fill:#0072b2;stroke:none" />'
        '<path d="M0 0" />'
        '<path d="M5 5" clip-path="url(#f3-1)" transform="scale(0.083333 -0.083333)" />'
        "<text style=\"font:10px 'DejaVu Sans'\">&lt;script&gt; [U+202E] online</text></svg>"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("<svg", "cannot be read"),
        ("\udcff", "cannot be read"),
        ("<html/>", "no SVG with a viewBox"),
        (SVG.format('viewBox="0 0 1 url(x)"', ""), "no SVG with a viewBox"),
        (
            '<!DOCTYPE svg [<!ENTITY a "b"><!ENTITY c "&a;&a;">]>' + SVG.format(BOX, "&c;"),
            "defines entities",
        ),
    ],
)
def test_what_is_no_plain_svg_is_refused(tmp_path, text, said):
    path = tmp_path / "figure.svg"
    if text is not None:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ConfigError, match=said) as raised:
        safe_svg(path, "f0", "x")
    assert str(raised.value).startswith(f"{path}: ")


def test_a_figure_of_matplotlib_is_whole_and_smaller(tmp_path):
    from humanline.analysis.figures import capacity_frame
    from humanline.report.plots import plot_capacity

    path = tmp_path / "capacity.svg"
    plot_capacity(capacity_frame([0.5, 1.0]), path)
    text = path.read_text()
    found = str(safe_svg(path, "f0", "x"))
    assert len(found) < 0.8 * len(text)
    for tag in ("path", "use", "text"):
        assert len(re.findall(rf"<{tag}\b", found)) == len(re.findall(rf"<{tag}\b", text))
    used = set(re.findall(r"#(f0-\d+)", found))
    assert used and used == set(re.findall(r'id="([^"]+)"', found))
    assert "DOCTYPE" not in found and "http" not in found and shown(found, len(found)) == found
