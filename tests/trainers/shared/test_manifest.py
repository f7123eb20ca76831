"""Whatever happens to a file of a checkpoint is told by its name, before anything is trained."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from combinations import Combination, in_rounds
from damages import damaged, files_of
from safetensors.torch import save_file
from tiny import make_trainer, rows
from transformers import AutoModelForCausalLM

from humanline.trainers.shared import manifest
from humanline.trainers.shared.manifest import CheckpointError, fault_of, read_manifest

SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}


def preferences(objective, reference, model_folder, tokenizer, groups, folder, **options):
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    extra = {}
    if reference == "adapter":
        from peft import LoraConfig

        extra["peft_config"] = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    options = SAVING | {"sync_interval": 2, "reference": reference, "logging_steps": 2} | options
    dataset = rows(objective, groups)
    return make_trainer(objective, model, tokenizer, dataset, folder, extra, **options)


@pytest.fixture
def build(model_folder, tokenizer, groups):
    """Build a trainer by the kind of run, whose checkpoints have each kind of file."""
    given = model_folder, tokenizer, groups

    def build(kind: str, folder: Path, **options):
        if kind == "rollout":
            combination = Combination(online=True, rollout=2, steps=3, reference="model")
            return combination.trainer(model_folder, folder, **SAVING | options)
        if kind == "round":
            options = SAVING | {"humanline": False} | options
            options.pop("max_steps")
            return in_rounds("dpo", model_folder, folder, **options)
        return preferences("dpo", kind, *given, folder, **options)

    return build


OWN = {
    "cached": {"model.safetensors", "ahead-0.pt", "reference.safetensors"},
    "model": {"model.safetensors", "reference.safetensors"},
    "adapter": {"adapter_model.safetensors", "adapter_config.json", "reference.safetensors"},
    "rollout": {"model.safetensors", "rollout-0.pt"},
    "round": {"model.safetensors", "round-0.pt"},
}
ALWAYS = {
    *("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin"),
    *("humanline.json", "tokenizer.json", "tokenizer_config.json", "unlogged-0.pt"),
}


@pytest.mark.parametrize("kind", OWN)
def test_every_damage_of_every_file_is_told(kind, build, tmp_path):
    build(kind, tmp_path / "run").train()
    build(kind, tmp_path / "other", seed=7).train()
    checkpoint, place = tmp_path / "run" / "checkpoint-1", tmp_path / "checkpoint-1"
    assert ALWAYS | OWN[kind] <= set(files_of(checkpoint))
    others = {name: tmp_path / name for name in ("run/checkpoint-2", "other/checkpoint-1")}
    resumed, tried = build(kind, tmp_path / "run"), 0
    for name, damage in damaged(checkpoint, place, others):
        with pytest.raises(CheckpointError, match=rf"^{place} .*; .*or train anew$") as error:
            resumed.train(resume_from_checkpoint=str(place))
        told = str(error.value)
        # With the manifest of another checkpoint, it is another file that is not as it should be.
        assert f": {name}" in told or (name == "humanline.json" and " of " in f" {damage}"), told
        assert "\n" not in told
        tried += 1
    assert tried > 70
    assert resumed.state.global_step == 0
    resumed.train(resume_from_checkpoint=str(checkpoint))


class TestFiles:
    @pytest.fixture
    def checkpoint(self, tmp_path):
        folder = tmp_path / "checkpoint-1"
        folder.mkdir()
        torch.save({"a": torch.arange(300_000.0), "b": [1, 2]}, folder / "optimizer.pt")
        save_file({"w": torch.arange(300_000.0)}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
        self.seal(folder)
        return folder

    def seal(self, folder):
        files = manifest.fingerprints(folder)
        content = {"run": {}, "save_only_model": False, "position": {}, "files": files}
        manifest.write_manifest(folder, content)

    def fault(self, checkpoint) -> str | None:
        return fault_of(checkpoint, read_manifest(checkpoint))

    def test_a_torch_file_is_checked_by_the_checksums_it_has(self, checkpoint):
        known = read_manifest(checkpoint)["files"]
        assert "crc" in known["optimizer.pt"] and "xxh3" in known["model.safetensors"]
        assert self.fault(checkpoint) is None

    def test_any_byte_of_a_tensor_that_changes_is_noticed(self, checkpoint):
        """Wherever it is. The bytes between the records of a torch file mean nothing."""
        path = checkpoint / "optimizer.pt"
        whole = path.read_bytes()
        with zipfile.ZipFile(path) as records:
            sizes = {r.filename: (r.header_offset, r.file_size) for r in records.infolist()}
        start, size = sizes[max(sizes, key=lambda name: sizes[name][1])]
        first = whole.index(torch.arange(300_000.0).numpy().tobytes(), start)
        for place in (first, first + size // 3, first + size - 1, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            assert "optimizer.pt is damaged" in self.fault(checkpoint)

    def test_files_without_checksums_of_their_own_are_hashed(self, checkpoint, monkeypatch):
        monkeypatch.setattr(torch.serialization, "get_crc32_options", lambda: False)
        self.seal(checkpoint)
        assert "xxh3" in read_manifest(checkpoint)["files"]["optimizer.pt"]

    @pytest.mark.parametrize("name", ["scaler.pt", "pytorch_model.bin", "adapter_model.bin"])
    def test_a_file_that_was_added_is_not_loaded(self, name, checkpoint):
        (checkpoint / "notes.txt").touch()
        assert self.fault(checkpoint) is None
        (checkpoint / name).touch()
        assert f"has a file that is not its own, {name}; remove it" in self.fault(checkpoint)

    def test_a_manifest_of_sizes_alone_is_read(self, checkpoint):
        content = read_manifest(checkpoint)
        sizes = {name: known["size"] for name, known in content["files"].items()}
        (checkpoint / "humanline.json").write_text(json.dumps(content | {"files": sizes}))
        assert not manifest.has_checksums(read_manifest(checkpoint))
        assert self.fault(checkpoint) is None
        (checkpoint / "config.json").write_text("")
        assert "config.json is empty" in self.fault(checkpoint)

    def test_what_shards_say_of_themselves_is_read_without_running_code(self, checkpoint, tmp_path):
        import torch.distributed.checkpoint as dcp

        part = checkpoint / "pytorch_model_fsdp_0"
        dcp.save({"w": torch.ones(3, dtype=torch.bfloat16)}, checkpoint_id=part)
        self.seal(checkpoint)
        assert self.fault(checkpoint) is None
        canary = tmp_path / "canary"
        (part / ".metadata").write_bytes(pickle.dumps(Touch(canary)))
        self.seal(checkpoint)
        assert ".metadata holds code, which is not run" in self.fault(checkpoint)
        assert not canary.exists()


class Touch:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self):
        return os.system, (f"touch {self._path}",)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "ahead-0.pt",
                                  "unlogged-0.pt", "training_args.bin"])  # fmt: skip
def test_code_in_a_checkpoint_is_not_run(name, build, tmp_path):
    """The manifest is right: whoever planted the code made it again."""
    build("cached", tmp_path / "run", max_steps=1).train()
    checkpoint, canary = tmp_path / "run" / "checkpoint-1", tmp_path / "canary"
    torch.save({"state": Touch(canary), "a": torch.ones(1)}, checkpoint / name)
    content = read_manifest(checkpoint)
    (checkpoint / "humanline.json").unlink()
    manifest.write_manifest(checkpoint, content | {"files": manifest.fingerprints(checkpoint)})
    resumed = build("cached", tmp_path / "run", max_steps=2)
    if name == "training_args.bin":  # nobody reads it
        resumed.train(resume_from_checkpoint=str(checkpoint))
    else:
        told = rf"^{checkpoint} cannot be loaded \({name}: holds code, which is not run"
        with pytest.raises(ValueError, match=told) as error:
            resumed.train(resume_from_checkpoint=str(checkpoint))
        assert "\n" not in str(error.value)
    assert not canary.exists()
    torch.load(checkpoint / name, weights_only=False)
    assert canary.exists()  # so it would have been run


def test_a_checkpoint_is_checked_once(build, tmp_path, monkeypatch):
    build("model", tmp_path / "run", max_steps=1).train()
    shutil.rmtree(tmp_path / "run" / "runs", ignore_errors=True)
    checks, check = [], manifest.fault_of
    from humanline.trainers.shared import checkpoints

    monkeypatch.setattr(checkpoints, "fault_of", lambda *a: checks.append(a) or check(*a))
    resumed = build("model", tmp_path / "run", max_steps=2)
    resumed.require_usable(tmp_path / "run" / "checkpoint-1")
    resumed.train(resume_from_checkpoint=True)
    assert len(checks) == 1
