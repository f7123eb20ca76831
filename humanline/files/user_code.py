"""Finding, hashing and importing a user's own code by its dotted path.

Modules are looked for in the working directory first, then on Python's path. Only `load` and
`function` run them.
"""

import ast
import hashlib
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module, util
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from humanline.files.source_code import code_of
from humanline.files.validation import TRACEBACK, ConfigError, first_line

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_INSTALLED = {Path(path).resolve() for path in sysconfig.get_paths().values()}


@contextmanager
def working_directory() -> Iterator[None]:
    """Within this context, import from the working directory first, as TRL does for rewards."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def is_module(name: str) -> bool:
    """Say whether a dotted name leads to a module with source."""
    return source_file(name) is not None


def source_file(module: str) -> Path | None:
    """Find the file of a module's source, or None, without running the module.

    An editable installation may need its import hook, which runs the packages around the module.
    """
    if not _DOTTED.fullmatch(module):
        return None
    parts = module.split(".")
    places, spec = [os.getcwd(), *sys.path], None
    for length in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:length]), places)
        if spec is None:
            break
        places = spec.submodule_search_locations or []
    if spec is None and parts[0] in sys.modules:  # an editable installation
        try:
            spec = util.find_spec(module)
        except (ImportError, ValueError):
            spec = None
    origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None


def require(path: str) -> None:
    """Check that a dotted path leads to a name in a module, without running the module.

    The modules beside it are hashed with it, so they must be Python, too.

    Args:
        path: ``module.function``.

    Raises:
        ValueError: if the module or the name is not found; one line with reason and remedy.
    """
    module, _, name = path.rpartition(".")
    if not module or not _DOTTED.fullmatch(path):
        raise ValueError(f"{path!r} is no dotted path; write module.function")
    file = source_file(module)
    if file is None:
        raise ValueError(
            f"no module {module!r} here or installed; mend the path, or run where its file lies"
        )
    names = set(_names_of(_parsed(file)))
    if not names & {name, "*", "__getattr__"}:
        near = get_close_matches(name, names, n=1)
        remedy = f"did you mean {near[0]}?" if near else "mend the name"
        raise ValueError(f"{file} has no {name!r}; {remedy}")
    sources(module)


def load(module: str, name: str, *, package: str | None = None, shown_as: str | None = None) -> Any:
    """Import a name of a module.

    Args:
        module: dotted name, relative to `package` if it begins with a dot.
        name: the name in the module.
        package: the package of a relative `module`.
        shown_as: how errors call it; None: module and name.

    Raises:
        ConfigError: if the module or the name is missing, or if the module raises.
    """
    try:
        with working_directory():
            return getattr(import_module(module, package), name)
    except (Exception, SystemExit) as error:  # the user's own module can raise anything
        known = isinstance(error, ImportError | AttributeError)
        reason = first_line(error) if known else f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(
            f"{shown_as or f'{module}.{name}'!r} cannot be imported ({reason})"
        ) from error


def function(path: str, home: str = "") -> Callable:
    """Import the function of a dotted path.

    Args:
        path: ``module.function``.
        home: the module to take if the path has none.

    Raises:
        ConfigError: if it cannot be imported, or is not a function.
    """
    module, _, name = path.rpartition(".")
    try:
        found = load(module or home, name, shown_as=path)
    except ConfigError as error:
        raise ConfigError(f"{error}; give a function's dotted path") from error
    if not callable(found):
        kind = type(found).__name__
        raise ConfigError(f"{path!r} is {kind}, not a function; give its dotted path")
    return found


class UserFunction:
    """A user's function that returns a list of numbers; its failures become one-line errors.

    Args:
        kind: the word before its path in errors, such as ``reward``.
        path: its dotted path.
        takes: the words in errors for the arguments that it is called with.

    Raises:
        ConfigError: if it cannot be imported.
    """

    def __init__(self, kind: str, path: str, takes: str):
        self._name, self._takes = f"{kind} {path}", takes
        try:
            self._function = function(path)
        except ConfigError as error:
            raise ConfigError(f"{kind} {error}") from error

    def names(self, given: Iterable[str]) -> list[str]:
        """Select the keywords that the function takes: all, if it has **kwargs."""
        parameters = self._signature().parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        return [name for name in given if takes_all or name in parameters]

    def require(self, *arguments, **keywords) -> None:
        """Check that the function can be called with these arguments; do not call it.

        Raises:
            ConfigError: naming the argument that does not fit.
        """
        try:
            self._signature().bind(*arguments, **keywords)
        except TypeError as error:
            raise ConfigError(f"{self._name}: {error}; it is called with {self._takes}") from None

    def __call__(self, *arguments, **keywords) -> list:
        """Call the function.

        Returns:
            Its list, with the numbers of NumPy and torch as Python's.

        Raises:
            ConfigError: if the function raises; one line with the kind of error and its message.
        """
        try:
            found = list(self._function(*arguments, **keywords))
            return [value.item() if hasattr(value, "item") else value for value in found]
        except ConfigError:
            raise
        except Exception as error:  # the user's own function can raise anything
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ConfigError(f"{self._name}: {reason} ({TRACEBACK}=1 shows where)") from error

    def _signature(self) -> inspect.Signature:
        try:
            return inspect.signature(self._function)
        except (TypeError, ValueError):
            raise ConfigError(f"{self._name}: not a Python function; wrap it in one") from None


def source_hash(*modules: str) -> str:
    """Hash the code of modules, and of the modules beside them that they import.

    Comments, docstrings and blank lines do not count.

    Args:
        modules: dotted names; see `sources`.

    Returns:
        Twelve hexadecimal digits.

    Raises:
        ConfigError: if a module is not Python.
    """
    files = sorted(sources(*modules).items())
    parts = (f"{name}\n{code_of(file.read_text(encoding='utf-8'))}" for name, file in files)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def sources(*modules: str) -> dict[str, Path]:
    """Find the files of modules, and of the modules beside them that they import.

    A module lies beside another if it is in the working directory, or in the folder where the other
    was found. Of installed packages, only the module's own package counts. This package never does.

    Returns:
        The files by dotted name; a module that is not found is left out.

    Raises:
        ConfigError: if one of them is not Python.
    """
    found: dict[str, Path] = {}
    new = [(name, source_file(name)) for name in modules]
    while new:
        name, file = new.pop()
        if name in found or file is None:
            continue
        found[name] = file
        is_package = file.name == "__init__.py"
        names = {*_imported(_parsed(file), name, is_package), *_packages_of(name)}
        home = file.absolute().parents[name.count(".") + is_package]
        new += [(other, _beside(other, name, home)) for other in sorted(names)]
    return found


def _parsed(file: Path) -> ast.Module:
    """Parse a module, or raise a `ConfigError` that names its line."""
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{file}: line {line}" if line else file
        raise ConfigError(f"{where}: {first_line(error)}; mend it") from None


def _packages_of(name: str) -> Iterator[str]:
    """Yield the packages around a module: Python imports them before it."""
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts)))


def _beside(module: str, importer: str, home: Path) -> Path | None:
    """Find the file of a module that lies beside its importer, or None.

    Args:
        home: the folder where the importer's dotted name begins.
    """
    root = module.split(".")[0]
    if root == __name__.split(".")[0]:
        return None
    is_near = home.resolve() not in _INSTALLED or root == importer.split(".")[0]
    path = Path(*module.split("."))
    for folder in (Path(), home) if is_near else (Path(),):
        for file in (folder / path.with_suffix(".py"), folder / path / "__init__.py"):
            if file.is_file():
                return file
    return None


def _imported(tree: ast.Module, name: str, is_package: bool) -> Iterator[str]:
    """Yield the absolute names that a module imports, at any depth of its code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = name.split(".")
            parents = parents[: len(parents) - (node.level - is_package)] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            if base:
                yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _names_of(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module defines, and "*" if it imports all of another."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
