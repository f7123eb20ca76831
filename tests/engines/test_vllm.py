"""vLLM itself, on the CPU, beside transformers: the same model, the same interface."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from humanline.generation.engines import (
    TransformersEngine,
    load_model,
    open_engine,
    sample,
    sample_text,
)
from humanline.study.scale.sampling import Generation, Sampling
from humanline.study.scale.scale import load_scale
from humanline.trainers.rows.preferences import user_turn

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None,
        reason="vllm is not installed; docs/paper-scale.md says how, on a CPU too",
    ),
]
ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "workflow" / "config"
VLLM = Generation(engine="vllm", gpu_memory_utilization=0.1)
PROMPTS = [f"{a}+{b}-{a}" for a in range(2, 9) for b in range(11, 15)]
CONVERSATIONS = [user_turn(prompt) for prompt in PROMPTS]
GREEDY = Sampling(temperature=0, max_new_tokens=18)
WARM = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=18)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The miniature base model, trained until it says more than one thing.

    Its heads are of a size that vLLM's attention takes on a CPU.
    """
    from humanline.training import base_model

    folder = tmp_path_factory.mktemp("base") / "model"
    task = load_scale(CONFIG / "laptop.yaml").tasks["math_reasoning"]
    lessons = task.base_model.pretraining.model_copy(update={"examples": 8192})
    sizes = task.base_model.sizes | {"heads": 2}
    base_model.pretrain("math_reasoning", sizes, lessons, folder, task.data)
    return folder


@pytest.fixture(scope="module")
def vllm(base):
    with open_engine(base, VLLM) as engine:
        yield engine


@pytest.fixture(scope="module")
def transformers(base):
    return TransformersEngine(*load_model(base))


def test_greedy_output_is_that_of_transformers_token_for_token(vllm, transformers):
    options = {"n": 1, "sampling": GREEDY, "seed": 1}
    expected = sample(transformers, CONVERSATIONS, **options)
    assert sample(vllm, CONVERSATIONS, **options) == expected
    assert len({str(group["completion_ids"]) for group in expected}) > 3


@pytest.mark.parametrize("stop", ["1", "\\boxed{"])
def test_stop_strings_are_those_of_transformers(vllm, transformers, stop):
    sampling = GREEDY.model_copy(update={"stop": (stop, "never")})
    options = {"n": 1, "sampling": sampling, "seed": 1}
    expected = sample(transformers, CONVERSATIONS, **options)
    assert sample(vllm, CONVERSATIONS, **options) == expected
    texts = sample_text(vllm, PROMPTS, **options)
    assert texts == sample_text(transformers, PROMPTS, **options)
    assert not any(stop in text for (text,) in texts)
    assert texts != sample_text(vllm, PROMPTS, n=1, sampling=GREEDY, seed=1)


def test_a_seed_gives_the_same_samples_and_every_completion_draws_its_own(vllm):
    first, again, other = (
        sample(vllm, CONVERSATIONS, n=8, sampling=WARM, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other
    for group in first:
        assert len(group["completion_ids"]) == 8
        assert len(set(map(tuple, group["completion_ids"]))) > 1
    twice = sample(vllm, CONVERSATIONS[:1] * 2, n=4, sampling=WARM, seed=1)
    assert twice[0]["completion_ids"] != twice[1]["completion_ids"]


def test_log_probabilities_are_those_of_transformers(vllm, transformers):
    """At temperature 1, of samples that were drawn at another."""
    from humanline.scoring.likelihood.tokens import score_ids

    sampling = Sampling(temperature=0.7, top_p=0.9, max_new_tokens=18)
    options = {"n": 2, "sampling": sampling, "seed": 1, "log_probabilities": True}
    for group in sample(vllm, CONVERSATIONS, **options):
        pairs = [(group["prompt_ids"], ids) for ids in group["completion_ids"]]
        expected = score_ids(transformers.model, transformers.tokenizer, pairs)
        for found, scores in zip(group["log_probabilities"], expected, strict=True):
            assert found == pytest.approx(scores.tolist(), abs=1e-4)


def test_samples_have_the_models_probabilities(vllm, transformers):
    """The first token's share among many samples is its probability."""
    import torch

    (group,) = sample(vllm, CONVERSATIONS[:1], n=2000, sampling=WARM, seed=3)
    shares = torch.zeros(transformers.model.config.vocab_size)
    for ids in group["completion_ids"]:
        shares[ids[0]] += 1 / 2000
    with torch.no_grad():
        logits = transformers.model(torch.tensor([group["prompt_ids"]])).logits[0, -1]
    expected, order = logits.softmax(-1).sort(descending=True)
    expected[expected.cumsum(-1) - expected > 0.95] = 0  # top-p
    assert (shares[order] - expected / expected.sum()).abs().max() < 0.05


# Each in a process of its own: TRL's engine takes the process over that it is colocated in.


@pytest.mark.parametrize("processes", [1, 2])
def test_a_colocated_engine_follows_the_policy_token_for_token(processes, base, tmp_path):
    import torch

    if torch.cuda.is_available() and processes > 1:
        pytest.skip("on GPUs each process would need one of its own")
    script = Path(__file__).with_name("follow_policy.py")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launch, f"--nproc-per-node={processes}", script, base, tmp_path]
    run = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) == processes
    for found in (json.loads(file.read_text()) for file in files):
        for expected, sampled in (found["before"], found["after"]):
            assert sampled == expected
        assert found["after"] != found["before"]
        first, again, other = found["seeded"]
        assert first == again != other
        assert any(len(set(map(tuple, group["completion_ids"]))) > 1 for group in first)


def humanline(*arguments, config: Path, results: Path) -> None:
    options = ["--scale", "smoke_vllm", "--config", config, "--results", results]
    command = [sys.executable, "-m", "humanline", *arguments, *options]
    run = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("instruction_following", "dpo-online-every8-s1"),
        ("math_reasoning", "grpo-online-every64-humanline-k24-clip-1.5_1.5-s1"),
    ],
)
def test_online_training_and_evaluation(task, name, tmp_path):
    where = {"config": CONFIG, "results": tmp_path}
    humanline("data", task, "s1", **where)
    humanline("base-model", task, "base-s1", **where)
    humanline("train", task, name, **where)
    humanline("generate", task, name, **where)
    run = tmp_path / "smoke_vllm" / "runs" / task / name
    record = json.loads((run / "train.json").read_text())
    assert record["steps"] == 8 and record["sampled_tokens"] > 0
    assert record["manifest"]["engine"] == "vllm"
    assert (run / "samples.jsonl").exists()


def test_the_smoke_scale_end_to_end(tmp_path):
    """Every kind of table and of cell once, as with transformers."""
    import shutil

    config = shutil.copytree(CONFIG, tmp_path / "config")
    for name in ("experiments.yaml", "claims.yaml"):
        shutil.copy(ROOT / "tests" / "workflow" / name, config)
    options = ["scale=smoke_vllm", f"config_directory={config}", f"results={tmp_path}"]
    snakemake = Path(sys.executable).parent / "snakemake"
    command = [snakemake, "--cores", "2", "--nolock", "--config", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    assert (tmp_path / "smoke_vllm" / "tables" / "instruction_following.csv").exists()
