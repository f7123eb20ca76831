"""Compare expressions in LaTeX by their values: math-verify's parser reads, SymPy computes."""

import re
from functools import lru_cache

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from math_verify.grader import should_treat_as_complex

DIGITS = 30  # significant digits in which equal values agree
_CONFIG = ConversionConfig(lowercase_symbols=False)
# Values for variables: of both signs, and with no simple relation to one another.
_PLACES = (
    sympy.Rational(137, 100),
    sympy.Rational(-71, 53),
    sympy.Rational(291, 73),
    sympy.Rational(19, 83),
)
_REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d+)\}?")
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])")


def same_expression(one: str, other: str) -> bool:
    """Say whether two expressions in LaTeX have the same value at all tried values of variables.

    False if one of them cannot be parsed.
    """
    found = [_parsed(text) for text in (one, other)]
    if any(expression is None for expression in found):
        return False
    if not all(isinstance(expression, sympy.Expr) for expression in found):
        return _equal(*found)
    if {expression.is_rational for expression in found} == {True, False}:
        return False  # pi is not equal to its first 30 digits
    values = list(_values(*found))
    return bool(values) and all(_close(*pair) for pair in values)


def is_number(text: str) -> bool:
    """Say whether a text is an expression with a value and without letters, except commands."""
    if re.search(r"[A-Za-z_]", re.sub(r"\\[A-Za-z]+", "", text)):
        return False  # \frac{dy}{dx} would have the value 0; 10_2 has a base
    found = _parsed(text)
    return isinstance(found, sympy.Expr) and not _names(found) and _value(found, {}) is not None


def ratio(one: str, other: str) -> sympy.Expr | None:
    """Return the constant c, not 0, with one = c * other at all tried values; None without one."""
    found = [_parsed(text) for text in (one, other)]
    if not all(isinstance(expression, sympy.Expr) for expression in found):
        return None
    if _names(found[0]) != _names(found[1]):
        return None
    ratios = [a / b for a, b in _values(*found) if b != 0]
    if not ratios or ratios[0] == 0 or not all(_close(ratios[0], value) for value in ratios):
        return None
    return ratios[0] if ratios[0].is_real else None


@lru_cache(maxsize=1000)
def _parsed(text: str):
    """Parse a text; None if it is no expression. Decimals become exact fractions."""
    text = _DECIMAL.sub(_fraction, _REPEATING.sub(_repeating_fraction, text))
    try:
        is_real = not should_treat_as_complex(text)
        found = latex2sympy(
            text, is_real=is_real, normalization_config=None, conversion_config=_CONFIG
        )
        return found.doit() if isinstance(found, sympy.Basic) else found
    except Exception:  # the generated parser and SymPy raise many kinds
        return None


def _repeating_fraction(match: re.Match) -> str:
    whole, decimals, period = match[1] or "0", match[2], match[3]
    value = int(whole + decimals + period) - int(whole + decimals)
    return rf"(\frac{{{value}}}{{{(10 ** len(period) - 1) * 10 ** len(decimals)}}})"


def _fraction(match: re.Match) -> str:
    whole, decimals = match[1] or "0", match[2]
    return rf"(\frac{{{int(whole + decimals)}}}{{{10 ** len(decimals)}}})"


def _names(expression: sympy.Expr) -> set[str]:
    return {symbol.name for symbol in expression.free_symbols}


def _values(one: sympy.Expr, other: sympy.Expr):
    """Yield the values of both expressions at every place where both have one."""
    names = sorted(_names(one) | _names(other))
    for shift in range(len(_PLACES) if names else 1):
        places = {name: _PLACES[(i + shift) % len(_PLACES)] + i for i, name in enumerate(names)}
        values = [_value(expression, places) for expression in (one, other)]
        if None not in values:
            yield values


def _value(expression: sympy.Expr, places: dict[str, sympy.Rational]) -> sympy.Expr | None:
    # The parser reads the imaginary unit as a symbol.
    at = {s: sympy.I if s.name == "i" else places[s.name] for s in expression.free_symbols}
    value = expression.subs(at) if at else expression
    if value.is_Rational or value in (sympy.oo, -sympy.oo):
        return value
    value = value.evalf(DIGITS + 10, maxn=300)
    return value if value.is_number and value.is_finite else None


def _close(one: sympy.Expr, other: sympy.Expr) -> bool:
    if one == other:
        return True
    if one.is_Rational and other.is_Rational:
        return False
    if not (one.is_finite and other.is_finite):
        return False
    scale = max(abs(one), abs(other))
    return bool(abs(one - other) < scale * sympy.Float(10) ** -DIGITS)


def _equal(one, other) -> bool:
    """Compare sets and other objects without a value."""
    try:
        return bool(one == other)
    except Exception:
        return False
