"""The text of Python modules without prose: what counts for a hash of code."""

import ast
import re

# A string; or the end of a line with its comment, and the blank lines after it.
_STRING_OR_NOTHING = re.compile(
    r"(\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''"
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|(?:[ \t]*(?:\#[^\n]*)?(?:\n|\Z))+",
    re.DOTALL,
)
_INNER = {"body", "orelse", "finalbody", "handlers", "cases"}  # fields that hold statements


def statements_of(node: ast.AST) -> list[ast.AST]:
    """List a statement and all statements within it, without expressions."""
    found = [node]
    for each in found:  # the loop also visits what it appends
        for field in _INNER & set(each._fields):
            found += getattr(each, field)
    return found


def code_of(source: str) -> str:
    """Return a module's source without docstrings, comments and blank lines."""
    return without_prose(statements_of(ast.parse(source)), source)


def without_prose(statements: list[ast.AST], source: str) -> str:
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
