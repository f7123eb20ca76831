"""What a command lacks here, in one line: a workflow's folder, or a package of an extra."""

from argparse import Namespace
from pathlib import Path

from humanline.cli.install.starter import REPOSITORY, SUITE
from humanline.files.validation import ConfigError

# The extra of pyproject.toml that brings a module, or a distribution by its name with underscores.
EXTRA_OF = {
    "alpaca_eval": "suite",
    "gguf": "workstation",
    "latex2sympy2_extended": "suite",
    "math_verify": "suite",
    "matplotlib": "suite",
    "openai": "suite",
    "peft": "peft",
    "pkg_resources": "suite",
    "reasoning_gym": "suite",
    "rich": "suite",
    "sklearn": "suite",
    "snakemake": "suite",
    "vllm": "vllm",
}


def missing_package(error: Exception) -> ConfigError | None:
    """Describe a missing package that an extra brings; None: the error is another."""
    name = (error.name or "" if isinstance(error, ModuleNotFoundError) else "").partition(".")[0]
    if (extra := EXTRA_OF.get(name.replace("-", "_"))) is None:
        return None
    return ConfigError(
        f"this command needs the package {name}, which is not installed; "
        f"pip install 'humanline[{extra}]'"
    )


def require_workflow(arguments: Namespace) -> None:
    """Check that a command that needs a workflow's folder is in one.

    Raises:
        ConfigError: if there is none, with how to get it.
    """
    from humanline.cli.parser import FOLDERS

    command, asked = arguments.command, vars(arguments)
    config = asked.get("config", FOLDERS["config"])
    needs_one = {
        "list": asked.get("kind") in ("scales", "tables", "cells"),
        "status": not Path(".snakemake").is_dir(),
    }.get(command.name, command.reads == "study")
    if not needs_one or config != FOLDERS["config"] or config.is_dir():
        return
    raise ConfigError(
        f"{config}: no such folder, and `humanline {command.name}` works in a workflow's folder; "
        f"`humanline init FOLDER` writes one (it needs {SUITE}), or clone {REPOSITORY}"
    )
