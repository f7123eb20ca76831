r"""Compare two answers in LaTeX: their form is read here, their mathematics by math-verify.

An answer is a list, a tuple, an interval, a union, a matrix, an equation, a quantity with a unit, a
word, or an expression. Brackets and commas tell the forms apart; math-verify's own comparison
confuses some of them. math-verify's parser reads expressions. Two expressions are equal if their
values agree to 30 digits at several values of their variables: nothing is rounded.

The answer may have a unit, a per cent sign or a variable's name that the gold answer lacks. If both
have one, the two must agree.
"""

import re
from itertools import product

from humanline.scoring.math.latex import clean
from humanline.scoring.math.quantities import FLIPPED, NAME, same_value, sides_of, squeezed

LONGEST = 600  # characters of an answer
DEEPEST = 12  # brackets within brackets

_Sequence = tuple[str, list[str]]  # brackets ("{}" if a list has none) and items

_OPEN, _CLOSE = "([{", ")]}"
_NAMED = re.compile(rf"({NAME})\s*(?:=|\\in(?![A-Za-z])|\\equiv(?![A-Za-z]))\s*(?!=)(.+)", re.S)
_CONSTANTS = {r"\pi", r"\infty", r"\frac", r"\sqrt", r"\text", r"\emptyset"}
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![A-Za-z])")
_SIGNS = ({"pm": "+", "mp": "-"}, {"pm": "-", "mp": "+"})
_CONDITION = re.compile(r"\\\{\s*[A-Za-z]\s*(?:\\mid|\\vert|\||:)\s*(.+?)\\\}", re.S)
_COMMA_THOUSANDS = re.compile(r"(?<![\d.])(?<!\d,)\d{1,3}(?:,\d{3})+(?!,?\d)")
_MATRIX = re.compile(
    r"[(\[]?\s*\\begin\{([pbB]?matrix|array)\}(?:\{[^{}]*\})?(.*)\\end\{\1\}\s*[)\]]?", re.S
)


# Texts that would take long to compute. The time limit stops all others.
_LARGE = re.compile(
    r"\d{200}|\d{4}\s*!|!\s*\)*\s*!|\^[^()!]*\)\s*!|\\binom\s*\{[^{}]*\^"
    r"|\^\s*\{?\s*[-+]?\s*\d{5}|\^\s*\{\s*\d+\s*\^\s*\{\s*\d\d|\^\s*\{\s*\d{3,}\s*\}\s*\)+\s*\^"
    r"|\^\s*\{[^{}]*\^\s*\{[^{}]*\^"
)


class TooLargeError(ValueError):
    """The answer is longer, deeper or larger than this module reads."""


def equal(answer: str, gold: str) -> bool:
    """Say whether an answer means the same as the gold answer.

    Args:
        answer, gold: LaTeX without delimiters.

    Raises:
        TooLargeError: if the answer has more than `LONGEST` characters, more than `DEEPEST` nested
            brackets, or numbers that would take too long to compute.
    """
    if len(answer.strip()) > LONGEST and answer != gold:
        raise TooLargeError(f"{len(answer)} characters")
    answer, gold = clean(answer), clean(gold)
    if not answer or not gold:
        return False
    if squeezed(answer) == squeezed(gold):
        return True
    answer, gold = (_CONDITION.sub(r"\1", text) for text in (answer, gold))  # {x | x > 3}
    if "$" in answer + gold:
        return False
    _require_small(answer)
    return any(map(_same, *zip(*product(_readings(answer), _readings(gold)), strict=True)))


def _require_small(text: str) -> None:
    depth = deepest = 0
    for character in text:
        depth += (character in _OPEN) - (character in _CLOSE)
        deepest = max(deepest, depth)
    if deepest > DEEPEST or _LARGE.search(text):
        raise TooLargeError("deep brackets, a long number, or a power or factorial of a power")


def _readings(text: str) -> list[str]:
    """List the readings of a text: 1,000 is a thousand, or a list of two items."""
    number = _COMMA_THOUSANDS.sub(_one_number, text)
    return [number] if number == text or re.search(r",0\d", text) else [number, text]


def _one_number(match: re.Match) -> str:
    """Remove the commas between digits, but keep that of a pair such as (12,102)."""
    before, after = match.string[: match.start()].rstrip(), match.string[match.end() :].lstrip()
    pair = before.endswith(("(", "[", r"\{")) and after.startswith((")", "]", r"\}"))
    return match.group() if pair else match.group().replace(",", "")


def _same(answer: str, gold: str) -> bool:
    """Say whether two cleaned texts mean the same."""
    if squeezed(answer) == squeezed(gold) and answer:
        return True
    (name, inner), (gold_name, gold_inner) = _named(answer), _named(gold)
    if name and name == gold_name:
        return _same(inner, gold_inner)
    if name and gold_name:  # x = y is y = x
        return same_value(answer, gold)
    if (name or gold_name) and "=" in inner + gold_inner:
        return same_value(answer, gold)
    return _same_unnamed(inner, gold_inner)


def _named(text: str) -> tuple[str, str]:
    """Split an answer such as x = 5 into its name and the rest; the name is "" if it has none."""
    match = _NAMED.fullmatch(text)
    if match and match[1] not in _CONSTANTS and not sides_of(match[2])[1]:
        name, value = match.groups()
    elif match := re.fullmatch(rf"([^=]*[^=<>!])=\s*({NAME})", text):
        value, name = match.groups()
    else:
        return "", text
    # x = x gives x no value.
    return ("", text) if squeezed(name) == squeezed(value) else (squeezed(name), value.strip())


def _same_unnamed(answer: str, gold: str) -> bool:
    unions = [_parts(answer, r"\cup"), _parts(gold, r"\cup")]
    lists = [_sequence(answer), _sequence(gold)]
    if max(map(len, unions)) > 1:
        unions = [
            parts if len(parts) > 1 else _union(sequence) or parts
            for parts, sequence in zip(unions, lists, strict=True)
        ]
        return _unordered(*unions)
    lists = [
        own or (other and _interval(text))
        for text, own, other in zip((answer, gold), lists, lists[::-1], strict=True)
    ]
    chain, gold_chain = _interval(answer), _interval(gold)
    if chain and gold_chain and len(sides_of(answer)[0]) == len(sides_of(gold)[0]) == 3:
        return sides_of(answer)[0][1] == sides_of(gold)[0][1] and _same_sequence(chain, gold_chain)
    if any(lists):
        # {5} is 5.
        return _same_sequence(lists[0] or ("{}", [answer]), lists[1] or ("{}", [gold]))
    return _same_matrices(answer, gold)


# Lists


def _parts(text: str, *separators: str) -> list[str]:
    """Split a text at the separators outside of brackets."""
    parts, depth, start, i = [], 0, 0, 0
    while i < len(text):
        separator = next((s for s in separators if text.startswith(s, i)), None)
        if text.startswith(r"\begin", i):
            depth += 1
        elif text.startswith(r"\end", i):
            depth -= 1
        elif text[i] == "\\" and separator is None:
            i += text[i + 1 : i + 2] in ("{", "}")
            depth += (text[i] == "{") - (text[i] == "}")
        elif text[i] in _OPEN + _CLOSE:
            depth += 1 if text[i] in _OPEN else -1
        elif separator and depth == 0:
            parts.append(text[start:i].strip())
            i += len(separator) - 1
            start = i + 1
        i += 1
    return [*parts, text[start:].strip()]


def _sequence(text: str) -> _Sequence | None:
    """Read the brackets and items of a list, tuple or interval; None for anything else."""
    text = text.replace(r"\langle", "(").replace(r"\rangle", ")").strip()
    if text == r"\emptyset":
        return "{}", []
    if whole := _enclosed(text):
        brackets, inner = whole
        items = [item for item in _parts(inner, ",", ";") if item]
        if brackets == "{}" or len(items) > 1:
            return brackets, _expanded(items) if brackets == "{}" else items
        return _sequence(inner) if brackets == "()" else None
    items = [item for item in _parts(text, ",", ";") if item]
    if len(items) > 1:
        return _bare(items)
    return ("{}", _expanded([text])) if _PLUS_MINUS.search(text) else None


def _enclosed(text: str) -> tuple[str, str] | None:
    """Split a text into the brackets around the whole of it and the text inside."""
    start, end = (2, -2) if text.startswith(r"\{") and text.endswith(r"\}") else (1, -1)
    brackets = (text[:start] + text[end:]).replace("\\", "")
    if len(text) < 2 or brackets not in ("()", "[]", "{}", "(]", "[)"):
        return None
    depth, inner = 0, text[start:end]
    for character in inner:
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth < 0:
            return None
    return (brackets, inner) if depth == 0 else None


def _bare(items: list[str]) -> _Sequence:
    """Read a list without brackets: several values of one variable, or one value per variable."""
    named = [_named(item) for item in items]
    names = [name for name, _ in named]
    if all(names) and len(set(names)) == len(names):
        return "()", [f"{name} = {value}" for name, value in named]
    if names[0] and (set(names) == {names[0]} or not any(names[1:])):
        items = [value for _, value in named]
    return "{}", _expanded(items)


def _expanded(items: list[str]) -> list[str]:
    """Replace each item that has a plus-minus by two items."""
    return [
        _signed(item, signs)
        for item in items
        for signs in (_SIGNS if _PLUS_MINUS.search(item) else _SIGNS[:1])
    ]


def _signed(item: str, signs: dict[str, str]) -> str:
    """Replace each plus-minus by one sign, and remove a plus at the start."""
    return re.sub(r"^\+\s*", "", _PLUS_MINUS.sub(lambda sign: signs[sign[1]], item))


def _same_sequence(answer: _Sequence, gold: _Sequence) -> bool:
    (brackets, items), (gold_brackets, gold_items) = answer, gold
    if len(items) != len(gold_items):
        return False
    if brackets == gold_brackets == "{}":
        return _unordered(items, gold_items)
    # A list without brackets may also be named: x = 3, y = 4.
    named = all(_named(item)[0] for item in items) and gold_brackets == "{}"
    gold_named = all(_named(item)[0] for item in gold_items) and brackets == "{}"
    if brackets != gold_brackets and not named and not gold_named:
        return False
    if all(_named(item)[0] for item in items + gold_items):
        return _unordered(items, gold_items)
    return all(map(_same, items, gold_items))


def _unordered(items: list[str], others: list[str]) -> bool:
    """Say whether items and others can be paired, each with an equal one, in any order."""
    if len(items) != len(others):
        return False
    left = list(others)
    for item in items:
        match = next((other for other in left if _same(item, other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


# Inequalities


def _interval(text: str) -> _Sequence | None:
    """Read x < 3 or 0 < x <= 1 as the interval of one variable; None for anything else."""
    parts, operators = sides_of(text)
    if len(operators) == 1 and re.fullmatch(NAME, parts[1]):
        operators, parts = [FLIPPED[operators[0]]], parts[::-1]
    if len(operators) == 1 and re.fullmatch(NAME, parts[0]):
        if operators[0] in ("<", r"\le"):
            return "(" + ("]" if operators[0] == r"\le" else ")"), [r"-\infty", parts[1]]
        if operators[0] in (">", r"\ge"):
            return ("[" if operators[0] == r"\ge" else "(") + ")", [parts[1], r"\infty"]
    if len(operators) == 2 and re.fullmatch(NAME, parts[1]):
        if set(operators) <= {">", r"\ge"}:
            operators, parts = [FLIPPED[o] for o in operators[::-1]], parts[::-1]
        if set(operators) <= {"<", r"\le"}:
            left, right = (
                ("(" if operators[0] == "<" else "["),
                (")" if operators[1] == "<" else "]"),
            )
            return left + right, [parts[0], parts[2]]
    return None


def _union(sequence: _Sequence | None) -> list[str] | None:
    """Write a list of inequalities as intervals in text; None for any other list."""
    if sequence is None or sequence[0] != "{}":
        return None
    intervals = [found for item in sequence[1] if (found := _interval(item))]
    if len(intervals) < len(sequence[1]):
        return None
    return [f"{b[0]}{','.join(ends)}{b[1]}" for b, ends in intervals]


# Matrices


def _same_matrices(answer: str, gold: str) -> bool:
    """Say whether two matrices have the same shape and items, or two values are the same."""
    matrices = [match for text in (answer, gold) if (match := _MATRIX.fullmatch(text))]
    if len(matrices) < 2:
        return not matrices and same_value(answer, gold)
    tables = [
        [_parts(row, "&") for row in _parts(match[2], r"\\") if row.strip()] for match in matrices
    ]
    shapes = [[len(row) for row in table] for table in tables]
    return shapes[0] == shapes[1] and all(
        _same(a, g) for rows in zip(*tables, strict=True) for a, g in zip(*rows, strict=True)
    )
