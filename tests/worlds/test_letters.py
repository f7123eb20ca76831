import math
import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from humanline.worlds import letters

GOLDEN_ERROR = 1.7017589693475177  # of hashed_normal, as first published
texts = st.text(letters.LETTERS, max_size=letters.MAX_LETTERS)
prompts = st.integers(0, 10**6).map(lambda seed: letters.sample_prompt(random.Random(seed)))
ALL_WISHES = [c + sign for c in letters.LETTERS for sign in "+-"]
ALL_WISHES += [*letters.SHAPES, *letters.TARGET_LENGTH]


def lines(prompt: str, count: int, attention: float, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [letters.expert_line(prompt, rng, attention) for _ in range(count)]


def some_prompts(count: int) -> list[str]:
    rng = random.Random(0)
    return [letters.sample_prompt(rng) for _ in range(count)]


@given(st.integers(0, 10**6))
def test_a_prompt_has_letter_wishes_one_shape_and_one_length(seed):
    kinds = [letters.wish_kind(w) for w in letters.sample_prompt(random.Random(seed)).split()]
    assert kinds.count("shape") == kinds.count("length") == 1
    assert kinds.count("+") + kinds.count("-") in (2, 3)


@given(prompts)
def test_a_prompt_wishes_no_letter_twice(prompt):
    named = [wish[0] for wish in prompt.split() if len(wish) == 2]
    assert len(named) == len(set(named))


def test_every_wish_is_drawn():
    assert {wish for prompt in some_prompts(2000) for wish in prompt.split()} == set(ALL_WISHES)


@given(st.sampled_from(ALL_WISHES), texts)
def test_grades_lie_between_zero_and_one(wish, line):
    assert 0 <= letters.grade_wish(wish, line) <= 1


@pytest.mark.parametrize("wish", ALL_WISHES)
def test_an_empty_line_meets_no_wish(wish):
    assert letters.grade_wish(wish, "") == 0


@pytest.mark.parametrize(
    ("wish", "better", "worse"),
    [
        ("b+", "bbcd", "bccd"),
        ("b+", "bccd", "cccd"),
        ("b-", "cccd", "bcccccccd"),
        ("b-", "bcccccccd", "bbcccccd"),
        ("S", "bcdef", "bcdefg"),
        ("S", "bcdefg", "bcdefgh"),
        ("M", "bcdefghbc", "bcdef"),
        ("L", "bcdefghbcdefg", "bcdefghbc"),
        ("~", "babab", "babba"),
        ("~", "babba", "bbbbb"),
        ("<", "abcd", "abdc"),
        ("<", "aabb", "bbaa"),
        ("*", "abcde", "ababa"),
        ("*", "abcde", "aabcde"),
    ],
)
def test_the_better_line_is_graded_higher(wish, better, worse):
    assert letters.grade_wish(wish, better) > letters.grade_wish(wish, worse)


@pytest.mark.parametrize(
    ("wish", "line"),
    [
        ("b+", "bbcde"),
        ("b-", "cde"),
        ("S", "b" * 5),
        ("M", "b" * 9),
        ("L", "b" * 13),
        ("~", "bace"),
        ("<", "aabch"),
        ("*", "abcdeab"),
    ],
)
def test_a_wish_can_be_met_in_full(wish, line):
    assert letters.grade_wish(wish, line) == 1


@pytest.mark.parametrize(
    ("wish", "line", "grade"),
    [
        ("b+", "bcdef", 0.5),  # a fifth of the letters; two fifths are enough
        ("b-", "bcdefgha", 0.5),  # an eighth; a quarter is too much
        ("b-", "bcde", 0),
        ("S", "b" * 9, math.exp(-1)),  # four letters too long
        ("~", "babbb", 0.5),  # two of four neighbours
        ("<", "abab", 2 / 3),
        ("*", "abab", 2 / 5),  # no letter beside itself, but two different ones of five
    ],
)
def test_grades_worked_by_hand(wish, line, grade):
    assert letters.grade_wish(wish, line) == pytest.approx(grade)


@given(prompts, texts)
def test_gold_lies_between_zero_and_one(prompt, line):
    assert 0 <= letters.gold_reward(prompt, line) <= 1


@given(prompts, texts)
def test_gold_is_the_mean_grade(prompt, line):
    grades = [letters.grade_wish(wish, line) for wish in prompt.split()]
    assert letters.gold_reward(prompt, line) == pytest.approx(statistics.mean(grades))


@given(prompts, texts, st.text(alphabet=" 0123LMS}", max_size=5))
def test_only_letters_count_for_gold(prompt, line, other):
    assert letters.gold_reward(prompt, other + line + other) == letters.gold_reward(prompt, line)


@given(prompts, texts, st.randoms(use_true_random=False))
def test_gold_does_not_depend_on_the_order_of_wishes(prompt, line, rng):
    shuffled = prompt.split()
    rng.shuffle(shuffled)
    expected = letters.gold_reward(prompt, line)
    assert letters.gold_reward(" ".join(shuffled), line) == pytest.approx(expected)


@given(prompts, texts)
def test_the_proxy_is_deterministic(prompt, line):
    assert letters.proxy_reward(prompt, line) == letters.proxy_reward(prompt, line)


def test_the_proxys_errors_are_those_of_a_hash_not_of_the_process():
    """Fixed numbers: offline data must not depend on PYTHONHASHSEED or on the machine."""
    texts = [f"{prompt}|" for prompt in some_prompts(4000)]
    errors = [letters.hashed_normal(text) for text in texts]
    assert letters.hashed_normal("a+ d+ ~ L|adad") == pytest.approx(GOLDEN_ERROR, abs=1e-9)
    assert statistics.mean(errors) == pytest.approx(0, abs=0.06)
    assert statistics.stdev(errors) == pytest.approx(1, abs=0.05)


def test_the_proxy_is_imperfect_but_informative():
    correlations = []
    for i, prompt in enumerate(some_prompts(200)):
        written = lines(prompt, 16, 0.55, seed=i)
        gold = [letters.gold_reward(prompt, line) for line in written]
        proxy = [letters.proxy_reward(prompt, line) for line in written]
        correlations.append(spearmanr(gold, proxy).statistic)
    assert 0.5 < statistics.mean(correlations) < 0.97
    assert min(correlations) < 0.9


def test_the_proxys_random_errors_have_the_stated_size(monkeypatch):
    """Without its false weights and its liking for length, the proxy is gold and noise."""
    monkeypatch.setattr(letters, "PROXY_WEIGHT", dict.fromkeys(letters.PROXY_WEIGHT, 1.0))
    monkeypatch.setattr(letters, "PROXY_LENGTH_BONUS", 0.0)
    errors = [
        letters.proxy_reward(prompt, line) - letters.gold_reward(prompt, line)
        for i, prompt in enumerate(some_prompts(500))
        for line in set(lines(prompt, 4, 0.55, seed=i))
    ]
    assert statistics.mean(errors) == pytest.approx(0, abs=0.006)
    assert statistics.stdev(errors) == pytest.approx(0.06, rel=0.06)


def test_the_proxy_likes_length_more_than_gold_does():
    bias = []
    for i, prompt in enumerate(some_prompts(200)):
        written = lines(prompt, 16, 0.55, seed=i)
        gold = [letters.gold_reward(prompt, line) for line in written]
        error = [letters.proxy_reward(prompt, x) - g for x, g in zip(written, gold, strict=True)]
        if len({len(line) for line in written}) > 1:
            bias.append(spearmanr([len(line) for line in written], error).statistic)
    assert statistics.mean(bias) > 0.1


def test_more_attention_gives_more_gold():
    means = [
        statistics.mean(
            letters.gold_reward(prompt, line)
            for i, prompt in enumerate(some_prompts(150))
            for line in lines(prompt, 8, attention, seed=i)
        )
        for attention in (0.0, 0.3, 0.55, 0.8, 1.0)
    ]
    assert means == sorted(means)
    assert all(b - a > 0.02 for a, b in pairwise(means))


@given(prompts, st.integers(0, 1000), st.floats(0, 1))
def test_the_expert_writes_letters_of_allowed_number(prompt, seed, attention):
    line = letters.expert_line(prompt, random.Random(seed), attention)
    assert letters.letters_of(line) == line
    assert 2 <= len(line) <= letters.MAX_LETTERS


def test_an_attentive_expert_writes_the_letters_wished_for():
    def share(prompt: str) -> float:
        written = "".join(lines(prompt, 400, 1.0, seed=0))
        return written.count("b") / len(written)

    assert share("b- L *") < 0.03 < 0.1 < share("L *") < 0.15 < 0.3 < share("b+ L *")


@given(prompts, st.integers(0, 1000))
def test_an_attentive_expert_meets_the_shape(prompt, seed):
    line = letters.expert_line(prompt, random.Random(seed), 1.0)
    if "<" in prompt:
        assert list(line) == sorted(line)
    if "*" in prompt and max(line.count(c) for c in line) <= len(line) // 2:
        assert all(a != b for a, b in pairwise(line))


@given(st.lists(st.sampled_from(letters.LETTERS), min_size=2, max_size=16))
def test_rearranging_keeps_the_letters(line):
    assert sorted(letters._alternate(line)) == sorted(line)
    assert sorted(letters._spread(line)) == sorted(line)
