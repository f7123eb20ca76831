"""The miniature world: a task's prompts and fine-tuning data, drawn from seeds, no downloads."""

import random

from humanline.files.validation import ConfigError
from humanline.study.experiments import SPLITS
from humanline.study.scale.data import MiniatureData
from humanline.study.tasks import find_task, needed

# What a seed draws. Each has a stream of random numbers of its own: see `_stream`.
_PROMPTS, _EXAMPLES = 0, 1


def splits(task: str, config: MiniatureData, seed: int) -> dict[str, list[dict]]:
    """Draw the rows of every split of a task: no prompt twice, and no wishes in two splits.

    Args:
        task: the task's name.
        config: the sizes of the splits, and the length wishes.
        seed: the seed of the prompts, and of the split that each set of wishes is in.

    Returns:
        Rows by split: ``{"prompt", "reference"}`` for a judged task, ``{"prompt", "answer"}`` for a
        graded one; see `Task.draw_prompts`.

    Raises:
        ConfigError: if the world has too few different prompts.
    """
    sizes = {split: getattr(config, split) for split in SPLITS}
    rows: dict[str, dict[str, dict]] = {split: {} for split in SPLITS}
    drawn = _draw(task, 4 * sum(sizes.values()), _stream(seed, _PROMPTS), config.lengths)
    for row in drawn:
        split = _split_of(row["prompt"], sizes, seed)
        if len(rows[split]) < sizes[split]:
            rows[split].setdefault(row["prompt"], row)
    for split, found in rows.items():
        if len(found) < sizes[split]:
            reason = f"only {len(found)} different prompts, not {sizes[split]}; ask for fewer"
            raise ConfigError(f"{task}, {split}: {reason}")
    return {split: list(found.values()) for split, found in rows.items()}


def _stream(seed: int, what: int) -> int:
    """Number a seed's stream of random numbers.

    No two pairs of seed and `what` have the same number, so prompts and fine-tuning data of any
    seeds are never drawn from one stream. The number is the seed of a task's `draw_prompts`, which
    may multiply it: reasoning-gym draws problem i with its seed + i, so `sums` spaces its seeds.
    """
    return 2 * seed + what


def _split_of(prompt: str, sizes: dict[str, int], seed: int) -> str:
    """Assign a prompt's wishes to a split, at random in proportion to the splits' sizes."""
    chance = random.Random(f"split {seed} {_wishes(prompt)}")
    return chance.choices(list(sizes), list(sizes.values()))[0]


def _wishes(prompt: str) -> str:
    """Return a prompt's wishes in a fixed order."""
    return " ".join(sorted(prompt.split()))


def _draw(task: str, count: int, seed: int, lengths: str | None = None) -> list[dict]:
    options = {"lengths": lengths} if lengths else {}  # not every world has lengths
    draw = needed(task, "draw_prompts", find_task(task).draw_prompts)
    return draw(count, seed, **options)


def fine_tuning_rows(
    task: str,
    count: int,
    carelessness: float,
    seed: int,
    avoid: set[str],
    lengths: str | None = None,
) -> list[dict]:
    """Draw prompts with the expert's completions.

    Args:
        task: the task's name.
        count: number of rows.
        carelessness: probability, from 0 to 1, that the expert ignores a wish or makes a mistake.
        seed: the seed of prompts and completions.
        avoid: prompts to leave out; the order of their words does not matter.
        lengths: the length wishes to draw from; None: all.

    Returns:
        ``{"prompt", "completion"}`` for each row.

    Raises:
        ConfigError: if too few prompts remain, or if the task has no generated world.
    """
    rng = random.Random(f"completions {seed}")  # independent of the draws of prompts
    held_out = {_wishes(prompt) for prompt in avoid}
    drawn = _draw(task, 2 * count, _stream(seed, _EXAMPLES), lengths)
    rows = [row for row in drawn if _wishes(row["prompt"]) not in held_out]
    if len(rows) < count:
        reason = (
            f"{len(rows)} of {len(drawn)} prompts are not held out, fewer than {count} examples"
        )
        raise ConfigError(f"{task}: base model: {reason}; ask for fewer, or hold fewer prompts out")
    rows = rows[:count]
    write = needed(task, "write_completion", find_task(task).write_completion)
    prompts = [row["prompt"] for row in rows]
    return [{"prompt": p, "completion": write(p, rng, carelessness)} for p in prompts]
