"""Two processes train as one does on the same batches, however the reference is kept.

On CPUs: with replicas of the model (DDP), and with its weights sharded (FSDP2).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from distributed import RESUMED, WAYS, dataset, train
from tiny import OBJECTIVES
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("distributed.py")
REFERENCES = ("cached", "model", "cached-lora", "model-lora", "adapter-lora")
RUNS = [f"{objective}-{reference}" for objective in OBJECTIVES for reference in REFERENCES]
RESUMABLE = [run for run in RUNS if "lora" not in run or "adapter" in run]
ENDS = [*RUNS, *(run + RESUMED for run in RESUMABLE)]  # what two processes write
OF_DPO = [f"dpo-{reference}" for reference in REFERENCES]


@pytest.fixture(scope="module")
def one(model_folder, tmp_path_factory) -> dict:
    """What one process makes of each run."""
    folder = tmp_path_factory.mktemp("one")
    for run in RUNS:
        train(run, str(model_folder), folder)
    return ends(folder, RUNS)


@pytest.fixture(scope="module")
def two(model_folder, recipe, tmp_path_factory) -> Path:
    """What two processes write, all at one start: that takes as long as many runs."""
    folder = tmp_path_factory.mktemp("two")
    runs = [run + RESUMED * (run in RESUMABLE) for run in RUNS]
    asked = {"replicas": runs, "shards": [*runs, recipe], "gathered": OF_DPO}
    assert asked.keys() == WAYS.keys()
    names = [f"{way}/{run}" for way, of_way in asked.items() for run in of_way]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", WORKER]
    command = [sys.executable, *map(str, [*launch, model_folder, folder, *names])]
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=os.environ | variables, check=True, timeout=1800)
    return folder


def ends(folder: Path, runs) -> dict:
    return {run: torch.load(folder / f"{run}.pt", weights_only=True) for run in runs}


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


@pytest.mark.parametrize("run", ENDS)
def test_two_processes_train_as_one(run, one, two):
    assert_same(one[run.removesuffix(RESUMED)], ends(two / "replicas", [run])[run])


@pytest.mark.parametrize("run", ENDS)
def test_two_shards_train_as_one(run, one, two):
    assert_same(one[run.removesuffix(RESUMED)], ends(two / "shards", [run])[run])


def test_weights_that_stay_gathered_are_not_taken_for_the_new_ones(one, two):
    """With `fsdp_reshard_after_forward: false` a forward leaves the whole weights behind."""
    for run, end in ends(two / "gathered", OF_DPO).items():
        assert_same(one[run], end)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_runs_can_tell(objective, one):
    """The loss moves, and so does what KTO gathers from all processes."""
    log = one[f"{objective}-cached"]["log"]
    assert max(log["loss"]) - min(log["loss"]) > 1e-3
    assert objective != "kto" or max(log["kl"]) > 1e-3


def test_a_recipe_saves_the_whole_of_a_sharded_model(model_folder, recipe, two):
    folders = (model_folder, recipe.with_name("out"))
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in folders)
    assert before.num_parameters() == after.num_parameters()
    assert not torch.equal(before.lm_head.weight, after.lm_head.weight)
