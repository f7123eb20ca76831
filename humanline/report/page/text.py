"""Text of models, prompts and logs, made safe to read: nothing in it is invisible or endless.

HTML's own characters are not escaped here: Jinja's autoescape does it in templates, and the page's
script writes text as text alone.
"""

import unicodedata
from functools import cache

LIMIT = 2000  # characters of a text that the page shows
_KEPT = "\n\t\u200c\u200d"  # the joiners belong to the spelling of some scripts, and to emoji
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats, halves of characters, separators


class _Marks(dict):
    """What to show instead of each character, for `str.translate`; computed at first use."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in _KEPT or unicodedata.category(character) not in _HIDDEN:
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
    text can hide a part of itself or disturb what stands beside it. A long text is cut.

    Args:
        text: the text; it may hold half of a surrogate pair.
        limit: the number of characters to show; what is cut is said at the end.
    """
    found = text[:limit].translate(_marks())
    return found if len(text) <= limit else f"{found} … (cut: {len(text):,} characters)"
