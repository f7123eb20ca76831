"""The miniature world: everything a task needs, drawn from seeds, nothing downloaded."""

import random

from humanline.config import MiniatureData
from humanline.data import arithmetic, wishes
from humanline.experiments import SPLITS

_PROMPT_SEED = 20250924  # of the prompts: all seeds of a scale see the same ones
_REFERENCE_CARELESSNESS = 0.2  # of the writer whose lines the judge compares with


def splits(task: str, config: MiniatureData) -> dict[str, list[dict]]:
    """Draw the rows of every split of a task, no prompt twice.

    Rows are ``{"prompt", "reference"}`` for instruction following, where the reference is what
    completions are judged against, and ``{"prompt", "answer"}`` for math.

    Raises:
        ValueError: if the world has too few different prompts.
    """
    sizes = {split: getattr(config, split) for split in SPLITS}
    rows = iter(_distinct_rows(task, sum(sizes.values())))
    return {split: [next(rows) for _ in range(size)] for split, size in sizes.items()}


def _distinct_rows(task: str, count: int) -> list[dict]:
    distinct: dict[str, dict] = {}
    for row in _draw(task, 4 * count, _PROMPT_SEED):
        distinct.setdefault(row["prompt"], row)
        if len(distinct) == count:
            return list(distinct.values())
    raise ValueError(f"{task}: only {len(distinct)} different prompts; ask for fewer than {count}")


def _draw(task: str, count: int, seed: int) -> list[dict]:
    if task == "math_reasoning":
        return arithmetic.problems(count, seed)
    rng = random.Random(seed)
    prompts = [wishes.sample_prompt(rng) for _ in range(count)]
    attention = 1 - _REFERENCE_CARELESSNESS
    return [{"prompt": p, "reference": wishes.expert_line(p, rng, attention)} for p in prompts]


def fine_tuning_rows(task: str, count: int, carelessness: float, seed: int, avoid: set[str]):
    """Draw prompts with the expert's completions, ``{"prompt", "completion"}``.

    Args:
        carelessness: chance that the expert ignores a wish, or gets a sum wrong.
        avoid: prompts that must not be learned from, those of other splits.
    """
    rng = random.Random(seed)
    rows = [row for row in _draw(task, 2 * count, seed) if row["prompt"] not in avoid][:count]
    if task == "math_reasoning":
        write = lambda prompt: arithmetic.worked_solution(prompt, rng, carelessness)  # noqa: E731
    else:
        write = lambda prompt: wishes.expert_line(prompt, rng, 1 - carelessness)  # noqa: E731
    return [{"prompt": row["prompt"], "completion": write(row["prompt"])} for row in rows]
