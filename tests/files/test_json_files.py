import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from humanline.files.json_files import read_json, read_jsonl, write_json, write_jsonl, write_text
from humanline.files.validation import ConfigError

finite = st.floats(allow_nan=False, allow_infinity=False)  # JSON knows no others
scalars = st.none() | st.booleans() | st.integers() | finite | st.text()
rows = st.lists(st.dictionaries(st.text(), scalars | st.lists(scalars)), min_size=1, max_size=5)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def fault(read, *arguments) -> str:
    """The message of the `ConfigError` that `read` raises; it must be one line."""
    with pytest.raises(ConfigError) as caught:
        read(*arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@in_one_folder
@given(rows)
def test_jsonl_round_trips(tmp_path, content):
    write_jsonl(tmp_path / "rows.jsonl", content)
    assert read_jsonl(tmp_path / "rows.jsonl") == content


# Line breaks to str.splitlines, but not to JSON, which leaves the last three as they are.
@pytest.mark.parametrize("character", ["\n", "\r", "\x0b", "\x1c", "\x85", "\u2028", "\u2029"])
def test_text_with_unusual_line_breaks_stays_one_row(tmp_path, character):
    content = [{"prompt": f"a{character}b"}, {"prompt": "c"}]
    write_jsonl(tmp_path / "rows.jsonl", content)
    assert read_jsonl(tmp_path / "rows.jsonl", ("prompt",)) == content


@in_one_folder
@given(st.dictionaries(st.text(), scalars))
def test_json_round_trips(tmp_path, content):
    write_json(tmp_path / "content.json", content)
    assert read_json(tmp_path / "content.json") == content


def test_jsonl_is_one_object_a_line_in_readable_utf8(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"a": "naïve ☃"}, {"a": "two\nlines"}])
    text = (tmp_path / "rows.jsonl").read_bytes().decode("utf-8")
    assert text == '{"a": "naïve ☃"}\n{"a": "two\\nlines"}\n'


def test_jsonl_takes_a_generator(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ({"i": i} for i in range(3)))
    assert [row["i"] for row in read_jsonl(tmp_path / "rows.jsonl")] == [0, 1, 2]


def test_write_makes_folders_and_leaves_nothing_else(tmp_path):
    write_text(tmp_path / "a" / "b" / "file.txt", "text")
    assert (tmp_path / "a" / "b" / "file.txt").read_text() == "text"
    assert os.listdir(tmp_path / "a" / "b") == ["file.txt"]


def test_a_write_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"old": 1}])

    def die(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_jsonl(path, [{"new": 1}])
    assert read_jsonl(path) == [{"old": 1}]


def test_the_new_file_is_complete_before_it_takes_the_name(tmp_path, monkeypatch):
    path, replace, seen = tmp_path / "rows.jsonl", os.replace, []

    def watch(source, target):
        seen.append((Path(source).read_text(), Path(target).exists(), Path(source).parent))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write_jsonl(path, [{"a": 1}, {"a": 2}])
    assert seen == [('{"a": 1}\n{"a": 2}\n', False, tmp_path)]


def test_rows_that_fail_midway_leave_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"old": 1}])
    with pytest.raises(TypeError):
        write_jsonl(path, [{"new": 1}, {"new": object()}])
    assert read_jsonl(path) == [{"old": 1}]
    assert os.listdir(tmp_path) == ["rows.jsonl"]


@pytest.mark.parametrize("read", [read_json, read_jsonl])
def test_a_missing_file_is_named(tmp_path, read):
    path = tmp_path / "none.jsonl"
    reason = "cannot be read (No such file or directory)"
    assert fault(read, path) == f"{path}: {reason}; make it again"


@pytest.mark.parametrize("read", [read_json, read_jsonl])
def test_bytes_that_are_not_utf8_are_one_line(tmp_path, read):
    (tmp_path / "latin.jsonl").write_bytes('{"a": "ï"}'.encode("latin-1"))
    assert str(tmp_path / "latin.jsonl") in fault(read, tmp_path / "latin.jsonl")


@pytest.mark.parametrize("number", [1, 2, 5])
def test_broken_jsonl_names_file_and_line(tmp_path, number):
    path = tmp_path / "rows.jsonl"
    lines = ['{"a": 1}'] * 5
    lines[number - 1] = '{"a": 1'
    path.write_text("\n".join(lines))
    assert fault(read_jsonl, path).startswith(f"{path}: line {number}: ")


def test_broken_json_names_file_and_line(tmp_path):
    path = tmp_path / "content.json"
    path.write_text('{\n "a": 1,\n "b": oops\n}')
    assert fault(read_json, path).startswith(f"{path}: line 3: ")


def test_blank_lines_are_passed_over_and_counted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"b": 1}\n')
    assert read_jsonl(path) == [{"a": 1}, {"b": 1}]
    message = fault(read_jsonl, path, ("a",))
    assert message.startswith(f"{path}: line 3: ")


def test_the_missing_field_and_its_line_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"prompt": "a", "answer": "1"}, {"prompt": "b"}])
    message = fault(read_jsonl, path, ("prompt", "answer"))
    assert re.match(rf"{re.escape(str(path))}: line 2: .*'answer'", message)


@pytest.mark.parametrize("row", [1, None, [1], "prompt", [{"prompt": "a"}]])
def test_a_row_that_is_no_object_is_named(tmp_path, row):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n' + json.dumps(row) + "\n")
    assert fault(read_jsonl, path, ("prompt",)).startswith(f"{path}: line 2: ")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    assert str(tmp_path / "rows.jsonl") in fault(read_jsonl, tmp_path / "rows.jsonl")
