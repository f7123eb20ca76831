"""Annotation files: what they say of a model, and which are refused."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import published
import pytest

from humanline.cli.commands import main
from humanline.files.validation import ConfigError
from humanline.scoring.annotations import length_controlled, read_annotations
from humanline.scoring.length_control import length_control_warning, length_controlled_win_rate
from humanline.tables.annotations import describe


def annotations(n=40, **changes) -> list[dict]:
    rng = np.random.default_rng(0)
    rows = [
        {
            "instruction": f"instruction {i}",
            "output_1": "b" * int(rng.integers(5, 30)),
            "output_2": "m" * int(rng.integers(5, 30)),
            "generator_1": "baseline",
            "generator_2": "model",
            "preference": 1 + rng.random(),
        }
        for i in range(n)
    ]
    for field, value in changes.items():
        rows[3][field] = value
    return rows


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("model", published.MODELS)
def test_published_files_have_the_published_figures(model, capsys):
    """The win rate to the last digit, the length-controlled one within a point."""
    published.annotations(model)  # or skip
    path = published.FOLDER / f"{model}.annotations.json.gz"
    assert main(["score-annotations", str(path), "--json", "--replicates", "200"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = {
        name: float(value or "nan")
        for name, value in list(published.figures(model).items())
        if name in ("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total")
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    leaderboard = float(published.figures(model)["length_controlled_winrate"])
    value = found["length_controlled_win_rate"]
    assert found["difficulties_used"] and abs(value - leaderboard) < 1.3
    low, high = (found[f"length_controlled_win_rate_{side}"] for side in ("low", "high"))
    assert low < value < high and high - low < 8
    assert found["n_left_out"] == 0 and found["length_control_warning"] is None


def test_other_instructions_have_the_fit_without_difficulties(tmp_path):
    table = read_annotations(write(tmp_path / "a.json", annotations()))
    figures = describe(table, replicates=50)
    lengths = [table[name].str.len().to_numpy() for name in ("output_1", "output_2")]
    expected = length_controlled_win_rate(table["preference"].to_numpy() - 1, *lengths)
    assert figures["length_controlled_win_rate"] == pytest.approx(100 * expected)
    assert not figures["difficulties_used"]


def test_rows_without_a_preference_are_left_out_and_counted(tmp_path, capsys):
    path = write(tmp_path / "a.json", annotations(preference=None))
    assert main(["score-annotations", str(path)]) == 0
    assert "1 of 40 rows have no preference" in capsys.readouterr().out
    figures = describe(read_annotations(path), replicates=50)
    rows = annotations()
    del rows[3]
    others = describe(read_annotations(write(tmp_path / "b.json", rows)), replicates=50)
    for name in ("win_rate", "standard_error", "n_total", "length_controlled_win_rate"):
        assert figures[name] == others[name]
    assert (figures["n_left_out"], others["n_left_out"]) == (1, 0)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = write(tmp_path / "a.json", annotations())
    marked = tmp_path / "b.json"
    marked.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_annotations(marked).equals(read_annotations(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "not a list of annotations"),
        ([], "no rows"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([1], "row 0: not an object"),
        (annotations(preference=float("nan")), "row 3: field preference: .* but nan"),
        (annotations(preference=float("inf")), "row 3: field preference: .* but inf"),
        (annotations(preference=0), "row 3: field preference: .* but 0, write 1.5 for a draw"),
        (annotations(preference=10**400), r"row 3: field preference: .* but 10{39};"),
        (annotations(preference=3), "row 3: field preference: .* but 3"),
        (annotations(preference="1.5"), "row 3: field preference: .* but '1.5'"),
        (annotations(preference=True), "row 3: field preference: .* but True"),
        (annotations(output_2=None), "row 3: field output_2: no text"),
        (annotations(output_2="\ud800"), "row 3: field output_2: holds half a character"),
        (annotations(annotator="\ud800"), "row 3: field annotator: holds half a character"),
        (annotations(**{"\ud800": 1}), "holds half a character"),
        ('[{"preference": 1, "preference": 2}]', "a row has the field 'preference' twice"),
        (annotations(generator_2=["model"]), "row 3: field generator_2: no text"),
        (annotations(instruction="instruction 1"), "row 3: field instruction: .* row 1"),
        (annotations(generator_2="another"), "row 3: field generator_2: 'another', but 'model'"),
        (
            [{"instruction": "a", "output_1": "", "output_2": ""}],
            "row 0: field preference: missing",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(tmp_path, capsys, content, message):
    path = write(tmp_path / "a.json", content)
    with pytest.raises(ConfigError, match=message) as error:
        read_annotations(path)
    assert main(["score-annotations", str(path)]) == 1
    line = capsys.readouterr().err.strip()
    assert line == f"humanline: error: {error.value}" and "\n" not in line
    assert line.startswith(f"humanline: error: {path}: ")


def test_a_damaged_archive_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(json.dumps(annotations()).encode())[:-20])
    with pytest.raises(ConfigError, match=f"{path}: cannot be read"):
        read_annotations(path)


def test_a_device_is_no_file():
    """It may never end."""
    with pytest.raises(ConfigError, match=r"/dev/zero: cannot be read .*; name a file"):
        read_annotations(Path("/dev/zero"))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_judged_rows_have_the_figures_that_they_allow(tmp_path, n):
    rows = [row | {"preference": 1.75 if i < n else None} for i, row in enumerate(annotations(3))]
    figures = describe(read_annotations(write(tmp_path / "a.json", rows)), replicates=50)
    assert figures["n_total"] == n and figures["n_left_out"] == 3 - n
    assert figures["win_rate"] == (75 if n else None)
    assert ("length_controlled_win_rate" in figures) == (n == 2)


def test_the_command_works_from_anywhere_without_a_configuration(tmp_path):
    write(tmp_path / "a.json", annotations())
    command = [sys.executable, "-m", "humanline", "score-annotations", "a.json", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["n_total"] == 40


# The warning


def test_half_of_the_outputs_empty_and_a_judge_that_takes_the_longer_is_warned_of():
    """The case: a raw win rate of 25, and a length-controlled one near 100."""
    rng = np.random.default_rng(0)
    baseline = rng.integers(500, 2000, 200)
    model = np.where(np.arange(200) % 2, 0, baseline + rng.integers(-400, 400, 200))
    preference = (model > baseline).astype(float)
    value = length_controlled_win_rate(preference, baseline, model)
    warning = length_control_warning(preference, baseline, model, value)
    assert "50 % of the outputs are empty" in warning
    assert "the longer output always wins" in warning


@pytest.mark.parametrize("model", published.MODELS[1:])
def test_half_empty_outputs_are_warned_of_for_alpaca_evals_instructions_too(model):
    """Difficulties and the prior bound this figure. The unchanged model has no warning."""
    table = published.annotations(model)
    assert length_controlled(table)[1] is None
    output = table["output_2"].where(np.arange(len(table)) % 2 == 0, "")
    longer = output.str.len() > table["output_1"].str.len()
    value, warning = length_controlled(table.assign(output_2=output, preference=1.0 + longer))
    assert value < 50 and "50 % of the outputs are empty" in warning


@pytest.mark.parametrize(
    ("longer", "wins", "message"),
    [
        (np.r_[np.full(50, 300), np.full(50, 900)], np.full(100, 0.5), "almost no output is"),
        (
            np.r_[np.full(50, -9), np.full(50, 9)],
            np.r_[np.ones(50), np.zeros(50)],
            "shorter output",
        ),
        (np.linspace(-700, -1, 100), np.linspace(0, 0.8, 100), r"it is \+\d\d\.\d points from"),
    ],
)
def test_a_fit_beyond_its_rows_is_warned_of(longer, wins, message):
    import re

    baseline = np.full(100, 1000)
    value = length_controlled_win_rate(wins, baseline, baseline + longer)
    assert re.search(message, length_control_warning(wins, baseline, baseline + longer, value))


def test_outputs_of_like_length_are_not_warned_of():
    rng = np.random.default_rng(0)
    baseline = rng.integers(500, 1000, 300)
    model, preference = baseline + rng.integers(-300, 300, 300), rng.random(300)
    value = length_controlled_win_rate(preference, baseline, model)
    assert length_control_warning(preference, baseline, model, value) is None


def test_a_table_of_annotations_carries_its_warning(tmp_path):
    rows = [row | {"output_2": row["output_2"] * (i % 2)} for i, row in enumerate(annotations())]
    value, warning = length_controlled(read_annotations(write(tmp_path / "a.json", rows)))
    assert 0 <= value <= 100 and "50 % of the outputs are empty" in warning


def test_a_file_without_a_preference_is_refused(tmp_path, capsys):
    rows = [row | {"preference": None} for row in annotations(3)]
    path = write(tmp_path / "a.json", rows)
    assert main(["score-annotations", str(path)]) == 1
    assert capsys.readouterr().err.strip() == (
        f"humanline: error: {path}: no row has a preference; judge the outputs first"
    )
