"""Cells and comparisons in words."""

from dataclasses import replace
from pathlib import Path

import pytest

from humanline.study.cells import Cell
from humanline.study.study import Study, load_study
from humanline.study.words import cell_words, comparison_words, labels, rows_in_words

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
HUMANLINE = {"humanline": True, "sync_interval": 4, "log_eps_p": -1.5, "log_eps_r": 1.5}


def cell(task="instruction_following", objective="grpo", data="offline", seed=1, **options) -> Cell:
    if data == "online":
        options = {"sample_every": 8} | options
    return Cell(task=task, objective=objective, data=data, seed=seed, **options)


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(CONFIG / "laptop.yaml", CONFIG / "experiments.yaml", Path("results"))


@pytest.mark.parametrize(
    ("options", "without", "words"),
    [
        ({}, (), "offline GRPO"),
        ({"data": "online", "sample_every": 1}, (), "online GRPO, sampled every step"),
        (
            {"data": "online", "sample_every": 64} | HUMANLINE | {"sync_interval": 1},
            ("bounds",),
            "online GRPO, sampled every 64 steps, with humanline, synced every step",
        ),
        (HUMANLINE, ("sync_interval", "bounds"), "offline GRPO with humanline"),
        (HUMANLINE, ("data", "objective", "bounds"), "with humanline, synced every 4 steps"),
        ({}, ("data", "objective"), "plain"),
        (
            {"objective": "dpo", "trust_region": True, "sync_interval": 4, "sync_alpha": 0.6},
            (),
            "offline DPO, trust region, synced every 4 steps, soft sync of 0.6",
        ),
        (
            HUMANLINE | {"sync_interval": None, "log_eps_p": None, "log_eps_r": None},
            (),
            "offline GRPO with humanline, never synced, without clipping",
        ),
        (
            HUMANLINE | {"log_eps_p": None, "overrides": {"beta": 0.0, "max_grad_norm": 4}},
            ("sync_interval",),
            "offline GRPO with humanline, upper bound 1.5, beta 0, gradient norm 4",
        ),
        (
            {"base_model": "larger", "data_from": "weaker", "quartile": 1, "groups": 512},
            (),
            "offline GRPO, data from weaker, quartile 1, 512 prompts, base model larger",
        ),
        ({"select": "spread"}, (), "offline GRPO, best quarter by spread"),
        (
            {"data": "online", "last_sampling": 16},
            ("sample_every",),
            "online GRPO, sampled until step 16",
        ),
        (
            {"humanline": True, "perception": "authors", "sync_interval": 4},
            ("sync_interval",),
            "offline GRPO with humanline, the authors' sampling",
        ),
        ({"lora": {"r": 16}}, (), "offline GRPO, LoRA of rank 16"),
        (
            HUMANLINE | {"lora": {"r": 8, "alpha": 4, "reference": "adapter"}},
            ("sync_interval", "bounds"),
            "offline GRPO with humanline, LoRA of rank 8 and alpha 4, adapter reference",
        ),
    ],
)
def test_a_cell_is_said_in_words(options, without, words):
    assert cell_words(cell(**options), without=without) == words


def test_a_base_model_is_said_in_words():
    assert cell_words(cell().base) == "base model"
    assert cell_words(cell(base_model="larger").base) == "base model larger"
    assert cell_words(cell(base_model="larger").base, without=["base_model"]) == "base model"


def test_what_most_rows_have_stands_above_them():
    plain, usual = cell(), [cell(objective=name, **HUMANLINE) for name in ("dpo", "kto", "grpo")]
    never = cell(**HUMANLINE | {"sync_interval": None})
    rows, above = rows_in_words([plain.base, plain, *usual, never])
    assert rows[:3] == ["base model", "GRPO", "DPO with humanline"] and above["Data"] == "offline"
    assert rows[-1] == "GRPO with humanline, never synced"
    assert above["Synced"] == "every 4 steps unless a row says otherwise"
    assert above["Bounds, nats"] == "-1.5 and 1.5" and "Objective" not in above


def test_lora_is_said_above_the_rows_or_in_those_that_have_it():
    lora = cell(lora={"r": 16})
    assert rows_in_words([cell(), lora])[0] == ["plain", "LoRA of rank 16"]
    rows, above = rows_in_words([lora.base, lora, lora.model_copy(update={"humanline": True})])
    assert rows == ["base model", "plain", "with humanline"]
    assert above["LoRA"] == "rank 16"


def test_what_differs_between_tasks_is_said_of_each():
    sparser = HUMANLINE | {"sync_interval": 24}
    both = [cell(**HUMANLINE), cell("math_reasoning", data="online", **sparser)]
    rows, above = rows_in_words(both)
    assert rows == ["offline", "online"]
    assert above["Synced"] == "every 4 steps (instructions), every 24 steps (math)"
    assert above["Bounds, nats"] == "-1.5 and 1.5" and above["Sampled"] == "every 8 steps (math)"
    assert (above["Objective"], above["Humanline"]) == ("GRPO", "yes")


def test_the_rows_of_every_table_can_be_told_apart(study):
    for name in study.experiments.tables:
        cells = {(own.task, own.variant): own for own in study.report_cells(name)}
        rows, above = rows_in_words(list(cells.values()))
        told = {(task, words) for (task, _), words in zip(cells, rows, strict=True)}
        assert len(told) == len(cells), name
        texts = [*rows, *above.values()]
        assert not any(word in text for text in texts for word in ("None", "_eps", "humanline-"))


def test_a_comparison_without_words_of_its_own_names_its_cells(study):
    own = next(own for own in study.comparisons() if own.claim.id == "C4")
    (label,) = labels([own])
    assert comparison_words(own, label) == own.test.says == "over 6 times faster"
    silent = own.test.model_copy(update={"says": None})
    words = comparison_words(replace(own, test=silent), label)
    assert words.startswith("seconds of online GRPO, sampled every 8 steps / offline GRPO with ")
