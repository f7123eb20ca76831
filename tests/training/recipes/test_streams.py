"""Recipes that stream their data into GRPO: stored groups, and prompts to sample from."""

import json
import shutil

import pytest
from safetensors.torch import load_file
from test_recipe import VIEWS, fault, train, write  # noqa: F401

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 3, "shuffle_dataset": False}
REWARD = (
    "def score(completions, **_):\n    return [float(sum(map(ord, c)) % 7) for c in completions]\n"
)


@pytest.fixture
def recipe(write, groups, tmp_path, monkeypatch):  # noqa: F811
    """Write a recipe of stored groups, or of prompts and a reward function."""

    def make(kind: str, **options):
        rows = VIEWS["grpo"](groups)
        if kind == "prompts":
            (tmp_path / "my_stream_rewards.py").write_text(REWARD)
            monkeypatch.chdir(tmp_path)
            rows = [{"prompt": group["prompt"]} for group in groups]
            options["reward_funcs"] = "my_stream_rewards.score"
        return write("grpo", rows, **SAVING | options)

    return make


@pytest.mark.parametrize("kind", ["groups", "prompts"])
def test_a_stream_trains_as_its_rows_do_and_resumes(kind, recipe, tmp_path):
    """Two prompts a step of a file that is read as it comes; the third step after a resumption."""
    ends = []
    for name, options in (("rows", {}), ("stream", {"dataset_streaming": True})):
        out = tmp_path / name
        assert train(recipe(kind, output_dir=str(out), **options)) == 0
        ends.append(load_file(out / "model.safetensors"))
    shutil.rmtree(tmp_path / "stream" / "checkpoint-3")
    (tmp_path / "stream" / "model.safetensors").unlink()
    assert train(recipe(kind, output_dir=str(out), **options, resume_from_checkpoint=True)) == 0
    ends.append(load_file(out / "model.safetensors"))
    for end in ends[1:]:
        assert end.keys() == ends[0].keys()
        assert all((end[name] == ends[0][name]).all() for name in end)


@pytest.mark.parametrize("kind", ["groups", "prompts"])
def test_a_stream_is_evaluated_on(kind, recipe, groups, tmp_path, capfd):
    folder = tmp_path / "data"
    folder.mkdir()
    rows = VIEWS["grpo"](groups[:6])
    if kind == "prompts":
        rows = [{"prompt": group["prompt"]} for group in groups[:6]]
    for split in ("train", "test"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text)
    options = {"eval_strategy": "steps", "eval_steps": 2, "dataset_streaming": True}
    assert train(recipe(kind, dataset_name=str(folder), **options)) == 0
    assert "'eval_rewards/" in capfd.readouterr().out


def test_a_stream_needs_a_number_of_steps(recipe):
    path = recipe("prompts", dataset_streaming=True, max_steps=-1)
    assert "max_steps: missing; a stream has no length" in fault(path)
