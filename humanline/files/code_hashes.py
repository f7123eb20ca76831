"""The hash of a command's code: a rule of the workflow reruns when it changes.

A command's code is its function in `humanline.cli.commands`, the functions there that it calls, all
modules of the package that these import, and the data files that such modules name. The modules are
parsed, and imports within functions count, so nobody keeps a list. Comments, docstrings and blank
lines do not count: an edit of prose reruns nothing. Snakefiles import this module, so it is cheap.

No module imports a task: tasks are found by name. A command's hash has the functions and values of
its tasks that the command reads. So a change of a task's grading does not remake the base models,
and a change of its label trains nothing again. Trainers are found by name, too. The hash of a
training has those of its own objective, so a new objective trains no other's runs again.
"""

import ast
import gc
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from humanline.files import user_code
from humanline.files.source_code import Module, statements_of

PACKAGE = Path(__file__).parents[1]
_COMMANDS = "cli.commands"  # the module that has a function for every command
_ASKS = "study.study"  # the module that tells the workflow and the commands what to do
_FINDS = "study.tasks"  # the module that finds a task by its name
_TASKS = "tasks"  # the folder that has a module for every task


def code_hash(
    command: str,
    *,
    by_value: bool = False,
    tasks: Iterable[str] = (),
    named: Iterable[str] | None = None,
    package: Path = PACKAGE,
) -> str:
    """Hash the code that a command runs.

    Args:
        command: a command of `humanline`, for example ``base_model``.
        by_value: leave out `humanline.study.study` and all that it imports. Expensive stages do
            this: their rules have the values of the options as another parameter, so a new option
            does not train everything again.
        tasks: names of the tasks that the command is about: tasks of `humanline.tasks`, or dotted
            paths of the user's own modules.
        named: the modules that the command finds by name in a folder of the package, for example
            an objective's trainer. None: all modules of such folders.
        package: the folder of the package.

    Returns:
        Twelve hexadecimal digits.

    Raises:
        ValueError: if the command or a task is unknown.
    """
    found = None if named is None else tuple(sorted(set(named)))
    return _hash_of(package, command, by_value, tuple(sorted(set(tasks))), found)


def modules_of(
    command: str, *, by_value: bool = False, tasks: Iterable[str] = (), package: Path = PACKAGE
) -> set[str]:
    """List the modules whose code is in a command's hash; a task's module is there in part.

    Args and errors are those of `code_hash`.

    Returns:
        Dotted names within the package, such as ``files.weights``.
    """
    _, names = _code_of(package, command, by_value, tuple(tasks))
    return names | ({f"{_TASKS}.{task}" for task in tasks} & set(_package(package).modules))


def _code_of(
    package: Path,
    command: str,
    by_value: bool,
    tasks: tuple[str, ...],
    named: tuple[str, ...] | None = None,
) -> tuple[list[str], set[str]]:
    """Find the texts of a command's functions and of its tasks' parts, and the modules to hash."""
    code = _package(package)
    own, roots = code.function(command)
    asked = code.closure({_ASKS})
    names = code.closure(roots) if named is None else code.closure({*roots, *named}, folders=False)
    words = "\n".join([own, *(code.modules[name].text for name in sorted(names - asked))])
    readers = sorted(code.with_tasks(names | asked))
    read = "\n".join([own, *(code.modules[name].text for name in readers)])
    texts = [own]
    for task in tasks:
        text, imported = code.task(task, words, read)
        texts.append(f"{task}\n{text}")
        names |= code.closure(imported | {_TASKS})
    return texts, names - (asked if by_value else set())


@cache
def _hash_of(
    package: Path,
    command: str,
    by_value: bool,
    tasks: tuple[str, ...],
    named: tuple[str, ...] | None,
) -> str:
    code = _package(package)
    texts, names = _code_of(package, command, by_value, tasks, named)
    parts = [*texts, *(f"{name}\n{code.modules[name].text}" for name in sorted(names))]
    digest = hashlib.sha256("\0".join(parts).encode())
    for path in code.files_of(names):
        digest.update(f"\0{path.relative_to(package)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _package(folder: Path) -> "_Package":
    return _Package(folder)


_module = cache(Module)


@dataclass(frozen=True)
class _Package:
    """The modules of a package, and who imports whom."""

    folder: Path

    @cached_property
    def modules(self) -> dict[str, Module]:
        """The modules by dotted name within the package; the package itself has the empty name."""
        found, collects = {}, gc.isenabled()
        gc.disable()  # scanning the many new nodes again and again would double the time
        try:
            for path in sorted(self.folder.rglob("*.py")):
                parts = path.relative_to(self.folder).with_suffix("").parts
                name = ".".join(part for part in parts if part != "__init__")
                source = path.read_text(encoding="utf-8")
                found[name] = _module(source, name, path.name == "__init__.py")
        finally:
            if collects:
                gc.enable()
        return found

    def function(self, command: str) -> tuple[str, set[str]]:
        """Return the text of a command's functions, and the modules that they import."""
        module = self.modules[_COMMANDS]
        if (name := f"_{command}") not in module.functions:
            raise ValueError(f"humanline has no command {command!r}; mend its name")
        nodes = module.called({name})
        statements = [each for node in (*nodes, *module.body) for each in statements_of(node)]
        imported = self._imported(module, statements)
        return "\n".join(map(module.source_of, nodes)), imported

    def task(self, name: str, words: str, read: str) -> tuple[str, set[str]]:
        """Return the text of a task's part that a command calls, and the modules that it imports.

        Args:
            name: the task's name, or the dotted path of the user's module.
            words: the command's code, which names the functions of `Task` that it calls.
            read: all code that has a task in hand, which names the fields that it reads.

        Raises:
            ValueError: if there is no such task.
        """
        others = {}
        if (module := self.modules.get(f"{_TASKS}.{name}")) is None:
            others = _own_modules(name)
            if (module := others.pop(name, None)) is None:
                raise ValueError(f"humanline has no task {name!r}; mend its name")
        nodes, text = module.read_of_task(words, read)
        statements = [each for node in nodes for each in statements_of(node)]
        imported = self._imported(module, statements)
        for other in others.values():
            imported |= self._imported(other, other.statements)
        return "\n".join([text, *(others[name].text for name in sorted(others))]), imported

    def with_tasks(self, names: set[str]) -> set[str]:
        """Find the modules that may hold a task: they import `Task`, or what finds it."""
        return {name for name in names - {_FINDS} if _FINDS in self._imported_by[name]}

    def closure(self, names: set[str], *, folders: bool = True) -> set[str]:
        """Add to some modules all that they import, directly or not.

        Args:
            folders: also with all modules of the folders that they name.
        """
        found, new = set(), set(names)
        while new:
            found |= new
            links = [self._imported_by, self._below] if folders else [self._imported_by]
            new = {other for by_name in links for name in new for other in by_name[name]} - found
        return found

    @cached_property
    def _imported_by(self) -> dict[str, set[str]]:
        return {
            name: self._imported(module, module.statements) | self._named(module)
            for name, module in self.modules.items()
        }

    @cached_property
    def _below(self) -> dict[str, set[str]]:
        return {name: self._in_folders(module) for name, module in self.modules.items()}

    def _imported(self, module: Module, statements: list[ast.AST]) -> set[str]:
        """Find the package's modules that statements import, and the packages around them."""
        dotted = module.imports(statements, self.folder.name)
        return {name for each in dotted for name in self._resolved(each)}

    def _named(self, module: Module) -> set[str]:
        """Find the modules that strings name, for example for `import_module`."""
        return {name for each in self._strings(module) for name in self._resolved(each)}

    def _in_folders(self, module: Module) -> set[str]:
        """Find the modules below folders that strings name, maybe relative to them."""
        strings = self._strings(module)
        below = tuple(f"{each.partition('.')[2]}." for each in strings if "." in each)
        return {name for name in self.modules if name.startswith(below)}

    def _strings(self, module: Module) -> list[str]:
        return re.findall(rf"[\"']({self.folder.name}(?:\.\w+)*)[\"':]", module.text)

    def _resolved(self, dotted: str) -> Iterator[str]:
        """Yield the modules that an import of a dotted name runs: itself, and its packages."""
        root, *parts = dotted.split(".")
        if root != self.folder.name:
            return
        for length in range(len(parts) + 1):
            if (name := ".".join(parts[:length])) in self.modules:
                yield name

    def files_of(self, names: set[str]) -> list[Path]:
        """Find the package's data files that some modules name, and those that no module names.

        Modules name a file by its outermost folder that is not a package, or by the file's name.
        """
        return [path for path, naming in self._data_files if not naming or naming & names]

    @cached_property
    def _data_files(self) -> list[tuple[Path, set[str]]]:
        """The data files, each with the modules in which a string names it."""
        found = []
        for path in sorted(self.folder.rglob("*")):
            parts = path.relative_to(self.folder).parts
            is_code = path.suffix in (".py", ".pyc") or "__pycache__" in parts
            if path.is_dir() or is_code or any(part.startswith(".") for part in parts):
                continue
            folders = [".".join(parts[:length]) for length in range(1, len(parts))]
            outer = [name for name in folders if name not in self.modules]
            name = outer[0].split(".")[-1] if outer else path.name
            word = re.compile(rf"[\"'/]{re.escape(name)}[\"'/]")
            naming = {each for each, module in self.modules.items() if word.search(module.text)}
            found.append((path, naming))
        return found


def _own_modules(name: str) -> dict[str, Module]:
    """Read a module of the user's, and the modules beside it that it imports, by dotted name."""
    return {
        each: _module(file.read_text(encoding="utf-8"), each, file.name == "__init__.py")
        for each, file in user_code.sources(name).items()
    }
