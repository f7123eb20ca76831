"""The pages of the trainers: their examples run, and they name each option and each metric."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest
from transformers import TrainingArguments

import humanline
from humanline.trainers.options.humanline import HumanlineOptions

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("dpo", "kto", "grpo")


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_the_example_runs_and_the_page_explains_what_it_logs(
    name, model_folder, hub_cache, tmp_path, monkeypatch
):
    """To the letter, with a tiny model in the place of the one that it names."""
    (example,) = re.findall(r"```python\n(.*?)```", page(name), flags=re.S)
    (model,) = re.findall(r'model="([^"]+)"', example)
    hub_cache(model_folder, model, "c3" * 20)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example, names)
    history = names["trainer"].state.log_history
    assert names["trainer"].state.global_step == 4
    logged = set().union(*history)
    explained = re.findall(r"`([\w/]+)`", page(name).partition("## Metrics")[2])
    assert len(logged) > 20 and logged - set(explained) == set()


@pytest.mark.parametrize("name", PAGES)
def test_the_table_has_the_options_with_their_defaults(name):
    import trl

    config = getattr(humanline, f"Humanline{name.upper()}Config")
    defaults = {
        field.name: field.default_factory()
        if field.default is dataclasses.MISSING
        else field.default
        for field in dataclasses.fields(config)
    }
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", page(name), flags=re.M)
    told = {option: ast.literal_eval(default) for option, default in rows}
    assert {option: defaults.get(option, "unknown") for option in told} == told
    ours = {field.name for field in dataclasses.fields(HumanlineOptions)}
    own = set(vars(config)["__annotations__"]) & set(defaults)
    if name != "grpo":  # which says where the others are told
        own |= set(vars(getattr(trl, f"{name.upper()}Config"))["__annotations__"]) & set(defaults)
        assert "beta" in own
    needed = (ours - {field.name for field in dataclasses.fields(TrainingArguments)}) | own
    assert needed - set(told) == set()
