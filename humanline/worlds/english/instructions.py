"""Instructions of the English world: prompts, references, and both rewards.

A prompt asks for a short text about a subject and has three or four wishes, for example: ``Write a
short text about sailors at night. Use about 12 words. Avoid the word "the". End with a question
mark.`` As in the miniature (`letters`), three parties look at a text:

- the *expert* writes the references, and what base models may learn from;
- the *gold* grade is the mean of the wishes' grades; the judge adds how natural the text is (see
  `scoring`), and training never sees either;
- the *proxy* reward labels training data. It weighs the kinds of wishes wrongly, prefers long
  texts, has random errors, and does not know how natural a text is.
"""

import random
import re
from functools import cache

from humanline.worlds.english import writer
from humanline.worlds.english.wishes import KINDS, Wish, words_of
from humanline.worlds.english.words import SETTINGS, SUBJECTS
from humanline.worlds.letters import hashed_normal

_ASKED = (
    "Write a short text about {}.",
    "Tell a very short story about {}.",
    "Say something about {}.",
    "Write a few words about {}.",
)
_REFERENCE_CARELESSNESS = 0.6  # chance that the writer of the references ignores a wish

# The faults of the proxy reward: the weight of each kind of wish (gold: all equal), a bonus per
# word, and the standard deviation of its random errors.
PROXY_WEIGHT = {
    "words": 0.7, "sentences": 0.7, "use": 1.5, "avoid": 0.5, "casing": 1.2, "last_word": 0.8,
    "mark": 1.4, "form": 1.0,
}  # fmt: skip
PROXY_LENGTH_BONUS = 0.004
PROXY_NOISE = 0.06


def draw_rows(count: int, seed: int, most_words: int = 20) -> list[dict]:
    """Draw prompts with references.

    Args:
        count: number of rows.
        seed: the seed.
        most_words: words of the longest text that a prompt asks for.

    Returns:
        ``{"prompt", "reference", "key"}`` for each row; the key is the subject.
    """
    rng = random.Random(f"english instructions {seed}")
    return [_row(rng, most_words) for _ in range(count)]


def _row(rng: random.Random, most_words: int) -> dict:
    subject, setting = rng.choice(SUBJECTS), rng.choice(SETTINGS)
    asked = rng.choice(_ASKED).format(f"{subject} {setting}".strip())
    wishes = sample_wishes(rng, most_words)
    said = [rng.choice(KINDS[wish.kind].sentences).format(wish.value) for wish in wishes]
    prompt = " ".join([asked, *said])
    attention = 1 - _REFERENCE_CARELESSNESS
    reference = writer.write(subject, setting, wishes, rng, attention)
    return {"prompt": prompt, "reference": reference, "key": subject}


def sample_wishes(rng: random.Random, most_words: int) -> list[Wish]:
    """Draw a wish for a length and two or three of other kinds, in random order, no two at odds."""
    length = rng.choice(("words", "words", "sentences"))
    kinds = rng.sample(("use", "avoid", "casing", "last_word", "mark", "form"), rng.choice((2, 3)))
    wishes = [Wish(kind, rng.choice(KINDS[kind].values)) for kind in (length, *kinds)]
    if _at_odds(wishes) or any(wish.words > most_words for wish in wishes):
        return sample_wishes(rng, most_words)
    rng.shuffle(wishes)
    return wishes


def _at_odds(wishes: list[Wish]) -> bool:
    """Whether no text of whole sentences can meet all of the wishes."""
    found = {wish.kind: wish.value for wish in wishes}
    form = found.get("form", "")
    lines = 3 if "list" in form else 4 if "poem" in form else 0
    if int(found.get("words", 20)) < 4 * lines:  # a line is a sentence, of four words or more
        return True
    if "sentences" in found and ("list" in form or "poem" in form):
        return True
    if "casing" in found and "letter" in form:
        return True
    return "use" in found and found["use"] == found.get("last_word")


@cache
def _patterns() -> list[tuple[str, re.Pattern]]:
    """The ways to say wishes, as patterns, each with the kind of wish."""
    return [
        (name, re.compile(re.escape(sentence).replace(r"\{\}", "(.+)")))
        for name, kind in KINDS.items()
        for sentence in kind.sentences
    ]


def wishes_of(prompt: str) -> list[Wish]:
    """Read the wishes of a prompt of `draw_rows`.

    Raises:
        ValueError: if a sentence after the first is no wish.
    """
    return [_wish(sentence) for sentence in re.split(r"(?<=\.) ", prompt)[1:]]


def _wish(sentence: str) -> Wish:
    for kind, pattern in _patterns():
        found = pattern.fullmatch(sentence)
        if found and found[1] in KINDS[kind].values:
            return Wish(kind, found[1])
    raise ValueError(f"{sentence!r} is no wish of the English world")


def asked_of(prompt: str) -> str:
    """Return what a prompt asks for, without its wishes."""
    return re.split(r"(?<=\.) ", prompt)[0]


def write_completion(row: dict, rng: random.Random, carelessness: float) -> str:
    """Write a text that ignores each wish with probability `carelessness`."""
    subject, prompt = row["key"], row["prompt"]
    setting = asked_of(prompt).partition(f"{subject} ")[2].rstrip(".")
    return writer.write(subject, setting, wishes_of(prompt), rng, 1 - carelessness)


def gold_grade(prompt: str, completion: str) -> float:
    """Compute the mean grade of the prompt's wishes, in [0, 1]. Only the judge may call this."""
    grades = [wish.grade(completion) for wish in wishes_of(prompt)]
    return sum(grades) / len(grades)


def proxy_reward(prompt: str, completion: str) -> float:
    """Compute the imperfect reward that labels training data, about 0 to 1.

    It is deterministic: its random error is a hash of prompt and completion.
    """
    wishes = wishes_of(prompt)
    weights = [PROXY_WEIGHT[wish.kind] for wish in wishes]
    graded = sum(w * wish.grade(completion) for w, wish in zip(weights, wishes, strict=True))
    bonus = PROXY_LENGTH_BONUS * len(words_of(completion))
    return graded / sum(weights) + bonus + PROXY_NOISE * hashed_normal(f"{prompt}|{completion}")
