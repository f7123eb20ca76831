"""The miniature world's math: chains of sums from reasoning-gym, answered in ``\\boxed{}``.

The prompt is the bare expression. Fine-tuning data are worked solutions: the running total after
each term, then the boxed answer. A share of them ends in a wrong number, so the base model learns
to add, but also to give wrong answers. A model that was only trained too little would not show the
value of fresh samples.
"""

import random

# The distance of two seeds in reasoning-gym, larger than any number of problems. reasoning-gym
# draws problem i with seed + i, so neighbouring seeds would share most of their problems.
_STRIDE = 2**32


def problems(count: int, seed: int) -> list[dict]:
    """Draw `count` problems from reasoning-gym, as ``{"prompt", "answer"}``, both text."""
    import reasoning_gym

    dataset = reasoning_gym.create_dataset(
        "chain_sum",
        size=count,
        seed=_STRIDE * seed,
        min_terms=4,
        max_terms=4,
        min_digits=1,
        max_digits=1,
    )
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
    totals = _running_totals(prompt)
    if rng.random() < error_rate:
        totals[-1] += rng.choice((-20, -10, -2, -1, 1, 2, 10, 20))
    return ",".join(map(str, totals[:-1])) + f"\\boxed{{{totals[-1]}}}"


def _running_totals(expression: str) -> list[int]:
    terms = expression.replace("-", " -").replace("+", " ").split()
    totals = [int(terms[0]) + int(terms[1])]
    for term in terms[2:]:
        totals.append(totals[-1] + int(term))
    return totals
