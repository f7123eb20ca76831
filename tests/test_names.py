"""A task or an objective that the code does not know is an error with the known ones, everywhere.

It never stands for another. A task is known once its file is in humanline/tasks, an objective once
it is a row of trainers/registry.py.
"""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from humanline.cli import jobs
from humanline.cli.planning import work
from humanline.data import hub_datasets
from humanline.files.code_hashes import PACKAGE
from humanline.files.validation import ConfigError
from humanline.report import tables as reported
from humanline.study.experiments import Cell, Row, Table
from humanline.study.runs.paths import RunPaths
from humanline.study.scale.data import MiniatureData
from humanline.study.scale.models import Lessons
from humanline.study.study import load_study
from humanline.study.tasks import TASKS as TASK_NAMES
from humanline.study.tasks import find_task
from humanline.tables import estimates, headline, run_results, tune
from humanline.trainers.registry import Options
from humanline.training import cell as trained_cell
from humanline.worlds import miniature

CONFIG = Path(__file__).parents[1] / "workflow" / "config"
DATA = MiniatureData(kind="miniature", train=4, validation=4, evaluation=4)
TASKS = (
    r"'poetry' is unknown here; use one of instruction_following, math_reasoning, shared_divisors$"
)
OBJECTIVES = r"'ppo' is unknown here; use one of dpo, kto(, grpo)?$"


@pytest.fixture(scope="module")
def study():
    return load_study(CONFIG / "paper.yaml", CONFIG / "experiments.yaml", Path("results"))


def cell(**fields) -> Cell:
    """A cell as it would be if its names were added to the literals."""
    usual = {"task": "math_reasoning", "objective": "grpo", "data": "online", "sample_every": 1}
    return Cell.model_construct(**usual | {"seed": 1, "overrides": {}} | fields)


LESSONS = Lessons.model_construct(examples=4, carelessness=0.1)
POEM = cell(task="poetry")
HEADLINE = Table.model_construct(
    task="poetry", view="headline", description="", cells=[Row.model_construct(task=None)]
)
BRANCHES_ON_TASKS = {
    "registry": lambda study: find_task("poetry"),
    "miniature": lambda study: miniature.splits("poetry", DATA, 1),
    "fine-tuning": lambda study: miniature.fine_tuning_rows("poetry", DATA, LESSONS, 1),
    "hub": lambda study: hub_datasets.splits("poetry", None),
    "score file": lambda study: RunPaths(study.paths, POEM, "s1", "evaluation").scored,
    "scores": lambda study: run_results.scores(POEM, Path("nowhere")),
    "estimates": lambda study: estimates.final_scores(
        {"poem": [(POEM, Path("nowhere"))]}, shares_prompts=False
    ),
    "tune": lambda study: tune.final_score(SimpleNamespace(cell=POEM)),
    "plan": lambda study: jobs._score(study, POEM),
    "curves": lambda study: HEADLINE.has_curves,
    "table": lambda study: reported._frame(SimpleNamespace(spec=HEADLINE, shares_prompts=bool), []),
}


@pytest.mark.parametrize("branch", BRANCHES_ON_TASKS)
def test_an_unknown_task_is_an_error(branch, study):
    with pytest.raises(ConfigError, match=TASKS):
        BRANCHES_ON_TASKS[branch](study)


def test_an_unknown_caption_is_an_error():
    with pytest.raises(
        ConfigError, match="'poetry' is unknown here; use one of instruction_follow"
    ):
        headline.explained(HEADLINE)


def planned(study):
    """Of a study that has options of the objective."""
    task = study.scale.tasks["math_reasoning"]
    options = dict.fromkeys(("ppo", "grpo"), task.training.objectives["grpo"])
    task = task.model_copy(
        update={"training": task.training.model_copy(update={"objectives": options})}
    )
    scale = study.scale.model_copy(update={"tasks": {"math_reasoning": task}})
    changed = type(study)(scale, study.experiments, {}, study.root)
    return list(work.training(changed, cell(objective="ppo")))


@pytest.mark.parametrize(
    "branch",
    [
        planned,
        lambda study: study.scale.tasks["math_reasoning"].training.objective_fault(
            "ppo", Options(batch_size=8, beta=0.1)
        ),
        lambda study: trained_cell._on_pairs(
            study.resolve(cell(objective="ppo")), [], None, None, Path("x")
        ),
    ],
)
def test_an_unknown_objective_is_an_error(branch, study, monkeypatch):
    monkeypatch.setattr(trained_cell, "_options", lambda *_: {})
    with pytest.raises(ConfigError, match=OBJECTIVES):
        branch(study)


def test_outside_their_files_nothing_names_a_task():
    """Nor does a line of the workflow's rules: a new task is one file and YAML."""
    names = re.compile("|".join(TASK_NAMES))
    root = CONFIG.parents[1]
    code = {*PACKAGE.rglob("*.py")} - {*(PACKAGE / "tasks").glob("*.py")}
    code |= {root / "Snakefile", *(root / "workflow" / "rules").glob("*.smk")}
    assert len(code) > 60 and len(TASK_NAMES) > 2
    told = [
        f"{path.relative_to(root)}: {line}"
        for path in sorted(code)
        for line in path.read_text().splitlines()
        # The names of targets that people type are told where they are.
        if names.search(line) and not (path.name == "Snakefile" and line.startswith("#"))
    ]
    assert told == []
