"""What comes with a model, a tokenizer or a template runs no code: a planted canary stays away."""

import json
import os
import re
import shutil

import pytest
import torch
from tiny import make_trainer, rows

from humanline.files.code_hashes import PACKAGE
from humanline.files.validation import ConfigError
from humanline.files.weights import load_causal_lm, load_folder, load_tokenizer, require_whole
from humanline.trainers.rows.tokens import prompt_ids_of

FORBIDDEN = re.compile(
    r"joblib|allow_pickle|weights_only=False|trust_remote_code=True|pickle\.loads?\(|dill|"
    r"yaml\.(?:unsafe_load|full_load|FullLoader)|(?<![.\w])(?:eval|exec)\("
)
KNOWN = {("rewards.py", "trust_remote_code=True")}  # of a model in REMOTE_CODE


class Touch:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.system, (f"touch {self._path}",)


@pytest.fixture
def canary(tmp_path):
    """The file that planted code would make; the test fails if it is there."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "planted")


def edited(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def told(load, path) -> str:
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("load", [load_causal_lm, load_folder, require_whole])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin", "model.pt"])
def test_weights_that_can_hold_code_are_refused(load, name, folder, canary):
    (folder / "model.safetensors").unlink()
    torch.save({"w": Touch(canary)}, folder / name)
    assert f"its weights are in {name}, a format that can hold code" in told(load, folder)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "vocab.pkl"]
)
def test_beside_safetensors_they_are_not_read(name, folder, canary):
    torch.save({"w": Touch(canary)}, folder / name)
    load_folder(folder)


def test_nor_by_a_trainer(folder, canary, tokenizer, groups, tmp_path):
    (folder / "model.safetensors").unlink()
    torch.save({"w": Touch(canary)}, folder / "pytorch_model.bin")
    dataset = rows("dpo", groups)
    with pytest.raises(ConfigError, match="a format that can hold code"):
        make_trainer("dpo", str(folder), tokenizer, dataset, tmp_path / "out")


def plant_module(folder, canary) -> None:
    code = f"open({str(canary)!r}, 'w').close()\nclass Own: pass\n"
    (folder / "own.py").write_text(code)


@pytest.mark.parametrize("kind", ["llama", "of_nobody"])
def test_a_models_own_code_is_not_run(kind, folder, canary, monkeypatch):
    """Nor is anybody asked at the terminal whether it may be run."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    plant_module(folder, canary)
    own = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    edited(folder / "config.json", auto_map=own, model_type=kind)
    if kind == "llama":  # which transformers knows
        load_folder(folder)
    else:
        assert "custom code" in told(load_folder, folder)
        assert "custom code" in told(require_whole, folder)


@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "OfNobody"])
def test_a_tokenizers_own_code_is_not_run(kind, folder, canary, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    plant_module(folder, canary)
    own = {"AutoTokenizer": ["own.Own", "own.Own"]}
    edited(folder / "tokenizer_config.json", auto_map=own, tokenizer_class=kind)
    try:
        load_tokenizer(folder)
    except ConfigError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "attempt",
    [
        "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
    ],
)
def test_a_chat_template_is_rendered_in_a_sandbox(attempt, folder, canary):
    (folder / "chat_template.jinja").write_text(attempt.replace("CANARY", str(canary)))
    with pytest.raises(ConfigError, match=r"chat_template: .* is unsafe") as error:
        prompt_ids_of(load_tokenizer(folder), [{"role": "user", "content": "a"}], {}, {})
    assert "\n" not in str(error.value)


def test_no_line_of_ours_loads_what_can_hold_code():
    """Whoever adds one finds this test; `trust_remote_code` is decided in one list."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found = {call for call in FORBIDDEN.findall(text) if (path.name, call) not in KNOWN}
        assert not found, path
        for call in re.findall(r"torch\.load\([^#]*?\n", text):
            assert "weights_only=True" in call, f"{path}: {call}"
