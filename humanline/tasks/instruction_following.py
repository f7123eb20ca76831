"""Instruction following: completions are judged against references, as in AlpacaEval.

In the generated world, an instruction is a few wishes about a line of letters.
"""

import random
from typing import TYPE_CHECKING

from humanline.files.validation import Record, validate
from humanline.study.tasks import Task, World
from humanline.trainers.rows.formats import Text, Turns

if TYPE_CHECKING:
    from humanline.study.scale.data import EnglishData

_REFERENCE_CARELESSNESS = 0.2  # chance that the writer of the references ignores a wish


def draw_prompts(count: int, seed: int, lengths: str | None = None) -> list[dict]:
    """Draw wishes, and lines of a good writer as references.

    Args:
        count: number of rows.
        seed: the seed.
        lengths: the length wishes to draw from; None: all.

    Returns:
        ``{"prompt", "reference"}`` for each row.
    """
    from humanline.worlds import letters

    rng = random.Random(seed)
    prompts = [letters.sample_prompt(rng, lengths) for _ in range(count)]
    attention = 1 - _REFERENCE_CARELESSNESS
    return [{"prompt": p, "reference": letters.expert_line(p, rng, attention)} for p in prompts]


def write_completion(prompt: str, rng: random.Random, carelessness: float) -> str:
    """Write a line that ignores each wish with probability `carelessness`."""
    from humanline.worlds import letters

    return letters.expert_line(prompt, rng, 1 - carelessness)


def prompt_words(prompt: str) -> list[str]:
    """Say the wishes of a prompt in words: ``"a+ g-"`` is ``["many a", "no g"]``."""
    from humanline.worlds.letters import TARGET_LENGTH, wish_kind

    words = {
        "~": "vowels and consonants in turn",
        "<": "letters in alphabetical order",
        "*": "varied: many letters, none twice in a row",
        "S": f"short: {TARGET_LENGTH['S']} letters",
        "M": f"middle length: {TARGET_LENGTH['M']} letters",
        "L": f"long: {TARGET_LENGTH['L']} letters",
    }
    amounts = {"+": "many", "-": "no"}
    return [words.get(wish) or f"{amounts[wish_kind(wish)]} {wish[0]}" for wish in prompt.split()]


def read_row(row: dict, place: str) -> dict:
    """Read a row of UltraFeedback, of AlpacaEval's baseline outputs, or of a feedback file.

    Returns:
        ``{"prompt", "reference"}``, both text.

    Raises:
        ConfigError: if the row is none of these; the message begins with `place`.
    """
    if "completions" in row:  # a feedback file
        best = max(range(len(row["scores"])), key=row["scores"].__getitem__)
        return {"prompt": row["prompt"], "reference": row["completions"][best]}
    if "instruction" in row:
        output = validate(_Output, row, place)
        return {"prompt": output.instruction, "reference": output.output}
    found = validate(_Preference, row, place)
    return {"prompt": found.prompt, "reference": found.chosen[-1].content}


class _Preference(Record):
    """A row of princeton-nlp's UltraFeedback, with its best response."""

    prompt: Text
    chosen: Turns


class _Output(Record):
    """A row of AlpacaEval's baseline outputs."""

    instruction: Text
    output: Text


def draw_english(count: int, seed: int, data: "EnglishData") -> list[dict]:
    """Draw prompts in English, with references and what they are about."""
    from humanline.worlds.english import instructions

    return instructions.draw_rows(count, seed, data.most_words)


def write_english(row: dict, rng: random.Random, carelessness: float) -> str:
    """Write a text that ignores each wish with probability `carelessness`."""
    from humanline.worlds.english import instructions

    return instructions.write_completion(row, rng, carelessness)


TASK = Task(
    label="instructions",
    scoring="judge",
    rewards=("hub", "proxy", "english_proxy"),
    read_row=read_row,
    draw_prompts=draw_prompts,
    write_completion=write_completion,
    prompt_words=prompt_words,
    worlds={
        "english": World(
            draw_rows=draw_english,
            write_completion=write_english,
            options=("most_words",),
        )
    },
    has_stored_scores=True,
)
