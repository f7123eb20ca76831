"""Two processes train as one does on the same batches, however the reference is kept.

On CPUs: with replicas of the model (DDP), and with its weights sharded (FSDP2).
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from distributed import RESUMED, WAYS, dataset, train
from forked_together import run_together
from selected import selected
from tiny import OBJECTIVES
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.slow
thorough = pytest.mark.thorough

WORKER = Path(__file__).with_name("distributed.py")
REFERENCES = ("cached", "model", "cached-lora", "model-lora", "adapter-lora")
RUNS = [f"{objective}-{reference}" for objective in OBJECTIVES for reference in REFERENCES]
RESUMABLE = [run for run in RUNS if "lora" not in run or "adapter" in run]
ENDS = [*RUNS, *(run + RESUMED for run in RESUMABLE)]  # what two processes write
# One of each objective for each way; `pytest -m thorough` has the others.
FEW = {
    "replicas": ["dpo-cached", "kto-cached", "grpo-cached", "dpo-adapter-lora"],
    "shards": ["dpo-model", "kto-cached", "grpo-model", "dpo-cached-lora"],
    "gathered": ["dpo-model"],
}


def in_ways(*ways: str) -> list:
    """Each way with each run, of which all but few are thorough."""
    return [
        pytest.param(way, run, marks=[] if run.removesuffix(RESUMED) in FEW[way] else thorough)
        for way in ways
        for run in (ENDS if way != "gathered" else RUNS[: len(REFERENCES)])
    ]


@pytest.fixture(scope="module")
def one(model_folder, tmp_path_factory) -> Callable[[str], dict]:
    """A function from a run to what one process makes of it."""
    folder = tmp_path_factory.mktemp("one")

    @cache
    def trained(run: str) -> dict:
        train(run, str(model_folder), folder)
        return end(folder, run)

    return trained


@pytest.fixture(scope="module")
def two(model_folder, recipe, tmp_path_factory, request) -> Path:
    """What two processes write, all at one start: that takes as long as many runs."""
    folder = tmp_path_factory.mktemp("two")
    asked = {
        f"{of['way']}/{of['run']}" for of in selected(request, "test_two_processes_train_as_one")
    }
    asked -= {name.removesuffix(RESUMED) for name in asked if name.endswith(RESUMED)}
    names = [*sorted(asked), f"shards/{recipe}"]
    run_together(folder / "log.txt", WORKER, model_folder, folder, *names)
    return folder


def end(folder: Path, run: str) -> dict:
    return torch.load(folder / f"{run}.pt", weights_only=True)


@pytest.fixture(scope="module")
def recipe(model_folder, tmp_path_factory) -> Path:
    """A recipe of one step; its model goes to the folder ``out`` beside it."""
    folder = tmp_path_factory.mktemp("recipe")
    data, output, file = (folder / name for name in ("rows.jsonl", "out", "recipe.yaml"))
    dataset("dpo").to_json(data)
    options = {"max_steps": 1, "bf16": False, "use_cpu": True, "report_to": "none"}
    paths = {"model_name_or_path": model_folder, "dataset_name": data, "output_dir": output}
    content = {"objective": "dpo"} | options | {key: str(path) for key, path in paths.items()}
    file.write_text(yaml.safe_dump(content))
    return file


def assert_same(expected: dict, given: dict) -> None:
    assert given["log"].keys() == expected["log"].keys()
    for key, values in expected["log"].items():
        assert given["log"][key] == pytest.approx(values, abs=1e-5), key
    assert given["weights"].keys() == expected["weights"].keys()
    for name, weight in expected["weights"].items():
        torch.testing.assert_close(given["weights"][name], weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("way", "run"), in_ways(*WAYS))
def test_two_processes_train_as_one(way, run, one, two):
    """Gathered: with `fsdp_reshard_after_forward: false` a forward leaves the whole weights behind.

    They are not taken for the new ones.
    """
    assert_same(one(run.removesuffix(RESUMED)), end(two / way, run))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_runs_can_tell(objective, one):
    """The loss moves, and so does what KTO gathers from all processes."""
    log = one(f"{objective}-cached")["log"]
    assert max(log["loss"]) - min(log["loss"]) > 1e-3
    assert objective != "kto" or max(log["kl"]) > 1e-3


def test_a_recipe_saves_the_whole_of_a_sharded_model(model_folder, recipe, two):
    folders = (model_folder, recipe.with_name("out"))
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in folders)
    assert before.num_parameters() == after.num_parameters()
    assert not torch.equal(before.lm_head.weight, after.lm_head.weight)
