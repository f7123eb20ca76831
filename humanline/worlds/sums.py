"""The miniature world's math: chains of sums from reasoning-gym, answered in ``\\boxed{}``.

The prompt is the bare expression. Fine-tuning data are worked solutions (the running total after
each term, then the boxed answer), of which a share ends in a wrong number: the base model then
knows how to add but samples wrong answers, "latent ability plus noise". A model that was merely
trained too little hides what fresh samples are worth.
"""

import random

# Between two seeds: reasoning-gym draws problem i with its seed plus i, so that data sets of
# neighbouring seeds would have the same problems. It is more than any number of problems.
_STRIDE = 2**32


def problems(count: int, seed: int) -> list[dict]:
    """Draw `count` problems as ``{"prompt", "answer"}`` (both text) from reasoning-gym."""
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
    """Write the running totals and the boxed answer; with `error_rate`, one total is off."""
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
