"""Bounds of a study: too many runs, and names that its files cannot have."""

from pathlib import Path

import pytest
import yaml

from humanline.files.validation import ConfigError
from humanline.study.checks import bounds
from humanline.study.claims import Claims
from humanline.study.experiments import MOST_RUNS, Cell, Experiments
from humanline.study.scale.scale import load_scale

CONFIG = Path(__file__).parents[3] / "workflow" / "config"
IF, MATH = "instruction_following", "math_reasoning"
DEFAULTS = yaml.safe_load((CONFIG / "experiments.yaml").read_text())["defaults"]
ONLINE = {"objective": "grpo", "data": "online"}


def experiments(**tables) -> Experiments:
    described = {name: {"description": "A table."} | own for name, own in tables.items()}
    return Experiments.model_validate({"defaults": DEFAULTS, "tables": described})


def table(cells: int = 1, **options) -> dict:
    """A table of as many cells, of which each has a learning rate of its own."""
    rates = [1e-6 * (1 + i) for i in range(cells)]
    row = ONLINE | ({"overrides": {"learning_rate": rates}} if cells > 1 else {})
    return {"task": IF, "cells": [row]} | options


@pytest.fixture(scope="module")
def scale():
    return load_scale(CONFIG / "laptop.yaml")


@pytest.mark.parametrize(
    "more", [{}, {"seeds": list(range(900, 910))}], ids=["seeds of the scale", "own seeds"]
)
def test_the_table_is_named_with_which_there_are_too_many_runs(scale, more):
    """They are counted, not listed: a grid can stand for millions."""
    seeds = len(more.get("seeds", scale.seeds.report))
    few, rest = MOST_RUNS // seeds - 2, {"first": table(2, **more)}
    bounds.require_few_runs(scale, experiments(**rest, second=table(few, **more)))
    with pytest.raises(ConfigError, match=rf"^tables\.second: {few + 1} cells; .*; shorten its"):
        bounds.require_few_runs(scale, experiments(**rest, second=table(few + 1, **more)))


def test_the_rates_to_try_count_as_runs(scale):
    training = scale.tasks[IF].training
    rates = len(training.tune_learning_rates) + len(training.wider_learning_rates or ())
    runs = len(scale.seeds.report) + rates * len(scale.seeds.tune)
    number = MOST_RUNS // runs
    assert number > 1
    bounds.require_few_runs(scale, experiments(one=table(number, tuned=True)))
    with pytest.raises(ConfigError, match=rf"that is {(number + 1) * runs} runs, more than"):
        bounds.require_few_runs(scale, experiments(one=table(number + 1, tuned=True)))


@pytest.mark.parametrize(
    ("names", "left_out", "message"),
    [
        ({"claims": {}}, [], "tables.claims: its files would be those of claims; rename it"),
        ({"Scores": {}}, [], "tables.Scores: its files would be those of Scores; rename it"),
        ({"a": {}, "A": {}}, [], "tables.A: some disks take it for a; rename one"),
        ({"a": {}}, ["A"], "tables.A: some disks take it for a; rename one"),
        (
            {"a": {"task": MATH, "view": "headline"}, "a_curves": {}},
            [],
            "tables.a_curves: the name of the curves of a; rename it",
        ),
    ],
)
def test_files_of_a_table_would_be_those_of_another(names, left_out, message):
    with pytest.raises(ConfigError) as caught:
        bounds.require_names(experiments(**{n: table(**own) for n, own in names.items()}), left_out)
    assert str(caught.value) == message


def test_other_names_are_taken():
    bounds.require_names(experiments(a=table(), b_curves=table()), ["c"])


def test_a_name_that_no_file_can_have_is_told_with_its_length():
    def cell(letters: int) -> Cell:
        return Cell(task=IF, seed=1, base_model="m" * letters, sample_every=8, **ONLINE)

    rest = len(cell(1).name) - 1
    bounds.require_short_names([cell(200 - rest)])
    with pytest.raises(ConfigError, match=r"a name of 201 letters, .*, more than 200; give"):
        bounds.require_short_names([cell(200 - rest), cell(201 - rest)])


def claims(**grids) -> Claims:
    test = {"task": IF, "cell": {"data": "online"}, "against": {"data": "offline"}}
    test |= {"expect": "greater", "each": {"objective": ["grpo"]}} | grids
    claim = {"id": "C1", "claim": "It is.", "source": "ours", "tests": [test]}
    registered = {"registered": {"date": "2026-11-26", "reason": "a test"}}
    return Claims.model_validate({"rule": {}, "claims": [claim | registered]})


@pytest.mark.parametrize(
    ("grids", "pairs"),
    [
        ({"each": {"objective": ["grpo"], "sample_every": [*range(1, 2002)]}}, 2001),
        ({"cell": {"data": "online", "sample_every": [*range(1, 2002)]}}, 2001),
        (
            {
                "cell": {"data": "online", "overrides": {"steps": [*range(1, 52)]}},
                "against": {"data": "offline", "groups": [*range(1, 42)]},
            },
            2091,
        ),
    ],
)
def test_pairs_of_claims_are_counted_over_all_grids(grids, pairs):
    reason = bounds.claims_fault(claims(**grids))
    assert reason.startswith(f"claims.0.tests.0: {pairs} pairs of cells; ")
    assert reason.endswith("shorten its lists")
    assert bounds.claims_fault(claims()) is None


def test_limits_of_a_plan_are_for_tables_that_are_there():
    scale = load_scale(CONFIG / "workstation_cpu.yaml")
    (limited,) = scale.plan.limits.tables
    bounds.require_tables_of_plan(scale, [limited, "other"])
    with pytest.raises(ConfigError, match=rf"^plan\.limits\.tables\.0: no table '{limited}'; use"):
        bounds.require_tables_of_plan(scale, ["other"])
