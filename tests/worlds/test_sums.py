import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humanline.scoring.math.grading import is_correct
from humanline.worlds.sums import problems, worked_solution

ROWS = problems(400, seed=5)
rows = st.sampled_from(ROWS)


def split(solution: str) -> tuple[list[int], int]:
    """The running totals and the boxed answer of a worked solution."""
    totals, answer = re.fullmatch(r"((?:-?\d+,)*-?\d+)\\boxed\{(-?\d+)\}", solution).groups()
    return [int(total) for total in totals.split(",")], int(answer)


def test_problems_are_chains_of_four_digits():
    for row in ROWS:
        assert row.keys() == {"prompt", "answer"}
        assert re.fullmatch(r"\d([+-]\d){3}", row["prompt"])


def test_answers_are_right():
    assert [row["answer"] for row in ROWS] == [str(eval(row["prompt"])) for row in ROWS]


def test_problems_depend_on_the_seed_alone():
    assert problems(400, seed=5) == ROWS
    assert problems(400, seed=6) != ROWS


def test_seeds_share_no_more_problems_than_chance_gives_them():
    """Of 8 * 10,000 problems, as many as two draws with replacement have in common."""
    drawn = {seed: {row["prompt"] for row in problems(400, seed)} for seed in (0, 1, 2, 3, 101)}
    for one, other in itertools.combinations(drawn.values(), 2):
        assert len(one & other) <= 12  # 2 expected


def test_a_longer_list_starts_with_the_shorter():
    assert problems(50, seed=5) == ROWS[:50]


@given(rows, st.integers(0, 10**6))
def test_a_faultless_solution_ends_in_the_answer(row, seed):
    totals, answer = split(worked_solution(row["prompt"], random.Random(seed), 0.0))
    terms = [int(t) for t in re.findall(r"[+-]?\d+", row["prompt"])]
    assert answer == int(row["answer"])
    assert totals == [sum(terms[: i + 2]) for i in range(len(terms) - 2)]


@given(rows, st.integers(0, 10**6))
def test_a_faulty_solution_is_wrong_in_its_answer_only(row, seed):
    right = split(worked_solution(row["prompt"], random.Random(seed), 0.0))
    wrong = split(worked_solution(row["prompt"], random.Random(seed), 1.0))
    assert wrong[0] == right[0]
    assert wrong[1] != right[1]


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.45, 1.0])
def test_the_error_rate_is_about_as_asked(rate):
    rng = random.Random(1)
    drawn = [(row, worked_solution(row["prompt"], rng, rate)) for row in ROWS * 5]
    wrong = sum(split(solution)[1] != int(row["answer"]) for row, solution in drawn)
    assert wrong / len(drawn) == pytest.approx(rate, abs=0.04)


def test_grading_agrees():
    rng = random.Random(2)
    for row in ROWS[:60]:
        solution = worked_solution(row["prompt"], rng, 0.5)
        right = split(solution)[1] == int(row["answer"])
        assert is_correct(solution, row["answer"]) == right


@pytest.mark.parametrize(
    ("prompt", "solution"),
    [
        ("1+2+3+4", "3,6\\boxed{10}"),
        ("1-2-3+4", "-1,-4\\boxed{0}"),
        ("12-3+40-5", "9,49\\boxed{44}"),
    ],
)
def test_worked_by_hand(prompt, solution):
    assert worked_solution(prompt, random.Random(0), 0.0) == solution
