"""Keys without effect are refused where they stand, and those with an effect are not."""

from pathlib import Path

import pytest
import yaml

from humanline.study.checks import effects
from humanline.study.claims import Claims
from humanline.study.experiments import HumanlineDefaults, Row, Table

CONFIG = Path(__file__).parents[3] / "workflow" / "config"
IF = "instruction_following"
DEFAULTS = {
    task: HumanlineDefaults.model_validate(own)
    for task, own in yaml.safe_load((CONFIG / "experiments.yaml").read_text())["defaults"].items()
}
ONLINE = {"objective": "grpo", "data": "online"}
OFFLINE = {"objective": "grpo", "data": "offline"}
ON = {"humanline": True}


def row_fault(**keys) -> str | None:
    row = Row(**keys)
    return effects.row_fault(row, row.cells(IF, DEFAULTS[IF], seed=0))


@pytest.mark.parametrize(
    ("base", "key", "value"),
    [
        (ONLINE, "data_from", "stronger"),
        (ONLINE, "quartile", 1),
        (ONLINE, "groups", 8),
        (OFFLINE, "sample_every", 8),
        (ONLINE, "perception", "sample"),
        (ONLINE, "log_eps_p", -1.0),
        (ONLINE, "log_eps_r", 1.0),
        (ONLINE, "sync_interval", 4),
        (ONLINE, "sync_alpha", 0.5),
        (ONLINE | ON | {"sync_interval": "none"}, "sync_alpha", 0.5),
        (ONLINE | ON | {"perception": "authors"}, "log_eps_p", -1.0),
        (ONLINE, "lora", {"r": 4, "reference": "cached"}),
    ],
)
def test_a_key_that_no_cell_of_a_row_reads_is_named_with_its_readers(base, key, value):
    field = "lora.reference" if key == "lora" else key
    reason = row_fault(**base, **{key: value})
    assert reason.startswith(f"{field}: only ") and reason.endswith("here are none; remove it")


@pytest.mark.parametrize(
    ("base", "key", "value"),
    [
        (OFFLINE, "quartile", 1),
        (OFFLINE, "groups", 8),
        (ONLINE, "sample_every", 8),
        (ONLINE | ON, "perception", "sample"),
        (ONLINE | ON, "log_eps_p", -1.0),
        (ONLINE | ON, "sync_interval", 4),
        (ONLINE | {"trust_region": True, "sync_interval": 2}, "sync_alpha", 0.5),
        (ONLINE, "lora", {"r": 4}),
        # One of the cells is enough.
        (ONLINE | {"humanline": [False, True]}, "log_eps_p", -1.0),
        ({"objective": "grpo", "data": ["offline", "online"]}, "sample_every", 8),
        # Null is as if left out.
        (ONLINE, "quartile", None),
    ],
)
def test_a_key_that_some_cell_reads_is_none(base, key, value):
    assert row_fault(**base, **{key: value}) is None


@pytest.mark.parametrize(
    ("keys", "field"),
    [
        ({"objective": ["grpo", "grpo"], "data": "online"}, "objective"),
        (ONLINE | {"sample_every": [8, 4, 8]}, "sample_every"),
        (ONLINE | {"lora": [{"r": 4}, {"r": 4}]}, "lora"),
        (ONLINE | {"overrides": {"beta": [0.1, 0.1]}}, "overrides.beta"),
    ],
)
def test_a_value_that_is_listed_twice(keys, field):
    assert row_fault(**keys).startswith(f"{field}: ")
    assert row_fault(**keys).endswith("is listed twice; remove one")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"cells": [ONLINE | ON, {"objective": "grpo", "data": "online", **ON}]},
            "cells.1: the rows before it have all of its cells; remove it",
        ),
        (
            {"cells": [OFFLINE, OFFLINE | {"sample_every": 8}]},
            "cells.1.sample_every: only online cells read it, and here are none; remove it",
        ),
        (
            {"cells": [ONLINE | {"overrides": {"learning_rate": 1e-4}}], "tuned": True},
            "tuned: every cell has a rate of its own; remove it",
        ),
        ({"cells": [ONLINE, ONLINE | ON]}, None),
    ],
)
def test_what_a_table_says_in_vain(options, reason):
    table = Table.model_validate({"task": IF, "description": "A table."} | options)
    cells = [row.cells(IF, DEFAULTS[IF], seed=0) for row in table.cells]
    assert effects.table_fault(table, cells) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        (
            {"cell": ONLINE | {"quartile": 1}},
            "claims.0.tests.0.cell.quartile: only offline cells read it, and here are none; "
            "remove it",
        ),
        (
            {"each": {"sync_alpha": [0.5, 0.6]}},
            "claims.0.tests.0.each.sync_alpha: only cells that sync, with humanline or "
            "trust_region read it, and here are none; remove it",
        ),
        (
            {"each": {"sample_every": [8, 4, 8]}},
            "claims.0.tests.0.each.sample_every: has a value twice; remove one",
        ),
    ],
)
def test_what_a_claim_says_in_vain(changes, reason):
    test = {"task": IF, "cell": ONLINE, "against": OFFLINE, "expect": "greater"} | changes
    assert effects.claims_fault(_claims([test]), DEFAULTS) == reason


def test_a_test_that_is_there_twice():
    test = {"task": IF, "cell": ONLINE, "against": OFFLINE, "expect": "greater"}
    expected = "claims.0.tests.1: the same as tests.0; remove one"
    assert effects.claims_fault(_claims([test, test]), DEFAULTS) == expected


def _claims(tests: list[dict]) -> Claims:
    claim = {"id": "C1", "claim": "It is.", "source": "ours", "tests": tests}
    claim |= {"registered": {"date": "2026-11-26", "reason": "a test"}}
    return Claims.model_validate({"rule": {}, "claims": [claim]})
