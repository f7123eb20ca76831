"""A module's source as code: without its prose, statement by statement, and what it imports.

Nothing here runs a module.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cached_property

# A string; or the end of a line with its comment, and the blank lines after it.
_STRING_OR_NOTHING = re.compile(
    r"(\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''"
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|(?:[ \t]*(?:\#[^\n]*)?(?:\n|\Z))+",
    re.DOTALL,
)
_INNER = {"body", "orelse", "finalbody", "handlers", "cases"}  # fields that hold statements
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


class Module:
    """A module, its text without prose, and the modules of the package that it may import."""

    def __init__(self, source: str, name: str, is_package: bool):
        self.tree = ast.parse(source)
        self._lines = source.encode().splitlines(keepends=True)
        self.statements = statements_of(self.tree)
        self.text = _without_prose(self.statements, source)
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

    def read_of_task(self, words: str, read: str) -> tuple[list[ast.stmt], str]:
        """Find a task's statements and their text, without fields of `Task` that no code reads.

        Args:
            words: the code that may call the functions given to it.
            read: the code that may read the values given to it.
        """
        given = [
            (node, keyword)
            for node in self.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
            for keyword in node.value.keywords
        ]
        called = {keyword for _, keyword in given if _name_in(keyword.value, self.functions)}
        uncalled = {
            keyword.value.id
            for keyword in called
            if isinstance(keyword.value, ast.Name) and not _has_field(words, keyword)
        }
        unread = [
            keyword
            for node, keyword in given
            if keyword not in called and _makes_task(node) and not _has_field(read, keyword)
        ]
        texts = [self.source_of(node, unread) for node in self.body]
        names = set(_IDENTIFIER.findall(" ".join(texts))) - uncalled
        functions = self.called(names)
        return [*self.body, *functions], "\n".join([*texts, *map(self.source_of, functions)])

    def source_of(self, node: ast.stmt, unread: Iterable[ast.keyword] = ()) -> str:
        """Return the text of a top-level statement, without prose; unread values become `...`."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        lines = self._lines[first - 1 : node.end_lineno]
        inside = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        values = [keyword.value for keyword in unread if keyword.value.lineno in inside]
        for value in sorted(values, key=lambda v: (v.lineno, v.col_offset), reverse=True):
            start, end = value.lineno - first, (value.end_lineno or 0) - first
            kept = lines[start][: value.col_offset] + b"..." + lines[end][value.end_col_offset :]
            lines[start : end + 1] = [kept, *[b""] * (end - start)]
        return code_of(b"".join(lines).decode())


def _name_in(node: ast.expr, names: Iterable[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def _has_field(text: str, keyword: ast.keyword) -> bool:
    """Say whether a text reads the field of a keyword argument; of `**` it reads all fields."""
    return keyword.arg is None or bool(re.search(rf"\.{keyword.arg}\b", text))


def _makes_task(node: ast.Assign) -> bool:
    """Say whether a statement is `TASK = Task(...)`."""
    is_task = isinstance(node.value, ast.Call) and _name_in(node.value.func, {"Task"})
    return is_task and any(_name_in(target, {"TASK"}) for target in node.targets)


def statements_of(node: ast.AST) -> list[ast.AST]:
    """List a statement and all statements within it, without expressions."""
    found = [node]
    for each in found:  # the loop also visits what it appends
        for field in _INNER & set(each._fields):
            found += getattr(each, field)
    return found


def code_of(source: str) -> str:
    """Return a module's source without docstrings, comments and blank lines."""
    return _without_prose(statements_of(ast.parse(source)), source)


def _without_prose(statements: list[ast.AST], source: str) -> str:
    """Return source without docstrings, comments and blank lines."""
    lines = source.encode().splitlines(keepends=True)  # a node's columns count bytes
    kinds = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    for node in statements:
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            first, last = lines[text.lineno - 1], lines[text.lineno - 1 + _span(text)]
            kept = first[: text.col_offset] + last[text.end_col_offset :]
            lines[text.lineno - 1 : text.lineno + _span(text)] = [kept, *[b""] * _span(text)]
    code = b"".join(lines).decode()
    return _STRING_OR_NOTHING.sub(lambda match: match[1] or "\n", code).strip()


def _span(node: ast.stmt) -> int:
    """Count the lines of a statement after its first."""
    return (node.end_lineno or node.lineno) - node.lineno
