"""The registry of objectives: every row keeps its contract, and nothing else names one."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from own_code import write

from humanline.files.validation import ConfigError
from humanline.trainers.batches.rounds import RoundsTrainer
from humanline.trainers.classes import load
from humanline.trainers.options.humanline import HumanlineOptions
from humanline.trainers.registry import OBJECTIVES, Objective, Options, find_objective
from humanline.trainers.rows import formats
from humanline.trainers.shared.humanline_trainer import HumanlineTrainer

ROOT = Path(__file__).parents[2]
GROUP = {"prompt": "p", "completions": ["a", "b", "c", "d"], "scores": [0.0, 1.0, 2.0, 3.0]}
rows_of_registry = pytest.mark.parametrize("row", OBJECTIVES.values(), ids=OBJECTIVES)


@rows_of_registry
def test_a_row_names_classes_that_are_there(row, tmp_path):
    trainer, config = load(row.trainer), load(row.config)
    assert issubclass(trainer, HumanlineTrainer) and issubclass(config, HumanlineOptions)
    assert dataclasses.is_dataclass(load(row.view.script))
    taken = {field.name for field in dataclasses.fields(config)}
    assert set(row.options.model_fields) - row.options.OF_STUDIES <= taken
    assert set(row.arguments) <= taken
    options = row.options(batch_size=8, beta=0.1).model_dump(exclude={"batch_size"})
    config(str(tmp_path), report_to="none", use_cpu=True, **options, **row.arguments)


@rows_of_registry
def test_a_row_says_of_its_view_what_its_trainer_does(row):
    trainer, view = load(row.trainer), row.view
    assert getattr(trainer, "examples_per_pair", None) == view.examples_of_pair
    assert issubclass(trainer, RoundsTrainer) != view.takes_groups
    rows = load(view.rows)([GROUP], 0.01)
    assert len(rows) == (1 if view.takes_groups else view.examples_of_pair)
    assert set(rows[0]) >= set(min(view.columns, key=lambda names: len(names - set(rows[0]))))
    answers = {"chosen", "rejected", "completion"} & set(rows[0])
    assert view.takes_groups or len(answers) == view.completions
    for columns in view.columns + view.sampled_columns:
        assert issubclass(formats.row_model(columns, columns), formats.Row)


@rows_of_registry
def test_a_row_has_a_name_for_people_and_options_in_words(row):
    assert row.label and row.name == find_objective(row.name).name
    assert issubclass(row.options, Options)
    assert all(field.description for field in row.options.model_fields.values())


def test_the_labels_differ():
    assert len({row.label for row in OBJECTIVES.values()}) == len(OBJECTIVES)


def test_it_is_cheap():
    code = (
        "import humanline.trainers.registry, sys; print({'torch', 'trl', 'numpy'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_the_package_has_the_classes_by_their_names():
    import humanline

    assert sorted(humanline.__all__) == humanline.__all__
    for row in OBJECTIVES.values():
        assert getattr(humanline, row.trainer.split(":")[1]) is load(row.trainer)
        assert getattr(humanline, row.config.split(":")[1]) is load(row.config)


# humanline/objectives.py is the path that the README promised for the losses.
MAY_NAME = ("trainers", "method", "objectives.py")


def test_nothing_else_names_an_objective():
    package = ROOT / "humanline"
    files = [p for p in package.rglob("*.py") if p.relative_to(package).parts[0] not in MAY_NAME]
    files += [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]
    assert len(files) > 60
    # As a word, or a part of a name such as HumanlineXTrainer or x_loss.
    names = "|".join(OBJECTIVES)
    word = re.compile(rf"(?<![a-z])(?:humanline)?({names})(?![a-z])|Humanline({names})", re.I)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if word.search(line)
    ]
    assert not found, "\n".join(found)


# Of a user's own.


@pytest.fixture
def own(tmp_path, monkeypatch):
    for name in ("margin", "margin_trainer", "not_an_objective"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(write(tmp_path))
    return tmp_path


def test_an_objective_of_ones_own_is_found_by_its_module(own):
    row = find_objective("margin")
    assert isinstance(row, Objective) and (row.name, row.label) == ("margin", "Margin")
    assert "margin_trainer" not in sys.modules  # which imports TRL
    assert load(row.trainer).__name__ == "MarginTrainer"


@pytest.mark.parametrize("file", ["margin.py", "margin_trainer.py"])
def test_an_edit_of_ones_own_code_changes_its_identity(file, own):
    before = find_objective("margin").identity()
    with open(own / file, "a") as module:
        module.write("\nX = 1\n")
    assert find_objective("margin").identity() != before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("X = 1", "'not_an_objective.OBJECTIVE' cannot be imported .*has no attribute 'OBJECTIVE'"),
        ("OBJECTIVE = 1", "not_an_objective.OBJECTIVE is int, not an Objective"),
        ("import nothing_here", "cannot be imported .No module named 'nothing_here'"),
        (None, "'not_an_objective' is unknown here; use one of dpo, kto, grpo$"),
    ],
)
def test_a_module_that_is_no_objective_is_told_on_one_line(text, said, own):
    if text:
        (own / "not_an_objective.py").write_text(text)
    with pytest.raises(ConfigError, match=f"^objective: .*{said}") as error:
        find_objective("not_an_objective")
    assert "\n" not in str(error.value)


def test_a_class_that_is_not_there_is_told_on_one_line(own):
    with pytest.raises(
        ConfigError, match=r"objective: 'margin_trainer.Nothing' cannot be imported"
    ):
        load("margin_trainer:Nothing")
