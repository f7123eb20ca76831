"""`tune`: what is chosen from which scores, and that the file it writes can be adopted."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from humanline.files.json_files import write_json, write_text
from humanline.files.validation import ConfigError
from humanline.study.experiments import Cell
from humanline.study.study import Study, load_study
from humanline.tables.tune import best_rates, choose_learning_rates, final_score

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
RATES = [1e-4, 3e-4]
SEEDS = [101, 102]


@pytest.fixture
def study(tmp_path) -> Study:
    """The smoke scale with two rates and two tuning seeds."""
    config = shutil.copytree(CONFIG, tmp_path / "config")
    scale = yaml.safe_load((config / "smoke.yaml").read_text())
    scale["seeds"]["tune"] = SEEDS
    for task in scale["tasks"].values():
        task["training"]["tune_learning_rates"] = RATES
    (config / "smoke.yaml").write_text(yaml.safe_dump(scale))
    return load_study(config / "smoke.yaml", config / "experiments.yaml", tmp_path / "results")


def write_score(study: Study, cell: Cell, score: float) -> None:
    """Write what evaluation would leave behind, with this headline figure in per cent."""
    directory = study.resolve(cell).paths.directory
    if cell.task == "instruction_following":
        write_json(directory / "metrics.json", {"length_controlled_win_rate": score})
    else:
        last = [index < score for index in range(100)]
        grades = {"step": [4] * 100 + [8] * 100, "correct": [1] * 100 + [int(c) for c in last]}
        write_text(directory / "grades.csv", pd.DataFrame(grades).to_csv(index=False))


def write_scores(study: Study, score) -> None:
    for task in study.scale.tasks:
        for cell in study.rates.tune_cells(task):
            write_score(study, cell, score(cell))


def choose(study: Study) -> None:
    runs = [study.resolve(cell) for cell in study.evaluated("tune")]
    runs += [study.resolve(cell) for cell in study.wider(best_rates(runs))]
    seeds = study.scale.seeds.tune
    choose_learning_rates(runs, study.paths.tune, seeds=seeds, scale="smoke")


def chosen(study: Study) -> dict:
    choose(study)
    path = study.paths.tune / "learning_rates.yaml"
    return yaml.safe_load(path.read_text())["chosen"]


def test_the_highest_mean_over_seeds_is_chosen(study):
    """The first rate has the best single seed; the second the better mean."""
    scores = {(1e-4, 101): 90, (1e-4, 102): 10, (3e-4, 101): 60, (3e-4, 102): 50}
    write_scores(study, lambda cell: scores[cell.overrides["learning_rate"], cell.seed])
    for variants in chosen(study).values():
        for choice in variants.values():
            scores = {1e-4: 50.0, 3e-4: 55.0}
            assert choice == {"learning_rate": 3e-4, "score": scores, "at_edge": True}


def test_each_variant_chooses_for_itself(study):
    def score(cell):
        return 50 if (cell.overrides["learning_rate"] == 3e-4) == cell.humanline else 20

    write_scores(study, score)
    for variants in chosen(study).values():
        for variant, choice in variants.items():
            assert choice["learning_rate"] == (3e-4 if "humanline" in variant else 1e-4)


def test_a_variant_whose_best_rate_is_at_an_edge_tries_the_rates_beyond(study):
    training = {
        task: options.training.model_copy(update={"wider_learning_rates": [3e-5, 9e-4]})
        for task, options in study.scale.tasks.items()
    }
    tasks = {
        task: options.model_copy(update={"training": training[task]})
        for task, options in study.scale.tasks.items()
    }
    scale = study.scale.model_copy(update={"tasks": tasks})
    wider = Study(scale, study.experiments, {}, study.root)

    def score(cell):
        rate = cell.overrides["learning_rate"]
        return 100 - 1e4 * rate if cell.humanline else 50 + 1e4 * rate

    write_scores(wider, score)
    found = wider.wider(best_rates([wider.resolve(cell) for cell in wider.evaluated("tune")]))
    rates = {(cell.humanline, cell.overrides["learning_rate"]) for cell in found}
    assert rates == {(True, 3e-5), (False, 9e-4)}
    for cell in found:
        assert wider.find(cell.task, cell.name) == cell
        write_score(wider, cell, score(cell))
    for variants in chosen(wider).values():
        for variant, choice in variants.items():
            assert choice["learning_rate"] == (3e-5 if "humanline" in variant else 9e-4)
            assert len(choice["score"]) == 3


def test_every_trained_variant_of_the_tables_is_chosen_for(study):
    write_scores(study, lambda cell: 50)
    choices = chosen(study)
    for table, spec in study.experiments.tables.items():
        trained = [c for c in study.report_cells(table) if c.objective != "base"]
        tuned = {cell.variant for cell in trained if spec.tunes(cell)}
        assert not tuned or tuned <= choices[spec.task].keys()
    assert "grpo-online-every64" not in choices["instruction_following"]  # of a sweep


def test_every_run_is_a_row_of_the_scores(study):
    write_scores(study, lambda cell: cell.seed - 100)
    chosen(study)
    scores = pd.read_csv(study.paths.tune / "scores.csv")
    assert list(scores) == ["task", "variant", "learning_rate", "seed", "score"]
    assert len(scores) == sum(len(study.rates.tune_cells(task)) for task in study.scale.tasks)
    assert set(scores["seed"]) == set(SEEDS)
    assert (scores["score"] == scores["seed"] - 100).all()
    assert not scores["variant"].str.contains("learning_rate").any()


def test_the_written_file_can_be_adopted(study, tmp_path):
    write_scores(study, lambda cell: 60 if cell.overrides["learning_rate"] == 3e-4 else 50)
    choose(study)
    config = tmp_path / "config"
    shutil.copy(study.paths.tune / "learning_rates.yaml", config / "rates.yaml")
    with open(config / "smoke.yaml", "a") as file:
        file.write("learning_rates: rates.yaml\n")
    adopted = load_study(config / "smoke.yaml", config / "experiments.yaml", tmp_path)
    for table in adopted.experiments.tables:
        for cell in adopted.report_cells(table):
            rate = 3e-4 * cell.overrides.get("learning_rate_factor", 1)
            rate *= 10 if cell.lora else 1  # lora_rate_factor: no rate was tuned for LoRA
            assert cell.objective == "base" or adopted.resolve(cell).learning_rate == pytest.approx(
                rate
            )


def test_the_last_step_counts(study):
    cell = study.rates.tune_cells("math_reasoning")[0]
    write_score(study, cell, 25)
    assert final_score(study.resolve(cell)) == 25


def test_a_missing_score_is_one_line(study):
    for task in study.scale.tasks:
        with pytest.raises(ConfigError, match=r"cannot be read .*again"):
            final_score(study.resolve(study.rates.tune_cells(task)[0]))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "null", '"50"', "-1", "101"])
def test_a_win_rate_that_is_none_is_not_chosen_by(value, study):
    cell = study.rates.tune_cells("instruction_following")[0]
    path = study.resolve(cell).paths.summary
    write_text(path, f'{{"length_controlled_win_rate": {value}}}')
    with pytest.raises(ConfigError) as caught:
        final_score(study.resolve(cell))
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["step,correct\n", "step,correct\n8,\n", "step,correct\n,1\n", "step,correct\n8,2\n", "a\n1\n"],
)
def test_grades_that_are_none_are_not_chosen_by(text, study):
    cell = study.rates.tune_cells("math_reasoning")[0]
    path = study.resolve(cell).paths.grades
    write_text(path, text)
    with pytest.raises(ConfigError, match="grade that run again"):
        final_score(study.resolve(cell))


def test_without_tuned_tables_nothing_is_chosen(study):
    tables = {
        name: table.model_copy(update={"tuned": False})
        for name, table in study.experiments.tables.items()
    }
    experiments = study.experiments.model_copy(update={"tables": tables})
    untuned = Study(study.scale, experiments, {}, study.root)
    with pytest.raises(
        ConfigError, match="no table is tuned, so there is no rate to choose; write"
    ):
        choose(untuned)
    assert not study.paths.tune.exists()
