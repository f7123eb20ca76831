"""The pages of docs/ name what there is, and all of it. What their commands do is in test_docs."""

import ast
import re
from functools import cache

import pytest
import yaml

from humanline.files.code_hashes import PACKAGE
from humanline.study.experiments import Experiments, Row, Table
from humanline.study.scale.scale import Scale, Seeds, load_scale

ROOT = PACKAGE.parent
CONFIG = ROOT / "workflow" / "config"
TABLES = yaml.safe_load((CONFIG / "experiments.yaml").read_text())["tables"]
CLAIMS = {
    claim["id"]: claim for claim in yaml.safe_load((CONFIG / "claims.yaml").read_text())["claims"]
}
(named,) = re.findall(r"for name in (\(.*\))", (ROOT / "workflow/rules/figures.smk").read_text())
FIGURES = set(ast.literal_eval(named))


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def first_cells(text: str) -> set[str]:
    """The names in the first cells of all rows of a page's tables."""
    rows = re.findall(r"^\| (.*?) \|", text, flags=re.M)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@cache
def defined_in(module: str) -> set[str]:
    """The names that a module of the package defines at its top."""
    tree = ast.parse((PACKAGE / module).read_text())
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assigned = [node.targets for node in tree.body if isinstance(node, ast.Assign)]
    return found | {ast.unparse(target) for targets in assigned for target in targets}


def test_the_paper_map_names_what_there_is():
    text = page("paper-map")
    named = re.findall(r"`([\w/]+\.py):(\w+)`", text)
    assert len(named) > 30
    assert [f"{file}:{name}" for file, name in named if name not in defined_in(file)] == []
    assert set(re.findall(r"`table_(\w+)`", text)) <= set(TABLES)
    assert set(re.findall(r"`figures/(\w+)\.svg`", text)) == FIGURES


def test_the_paper_map_names_every_table_and_claim():
    """Each claim with its mark; exploratory tables belong to findings.md."""
    text = page("paper-map")
    reporting = {name for name, spec in TABLES.items() if not spec.get("exploratory")}
    assert reporting <= set(re.findall(r"`(?:table_)?(\w+)`", text))
    rows = re.findall(r"^\| (C\w+)(, primary)? \| [^|]* \| (\w+) \|", text, flags=re.M)
    told = {name: (bool(primary), mark) for name, primary, mark in rows}
    assert told == {
        name: (claim.get("primary", False), claim["source"]) for name, claim in CLAIMS.items()
    }


@pytest.mark.parametrize("kind", [Row, Table, Experiments, Seeds])
def test_all_keys_of_experiments_are_explained(kind):
    named = set(re.findall(r"`(\w+)`", page("experiments")))
    assert set(kind.model_fields) <= named


def test_rows_in_the_pages_are_rows():
    found = re.findall(r"`(\{objective: [^`]*\})`", page("experiments"))
    assert found and all(Row(**yaml.safe_load(text)) for text in found)


def test_all_scales_and_all_sections_of_one_are_explained():
    named = first_cells(page("scales"))
    assert {path.stem for path in CONFIG.glob("*.yaml")} - {"experiments", "claims"} <= named
    assert set(Scale.model_fields) <= named


def test_seeds_of_scales_are_counted():
    row = r"^\| `(\w+)` \| .* \| (\d+)(?:; (\d+) for the rest)? \|"
    rows = re.findall(row, page("scales"), flags=re.M)
    assert len(rows) > 3
    for scale, report, sweep in rows:
        seeds = load_scale(CONFIG / f"{scale}.yaml").seeds
        assert (len(seeds.report), len(seeds.sweep or ())) == (int(report), int(sweep or 0)), scale


def test_all_options_of_the_trainers_are_explained_with_their_defaults():
    """Read without TRL, whose import takes seconds."""
    path = PACKAGE / "trainers" / "options" / "humanline.py"
    (config,) = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "HumanlineOptions"
    ]
    rows = re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", page("trainers"), flags=re.M)
    told = {name: default for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    found = 0
    for node in config.body:
        if not isinstance(node, ast.AnnAssign) or "ClassVar" in ast.unparse(node.annotation):
            continue
        given = {word.arg: word.value for word in node.value.keywords}
        default = ast.literal_eval(given["default"])
        written = told[node.target.id].strip("`")
        known = {None: "of the perception"}.get(default, str(default))
        assert written.strip('"') == known, node.target.id
        found += 1
    assert found > 9


def test_all_metrics_of_the_trainers_are_explained():
    text = page("trainers")
    shared = PACKAGE / "trainers"
    sources = "\n".join(path.read_text() for path in shared.rglob("*.py"))
    logged = set(re.findall(r'"humanline/(\w+?)(?:_q)?[{"]', sources)) - {""}
    counted = set(re.findall(r'\{"(rows_\w+|prompts_\w+)": ', sources))
    assert len(logged | counted) > 5
    assert {name for name in logged | counted if f"humanline/{name}" not in text} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_links_of_a_page_lead_somewhere(path):
    """To files, and to headings by the names that GitHub gives them."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", place.read_text(), flags=re.M)
            names = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in names, target
