"""Typed files: who writes and who reads refuse the same, and say it in the same line."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, ClassVar

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from humanline.files.typed_files import (
    Columns,
    Count,
    Percent,
    Row,
    csv_text,
    read_columns,
    read_csv,
    read_record,
    read_rows,
    write_columns,
    write_record,
    write_rows,
)
from humanline.files.validation import ConfigError, Record


class Inner(Record):
    total: Annotated[float, Field(ge=0)]
    parts: list[Count] = Field(default_factory=list)


class Outer(Record):
    share: Percent
    inner: Inner
    note: str | None = None


class Point(Columns):
    remedy: ClassVar[str] = "draw it again"
    step: Count
    share: Percent | None
    name: str = ""

    @classmethod
    def fault(cls, frame):
        return "field name: x is taken" if "x" in set(frame.get("name", ())) else None


OUTER = {"share": 50, "inner": {"total": 2.5}}
POINTS = {"step": [1, 2], "share": [0.5, None]}


def fault(call, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@settings(deadline=None)  # files and their seals are written to a disk that others use, too
@given(
    share=st.floats(0, 100),
    total=st.floats(0, allow_infinity=False),
    parts=st.lists(st.integers(0, 2**40)),
    note=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
)
def test_a_record_is_read_as_it_was_written(tmp_path_factory, share, total, parts, note):
    path = tmp_path_factory.mktemp("record") / "a.json"
    content = {"share": share, "inner": {"total": total, "parts": parts}, "note": note}
    write_record(path, Outer, content)
    assert read_record(path, Outer).model_dump() == content


def test_what_is_left_out_is_not_written(tmp_path):
    path = tmp_path / "a.json"
    write_record(path, Outer, OUTER)
    assert json.loads(path.read_text()) == OUTER


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"share": None}, "field share: missing or no number"),
        ({"share": "50"}, "field share: missing or no number"),
        ({"share": True}, "field share: missing or no number"),
        ({"share": 101}, "field share: 101 is not from 0 to 100"),
        ({"inner": {}}, "field inner.total: missing or no number"),
        ({"inner": {"total": -1}}, "field inner.total: -1 is not from 0 to inf"),
        (
            {"inner": {"total": 1, "parts": [1, -2]}},
            "field inner.parts.1: -2 is not from 0 to inf",
        ),
        ({"inner": 1}, "field inner: Input should be "),
        ({"note": 1}, "field note: Input should be a valid string"),
    ],
)
def test_a_fault_of_a_record_is_the_same_line_for_writer_and_reader(change, reason, tmp_path):
    path = tmp_path / "a.json"
    message = fault(write_record, path, Outer, OUTER | change, "make it anew")
    assert not path.exists()
    assert message.startswith(f"{path}: {reason}") and message.endswith("; make it anew")
    path.write_text(json.dumps(OUTER | change))
    assert fault(read_record, path, Outer, "make it anew") == message


def test_a_record_that_is_missing_is_told_by_its_first_field(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"share": 1}')
    assert "field inner.total: missing or no number" in fault(read_record, path, Outer, "x")


def test_the_writer_invents_no_field_and_the_reader_passes_over_what_others_have(tmp_path):
    path = tmp_path / "a.json"
    message = fault(write_record, path, Outer, OUTER | {"more": 1})
    assert message == f"{path}: field more: Outer has none; add it there"
    path.write_text(json.dumps(OUTER | {"more": 1}))
    assert read_record(path, Outer).share == 50


@settings(deadline=None)  # a machine may be busy
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2**40), st.none() | st.floats(0, 100)), min_size=1, max_size=9
    )
)
def test_columns_are_read_as_they_were_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("columns") / "a.csv"
    frame = pd.DataFrame(rows, columns=["step", "share"]).astype({"share": float})
    write_columns(path, Point, frame)
    pd.testing.assert_frame_equal(read_columns(path, Point), frame)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": [1, None]}, "row 1: field step: nan is no number from 0 to inf"),
        ({"step": [1, -2]}, "row 1: field step: -2 is no number from 0 to inf"),
        ({"step": [1, "x"]}, "row 1: field step: x is no number from 0 to inf"),
        ({"share": [100.5, None]}, "row 0: field share: 100.5 is no number from 0 to 100"),
        ({"name": ["a", "x"]}, "field name: x is taken"),
    ],
)
def test_a_fault_of_columns_is_the_same_line_for_writer_and_reader(change, reason, tmp_path):
    path = tmp_path / "a.csv"
    frame = pd.DataFrame(POINTS | change)
    message = fault(write_columns, path, Point, frame)
    assert not path.exists()
    assert message == f"{path}: {reason}; draw it again"
    frame.to_csv(path, index=False)
    assert fault(read_columns, path, Point) == message


def test_columns_that_are_missing_or_empty_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    frame = pd.DataFrame(POINTS)
    missing = fault(write_columns, path, Point, frame.drop(columns="share"))
    assert missing == f"{path}: field share: missing; draw it again"
    assert fault(write_columns, path, Point, frame.head(0)) == f"{path}: no rows; draw it again"
    assert fault(read_columns, path, Point).startswith(f"{path}: cannot be read (")


def test_rows_need_only_what_has_no_default(tmp_path):
    class Line(Row):
        prompt: str
        note: str = ""

    path = tmp_path / "a.jsonl"
    write_rows(path, Line, [{"prompt": "a"}, {"prompt": "b", "note": "n"}])
    assert read_rows(path, Line) == [{"prompt": "a"}, {"prompt": "b", "note": "n"}]


class Note(Columns):
    step: Count
    note: str


FORMULAS = ["=1+1", "+x", "-x", "@x", "\tx", "'=x", "''=x", "'-1.5", "=cmd|' /C calc'!A0"]
PLAIN = ["x", "'x", "a=1", "-1.5", "+2", "-inf", "1e3", "-0"]


@pytest.mark.parametrize("note", [*FORMULAS, *PLAIN])
def test_no_cell_of_text_is_a_formula_and_all_are_read_as_they_were(note, tmp_path):
    frame = pd.DataFrame({"step": [1, 2], "note": ["a text", note], "gap": [None, -0.5]})
    write_columns(tmp_path / "notes.csv", Note, frame)
    cell = (tmp_path / "notes.csv").read_text().splitlines()[2].split(",")[1].strip('"')
    assert cell == (f"'{note}" if note in FORMULAS else note)
    read = read_columns(tmp_path / "notes.csv", Note)
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)


@given(st.lists(st.text("'=+-@\t1a", min_size=1), min_size=1), st.text("'=+-@a", min_size=1))
def test_any_text_is_read_as_it_was_written(texts, header):
    frame = pd.DataFrame({header: ["text", *texts], "number": -1.5})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.csv")
        path.write_text(csv_text(frame))
        read = read_csv(path, "make it again")
    assert list(read.columns) == [header, "number"]
    assert list(read[header].astype(str)) == ["text", *texts]
    assert list(read["number"]) == [-1.5] * len(frame)
