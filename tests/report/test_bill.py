"""The bill of materials, against CycloneDX 1.6 and what is installed here."""

import json
import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from made_results import made_study

from humanline.report.origins.bill import bill_of_materials
from humanline.report.scores import make_scores


@pytest.fixture(scope="module")
def bill():
    return bill_of_materials()


@pytest.fixture(scope="module")
def components(bill):
    return {own["name"]: own for own in bill["components"]}


def test_it_has_what_the_format_asks_for(bill):
    assert bill.keys() == {
        "bomFormat",
        "specVersion",
        "version",
        "metadata",
        "components",
        "dependencies",
    }
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    ours = bill["metadata"]["component"]
    assert ours == {"type": "application", "bom-ref": "humanline", **name("humanline")}
    for own in bill["components"]:
        assert own.keys() == {
            *("type", "bom-ref", "name", "version", "purl", "licenses", "properties"),
        }
        assert own["type"] == "library" and own["bom-ref"] == own["purl"]
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[\w.!%-]+", own["purl"]), own["purl"]
        kinds = [kind for licence in own["licenses"] for kind in licence]
        assert kinds == ["expression"] or set(kinds) <= {"license"}
    refs = ["humanline", *(own["bom-ref"] for own in bill["components"])]
    assert len(set(refs)) == len(refs)
    assert [own["ref"] for own in bill["dependencies"]] == refs
    assert {ref for own in bill["dependencies"] for ref in own["dependsOn"]} <= {*refs}


def name(package):
    return {"name": package, "version": version(package)}


def test_it_lists_every_package_once_in_order(components, bill):
    assert len(bill["components"]) == len(components) > 80
    assert list(components) == sorted(components) and "humanline" not in components
    for package in ("torch", "trl", "scikit-learn", "pyyaml"):
        assert components[package]["version"] == version(package)


def test_it_says_licences_and_needs(components, bill):
    licences = [own["licenses"] for own in components.values()]
    assert sum(map(bool, licences)) > 0.8 * len(licences)
    assert components["tabulate"]["licenses"] == [{"license": {"name": "MIT License"}}]
    needs = {own["ref"]: own["dependsOn"] for own in bill["dependencies"]}
    trl = needs[components["trl"]["bom-ref"]]
    assert components["transformers"]["bom-ref"] in trl
    assert components["trl"]["bom-ref"] in needs["humanline"]
    assert components["pytest"]["bom-ref"] not in needs["humanline"]  # of an extra


def test_a_hash_stands_for_the_files_of_a_package(components):
    hashes = [own["properties"][0] for own in components.values()]
    assert {own["name"] for own in hashes} == {"humanline:record:sha256"}
    values = [own["value"] for own in hashes]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in values)


def test_it_is_the_same_again_and_names_no_folder(bill):
    assert bill_of_materials() == bill
    text = json.dumps(bill)
    assert str(Path.home()) not in text and sys.prefix not in text


def test_it_lies_beside_the_provenance_of_the_scores(bill, tmp_path):
    paths = made_study(tmp_path).paths
    make_scores([], paths)
    assert (paths.tables / "scores.provenance.json").exists()
    assert json.loads((paths.tables / "packages.cdx.json").read_text()) == bill


def test_the_place_and_the_installer_of_a_package_change_nothing(tmp_path, monkeypatch):
    """Two installations with the same files; one by another program, with scripts elsewhere."""
    found = []
    for installer, more in (("pip", ""), ("uv", "../../../bin/x,sha256=q,3\n")):
        folder = tmp_path / installer
        info = folder / "humanline_example-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: humanline_example\nVersion: 1.0\n"
        )
        (info / "RECORD").write_text(
            f"x.py,sha256=abc,1\n{info.name}/INSTALLER,sha256={installer},3\n{more}"
        )
        monkeypatch.syspath_prepend(folder)
        found.append(one_named("humanline-example"))
    assert found[0] == found[1]
    (info / "RECORD").write_text("x.py,sha256=xyz,1\n")
    assert one_named("humanline-example")["properties"] != found[0]["properties"]


def one_named(package):
    (own,) = [own for own in bill_of_materials()["components"] if own["name"] == package]
    return own
