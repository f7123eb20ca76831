"""What makes the files of the results: for their seals, and for errors about them."""

import contextlib
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from humanline.files.provenance import git_state
from humanline.files.seals import made_by
from humanline.files.validation import ConfigError
from humanline.study.runs.hashes import code_of_stage
from humanline.study.runs.resolved import Run
from humanline.study.study import Study

# Files below the folder of a scale, and the words of the command that writes them.
_COMMANDS = (
    (r"runs/(?P<task>[^/]+)/(?P<run>[^/]+)/samples\.jsonl", "generate {task} {run}"),
    (
        r"runs/(?P<task>[^/]+)/(?P<run>[^/]+)/(annotations\.json|metrics\.json|curve\.csv|grades\.csv)",
        "score {task} {run}",
    ),
    (r"runs/(?P<task>[^/]+)/(?P<run>base-[^/]+)/model(/[^:]*)?", "base_model {task} {run}"),
    (
        r"runs/(?P<task>[^/]+)/(?P<run>[^/]+)/(train\.json|metrics\.csv|model(/[^:]*)?)",
        "train {task} {run}",
    ),
    (r"runs/(?P<task>[^/]+)/(?P<run>[^/]+)/predictors\.json", "predictors {task} {run}"),
    (r"data/(?P<task>[^/]+)/(?P<draw>[^/]+)/[^/:]+\.jsonl", "data {task} {draw}"),
    (r"data/(?P<task>[^/]+)/offline-(?P<base>[^/]+)\.jsonl", "offline {task} {base}"),
    (
        r"data/(?P<task>[^/]+)/likelihood-(?P<source>[^/]+)-under-(?P<base>[^/]+)\.jsonl",
        "likelihood {task} {base} --of {source}",
    ),
    (r"pretrained/(?P<task>[^/]+)/(?P<name>[^/:]+)(/[^:]*)?", "pretrained {task} {name}"),
    (r"figures/surprisals-s(?P<seed>\d+)\.csv", "surprisal {seed}"),
    (r"tables/(claims|comparisons)\.[^/:]+", "claims"),
    (r"tables/scores\.[^/:]+", "scores"),
    (r"tables/(?P<table>\w+?)\.(csv|md|tex|provenance\.json)", "table {table}"),
)


def making(
    command: str, task: str | None, run: Run | None
) -> contextlib.AbstractContextManager[None]:
    """Let the seals of the files that a command writes meanwhile name it, its code and the commit.

    Args:
        command: the command.
        task: the task that it is about, if any.
        run: the run that it is about, if any.
    """

    def describe() -> dict:
        code = {"code": code_of_stage(command, task, run)} if task else {}
        return {"command": command, **code, "git": git_state()}

    return made_by(describe)


def with_remake(
    error: ConfigError, options: Mapping[str, Any], usual: Mapping[str, Any]
) -> ConfigError:
    """Add to an error about a file of the results the command that makes the file again.

    The present command is not added: it has just refused to write the file.

    Args:
        error: its line begins with the file: ``FILE: FIELD: what is wrong; what to do``.
        options: the present command's arguments; ``scale``, ``config`` and ``results`` count.
        usual: the defaults of the two folders; the command has those that differ.
    """
    is_known = all(options.get(name) for name in ("scale", *usual))
    command = _remake(str(error), options, usual) if is_known else ""
    return ConfigError(f"{error} (`{command}`)") if command else error


def _remake(message: str, options: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    folder = f"{Path(options['results'], options['scale'])}/"
    if not message.startswith(folder):
        return ""
    place = message.removeprefix(folder)
    for pattern, words in _COMMANDS:
        if found := re.match(rf"{pattern}(?=: )", place):
            command, *arguments = words.format(**found.groupdict()).split()
            if command == options["command"].name and {*arguments} <= {*map(str, options.values())}:
                return ""
            told = [name for name in ("scale", *usual) if options[name] != usual.get(name)]
            more = [f"--{name} {shlex.quote(str(options[name]))}" for name in told]
            return " ".join(["humanline", command, *arguments, *more])
    return ""


def place_reports(folder: Path, study: Study) -> None:
    """Say where TensorBoard's files go, and to which project those of W&B, if nobody has said it.

    Else they would be among checkpoints, and in a project huggingface.
    """
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder))
    os.environ.setdefault("WANDB_PROJECT", f"humanline-{study.scale.scale}")
