"""The table of commands, and the parser with its help texts, which is made from it.

Only `main` imports this module, so an edit of a help text reruns nothing.
"""

import argparse
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from humanline.files.validation import ConfigError, known_names
from humanline.study.tasks import TASKS, find_task

CONFIG_DIRECTORY = Path("workflow/config")
FOLDERS = {"config": CONFIG_DIRECTORY, "results": Path("results")}
SCHEMA_DIRECTORY = Path("workflow/schemas")
LISTS = {
    "scales": "scales of the configuration folder, with their errors",
    "tables": "tables of a scale, with their cells, seeds and targets",
    "cells": "runs of a scale; done: scored in the folder of --results",
    "objectives": "losses that a cell can train with",
    "tasks": "tasks that a cell can be trained for",
    "commands": "commands of humanline",
}
VERSIONS = ("humanline", "trl", "transformers", "torch")

Argument = tuple[str, dict]  # a name, and its keyword arguments for argparse


@dataclass(frozen=True)
class Command:
    """A row of the table.

    Args:
        name: the command's name. The rule in the workflow has the same name, and the function in
            `humanline.cli.commands` has it after an underscore.
        text: the help text.
        arguments: its arguments, without the options that many commands share.
        reads: ``study``: it gets the study of --scale, --config and --results; ``options``: it has
            these options but gets no study; ``nothing``: it has neither.
        is_timed: whether it prints its seconds.
        error_status: its exit status after an error.
    """

    name: str
    text: str
    arguments: tuple[Argument, ...] = ()
    reads: str = "study"
    is_timed: bool = True
    error_status: int = 1

    @property
    def aliases(self) -> list[str]:
        """The name with dashes, if it has underscores."""
        return [self.name.replace("_", "-")] if "_" in self.name else []


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Make the type of a whole number within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return read


def _minutes(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) or not float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0")
    return float(text)


def _path(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; name a file or folder")
    return Path(text)


def _scale(text: str) -> str:
    """Check the name of a scale, which is that of a file without its folder and ending."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no scale; name a file of --config")
    return text


def _task(text: str) -> str:
    """Check the name of a task."""
    try:
        find_task(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


_TASKS = f"{', '.join(TASKS)}, or the dotted path of a module of your own"
_TASK = ("task", {"metavar": "TASK", "type": _task, "help": _TASKS})
_DRAW = ("draw", {"metavar": "DRAW", "help": "a set of prompts: s1 is that of seed 1; hub: all"})
_PRETRAINED = ("name", {"metavar": "NAME", "help": "a name in results/SCALE/pretrained/TASK"})
_BASE = ("run_name", {"metavar": "BASE", "help": "for example base-s1"})
_RUN = ("run_name", {"metavar": "RUN", "help": "a name in results/SCALE/runs/TASK"})
_OF = ("--of", {"dest": "source", "required": True, "metavar": "BASE"})
_DEVICES = (
    "--devices",
    {
        "metavar": "N",
        "type": _whole(0, 1000),
        "default": 1,
        "help": "GPUs to train on together (default: 1; 0: none)",
    },
)
_MINUTES = (
    "--minutes",
    {"metavar": "N", "type": _minutes, "default": 60.0, "help": "time budget (default: 60)"},
)
_CORES = (
    "--cores",
    {"metavar": "N", "type": _whole(1, 10_000), "default": 1, "help": "jobs at a time"},
)
_TABLE = ("table", {"help": "a table of experiments.yaml"})
_SEED = ("seed", {"type": _whole(0, 2**32 - 1)})
_JSON = ("--json", {"action": "store_true", "help": "print JSON alone"})
_ANNOTATED = ("file", {"type": _path, "metavar": "FILE.json", "help": "or FILE.json.gz"})
_REPLICATES = (
    "--replicates",
    {"type": _whole(2, 10**6), "default": 2000, "help": "bootstrap replicates"},
)
_KIND = ("kind", {"choices": LISTS, "nargs": "?", "help": "without it: print the lists"})
_SOCKET = ("socket", {"metavar": "SOCKET"})  # a path, or @name: one without a file
_HELD = (
    "study",
    {"type": _path, "nargs": "*", "metavar": "FILE", "help": "scale, experiments and results"},
)
_FOLDER = ("--folder", {"type": _path, "default": SCHEMA_DIRECTORY, "metavar": "FOLDER"})
_NEW = ("folder", {"type": _path, "metavar": "FOLDER", "help": "a folder that is new or empty"})
_RECIPE = ("file", {"type": _path, "metavar": "FILE.yaml"})
_KEYS = (
    "overrides",
    {"nargs": argparse.REMAINDER, "help": "--key value replaces the file's; --help: all keys"},
)

_A = ("a", {"metavar": "A", "help": "a result folder, a scale, or a commit with a reference"})
_B = ("b", {"metavar": "B", "nargs": "?", "help": "the same (default: the reference of A's scale)"})
_OUTPUT = (
    "--output",
    {"type": _path, "metavar": "FOLDER", "help": "default: comparison in the scale's results"},
)

# In the order of the workflow; then the commands that are no stage of it.
COMMANDS = (
    Command("prefetch", "fetch the hub's data and models, print their fingerprints"),
    Command("data", "write a set of a task's prompts", (_TASK, _DRAW)),
    Command("pretrained", "train what all seeds' base models start from", (_TASK, _PRETRAINED)),
    Command("base_model", "make the model that training starts from", (_TASK, _BASE)),
    Command("offline", "sample and label a base model's completions", (_TASK, _BASE)),
    Command("likelihood", "measure how likely a base model finds completions", (_TASK, _BASE, _OF)),
    Command("train", "train a cell", (_TASK, _RUN, _DEVICES)),
    Command("generate", "sample a run's evaluation completions", (_TASK, _RUN)),
    Command("score", "judge or grade a run's completions", (_TASK, _RUN)),
    Command("judge_cost", "print what an endpoint's judgements will cost, and have cost"),
    Command("table", "write a table", (_TABLE,)),
    Command("claims", "write the verdicts on the primary claims, and the estimates of all"),
    Command("decide", "add seeds to undecided claims, as `snakemake decide`", (_MINUTES, _CORES)),
    Command("scores", "write the score of every run that a table or a claim shows"),
    Command("report", "write the page that shows all results, or those that are made so far"),
    Command("tune", "choose learning rates from the tuning runs"),
    Command("power", "measure the pilot, and write what the claims can decide with their seeds"),
    Command("surprisal", "measure the figures' policy's log-ratios on outputs", (_SEED,)),
    Command("figures", "plot the figures of the theory"),
    Command("predictors", "measure what may predict how well offline data train", (_TASK, _RUN)),
    Command("map", "plot scores of exploratory runs against their predictors"),
    Command("plan", "print jobs, time, memory, tokens, dollars and disk of a scale"),
    Command("status", "tell how far the workflow of this folder is", (), "nothing", is_timed=False),
    Command("check", "validate the configuration"),
    Command("list", "print what there is", (_KIND, _JSON), "options", is_timed=False),
    Command(
        "compare",
        "say whether two runs of a scale agree; exit status 0: yes, 1: no, 2: an error",
        (_A, _B, _OUTPUT),
        "options",
        is_timed=False,
        error_status=2,
    ),
    Command(
        "score_annotations",
        "print win rates from annotations in AlpacaEval's format",
        (_ANNOTATED, _JSON, _REPLICATES),
        "nothing",
    ),
    Command("worker", "run commands without their slow imports", (_SOCKET, _HELD), "nothing"),
    Command("schema", "write the configuration's JSON schemas", (_FOLDER,), "nothing"),
    Command("recipe", "train a model by a recipe's file", (_RECIPE, _KEYS), "nothing"),
    Command(
        "init",
        "write a workflow's folder for a study of your own",
        (_NEW,),
        "nothing",
        is_timed=False,
    ),
)


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands. Its result has the command's row as `command`."""
    whole = _Parser(
        prog="humanline", description="The stages of the workflow, and commands for people."
    )
    whole.add_argument("--version", action=_Version, help="print the versions and exit")
    rows = whole.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = rows.add_parser(
            command.name, aliases=command.aliases, help=command.text, description=command.text
        )
        for name, options in command.arguments:
            sub.add_argument(name, **options)
        if command.reads != "nothing":
            sub.add_argument(
                "--scale", type=_scale, default="laptop", help="a file of the configuration folder"
            )
            sub.add_argument("--config", type=_path, default=CONFIG_DIRECTORY, metavar="FOLDER")
            sub.add_argument("--results", type=_path, default=FOLDERS["results"], metavar="FOLDER")
        sub.add_argument("--log", type=_path, metavar="FILE", help="write output to FILE")
        sub.set_defaults(command=command)
    return whole


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose choices are said as elsewhere."""

    def parse_args(self, args=None, namespace=None):
        words = sys.argv[1:] if args is None else args
        for word in words if "recipe" not in words[:1] else ():
            if any(unicodedata.category(character) in ("Cc", "Cs") for character in word):
                self.error(f"argument {word!r}: it has characters that are no text")
        return super().parse_args(args, namespace)

    def error(self, message):
        line = ConfigError(f"{message}; see `{self.prog} --help`")
        self.exit(2, f"humanline: error: {line}\n")

    def _check_value(self, action, value):
        choices = action.choices
        if choices is not None and value not in choices:
            reason = f"{value!r} is unknown; use {known_names(value, dict.fromkeys(choices))}"
            raise argparse.ArgumentError(action, reason)


class _Version(argparse.Action):
    """Print the versions that results depend on; they are looked up only for this option."""

    def __init__(self, option_strings, dest, **options):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser, *_):
        print("\n".join(f"{name} {version(name)}" for name in VERSIONS))
        parser.exit()
