"""A run is resolved once, and what a stage needs to know of it is in the run alone."""

import ast
import shutil
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from humanline.files.code_hashes import PACKAGE
from humanline.files.validation import ConfigError
from humanline.study import study as studies
from humanline.study.experiments import Cell, base_cell
from humanline.study.runs.pins import require_pinned
from humanline.study.scale.models import Pretraining
from humanline.study.study import Study, load_study

CONFIG = Path(__file__).parents[3] / "workflow" / "config"
TASK, MATH = "instruction_following", "math_reasoning"
# What is below the commands, and works on what it is given.
STAGES = ("worlds", "data", "scoring", "generation", "tasks", "training", "tables", "report",
          "analysis")  # fmt: skip


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", Path("results"))


@pytest.fixture(scope="module")
def paper() -> Study:
    return load_study(CONFIG / "paper.yaml", CONFIG / "experiments.yaml", Path("results"))


def modules() -> list[Path]:
    found = [path for stage in STAGES for path in (PACKAGE / stage).rglob("*.py")]
    assert len(found) > 40
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_stage_asks_the_study(path):
    """Neither by a parameter nor by an import: it is given runs, which are resolved."""
    tree = ast.parse(path.read_text())
    names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    assert "study" not in names
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert "humanline.study.study" not in imported


def test_a_cell_is_resolved_once(study):
    cell = study.find(TASK, "dpo-offline-s1")
    run = study.resolve(cell)
    assert study.resolve(cell.model_copy()) is run is study.run(TASK, "dpo-offline-s1")
    with pytest.raises(FrozenInstanceError):
        run.learning_rate = 1.0


def test_a_study_that_is_held_is_read_again_only_if_a_file_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "_held", {})
    for name in ("smoke", "experiments"):
        shutil.copy(CONFIG / f"{name}.yaml", tmp_path)
    files = tmp_path / "smoke.yaml", tmp_path / "experiments.yaml"
    studies.hold_study(*files, Path("results"))
    held = load_study(*files, Path("results"))
    assert load_study(*files, Path("results")) is held
    assert load_study(*files, Path("others")).root == Path("others")
    files[0].write_text(files[0].read_text() + "\n# edited\n")
    assert load_study(*files, Path("results")) is not held


def test_every_cell_is_resolved_with_the_options_of_its_task(study):
    for cell in study.all_cells():
        run, task = study.resolve(cell), study.scale.tasks[cell.task]
        assert (run.cell, run.name, run.scale) == (cell, cell.name, "smoke")
        assert (run.data, run.reward, run.judge) == (task.data, task.reward, task.judge)
        assert (run.training, run.evaluation) == (task.training, task.evaluation)
        assert run.is_trained == (cell.objective != "base")
        expected = "validation" if cell.seed in study.scale.seeds.tune else "evaluation"
        assert run.paths.evaluation_prompts == study.paths.prompts(
            cell.task, f"s{cell.seed}", expected
        )


def test_an_option_of_its_own_goes_before_the_scales(study):
    cell = Cell(task=MATH, objective="grpo", data="online", sample_every=1, seed=1)
    plain = study.resolve(cell)
    assert plain.objective == study.scale.tasks[MATH].training.objectives["grpo"]
    other = {"beta": 0.5, "learning_rate": 0.25, "learning_rate_factor": 0.5}
    own = study.resolve(cell.model_copy(update={"overrides": other}))
    assert own.objective == plain.objective.model_copy(update={"beta": 0.5})
    assert (own.learning_rate, own.rate_source) == (0.125, "own")
    assert own.hashes.train != plain.hashes.train and own.hashes.data == plain.hashes.data


def test_a_run_knows_the_files_that_it_reads(study):
    cell = Cell(task=TASK, objective="dpo", data="offline", data_from="weaker", quartile=1, seed=3)
    folder = Path("results/smoke")
    paths = study_with_models(study).resolve(cell).paths
    assert paths.base_made == folder / "runs" / TASK / "base-s3" / "model" / "config.json"
    assert paths.trained_on == [
        folder / "data" / TASK / "offline-base-weaker-s3.jsonl",
        folder / "data" / TASK / "likelihood-base-weaker-s3-under-base-s3.jsonl",
    ]
    assert paths.made == folder / "runs" / TASK / cell.name / "train.json"
    online = cell.model_copy(
        update={"data": "online", "sample_every": 8, "quartile": None, "data_from": None}
    )
    paths = study.resolve(online).paths
    assert paths.trained_on == [folder / "data" / TASK / "s3" / "train.jsonl"] == [paths.prompts]
    base = study.resolve(cell.base).paths
    assert base.made == base.base_made == paths.base_made


def test_a_seed_of_a_generated_world_has_its_own_prompts_and_the_hubs_are_shared(study, paper):
    for own, expected in ((study, False), (paper, True)):
        cells = [Cell(task=TASK, objective="base", seed=seed) for seed in (1, 2)]
        one, other = map(own.resolve, cells)
        assert one.shares_prompts is other.shares_prompts is expected
        for asked in (
            lambda run: run.paths.prompts,
            lambda run: run.paths.evaluation_prompts,
            lambda run: run.hashes.data,
            lambda run: run.hashes.base_model,
        ):
            assert (asked(one) == asked(other)) is expected
    assert {*paper.draws(TASK)} == {"all"}


def test_models_with_the_same_pretraining_share_it(study):
    """Seeds, and models that differ in their own lessons; others have others."""
    task = study.scale.tasks[TASK]
    lessons = {"examples": 8, "epochs": 1, "batch_size": 4, "learning_rate": 1e-3}
    pretraining = Pretraining(**lessons, carelessness=0.2)
    usual = task.base_model.model_copy(update={"pretraining": pretraining})
    others = {
        "weaker": {"carelessness": 0.7},
        "larger": {"hidden_size": 64},
        "again": {"pretraining": pretraining.model_copy(update={"seed": 1})},
        "fresh": {"pretraining": None},
    }
    models = {name: usual.model_copy(update=changed) for name, changed in others.items()}
    models = task.base_models | models
    task = task.model_copy(update={"base_model": usual, "base_models": models})
    scale = study.scale.model_copy(update={"tasks": study.scale.tasks | {TASK: task}})
    own = Study(scale, study.experiments, {}, study.root)

    def start(name=None, seed=1):
        return own.resolve(base_cell(TASK, seed, name)).pretrained

    assert start("fresh") is None
    assert start() == start(seed=2) == start("weaker")
    assert len({start(), start("larger"), start("again")}) == 3
    assert start().parent == study.paths.results / "pretrained" / TASK
    assert own.pretrained(TASK)[start().name].pretrained == start()


def test_the_sets_of_prompts_are_those_of_the_seeds_of_a_study(study):
    seeds = study.scale.seeds
    assert study.draws(TASK) == {f"s{seed}": seed for seed in [*seeds.report, *seeds.tune]}


def study_with_models(study: Study) -> Study:
    """With another base model, named weaker."""
    task = study.scale.tasks[TASK]
    task = task.model_copy(update={"base_models": {"weaker": task.base_model}})
    tasks = {"tasks": study.scale.tasks | {TASK: task}}
    return Study(study.scale.model_copy(update=tasks), study.experiments, {}, study.root)


def test_offline_data_of_another_model_have_its_hash(study):
    study = study_with_models(study)
    weaker = study.scale.tasks[TASK].base_models["weaker"].model_copy(update={"layers": 9})
    study.scale.tasks[TASK].base_models["weaker"] = weaker
    own = Cell(task=TASK, objective="dpo", data="offline", seed=1)
    taken = study.resolve(own.model_copy(update={"data_from": "weaker"}))
    own = study.resolve(own)
    assert own.hashes.base_model == taken.hashes.base_model
    assert own.hashes.offline != taken.hashes.offline
    assert taken.hashes.offline == study.resolve(taken.cell.data_base).hashes.offline


def test_a_job_asks_for_the_gpus_of_its_model(paper):
    run = next(run for run in map(paper.resolve, paper.all_cells()) if run.is_trained)
    more = run.model.model_copy(update={"gpus": 4})
    asked = paper.scale.resources_for("train")
    other = type(run)(**{**vars(run), "model": more})
    assert (other.gpus("train"), other.shards) == (4, 4)
    assert other.memory("train") == asked.mem_mb * 4 // asked.gpu
    base = paper.resolve(run.cell.base)
    assert base.is_stored == (run.cell.task == TASK)
    assert base.gpus("offline") == (
        0 if base.is_stored else paper.scale.resources_for("offline").gpu
    )


def test_a_table_has_its_runs_and_says_which_are_measured(paper):
    for name, spec in paper.experiments.tables.items():
        table = paper.table(name)
        assert [run.cell for run in table.runs] == paper.report_cells(name)
        assert table.run(table.runs[-1].cell) is table.runs[-1]
        assert bool(table.measured) == spec.compares_data
        assert all(run.cell.data == "offline" for run in table.measured)


def test_offline_data_are_measured_on_the_seeds_that_all_rows_have():
    laptop = load_study(CONFIG / "laptop.yaml", CONFIG / "experiments.yaml", Path("results"))
    measured = laptop.table("data_quality").measured
    assert {run.cell.seed for run in measured} == set(laptop.scale.seeds.sweep)
    assert len(measured) == 6 * len(laptop.scale.seeds.sweep)


def test_the_claims_have_the_runs_of_their_comparisons(paper):
    asked = paper.claims_request()
    assert [own for own, _ in asked.compared] == paper.comparisons()
    for comparison, pairs in asked.compared:
        assert asked.pairs(comparison) == pairs
        for (cell, against), (first, second) in zip(comparison.pairs, pairs, strict=True):
            assert {run.cell.variant for run in first} == {cell.variant}
            assert {run.cell.variant for run in second} == {against.variant}
            assert [run.cell.seed for run in first] == [run.cell.seed for run in second] == [1]


@pytest.mark.parametrize(
    ("stage", "field"),
    [
        ("data", "data.train"),
        ("base_model", "base_model"),
        ("offline", "data.train"),
        ("generate", None),
    ],
)
def test_a_job_that_reads_what_is_not_pinned_is_refused(stage, field, paper):
    run = paper.resolve(Cell(task=TASK, objective="base", seed=1))
    task = paper.scale.tasks[TASK]
    loose = {"revision": None}
    data = task.data.model_copy(update={"train": task.data.train.model_copy(update=loose)})
    model = task.base_model.model_copy(update=loose)
    task = task.model_copy(update={"data": data, "base_model": model})
    scale = paper.scale.model_copy(update={"tasks": paper.scale.tasks | {TASK: task}})
    require_pinned(paper.scale, stage, TASK, run)
    if field is None:
        require_pinned(scale, stage, TASK, run)
        return
    with pytest.raises(ConfigError, match=rf"^scale paper: tasks\.{TASK}\.{field}\.revision: null"):
        require_pinned(scale, stage, TASK, run)
