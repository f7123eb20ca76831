r"""Compare two values: words, numbers in a base, ratios, quantities with units, relations.

The answer may have a unit or a per cent sign that the gold answer lacks. If both have one, the two
must agree.
"""

import re

from humanline.scoring.math.latex import DOLLAR

NAME = (
    r"\([A-Za-z](?:\s*,\s*[A-Za-z])+\)|\\[a-z]+"
    r"|[A-Za-z](?:_\{?\w+\}?)?'*(?:\s*\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])*\s*\))?"
)
_COMPARISON = r"\\(?:le|ge|ne)(?![A-Za-z])|[<>=]"
_OUTER = re.compile(rf"(?P<open>\\?[{{(\[])|(?P<close>\\?[}})\]])|{_COMPARISON}")
FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", "=": "=", r"\ne": r"\ne"}

_UNIT = re.compile(
    r"(?P<value>.*?[\d})\]A-Za-z])\s*"
    r"(?P<unit>(?:\\text\{[^{}]*\}(?:\s*\^\s*\{?\d\}?)?[\s/.]*(?:\\cdot\s*)?)+)",
    re.S,
)
# Words without \text. Short words could be variables, except these units.
_WORDS = re.compile(
    r"(?P<value>.*\d\}?)(?P<unit>\s+[A-Za-z]{4,}(?:\s+[A-Za-z]{2,})*"
    r"|\s*(?:cm|mm|km|kg|mg|ml|ft|lbs?|sec|min|hrs?|mph)(?:\s*\^\s*\{?\d\}?)?"
    r"|\s*[apAP]\.?[mM]\.?|\s+(?:in|m|g|s|h)(?:\s*\^\s*\{?\d\}?)?)"
)
_CURRENCIES = {DOLLAR: "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee", "¢": "cent"}
# Words after a number that are no unit: they change the value.
_NO_UNITS = {
    "or", "and", "not", "if", "is", "to", "than", "when", "where", "for", "mod", "anything", "base",
    "but", "maybe", "wrong", "except", "dozen", "dozens", "factorial", "half", "halves", "thirds",
    "plus", "minus", "over", "divided", "multiplied",
}  # fmt: skip
_LONG_FORMS = {
    "cm": "centimeter", "mm": "millimeter", "km": "kilometer", "m": "meter", "kg": "kilogram",
    "g": "gram", "s": "second", "sec": "second", "min": "minute", "h": "hour", "hr": "hour",
    "ft": "foot", "feet": "foot", "in": "inch", "inche": "inch", "lb": "pound", "deg": "degree",
    "centimetre": "centimeter", "metre": "meter", "kilometre": "kilometer", "square": "sq",
}  # fmt: skip
_BASED = re.compile(
    r"\(?\s*(?:\\text\{)?([0-9A-Za-z]+)\}?\s*\)?\s*_\{?\s*(?:\\text\{)?(\w+)\}?\s*\}?"
)
_BASES = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "twelve": "12", "sixteen": "16",
}  # fmt: skip
_MODULO = re.compile(
    r"(.*?)\s*(?:\\pmod\s*\{?|\\text\{\s*mod\s*\}|\(\s*(?:\\bmod|\\mod|\\text\{\s*mod\s*\}|mod)\s*)\s*(\w+)\s*[})]?"
)
_REMAINDER = re.compile(r"(\d+)\s*\\bmod(?![A-Za-z])\s*\{?\s*([1-9]\d*)\s*\}?")


def same_value(answer: str, gold: str) -> bool:
    """Say whether two texts, cleaned by `latex.clean` and not lists, have the same value."""
    words = _words(answer), _words(gold)
    if any(word is not None for word in words):
        return _same_words(answer, gold, *words)
    based = _digits_and_base(answer), _digits_and_base(gold)
    if any(based):
        return _same_based(answer, gold, *based)
    if ":" in answer and ":" in gold:
        return _same_ratio(answer.split(":"), gold.split(":"))
    return _same_quantity(answer, gold)


def squeezed(text: str) -> str:
    """Remove all spaces except those between digits: 1 2 is not 12."""
    return re.sub(r"(?<!\d) | (?!\d)", "", text)


def sides_of(text: str) -> tuple[list[str], list[str]]:
    """Split a text at its comparison operators outside of brackets.

    Returns:
        The n + 1 sides, and the n operators between them.
    """
    sides, operators, depth, start = [], [], 0, 0
    for match in _OUTER.finditer(text):
        depth += bool(match["open"]) - bool(match["close"])
        if depth == 0 and not match["open"] and not match["close"]:
            sides.append(text[start : match.start()].strip())
            operators.append(match.group())
            start = match.end()
    return [*sides, text[start:].strip()], operators


# Words


def _words(text: str) -> str | None:
    """Return the plain letters of a text in words; None if the text is mathematics."""
    bare = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text).strip()
    letters = re.fullmatch(r"\(?[A-Za-z][A-Za-z .'/-]*\)?(?: \d+)?", bare)
    if bare != text.strip() and letters and re.match(r"\(?\\text|[A-Za-z (]", text):
        return _plain(bare)
    return _plain(bare) if letters and re.search(r"[A-Za-z]{4}|[A-Za-z]{2} ", bare) else None


def _plain(words: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]", "", words)
    return words if len(words) == 1 else words.casefold()


def _same_words(answer: str, gold: str, *words: str | None) -> bool:
    """Compare words by their letters. Bare letters are words if the other text is in words."""
    own, other = (
        _plain(text) if word is None and re.fullmatch(r"\(?[A-Za-z ]+\)?", text) else word
        for word, text in zip(words, (answer, gold), strict=True)
    )
    return own is not None and own == other


# Numbers in a base, and ratios


def _digits_and_base(text: str) -> tuple[str, str] | None:
    """Split a number with a written base into digits and base; None for anything else."""
    match = _BASED.fullmatch(text)
    if match is None or not (match[1][0].isdigit() or match[1].isupper()):
        return None
    base = _BASES.get(match[2].lower(), match[2])
    return (match[1].lstrip("0").upper(), base) if base.isdigit() else None


def _same_based(answer: str, gold: str, own, other) -> bool:
    """Compare numbers of which at least one has a base.

    The answer may omit the gold answer's base. It may add a base only if that is 10.
    """
    if other is None:
        return own[1] == "10" and _same_number(own[0], gold)
    if own is None:
        return squeezed(answer).lstrip("0").upper() == other[0]
    return own == other


def _same_ratio(answer: list[str], gold: list[str]) -> bool:
    """Compare ratios: 1 : 2 equals 2 : 4, but 1:00 is a time."""
    if len(answer) != len(gold):
        return False
    if any(re.match(r"\s*0|.*[A-Za-z]", part) for part in answer[1:] + gold[1:]):
        return all(map(_same_quantity, answer, gold))
    return all(
        _same_number(rf"({a}) \cdot ({gold[0]})", rf"({g}) \cdot ({answer[0]})")
        for a, g in zip(answer[1:], gold[1:], strict=True)
    )


# Quantities


def _same_quantity(answer: str, gold: str) -> bool:
    (*steps, result), operators = sides_of(answer)
    if steps and set(operators) == {"="} and len(sides_of(gold)[0]) == 1:
        if len({squeezed(side) for side in (*steps, result)}) == 1:
            return False  # 0 = 0 is no calculation
        return _same_quantity(result, gold) and not any(_denies(step, result) for step in steps)
    (value, unit), (gold_value, gold_unit) = _quantity(answer), _quantity(gold)
    if unit and gold_unit and unit != gold_unit and "%" not in (unit, gold_unit):
        return False
    if unit == gold_unit and unit.startswith("mod "):
        return _same_residue(value, gold_value, unit.removeprefix("mod "))
    if _same_number(value, gold_value):
        return "%" not in (unit, gold_unit) or {unit, gold_unit} <= {"%", ""}
    if {unit, gold_unit} == {"%", ""}:
        own, other = (
            rf"\frac{{{v}}}{{100}}" if u else v for v, u in ((value, unit), (gold_value, gold_unit))
        )
        return _same_number(own, other)
    return False


def _denies(step: str, result: str) -> bool:
    """Say whether a step of a calculation is a number other than the result, as in 3 = 7."""
    from humanline.scoring.math.expressions import is_number

    return not _quantity(step)[1] and is_number(step) and not _same_quantity(step, result)


def _same_residue(answer: str, gold: str, modulus: str) -> bool:
    if not all(re.fullmatch(r"-?\s*\d+", text) for text in (answer, gold, modulus)):
        return _same_number(answer, gold)
    own, other, n = (int(squeezed(text)) for text in (answer, gold, modulus))
    return (own - other) % n == 0 if n else own == other


def _quantity(text: str) -> tuple[str, str]:
    """Split a text into its value and its unit; the unit is "" if there is none."""
    text = text.strip()
    if match := re.fullmatch(r"(.*?)\s*(?:\\?%|\\text\{\s*(?:%|percent)\s*\}|percent)", text):
        return match[1], "%"
    for sign, name in _CURRENCIES.items():
        if match := re.fullmatch(rf"(-?)\s*{re.escape(sign)}\s*(.+)|(.+){re.escape(sign)}", text):
            return _quantity(f"{match[1] or ''}{match[2] or match[3]}")[0], name
    if match := _REMAINDER.fullmatch(text):
        return str(int(match[1]) % int(match[2])), ""
    if match := _MODULO.fullmatch(text):
        return match[1], f"mod {match[2]}"
    match = _UNIT.fullmatch(text) or _WORDS.fullmatch(text)
    if match and (unit := _unit(match["unit"])):
        return match["value"], unit
    return text, ""


def _unit(text: str) -> str:
    """Return a unit's words in one spelling; "" if the text is no unit."""
    text = re.sub(r"\\text\{([^{}]*)\}|\\cdot", r" \1 ", text).replace(".", "")
    words = re.findall(r"[A-Za-z]+|\^\s*\{?\d|/|°", text.lower())
    if _NO_UNITS & set(words) or re.search(r"[^A-Za-z^{}\d/°.,\s()-]", text):
        return ""
    if words[:1] in (["squared"], ["cubed"]) or "times" in words[:-1]:
        return ""
    if re.search(r"(?<![\^{\s])\d|\s\d", text):
        return ""
    singular = [word if len(word) < 3 else word.removesuffix("s") for word in words]
    return " ".join(_LONG_FORMS.get(word, word) for word in singular)


# Numbers, expressions and relations


def _same_number(answer: str, gold: str) -> bool:
    """Say whether two texts without units have the same value."""
    answer, gold = (text.split(r"\approx")[0].strip() for text in (answer, gold))
    if squeezed(answer) == squeezed(gold) and answer:
        return True
    sides, gold_sides = (sides_of(text)[0] for text in (answer, gold))
    if len(sides) != len(gold_sides):
        return False
    if len(sides) > 1:
        return _same_relation(answer, gold)
    from humanline.scoring.math.expressions import same_expression

    return same_expression(answer, gold)


def _same_relation(answer: str, gold: str) -> bool:
    """Compare two relations: left minus right must be the same in both, up to a factor."""
    from humanline.scoring.math.expressions import ratio

    sides, operators = zip(sides_of(answer), sides_of(gold), strict=True)
    if [len(own) for own in operators] != [1, 1]:
        return False
    factor = ratio(*(f"({left})-({right})" for left, right in sides))
    if factor is None:
        return False
    (own,), (other,) = operators
    if own in ("=", r"\ne"):
        return own == other
    return own == (other if factor > 0 else FLIPPED[other])
