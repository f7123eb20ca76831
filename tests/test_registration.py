"""The claims in use are those that were registered before their runs."""

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONFIG = "workflow/config"
CLAIMS = yaml.safe_load((ROOT / CONFIG / "claims.yaml").read_text())
REFERENCE = ROOT / "results" / "reference" / "laptop" / "tables"


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def registered():
    """Read a configuration file as it was at the commit of the registration."""
    try:
        is_shallow = git("rev-parse", "--is-shallow-repository").strip() == "true"
        # A copy of these files may lie in another project's repository.
        git("ls-files", "--error-unmatch", "tests/test_registration.py")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no git, or no repository")
    if is_shallow:
        pytest.skip("the clone has no history")
    return lambda file: yaml.safe_load(git("show", f"{CLAIMS['registration']}:{CONFIG}/{file}"))


def _as_tested(content: dict) -> dict[str, tuple]:
    """Return the tests of all claims, without words that decide nothing."""
    return {
        claim["id"]: (claim.get("primary", False), claim["claim"], claim["tests"])
        for claim in content["claims"]
    }


def test_rule_and_tests_are_those_of_the_registration(registered):
    content = registered("claims.yaml")
    assert CLAIMS["rule"] == content["rule"]
    now, then = _as_tested(CLAIMS), _as_tested(content)
    dropped = CLAIMS.get("dropped", {})
    assert now == {name: own for name, own in then.items() if name not in dropped}
    assert dropped.keys() <= then.keys()
    assert not any(then[name][0] for name in dropped), "a primary claim cannot be dropped"


def test_seeds_models_and_training_are_those_of_the_registration(registered):
    file = "laptop.yaml"
    now, then = yaml.safe_load((ROOT / CONFIG / file).read_text()), registered(file)
    # The seeds of secondary cells decide nothing, and were cut; nor does the description in words.
    for content in (now, then):
        del content["seeds"]["sweep"], content["description"]
    assert now == then
    file = "learning_rates/laptop.yaml"
    assert yaml.safe_load((ROOT / CONFIG / file).read_text()) == registered(file)


def test_cells_are_completed_as_at_the_registration(registered):
    now = yaml.safe_load((ROOT / CONFIG / "experiments.yaml").read_text())
    then = registered("experiments.yaml")
    for key in ("defaults", "collapse_below"):
        assert now[key] == then[key]


def test_the_registration_came_before_the_runs_of_the_reference(registered):
    page = (REFERENCE / "claims.md").read_text()
    trained = page.split("The runs were trained at commit ")[1].split(".")[0].split(", ")
    for commit in trained:
        git("merge-base", "--is-ancestor", CLAIMS["registration"], commit)
