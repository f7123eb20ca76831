r"""Bring answers into one spelling of LaTeX: Unicode, Markdown and spacing are unified.

This module does not interpret answers. Each function takes time proportional to the length of its
text, times the depth of its braces.
"""

# ruff: noqa: RUF001

import re
import unicodedata

DOLLAR = "\N{FULLWIDTH DOLLAR SIGN}"  # a currency; "$" encloses mathematics
_SYMBOLS = {
    **dict.fromkeys("−‐‑‒–﹣－", "-"),
    **dict.fromkeys("×✕⨯", r"\times "),
    **dict.fromkeys("·⋅∙•", r"\cdot "),
    **dict.fromkeys("∗＊", "*"),
    **dict.fromkeys("÷∕⁄", "/"),
    **dict.fromkeys('“”„‘’′″`"', ""),
    **dict.fromkeys("⟨〈", r"\langle "),
    **dict.fromkeys("⟩〉", r"\rangle "),
    "∞": r"\infty ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "≡": r"\equiv ",
    "±": r"\pm ",
    "∓": r"\mp ",
    "\N{UNION}": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "\N{DOUBLE-STRUCK CAPITAL R}": r"\mathbb{R}",
    "°": r"^{\circ}",
    "º": r"^{\circ}",
    "…": r"\ldots ",
    "∣": "|",
    **{
        character: rf"\mathbb{{{letter}}}" for character, letter in zip("ℤℚℕℂ", "ZQNC", strict=True)
    },
    "。": ".",
    **dict.fromkeys("⩽≦", r"\le "),
    **dict.fromkeys("⩾≧", r"\ge "),
}
_SCRIPTS = {"<super>": "^", "<sub>": "_"}
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)$")
# Commands that only style an answer. The first group's arguments in braces stay.
_STYLE = re.compile(
    r"\\(?:underline|boldsymbol|bm|mathbf|mathit|mathsf|mathtt|mathnormal|emph|fbox|boxed)\s*(?=\{)"
    r"|\\(?:text)?color\s*\{[^{}]*\}|\\[hv]?phantom\s*\{[^{}]*\}|\\(?:left|right)\s*\."
    r"|\\(?:bf|it|rm|sf|tiny|small|large|Large|LARGE|huge|Huge|therefore|checkmark)(?![A-Za-z])"
)
_SPACING = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits)(?![A-Za-z])"
    r"|(?<!\\)\\!"
)
_SPACES = re.compile(r"(?<!\\)\\(?:[,;: ]|quad\b|qquad\b|thinspace\b|hspace\{[^{}]*\})|~|\s")
_THOUSANDS = re.compile(r"(?<=\d)(?:,? |,|\{,\} ?)(?=\d{3}(?!\d))")
_TEXTS = re.compile(
    r"\\(?:text(?:bf|it|rm|normal|sf|tt)?|math(?:rm|bf|it|sf|tt)|mbox|hbox|emph|bf|rm)\s*(?=\{)"
)
_MANY = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SYNONYMS = (
    # In a list "and" means a comma, also within words.
    (
        re.compile(
            r"\\text\{\s*,?\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])(?![^{}]*\})"
        ),
        ",",
    ),
    (re.compile(r"(\\text\{[^{}]*?)[\s,]+(?:and|or)\s+(?=[^{}]*\})"), r"\1},\\text{"),
    # A \text without words, or with a number before its words.
    (re.compile(r"\\text\s*\{([^{}A-Za-z]*)\}"), r"\1"),
    (re.compile(r"\\text\s*\{\s*(-?\d[\d,./]*)\s+([A-Za-z][^{}]*)\}"), r"\1\\text{ \2}"),
    *(
        pair
        for word, zeros in _MANY.items()
        for pair in (
            (re.compile(rf"(?<=[\d}}])\s*\\text\{{\s*{word}s?\s*\}}"), rf"\\times 10^{{{zeros}}}"),
            (
                re.compile(rf"(?<=[\d}}])\s*\\text\{{\s*{word}s?\s"),
                rf"\\times 10^{{{zeros}}}\\text{{",
            ),
            (re.compile(rf"(?<=[\d}}])\s*{word}s?(?![A-Za-z])"), rf"\\times 10^{{{zeros}}}"),
        )
    ),
    (re.compile(r"\\operatorname\*?\{\s*(\w+)\s*\}"), r"\\\1 "),
    (re.compile(r"\\mathbb\s*\{?R\}?(?!\s*[\^_\\+*])"), r"(-\\infty,\\infty)"),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:leq|leqslant)(?![A-Za-z])|<="), r"\\le "),
    (re.compile(r"\\(?:geq|geqslant)(?![A-Za-z])|>="), r"\\ge "),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\neq(?![A-Za-z])|\\not\s*=|!="), r"\\ne "),
    (re.compile(r"\\(?:varnothing|O)(?![A-Za-z])|\\text\{\s*\u00d8\s*\}"), r"\\emptyset "),
    (re.compile(r"\\lbrace(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\(?:dots|cdots|dotsc)(?![A-Za-z])"), r"\\ldots "),
    (
        re.compile(r"\^\s*\{?\s*\\(?:circ|degree)(?![A-Za-z])\s*\}?|\\degree(?![A-Za-z])"),
        r"\\text{ degrees}",
    ),
    (
        re.compile(r"\\text\{ degrees\}\s*(?:\\text\s*\{\s*)?([CF])(?![A-Za-z])\}?"),
        r"\\text{ degrees \1}",
    ),
    (
        re.compile(
            r"\\(sin|cos|tan|cot|sec|csc)\s*[({]?\s*(\d+(?:\.\d+)?)\s*\\text\{ degrees\}\s*[)}]?"
        ),
        r"\\\1(\\frac{\2\\pi}{180})",
    ),
    (re.compile(r"(?<=\d)(?:\s*\^\s*\{?)?\s*(?:\\text\s*\{\s*)?(?:st|[nr]d|th)\s*\}?\}?$"), ""),
    (re.compile(r"(?<=\d)\s*x\s*(?=10\s*\^)"), r"\\times "),
    (re.compile(r"\{?\s*(\w+)\s*\\choose\s*(\w+)\s*\}?"), r"\\binom{\1}{\2}"),
    (re.compile(r"\\(begin|end)\{smallmatrix\}"), r"\\\1{pmatrix}"),
    (
        re.compile(r"(?<=\w)(?:_\s*\{)?\s*(?:\\text\s*\{)?\s*(?:in )?base\s*\}?\s*\{?(\d+)\s*\}?"),
        r"_{\1}",
    ),
    (re.compile(r"_\s*\{\s*\(\s*(\d+)\s*\)\s*\}"), r"_{\1}"),
    (re.compile(r"\.(\d*?)(\d)\2{2,}\s*\\ldots"), r".\1\\overline{\2}"),
    (re.compile(r"(?<![\\A-Za-z])(?:infinity|inf)(?![A-Za-z])"), r"\\infty "),
    (re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])"), r"\\pi "),
    (
        re.compile(r"(?<![\\A-Za-z{])(log|ln|sin|cos|tan)(?=\s*[_({\\\d]|\s+[a-z](?![a-z]))"),
        r"\\\1",
    ),
    (re.compile(r"(?<![\\A-Za-z])sqrt(?=\s*[({\[\d])"), r"\\sqrt"),
    (re.compile(r"(?<=\w)\s*\*\*\s*(?=[\w({])"), "^"),
    (re.compile(r"(?<=\d)[eE](?=[+-]?\d)([+-]?\d+)(?!\w)"), r"\\times 10^{\1}"),
    (re.compile(r"\^\s*([+-]?\d+(?:\.\d+)?)"), r"^{\1}"),
    (re.compile(r"\^\s*\(([^(){}]*)\)"), r"^{\1}"),
    (re.compile(r"\\log\s*_\s*(\d)"), r"\\log_{\1}"),
    (re.compile(r"_\s*(\d+)"), r"_{\1}"),
    (re.compile(r"\\sqrt\s*\(([^(){}]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"\\sqrt\s*(\d|[A-Za-z](?![A-Za-z]))"), r"\\sqrt{\1}"),
    (re.compile(r"\\frac\s*(\d|[A-Za-z](?![A-Za-z]))"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\s*\{(?:[^{}]|\{[^{}]*\})*\})\s*(\d|[A-Za-z](?![A-Za-z]))"), r"\1{\2}"),
    (re.compile(r"(?<![\d/^.])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d/])"), r"\1\\frac{\2}{\3}"),
)
_PUNCTUATION = re.compile(r"(?<!\\)[.,;:\s]+$|\\\\$")
_PREFIX = re.compile(
    r"^(?:\\text\{)?\s*(?:(?:the )?(?:final )?answer(?: is|:| is:)|\\approx)\s*\}?:?\s*", re.I
)
_WRAPPERS = (
    ("**", "**"),
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("`", "`"),
    ("*", "*"),
    ("_", "_"),
    ("'", "'"),
)


def clean(text: str) -> str:
    """Return an answer, LaTeX without delimiters, in one spelling."""
    text = _SPACES.sub(" ", _without_unicode(text).replace("\\$", DOLLAR))
    text = re.sub(r"\.\.\.+", r"\\ldots ", text)  # the dots of 0.333... are not full stops
    text = _unwrapped(_STYLE.sub("", text))
    if text.startswith("$") and text.count("$") == 1:
        text = text.replace("$", DOLLAR)
    text = _unwrapped(_SPACING.sub("", text))
    text = re.sub(r"\\mathrm\s*\{([ei])\}", r"\1", text)
    text = _TEXTS.sub(r"\\text", _THOUSANDS.sub(_joined, text))
    for pattern, replacement in _SYNONYMS:
        text = pattern.sub(replacement, text)
    return " ".join(_unwrapped(text).split())


def _joined(separator: re.Match) -> str:
    """Remove a separator of a number's digits; keep a comma, which may separate items of a list."""
    return separator.group() if separator.group() in (",", ", ") else ""


def _unwrapped(text: str) -> str:
    """Remove a full stop, and the marks on both ends that make a text bold or mathematics."""
    before = None
    while before != text:
        before, text = text, _PUNCTUATION.sub("", _PREFIX.sub("", text.strip()))
        if text.startswith("{") and text.endswith("}") and _closes_last(text):
            text = text[1:-1]
        for start, end in _WRAPPERS:
            inner = text[len(start) : -len(end)]
            if text.startswith(start) and text.endswith(end) and inner and start not in inner:
                text = inner
    return text


def _closes_last(text: str) -> bool:
    """Say whether a text's last character closes its first brace, and the braces hold no list."""
    depth = 0
    for brace in re.finditer(r"\\.|[{},]", text):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0 or (depth == 1 and brace.group() == ","):
            return brace.end() == len(text)
    return False


def _without_unicode(text: str) -> str:
    text = "".join(map(_ascii, text))
    text = re.sub(r"(?:\^\{[^{}]*\}){2,}|(?:_\{[^{}]*\}){2,}", _one_script, text)
    text = re.sub(r"∛\s*(\w+)", r"\\sqrt[3]{\1}", text)
    return re.sub(r"√\s*(?:\(([^()]*)\)|(\w+|\\[a-z]+)|(?=\{))", _root, text)


def _one_script(match: re.Match) -> str:
    """Join neighbouring scripts: Unicode has one superscript per digit."""
    return f"{match[0][0]}{{{re.sub(r'[{}^_]', '', match[0])}}}"


def _root(match: re.Match) -> str:
    inner = match[1] or match[2]
    return rf"\sqrt{{{inner}}}" if inner else r"\sqrt"


def _ascii(character: str) -> str:
    if (character.isascii() and character != '"') or character in f"√∛{DOLLAR}":
        return character
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if unicodedata.category(character) == "Cf":  # characters without width
        return ""
    kind, *_ = unicodedata.decomposition(character).split() or [""]
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    plain = unicodedata.normalize("NFKC", character)
    if kind == "<fraction>":
        return r"\frac{{{}}}{{{}}}".format(*plain.split("\N{FRACTION SLASH}"))
    if kind in _SCRIPTS:
        return f"{_SCRIPTS[kind]}{{{_SYMBOLS.get(plain, plain)}}}"
    if greek := _GREEK.match(unicodedata.name(character, "")):
        name = greek[2].lower()
        return f"\\{name if greek[1] == 'SMALL' else name.capitalize()} "
    return plain
