"""The miniature world: a task's prompts and fine-tuning data, drawn from seeds, no downloads."""

import math
import random

from humanline.files.validation import ConfigError
from humanline.study.experiments import SPLITS
from humanline.study.scale.data import MiniatureData
from humanline.study.scale.models import Lessons, Pretraining
from humanline.study.tasks import find_task, needed

# What a seed draws. Each has a stream of random numbers of its own: see `_stream`.
_PROMPTS, _EXAMPLES, _PRETRAINING = range(3)


def splits(task: str, config: MiniatureData, seed: int) -> dict[str, list[dict]]:
    """Draw the rows of every split of a task: no prompt twice, and no wishes in two splits.

    Args:
        task: the task's name.
        config: the sizes of the splits, and the length wishes.
        seed: the seed of the prompts, and of the split of the wishes.

    Returns:
        Rows by split: ``{"prompt", "reference"}`` for a judged task, ``{"prompt", "answer"}`` for a
        graded one; see `Task.draw_prompts`.

    Raises:
        ConfigError: if the world has too few different prompts.
    """
    sizes = _sizes(config)
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
    return 3 * seed + what


def _sizes(config: MiniatureData) -> dict[str, int]:
    return {split: getattr(config, split) for split in SPLITS}


def _split_of(prompt: str, sizes: dict[str, int], seed: int) -> str:
    """Assign a prompt's wishes to a split, at random in proportion to the splits' sizes.

    Half of the train split is the same for all seeds, so a model can be pretrained on it for all.
    The other wishes are split by each seed anew. So seeds are evaluated on wishes of their own, and
    differences between them show how much a result depends on the wishes.
    """
    if _is_common(prompt, sizes):
        return "train"
    chance = random.Random(f"split {seed} {_wishes(prompt)}")
    return chance.choices(list(sizes), list((sizes | {"train": sizes["train"] / 2}).values()))[0]


def _is_common(prompt: str, sizes: dict[str, int]) -> bool:
    """Whether a prompt's wishes are in the train split of every seed."""
    share = sizes["train"] / sum(sizes.values()) / 2
    return random.Random(f"common {_wishes(prompt)}").random() < share


def _wishes(prompt: str) -> str:
    """Return a prompt's wishes in a fixed order."""
    return " ".join(sorted(prompt.split()))


def _draw(task: str, count: int, seed: int, lengths: str | None = None) -> list[dict]:
    options = {"lengths": lengths} if lengths else {}  # not every world has lengths
    draw = needed(task, "draw_prompts", find_task(task).draw_prompts)
    return draw(count, seed, **options)


def fine_tuning_rows(
    task: str,
    config: MiniatureData,
    lessons: Lessons,
    seed: int,
) -> list[dict]:
    """Draw prompts of the train split with the expert's completions.

    Args:
        task: the task's name.
        config: the sizes of the splits, and the length wishes.
        lessons: how many rows, and how careless the expert is; `Pretraining` has random numbers
            of its own, apart from those of every seed, and wishes that no seed is evaluated on.
        seed: the seed of prompts and completions.

    Returns:
        ``{"prompt", "completion"}`` for each row.

    Raises:
        ConfigError: if too few prompts are in the train split, or if the task has no generated
            world.
    """
    is_shared = isinstance(lessons, Pretraining)
    stream = _stream(seed, _PRETRAINING if is_shared else _EXAMPLES)
    rng = random.Random(f"completions {stream}")  # independent of the draws of prompts
    sizes, count = _sizes(config), lessons.examples
    share = sizes["train"] / sum(sizes.values()) / (2 if is_shared else 1)
    asked = math.ceil(1.2 * count / share) + 100
    drawn = [row["prompt"] for row in _draw(task, asked, stream, config.lengths)]
    prompts = [
        prompt
        for prompt in drawn
        if (_is_common(prompt, sizes) if is_shared else _split_of(prompt, sizes, seed) == "train")
    ][:count]
    if len(prompts) < count:
        reason = f"{len(prompts)} of {asked} prompts are for training, not {count} examples"
        raise ConfigError(f"{task}: base model: {reason}; ask for fewer, or for more of data.train")
    write = needed(task, "write_completion", find_task(task).write_completion)
    return [{"prompt": p, "completion": write(p, rng, lessons.carelessness)} for p in prompts]
