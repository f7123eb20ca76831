"""What a stage writes is what the next one reads: typed, finite, of its length, each row once."""

import json

import pandas as pd
import pytest

from humanline.data.stage_files import (
    GradedSample,
    Group,
    Instruction,
    JudgedSample,
    Likelihood,
    Problem,
    Surprisal,
    prompts_of,
    read_likelihoods,
    read_samples,
    samples_of,
)
from humanline.data.training_files import Predictors, Trained
from humanline.files.typed_files import (
    read_columns,
    read_record,
    read_rows,
    write_columns,
    write_rows,
)
from humanline.files.validation import ConfigError

GROUP = {"prompt": "1+2", "completions": ["3", "4"], "scores": [1.0, 0]}
LIKELIHOOD = {"prompt": "1+2", "mean_token_log_probability": [-0.5, 0]}
INSTRUCTION = {"prompt": "a+", "reference": "ab"}
PROBLEM = {"prompt": "1+2", "answer": "3"}
JUDGED = {"step": 8, "completion": "abc", **INSTRUCTION}
GRADED = {"step": 8, "prompt_id": 0, "completion": "3", **PROBLEM}
VALID = [
    (Group, GROUP),
    (Likelihood, LIKELIHOOD),
    (Instruction, INSTRUCTION),
    (Problem, PROBLEM),
    (JudgedSample, JUDGED),
    (GradedSample, GRADED),
]
# A kind of row, a row that is valid but for a field, and what it is given; MISSING: taken away.
MISSING = object()
WRONG = [
    (Group, GROUP, "scores", [1.0]),
    (Group, GROUP, "scores", [1.0, 0.0, 2.0]),
    (Group, GROUP, "scores", [1.0, None]),
    (Group, GROUP, "scores", [1.0, "2"]),
    (Group, GROUP, "scores", [1.0, True]),
    (Group, GROUP, "scores", 1.0),
    (Group, GROUP, "scores", None),
    (Group, GROUP, "scores", MISSING),
    (Group, GROUP, "completions", ["3"]),
    (Group, GROUP, "completions", ["3", None]),
    (Group, GROUP, "completions", ["3", 4]),
    (Group, GROUP, "completions", "34"),
    (Group, GROUP, "prompt", None),
    (Group, GROUP, "prompt", ["1+2"]),
    (Likelihood, LIKELIHOOD, "mean_token_log_probability", [0.5, -1.0]),
    (Likelihood, LIKELIHOOD, "mean_token_log_probability", [-0.5, None]),
    (Likelihood, LIKELIHOOD, "mean_token_log_probability", []),
    (Likelihood, LIKELIHOOD, "mean_token_log_probability", -0.5),
    (Instruction, INSTRUCTION, "reference", None),
    (Instruction, INSTRUCTION, "reference", MISSING),
    (Problem, PROBLEM, "answer", 3),
    (Problem, PROBLEM, "answer", None),
    (JudgedSample, JUDGED, "completion", None),
    (JudgedSample, JUDGED, "step", "8"),
    (JudgedSample, JUDGED, "step", -1),
    (JudgedSample, JUDGED, "step", 8.5),
    (GradedSample, GRADED, "prompt_id", True),
    (GradedSample, GRADED, "prompt_id", MISSING),
    (GradedSample, GRADED, "answer", 3),
]


def write(path, *lines) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))


def fault(call, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize(("model", "row"), VALID)
def test_what_is_written_is_read(model, row, path):
    write_rows(path, model, iter([row]))
    assert read_rows(path, model) == [row]


@pytest.mark.parametrize(("model", "row", "field", "value"), WRONG)
def test_a_wrong_field_is_refused_by_who_reads_and_who_writes(model, row, field, value, path):
    other = row | {"prompt": "another", "prompt_id": 1}
    wrong = {k: v for k, v in (other | {field: value}).items() if v is not MISSING}
    write(path, row, "", wrong)
    said = f"no field {field!r}" if value is MISSING else field
    assert fault(read_rows, path, model).startswith(f"{path}: line 3: {said}")
    path.unlink()
    assert fault(write_rows, path, model, [row, wrong]).startswith(f"{path}: line 2: {field}")
    assert not path.exists()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(number, path):
    write(path, GROUP, f'{{"prompt": "b", "completions": ["a", "b"], "scores": [1, {number}]}}')
    assert fault(read_rows, path, Group).startswith(f"{path}: line 2: holds ")
    wrong = GROUP | {"prompt": "b", "scores": [1, float(number.replace("1e999", "inf"))]}
    message = fault(write_rows, path, Group, [GROUP, wrong])
    assert message.startswith(f"{path}: line 2: scores.1: Input should be a finite number")


def test_a_row_twice_is_refused(path):
    write(path, GROUP, GROUP | {"scores": [0, 1]})
    assert fault(read_rows, path, Group).startswith(f"{path}: line 2: prompt: as in line 1; ")
    write(path, JUDGED, JUDGED | {"step": 4}, JUDGED | {"completion": "d"})
    message = fault(read_samples, path, JudgedSample)
    assert message.startswith(f"{path}: line 3: step and prompt: as in line 1; ")
    write(path, GRADED, GRADED | {"prompt": "another"})
    message = fault(read_samples, path, GradedSample)
    assert message.startswith(f"{path}: line 2: step and prompt_id: as in line 1; ")


def test_nothing_is_not_written(path):
    assert fault(write_rows, path, Group, []).startswith(f"{path}: no rows")
    assert not path.exists()


def test_samples_are_told_apart_by_step_in_whatever_order(path):
    other = JUDGED | {"prompt": "b+"}
    write(path, JUDGED, JUDGED | {"step": 4}, other, other | {"step": 4})
    assert list(read_samples(path, JudgedSample).items()) == [
        (4, [JUDGED | {"step": 4}, other | {"step": 4}]),
        (8, [JUDGED, other]),
    ]


@pytest.mark.parametrize(
    ("model", "row", "change"),
    [
        (JudgedSample, JUDGED, {"prompt": "b+"}),
        (JudgedSample, JUDGED, {"reference": "another's"}),
        (GradedSample, GRADED, {"prompt": "1+3"}),
        (GradedSample, GRADED, {"prompt_id": 1}),
        (GradedSample, GRADED, {"answer": "4"}),
    ],
)
def test_samples_of_several_runs_are_refused(model, row, change, path):
    write(path, row, row | {"step": 16} | change)
    message = fault(read_samples, path, model)
    assert message.startswith(f"{path}: the prompts of step 16 are not those of step 8")


def test_a_step_that_lacks_samples_is_refused(path):
    write(path, JUDGED, JUDGED | {"prompt": "b+"}, JUDGED | {"step": 16})
    assert "step 16 are not those of step 8" in fault(read_samples, path, JudgedSample)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([LIKELIHOOD], "1 rows for 2 groups"),
        (
            [LIKELIHOOD, LIKELIHOOD | {"prompt": "c"}],
            "row 2: prompt or number of completions differs",
        ),
        (
            [LIKELIHOOD, {"prompt": "b", "mean_token_log_probability": [-1.0]}],
            "row 2: prompt or number of completions differs",
        ),
    ],
)
def test_likelihoods_are_those_of_the_groups(rows, reason, path):
    groups = [GROUP, GROUP | {"prompt": "b"}]
    write(path, *rows)
    assert reason in fault(read_likelihoods, path, groups)
    write(path, LIKELIHOOD, LIKELIHOOD | {"prompt": "b"})
    assert len(read_likelihoods(path, groups)) == 2


PREDICTORS = {
    "mean_token_log_probability": -0.5,
    "unclipped": None,
    "distance_gains": 0.1,
    "unclipped_chosen": None,
    "unclipped_rejected": None,
    "log_ratio_chosen": None,
    "log_ratio_rejected": -0.5,
    "distance_losses": None,
}


@pytest.mark.parametrize(
    ("model", "content", "field", "value"),
    [
        (Trained, {"steps": 8, "checkpoints": "work"}, "steps", 0),
        (Trained, {"steps": 8, "checkpoints": "work"}, "steps", "8"),
        (Trained, {"steps": 8, "checkpoints": "work"}, "checkpoints", None),
        (Predictors, PREDICTORS, "mean_token_log_probability", None),
        (Predictors, PREDICTORS, "mean_token_log_probability", 0.5),
        (Predictors, PREDICTORS, "unclipped", 1.5),
        (Predictors, PREDICTORS, "distance_gains", "0.1"),
    ],
)
def test_a_wrong_record_is_refused(model, content, field, value, path):
    write(path, content | {"more": 1})
    assert read_record(path, model).model_dump() == content
    write(path, content | {field: value})
    assert fault(read_record, path, model).startswith(f"{path}: {field}: ")
    write(path, [content])
    assert fault(read_record, path, model).startswith(f"{path}: not an object")


def read_surprisals(path) -> pd.DataFrame:
    return read_columns(path, Surprisal)


def surprisals() -> pd.DataFrame:
    rows = [(name, i, 0.5 * i) for name in ("policy", "on-policy", "data") for i in range(3)]
    return pd.DataFrame(rows, columns=["source", "prompt_id", "surprisal"])


def test_surprisals_are_read_as_written(path):
    frame = surprisals()
    write_columns(path, Surprisal, frame)
    pd.testing.assert_frame_equal(read_surprisals(path), frame, check_dtype=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f.drop(columns="source"), "field source: missing"),
        (lambda f: f.assign(surprisal=f.surprisal.where(f.index != 4)), "row 4: field surprisal"),
        (lambda f: f.assign(surprisal=f.surprisal / f.prompt_id), "row 0: field surprisal"),
        (lambda f: f.assign(surprisal=float("inf")), "row 0: field surprisal"),
        (lambda f: f.assign(surprisal=["x"] * len(f)), "row 0: field surprisal: 'x'"),
        (lambda f: f.drop(index=4), "sources differ in their prompts"),
        (lambda f: pd.concat([f, f.tail(1)]), "sources differ in their prompts"),
        (lambda f: f[f.source != "policy"], "sources differ in their prompts"),
        (lambda f: f.head(0), "sources differ in their prompts"),
    ],
)
def test_wrong_surprisals_are_refused(change, reason, path):
    change(surprisals()).to_csv(path, index=False)
    assert fault(read_surprisals, path).startswith(f"{path}: {reason}")


def test_surprisals_that_are_no_table_are_refused(path):
    assert fault(read_surprisals, path).startswith(f"{path}: cannot be read (No such file")
    path.write_text("")
    assert fault(read_surprisals, path).startswith(f"{path}: cannot be read as CSV (")


def test_an_unknown_task_is_an_error_with_the_known_ones():
    assert prompts_of("math_reasoning") is Problem
    assert samples_of("instruction_following") is JudgedSample
    assert samples_of("math_reasoning") is GradedSample
    assert "use one of instruction_following, math_reasoning" in fault(prompts_of, "drawing")
