"""Several devices: what starts as many processes, and that these make one run, on CPUs here."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from forked_together import run_together
from safetensors.torch import load_file
from selected import selected

from humanline.cli import launch
from humanline.cli.commands import main
from humanline.files.json_files import read_json, write_jsonl
from humanline.files.validation import ConfigError
from humanline.generation import offline
from humanline.study.study import Study, load_study
from humanline.trainers.shared.manifest import fingerprints, read_manifest, write_manifest
from humanline.training import base_model
from humanline.training import cell as training
from humanline.worlds import miniature

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
CONFIG = ROOT / "workflow" / "config"
TASK = "instruction_following"
STORED = ("dpo-offline-s1", "grpo-offline-humanline-k4-clip-1.5_1.5-s1")
SAMPLED = (
    "dpo-online-every8-humanline-k4-clip-1.5_1.5-s1",
    "kto-online-every8-s1",
    "grpo-online-every8-s1",
)


def test_accelerate_starts_as_many_sharded_processes(monkeypatch):
    """What it makes of the command and of the shipped configuration, which is for four."""
    monkeypatch.chdir(ROOT)
    words = launch.command(["train", TASK, "dpo-offline-s1"], 8, bf16=False)
    assert words[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(words[3:]))
    environment = prepare_multi_gpu_env(arguments)
    assert arguments.nproc_per_node == "8"
    assert arguments.module and arguments.training_script == "humanline"
    assert arguments.training_script_args == ["train", TASK, "dpo-offline-s1"]
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    assert environment["FSDP_VERSION"] == "2"
    assert int(arguments.master_port) > 0  # a free one


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Configuration, and results with data and a base model, of runs that are evaluated twice."""
    folder = tmp_path_factory.mktemp("prepared")
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    scale["tasks"][TASK]["training"]["evaluate_every"] = 4  # of 8 steps; every second is kept
    shutil.copytree(CONFIG, folder / "config")
    (folder / "config" / "smoke.yaml").write_text(yaml.safe_dump(scale))
    study = load(folder)
    config = study.scale.tasks[TASK]
    for split, rows in miniature.splits(TASK, config.data, 1).items():
        write_jsonl(study.paths.prompts(TASK, "s1", split), rows)
    base = study.find(TASK, "base-s1")
    base_model.make(TASK, config.base_model, 1, study.resolve(base).paths.model, config.data)
    offline.make(study.resolve(base))
    return folder


def load(folder: Path) -> Study:
    files = (folder / "config" / name for name in ("smoke.yaml", "experiments.yaml"))
    return load_study(*files, folder / "results")


def copied(prepared: Path, folder: Path) -> Study:
    return load(shutil.copytree(prepared, folder))


def command(study: Study, run: str, devices: int = 1) -> list[str]:
    words = ["train", TASK, run, "--scale", "smoke", "--devices", devices]
    return [
        *map(str, [*words, "--results", study.root, "--config", study.root.with_name("config")])
    ]


def train_together(log: Path, *runs: str) -> None:
    """Train runs, each WAY=RESULTS/RUN, in two processes; see `together.py`."""
    run_together(log, TESTS / "together.py", *runs, ACCELERATE_USE_CPU="true")


def on_cpus() -> dict[str, str]:
    """An environment in which processes train together on CPUs, with a thread each."""
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return os.environ | variables | {"ACCELERATE_USE_CPU": "true"}


def weights(study: Study, run: str) -> dict[str, torch.Tensor]:
    return load_weights(study.run(TASK, run).paths.model)


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """A model's weights; of tied ones, which a sharded model is saved with twice, the first."""
    found = load_file(folder / "model.safetensors")
    tied = found.pop("lm_head.weight", None)
    assert tied is None or torch.equal(tied, found["model.embed_tokens.weight"])
    return found


def assert_same(expected: dict, given: dict) -> None:
    assert given.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(given[name], weight, atol=1e-5, rtol=0)


def test_a_batch_that_does_not_divide_is_told_before_any_work(prepared, tmp_path, capfd):
    study = copied(prepared, tmp_path / "one")
    assert main(command(study, STORED[0], devices=3)) == 1
    reason = "8 does not divide among 3 devices, 1 at once on each; change it"
    field = f"tasks.{TASK}.training.objectives.dpo.batch_size"
    error = capfd.readouterr().err
    assert error.startswith(f"humanline: error: scale smoke: {field}: {reason}")
    assert error.count("\n") == 1
    assert not study.run(TASK, STORED[0]).paths.directory.exists()
    with pytest.raises(ConfigError, match=reason):
        study.run(TASK, STORED[0]).batch_share(devices=3)


@pytest.mark.parametrize(("devices", "share"), [(1, (4, 8)), (2, (4, 4)), (4, (4, 2))])
def test_accumulation_shrinks_as_devices_grow(devices, share):
    study = load_study(CONFIG / "paper.yaml", CONFIG / "experiments.yaml", Path("results"))
    assert study.run(TASK, STORED[0]).batch_share(devices) == share


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to share the work by")
def test_processes_that_would_train_alone_are_refused(prepared, tmp_path):
    study = copied(prepared, tmp_path / "alone")
    words = ["-m", "humanline", *command(study, STORED[0])]
    told = "humanline: error: 2 processes were started to train together, but see no"
    with pytest.raises(AssertionError, match=told):
        run_together(tmp_path / "log.txt", *words, ACCELERATE_USE_CPU="false")
    assert not list(study.run(TASK, STORED[0]).paths.directory.glob("checkpoints/*/*"))


@pytest.mark.slow
def test_a_launch_ends_well_if_all_processes_do(monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    before = signal.getsignal(signal.SIGTERM)
    try:
        launch.launch(["list", "objectives"], 2, bf16=False)
        assert len(re.findall("^dpo ", capfd.readouterr().out, flags=re.M)) == 2
        with pytest.raises(ConfigError, match="one of the processes that train together failed"):
            launch.launch(["list", "nothing"], 2, bf16=False)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_all_processes_end_with_the_command(prepared, tmp_path):
    study = copied(prepared, tmp_path / "ended")
    words = [sys.executable, "-m", "humanline", *command(study, SAMPLED[0], devices=2)]
    with subprocess.Popen(words, env=on_cpus(), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        directory = study.run(TASK, SAMPLED[0]).paths.directory
        while not list(directory.glob("checkpoints/*/manifest.json")):
            assert process.poll() is None
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
    assert process.returncode
    assert len(children) >= 3  # the launcher and those that train
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def in_ways(runs: Sequence[str], few: set[str]) -> list:
    """Each way with each run, of which all but few are thorough."""
    return [
        pytest.param(way, run, marks=[] if f"{way}/{run}" in few else pytest.mark.thorough)
        for way in ("replicas", "shards")
        for run in runs
    ]


@pytest.fixture(scope="module")
def one(prepared, tmp_path_factory) -> Callable[[str], Study]:
    """A function from a run to the study in which one process has trained it."""
    study = copied(prepared, tmp_path_factory.mktemp("alone") / "one")

    @cache
    def trained(run: str) -> Study:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACCELERATE_USE_CPU", "true")
            training.train(study.run(TASK, run))
        return study

    return trained


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory, request) -> dict[str, Study]:
    """What two processes make: of runs with replicas, and with shards, and of one that is cut.

    All are trained at one start.
    """
    folder = tmp_path_factory.mktemp("trained")
    names = ("replicas", "shards", "interrupted")
    studies = {name: copied(prepared, folder / name) for name in names}
    asked = selected(
        request, "test_two_processes_train_as_one", "test_two_processes_sample_different_prompts"
    )
    train_together(
        folder / "log.txt",
        *sorted({f"{of['way']}={studies[of['way']].root}/{of['run']}" for of in asked}),
        f"shards={studies['interrupted'].root}/{STORED[0]}@6",
    )
    return studies


def assert_trained_as_one(run: str, one: Study, two: Study) -> None:
    assert_same(weights(one, run), weights(two, run))
    directory = two.run(TASK, run).paths.directory
    record = read_json(directory / "train.json")
    assert (record["devices"], record["steps"]) == (2, 8)
    expected = (one.run(TASK, run).paths.directory / "metrics.csv").read_text().splitlines()
    assert len((directory / "metrics.csv").read_text().splitlines()) == len(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "run"), in_ways(STORED, {f"replicas/{STORED[0]}", f"shards/{STORED[1]}"})
)
def test_two_processes_train_as_one(way, run, one, trained):
    assert_trained_as_one(run, one(run), trained[way])


@pytest.mark.slow
@pytest.mark.thorough
def test_the_command_trains_as_one_process(one, prepared, tmp_path):
    study = copied(prepared, tmp_path / "two")
    words = [sys.executable, "-m", "humanline", *command(study, STORED[0], devices=2)]
    subprocess.run(words, env=on_cpus(), cwd=ROOT, check=True, timeout=900)
    assert_trained_as_one(STORED[0], one(STORED[0]), study)


@pytest.mark.slow
def test_a_sharded_run_keeps_whole_models_and_goes_on_from_them(one, trained, tmp_path):
    run, study = STORED[0], trained["interrupted"]
    directory = study.run(TASK, run).paths.directory
    assert not (directory / "train.json").exists()
    expected = weights(one(run), run)
    evaluated, last = sorted(directory.glob("checkpoints/*/checkpoint-*"))
    assert (evaluated.name, last.name) == ("checkpoint-4", "checkpoint-6")
    kept = load_weights(evaluated)
    assert {name: w.shape for name, w in kept.items()} == {n: w.shape for n, w in expected.items()}
    part = "pytorch_model_fsdp_0"
    assert (last / part).exists() and not (evaluated / part).exists()

    note = last / "progress.json"  # as if it had taken long
    seconds = {"seconds": {"sample": 0.0, "total": 1000.0}}
    note.write_text(json.dumps(read_json(note) | seconds))
    content = read_manifest(last)
    write_manifest(last, content | {"files": fingerprints(last)})
    train_together(tmp_path / "log.txt", f"shards={study.root}/{run}")
    assert read_json(directory / "train.json")["seconds"]["total"] > 1000
    assert_same(expected, weights(study, run))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "run"),
    in_ways(SAMPLED, {f"shards/{SAMPLED[0]}", *(f"replicas/{run}" for run in SAMPLED[1:])}),
)
def test_two_processes_sample_different_prompts(run, way, trained):
    directory = trained[way].run(TASK, run).paths.directory
    record = read_json(directory / "train.json")
    assert record["steps"] == 8 and record["sampled_tokens"] > 0
    if run.startswith("grpo"):
        return
    rounds = directory / record["checkpoints"] / "rounds"
    parts = sorted(path.name for path in rounds.iterdir())
    assert parts == ["round-0000-1of2.json", "round-0000-2of2.json"]
    first, second = (
        {tuple(example["prompt_ids"]) for example in read_json(rounds / part)} for part in parts
    )
    assert first and second and not first & second
