"""HALOs' feedback files, as its `train/label.py` writes them."""

import pytest

from humanline.data import feedback
from humanline.files.validation import ConfigError

PROMPT = [{"role": "user", "content": "a prompt"}]


def turn(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def binary(text: str, label: int, reward: float, prompt_id: str = "0") -> dict:
    row = {"prompt_id": prompt_id, "prompt": PROMPT, "output": turn(text), "label": label}
    return row | {"reward": reward, "type": "binary_feedback"}


def pairwise(a: str, b: str, label: int, prompt_id: str = "0", **more) -> dict:
    row = {"prompt_id": prompt_id, "prompt": PROMPT, "output_A": turn(a), "output_B": turn(b)}
    rewards = {"reward_A": 2.0 * label, "reward_B": 1.0, "reward_difference": 1.0}
    return row | rewards | {"label": label, "type": "pairwise_feedback"} | more


def test_what_a_feedback_row_is():
    assert feedback.is_feedback(binary("x", 1, 0.5))
    assert feedback.is_feedback(pairwise("x", "y", 1))
    assert not feedback.is_feedback({"prompt": "x", "type": "scalar"})
    assert not feedback.is_feedback({"prompt": "x"})


def test_a_pairs_label_says_which_is_better():
    rows = feedback.preferences([pairwise("x", "y", 1), pairwise("x", "y", 0)], "feedback")
    assert [(row["chosen"], row["rejected"]) for row in rows] == [
        (turn("x"), turn("y")),
        (turn("y"), turn("x")),
    ]
    assert all(row["prompt"] == PROMPT for row in rows)


def test_labels_are_bools():
    rows = feedback.preferences([binary("x", 1, -3.0), binary("y", 0, 9.0)], "feedback")
    assert rows == [
        {"prompt": PROMPT, "completion": turn("x"), "label": True},
        {"prompt": PROMPT, "completion": turn("y"), "label": False},
    ]


def test_groups_have_each_output_once():
    rows = [pairwise("x", "y", 1), pairwise("z", "y", 0), pairwise("u", "v", 1, prompt_id="1")]
    assert feedback.groups(rows, "feedback") == [
        {"prompt": PROMPT, "completions": ["x", "y", "z"], "scores": [2.0, 1.0, 0.0]},
        {"prompt": PROMPT, "completions": ["u", "v"], "scores": [2.0, 1.0]},
    ]
    rows = [binary("x", 1, 0.5), binary("u", 0, 0.25, prompt_id="1"), binary("y", 0, -1.0)]
    assert [group["scores"] for group in feedback.groups(rows, "feedback")] == [[0.5, -1.0], [0.25]]


def test_rows_without_a_split_are_in_every_split():
    rows = [pairwise("x", "y", 1, split=split) for split in ("train", "test", None)]
    rows.append(pairwise("x", "y", 1))
    assert feedback.rows_of_split(rows, "test") == rows[1:]


@pytest.mark.parametrize("label", [-1, 2, 0.5, None, "1", "true"])
def test_what_is_no_label(label):
    rows = [binary("x", 1, 0.5), binary("y", label, 0.5)]
    with pytest.raises(ConfigError, match=r"^feedback: row 1: label: .* is no label; use"):
        feedback.preferences(rows, "feedback")
    with pytest.raises(ConfigError, match=r"^feedback: row 0: label: "):
        feedback.preferences([pairwise("x", "y", 1) | {"label": label}], "feedback")


def test_rows_keep_their_numbers():
    rows = [pairwise("x", "y", 1, split="test"), pairwise("x", "y", 1, reward_A="1")]
    with pytest.raises(ConfigError, match=r"^feedback: row 1: reward_A: "):
        feedback.groups(rows, "feedback", "train")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (pairwise("x", "y", 1), "row 1: type: 'pairwise_feedback', but the rows before have"),
        (binary("y", 1, 0.5) | {"type": None}, "row 1: type: None, but the rows before have"),
        (
            binary("y", 1, 0.5) | {"prompt": turn("z")},
            "row 1: prompt_id: '0' also belongs to another",
        ),
        (binary("y", 1, 0.5) | {"output": turn("a") * 2}, "row 1: output: 2 turns, but"),
        (binary("y", 1, float("nan")), "row 1: reward: "),
    ],
)
def test_rows_that_make_no_group(row, reason):
    with pytest.raises(ConfigError, match=f"^feedback: {reason}"):
        feedback.groups([binary("x", 1, 0.5), row], "feedback")


def test_an_output_has_one_reward():
    rows = [pairwise("x", "y", 1), pairwise("x", "z", 1, reward_A=9.0)]
    with pytest.raises(ConfigError, match=r"^here: row 1: reward: 9\.0, but .* this output 2\.0; "):
        feedback.groups(rows, "here")
