"""What a base model of the miniature is fine-tuned on: examples that are left out are told."""

import pytest

from humanline import base_model
from humanline.config import MiniatureModel
from humanline.validation import ConfigError

TASK = "math_reasoning"
CONFIG = MiniatureModel(
    kind="miniature",
    hidden_size=16,
    intermediate_size=32,
    layers=1,
    heads=2,
    examples=8,
    epochs=1,
    batch_size=8,
    learning_rate=1e-3,
    carelessness=0.4,
)


def rows(count: int) -> list[dict]:
    return [{"prompt": f"1+{i}", "completion": f"\\boxed{{{1 + i}}}"} for i in range(count)]


@pytest.mark.parametrize("count", [8, 5])
def test_examples_that_are_held_out_are_told(count, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(base_model, "fine_tuning_rows", lambda *_: rows(count))
    monkeypatch.setattr(base_model, "_fine_tune", lambda rows, *_: None)
    base_model.make(TASK, CONFIG, 1, tmp_path / "model", set())
    told = "5 of 8 examples: other prompts are held out\n"
    assert capsys.readouterr().out == ("" if count == 8 else told)


def test_a_base_model_of_no_example_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setattr(base_model, "fine_tuning_rows", lambda *_: [])
    with pytest.raises(ConfigError, match="every prompt is held out"):
        base_model.make(TASK, CONFIG, 1, tmp_path / "model", set())
    assert not (tmp_path / "model").exists()
