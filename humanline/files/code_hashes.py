"""The hash of a command's code: a rule of the workflow reruns when it changes.

A command's code is its function in `humanline.cli.commands`, the functions there that it calls, all
modules of the package that these import, and the data files that such modules name. The modules are
parsed, and imports within functions count, so nobody keeps a list. Comments, docstrings and blank
lines do not count: an edit of prose reruns nothing. Snakefiles import this module, so it is cheap.

No module imports a task: tasks are found by name. A command's hash has the functions of its tasks
that the command calls. So a change of a task's grading does not remake the base models.
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
from humanline.files.code_text import code_of, statements_of, without_prose

PACKAGE = Path(__file__).parents[1]
_COMMANDS = "cli.commands"  # the module that has a function for every command
_ASKS = "study.study"  # the module that tells the workflow and the commands what to do
_TASKS = "tasks"  # the folder that has a module for every task

_IDENTIFIER = re.compile(r"[^\W\d]\w*")


def code_hash(
    command: str, *, by_value: bool = False, tasks: Iterable[str] = (), package: Path = PACKAGE
) -> str:
    """Hash the code that a command runs.

    Args:
        command: a command of `humanline`, for example ``base_model``.
        by_value: leave out `humanline.study.study` and all that it imports. Expensive stages do
            this: their rules have the values of the options as another parameter, so a new option
            does not train everything again.
        tasks: names of the tasks that the command is about: tasks of `humanline.tasks`, or dotted
            paths of the user's own modules.
        package: the folder of the package.

    Returns:
        Twelve hexadecimal digits.

    Raises:
        ValueError: if the command or a task is unknown.
    """
    return _hash_of(package, command, by_value, tuple(sorted(set(tasks))))


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
    package: Path, command: str, by_value: bool, tasks: tuple[str, ...]
) -> tuple[list[str], set[str]]:
    """Find the texts of a command's functions and of its tasks' parts, and the modules to hash."""
    code = _package(package)
    own, roots = code.function(command)
    asked = code.closure({_ASKS})
    names = code.closure(roots)
    words = "\n".join([own, *(code.modules[name].text for name in sorted(names - asked))])
    texts = [own]
    for task in tasks:
        text, imported = code.task(task, words)
        texts.append(f"{task}\n{text}")
        names |= code.closure(imported | {_TASKS})
    return texts, names - (asked if by_value else set())


@cache
def _hash_of(package: Path, command: str, by_value: bool, tasks: tuple[str, ...]) -> str:
    code = _package(package)
    texts, names = _code_of(package, command, by_value, tasks)
    parts = [*texts, *(f"{name}\n{code.modules[name].text}" for name in sorted(names))]
    digest = hashlib.sha256("\0".join(parts).encode())
    for path in code.files_of(names):
        digest.update(f"\0{path.relative_to(package)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _package(folder: Path) -> "_Package":
    return _Package(folder)


class _Module:
    """A module, its text without prose, and the modules of the package that it may import."""

    def __init__(self, source: str, name: str, is_package: bool):
        self.tree = ast.parse(source)
        self._lines = source.encode().splitlines(keepends=True)
        self.statements = statements_of(self.tree)
        self.text = without_prose(self.statements, source)
        self._name, self._is_package = name, is_package

    def imports(self, statements: list[ast.AST], root: str) -> Iterator[str]:
        """Yield the absolute names that statements import, in a package called `root`."""
        for statement in statements:
            if isinstance(statement, ast.Import):
                yield from (alias.name for alias in statement.names)
            elif isinstance(statement, ast.ImportFrom):
                base = self._base(statement, root)
                yield base
                yield from (f"{base}.{alias.name}" for alias in statement.names)

    def _base(self, statement: ast.ImportFrom, root: str) -> str:
        """Return the absolute name of the module that a statement imports from."""
        if statement.module and not statement.level:
            return statement.module
        parts = [root, *filter(None, self._name.split("."))]
        parts = parts[: len(parts) - (statement.level - self._is_package)]
        return ".".join([*parts, *filter(None, [statement.module])])

    @cached_property
    def functions(self) -> dict[str, ast.stmt]:
        """Top-level functions and classes."""
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        return {node.name: node for node in self.tree.body if isinstance(node, kinds)}

    @property
    def body(self) -> list[ast.stmt]:
        """Top-level statements besides functions and classes."""
        return [node for node in self.tree.body if node not in self.functions.values()]

    def called(self, names: set[str]) -> list[ast.stmt]:
        """Find the named functions and classes, those that they name in turn, and so on."""
        found, new = set(), names & set(self.functions)
        while new:
            found |= new
            texts = " ".join(self.source_of(self.functions[name]) for name in new)
            new = set(_IDENTIFIER.findall(texts)) & set(self.functions) - found
        return [self.functions[name] for name in sorted(found)]

    def read_of_task(self, words: str) -> list[ast.stmt]:
        """Find a task's statements, without functions of `Task` fields that `words` never reads."""
        given = {
            keyword.value.id: keyword.arg
            for node in self.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
            for keyword in node.value.keywords
            if isinstance(keyword.value, ast.Name) and keyword.value.id in self.functions
        }
        unread = {name for name, arg in given.items() if not re.search(rf"\.{arg}\b", words)}
        texts = " ".join(map(self.source_of, self.body))
        return [*self.body, *self.called(set(_IDENTIFIER.findall(texts)) - unread)]

    def source_of(self, node: ast.stmt) -> str:
        """Return the text of a top-level statement, without prose."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        lines = self._lines[first - 1 : node.end_lineno]
        return code_of(b"".join(lines).decode())


_module = cache(_Module)


@dataclass(frozen=True)
class _Package:
    """The modules of a package, and who imports whom."""

    folder: Path

    @cached_property
    def modules(self) -> dict[str, _Module]:
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

    def task(self, name: str, words: str) -> tuple[str, set[str]]:
        """Return the text of a task's part that a command calls, and the modules that it imports.

        Args:
            name: the task's name, or the dotted path of the user's module.
            words: the command's code, which names the fields of `Task` that it reads.

        Raises:
            ValueError: if there is no such task.
        """
        others = {}
        if (module := self.modules.get(f"{_TASKS}.{name}")) is None:
            others = _own_modules(name)
            if (module := others.pop(name, None)) is None:
                raise ValueError(f"humanline has no task {name!r}; mend its name")
        nodes = module.read_of_task(words)
        statements = [each for node in nodes for each in statements_of(node)]
        imported = self._imported(module, statements)
        for other in others.values():
            imported |= self._imported(other, other.statements)
        texts = [*map(module.source_of, nodes), *(others[name].text for name in sorted(others))]
        return "\n".join(texts), imported

    def closure(self, names: set[str]) -> set[str]:
        """Add to some modules all that they import, directly or not."""
        found, new = set(), set(names)
        while new:
            found |= new
            new = {other for name in new for other in self._imported_by[name]} - found
        return found

    @cached_property
    def _imported_by(self) -> dict[str, set[str]]:
        return {
            name: self._imported(module, module.statements) | self._named(module)
            for name, module in self.modules.items()
        }

    def _imported(self, module: _Module, statements: list[ast.AST]) -> set[str]:
        """Find the package's modules that statements import, and the packages around them."""
        dotted = module.imports(statements, self.folder.name)
        return {name for each in dotted for name in self._resolved(each)}

    def _named(self, module: _Module) -> set[str]:
        """Find the modules that strings name, for example for `import_module`.

        A folder's name stands for all modules below it: their own names may be relative to it.
        """
        names = re.findall(rf"[\"']({self.folder.name}(?:\.\w+)*)[\"':]", module.text)
        below = [f"{each.partition('.')[2]}." for each in names if "." in each]
        found = {name for each in names for name in self._resolved(each)}
        return found | {name for name in self.modules if name.startswith(tuple(below))}

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
        texts = {name: module.text for name, module in self.modules.items()}
        return [
            path
            for path, word in self._data_files
            if any(word.search(texts[name]) for name in names)
            or not any(word.search(text) for text in texts.values())
        ]

    @cached_property
    def _data_files(self) -> list[tuple[Path, re.Pattern]]:
        """The data files, each with the pattern of the string that names it."""
        found = []
        for path in sorted(self.folder.rglob("*")):
            parts = path.relative_to(self.folder).parts
            is_code = path.suffix in (".py", ".pyc") or "__pycache__" in parts
            if path.is_dir() or is_code or any(part.startswith(".") for part in parts):
                continue
            folders = [".".join(parts[:length]) for length in range(1, len(parts))]
            outer = [name for name in folders if name not in self.modules]
            name = outer[0].split(".")[-1] if outer else path.name
            found.append((path, re.compile(rf"[\"'/]{re.escape(name)}[\"'/]")))
        return found


def _own_modules(name: str) -> dict[str, _Module]:
    """Read a module of the user's, and the modules beside it that it imports, by dotted name."""
    return {
        each: _module(file.read_text(encoding="utf-8"), each, file.name == "__init__.py")
        for each, file in user_code.sources(name).items()
    }
