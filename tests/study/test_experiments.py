"""Cells: how tables expand into them, what their names say, and what each hash depends on."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humanline.files.validation import ConfigError, validate
from humanline.study.experiments import (
    OVERRIDES,
    Cell,
    Experiments,
    HumanlineDefaults,
    Row,
)
from humanline.study.runs.hashes import content_hash
from humanline.study.scale.sampling import Generation
from humanline.study.study import Study, load_study
from humanline.study.table_checks import possible_at
from humanline.study.tasks import TASKS
from humanline.study.values import OBJECTIVES, Lora

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
DEFAULTS = HumanlineDefaults(sample_every=8, sync_interval=4, log_eps_p=-1.5, log_eps_r=1.5)
INSTRUCTIONS, MATH = "instruction_following", "math_reasoning"


@pytest.fixture
def study() -> Study:
    return load_study(CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", Path("results"))


def cells(seed: int = 1, **row) -> list[Cell]:
    return Row(**row).cells(MATH, DEFAULTS, seed)


def table(*rows, task=MATH, **options) -> dict:
    return {"task": task, "description": "", "cells": list(rows), **options}


def with_tables(study: Study, **tables) -> Study:
    experiments = {"defaults": {task: DEFAULTS.model_dump() for task in TASKS}, "tables": tables}
    return Study(study.scale, Experiments(**experiments), study.learning_rates, study.root)


class TestRows:
    def test_a_grid_expands_in_the_order_of_the_file(self):
        grid = cells(objective=["dpo", "kto"], data=["offline", "online"], humanline=[False, True])
        assert [cell.variant for cell in grid] == [
            "dpo-offline",
            "dpo-offline-humanline-k4-clip-1.5_1.5",
            "dpo-online-every8",
            "dpo-online-every8-humanline-k4-clip-1.5_1.5",
            "kto-offline",
            "kto-offline-humanline-k4-clip-1.5_1.5",
            "kto-online-every8",
            "kto-online-every8-humanline-k4-clip-1.5_1.5",
        ]

    def test_every_option_can_be_a_grid(self):
        bounds = {"log_eps_p": [-2, -1], "log_eps_r": [1, 2]}
        every = {"sample_every": [1, 2], "sync_interval": [3, 4]}
        grid = cells(objective="grpo", data="online", humanline=True, **every, **bounds)
        assert len({cell.name for cell in grid}) == 2**4

    def test_what_a_row_leaves_open_comes_from_the_defaults(self):
        (cell,) = cells(objective="grpo", data="online", humanline=True)
        assert DEFAULTS.model_dump().items() <= cell.model_dump().items()

    def test_what_a_row_says_wins_over_the_defaults(self):
        said = {"sample_every": 64, "sync_interval": 2, "log_eps_p": -0.5, "log_eps_r": 0.0}
        (cell,) = cells(objective="grpo", data="online", humanline=True, **said)
        assert said.items() <= cell.model_dump().items()

    @given(every=st.integers(1, 99), k=st.integers(1, 99), bound=st.floats(0, 9))
    def test_what_means_nothing_for_a_cell_is_cleared(self, every, k, bound):
        options = {
            "sample_every": every,
            "sync_interval": k,
            "log_eps_p": -bound,
            "log_eps_r": bound,
        }
        (offline,) = cells(objective="dpo", data="offline", humanline=True, **options)
        assert offline.sample_every is None and offline.sync_interval == k
        (plain,) = cells(objective="dpo", data="online", **options)
        assert plain.sample_every == every
        assert plain.sync_interval is plain.log_eps_p is plain.log_eps_r is None

    def test_none_leaves_out_what_the_defaults_would_give(self):
        nothing = {"sync_interval": "none", "log_eps_p": "none", "log_eps_r": "none"}
        (cell,) = cells(objective="grpo", data="offline", humanline=True, **nothing)
        assert cell.sync_interval is cell.log_eps_p is cell.log_eps_r is None
        assert cell.variant == "grpo-offline-humanline-never-synced-unclipped"
        (half,) = cells(objective="grpo", data="offline", humanline=True, log_eps_p="none")
        assert half.variant == "grpo-offline-humanline-k4-clipnone_1.5"

    def test_the_authors_sampling_has_no_bounds(self):
        perceptions = ["clip", "sample", "authors", "second_moment"]
        options = {"perception": perceptions, "log_eps_p": -1}
        grid = cells(objective="kto", data="offline", humanline=True, **options)
        assert [cell.variant.removeprefix("kto-offline-humanline-k4-") for cell in grid] == [
            "clip-1_1.5",
            "clip-1_1.5-sample",
            "authors",
            "second-moment",
        ]
        assert grid[-1].log_eps_p is grid[-1].log_eps_r is None

    def test_a_trust_region_syncs_and_clips_nothing(self):
        options = {"sync_interval": [4, 16], "sync_alpha": 0.6, "perception": "sample"}
        grid = cells(objective="dpo", data="offline", trust_region=True, **options)
        assert [cell.variant for cell in grid] == [
            "dpo-offline-trust-region-k4-alpha0.6",
            "dpo-offline-trust-region-k16-alpha0.6",
        ]
        assert {cell.perception for cell in grid} == {None}

    def test_data_of_others_are_for_offline_training(self):
        options = {"data": ["offline", "online"], "data_from": "weaker", "quartile": 1}
        offline, online = cells(objective="dpo", **options)
        assert offline.variant == "dpo-offline-from-weaker-quartile1"
        assert offline.data_base.name == "base-weaker-s1" and offline.base.name == "base-s1"
        assert online.data_from is online.quartile is None

    def test_a_selection_is_of_offline_data_and_a_last_sampling_of_online_training(self):
        options = {"select": "spread", "last_sampling": 32, "data": ["offline", "online"]}
        offline, online = cells(objective="dpo", **options)
        assert offline.variant == "dpo-offline-best-spread"
        assert online.variant == "dpo-online-every8-until32"

    def test_humanline_may_sync_softly(self):
        options = {"humanline": True, "sync_alpha": 0.1, "sync_interval": [4, "none"]}
        soft, never = cells(objective="kto", data="offline", **options)
        assert soft.variant == "kto-offline-humanline-k4-alpha0.1-clip-1.5_1.5"
        assert never.sync_alpha is None

    def test_lora_is_in_the_name_without_its_defaults(self):
        usual = {"r": 16, "alpha": 32, "reference": "cached"}
        grid = ["none", usual, {"r": 8, "alpha": 4}, {"r": 16, "reference": "adapter"}]
        plain = {"objective": "dpo", "data": "offline"}
        humanline = plain | {"humanline": True, "log_eps_p": "none", "log_eps_r": "none"}
        names = [cell.variant for cell in cells(**humanline, lora=grid)]
        start = "dpo-offline-humanline-k4-unclipped"
        assert names == [start] + [
            f"{start}-{part}" for part in ("lora16", "lora8a4", "lora16-adapter")
        ]
        # Without syncs it does not matter where the reference is; with soft ones it has one place.
        assert cells(**plain, lora=grid[-1]) == cells(**plain, lora=usual)
        (soft,) = cells(**humanline, sync_alpha=0.5, lora=grid[-1])
        assert soft.variant == "dpo-offline-humanline-k4-alpha0.5-unclipped-lora16"

    def test_a_scale_gives_lora_to_the_rows_that_do_not_say(self, study):
        lora = Lora(r=4)
        training = study.scale.tasks[MATH].training.model_copy(update={"lora": lora})
        task = study.scale.tasks[MATH].model_copy(update={"training": training})
        scale = study.scale.model_copy(update={"tasks": study.scale.tasks | {MATH: task}})
        row = {"objective": "grpo", "data": "online"}
        rows = table(row, row | {"lora": "none"}, row | {"lora": {"r": 2}})
        own, _ = possible_at(scale, with_tables(study, a=rows).experiments)
        own = Study(scale, own, {}, study.root)
        names = ["grpo-online-every8-lora4-s1", "grpo-online-every8-s1"]
        assert [cell.name for cell in own.report_cells("a")][1:3] == names
        full = own.run(MATH, names[1]).hashes.manifest
        assert full == with_tables(study, a=rows).run(MATH, names[1]).hashes.manifest
        manifest = own.run(MATH, names[0]).hashes.manifest
        assert manifest["cell"]["lora"] == {"r": 4} and "lora" not in manifest["training"]
        assert manifest["learning_rate"] == 10 * full["learning_rate"]

    @pytest.mark.parametrize(
        ("lora", "said"),
        [
            ({"r": 4, "rank": 4}, "rank: unknown key"),
            ({"r": 0}, "r: "),
            ("all", "lora"),
            ({}, "r: missing"),
        ],
    )
    def test_a_wrong_lora_is_one_line(self, lora, said, tmp_path):
        row = {"objective": "grpo", "data": "online", "lora": lora}
        content = {"defaults": {MATH: DEFAULTS.model_dump()}, "tables": {"a": table(row)}}
        with pytest.raises(ConfigError) as caught:
            validate(Experiments, content, tmp_path / "experiments.yaml")
        assert said in str(caught.value) and "\n" not in str(caught.value)

    def test_overrides_can_be_grids(self):
        overrides = {"max_grad_norm": [0.1, 4], "learning_rate_factor": 2}
        grid = cells(objective="dpo", data="offline", overrides=overrides)
        assert [cell.overrides["max_grad_norm"] for cell in grid] == [0.1, 4]
        assert {cell.overrides["learning_rate_factor"] for cell in grid} == {2}

    def test_repeated_rows_give_one_cell(self, study):
        row = {"objective": "grpo", "data": "online"}
        study = with_tables(study, a=table(row, row | {"sample_every": 8}))
        names = [cell.name for cell in study.report_cells("a")]
        assert names == ["base-s1", "grpo-online-every8-s1"]


positive = st.floats(1e-12, 1e12)
rows = st.fixed_dictionaries(
    {
        "objective": st.sampled_from(list(OBJECTIVES)),
        "data": st.sampled_from(["offline", "online"]),
        "base_model": st.none() | st.sampled_from(["weaker", "stronger"]),
        "data_from": st.none() | st.sampled_from(["weaker", "stronger", "none"]),
        "quartile": st.none() | st.integers(1, 4),
        "humanline": st.booleans(),
        "trust_region": st.booleans(),
        "perception": st.sampled_from(["clip", "sample", "authors", "second_moment"]),
        "select": st.none() | st.sampled_from(["spread", "score", "none"]),
        "last_sampling": st.none() | st.integers(1, 300),
        "sync_alpha": st.none() | st.floats(1e-3, 1),
        "sample_every": st.none() | st.integers(1, 300),
        "sync_interval": st.none() | st.just("none") | st.integers(1, 300),
        "log_eps_p": st.none() | st.just("none") | st.floats(-9, 0),
        "log_eps_r": st.none() | st.just("none") | st.floats(0, 9),
        "lora": st.none()
        | st.just("none")
        | st.fixed_dictionaries(
            {"r": st.integers(1, 3)},
            optional={
                "alpha": st.floats(0.5, 6),
                "reference": st.sampled_from(["cached", "adapter"]),
            },
        ),
        "overrides": st.dictionaries(st.sampled_from(OVERRIDES), positive, max_size=3),
    }
)
any_cell = st.builds(
    lambda row, task, seed: Row(**row).cells(task, DEFAULTS, seed)[0],
    rows,
    st.sampled_from(TASKS),
    st.integers(0, 200),
).filter(lambda cell: not (cell.humanline and cell.trust_region))  # which a study refuses


class TestNames:
    @given(first=any_cell, second=any_cell)
    def test_different_cells_never_share_task_and_name(self, first, second):
        same = (first.task, first.name) == (second.task, second.name)
        assert first == second or not same

    @given(cell=any_cell, key=st.sampled_from(OVERRIDES), value=positive, ulps=st.integers(1, 9))
    def test_a_hair_of_difference_shows(self, cell, key, value, ulps):
        one = cell.model_copy(update={"overrides": {key: value}})
        other = cell.model_copy(update={"overrides": {key: value * (1 + ulps * 2**-50)}})
        assert one.name != other.name

    @given(cell=any_cell)
    def test_a_name_is_one_part_of_a_path_and_ends_in_the_seed(self, cell):
        assert "/" not in cell.name and " " not in cell.name
        assert cell.name == f"{cell.variant}-s{cell.seed}"

    def test_overrides_are_in_order_and_short(self):
        (cell,) = cells(objective="grpo", data="offline", overrides={"epsilon": 0.1, "beta": 2})
        assert cell.variant == "grpo-offline-beta=2-epsilon=0.1"

    def test_the_base_of_a_cell(self):
        (cell,) = cells(objective="grpo", data="offline", seed=7)
        assert cell.base == Cell(task=MATH, objective="base", seed=7) == cell.base.base
        assert cell.base.name == "base-s7"


class TestStudy:
    def test_a_shared_cell_of_two_tables_is_one_cell(self, study):
        row = {"objective": "grpo", "data": "online"}
        other = row | {"sample_every": 64}
        study = with_tables(study, a=table(row, tuned=True), b=table(row, other, tuned=True))
        names = [cell.name for cell in study.all_cells()]
        assert names.count("grpo-online-every8-s1") == names.count("base-s1") == 1
        assert len(names) == len(set(names)) == 2 * (1 + 2)

    def test_tables_of_two_tasks_share_names_but_not_cells(self, study):
        row = {"objective": "grpo", "data": "online"}
        tables = {task: table(row, task=task) for task in (INSTRUCTIONS, MATH)}
        found = with_tables(study, **tables).all_cells()
        assert sum(cell.name == "grpo-online-every8-s1" for cell in found) == 2

    def test_a_table_has_the_scales_seeds_or_its_own(self, study):
        row = {"objective": "grpo", "data": "online"}
        study = with_tables(study, a=table(row, tuned=True), b=table(row, seeds=[5, 6]))
        assert [cell.seed for cell in study.report_cells("a")] == [1, 1]
        assert [cell.seed for cell in study.report_cells("b")] == [5, 6, 5, 6]
        assert study.find(MATH, "base-s6").seed == 6
        assert {cell.seed for cell in study.rates.tune_cells(MATH)} == {101}

    def test_only_tuning_looks_at_validation_prompts(self, study):
        assert study.scale.seeds.split(101) == "validation"
        assert study.scale.seeds.split(1) == study.scale.seeds.split(77) == "evaluation"

    def test_every_variant_is_tuned_at_every_rate(self, study):
        row = {"objective": "grpo", "data": "online", "humanline": [False, True]}
        fixed = {"objective": "grpo", "data": "offline", "overrides": {"learning_rate": 0.5}}
        beta = {"objective": "grpo", "data": "offline", "overrides": {"beta": 0.5}}
        rough = beta | {"overrides": {"learning_rate_factor": 4}}
        other = table(row | {"sample_every": 4})
        study = with_tables(study, a=table(row, fixed, beta, rough, tuned=True), b=other)
        tuned = study.rates.tune_cells(MATH)
        assert len(tuned) == 3 and all(cell.overrides["learning_rate"] == 1e-3 for cell in tuned)
        assert tuned[2].overrides == {"beta": 0.5, "learning_rate": 1e-3}
        assert not study.rates.tune_cells(INSTRUCTIONS)

    def test_a_learning_rate_is_overridden_else_tuned_else_the_default(self, study):
        (plain,) = cells(objective="grpo", data="online")
        (own,) = cells(objective="grpo", data="online", overrides={"learning_rate": 0.5})
        assert study.resolve(plain).learning_rate == 1e-3
        chosen = {MATH: {cell.variant: {"learning_rate": 0.25} for cell in (plain, own)}}
        study = Study(study.scale, study.experiments, chosen, study.root)
        assert study.resolve(plain).learning_rate == 0.25
        assert study.resolve(own).learning_rate == 0.5
        assert study.resolve(plain.model_copy(update={"task": INSTRUCTIONS})).learning_rate == 1e-3

    def test_an_untuned_cell_takes_the_rate_of_the_nearest_tuned_one(self, study):
        tuned = [
            {"objective": "grpo", "data": "online", "sample_every": [1, 64], "humanline": True},
            {"objective": "grpo", "data": "offline"},
        ]
        study = with_tables(study, a=table(*tuned, tuned=True))
        variants = [cell.variant for cell in study.report_cells("a")][1:]
        rates = dict(zip(variants, (0.25, 0.5, 0.125), strict=True))
        chosen = {MATH: {name: {"learning_rate": rate} for name, rate in rates.items()}}
        study = Study(study.scale, study.experiments, chosen, study.root)

        def rate(**row):
            return study.resolve(cells(objective="grpo", **row)[0]).learning_rate

        often = {"data": "online", "sync_interval": 2, "humanline": True}
        assert rate(**often, sample_every=64) == 0.5
        assert rate(**often, sample_every=3) == 0.25
        assert rate(data="offline", quartile=2) == 0.125
        assert rate(data="offline", overrides={"learning_rate_factor": 4}) == 0.5
        assert rate(data="offline", humanline=True) == 1e-3  # no kin: the default
        assert rate(data="offline", trust_region=True) == 1e-3

    def test_lora_learns_from_the_whole_models_rate_and_not_the_other_way_round(self, study):
        row = {"objective": "grpo", "data": "online"}
        rows = (row, row | {"lora": {"r": 4}}, row | {"sample_every": 2, "lora": {"r": 4}})
        study = with_tables(study, a=table(*rows, tuned=True))
        tried = [cell.overrides["learning_rate"] for cell in study.rates.tune_cells(MATH)]
        assert tried == [1e-3, 1e-2, 1e-2]
        full, lora, other = (c.variant for c in study.report_cells("a") if c.objective != "base")

        def found(rates: dict, **changed) -> tuple[float, str]:
            chosen = {MATH: {name: {"learning_rate": rate} for name, rate in rates.items()}}
            own = Study(study.scale, study.experiments, chosen, study.root)
            run = own.resolve(cells(**row | changed)[0])
            return run.learning_rate, run.rate_source

        assert found({full: 0.25}, lora={"r": 8}) == (2.5, full)
        assert found({full: 0.25, lora: 0.5}, lora={"r": 8}) == (0.5, lora)
        assert found({full: 0.25, other: 0.5}, lora={"r": 4}) == (0.5, other)
        assert found({lora: 0.5}) == (1e-3, "default")
        assert found({}, lora={"r": 4}) == (1e-2, "default")

    def test_the_rate_of_ones_own_base_model_is_nearer_than_that_of_ones_own_k(self, study):
        tuned = {"objective": "grpo", "data": "offline", "humanline": True}
        tuned |= {"base_model": ["stronger", "none"], "sync_interval": [4, 16]}
        study = with_tables(study, a=table(tuned, task=INSTRUCTIONS, tuned=True))
        variants = [c.variant for c in study.report_cells("a") if c.objective != "base"]
        rates = dict(zip(variants, (0.1, 0.2, 0.3, 0.4), strict=True))
        chosen = {INSTRUCTIONS: {name: {"learning_rate": rate} for name, rate in rates.items()}}
        study = Study(study.scale, study.experiments, chosen, study.root)

        def rate(**row):
            row = {"objective": "grpo", "data": "offline", "humanline": True} | row
            return study.resolve(Row(**row).cells(INSTRUCTIONS, DEFAULTS, 1)[0]).learning_rate

        assert rate(base_model="stronger", sync_interval=64) == 0.2
        assert rate(base_model="larger", sync_interval=4) == 0.3  # as of the task's own model
        assert rate(sync_interval=1) == 0.3

    def test_a_file_of_learning_rates_is_read(self, tmp_path):
        text = (CONFIG / "smoke.yaml").read_text() + "learning_rates: rates.yaml\n"
        (tmp_path / "smoke.yaml").write_text(text)
        (tmp_path / "rates.yaml").write_text(
            "seeds: [101]\nchosen: {math_reasoning: {grpo-online-every8: "
            "{learning_rate: 0.25, score: {0.25: 50.0}}}}\n"
        )
        study = load_study(tmp_path / "smoke.yaml", CONFIG / "experiments.yaml", tmp_path)
        assert study.resolve(cells(objective="grpo", data="online")[0]).learning_rate == 0.25

    def test_a_cell_is_found_by_name(self, study):
        for cell in study.all_cells():
            assert study.find(cell.task, cell.name) == cell

    def test_an_unknown_name_is_one_line(self, study):
        with pytest.raises(ConfigError, match=r"no cell of math_reasoning is named 'x'; add it"):
            study.find(MATH, "x")

    def test_where_files_lie(self, study):
        cell = Cell(task=MATH, objective="base", seed=3)
        assert study.resolve(cell).paths.directory == Path(
            "results/smoke/runs/math_reasoning/base-s3"
        )
        assert study.resolve(cell).paths.prompts == Path(
            "results/smoke/data/math_reasoning/s3/train.jsonl"
        )
        assert study.resolve(cell).paths.offline_groups.name == "offline-base-s3.jsonl"
        other = cell.model_copy(update={"base_model": "weaker"})
        name = "likelihood-base-weaker-s3-under-base-s3.jsonl"
        assert study.resolve(cell).paths.likelihoods_of(other).name == name

    def test_resources_default_to_little(self, study):
        assert study.scale.resources_for("train").model_dump() == {
            "gpu": 0,
            "mem_mb": 3000,
            "runtime": 60,
        }


HASHES = ("data", "base", "offline", "run", "generate", "score", "config")
# What an option of a task changes, of a run on online data; `config` is that of the table.
DEPENDENCIES = [
    ("data.train", 65, {"data", "base", "offline", "run", "config"}),
    ("base_model.layers", 2, {"base", "offline", "run", "config"}),
    ("training.steps", 9, {"run", "config"}),
    ("training.learning_rate", 0.5, {"run", "config"}),
    ("training.tune_learning_rates", [0.5], set()),
    ("training.sampling.top_p", 0.5, {"offline", "run", "config"}),
    ("training.group_size", 2, {"offline", "run", "config"}),
    ("reward", {"kind": "hub", "repo": "a/b", "revision": None}, {"offline", "run", "config"}),
    ("judge.length_bias", 0.5, {"score", "config"}),
    ("evaluation.temperature", 0.5, {"generate", "config"}),
]


def hashes(study: Study) -> dict[str, str]:
    cell = next(cell for cell in study.report_cells(INSTRUCTIONS) if cell.data == "online")
    own = study.resolve(cell).hashes
    return {
        "data": own.data,
        "base": own.base_model,
        "offline": own.offline,
        "run": own.train,
        "generate": own.generate,
        "score": own.score,
        "config": study.table(INSTRUCTIONS).config_hash,
    }


class TestHashes:
    @pytest.mark.parametrize(("option", "value", "expected"), DEPENDENCIES)
    def test_an_option_changes_the_stages_that_read_it_and_no_others(
        self, option, value, expected, study
    ):
        content = study.scale.model_dump()
        *parents, last = option.split(".")
        inner = content["tasks"][INSTRUCTIONS]
        for part in parents:
            inner = inner[part]
        inner[last] = value
        scale = type(study.scale).model_validate(content)
        before, after = (
            hashes(study),
            hashes(Study(scale, study.experiments, {}, study.root)),
        )
        assert {name for name in HASHES if before[name] != after[name]} == expected

    def test_the_engine_changes_what_is_sampled(self, study):
        generation = Generation(engine="vllm", gpu_memory_utilization=0.5)
        other = Study(
            study.scale.model_copy(update={"generation": generation}),
            study.experiments,
            {},
            study.root,
        )
        before, after = hashes(study), hashes(other)
        changed = {name for name in HASHES if before[name] != after[name]}
        assert changed == {"offline", "run", "generate", "config"}
        placed = generation.model_copy(update={"max_model_length": 512, "online": "server"})
        elsewhere = study.scale.model_copy(update={"generation": placed})
        assert hashes(Study(elsewhere, study.experiments, {}, study.root)) == after

    def test_an_offline_run_depends_on_the_engine_through_its_data(self, study):
        cell = next(cell for cell in study.report_cells(INSTRUCTIONS) if cell.data == "offline")
        assert "engine" not in study.resolve(cell).hashes.manifest

    def test_a_fingerprint_leaves_no_trace_in_results(self, study):
        content = study.scale.model_dump()
        source = {"kind": "hub", "repo": "a/b", "revision": "a1" * 20}
        found = []
        for fingerprint in (None, "f0" * 32):
            content["tasks"][INSTRUCTIONS]["reward"] = source | {"fingerprint": fingerprint}
            scale = type(study.scale).model_validate(content)
            found.append(hashes(Study(scale, study.experiments, {}, study.root)))
        assert found[0] == found[1]

    def test_what_leaves_no_trace_in_results(self, study):
        update = {"description": "", "resources": {}}
        scale = study.scale.model_copy(update=update)
        assert hashes(Study(scale, study.experiments, {}, Path("x"))) == hashes(study)

    def test_a_tables_hash_depends_on_its_seeds(self, study):
        table = study.experiments.tables[MATH]
        other = table.model_copy(update={"seeds": [2]})
        tables = study.experiments.tables | {MATH: other}
        experiments = study.experiments.model_copy(update={"tables": tables})
        reseeded = Study(study.scale, experiments, {}, study.root)
        assert len({s.table(MATH).config_hash for s in (study, reseeded)}) == 2

    def test_every_cell_of_a_study_has_its_own_run_hash(self, study):
        runs = [study.resolve(c).hashes.train for c in study.all_cells() if c.objective != "base"]
        assert len(runs) == len(set(runs))

    def test_a_hash_ignores_the_order_of_keys(self):
        assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
        assert len(content_hash(None)) == 12
