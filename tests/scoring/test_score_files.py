"""What scoring writes, the tables and the search of learning rates read in parts."""

import json

import pandas as pd
import pytest

from humanline.files.typed_files import read_columns, read_record, write_columns, write_record
from humanline.files.validation import ConfigError
from humanline.scoring.score_files import (
    Correctness,
    CurvePoint,
    Judgement,
    Notices,
    Summary,
    WinRates,
    grades_of,
)

SUMMARY = {
    "win_rate": 60.0,
    "standard_error": 5.0,
    "discrete_win_rate": 61.0,
    "length_controlled_winrate": 58.0,
    "lc_standard_error": 0.0,
    "n_wins": 6,
    "n_wins_base": 4,
    "n_draws": 0,
    "n_total": 10,
    "avg_length": 14,
    "step": 8,
    "length_controlled_win_rate": 57.5,
    "length_control_warning": None,
    "n_left_out": 0,
}
GRADE = grades_of("math_reasoning")
GRADES = pd.DataFrame(
    {
        "step": [4, 4],
        "problem_id": [0, 1],
        "sample": [0, 0],
        "correct": [1, 0],
        "outcome": ["correct", "no_box"],
    }
)


def test_a_summary_is_written_whole_and_read_in_parts(tmp_path):
    path = tmp_path / "metrics.json"
    write_record(path, Summary, SUMMARY)
    assert json.loads(path.read_text()) == SUMMARY
    assert read_record(path, Judgement).length_controlled_win_rate == 57.5
    assert read_record(path, WinRates).avg_length == 14
    assert read_record(path, Notices).n_left_out == 0


def test_an_older_summary_has_no_notices(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"win_rate": 60, "length_controlled_winrate": 58, "avg_length": 14}')
    assert read_record(path, Notices) == Notices(n_left_out=0, length_control_warning=None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"outcome": ["correct", "maybe"]}, "field outcome: maybe is no outcome of 0 in row 1"),
        ({"outcome": ["wrong", "no_box"]}, "field outcome: wrong is no outcome of 1 in row 0"),
        ({"correct": [1, 2]}, "field correct: not always 0 or 1, but 2 in row 1"),
        ({"problem_id": [0, "x"]}, "row 1: field problem_id: 'x' is no finite number"),
    ],
)
def test_wrong_grades_are_refused_when_written_and_when_read(change, reason, tmp_path):
    path = tmp_path / "grades.csv"
    frame = GRADES.assign(**change)
    for refuse in (lambda: write_columns(path, GRADE, frame), lambda: read_columns(path, GRADE)):
        with pytest.raises(ConfigError) as caught:
            refuse()
        assert str(caught.value) == f"{path}: {reason}; grade that run again"
        frame.to_csv(path, index=False)


def test_older_grades_have_no_outcome_and_the_search_of_rates_needs_none(tmp_path):
    path = tmp_path / "grades.csv"
    GRADES.drop(columns="outcome").to_csv(path, index=False)
    assert len(read_columns(path, GRADE)) == 2
    GRADES[["step", "correct"]].to_csv(path, index=False)
    assert len(read_columns(path, Correctness)) == 2


def test_a_curve_is_in_per_cent(tmp_path):
    path = tmp_path / "curve.csv"
    curve = pd.DataFrame({"step": [4, 8], "length_controlled_win_rate": [50.0, 101.0]})
    with pytest.raises(ConfigError, match=r"row 1: field length_.* 101\.0 .*; judge that run"):
        write_columns(path, CurvePoint, curve)
    assert not path.exists()
