"""Models are loaded with all their weights, or not at all."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from humanline.validation import ConfigError
from humanline.weights import load_causal_lm

UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def altered(model_folder, tmp_path):
    """A copy of the tiny model whose tensors a function has altered, in place."""

    def alter(change):
        folder = shutil.copytree(model_folder, tmp_path / "altered")
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return alter


def test_a_whole_model_is_loaded_and_tied_weights_count_as_there(model_folder):
    model = load_causal_lm(model_folder, dtype=torch.float32)
    assert model.config.tie_word_embeddings
    saved = load_file(model_folder / "model.safetensors")
    assert "lm_head.weight" not in saved
    assert all(torch.equal(model.get_parameter(name), tensor) for name, tensor in saved.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop(UP), f"no weights for {UP}"),
        (lambda weights: weights.clear(), "no weights for .* and .* more"),
        (lambda weights: weights.update({UP: weights[UP][:4].clone()}), f"{UP} has another shape"),
        (lambda weights: weights[UP][0].fill_(torch.nan), f"{UP} has values that are not finite"),
        (lambda weights: weights[UP][0].fill_(torch.inf), f"{UP} has values that are not finite"),
    ],
    ids=["missing", "all missing", "shape", "nan", "inf"],
)
def test_weights_that_are_not_there_are_refused_by_name(altered, change, message):
    folder = altered(change)
    with pytest.raises(ConfigError, match=message) as error:
        load_causal_lm(folder, dtype=torch.float32)
    assert str(error.value).startswith(f"{folder}: ")
    assert "\n" not in str(error.value)


def test_a_file_that_is_cut_off_is_refused(altered):
    folder = altered(lambda weights: None)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="weights cannot be read"):
        load_causal_lm(folder)


def test_an_adapter_is_not_taken_for_a_model(model, tmp_path):
    from peft import LoraConfig, get_peft_model

    model.save_pretrained(tmp_path)
    get_peft_model(model, LoraConfig()).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="this is a PEFT adapter"):
        load_causal_lm(tmp_path)
