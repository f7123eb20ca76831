"""Model cards, tags and uploads: TRL's, and they name humanline."""

import json

import pytest
import torch
import transformers.trainer as of_transformers
from huggingface_hub import ModelCard
from peft import LoraConfig
from tiny import OBJECTIVES, make_trainer, rows
from transformers import AutoModelForCausalLM

from humanline.trainers.shared.model_card import base_model


def card_of(trainer, folder, **options) -> ModelCard:
    trainer.create_model_card(**options)
    return ModelCard.load(folder / "README.md")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_card_tells_the_method_its_options_and_its_paper(
    objective, model, tokenizer, groups, tmp_path
):
    options = {"sync_interval": 7, "log_eps_p": -1.25, "log_eps_r": 1.75}
    trainer = make_trainer(
        objective, model, tokenizer, rows(objective, groups), tmp_path, **options
    )
    card = card_of(trainer, tmp_path, model_name="mine", dataset_name="me/rows", tags="own")
    assert {"humanline", "trl", objective, "own"} <= set(card.data.tags)
    assert card.data.datasets == "me/rows" and card.data.model_name == "mine"
    for row in ("`sync_interval` | 7 |", "`log_eps_p` | -1.25 |", "`log_eps_r` | 1.75 |"):
        assert row in card.text
    assert "`reference` | cached |" in card.text and "`perception` | clip |" in card.text
    assert "sync_alpha" not in card.text and "gamma" not in card.text
    name = objective.upper()
    assert f"Humanline {name}, a method introduced in [Humanline: Online" in card.text
    assert "2509.24207" in card.text and "@misc{liu2025humanline," in card.text
    assert card.text.count("@") >= 3  # the objective's own paper and TRL are cited, too
    assert {"humanline", "trl", objective} <= set(model.model_tags)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_without_humanline_the_card_is_trls(objective, model, tokenizer, groups, tmp_path):
    dataset = rows(objective, groups)
    trainer = make_trainer(objective, model, tokenizer, dataset, tmp_path, humanline=False)
    card = card_of(trainer, tmp_path, model_name="mine")
    assert "humanline" not in card.data.tags and {"trl", objective} <= set(card.data.tags)
    assert "umanline" not in card.text and f"trained with {objective.upper()}, a" in card.text


def test_bounds_that_a_perception_does_not_read_are_not_told(model, tokenizer, groups, tmp_path):
    dataset = rows("dpo", groups)
    trainer = make_trainer("dpo", model, tokenizer, dataset, tmp_path, perception="authors")
    text = card_of(trainer, tmp_path).text
    assert "`gamma_p` | 0.5 |" in text and "log_eps" not in text


@pytest.mark.parametrize("peft", [None, LoraConfig(task_type="CAUSAL_LM")], ids=["whole", "lora"])
def test_the_base_model_has_its_name(peft, hub_cache, model_folder, tokenizer, groups, tmp_path):
    snapshot = hub_cache(model_folder, "someone/tiny-model", "0" * 40)
    model = AutoModelForCausalLM.from_pretrained(snapshot, dtype=torch.float32)
    extra = {"peft_config": peft} if peft else {}
    trainer = make_trainer("dpo", model, tokenizer, rows("dpo", groups), tmp_path / "out", extra)
    card = card_of(trainer, tmp_path / "out")
    assert card.data.base_model == "someone/tiny-model"
    assert "of [someone/tiny-model](https://huggingface.co/someone/tiny-model)" in card.text
    assert str(tmp_path) not in card.content


def test_a_folder_is_named_without_a_link(model, model_folder, tokenizer, groups, tmp_path):
    trainer = make_trainer("dpo", model, tokenizer, rows("dpo", groups), tmp_path)
    card = card_of(trainer, tmp_path)
    assert f"fine-tuned version of `{model_folder.name}`" in card.text
    assert card.data.base_model is None and str(model_folder) not in card.content


def test_what_is_known_of_a_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": "org/name"}))
    assert base_model(str(tmp_path)) == ("org/name", True)
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": str(tmp_path)}))
    assert base_model(str(tmp_path)) == (tmp_path.name, False)
    (tmp_path / "config.json").write_text("[")
    assert base_model(str(tmp_path)) == (tmp_path.name, False)
    assert base_model("org/name") == ("org/name", True) and base_model("") == ("", False)


class Hub:
    """What of the Hub the Trainer calls; it keeps the names of what is uploaded."""

    def __init__(self):
        self.uploads = []

    def create_repo(self, repo_id, **_):
        return type("Url", (), {"repo_id": repo_id})()

    def upload_folder(self, *, folder_path, path_in_repo="", run_as_future=False, **options):
        from concurrent.futures import Future
        from pathlib import Path

        files = {
            p.name: p.read_text() if p.suffix == ".md" else "" for p in Path(folder_path).iterdir()
        }
        self.uploads.append((options["repo_id"], path_in_repo, files))
        done = Future()
        done.set_result(None)
        return done if run_as_future else "uploaded"


@pytest.mark.parametrize("strategy", ["every_save", "checkpoint", "all_checkpoints", "end"])
def test_pushes_are_trls(strategy, model, tokenizer, groups, tmp_path, monkeypatch):
    hub = Hub()
    monkeypatch.setattr(of_transformers, "hf_api", lambda: hub)
    options = {"push_to_hub": True, "hub_model_id": "me/mine", "hub_strategy": strategy}
    options |= {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    trainer = make_trainer("dpo", model, tokenizer, rows("dpo", groups), tmp_path, **options)
    trainer.train()
    assert trainer.push_to_hub(dataset_name="me/rows") == "uploaded"
    assert {repo for repo, _, _ in hub.uploads} == {"me/mine"}
    *during, (_, _, files) = hub.uploads
    assert {"README.md", "model.safetensors", "config.json", "tokenizer.json"} <= files.keys()
    assert "humanline" in files["README.md"] and "- dpo" in files["README.md"]
    places = [place for _, place, _ in during]
    beside = {"checkpoint": "last-checkpoint", "all_checkpoints": "checkpoint-1"}.get(strategy)
    assert (beside in places) if beside else set(places) <= {""}
    assert bool(during) == (strategy != "end")
    for _, place, found in during:
        assert ("humanline.json" in found) == (place != "")  # a checkpoint is uploaded whole
