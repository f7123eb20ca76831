"""Claims: what their file may say, which cells they compare, and where faults are told."""

import math
import shutil
from pathlib import Path

import pytest
import yaml

from humanline.files.validation import ConfigError, load_yaml, validate
from humanline.study.claims import Claims, comparisons
from humanline.study.experiments import HumanlineDefaults
from humanline.study.scale.scale import load_scale
from humanline.study.study import Study, load_study
from humanline.study.table_checks import claims_at

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
DEFAULTS = {
    task: HumanlineDefaults(sample_every=8, sync_interval=4, log_eps_p=-1.5, log_eps_r=1.5)
    for task in ("instruction_following", "math_reasoning")
}
TEST = {
    "task": "instruction_following",
    "cell": {"objective": "dpo", "data": "online"},
    "against": {"objective": "dpo", "data": "offline"},
    "expect": "greater",
}


def found(**changes):
    test = {key: value for key, value in (TEST | changes).items() if value is not None}
    registered = {"date": "2026-11-26", "reason": "a test"}
    claim = {"id": "C1", "claim": "A.", "source": "notes", "registered": registered}
    claim["tests"] = [test]
    claims = Claims(rule={}, claims=[claim])
    return [comparison for _, comparison in comparisons(claims, DEFAULTS)]


def test_cells_are_rows_with_the_tables_defaults():
    (own,) = found(cell={"objective": "kto", "data": "offline", "humanline": True})
    assert own.cell.variant == "kto-offline-humanline-k4-clip-1.5_1.5"
    assert own.against.variant == "dpo-offline"


def test_each_is_for_both_cells_and_a_grid_for_one():
    own = found(
        each={"objective": ["dpo", "kto"]},
        cell={"data": "offline", "humanline": True, "sync_interval": [1, 2]},
        against={"data": "offline"},
    )
    assert [(c.cell.objective, c.cell.sync_interval, c.against.variant) for c in own] == [
        ("dpo", 1, "dpo-offline"),
        ("dpo", 2, "dpo-offline"),
        ("kto", 1, "kto-offline"),
        ("kto", 2, "kto-offline"),
    ]


def test_the_base_model_is_that_of_the_cell():
    cell = {"objective": "dpo", "data": "online", "base_model": "other"}
    (own,) = found(cell=cell, against="base")
    assert own.against.variant == "base-other"


def test_what_is_claimed_lies_between_bounds():
    (own,) = found(to=6)
    assert own.center == 6 and own.bounds == (6, 6)
    (own,) = found(expect="equivalent", margin=1.1)
    assert own.bounds == pytest.approx((1 / 1.1, 1.1))
    (own,) = found(compare="difference", expect="equivalent", to=3, margin=2)
    assert own.bounds == (1, 5)
    (own,) = found(compare="difference")
    assert own.bounds == (0, 0)


def test_not_less_is_above_the_lower_bound():
    (ratio,) = found(expect="not_less", margin=1.25)
    assert ratio.bounds == (0.8, 0.8) and ratio.hypotheses == [(math.log(0.8), "greater")]
    (points,) = found(compare="difference", expect="not_less", margin=2)
    assert points.hypotheses == [(-2, "greater")]
    assert points.words == "dpo-online-every8 - dpo-offline > -2"


def test_a_mean_comes_before_its_points_in_their_order():
    effects = {"dpo": 1, "kto": 2, "grpo": 4}
    mean, *points = found(
        each={"objective": ["grpo", "dpo", "kto"]},
        over="mean",
        cell={"data": "online"},
        against={"data": "offline"},
        paper_effect={"value": effects, "source": "notes"},
    )
    assert (mean.role, [cell.objective for cell, _ in mean.pairs]) == (
        "mean",
        ["grpo", "dpo", "kto"],
    )
    assert [(own.role, own.point["objective"]) for own in points] == [
        ("point", "grpo"),
        ("point", "dpo"),
        ("point", "kto"),
    ]
    assert mean.paper_effect == pytest.approx(2)
    assert [own.paper_effect for own in points] == [4, 1, 2]
    assert mean.words.startswith("mean of grpo-online-every8 / grpo-offline, dpo-online")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "dpo-online-every8 / dpo-offline > 1"),
        ({"expect": "less", "to": 0.5}, "dpo-online-every8 / dpo-offline < 0.5"),
        (
            {"compare": "difference", "expect": "equivalent", "margin": 2},
            "dpo-online-every8 - dpo-offline = 0 +- 2",
        ),
        (
            {"measure": "training_seconds", "expect": "equivalent", "to": 12, "margin": 1.5},
            "seconds of dpo-online-every8 / dpo-offline = 12 x/ 1.5",
        ),
    ],
)
def test_a_comparison_in_words(changes, words):
    (own,) = found(**changes)
    assert own.words == words


REMOVE = object()
MISTAKES = {
    "no rule": (lambda c: c.pop("rule"), r"rule: missing; add"),
    "unknown source": (
        lambda c: c["claims"][0].update(source="hearsay"),
        r"claims\.0\.source: .*'hearsay'; change",
    ),
    "two of a name": (
        lambda c: c["claims"][1].update(id="C1"),
        r"claims\.1\.id: C1 is there twice; rename",
    ),
    "no margin": (
        lambda c: c["claims"][1]["tests"][1].pop("margin"),
        r"claims\.1\.tests\.1\.margin: missing, but not_less needs it; add",
    ),
    "margin of an inequality": (
        lambda c: c["claims"][0]["tests"][0].update(margin=2),
        r"claims\.0\.tests\.0\.margin: only equivalent and not_less have one, not greater; remove",
    ),
    "margin of nothing": (
        lambda c: c["claims"][1]["tests"][1].update(margin=0.9),
        r"claims\.1\.tests\.1\.margin: 0\.9 is no factor above 1; change",
    ),
    "two margins": (
        lambda c: c["claims"][1]["tests"][1].update(negligible=1.1),
        r"claims\.1\.tests\.1\.negligible: not_less has a margin instead; remove",
    ),
    "no effect at all": (
        lambda c: c["claims"][0]["tests"][0].update(negligible=1),
        r"claims\.0\.tests\.0\.negligible: 1 is no factor above 1; change",
    ),
    "negative ratio": (
        lambda c: c["claims"][0]["tests"][0].update(to=-1),
        r"claims\.0\.tests\.0\.to: -1 is not positive",
    ),
    "no registration": (
        lambda c: c["claims"][0].pop("registered"),
        r"claims\.0\.registered: missing; add",
    ),
    "a mean over nothing": (
        lambda c: c["claims"][5]["tests"][0].update(over="mean"),
        r"claims\.5\.tests\.0\.over: mean, but each is empty; give",
    ),
    "a mean over a grid": (
        lambda c: c["claims"][0]["tests"][0]["cell"].update(sample_every=[8, 16]),
        r"claims\.0\.tests\.0\.cell: with over, each combination of each has one pair .*; give",
    ),
    "an effect of what is not there": (
        lambda c: c["claims"][0]["tests"][0]["paper_effect"]["value"].pop("kto"),
        r"claims\.0\.tests\.0\.paper_effect\.value: has dpo, grpo; name all values",
    ),
    "an effect that is no ratio": (
        lambda c: c["claims"][0]["tests"][0].update(paper_effect={"value": 0, "source": "notes"}),
        r"claims\.0\.tests\.0\.paper_effect\.value: 0 is not positive",
    ),
    "seconds that decide": (
        lambda c: c["claims"][5].update(primary=True),
        r"claims\.5\.tests\.0\.measure: training_seconds depend on .*; measure score, or remove",
    ),
    "points of seconds": (
        lambda c: c["claims"][5]["tests"][0].update(compare="difference"),
        r"claims\.5\.tests\.0\.compare: training_seconds are compared as a ratio; remove",
    ),
    "each of nothing": (
        lambda c: c["claims"][0]["tests"][0]["each"].update(objective=[]),
        r"claims\.0\.tests\.0\.each\.objective: .*; change",
    ),
    "each of lists": (
        lambda c: c["claims"][0]["tests"][0]["each"].update(objective=[["dpo", "kto"]]),
        r"claims\.0\.tests\.0\.each\.objective\.0.*; change",
    ),
    "each of what is not": (
        lambda c: c["claims"][0]["tests"][0]["each"].update(colour=["red"]),
        r"claims\.0\.tests\.0\.each\.colour: unknown key; use one of base_model, ",
    ),
    "task of a cell": (
        lambda c: c["claims"][0]["tests"][0]["cell"].update(task="math_reasoning"),
        r"claims\.0\.tests\.0\.cell\.task: the test has one task for both cells; remove",
    ),
    "humanline and trust region": (
        lambda c: c["claims"][1]["tests"][0]["cell"].update(trust_region=True),
        r"claims\.1\.tests\.0\.cell\.trust_region: true, but humanline is true, too; choose",
    ),
    "unknown option": (
        lambda c: c["claims"][0]["tests"][0]["cell"].update(overrides={"lr": 1}),
        r"claims\.0\.tests\.0\.cell\.overrides\.lr: unknown key; use one of .*[^e]$",
    ),
    "a cell and itself": (
        lambda c: c["claims"][0]["tests"][0]["cell"].update(data="offline"),
        r"claims\.0\.tests\.0\.against: dpo-offline would be compared with itself; change",
    ),
    "seconds of a base model": (
        lambda c: c["claims"][5]["tests"][0].update(against="base"),
        r"claims\.5\.tests\.0\.against: a base model is not trained; name",
    ),
    "field given twice": (
        lambda c: c["claims"][0]["tests"][0]["cell"].update(objective="dpo"),
        r"claims\.0\.tests\.0\.cell\.objective: given in each, too; remove",
    ),
    "cell that is none": (
        lambda c: c["claims"][0]["tests"][0]["cell"].update(data="inline"),
        r"claims\.0\.tests\.0\.cell\.data: .*; change",
    ),
    "unknown field": (
        lambda c: c["claims"][0]["tests"][0]["against"].update(colour="red"),
        r"claims\.0\.tests\.0\.against\.colour: unknown key; remove",
    ),
    "cell of no table": (
        lambda c: c["claims"][0]["tests"][0]["cell"].update(sample_every=5),
        r"claims\.0\.tests\.0: tables of experiments\.yaml have no seed with both "
        r"dpo-online-every5 and dpo-offline \(instruction_following\); add them, or remove",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake, tmp_path):
    change, said = MISTAKES[mistake]
    config = shutil.copytree(CONFIG, tmp_path / "config")
    content = yaml.safe_load((config / "claims.yaml").read_text())
    change(content)
    (config / "claims.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=said) as error:
        load_study(config / "smoke.yaml", config / "experiments.yaml", tmp_path)
    assert str(error.value).startswith(f"{config}/claims.yaml: ")
    assert len(str(error.value).splitlines()) == 1


def test_without_a_file_there_are_no_claims(tmp_path):
    config = shutil.copytree(CONFIG, tmp_path / "config")
    (config / "claims.yaml").unlink()
    study = load_study(config / "smoke.yaml", config / "experiments.yaml", tmp_path)
    assert study.claims is None and study.comparisons() == []


@pytest.mark.parametrize("scale", ["laptop", "smoke", "workstation", "one_gpu", "paper"])
def test_every_claim_of_the_paper_is_compared_at_every_scale(scale, tmp_path):
    study = load_study(CONFIG / f"{scale}.yaml", CONFIG / "experiments.yaml", tmp_path)
    compared = {c.claim.id for c in study.comparisons() if c.claim.source != "ours"}
    # What needs other models than the package's is said to be dropped.
    lacking = {"C10"} if scale == "workstation" else set()
    assert compared == {f"C{number}" for number in range(1, 13)} - lacking
    assert lacking <= set(study.claims.dropped)
    for comparison in study.comparisons():
        pairs = study.pairs(comparison)
        assert pairs and all(first.seed == second.seed for first, second in pairs)
        assert not {cell.seed for pair in pairs for cell in pair} & set(study.scale.seeds.tune)


def test_more_seeds_are_for_what_a_primary_claim_compares(tmp_path):
    study = load_study(CONFIG / "laptop.yaml", CONFIG / "experiments.yaml", tmp_path)
    many, few = list(range(21, 31)), [21, 22]
    variants = {}
    for table in study.tables(extra=True):
        for cell in study.report_cells(table):
            if study.experiments.tables[table].view != "cost" and cell.objective != "base":
                variants.setdefault((cell.task, cell.variant), set()).add(cell.seed)
    primary = {
        (cell.task, cell.variant)
        for comparison in study.comparisons()
        if comparison.claim.primary
        for cell in comparison.cells
    }
    assert len(primary) == 28 < len(variants)
    for variant, seeds in variants.items():
        assert sorted(seeds) == (many if variant in primary else few)
    assert study.report_seeds("math_reasoning") == many and study.report_seeds("cost") == few
    for comparison in study.comparisons():
        assert not comparison.claim.primary or study.common_seeds(comparison.cells) == many


def test_only_what_is_shown_or_tested_has_a_curve(tmp_path):
    study = load_study(CONFIG / "laptop.yaml", CONFIG / "experiments.yaml", tmp_path)
    with_curve = {
        (run.cell.task, run.cell.variant, run.cell.seed)
        for run in map(study.resolve, study.all_cells())
        if run.has_curve
    }
    math = {("math_reasoning", f"grpo-online-every{often}", seed) for often in (1, 64)
            for seed in range(21, 31)}  # fmt: skip
    assert math < with_curve
    judged = {row for row in with_curve if row[0] == "instruction_following"}
    assert len({variant for _, variant, _ in judged}) == 12  # of the table of cost
    assert {seed for *_, seed in judged} == {21, 22}
    claims = study.claims.model_copy(
        update={
            "claims": [
                claim.model_copy(
                    update={
                        "tests": [
                            test.model_copy(update={"measure": "curve_mean"})
                            for test in claim.tests
                        ]
                    }
                )
                for claim in study.claims.claims
                if claim.id == "C8"
            ]
        }
    )
    tables = {"ablation": study.experiments.tables["ablation"]}
    experiments = study.experiments.model_copy(update={"tables": tables})
    asked = Study(study.scale, experiments, {}, tmp_path, claims)
    cells = [run.cell for run in map(asked.resolve, asked.all_cells()) if run.has_curve]
    seeds = [*study.scale.seeds.report, *study.scale.seeds.pilot]
    assert len(cells) == 6 * len(seeds) and all(cell.humanline for cell in cells)


def test_the_pilot_measures_the_comparisons_of_all_claims(tmp_path):
    study = load_study(CONFIG / "laptop.yaml", CONFIG / "experiments.yaml", tmp_path)
    piloted = {(cell.task, cell.name) for cell in study.evaluated("power")}
    compared = study.power_request().measured.compared
    assert [own for own, _ in compared] == study.comparisons()
    for comparison, pairs in compared:
        runs = [run for pair in pairs for side in pair for run in side]
        assert {(run.cell.task, run.cell.name) for run in runs} <= piloted
        if comparison.claim.primary:
            assert {run.cell.seed for run in runs} == set(study.scale.seeds.pilot)


def test_extra_tables_are_no_part_of_all(tmp_path):
    study = load_study(CONFIG / "laptop.yaml", CONFIG / "experiments.yaml", tmp_path)
    assert "staleness" not in study.tables_of("all") and "staleness" in study.tables_of(
        "all_tables"
    )
    assert set(study.tables_of("all")) < set(study.tables_of("all_tables"))
    assert study.tables_of("tune") == []
    compared = {(cell.task, cell.variant) for c in study.comparisons() for cell in c.cells}
    made = {(cell.task, cell.variant) for cell in study.evaluated("all")}
    assert compared <= made


def test_tables_and_claims_say_which_of_a_scales_models_are_absent(tmp_path):
    study = load_study(CONFIG / "workstation.yaml", CONFIG / "experiments.yaml", tmp_path)
    reason = study.scale.tasks["instruction_following"].absent_models["larger"]
    told = f"larger and other ({reason})"
    tables = study.experiments.tables
    assert study.left_out["scale_online"] == told and "scale_online" not in tables
    assert tables["scale"].description.endswith(f"Not at this scale: {told}.")
    assert {name for _, name in tables["scale"].base_models} == {"stronger"}
    assert study.claims.dropped["C10"] == f"not tested at this scale, {told}"
    assert "C10" not in study.claims.primary and "C10b" in {own.id for own in study.claims.claims}

    scale = load_scale(CONFIG / "laptop.yaml")
    task = scale.tasks["instruction_following"]
    lacking = task.model_copy(update={"absent_models": {"other": "made elsewhere"}})
    scale = scale.model_copy(update={"tasks": {**scale.tasks, "instruction_following": lacking}})
    claims = validate(Claims, load_yaml(CONFIG / "claims.yaml"), CONFIG / "claims.yaml")
    found = {own.id: own for own in claims_at(scale, claims).claims}
    assert found["C10"].tests[0].each == {"base_model": ["larger"]}
    assert found["C10"].untested.endswith("; and at this scale, other (made elsewhere)")
    assert found["C1"] == claims.claims[0]
