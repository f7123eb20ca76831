"""The bill of materials: every installed package, in CycloneDX's format, version 1.6.

Own code, because its library would bring seven packages to every user, for these few fields.
"""

import hashlib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions, version
from urllib.parse import quote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

# Files that say who installed a package, and from where.
_INSTALLERS = {"INSTALLER", "REQUESTED", "direct_url.json"}
_LICENSE = "License :: OSI Approved :: "
_US = "humanline"


def bill_of_materials() -> dict:
    """List the installed packages. The order is always the same, and there is no time in it.

    Each has its version, its licence if it says so, what it needs, and the SHA-256 of the list of
    its files' hashes, without those files that tell where and by whom it was put.
    """
    found: dict[str, Distribution] = {}
    for own in distributions():
        if own.name:  # None: what pip left of one that it removed
            found.setdefault(canonicalize_name(own.name), own)  # Python imports the first one, too
    us = found.pop(canonicalize_name(_US), None)  # its commit is in the provenance
    places = {name: f"pkg:pypi/{name}@{quote(own.version)}" for name, own in found.items()}
    names = sorted(found)
    needs = [(_US, us), *((places[name], found[name]) for name in names)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": _US,
                "name": _US,
                "version": version(_US),
            }
        },
        "components": [_component(name, places[name], found[name]) for name in names],
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(places[name] for name in _needs(own) & {*places})}
            for ref, own in needs
        ],
    }


def _component(name: str, place: str, own: Distribution) -> dict:
    return {
        "type": "library",
        "bom-ref": place,
        "name": name,
        "version": own.version,
        "purl": place,
        "licenses": list(_licences(own)),
        "properties": [{"name": "humanline:record:sha256", "value": _digest(own)}],
    }


def _licences(own: Distribution) -> Iterator[dict]:
    """Give its SPDX expression; of an older package, the names among its classifiers."""
    for expression in own.metadata.get_all("License-Expression") or []:
        yield {"expression": expression}
        return
    for line in own.metadata.get_all("Classifier") or []:
        if line.startswith(_LICENSE):
            yield {"license": {"name": line.removeprefix(_LICENSE)}}


def _digest(own: Distribution) -> str:
    lines = sorted(
        f"{file} {file.hash.mode}={file.hash.value}"
        for file in own.files or []
        if file.hash and ".." not in file.parts and file.name not in _INSTALLERS
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _needs(own: Distribution | None) -> set[str]:
    """Name the packages that it needs here, without those of its extras."""
    needed: set[str] = set()
    for text in (own.requires if own else None) or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:  # an old package, whose line pip could read
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed.add(canonicalize_name(requirement.name))
    return needed
