"""Rows as users write them, typed and checked one by one."""

import numpy as np
import pytest
import torch

from humanline.files.validation import ConfigError
from humanline.trainers.rows import formats


@pytest.mark.parametrize("value", [True, 1, 1.0, np.bool_(True), np.int8(1), torch.tensor(True)])
def test_labels(value):
    assert formats.as_label(value) is True
    assert formats.as_label(value * 0) is False


@pytest.mark.parametrize(
    "value", [-1, 2, 0.9, None, "1", "true", float("nan"), np.float32(0.1), np.ones(2), [True]]
)
def test_what_is_no_label(value):
    with pytest.raises(ValueError):
        formats.as_label(value)


def test_a_checked_row_has_truth_values_and_floats():
    check = formats.RowCheck(formats.Labelled)
    row = {"prompt": "a", "completion": "b", "label": 1, "note": "kept"}
    assert check(row, "here") == row | {"label": True}
    check = formats.RowCheck(formats.Group)
    row = {"prompt": "a", "completions": ["b", "c"], "scores": [1, 2]}
    (first, second) = check(row, "here")["scores"]
    assert isinstance(first, float) and isinstance(second, float)


def test_groups_are_of_one_size_and_may_share_a_prompt():
    check = formats.RowCheck(formats.Group, group_size=2)
    row = {"prompt": "a", "completions": ["b", "c"], "scores": [1.0, 2.0]}
    check(row, "line 1")
    assert check(row, "line 2") == row
    with pytest.raises(ConfigError, match=r"^line 3: completions: 1, but num_generations is 2; "):
        check({"prompt": "b", "completions": ["b"], "scores": [1.0]}, "line 3")


def test_rows_are_of_one_form():
    check = formats.RowCheck(formats.Pair)
    check({"prompt": "a", "chosen": "b", "rejected": "c"}, "line 1")
    turns = [{"role": "user", "content": "a"}]
    answer = [{"role": "assistant", "content": "a"}]
    with pytest.raises(ConfigError, match=r"^line 2: prompt: a conversation, but line 1 has text"):
        check({"prompt": turns, "chosen": answer, "rejected": answer}, "line 2")


@pytest.mark.parametrize(
    ("model", "rows", "told"),
    [
        (formats.Pair, [("b", "c"), ("c", "b"), ("d", "d")], "of 3 rows 1 teach nothing "),
        (formats.Pair, [("b", "c"), ("c", "b")], "and 1 judge a completion otherwise"),
        (formats.Pair, [("b", "c"), ("b", "c")], ""),
        (formats.Labelled, [("b", True), ("b", False)], "and 1 judge a completion otherwise"),
        (formats.Labelled, [("b", True), ("c", False)], ""),
        (formats.Group, [(["b", "c"], [1.0, 2.0]), (["c"], [1.0])], "1 teach nothing"),
        (formats.Group, [(["b", "b"], [1.0, 2.0])], "and 1 judge a completion otherwise"),
        (formats.Group, [(["b", "c"], [1.0, 2.0])] * 2, ""),
    ],
)
def test_rows_that_contradict_others_are_told(model, rows, told, caplog):
    check = formats.RowCheck(model)
    names = [
        name for name in model.model_fields if name not in {"prompt", *formats.Row.model_fields}
    ]
    for row in rows:
        check({"prompt": "a"} | dict(zip(names, row, strict=True)), "here")
    check.tell("rows.jsonl")
    assert told in caplog.text and ("rows.jsonl: of" in caplog.text) == bool(told)
