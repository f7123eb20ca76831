"""A run's record: one model, of which every reader takes a part, in files of before as well."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from humanline.data.training_files import (
    Described,
    LogRow,
    Predictors,
    ProgressNote,
    RunCost,
    Timed,
    Trained,
    TrainingRecord,
)
from humanline.files.typed_files import read_columns, read_record, write_columns, write_record
from humanline.files.validation import ConfigError
from humanline.study.experiments import Cell

CELL = Cell(task="math_reasoning", objective="grpo", data="online", sample_every=1, seed=1)
RECORD = {
    "cell": CELL.model_dump(),
    "manifest": {"learning_rate": 1e-3, "version": 3, "base": "0f"},
    "checkpoints": "checkpoints/0f",
    "steps": 8,
    "devices": 1,
    "seconds": {"sample": 1.0, "train": 2.0, "total": 3.0},
    "timeline": [{"step": 4, "seconds": 1.5}, {"step": 8, "seconds": 3.0}],
    "sampled_tokens": 100,
    "peak_memory_mib": 500,
    "provenance": {"git": {"commit": None}, "packages": {"trl": "1"}, "machine": {"cores": 2}},
}
PARTS = (Trained, Timed, RunCost, Described)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train.json"


def test_what_training_writes_is_what_every_reader_takes_a_part_of(path):
    write_record(path, TrainingRecord, RECORD)
    assert json.loads(path.read_text()) == RECORD
    for part in PARTS:
        assert issubclass(TrainingRecord, part)
        read_record(path, part)
    assert read_record(path, RunCost).seconds.sample == 1
    assert read_record(path, Described).seconds.model_dump() == RECORD["seconds"]
    assert read_record(path, TrainingRecord).cell == CELL


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (Trained, {"steps": 8, "checkpoints": "work"}),
        (Timed, {"seconds": {"total": 1}}),
        (RunCost, {key: RECORD[key] for key in ("steps", "seconds", "timeline")}
         | {"sampled_tokens": 0, "peak_memory_mib": 5}),
        (Described, {"manifest": {"learning_rate": 1}, "seconds": {"total": 1},
                     "provenance": {"git": {}, "packages": {}}}),
    ],
)  # fmt: skip
def test_records_of_before_are_read(part, content, path):
    path.write_text(json.dumps(content))
    read_record(path, part)


@pytest.mark.parametrize("field", [name for name in RECORD if name != "machine"])
def test_a_record_without_a_field_is_not_written(field, path):
    with pytest.raises(ConfigError, match=f"{path}: field {field}.*; train again"):
        write_record(
            path, TrainingRecord, {k: v for k, v in RECORD.items() if k != field}, "train again"
        )
    assert not path.exists()


@given(
    step=st.integers(0, 10**9),
    sample=st.floats(0, 1e9),
    total=st.floats(0, 1e9),
    tokens=st.integers(0, 2**60),
    times=st.lists(st.floats(0, 1e9), max_size=4),
)
def test_a_note_of_progress_is_read_as_it_was_written(
    tmp_path_factory, step, sample, total, tokens, times
):
    path = tmp_path_factory.mktemp("note") / "progress.json"
    note = {
        "run": "0123abcd",
        "step": step,
        "seconds": {"sample": sample, "total": total},
        "timeline": [{"step": i, "seconds": value} for i, value in enumerate(times)],
        "sampled_tokens": tokens,
    }
    write_record(path, ProgressNote, note)
    assert read_record(path, ProgressNote).model_dump() == note


LOG = pd.DataFrame({"loss": [1.0, 0.5], "step": [4, 8], "num_tokens": [100.0, np.nan]})


def test_a_log_may_have_gaps_and_any_other_metric(tmp_path):
    path = tmp_path / "metrics.csv"
    frame = LOG.assign(other=[np.nan, -3.5], words="text")
    write_columns(path, LogRow, frame)
    pd.testing.assert_frame_equal(read_columns(path, LogRow), frame, check_dtype=False)
    assert path.read_text() == frame.to_csv(index=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loss": [1.0, np.inf]}, "row 1: field loss: inf is no finite number"),
        ({"num_tokens": [-1.0, 5]}, "row 0: field num_tokens: -1.0 is no number from 0 to inf"),
        ({"step": [4.0, np.nan]}, "row 1: field step: nan is no number from 0 to inf"),
    ],
)
def test_a_log_that_tells_nothing_is_refused_by_training_and_tables(change, reason, tmp_path):
    path = tmp_path / "metrics.csv"
    frame = LOG.assign(**change)
    for refuse in (lambda: write_columns(path, LogRow, frame), lambda: read_columns(path, LogRow)):
        with pytest.raises(ConfigError) as caught:
            refuse()
        assert str(caught.value) == f"{path}: {reason}; train that run again"
        frame.to_csv(path, index=False)


def test_predictors_of_a_run_that_has_none_are_null(path):
    found = {"mean_token_log_probability": -1.0, "unclipped": None}
    found |= {"distance_gains": None, "distance_losses": 0.5}
    found |= {"unclipped_chosen": None, "unclipped_rejected": None}
    found |= {"log_ratio_chosen": 0.1, "log_ratio_rejected": -0.1}
    write_record(path, Predictors, found)
    assert read_record(path, Predictors).model_dump() == json.loads(path.read_text()) == found
