"""Models are loaded with all their weights, or not at all."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from humanline.files.validation import ConfigError
from humanline.files.weights import load_causal_lm, load_folder, require_whole

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


WRONG = {
    "missing": lambda weights: weights.pop(UP),
    "shape": lambda weights: weights.update({UP: weights[UP][:4].clone()}),
    "nan": lambda weights: weights[UP][0].fill_(torch.nan),
}


@pytest.mark.parametrize("check", [load_folder, require_whole])
@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_folder_is_loaded_whole_and_checked_without_loading(change, check, altered, model_folder):
    check(model_folder)
    folder = altered(change)
    with pytest.raises(ConfigError, match=UP) as error:
        check(folder)
    assert str(error.value).startswith(f"{folder}: ") and "\n" not in str(error.value)


def test_weights_in_several_files_are_all_looked_at(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="5KB")
    tokenizer.save_pretrained(tmp_path)
    require_whole(tmp_path)
    last = sorted(tmp_path.glob("model-*.safetensors"))[-1]
    name, tensor = next(iter(load_file(last).items()))
    save_file({name: tensor * torch.nan}, last, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"not finite|no weights for"):
        require_whole(tmp_path)
    last.unlink()
    for check in (load_folder, require_whole):
        with pytest.raises(ConfigError, match=rf"{tmp_path}: no whole model \(.*{last.name}"):
            check(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", None),
        ("config.json", '{"model_type"'),
        ("tokenizer.json", None),
        ("tokenizer.json", "{}"),
        ("model.safetensors", None),
        ("model.safetensors", ""),
    ],
)
def test_a_folder_that_is_half_copied_is_one_line(name, content, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "half")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    for check in (load_folder, require_whole):
        with pytest.raises(ConfigError) as error:
            check(folder)
        assert str(error.value).startswith(f"{folder}: ") and "\n" not in str(error.value)


def test_a_tokenizer_without_a_chat_template_is_told(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="no chat template"):
        load_folder(folder)


def test_a_base_model_is_refused_when_it_is_fetched(altered, tmp_path):
    from humanline.study.scale.hub import HubSource
    from humanline.training import base_model

    source = HubSource(kind="hub", repo=str(altered(WRONG["nan"])), revision=None)
    with pytest.raises(ConfigError, match=f"{UP} has values that are not finite"):
        base_model.make("math_reasoning", source, 1, tmp_path / "model", None)
