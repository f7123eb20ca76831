"""Plain text in Markdown and LaTeX: labels, descriptions and claims look as they were written.

White space, line breaks too, becomes one space: a cell is one line, and a caption one paragraph.
"""

import re
import unicodedata

from humanline.report.page.text import shown

# What Markdown reads as its own: an underscore within a word, `2 < 3` and `[1, 2]` are plain.
_MARKDOWN = re.compile(
    r"[\\|`*~]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w+;)|\](?=[(\[])"
)
# Also comparison signs: LaTeX's default font encoding prints `<` as another character.
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"${character}$" for character in "<>|"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "\N{NO-BREAK SPACE}": "~",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{MINUS SIGN}": "--",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
    "\N{SECTION SIGN}": r"\S{}",
    "\N{HYPHEN}": "-",
    "\N{BULLET}": r"\textbullet{}",
    "\N{FRACTION SLASH}": "/",
    "\N{DEGREE SIGN}": r"$^\circ$",
    "\N{LATIN SMALL LETTER DOTLESS I}": r"\i{}",
    "\u03bb": r"$\lambda$",  # Unicode spells its name in another way
    "\u039b": r"$\Lambda$",
    "\N{GREEK SMALL LETTER OMICRON}": "o",
    "\N{GREEK SMALL LETTER FINAL SIGMA}": r"$\varsigma$",
}
_LATEX |= {
    own: rf"\{name}{{}}"
    for own, name in zip(
        "ßæÆœŒøØåÅłŁ", ("ss", "ae", "AE", "oe", "OE", "o", "O", "aa", "AA", "l", "L"), strict=True
    )
}
_LATEX |= {
    sign: rf"$\{name}$"
    for sign, name in {
        "\N{MULTIPLICATION SIGN}": "times", "±": "pm",
        "÷": "div", "·": "cdot", "≤": "leq", "≥": "geq", "≠": "neq",
        "≈": "approx", "∞": "infty", "→": "rightarrow", "←": "leftarrow", "↔": "leftrightarrow",
        "∈": "in", "∑": "sum", "∏": "prod", "√": "surd", "∂": "partial", "∇": "nabla",
        "¬": "neg", "∝": "propto", "≪": "ll", "≫": "gg", "«": "ll", "»": "gg",
    }.items()
}  # fmt: skip
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)")
_GREEK_NAMES = re.compile(
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|mu|nu|xi|pi|rho|sigma|tau"
    "|upsilon|phi|chi|psi|omega|Gamma|Delta|Theta|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega"
)
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u0304\u0306\u0307\u030a\u030b\u030c\u0327",
                    "`'^~\"=u.rHvc", strict=True))  # fmt: skip
_RAISED = {"<super>": "^", "<sub>": "_"}


def one_line(text: str) -> str:
    """Collapse white space, also line breaks, to single spaces."""
    return " ".join(text.split())


def markdown_text(text: str) -> str:
    """Write plain text in Markdown, also as a cell of a table; what is invisible becomes a mark."""
    text = one_line(text)
    return _MARKDOWN.sub(r"\\\g<0>", shown(text, len(text)))


def latex_text(text: str) -> str:
    """Write plain text in LaTeX; it compiles whatever it holds, and without a package.

    Accented Latin letters, Greek letters and the common signs of mathematics and typography print
    as they are. All other characters beyond ASCII print as their numbers, as `[U+4E2D]`: LaTeX
    stops at those that its fonts lack.
    """
    text = unicodedata.normalize("NFC", one_line(text))
    text = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)
    text = re.sub(r"(?<!\w)'(?=\w)", "\N{LEFT SINGLE QUOTATION MARK}", text)
    text = re.sub(r"(?<=\d) (?=\\%)", "~", "".join(map(_latex_character, text)))
    # After the end of a row, LaTeX reads a bracket as a length, and drops a star.
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii() and character.isprintable():
        return character
    if greek := _greek_name(character):
        return rf"$\{greek}$"
    kind = unicodedata.decomposition(character).partition(" ")[0]
    if len(decomposed := unicodedata.normalize("NFD", character)) == 2:
        base, mark = decomposed[0], decomposed[1]
        if base.isascii() and base.isalpha() and mark in _ACCENTS:
            return rf"\{_ACCENTS[mark]}{{{base}}}"
    if kind.startswith("<"):  # another form of plain characters
        text = "".join(map(_latex_character, unicodedata.normalize("NFKC", character)))
        return f"${_RAISED[kind]}{{{text}}}$" if kind in _RAISED and "$" not in text else text
    return f"[U+{ord(character):04X}]"


def _greek_name(character: str) -> str | None:
    """Find a Greek letter's command; a capital that looks like a Latin letter has none."""
    if not (found := _GREEK.fullmatch(unicodedata.name(character, ""))):
        return None
    size, letter = found.groups()
    name = letter.capitalize() if size == "CAPITAL" else letter.lower()
    return name if _GREEK_NAMES.fullmatch(name) else None
