"""Commands without what they need: one line that says what to install, or where a workflow is."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from humanline.cli.commands import main
from humanline.cli.install.missing import EXTRA_OF, missing_package

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {"latex2sympy2_extended": "math-verify", "pkg_resources": "setuptools"}
DISTRIBUTIONS |= {"sklearn": "scikit-learn", "yaml": "pyyaml"}
# What the library's own requirements bring, as their metadata say.
BROUGHT = {"filelock", "huggingface_hub", "markupsafe", "pydantic_core", "safetensors"}
BROUGHT |= {"sympy", "tokenizers", "tqdm", "typing_extensions"}
LIBRARY = """
import sys
sys.modules |= dict.fromkeys({absent}, None)
from humanline.cli.commands import main
assert main(["list", "objectives"]) == 0
assert main(["score-annotations", "annotations.json"]) == 0
assert main(["compare", {reference!r}, {reference!r}, "--output", "made"]) == 0
from humanline import HumanlineDPOTrainer, HumanlineGRPOTrainer, HumanlineKTOTrainer
import humanline.training.recipes.recipe, humanline.objectives, humanline.rewards
"""


def names_of(texts: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in texts}


def imported() -> set[str]:
    """The packages of others that any module of ours imports, also within functions."""
    found: set[str] = set()
    for path in (ROOT / "humanline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return found - sys.stdlib_module_names - {"humanline"}


def test_every_package_that_is_imported_is_the_librarys_or_has_an_extra():
    library = names_of(PROJECT["dependencies"])
    known = {canonicalize_name(DISTRIBUTIONS.get(name, name)): name for name in imported()}
    assert {known[name] for name in known.keys() - library} - BROUGHT == EXTRA_OF.keys() & {
        *known.values()
    }


@pytest.mark.parametrize("name", sorted(EXTRA_OF))
def test_the_extra_brings_the_package(name):
    extra = PROJECT["optional-dependencies"][EXTRA_OF[name]]
    assert canonicalize_name(DISTRIBUTIONS.get(name, name)) in names_of(extra)


def test_the_librarys_requirements_are_ranges_and_the_pins_of_the_suite_lie_within():
    library = {each.name: each.specifier for each in map(Requirement, PROJECT["dependencies"])}
    assert not [name for name, found in library.items() if "==" in str(found)]
    assert all("<" in str(found) and ">=" in str(found) for found in library.values())
    suite = map(Requirement, PROJECT["optional-dependencies"]["suite"])
    for pin in (each for each in suite if each.name in library):
        (version,) = re.findall(r"==(\S+)", str(pin.specifier))
        assert library[pin.name].contains(version)


def test_a_command_without_a_package_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    options = ["--scale", "smoke", "--config", ROOT / "workflow/config", "--results", tmp_path]
    assert main([*map(str, ["data", "math_reasoning", "s1", *options])]) == 1
    assert capfd.readouterr().err == (
        "humanline: error: this command needs the package reasoning_gym, which is not installed; "
        "pip install 'humanline[suite]'\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "extra"),
    [
        (ModuleNotFoundError(name="alpaca_eval.utils"), "suite"),
        (PackageNotFoundError("math-verify"), "suite"),  # of the versions that provenance names
        (ModuleNotFoundError(name="peft"), "peft"),
        (ModuleNotFoundError(name="mine"), None),
        (ImportError("cannot import name", name="openai"), None),
    ],
    ids=str,
)
def test_what_is_missing_has_the_extra_that_brings_it(error, extra):
    told = missing_package(error)
    assert told is None if extra is None else f"pip install 'humanline[{extra}]'" in str(told)


def test_the_library_works_without_what_extras_bring(tmp_path):
    """In one process, because each would import the library again."""
    (tmp_path / "annotations.json").write_text(
        '[{"instruction": "a", "output_1": "b", "output_2": "c", "preference": 2.0},'
        ' {"instruction": "d", "output_1": "e", "output_2": "ff", "preference": 1.0}]'
    )
    reference = str(ROOT / "results/reference/workstation_cpu")
    code = LIBRARY.format(absent=sorted(EXTRA_OF), reference=reference)
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["train", "math_reasoning", "grpo-s1"],
        ["plan"],
        ["check"],
        ["report", "--scale", "paper"],
        ["list", "cells"],
        ["list", "scales"],
        ["status"],
    ],
    ids=" ".join,
)
def test_outside_of_a_workflow_one_line_says_where_to_get_it(words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("humanline: error: workflow/config: no such folder, and `humanline ")
    assert "`humanline init FOLDER` writes one (it needs pip install 'humanline[suite]'), or" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["list"], ["list", "objectives"], ["list", "commands"]], ids=str)
def test_what_needs_no_workflow_works_outside_of_one(words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 0
    assert capfd.readouterr().out
