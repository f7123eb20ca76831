# ruff: noqa: E501, RUF001 -- lists are read more easily in long lines, and have look-alikes
"""Command lines of `humanline` that are wrong, and files and folders that cannot be written."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from study_outcomes import Case

from humanline.cli.parser import COMMANDS

IF = "instruction_following"
# What the commands take besides options: a value that is right.
RIGHT = {
    "task": IF, "draw": "s1", "name": "0" * 12, "run_name": "base-s1", "--of": "base-s1", "table": "sweep", "seed": "1",
    "file": "none.json", "kind": "scales", "a": "results", "b": "results", "socket": "none.sock", "study": "x",
    "--devices": "1", "--minutes": "1", "--cores": "1", "--replicates": "10", "--folder": "schemas", "--output": "out", "folder": "new",
}  # fmt: skip
ODD = ("", " ", "..", "../x", "/", "-x", "--", "no_such", "base-s1 ", "base-s999999999999999999999", "a\nb", "a" * 300, "a" * 5000, "\udcff", "ѕ1", "{x}", "$(touch hacked)",
       "nan", "inf", "-1", "0", "1e400", "9" * 5000, "1.5", "٣", "None", "[]", "%s", "\x1b[31m")  # fmt: skip
# They would serve or work for a long time where their arguments are right, or are tried elsewhere.
LEFT_OUT = {"worker", "recipe"}
OPTIONS = ("--scale", "--config", "--results", "--log")


def cases() -> Iterator[Case]:
    """Make the cases."""
    yield from _lines()
    for command in COMMANDS:
        if command.name in LEFT_OUT:
            continue
        yield from _arguments(command)
        yield from _options(command)
        yield from _places(command)


def _lines() -> Iterator[Case]:
    for words in ((), ("no_such",), ("",), ("-x",), ("--no-such",), ("cheque",), ("check", "check"), ("check", "--scal", "smoke", "x"), ("list", "no_such"), ("list", "tables", "cells"),
                  ("table",), ("table", "a", "b"), ("train",), ("train", IF), ("--version", "x"), ("check", "--scale"), ("check", "--scale="), ("check", "--scale", "smoke", "--scale"),
                  ("check", "--config"), ("check", "--log"), ("recipe",), ("recipe", "none.yaml"), ("recipe", "config"), ("worker",), ("a" * 5000,), ("check\n",), ("\udcff",)):  # fmt: skip
        expect = "either" if words[:1] == ("--version",) else "refused"
        yield Case("command: unknown words", " ".join(words)[:60], words=words, expect=expect)


def _said(command, changed: dict[str, str] | None = None) -> list[str]:
    words = [command.name]
    for name, _ in command.arguments:
        value = (changed or {}).get(name, RIGHT.get(name))
        if name.startswith("--"):
            if name in (changed or {}) or name == "--of":
                words.append(f"{name}={value}")
        else:
            words.append(value or "")
    return words


def _common(command, **changed: str) -> list[str]:
    if command.reads == "nothing":
        return []
    options = {"scale": "smoke", "config": "config", "results": "results"} | changed
    return [f"--{name}={value}" for name, value in options.items()]


def _arguments(command) -> Iterator[Case]:
    for (name, _), odd in itertools.product(command.arguments, ODD):
        if name in ("--json", "--of") and name == "--json":
            continue
        words = [*_said(command, {name: odd}), *_common(command)]
        fine = (
            name
            in (
                "--output",
                "--folder",
                "folder",
                "a",
                "b",
                "file",
                "--minutes",
                "--replicates",
                "seed",
            )
            or command.name == "decide"
        )
        yield Case(f"command: {name.strip('-')}", f"{command.name}: {odd[:20]!r}", words=tuple(words),
                   expect="either" if fine else "refused")  # fmt: skip
    for name, _ in command.arguments:
        if not name.startswith("--") and command.name not in ("list", "compare"):
            left = [word for word in _said(command) if word != RIGHT[name]]
            yield Case(
                "command: too few words",
                f"{command.name} without {name}",
                words=(*left, *_common(command)),
            )
    if not any(options.get("nargs") for _, options in command.arguments):
        yield Case(
            "command: too many words",
            command.name,
            words=(*_said(command), "more", *_common(command)),
        )


def _options(command) -> Iterator[Case]:
    if command.reads == "nothing":
        return
    for option, odd in itertools.product(("scale", "config", "results"), ODD):
        words = [*_said(command), *_common(command, **{option: odd})]
        sure = option == "scale" or (option == "config" and odd not in ("..", "../x", "/", "--"))
        sure = sure and command.name not in ("list", "compare")
        yield Case(f"command: --{option}", f"{command.name}: {odd[:20]!r}", words=tuple(words), expect="refused" if sure else "either")  # fmt: skip


def _file(path: Path) -> None:
    path.write_text("a file\n")


def _no_writing(path: Path) -> None:
    """A folder where nobody can write, not even the superuser."""
    path.symlink_to("/proc")


def _places(command) -> Iterator[Case]:
    """Results, logs and folders where nothing can be written."""
    words = (*_said(command), *_common(command))
    for log, files in {
        "config": {}, "a_file/x.log": {"a_file": _file}, "/proc/none/x.log": {}, "/dev/full": {}, "": {}, "/": {}, "a" * 300: {}, "pipe.log": {},
    }.items():  # fmt: skip
        yield Case("command: --log", f"{command.name}: {log[:20]}", files, words=(*words, f"--log={log}"), expect="either" if log == "/dev/full" or log == "pipe.log" else "refused")  # fmt: skip
    if command.reads == "study":
        for name, change in {"a file": _file, "a folder where nobody writes": _no_writing, "a link to nothing": lambda p: p.symlink_to("none/none"), "a link to itself": lambda p: p.symlink_to(p.name)}.items():  # fmt: skip
            said = (*_said(command), *_common(command, results="odd"))
            yield Case("command: results that cannot be written", f"{command.name}: {name}", {"odd": change}, words=said, expect="either")  # fmt: skip
