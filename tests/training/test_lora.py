"""Training with LoRA: later stages find whole models, and interruptions change nothing."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from humanline.data.training_files import LogRow
from humanline.files.json_files import write_jsonl
from humanline.files.typed_files import read_columns
from humanline.files.validation import ConfigError
from humanline.files.weights import load_folder
from humanline.generation import offline
from humanline.study.runs.pins import require_pinned
from humanline.study.study import load_study
from humanline.training import adapters, base_model
from humanline.training import cell as training
from humanline.worlds import miniature

pytest.importorskip("peft", reason="pip install 'humanline[peft]'")
CONFIG = Path(__file__).parents[2] / "workflow" / "config"
TASK = "instruction_following"
RUN = "dpo-offline-humanline-k4-clip-1.5_1.5-lora16-s1"
ADAPTER = RUN.replace("lora16", "lora16-adapter")
ONLINE = "grpo-online-every8-lora16-s1"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The smoke scale with its data and one base model."""
    study = load_study(
        CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", tmp_path_factory.mktemp("results")
    )
    config = study.scale.tasks[TASK]
    for split, rows in miniature.splits(TASK, config.data, 1).items():
        write_jsonl(study.paths.prompts(TASK, "s1", split), rows)
    base = study.run(TASK, "base-s1")
    base_model.make(TASK, config.base_model, 1, base.paths.model, config.data)
    offline.make(base)
    return study


def trained(study, name: str) -> dict[str, torch.Tensor]:
    run = study.run(TASK, name)
    training.train(run)
    return load_file(run.paths.model / "model.safetensors")


def test_a_run_leaves_a_whole_model_however_its_reference_is_kept(study):
    base = load_file(study.run(TASK, "base-s1").paths.model / "model.safetensors")
    cached, adapter, online = (trained(study, name) for name in (RUN, ADAPTER, ONLINE))
    for model in (cached, adapter, online):
        assert {n: w.shape for n, w in model.items()} == {n: w.shape for n, w in base.items()}
        changed = {name for name in base if not torch.equal(base[name], model[name])}
        assert changed == {name for name in base if "_proj" in name}
    assert all(torch.allclose(cached[name], adapter[name], atol=1e-6) for name in base)
    folder = study.run(TASK, RUN).paths.model
    load_folder(folder)
    assert not list(folder.glob("adapter_*")) and not list(folder.parent.glob(".merged*"))
    log = read_columns(study.run(TASK, RUN).paths.log, LogRow)
    assert log["humanline/unclipped_chosen"].iloc[-1] > 0


def test_a_merged_model_computes_what_the_adapter_did(study, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = study.run(TASK, "base-s1").paths.model
    model, _ = load_folder(base, dtype=torch.float32)
    policy = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        expected = policy(ids).logits
    policy.save_pretrained(tmp_path / "model")
    adapters.merge(tmp_path / "model", base)
    merged, _ = load_folder(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, expected, atol=1e-5)
        assert not torch.allclose(load_folder(base)[0](ids).logits, expected, atol=1e-2)


def test_an_interrupted_run_ends_as_if_it_had_not_been(study, monkeypatch):
    """Its earlier checkpoints are whole models in the end, too."""
    options = study.scale.tasks[TASK].training
    monkeypatch.setitem(options.__dict__, "evaluate_every", 4)  # steps are kept by twos
    whole, run = trained(study, ADAPTER), study.run(TASK, ADAPTER)
    on_save = training.Progress.on_save

    def on_save_and_stop(self, args, state, control, **kwargs):
        on_save(self, args, state, control, **kwargs)
        if state.global_step == 6:
            raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(training.Progress, "on_save", on_save_and_stop)
        training.train(run)
    path = training._checkpoints(run) / "checkpoint-6" / "adapter_model.safetensors"
    assert not [name for name in load_file(path) if ".ref." in name]
    again = trained(study, ADAPTER)
    assert all(torch.equal(whole[n], again[n]) for n in whole)
    kept = training._checkpoints(run) / "checkpoint-4"
    assert not list(kept.glob("adapter_*"))
    assert load_file(kept / "model.safetensors").keys() == whole.keys()


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_the_reference_of_plain_online_training_samples_the_round(objective, study):
    """Its loss is TRL's. At a round's first step policy and reference are the same model."""
    cell = study.find(TASK, ONLINE)
    run = study.resolve(cell.model_copy(update={"objective": objective, "sample_every": 4}))
    training.train(run)
    losses = read_columns(run.paths.log, LogRow)["loss"].tolist()
    equal = {"dpo": math.log(2), "kto": losses[0]}[objective]
    assert losses[0] == pytest.approx(equal) == losses[4]
    later = losses[2:4] + losses[5:]  # the first update has a rate of 0, to warm up
    assert all(abs(loss - equal) > 1e-5 for loss in later)


def test_what_cannot_train_with_lora_is_refused_in_one_line(study, monkeypatch):
    class Whole:
        def __init__(self, model, args):
            pass

    run = study.run(TASK, RUN)
    with pytest.raises(ConfigError, match=r"lora: Whole takes no peft_config.*lora: none"):
        adapters.adapter_options(run, Whole)
    monkeypatch.setattr("humanline.study.runs.pins.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"peft, which is not installed; pip install"):
        require_pinned(study.scale, "train", TASK, run)
    require_pinned(study.scale, "train", TASK, study.run(TASK, RUN.replace("-lora16", "")))
