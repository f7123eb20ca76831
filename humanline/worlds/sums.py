"""The miniature world's math: chains of sums from reasoning-gym, answered in ``\\boxed{}``.

The prompt is the bare expression. Fine-tuning data are worked solutions: the running total after
each term, then the boxed answer. A share of them ends in a wrong number, so the base model learns
to add, but also to give wrong answers. A model that was only trained too little would not show the
value of fresh samples.
"""

import random
from collections.abc import Iterable

# The distance of two seeds in reasoning-gym, larger than any number of problems. reasoning-gym
# draws problem i with seed + i, so neighbouring seeds would share most of their problems.
_STRIDE = 2**32


def drawn(generator: str, count: int, seed: int, **options: int) -> Iterable[dict]:
    """Draw `count` problems of one of reasoning-gym's generators; no two seeds share any."""
    import reasoning_gym

    if not count:  # reasoning-gym refuses an empty data set
        return []
    return reasoning_gym.create_dataset(generator, size=count, seed=_STRIDE * seed, **options)


def problems(count: int, seed: int, *, terms: int = 4, digits: int = 1) -> list[dict]:
    """Draw chains of sums from reasoning-gym.

    Args:
        count: number of problems.
        seed: the seed.
        terms: numbers in a chain.
        digits: most digits of a number.

    Returns:
        ``{"prompt", "answer"}`` for each, both text.
    """
    options = {"min_terms": terms, "max_terms": terms, "min_digits": 1, "max_digits": digits}
    dataset = drawn("chain_sum", count, seed, **options)
    return [
        {"prompt": row["metadata"]["expression"].replace(" ", ""), "answer": row["answer"]}
        for row in dataset
    ]


def worked_solution(prompt: str, rng: random.Random, error_rate: float) -> str:
    """Write the running totals and the boxed answer.

    Args:
        prompt: the sum, such as ``"3+4-1+2"``.
        rng: the source of randomness.
        error_rate: probability, from 0 to 1, that the answer is wrong.
    """
    totals = running_totals(prompt)
    if rng.random() < error_rate:
        totals[-1] += rng.choice((-20, -10, -2, -1, 1, 2, 10, 20))
    return ",".join(map(str, totals[:-1])) + f"\\boxed{{{totals[-1]}}}"


def running_totals(expression: str) -> list[int]:
    """List the totals of a chain of sums after its second term, its third, and so on."""
    terms = expression.replace("-", " -").replace("+", " ").split()
    totals = [int(terms[0]) + int(terms[1])]
    for term in terms[2:]:
        totals.append(totals[-1] + int(term))
    return totals
