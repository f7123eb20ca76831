"""A task's generated worlds: prompts and fine-tuning data, drawn from seeds, no downloads."""

import math
import random

from humanline.files.validation import ConfigError, pick
from humanline.study.experiments import SPLITS
from humanline.study.scale.data import GeneratedData
from humanline.study.scale.models import Lessons, Pretraining
from humanline.study.tasks import World, find_task, needed

# What a seed draws. Each has a stream of random numbers of its own: see `_stream`.
_PROMPTS, _EXAMPLES, _PRETRAINING = range(3)


def splits(task: str, config: GeneratedData, seed: int) -> dict[str, list[dict]]:
    """Draw the rows of every split of a task: no prompt twice, and no key in two splits.

    Args:
        task: the task's name.
        config: the world, and the sizes of the splits.
        seed: the seed of the prompts, and of the split of the wishes.

    Returns:
        Rows by split: ``{"prompt", "reference"}`` for a judged task, ``{"prompt", "answer"}`` for a
        graded one; see `Task.draw_prompts`.

    Raises:
        ConfigError: if the world has too few different prompts.
    """
    sizes = _sizes(config)
    rows: dict[str, dict[str, dict]] = {split: {} for split in SPLITS}
    drawn = _draw(task, 4 * sum(sizes.values()), _stream(seed, _PROMPTS), config)
    for row in drawn:
        split = _split_of(_key(row), sizes, seed)
        if len(rows[split]) < sizes[split]:
            rows[split].setdefault(row["prompt"], _shown(row))
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


def _sizes(config: GeneratedData) -> dict[str, int]:
    return {split: getattr(config, split) for split in SPLITS}


def _split_of(key: str, sizes: dict[str, int], seed: int) -> str:
    """Assign wishes, or another key, to a split, at random in proportion to the splits' sizes.

    Half of the train split is the same for all seeds, so a model can be pretrained on it for all.
    The other wishes are split by each seed anew. So seeds are evaluated on wishes of their own, and
    differences between them show how much a result depends on the wishes.
    """
    if _is_common(key, sizes):
        return "train"
    chance = random.Random(f"split {seed} {_wishes(key)}")
    return chance.choices(list(sizes), list((sizes | {"train": sizes["train"] / 2}).values()))[0]


def _is_common(key: str, sizes: dict[str, int]) -> bool:
    """Whether a prompt's wishes, or another key, are in the train split of every seed."""
    share = sizes["train"] / sum(sizes.values()) / 2
    return random.Random(f"common {_wishes(key)}").random() < share


def _wishes(key: str) -> str:
    """Return a prompt's wishes, or the words of another key, in a fixed order."""
    return " ".join(sorted(key.split()))


def _world(task: str, config: GeneratedData | None) -> World:
    """Find the world of a task's data; None: the miniature's, with all that it has."""
    found = find_task(task)
    if config and config.kind != "miniature":
        return pick(f"world of {task}", config.kind, found.worlds)
    lengths = getattr(config, "lengths", None)
    options = {"lengths": lengths} if lengths else {}  # not every world has lengths
    draw = needed(task, "draw_prompts", found.draw_prompts)
    write = needed(task, "write_completion", found.write_completion)
    return World(
        draw_rows=lambda count, seed, _: draw(count, seed, **options),
        write_completion=lambda row, rng, carelessness: write(row["prompt"], rng, carelessness),
    )


def _draw(task: str, count: int, seed: int, config: GeneratedData | None = None) -> list[dict]:
    return _world(task, config).draw_rows(count, seed, config)


def _key(row: dict) -> str:
    """Return what decides about a row's split."""
    return row.get("key", row["prompt"])


def _shown(row: dict) -> dict:
    """Return a row without what only its world reads."""
    return {name: value for name, value in row.items() if name not in ("key", "solution")}


def fine_tuning_rows(
    task: str,
    config: GeneratedData,
    lessons: Lessons,
    seed: int,
) -> list[dict]:
    """Draw prompts of the train split with the expert's completions.

    Args:
        task: the task's name.
        config: the world, and the sizes of the splits.
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

    def is_for_training(row: dict) -> bool:
        if is_shared:
            return _is_common(_key(row), sizes)
        return _split_of(_key(row), sizes, seed) == "train"

    world = _world(task, config)
    rows = [row for row in world.draw_rows(asked, stream, config) if is_for_training(row)][:count]
    if len(rows) < count:
        reason = f"{len(rows)} of {asked} prompts are for training, not {count} examples"
        raise ConfigError(f"{task}: base model: {reason}; ask for fewer, or for more of data.train")
    write, carelessness = world.write_completion, lessons.carelessness
    return [{"prompt": r["prompt"], "completion": write(r, rng, carelessness)} for r in rows]
