"""Text of models, prompts and logs, made safe to read: nothing in it is invisible or endless.

HTML's own characters are not escaped here: Jinja's autoescape does it in templates, and the page's
script writes text as text alone.
"""

import re
import unicodedata
from functools import cache

LIMIT = 2000  # characters of a text that the page shows
_KEPT = "\n\t\u200c\u200d"  # the joiners belong to the spelling of some scripts, and to emoji
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats, halves of characters, separators
# Invisible, too, though Unicode counts them as letters or as marks: fillers, and variants of a
# character, except the usual one of emoji.
_EMPTY = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0} | {*range(0xFE00, 0xFE0F)}
_EMPTY |= {*range(0xE0100, 0xE01F0)}
# Marks that no writing heaps up, and what joins one character to the next, not to itself.
_HEAPED = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{5,}"
    "|[\u200c\u200d\ufe0f]{3,}"
)


class _Marks(dict):
    """What to show instead of each character, for `str.translate`; computed at first use."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        is_hidden = code in _EMPTY or unicodedata.category(character) in _HIDDEN
        if character in _KEPT or not is_hidden:
            shown = character
        elif code < 0x20:
            shown = chr(0x2400 + code)  # a picture of the control character
        else:
            shown = f"[U+{code:04X}]"
        self[code] = shown
        return shown


@cache
def _marks() -> _Marks:
    return _Marks()


def shown(text: str, limit: int = LIMIT) -> str:
    """Make a text of unknown origin readable: the filter ``shown`` of the templates.

    Control characters and those that change the direction of text become visible marks, so that no
    text can hide a part of itself or disturb what stands beside it. Of marks in a heap the first
    one stays. A long text is cut.

    Args:
        text: the text; it may hold half of a surrogate pair.
        limit: the number of characters to show; what is cut is said at the end.
    """
    found = _HEAPED.sub(_heap, text[:limit]).translate(_marks())
    return found if len(text) <= limit else f"{found} … (cut: {len(text):,} characters)"


def _heap(found: re.Match) -> str:
    return f"{found[0][0]}[{len(found[0]):,} marks]"
