"""Fixtures that several test modules share: a tiny model, and data in each of TRL's forms."""

import gc
import hashlib
import os
import shutil
from collections import Counter

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several workers share the cores

from pathlib import Path

import pytest

from humanline.worlds.tiny_model import build_model, build_tokenizer

ARCHITECTURE = {"hidden_size": 16, "intermediate_size": 32, "layers": 1, "heads": 2, "seed": 0}
SHARED = Path(__file__).parents[1].parent / "shared"


def pytest_configure(config):
    config.option.loadscopereorder = False  # xdist takes files in the order below


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Slow files first, then those with many tests: a long one at the end would run alone.

    `-m 'not slow'` replaces the setting that leaves out tests of depth, so these are slow, too.
    """
    for item in items:
        if item.get_closest_marker("thorough") or item.get_closest_marker("cluster"):
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    number = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, -number[item.path]))


@pytest.fixture(autouse=True, scope="module")
def imported_for_good():
    """Let the garbage collector pass over what is imported.

    Each training collects garbage, and so looked at all modules and tests each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A tiny untrained model in Hugging Face format."""
    folder = tmp_path_factory.mktemp("model")
    build_tokenizer().save_pretrained(folder)
    build_model(**ARCHITECTURE).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def experts_folder(model_folder, tmp_path_factory) -> Path:
    """A tiny mixture of experts, without a tokenizer."""
    import torch
    from transformers import AutoConfig, MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=AutoConfig.from_pretrained(model_folder).vocab_size, hidden_size=16,
        intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("experts")
    MixtralForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(model_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture
def model(model_folder):
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """Put a folder into an empty hub cache as a repository at a commit, in the hub's own layout."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(folder: Path, repo: str, revision: str, repo_type: str = "model") -> Path:
        root = tmp_path / "hub" / f"{repo_type}s--{repo.replace('/', '--')}"
        for file in (file for file in folder.rglob("*") if file.is_file()):
            blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, blob)
            link = root / "snapshots" / revision / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / "main").write_text(revision)
        return root / "snapshots" / revision

    return put


@pytest.fixture
def groups() -> list[dict]:
    """Scored groups: 24 prompts, four completions each."""
    return [
        {
            "prompt": f"{i % 10}+{i // 10}",
            "completions": [f"{letter * (1 + i % 3)}" for letter in "abcd"],
            "scores": [float((i + j) % 5) for j in range(4)],
        }
        for i in range(24)
    ]
