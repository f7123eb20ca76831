"""Wishes about a short English text: how prompts say them, and how well a text meets them.

Each wish has a grade in [0, 1]. Grades are gradual where they can be: a slightly better text has a
slightly better grade.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from humanline.worlds.english.words import AVOIDED, NOUNS

_WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")  # noqa: RUF001
_END = re.compile(r"[.!?]+(?=\W*(?:\s|$))")
_QUOTES = '"“”'
_NUMBERS = {"one": 1, "two": 2, "three": 3}
_MARKS = {"a question mark": "?", "an exclamation mark": "!"}


@dataclass(frozen=True)
class Wish:
    """A wish: the name of its kind in `KINDS`, and one of the kind's values."""

    kind: str
    value: str

    @property
    def words(self) -> int:
        """About how many words it takes."""
        own = {"sentences": 6 * _NUMBERS.get(self.value, 0), "form": _FORM_WORDS.get(self.value, 0)}
        return int(self.value) if self.kind == "words" else own.get(self.kind, 0)

    def grade(self, text: str) -> float:
        """Grade a text, in [0, 1]; a text without a word meets no wish."""
        return KINDS[self.kind].grade(text.strip(), self.value) if words_of(text) else 0.0


@dataclass(frozen=True)
class Kind:
    """A kind of wish.

    Args:
        sentences: ways to say it; ``{}`` is the value.
        values: what can be wished for.
        grade: (text, value) -> grade.
    """

    sentences: tuple[str, ...]
    values: tuple[str, ...]
    grade: Callable[[str, str], float]


def words_of(text: str) -> list[str]:
    """List the words of a text."""
    return _WORD.findall(text)


def count_sentences(text: str) -> int:
    """Count the sentences of a text; one that does not end counts too."""
    ends = list(_END.finditer(text))
    rest = text[ends[-1].end() :] if ends else text
    return len(ends) + bool(words_of(rest))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _lower(text: str) -> list[str]:
    return [word.lower() for word in words_of(text)]


def _word_count(text: str, value: str) -> float:
    return math.exp(-3 * abs(len(words_of(text)) - int(value)) / int(value))


def _sentence_count(text: str, value: str) -> float:
    return math.exp(-abs(count_sentences(text) - _NUMBERS[value]))


def _has_word(text: str, value: str) -> float:
    return float(value in _lower(text))


def _has_no_word(text: str, value: str) -> float:
    return 1 / (1 + _lower(text).count(value))


def _casing(text: str, value: str) -> float:
    words = words_of(text)
    wished = str.upper if value == "capital letters" else str.lower
    return sum(word == wished(word) for word in words) / len(words)


def _last_word(text: str, value: str) -> float:
    words = _lower(text)
    if words[-1:] == [value]:
        return 1.0
    return 0.5 if value in words[-3:] else 0.0


def _last_mark(text: str, value: str) -> float:
    mark = _MARKS[value]
    if text.rstrip(_QUOTES).endswith(mark):
        return 1.0
    return 0.3 if mark in text else 0.0


def _list(text: str) -> float:
    lines = _lines(text)
    share = sum(line.startswith(("-", "•", "*")) for line in lines) / len(lines)
    return share * math.exp(-abs(len(lines) - 3) / 2)


def _letter(text: str) -> float:
    return 1.0 if text.startswith("Dear ") else 0.3 if text.lower().startswith("dear") else 0.0


def _poem(text: str) -> float:
    return math.exp(-abs(len(_lines(text)) - 4) / 2)


def _quoted(text: str) -> float:
    return (text[0] in _QUOTES) / 2 + (len(text) > 1 and text[-1] in _QUOTES) / 2


_FORMS: dict[str, Callable[[str], float]] = {
    "a list of three lines, each with a dash at its beginning": _list,
    'a letter with "Dear" at its beginning': _letter,
    "a poem of four lines": _poem,
    "a text in quotation marks": _quoted,
}

_FORM_WORDS = {form: 15 for form in _FORMS if "list" in form} | {"a poem of four lines": 20}

KINDS = {
    "words": Kind(
        ("Use about {} words.", "Write about {} words.", "Its length is about {} words."),
        ("8", "12", "16", "20"),
        _word_count,
    ),
    "sentences": Kind(
        ("Write exactly {} sentences.", "Its length is exactly {} sentences."),
        ("two", "three"),
        _sentence_count,
    ),
    "use": Kind(
        ('Use the word "{}".', 'The word "{}" has to occur.'), NOUNS, _has_word
    ),
    "avoid": Kind(
        ('Do not use the word "{}".', 'Avoid the word "{}".'), AVOIDED, _has_no_word
    ),
    "casing": Kind(
        ("Use {} only.", "Write all of it in {}."),
        ("small letters", "capital letters"),
        _casing,
    ),
    "last_word": Kind(
        ('End with the word "{}".', 'The last word is "{}".'), NOUNS, _last_word
    ),
    "mark": Kind(
        ("End with {}.", "The last character is {}."), tuple(_MARKS), _last_mark
    ),
    "form": Kind(
        ("Write it as {}.", "Its form is {}."),
        tuple(_FORMS),
        lambda text, value: _FORMS[value](text),
    ),
}  # fmt: skip
FORMS = tuple(_FORMS)
MARKS = _MARKS
