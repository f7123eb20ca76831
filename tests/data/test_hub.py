"""Models as folders: from the cache or a path, whole, in safetensors, and checked."""

import hashlib
import json
import shutil

import pytest
from safetensors.torch import load_file

from humanline.data.hub import files_fingerprint, model_files, model_folder, rows_fingerprint
from humanline.files.validation import ConfigError
from humanline.scoring.rewards import load_reward
from humanline.study.scale.hub import ARMORM, HubSource
from humanline.study.scale.rewards import HubReward
from humanline.training import base_model
from humanline.worlds.tiny_model import build_tokenizer

REVISION = "a1" * 20


def source(repo, **options) -> HubSource:
    return HubSource(kind="hub", repo=str(repo), **({"revision": None} | options))


def fault(read) -> str:
    with pytest.raises(ConfigError) as caught:
        read()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture
def copy(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "copy")


@pytest.fixture
def fetched(copy, hub_cache):
    hub_cache(copy, "owner/name", REVISION)
    return source("owner/name", revision=REVISION)


def test_a_cached_model_is_its_snapshot(fetched):
    names = {path.name for path in model_files(fetched, model_folder(fetched))}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names


def test_a_model_that_is_not_in_the_cache_says_what_to_prefetch(hub_cache):
    message = fault(lambda: model_folder(source("owner/other", revision=REVISION)))
    assert "owner/other" in message and "snakemake prefetch" in message


@pytest.mark.parametrize("shards", [["model-1.safetensors", "model-2.safetensors"], []])
def test_a_missing_shard_is_named(shards, copy):
    (copy / "model.safetensors").rename(copy / "model-1.safetensors")
    weight_map = {str(i): name for i, name in enumerate([*shards, "model-3.safetensors"])}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    message = fault(lambda: model_folder(source(copy)))
    assert (shards or ["", "model-3.safetensors"])[1] in message


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_link_to_nothing_in_the_cache_is_named(file, fetched):
    (model_folder(fetched) / file).resolve().unlink()
    message = fault(lambda: model_folder(fetched))
    assert message.startswith("model owner/name: ") and f": {file} is no file" in message
    assert "snakemake prefetch" in message


def test_a_file_in_place_of_a_snapshot_is_named(fetched):
    folder = model_folder(fetched)
    shutil.rmtree(folder)
    folder.write_text("x")
    assert fault(lambda: model_folder(fetched)).startswith(
        f"model owner/name: {folder} is no folder"
    )


def test_a_wrong_model_is_named_with_its_place_not_with_where_it_would_be_copied(copy, tmp_path):
    (copy / "chat_template.jinja").write_text("{{ nothing }}")
    message = fault(
        lambda: base_model.make("math_reasoning", source(copy), 1, tmp_path / "m", None)
    )
    assert message.startswith(f"model {copy}: {copy}: chat_template: ")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"weight_map": null}'])
def test_an_index_that_is_none_is_one_line(content, copy):
    (copy / "model.safetensors.index.json").write_text(content)
    message = fault(lambda: model_folder(source(copy)))
    assert message.startswith(f"model {copy}: model.safetensors.index.json is no index of weights")


def test_weights_that_can_hold_code_are_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "safetensors" in fault(lambda: model_folder(source(copy)))


def test_a_base_model_is_linked_and_loads(fetched, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = tmp_path / "runs" / "model"
    for _ in range(2):  # also over what an interrupted job has left
        base_model.make("math_reasoning", fetched, 1, target, None)
    assert (target / "model.safetensors").is_symlink()
    assert not (target / "config.json").is_symlink()
    AutoModelForCausalLM.from_pretrained(target)
    assert AutoTokenizer.from_pretrained(target).eos_token == build_tokenizer().eos_token


def test_a_base_model_of_a_local_path(copy, tmp_path):
    base_model.make("math_reasoning", source(copy), 1, tmp_path / "model", None)
    files = [path.name for path in model_files(source(copy), copy)]
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == files


def test_a_base_model_of_another_repository_keeps_no_file_of_the_one_before(
    copy, model_folder, tmp_path
):
    """Transformers would prefer the weights in one file, and the template in its own."""
    (copy / "chat_template.jinja").write_text("another's {{ messages[0].content }}")
    base_model.make("math_reasoning", source(copy), 1, tmp_path / "model", None)
    shutil.copytree(model_folder, other := tmp_path / "other")
    (other / "model.safetensors").rename(other / "model-1.safetensors")
    names = load_file(other / "model-1.safetensors")
    weights = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-1.safetensors")}
    (other / "model.safetensors.index.json").write_text(json.dumps(weights))
    base_model.make("math_reasoning", source(other), 1, tmp_path / "model", None)
    found = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert found == {path.name: path.read_bytes() for path in other.iterdir()}
    assert (copy / "model.safetensors").exists()  # links go, not what they lead to


def test_a_models_fingerprint_is_that_of_sha256sum(tmp_path):
    for name, text in (("b.json", "2"), ("a.safetensors", "1")):
        (tmp_path / name).write_text(text)
    lines = [
        f"{hashlib.sha256(text).hexdigest()}  {name}\n"
        for name, text in (("a.safetensors", b"1"), ("b.json", b"2"))
    ]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert files_fingerprint(tmp_path.iterdir()) == expected


def test_a_models_fingerprint_is_checked(copy):
    fingerprint = files_fingerprint(model_files(source(copy), copy))
    assert model_folder(source(copy, fingerprint=fingerprint)) == copy
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    message = fault(lambda: model_folder(source(copy, fingerprint=fingerprint)))
    assert fingerprint in message and "fetch it anew" in message


def test_a_datasets_fingerprint_by_hand():
    rows = [{"b": "é", "a": [0.5, None]}, {}]
    expected = hashlib.sha256('{"a":[0.5,null],"b":"é"}\n{}\n'.encode()).hexdigest()
    assert rows_fingerprint(rows) == expected


CODE = """
import torch
from transformers import LlamaConfig, LlamaPreTrainedModel
from types import SimpleNamespace

class Scorer(LlamaPreTrainedModel):
    config_class = LlamaConfig

    def __init__(self, config):
        super().__init__(config)
        self.head = torch.nn.Linear(1, 1)
        self.post_init()

    def forward(self, input_ids, attention_mask=None):
        return SimpleNamespace(score=input_ids.sum()[None].float())
"""


@pytest.fixture
def own_code(copy):
    """A reward model with code of its own, as ArmoRM's repository has it."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling_custom.Scorer"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "modeling_custom.py").write_text(CODE)
    weights = {"head.weight": torch.ones(1, 1), "head.bias": torch.ones(1)}
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    return copy


def test_allowed_code_runs_from_the_cache(own_code, hub_cache):
    repo, revision = ARMORM
    hub_cache(own_code, repo, revision)
    options = {"repo": repo, "revision": revision, "trust_remote_code": True}
    score = load_reward(HubReward(kind="hub", **options))
    short, long = score(["1", "1"], ["2", "2+2+2"], [None, None])
    assert long > short > 0


def test_code_of_a_local_copy_runs_while_it_is_that_of_the_fingerprint(own_code):
    options = {"repo": str(own_code), "revision": None, "trust_remote_code": True}
    with pytest.raises(ValueError, match="write the fingerprint that `humanline prefetch` prints"):
        HubReward(kind="hub", **options)
    known = HubReward(kind="hub", fingerprint="0" * 64, **options)
    fingerprint = files_fingerprint(model_files(known, own_code))
    reward = HubReward(kind="hub", fingerprint=fingerprint, **options)
    assert load_reward(reward)(["1"], ["2"], [None])
    (own_code / "modeling_custom.py").write_text("raise SystemError('this has run')")
    assert fingerprint in fault(lambda: load_reward(reward))


def test_code_does_not_run_unasked(own_code, hub_cache):
    repo, revision = ARMORM
    hub_cache(own_code, repo, revision)
    reward = HubReward(kind="hub", repo=repo, revision=revision)
    assert "modeling_custom.py" not in {f.name for f in model_files(reward, model_folder(reward))}
    with pytest.raises(ConfigError):
        load_reward(reward)


@pytest.mark.parametrize(
    ("repo", "revision"), [("owner/name", REVISION), (ARMORM[0], REVISION), (ARMORM[0], None)]
)
def test_other_code_is_refused(repo, revision):
    with pytest.raises(ValueError, match="REMOTE_CODE"):
        HubReward(kind="hub", repo=repo, revision=revision, trust_remote_code=True)
