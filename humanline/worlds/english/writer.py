"""The expert of the English world: short texts in simple sentences that meet most wishes."""

import random
from collections.abc import Sequence

from humanline.worlds.english.wishes import MARKS, Wish, words_of
from humanline.worlds.english.words import CLAUSES

_TRIES = 12  # texts, of which the one with the length nearest to the wish is taken
_MORE_TRIES = 60  # where no length of these was near
_MOST_PARTS = 4  # sentences


def write(
    subject: str, setting: str, wishes: Sequence[Wish], rng: random.Random, attention: float
) -> str:
    """Write a text about a subject that follows each wish with probability `attention`.

    Args:
        subject: what the text is about, a plural.
        setting: words behind it that say where, when or how; empty: none.
        wishes: the wishes.
        rng: the source of randomness.
        attention: the probability, from 0 to 1.
    """
    heeded = {wish.kind: wish.value for wish in wishes if rng.random() < attention}
    form = heeded.get("form", "")
    parts = _number_of_parts(heeded, form, rng)
    length = int(heeded.get("words", 0)) or 7 * parts
    found, off = _nearest(subject, setting, heeded, [parts] * _TRIES, length, rng)
    if "words" in heeded and off > 1:  # with so many sentences none is so long, or so short
        # Random numbers of its own: what is drawn after this text does not depend on its tries.
        own, is_free = random.Random(found), "list" not in form and "poem" not in form
        numbers = [own.randint(1, _MOST_PARTS) if is_free else parts for _ in range(_MORE_TRIES)]
        again, further = _nearest(subject, setting, heeded, numbers, length, own)
        found = again if further < off else found
    return _cased(found, heeded.get("casing"))


def _nearest(
    subject: str,
    setting: str,
    heeded: dict[str, str],
    numbers: Sequence[int],
    length: int,
    rng: random.Random,
) -> tuple[str, int]:
    """Write texts of these numbers of sentences, and return the one whose length is nearest.

    Returns:
        The text, and by how many words its length is off.
    """
    texts = [
        _formed(_sentences(subject, own, heeded, parts, rng), heeded.get("form", ""))
        for own in (setting, "")  # of texts as good, one with the setting
        for parts in numbers
    ]
    off = [abs(len(words_of(text)) - length) for text in texts]
    return texts[off.index(min(off))], min(off)


def _number_of_parts(heeded: dict[str, str], form: str, rng: random.Random) -> int:
    """Choose the number of sentences, or of lines."""
    if "list" in form:
        return 3
    if "poem" in form:
        return 4
    if "sentences" in heeded:
        return {"two": 2, "three": 3}[heeded["sentences"]]
    most = max(1, int(heeded.get("words", 16)) // 5)
    return rng.randint(max(1, most - 1), most)


def _sentences(
    subject: str, setting: str, heeded: dict[str, str], parts: int, rng: random.Random
) -> list[str]:
    """Write sentences with the words that are wished for, and without the one that is not."""
    avoided = heeded.get("avoid")
    clauses = [clause for clause in CLAUSES if avoided not in clause.split()]
    other = "They" if avoided != "they" else f"These {subject}"
    topic = subject if avoided in setting.split() else f"{subject} {setting}".strip()
    starts = [topic[0].upper() + topic[1:], *[other] * (parts - 1)]
    texts = [f"{s} {c}" for s, c in zip(starts, rng.sample(clauses, parts), strict=True)]
    if "use" in heeded:
        place = rng.randrange(parts)
        texts[place] += f" near {_one(heeded['use'], avoided)}"
    if "last_word" in heeded:
        texts[-1] += f" beside {_one(heeded['last_word'], avoided)}"
    mark = MARKS.get(heeded.get("mark", ""), ".")
    return [f"{text}." for text in texts[:-1]] + [texts[-1] + mark]


def _one(noun: str, avoided: str | None) -> str:
    """Write a noun with an article that is not avoided."""
    if avoided != "a":
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    return f"the {noun}"


def _formed(parts: list[str], form: str) -> str:
    if "list" in form:
        return "\n".join(f"- {part}" for part in parts)
    if "poem" in form:
        return "\n".join(parts)
    text = " ".join(parts)
    if "letter" in form:
        return f"Dear friend, {text[0].lower()}{text[1:]}"
    return f'"{text}"' if "quotation" in form else text


def _cased(text: str, casing: str | None) -> str:
    match casing:
        case "small letters":
            return text.lower()
        case "capital letters":
            return text.upper()
    return text
