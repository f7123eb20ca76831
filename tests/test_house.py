"""The house: how large modules, functions and folders may be, and that all that is named exists."""

import ast
import re
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from humanline.files.code_hashes import PACKAGE

ROOT = PACKAGE.parent
MODULES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
MAX_MODULES, MAX_LINES, MAX_LINES_OF_A_FUNCTION, MAX_LINES_OF_THE_CONTRACT = 9, 400, 50, 15
# What libraries call by these names, and explain.
NAMED_BY_OTHERS = re.compile(r"on_\w+|get_\w+dataloader|get_batch_samples|log|error")


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def definitions(node: ast.AST, *, is_public=True):
    """Functions and classes below a node, and whether each can be called from outside."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, FUNCTIONS | ast.ClassDef):
            if not isinstance(child, ast.expr):
                yield from definitions(child, is_public=is_public)
            continue
        open_to_all = is_public and not child.name.startswith("_")
        yield child, open_to_all
        yield from definitions(child, is_public=open_to_all and isinstance(child, ast.ClassDef))


def test_a_folder_can_be_overlooked():
    folders = {path.parent for path in MODULES}
    numbers = {place(f): len([*f.glob("*.py")]) - (f / "__init__.py").exists() for f in folders}
    assert len(numbers) > 15
    assert {name: n for name, n in numbers.items() if n > MAX_MODULES} == {}


def test_modules_are_short():
    lines = {place(path): len(text.splitlines()) for path, text in MODULES.items()}
    assert {name: n for name, n in lines.items() if n > MAX_LINES} == {}


@pytest.fixture(scope="module")
def defined():
    return {path: list(definitions(ast.parse(text))) for path, text in MODULES.items()}


def test_functions_are_short(defined):
    lines = {
        f"{place(path)}: {node.name}": node.end_lineno - node.lineno + 1
        for path, nodes in defined.items()
        for node, _ in nodes
        if isinstance(node, FUNCTIONS)
    }
    assert len(lines) > 700
    assert {name: n for name, n in lines.items() if n > MAX_LINES_OF_A_FUNCTION} == {}


def is_explained(node: ast.AST) -> bool:
    """By its own text, or by that of the function that it overloads or overrides."""
    decorators = " ".join(map(ast.unparse, getattr(node, "decorator_list", ())))
    return ast.get_docstring(node) is not None or bool(re.search("overload|override", decorators))


def test_all_that_is_public_is_explained(defined):
    unexplained = [
        place(path)
        for path, text in MODULES.items()
        if text.strip() and not is_explained(ast.parse(text))
    ]
    explained = {
        node.name for nodes in defined.values() for node, is_public in nodes if is_explained(node)
    }
    unexplained += [
        f"{place(path)}: {node.name}"
        for path, nodes in defined.items()
        for node, is_public in nodes
        if is_public and not is_explained(node)
        if node.name not in explained and not NAMED_BY_OTHERS.fullmatch(node.name)
    ]
    assert unexplained == []


def test_the_contract_is_short_and_names_every_folder():
    text = (ROOT / "pyproject.toml").read_text()
    contract = text[text.index("[[tool.importlinter.contracts]]") :].rstrip()
    layers = tomllib.loads(contract)["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {name.strip() for layer in layers for name in layer.split("|")}
    assert named == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(contract.splitlines()) <= MAX_LINES_OF_THE_CONTRACT


def imported(node: ast.AST):
    """What a module imports, within functions too, but not for types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
            yield str(child.module)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        yield from imported(child)


def test_no_circle_of_imports():
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES}
    known = set(names.values())
    graph = {names[path]: known & set(imported(ast.parse(text))) for path, text in MODULES.items()}
    assert sum(map(len, graph.values())) > 300
    TopologicalSorter(graph).prepare()  # raises a CycleError, with the circle


PATH = re.compile(r"`([\w.-]+/[\w./-]*|[\w-]+\.(?:py|yaml|smk|toml))`")


def exists(path: str, folder: Path | None) -> bool:
    return any((base / path).exists() for base in (ROOT, PACKAGE, folder or ROOT))


@pytest.mark.parametrize(
    ("file", "title", "least"),
    [("README.md", "## Where things live", 20), ("CONTRIBUTING.md", "## Where is ...?", 20)],
)
def test_named_paths_exist(file, title, least):
    """Each table says first the folder that shorter names of the same row are in."""
    section = (ROOT / file).read_text(encoding="utf-8").split(title)[1].split("\n## ")[0]
    found, missing = 0, []
    for row in (line for line in section.splitlines() if line.startswith("| ")):
        folder = None
        for path in PATH.findall(row):
            found += 1
            if not exists(path, folder):
                missing.append(path)
            if "/" in path:
                folder = next((base / path for base in (ROOT, PACKAGE) if (base / path).is_dir()),
                              folder)  # fmt: skip
    assert found >= least and missing == []
