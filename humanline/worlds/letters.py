"""The miniature world's instructions: graded wishes about a line of letters.

A prompt is a few wishes, for example ``"a+ d+ g- ~ L"``: many a and d, no g, vowels and consonants
in turn, long. A completion is a line of the letters a to h. Each wish has a grade in [0, 1]. Grades
are gradual, not pass or fail: a slightly better line has a slightly better grade.

Three parties look at a line:

- the *expert* writes the lines that the base model is fine-tuned on; they are far from perfect;
- the *gold* reward is the mean grade of the wishes; the judge sees it, training never does;
- the *proxy* reward labels training data, as a reward model does in the paper. It is imperfect on
  purpose: it weighs the kinds of wishes wrongly, prefers long lines, and has random errors.
"""

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

LETTERS = "abcdefgh"
VOWELS = frozenset("ae")
TARGET_LENGTH = {"S": 5, "M": 9, "L": 13}
SHAPES = "~<*"
MAX_LETTERS = 16

# The faults of the proxy reward: the weight of each kind of wish (gold: all equal), a bonus per
# letter, and the standard deviation of its random errors.
PROXY_WEIGHT = {"+": 1.3, "-": 0.6, "shape": 0.8, "length": 1.3}
PROXY_LENGTH_BONUS = 0.01
PROXY_NOISE = 0.06


def sample_prompt(rng: random.Random, lengths: str | None = None) -> str:
    """Draw a prompt: two or three letter wishes, one shape and one length, in random order.

    Args:
        rng: the source of randomness.
        lengths: the length wishes to draw from, such as ``"SL"``; None: all.
    """
    letters = rng.sample(LETTERS, rng.choice((2, 3)))
    wishes = [letter + rng.choice("++-") for letter in letters]
    wishes += [rng.choice(SHAPES), rng.choice(lengths or "SML")]
    rng.shuffle(wishes)
    return " ".join(wishes)


def wish_kind(wish: str) -> str:
    """Name the kind of a wish: ``"+"``, ``"-"``, ``"shape"`` or ``"length"``."""
    if len(wish) == 2:
        return wish[1]
    return "length" if wish in TARGET_LENGTH else "shape"


def _fraction_of_pairs(line: str, holds: Callable[[str, str], bool]) -> float:
    if len(line) < 2:
        return 0.0
    return sum(holds(a, b) for a, b in pairwise(line)) / (len(line) - 1)


def grade_wish(wish: str, line: str) -> float:
    """Grade one wish on a line of letters, in [0, 1]."""
    if not line:
        return 0.0
    share = line.count(wish[0]) / len(line)
    match wish_kind(wish), wish:
        case "+", _:
            return min(1.0, share / 0.4)
        case "-", _:
            return max(0.0, 1.0 - share / 0.25)
        case "length", _:
            return math.exp(-abs(len(line) - TARGET_LENGTH[wish]) / 4)
        case _, "~":
            return _fraction_of_pairs(line, lambda a, b: (a in VOWELS) != (b in VOWELS))
        case _, "<":
            return _fraction_of_pairs(line, lambda a, b: a <= b)
        case _:
            return _fraction_of_pairs(line, lambda a, b: a != b) * min(1.0, len(set(line)) / 5)


def letters_of(completion: str) -> str:
    """Keep the part of a completion that is graded: its letters a to h."""
    return "".join(c for c in completion if c in LETTERS)


def gold_reward(prompt: str, completion: str) -> float:
    """Compute the mean grade of the prompt's wishes, in [0, 1]. Only the judge may call this."""
    wishes, line = prompt.split(), letters_of(completion)
    return sum(grade_wish(wish, line) for wish in wishes) / len(wishes)


def proxy_reward(prompt: str, completion: str) -> float:
    """Compute the imperfect reward that labels training data, about 0 to 1.

    It is deterministic: its random error is a hash of prompt and completion.
    """
    wishes, line = prompt.split(), letters_of(completion)
    weights = [PROXY_WEIGHT[wish_kind(wish)] for wish in wishes]
    graded = sum(w * grade_wish(wish, line) for w, wish in zip(weights, wishes, strict=True))
    noise = PROXY_NOISE * hashed_normal(f"{prompt}|{completion}")
    return graded / sum(weights) + PROXY_LENGTH_BONUS * len(line) + noise


def hashed_normal(text: str) -> float:
    """Return a standard normal number that depends on the text alone (Box-Muller on a hash)."""
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    u = (int.from_bytes(digest[:8], "big") + 1) / 2**64
    v = int.from_bytes(digest[8:], "big") / 2**64
    return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)


def expert_line(prompt: str, rng: random.Random, attention: float) -> str:
    """Write a line that follows each wish with probability `attention`.

    Args:
        prompt: the wishes.
        rng: the source of randomness.
        attention: the probability, from 0 to 1.
    """
    heeded = [wish for wish in prompt.split() if rng.random() < attention]
    targets = [TARGET_LENGTH[w] for w in heeded if w in TARGET_LENGTH] or [rng.randint(3, 15)]
    length = max(2, min(MAX_LETTERS, targets[0] + rng.randint(-2, 2)))
    weight = dict.fromkeys(LETTERS, 1.0)
    for wish in heeded:
        if wish_kind(wish) == "+":
            weight[wish[0]] = 4.0
        elif wish_kind(wish) == "-":
            weight[wish[0]] = 0.05
    line = rng.choices(LETTERS, [weight[c] for c in LETTERS], k=length)
    if "<" in heeded:
        line.sort()
    elif "~" in heeded:
        line = _alternate(line)
    elif "*" in heeded:
        line = _spread(line)
    return "".join(line)


def _alternate(line: list[str]) -> list[str]:
    vowels = [c for c in line if c in VOWELS]
    consonants = [c for c in line if c not in VOWELS]
    longer, shorter = sorted((vowels, consonants), key=len, reverse=True)
    paired = [c for pair in zip(longer, shorter, strict=False) for c in pair]
    return paired + longer[len(shorter) :]


def _spread(line: list[str]) -> list[str]:
    """Put equal letters apart: deal the sorted letters into the even, then the odd places."""
    ordered = [c for c, n in Counter(line).most_common() for _ in range(n)]
    spread = [""] * len(ordered)
    spread[::2], spread[1::2] = ordered[: (len(line) + 1) // 2], ordered[(len(line) + 1) // 2 :]
    return spread
