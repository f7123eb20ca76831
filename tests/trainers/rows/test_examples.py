"""A row of training data is read for what it is, or refused."""

import pytest
from trl import extract_prompt

from humanline.trainers.rows.examples import read

PAIR = ("chosen", "rejected")


def user(text):
    return {"role": "user", "content": text}


def says(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


ANSWERS = [says("good")], [says("bad")]
WHOLE = tuple([user("q"), *answer] for answer in ANSWERS)
LONG = [user("q"), says("a"), user("q2"), says("b")]
PARTS = [{"type": "text", "text": "q"}]
CALL = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}


@pytest.mark.parametrize(
    ("prompt", "completions"),
    [
        ([user("q")], WHOLE),
        ("q", WHOLE),
        (" q\n", WHOLE),
        (None, WHOLE),
        ("q", ANSWERS),
        ([user("q")], ANSWERS),
        ([user("q")], ("good", "bad")),
        ([user("q") | {"name": None}], [[turn | {"name": None} for turn in w] for w in WHOLE]),
    ],
)
def test_a_prompt_is_found_wherever_it_stands(prompt, completions):
    assert read(prompt, completions, PAIR) == ([user("q")], list(ANSWERS))


@pytest.mark.parametrize(
    ("prompt", "completions", "expected"),
    [
        ([user("q")], [[system("s"), *w] for w in WHOLE], [system("s"), user("q")]),
        ([system("s"), user("q")], WHOLE, [system("s"), user("q")]),
        ([system("s")], WHOLE, [system("s"), user("q")]),
        (LONG[:3], ANSWERS, LONG[:3]),
        (LONG[:2], [[*LONG[:3], *answer] for answer in ANSWERS], LONG[:3]),
        (None, [[*LONG[:3], *answer] for answer in ANSWERS], LONG[:3]),
        ("q", [[*LONG[:3], *answer] for answer in ANSWERS], LONG[:3]),
        ("q2", [[*LONG[:3], *answer] for answer in ANSWERS], LONG[:3]),
        ("q", [[{"role": "user", "content": PARTS}, *a] for a in ANSWERS],
         [{"role": "user", "content": PARTS}]),
    ],
)  # fmt: skip
def test_prompts_of_several_turns(prompt, completions, expected):
    assert read(prompt, completions, PAIR) == (expected, list(ANSWERS))


def test_completions_of_several_turns():
    assert read([user("q")], [LONG[1:]], ["completion"]) == ([user("q")], [LONG[1:]])
    assert read("q", [LONG], ["completion"]) == ([user("q")], [LONG[1:]])
    assert read([user("q")], [LONG], ["completion"]) == ([user("q")], [LONG[1:]])
    assert read(None, [LONG], ["completion"]) == (LONG[:3], [LONG[3:]])
    call = {"role": "assistant", "tool_calls": [{"name": "f"}]}
    tool = [CALL, {"role": "tool", "content": "2"}, says("two")]
    assert read("q", [tool], ["completion"]) == ([user("q")], [[call, *tool[1:]]])
    assert read([user("q"), CALL], [tool[1:]], ["completion"]) == ([user("q"), call], [tool[1:]])


def test_answers_that_are_equal_or_go_on_from_each_other():
    assert read(None, [WHOLE[0], WHOLE[0]], PAIR) == ([user("q")], [ANSWERS[0], ANSWERS[0]])
    longer = [*WHOLE[0], user("and"), says("so")]
    assert read(None, [WHOLE[0], longer], PAIR) == ([user("q")], [ANSWERS[0], longer[1:]])


def test_texts():
    assert read("q", ["a", "b"], PAIR) == ("q", ["a", "b"])
    assert read(None, ["The sky is blue", "The sky is red"], PAIR) == (
        "The sky is", [" blue", " red"],
    )  # fmt: skip


@pytest.mark.parametrize("rejected", ["Q: 1 A: yes", "Q: 1 A: yes sir"])
def test_texts_that_are_equal_or_go_on_from_each_other_are_read_as_by_trl(rejected):
    row = {"chosen": "Q: 1 A: yes", "rejected": rejected}
    expected = extract_prompt(row)
    prompt, completions = read(None, list(row.values()), PAIR)
    assert expected == {"prompt": prompt} | dict(zip(PAIR, completions, strict=True))


@pytest.mark.parametrize(
    ("prompt", "completions", "message"),
    [
        (None, ([user("q"), says("a")], [user("r"), says("b")]), "different prompts"),
        (None, [[system("s"), user(t), says("a")] for t in "qr"], "different prompts"),
        ([user("z")], WHOLE, "other turns than the prompt"),
        ([user("q")], (WHOLE[0], [user("z"), says("a")]), "other turns than the prompt"),
        ([user("q")], (WHOLE[0], [system("s"), *WHOLE[1]]), "other turns than the prompt"),
        ([system("t"), user("q")], [[system("s"), *w] for w in WHOLE], "other turns than"),
        ([user("q")], ([user("q")], WHOLE[1]), "nothing after"),
        (None, ([user("q")], [user("q")]), "end with the prompt"),
        ("z", WHOLE, "not among the user's turns"),
        ("q", (ANSWERS[0], WHOLE[1]), "others after it"),
        ("q", ("good", ANSWERS[1]), "one form"),
        (None, ANSWERS, "there is no prompt"),
        (None, ("good", "bad"), "there is no prompt"),
        (None, ("good ", "bad "), "there is no prompt"),
        (None, ("a", "a"), "there is no prompt"),
        (None, ("", "Q: yes"), "there is no prompt"),
        ("q", (None, "b"), "chosen is None"),
        ("q", ("a", []), r"rejected is \[\]"),
        ("q", ({"role": "user"}, "b"), "chosen is"),
        ([], ("a", "b"), r"prompt is \[\]"),
        (3, ("a", "b"), "prompt is 3"),
        ([user("q")], (["good"], ["bad"]), "for a message"),
        ([user("q")], ([says(None)], [says("b")]), "without content"),
        ([user("q")], ([says(3)], [says("b")]), "for a content"),
        ([user([{"type": "image"}, *PARTS])], ANSWERS, "images"),
        ([user("q")], ([says([{"type": "image_url"}])], [says("b")]), "images"),
    ],
)  # fmt: skip
def test_what_has_no_reading_or_two_is_refused(prompt, completions, message):
    with pytest.raises(ValueError, match=message) as error:
        read(prompt, completions, PAIR)
    assert "\n" not in str(error.value)
