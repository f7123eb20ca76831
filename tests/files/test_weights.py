"""Models are loaded with all their weights, or not at all."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from humanline.files import weights
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


def _edited(name, **values):
    def change(folder):
        path = folder / name
        content = json.loads(path.read_text())
        kept = {key: value for key, value in (content | values).items() if value is not None}
        path.write_text(json.dumps(kept))

    return change


def _cut(name):
    def change(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return change


def _template(text):
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def _header(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[12] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
    "no config": lambda folder: (folder / "config.json").unlink(),
    "config cut": _cut("config.json"),
    "config of texts": _edited("config.json", hidden_size="sixteen"),
    "config of no heads": _edited("config.json", num_attention_heads=0),
    "config of another size": _edited("config.json", hidden_size=64),
    "config without layers": _edited("config.json", num_hidden_layers=0),
    "config of a billion layers": _edited("config.json", num_hidden_layers=10**9),
    "config of no context": _edited("config.json", max_position_embeddings=0),
    "config of an end that is no token": _edited("config.json", eos_token_id=10**6),
    "generation config cut": _cut("generation_config.json"),
    "generation config that is a list": lambda folder: (
        (folder / "generation_config.json").write_text("[]")
    ),
    "a context in words": _edited("tokenizer_config.json", model_max_length="long"),
    "another kind": _edited("config.json", model_type="unheard_of"),
    "fewer tokens": _edited("config.json", vocab_size=7),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "weights empty": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "weights cut": _cut("model.safetensors"),
    "a bit of the header": _header,
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "tokenizer cut": _cut("tokenizer.json"),
    "no end of sequence": _edited("tokenizer_config.json", eos_token=None),
    "no template": lambda folder: (folder / "chat_template.jinja").unlink(),
    "template empty": _template(""),
    "template that is no Jinja": _template("{% for m in messages %}{{ m.content }"),
    "template that raises": _template("{{ raise_exception('never') }}"),
    "template with unknown names": _template("{{ messages[0].content.no.where }}"),
    "template of a filter that is unknown": _template("{{ messages | unheard_of }}"),
    "template without the messages": _template("Hello"),
    "template of much text": _template("{{ messages[0].content * 100000 }}"),
    "template of ten gigabytes": _template("{{ 'a' * 10000000000 }}{{ messages[0].content }}"),
    "template that reads attributes": _template("{{ messages.__class__.__mro__ }}"),
    "template without an end": _template(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_refused_in_one_line(name, model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_SECONDS", 0.5)
    folder = shutil.copytree(model_folder, tmp_path / "damaged")
    DAMAGES[name](folder)
    with pytest.raises(ConfigError) as error:
        load_folder(folder, dtype=torch.float32)
    told = str(error.value)
    assert told.startswith(f"{folder}: ")
    assert "; " in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop(UP), f"no weights for {UP}"),
        (
            lambda weights: weights.update({UP.replace("0", "1"): weights[UP].clone()}),
            "a layer more than config.json says",
        ),
        (lambda weights: weights.clear(), "no weights for .* and .* more"),
        (lambda weights: weights.update({UP: weights[UP][:4].clone()}), f"{UP} has another shape"),
        (lambda weights: weights[UP][0].fill_(torch.nan), f"{UP} has values that are not finite"),
        (lambda weights: weights[UP][0].fill_(torch.inf), f"{UP} has values that are not finite"),
    ],
    ids=["missing", "another layer", "all missing", "shape", "nan", "inf"],
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
