"""Say what pip-audit found: exit status 1 for a vulnerability, 75 if its service knew nothing.

An index without a list of vulnerabilities answers like one that has never heard of a package. So
an audit without a fault counts only if most packages were known; a fault always counts.
"""

import json
import sys
from pathlib import Path

UNREACHABLE = 75  # EX_TEMPFAIL of sysexits.h


def audited(service: str, text: str) -> tuple[int, list[str]]:
    """Read pip-audit's JSON; return the exit status and the lines to print."""
    try:
        packages = json.loads(text)["dependencies"]
    except (ValueError, KeyError):  # it stopped, and wrote nothing
        return UNREACHABLE, []
    known = [package for package in packages if "skip_reason" not in package]
    lines = [
        f"audit: {package['name']} {package['version']}: {fault['id']}: fixed in "
        f"{', '.join(fault['fix_versions']) or 'no version'}; run .ci/lock, or give the reason in "
        ".ci/accepted.txt"
        for package in known
        for fault in package["vulns"]
    ]
    if lines:
        return 1, lines
    if 2 * len(known) <= len(packages):
        return UNREACHABLE, []
    return 0, [f"audit: {len(known)} of {len(packages)} packages known to {service}, no fault"]


if __name__ == "__main__":
    file = Path(sys.argv[2])
    status, lines = audited(sys.argv[1], file.read_text() if file.exists() else "")
    print(*lines, sep="\n", end="\n" * bool(lines))
    sys.exit(status)
