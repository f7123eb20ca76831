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
from tiny import OBJECTIVES, rows
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("distributed.py")
REFERENCES = ("cached", "model", "cached-lora", "model-lora", "adapter-lora")
RUNS = [f"{objective}-{reference}" for objective in OBJECTIVES for reference in REFERENCES]
RESUMED = [f"{run}-resumed" for run in RUNS if "lora" not in run or "adapter" in run]


def train(model_folder, folder: Path, runs, processes: int, environment: dict | None = None):
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*(launch if processes > 1 else []), WORKER, model_folder, folder, *runs]
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, *map(str, command)],
        env=os.environ | variables | (environment or {}),
        check=True,
        timeout=1800,
    )


def results(model_folder, folder: Path, runs, *arguments) -> dict:
    train(model_folder, folder, runs, *arguments)
    return {run: torch.load(folder / f"{run}.pt", weights_only=True) for run in runs}


def fsdp(**changes) -> dict:
    """What `accelerate launch` makes of the shipped configuration, with changes."""
    config = yaml.safe_load((ROOT / "recipes" / "accelerate" / "fsdp2.yaml").read_text())
    options = config["fsdp_config"] | changes
    variables = {key.upper(): str(value) for key, value in options.items()}
    return variables | {"ACCELERATE_USE_FSDP": "true"}


@pytest.fixture(scope="module")
def one(model_folder, tmp_path_factory):
    return results(model_folder, tmp_path_factory.mktemp("one"), RUNS, 1)


@pytest.fixture(scope="module")
def two(model_folder, tmp_path_factory):
    return results(model_folder, tmp_path_factory.mktemp("two"), RUNS + RESUMED, 2)


@pytest.fixture(scope="module")
def sharded(model_folder, tmp_path_factory):
    return results(model_folder, tmp_path_factory.mktemp("sharded"), RUNS + RESUMED, 2, fsdp())


def assert_same(expected: dict, given: dict) -> None:
    assert given["log"].keys() == expected["log"].keys()
    for key, values in expected["log"].items():
        assert given["log"][key] == pytest.approx(values, abs=1e-5), key
    assert given["weights"].keys() == expected["weights"].keys()
    for name, weight in expected["weights"].items():
        torch.testing.assert_close(given["weights"][name], weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("run", RUNS + RESUMED)
def test_two_processes_train_as_one(run, one, two):
    assert_same(one[run.removesuffix("-resumed")], two[run])


@pytest.mark.parametrize("run", RUNS + RESUMED)
def test_two_shards_train_as_one(run, one, sharded):
    assert_same(one[run.removesuffix("-resumed")], sharded[run])


def test_weights_that_stay_gathered_are_not_taken_for_the_new_ones(one, model_folder, tmp_path):
    """With `fsdp_reshard_after_forward: false` a forward leaves the whole weights behind."""
    runs = [f"dpo-{reference}" for reference in REFERENCES]
    environment = fsdp(fsdp_reshard_after_forward=False)
    for run, result in results(model_folder, tmp_path, runs, 2, environment).items():
        assert_same(one[run], result)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_runs_can_tell(objective, one):
    """The loss moves, and so does what KTO gathers from all processes."""
    log = one[f"{objective}-cached"]["log"]
    assert max(log["loss"]) - min(log["loss"]) > 1e-3
    assert objective != "kto" or max(log["kl"]) > 1e-3


def test_a_recipe_saves_the_whole_of_a_sharded_model(model_folder, groups, tmp_path):
    data, output, recipe = (tmp_path / name for name in ("rows.jsonl", "out", "recipe.yaml"))
    rows("dpo", groups).to_json(data)
    options = {"max_steps": 1, "bf16": False, "use_cpu": True, "report_to": "none"}
    paths = {"model_name_or_path": model_folder, "dataset_name": data, "output_dir": output}
    content = {"objective": "dpo"} | options | {key: str(path) for key, path in paths.items()}
    recipe.write_text(yaml.safe_dump(content))
    train(model_folder, tmp_path, [recipe], 2, fsdp())
    before, after = (AutoModelForCausalLM.from_pretrained(f) for f in (model_folder, output))
    assert before.num_parameters() == after.num_parameters()
    assert not torch.equal(before.lm_head.weight, after.lm_head.weight)
