"""The English worlds: prompts, what texts are worth, the expert, both rewards, and math."""

import itertools
import random
import re
from statistics import correlation, mean

import pytest

from humanline.scoring.math.grading import is_correct
from humanline.study.scale.data import EnglishData
from humanline.study.scale.models import Lessons, Pretraining
from humanline.study.tasks import find_task
from humanline.worlds import miniature
from humanline.worlds.english import instructions, problems
from humanline.worlds.english.wishes import KINDS, Wish, count_sentences, words_of
from humanline.worlds.english.words import CLAUSES, NOUNS, SUBJECTS

TASKS = ("instruction_following", "math_reasoning")
SIZES = {"train": 300, "validation": 40, "evaluation": 60}
DATA = EnglishData(kind="english", **SIZES)
ROWS = instructions.draw_rows(600, 1)
STEPS = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3}


@pytest.mark.parametrize("task", TASKS)
def test_splits_have_no_subject_and_no_problem_in_common(task):
    """Nor do the lessons have one with what a seed is evaluated on."""
    world = find_task(task).worlds["english"]
    for seed in (1, 2):
        found = miniature.splits(task, DATA, seed)
        assert {split: len(rows) for split, rows in found.items()} == SIZES
        assert found == miniature.splits(task, DATA, seed)
        keys = {row["prompt"]: row["key"] for row in world.draw_rows(1600, 3 * seed, DATA)}
        by_split = [{keys[row["prompt"]] for row in rows} for rows in found.values()]
        assert all(not one & other for one, other in itertools.combinations(by_split, 2))
        lessons = Lessons(examples=100, carelessness=0, **STEPS)
        learned = miniature.fine_tuning_rows(task, DATA, lessons, seed)
        shown = "\n".join(row["prompt"] for row in learned)
        assert len(learned) == 100 and not any(f" {key}" in shown for key in by_split[2])
    assert {"prompt", "reference" if task == TASKS[0] else "answer"} == set(found["train"][0])


@pytest.mark.parametrize("task", TASKS)
def test_no_two_seeds_and_no_lessons_have_the_same_rows(task):
    drawn = [{row["prompt"] for row in miniature.splits(task, DATA, s)["train"]} for s in (1, 2, 3)]
    shared = Pretraining(examples=100, carelessness=0, **STEPS)
    drawn.append({r["prompt"] for r in miniature.fine_tuning_rows(task, DATA, shared, 1)})
    assert all(len(one & other) < 10 for one, other in itertools.combinations(drawn, 2))


def test_prompts_say_their_wishes():
    told = {wish.kind for row in ROWS for wish in instructions.wishes_of(row["prompt"])}
    assert told == set(KINDS)
    for row in ROWS:
        wishes = instructions.wishes_of(row["prompt"])
        assert len(wishes) == len({wish.kind for wish in wishes}) in (3, 4)
        assert row["key"] in instructions.asked_of(row["prompt"])
    with pytest.raises(ValueError, match=r"'Sing\.' is no wish"):
        instructions.wishes_of("Write about cats. Sing.")


def test_words_of_the_world_are_in_order():
    assert len(SUBJECTS) == len(set(SUBJECTS)) > 100
    assert len(NOUNS) == len(set(NOUNS)) and len(CLAUSES) == len(set(CLAUSES))


@pytest.mark.parametrize(
    ("kind", "value", "good", "worse", "bad"),
    [
        ("words", "8", "one two three four five six seven eight", "one two three four five", "one"),
        ("sentences", "two", "It rains. We go!", "It rains. We go. Yes.", "A. B. C. D. E."),
        ("use", "bell", "The Bell rings.", None, "The bells ring."),
        ("avoid", "the", "Then we go.", "The end.", "The man on the hill in the rain."),
        ("casing", "small letters", "it's late.", "It is late.", "IT IS LATE."),
        ("casing", "capital letters", "IT IS 5 O'CLOCK", "IT is late", "it is late"),
        ("last_word", "bell", "He has a bell.", "A bell rings.", "The bell rings all day."),
        ("mark", "a question mark", 'He said "why?"', "Why? Because.", "No."),
        ("form", "a poem of four lines", "a\n\nb\nc\nd", "a\nb\nc", "a"),
        ("form", "a text in quotation marks", '"Yes."', '"Yes.', "Yes."),
        ("form", 'a letter with "Dear" at its beginning', "Dear cat,", "dear cat,", "Cat,"),
        (
            "form",
            "a list of three lines, each with a dash at its beginning",
            "- a\n- b\n- c",
            "Here:\n- a\n- b\n- c",
            "a, b, c",
        ),
    ],
)
def test_a_better_text_has_a_better_grade(kind, value, good, worse, bad):
    assert value in KINDS[kind].values
    grades = [Wish(kind, value).grade(text) for text in (good, worse, bad) if text]
    assert grades[0] == 1 and grades == sorted(set(grades), reverse=True)
    assert Wish(kind, value).grade("  ") == 0


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("A", 1), ("A. B", 2), ('"A!" b.', 2), ("It is 3.5 m.", 1)]
)
def test_sentences_are_counted(text, count):
    assert count_sentences(text) == count


def test_every_text_has_grades_from_0_to_1():
    rng = random.Random(0)
    characters = "ab .!?\"-\n'Dear the"
    for row in ROWS[:200]:
        text = "".join(rng.choices(characters, k=rng.randrange(40)))
        assert all(0 <= w.grade(text) <= 1 for w in instructions.wishes_of(row["prompt"]))


@pytest.mark.parametrize(
    "text", ["", " \n", "!?", "- \n- \n- ", "\u201c\u201d", "1 2 3", "\U0001f642"]
)
def test_a_text_without_a_word_meets_no_wish(text):
    assert all(instructions.gold_grade(row["prompt"], text) == 0 for row in ROWS[:50])


def test_a_careful_expert_meets_the_wishes_and_a_careless_one_does_not():
    def grade(carelessness: float) -> float:
        rng = random.Random(1)
        write = instructions.write_completion
        return mean(
            instructions.gold_grade(row["prompt"], write(row, rng, carelessness)) for row in ROWS
        )

    careful, usual, careless = map(grade, (0, 0.6, 1))
    assert careful > 0.95 and careless < 0.5
    references = mean(instructions.gold_grade(r["prompt"], r["reference"]) for r in ROWS)
    assert references == pytest.approx(usual, abs=0.03)


def test_a_careful_expert_misses_no_wish_but_a_length_that_other_wishes_leave_no_room_for():
    """Such as eight words of a letter that uses a word and ends with another."""
    rng, off = random.Random(2), []
    for row in instructions.draw_rows(1200, 3):
        text = instructions.write_completion(row, rng, 0)
        for wish in instructions.wishes_of(row["prompt"]):
            if wish.kind == "words":
                off.append(abs(len(words_of(text)) - int(wish.value)))
            else:
                assert wish.grade(text) == 1, (row["prompt"], text)
    assert mean(each > 1 for each in off) < 0.03 and max(off) <= 6


def test_the_proxy_follows_gold_and_errs():
    rng = random.Random(1)
    pairs = [(row, instructions.write_completion(row, rng, 0.5)) for row in ROWS]
    gold = [instructions.gold_grade(row["prompt"], text) for row, text in pairs]
    proxy = [instructions.proxy_reward(row["prompt"], text) for row, text in pairs]
    assert 0.6 < correlation(gold, proxy) < 0.95
    prompt = 'Say something about cats. Use the word "bell". Do not use the word "the".'
    longer = instructions.proxy_reward(prompt, "The bell.") < instructions.proxy_reward(
        prompt, "The bell. " + "It rings. " * 40
    )
    assert longer  # a fault of the proxy that gold does not have
    assert proxy == [instructions.proxy_reward(row["prompt"], text) for row, text in pairs]


def test_worked_solutions_end_in_the_answer():
    rows = problems.draw_rows(80, 1)
    assert rows == problems.draw_rows(80, 1)
    rng = random.Random(0)
    for row in rows:
        assert is_correct(problems.write_completion(row, rng, 0), row["answer"])
        assert not is_correct(problems.write_completion(row, rng, 1), row["answer"])
        assert row["solution"].count("\n") >= 1 and row["answer"] in row["solution"]
    kinds = ["What is" in row["prompt"] for row in rows]
    assert kinds.count(False) == 20


def test_running_totals_are_those_of_the_sum():
    for row in problems.chains(20, 1, 4, 2):
        assert eval(row["key"]) == int(row["answer"])
        *steps, last = row["solution"].splitlines()
        for step in steps:
            left, right = step.split(" = ")
            assert eval(left) == int(right)
        assert last == f"\\boxed{{{right}}}"


@pytest.mark.parametrize("most", [8, 12, 20])
def test_no_prompt_asks_for_a_longer_text_than_the_scale_has_room_for(most):
    rows = instructions.draw_rows(200, 1, most)
    wished = [wish for row in rows for wish in instructions.wishes_of(row["prompt"])]
    assert max(wish.words for wish in wished) == most
    for wish in wished:
        assert wish.kind != "words" or int(wish.value) <= most


def test_problems_are_as_hard_as_the_scale_says():
    words = problems.draw_rows(40, 1, digits=2, in_words=1)
    numbers = [number for row in words for number in re.findall(r"\d+", row["solution"])]
    assert len(words) == 40 and max(map(int, numbers)) < 100
    rows = problems.draw_rows(40, 1, terms=3, digits=1, in_words=0)
    assert len(rows) == 40 and all(len(re.findall(r"\d", row["key"])) == 3 for row in rows)
    data = EnglishData(kind="english", **SIZES, terms=2, word_problems=0)
    drawn = find_task("math_reasoning").worlds["english"].draw_rows(20, 1, data)
    assert all(len(re.findall(" [+-] ", row["key"])) == 1 for row in drawn)
    with pytest.raises(ValueError, match=r"data.digits: 1, but only \d+ of 40 problems in words"):
        problems.draw_rows(40, 1, digits=1, in_words=1)


def test_a_form_of_lines_has_words_enough_for_a_sentence_in_each():
    rng = random.Random(0)
    lengths = {}
    for _ in range(4000):
        found = {wish.kind: wish.value for wish in instructions.sample_wishes(rng, 20)}
        if "form" in found and "words" in found:
            lengths.setdefault(found["form"].split()[1], set()).add(int(found["words"]))
    assert lengths["list"] == {12, 16, 20} and lengths["poem"] == {16, 20}
    assert lengths["letter"] == lengths["text"] == {8, 12, 16, 20}
