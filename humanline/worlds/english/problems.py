"""Math in English: sums and grade-school problems of reasoning-gym, with worked solutions.

A problem is as hard as its numbers and steps, and nobody plants errors: a base model that has seen
some worked solutions makes its own.
"""

import random
import re
from itertools import islice

from humanline.files.validation import ConfigError
from humanline.worlds import sums

ASKED = {
    "sum": "What is {}? Write the running totals, then the answer in \\boxed{{}}.",
    "word": "{} Write each step, then the answer in \\boxed{{}}.",
}
_TOLD = " Give the result as your final answer. Do not include units."  # reasoning-gym's
_MOST_CHARACTERS = {"question": 260, "solution": 150}
_DRAWN_FOR_ONE = 16  # drawn problems for one that is short and easy, and more


def draw_rows(
    count: int, seed: int, *, terms: int = 4, digits: int = 2, in_words: float = 0.25
) -> list[dict]:
    """Draw problems.

    Args:
        count: number of rows.
        seed: the seed.
        terms: numbers in a sum.
        digits: most digits of a number, but for the totals of a sum.
        in_words: share of problems in words, from 0 to 1; the others are sums.

    Returns:
        ``{"prompt", "answer", "solution", "key"}`` for each row: the solution ends in the boxed
        answer, and the key is the problem without what is asked of it.
    """
    rng = random.Random(f"english problems {seed}")
    words = round(in_words * count)
    rows = [*chains(count - words, seed, terms, digits), *word_problems(words, seed, digits)]
    rng.shuffle(rows)
    return rows


def chains(count: int, seed: int, terms: int, digits: int) -> list[dict]:
    """Draw chains of sums, as `draw_rows`."""
    drawn = sums.problems(count, seed, terms=terms, digits=digits)
    return [_sum(row["prompt"], row["answer"]) for row in drawn]


def _sum(expression: str, answer: str) -> dict:
    terms = expression.replace("-", " - ").replace("+", " + ").split()
    totals = [terms[0], *map(str, sums.running_totals(expression))]
    steps = zip(totals, terms[1::2], terms[2::2], totals[1:], strict=False)
    lines = [f"{total} {sign} {term} = {new}" for total, sign, term, new in steps]
    return _problem("sum", " ".join(terms), "\n".join(lines), answer)


def word_problems(count: int, seed: int, digits: int = 2) -> list[dict]:
    """Draw reasoning-gym's variants of grade-school problems, as `draw_rows`.

    They are the short ones, with whole numbers of at most `digits` digits.

    Raises:
        ConfigError: if too few of them are so easy.
    """
    drawn = sums.drawn("gsm_symbolic", _DRAWN_FOR_ONE * count + 512, seed)
    rows = list(islice((row for item in drawn if (row := _short(item, digits))), count))
    if len(rows) < count:
        reason = f"only {len(rows)} of {count} problems in words have no longer numbers"
        raise ConfigError(f"data.digits: {digits}, but {reason}; raise it, or ask for sums alone")
    return rows


def _short(item: dict, digits: int) -> dict | None:
    """Read a problem of reasoning-gym; None: it is long, or not easy."""
    question = item["question"].removesuffix(_TOLD)
    solution, _, answer = item["metadata"]["answer_cot"].partition("\n#### ")
    sizes = {"question": len(question), "solution": len(solution)}
    is_short = all(sizes[name] <= most for name, most in _MOST_CHARACTERS.items())
    is_easy = _is_easy(f"{question} {solution}", digits) and answer == item["answer"]
    return _problem("word", question, solution, answer) if is_short and is_easy else None


def _is_easy(text: str, digits: int) -> bool:
    """Whether all numbers of a text are whole and have at most `digits` digits."""
    if re.search(r"\d[.,/]\d|\d%|-\d|half", text):
        return False
    return all(len(number) <= digits for number in re.findall(r"\d+", text))


def _problem(kind: str, question: str, steps: str, answer: str) -> dict:
    prompt = ASKED[kind].format(question)
    solution = f"{steps}\n\\boxed{{{answer}}}"
    return {"prompt": prompt, "answer": answer, "solution": solution, "key": question}


def write_completion(row: dict, rng: random.Random, carelessness: float) -> str:
    """Write the worked solution; its answer is wrong with probability `carelessness`."""
    steps, _, _ = row["solution"].rpartition("\n")
    answer = int(row["answer"])
    if rng.random() < carelessness:
        answer += rng.choice((-20, -10, -2, -1, 1, 2, 10, 20))
    return f"{steps}\n\\boxed{{{answer}}}"
