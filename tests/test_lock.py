"""The lock has what pyproject.toml asks for, with hashes; CI installs from it and audits it."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = ROOT / "requirements.lock"
UNLOCKED = {"torch", "vllm", "humanline"}  # see CONTRIBUTING.md; humanline[...] are our own extras


def load_audited():
    spec = importlib.util.spec_from_file_location("audited", ROOT / ".ci" / "audited.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def locked() -> dict[str, list[str]]:
    """The versions of each package: several, if they differ by Python or system."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", LOCK.read_text(), flags=re.M):
        found.setdefault(name, []).append(version)
    return found


def asked() -> list[Requirement]:
    project = PROJECT["project"]
    texts = list(project["dependencies"])
    for name, extra in project["optional-dependencies"].items():
        if (
            name != "docs"
        ):  # .ci/docs installs its three pins by itself, and nothing else needs them
            texts += extra
    return [own for own in map(Requirement, texts) if canonicalize_name(own.name) not in UNLOCKED]


@pytest.mark.parametrize("requirement", asked(), ids=str)
def test_the_lock_has_what_the_project_asks_for(requirement):
    versions = locked()[canonicalize_name(requirement.name)]
    assert all(requirement.specifier.contains(version) for version in versions)


def test_each_version_has_hashes_and_torch_is_left_to_its_index():
    blocks = re.split(r"^(?=[\w.-]+==)", LOCK.read_text(), flags=re.M)[1:]
    assert len(blocks) > 150
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert not [name for name in locked() if re.match(r"torch$|triton|nvidia|cuda|vllm", name)]


def test_ci_installs_from_the_lock_and_audits_it():
    steps = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"pip\" install .*--require-hashes .*-r requirements\.lock", steps)
    assert re.search(r"^\.ci/audit$", steps, flags=re.M)


def report(*packages: dict) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "version": "3", "skip_reason": "not found on PyPI", "vulns": []}


@pytest.mark.parametrize(
    ("text", "status", "line"),
    [
        (report(GOOD, GOOD, UNKNOWN), 0, "audit: 2 of 3 packages known to osv, no fault"),
        (report(GOOD, BAD), 1, "audit: b 2: PYSEC-2026-1: fixed in 3; "),
        (report(BAD, UNKNOWN, UNKNOWN), 1, "audit: b 2: PYSEC-2026-1: fixed in 3; "),
        (report(GOOD, UNKNOWN), 75, None),
        (report(), 75, None),
        ("", 75, None),
        ('{"error": 1}', 75, None),
    ],
)
def test_an_audit_fails_for_a_known_fault_and_counts_only_if_packages_are_known(text, status, line):
    found, lines = load_audited().audited("osv", text)
    assert found == status
    assert (lines[0].startswith(line) and len(lines) == 1) if line else lines == []
