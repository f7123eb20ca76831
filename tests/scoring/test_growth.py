"""Many samples: judging and figures take memory and time in proportion to their number."""

import json
import tracemalloc

import growth
import numpy as np
import pandas as pd
import pytest

from humanline.files.json_files import read_lines, write_json, write_list
from humanline.scoring import length_control
from humanline.scoring.annotations import write_annotations
from humanline.scoring.judge import annotate
from humanline.scoring.length_control import Difficulty, length_controlled_win_rate
from humanline.tables import annotations, estimates
from humanline.tables.estimates import length_controlled, scores_on
from humanline.tables.run_results import Judged


def outputs(count: int, generator: str) -> list[dict]:
    """Rows in AlpacaEval's format, whose outputs differ in length."""
    return [
        {
            "instruction": f"prompt {number}",
            "output": generator * (1 + number % 7),
            "generator": generator,
            "dataset": "d",
        }
        for number in range(count)
    ]


def judge(instruction: str, output_1: str, output_2: str) -> float:
    return len(output_2) / (len(output_1) + len(output_2))


def test_judging_takes_calls_in_proportion_to_the_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr("humanline.scoring.judge._MANY", 16)

    def annotated(count: int):
        return annotate(outputs(count, "model"), outputs(count, "r"), judge, work_dir=tmp_path)

    annotated(16)  # imports
    counts = [growth.calls(lambda count=count: annotated(count)) for count in (64, 128, 192)]
    assert growth.is_linear(counts, most=1.1), counts


def test_parts_of_the_pairs_get_the_same_verdicts(tmp_path, monkeypatch):
    def annotated():
        return annotate(outputs(50, "model"), outputs(50, "r"), judge, work_dir=tmp_path)

    together = annotated()
    monkeypatch.setattr("humanline.scoring.judge._AT_ONCE", 8)
    pd.testing.assert_frame_equal(annotated(), together)


@pytest.mark.parametrize("rows", [[], [{"a": 1}], [{"a": "é"}, {"b": [1.5, None, {"c": []}]}]])
def test_a_list_is_written_row_by_row_as_at_once(tmp_path, rows):
    write_list(tmp_path / "rows.json", iter(rows))
    write_json(tmp_path / "list.json", rows)
    assert (tmp_path / "rows.json").read_bytes() == (tmp_path / "list.json").read_bytes()


def test_annotations_are_written_and_lines_read_without_all_in_memory(tmp_path):
    rows = pd.DataFrame({"output_1": ["x" * 1000] * 20_000, "preference": 1.5})
    tracemalloc.start()
    write_annotations(rows, tmp_path / "annotations.json")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "x" * 1000}) + "\n")
    with open(tmp_path / "rows.jsonl", "a") as file:
        for number in range(20_000):
            file.write(json.dumps({"prompt": "x" * 1000, "number": number}) + "\n")
    assert sum(1 for _ in read_lines(tmp_path / "rows.jsonl")) == 20_001
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20, peak  # both files have 20 MB


@pytest.fixture
def judged() -> Judged:
    rng = np.random.default_rng(1)
    win = rng.random(3000)
    win[::50] = np.nan
    length, baseline = rng.integers(1, 17, 3000), rng.integers(1, 17, 3000)
    return Judged(win, length, baseline, 50.0, 50.0, 9.0)


@pytest.mark.parametrize("has_difficulty", [False, True])
def test_rows_of_equal_length_are_added_up_without_another_result(
    judged, monkeypatch, has_difficulty
):
    rng = np.random.default_rng(2)
    difficulty = None
    if has_difficulty:
        gamma = rng.choice(np.linspace(-1, 1, 5), 3000)
        difficulty = Difficulty(gamma, (-0.5, 0.2), (0.9, 0.3))
    weights = rng.multinomial(3000, np.full(3000, 1 / 3000), size=9)
    asked = judged.win, judged.baseline_length, judged.length, weights, difficulty
    one_by_one = length_controlled_win_rate(*asked)
    monkeypatch.setattr(length_control, "MANY", 100)
    monkeypatch.setattr(length_control, "CHUNK", 6000)
    assert length_controlled_win_rate(*asked) == pytest.approx(one_by_one, abs=1e-9)


def test_groups_of_prompts_are_left_out_in_parts_without_another_result(judged, monkeypatch):
    class Seed:
        seed = 1

    def scores():
        return scores_on([Seed], [judged], length_controlled, shares_prompts=True)

    together = scores()
    monkeypatch.setattr(estimates, "_WEIGHTS", 7 * 3000)
    in_parts = scores()
    assert in_parts.left_out == pytest.approx(together.left_out, abs=1e-9)
    assert in_parts.values == pytest.approx(together.values, abs=1e-9)


def test_a_bootstrap_draws_the_same_in_parts(judged, monkeypatch):
    frame = pd.DataFrame(
        {
            "instruction": [f"prompt {number}" for number in range(3000)],
            "output_1": ["x" * length for length in judged.baseline_length],
            "output_2": ["x" * length for length in judged.length],
            "preference": 1 + judged.win,
        }
    )

    def drawn() -> list[float]:
        figures = annotations.describe(frame, replicates=20)
        return [value for name, value in figures.items() if name.endswith(("_low", "_high"))]

    together = drawn()
    monkeypatch.setattr(length_control, "CHUNK", 3 * 3000)
    assert len(together) == 2 and drawn() == pytest.approx(together, rel=1e-9)
