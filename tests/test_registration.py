"""The claims in use are those that were registered before their runs."""

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILE = "workflow/config/claims.yaml"


def _as_tested(text: str) -> dict:
    """Return the rule and the tests of all claims, without words that decide nothing."""
    content = yaml.safe_load(text)
    tests = {
        claim["id"]: (claim.get("primary", False), claim["claim"], claim["tests"])
        for claim in content["claims"]
    }
    return {"rule": content["rule"], "tests": tests}


def test_rule_and_tests_are_those_of_the_registration():
    text = (ROOT / FILE).read_text()
    commit = yaml.safe_load(text)["registration"]
    command = ["git", "-C", str(ROOT), "show", f"{commit}:{FILE}"]
    try:
        registered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"commit {commit} is not here: no git, or a clone without history")
    now, then = _as_tested(text), _as_tested(registered)
    assert now["rule"] == then["rule"]
    assert [name for name, (primary, *_) in now["tests"].items() if primary] == [
        name for name, (primary, *_) in then["tests"].items() if primary
    ]
    # A secondary claim may be dropped. None may change or come.
    assert now["tests"].items() <= then["tests"].items()
