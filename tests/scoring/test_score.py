import json
from pathlib import Path

import pandas as pd
import pytest

from humanline.files.json_files import read_jsonl, write_json, write_jsonl
from humanline.files.validation import ConfigError
from humanline.generation.samples import checkpoints, generate
from humanline.scoring.score import grade, judge
from humanline.study.experiments import Cell
from humanline.study.study import Study, load_study

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
MATH = Cell(task="math_reasoning", objective="grpo", data="online", sample_every=1, seed=1)
INSTRUCTION = Cell(task="instruction_following", objective="dpo", data="offline", seed=1)


@pytest.fixture
def study(tmp_path) -> Study:
    return load_study(CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", tmp_path)


def trained(study: Study, cell: Cell, steps: int) -> Path:
    """Pretend that a cell was trained."""
    directory = study.resolve(cell).paths.directory
    write_json(directory / "train.json", {"steps": steps, "checkpoints": "work"})
    return directory


@pytest.mark.parametrize("task", ["instruction_following", "math_reasoning"])
def test_the_base_model_has_one_checkpoint_at_step_zero(study, task):
    cell = Cell(task=task, objective="base", seed=1)
    assert checkpoints(study.resolve(cell)) == {0: study.resolve(cell).paths.model}


@pytest.mark.parametrize("seed", [1, 101])
def test_a_run_of_no_headline_or_cost_table_is_evaluated_at_its_end(study, seed):
    cell = MATH.model_copy(update={"seed": seed, "sample_every": 9, "overrides": {"beta": 0.5}})
    directory = trained(study, cell, steps=24)
    assert checkpoints(study.resolve(cell)) == {24: directory / "model"}


@pytest.mark.parametrize(
    ("steps", "kept"), [(8, [4]), (9, [4, 8]), (4, []), (3, []), (12, [4, 8]), (1, [])]
)
def test_math_evaluates_every_kept_checkpoint_and_the_last_model(study, steps, kept):
    directory = trained(study, MATH, steps)
    expected = {step: directory / "work" / f"checkpoint-{step}" for step in kept}
    expected[steps] = directory / "model"
    found = checkpoints(study.resolve(MATH))
    assert found == expected
    assert list(found) == sorted(found)


def test_an_untrained_cell_is_one_line_that_names_its_file(study):
    with pytest.raises(ConfigError) as caught:
        checkpoints(study.resolve(MATH))
    assert str(study.resolve(MATH).paths.record) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def math_sample(step: int, problem: int, completion: str) -> dict:
    return {
        "step": step,
        "prompt_id": problem,
        "prompt": "1+2",
        "answer": "3",
        "completion": completion,
    }


def test_grades_are_written_as_documented(study):
    directory = study.resolve(MATH).paths.directory
    completions = ["3\\boxed{3}", "3\\boxed{4}", "3", "\\boxed{\\frac62}", "\\boxed{4}\\boxed{3}"]
    samples = [math_sample(s, i, c) for s in (4, 8) for i, c in enumerate(completions)]
    write_jsonl(directory / "samples.jsonl", samples)
    grade(study.resolve(MATH))
    text = (directory / "grades.csv").read_text()
    assert text.splitlines()[:3] == [
        "step,problem_id,sample,correct,outcome",
        "4,0,0,1,correct",
        "4,1,0,0,wrong",
    ]
    grades = pd.read_csv(directory / "grades.csv")
    assert list(grades["step"]) == [4] * 5 + [8] * 5
    assert list(grades["problem_id"]) == [0, 1, 2, 3, 4] * 2
    assert list(grades["sample"]) == [0] * 10
    assert list(grades["correct"]) == [1, 0, 0, 1, 1] * 2


def test_grading_leaves_nothing_else_behind(study):
    directory = study.resolve(MATH).paths.directory
    write_jsonl(directory / "samples.jsonl", [math_sample(8, 0, "\\boxed{3}")])
    grade(study.resolve(MATH))
    grade(study.resolve(MATH))
    assert {path.name for path in directory.iterdir()} == {
        "samples.jsonl",
        "grades.csv",
        ".grades.csv.seal",
    }


@pytest.mark.parametrize("answers", [["3"], ["3", "4", "5"], ["3", "5"]])
def test_samples_of_other_prompts_are_not_graded(study, answers):
    directory = study.resolve(MATH).paths.directory
    samples = [
        math_sample(8, i, "\\boxed{3}") | {"prompt": f"1+{answer}", "answer": answer}
        for i, answer in enumerate(answers)
    ]
    write_jsonl(directory / "samples.jsonl", samples)
    data = study.paths.prompts("math_reasoning", "s1", "evaluation")
    write_jsonl(data, [{"prompt": f"1+{answer}", "answer": answer} for answer in ("3", "4")])
    with pytest.raises(ConfigError, match=r"samples\.jsonl: its prompts are not those of"):
        grade(study.resolve(MATH))
    assert not (directory / "grades.csv").exists()


@pytest.mark.parametrize("field", ["step", "prompt_id", "completion", "answer"])
def test_samples_without_a_field_are_one_line_that_names_it(study, field):
    directory = study.resolve(MATH).paths.directory
    sample = math_sample(8, 0, "\\boxed{3}")
    write_jsonl(
        directory / "samples.jsonl", [sample, {k: v for k, v in sample.items() if k != field}]
    )
    with pytest.raises(ConfigError, match=rf"samples\.jsonl: line 2: .*'{field}'"):
        grade(study.resolve(MATH))
    assert not (directory / "grades.csv").exists()


def make_models(study: Study, cell: Cell, model, tokenizer) -> None:
    for path in checkpoints(study.resolve(cell)).values():
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)


def test_generate_samples_every_prompt_at_every_step(study, model, tokenizer):
    trained(study, MATH, steps=8)
    make_models(study, MATH, model, tokenizer)
    rows = [{"prompt": f"{i}+1", "answer": str(i + 1)} for i in range(5)]
    write_jsonl(study.paths.prompts("math_reasoning", "s1", "evaluation"), rows)
    generate(study.resolve(MATH))
    samples = read_jsonl(study.resolve(MATH).paths.samples)
    assert [(s["step"], s["prompt_id"]) for s in samples] == [
        (step, i) for step in (4, 8) for i in range(5)
    ]
    fields = {"step", "prompt_id", "prompt", "completion", "answer"}
    for sample in samples:
        assert sample.keys() == fields
        assert rows[sample["prompt_id"]].items() <= sample.items()
        assert "<|" not in sample["completion"]
    # The same weights and the same seed at both steps.
    assert [s["completion"] for s in samples[:5]] == [s["completion"] for s in samples[5:]]


def test_tuning_seeds_are_evaluated_on_validation_prompts(study, model, tokenizer):
    cell = INSTRUCTION.model_copy(update={"seed": 101})
    trained(study, cell, steps=8)
    make_models(study, cell, model, tokenizer)
    for split in ("validation", "evaluation"):
        prompt = {"validation": "a+ ~ L", "evaluation": "b+ ~ S"}[split]
        rows = [{"prompt": prompt, "reference": "ab"}]
        write_jsonl(study.paths.prompts("instruction_following", "s101", split), rows)
    generate(study.resolve(cell))
    samples = read_jsonl(study.resolve(cell).paths.samples)
    assert [s["prompt"] for s in samples] == ["a+ ~ L"]


def test_judging_prefers_the_better_lines(study):
    directory = study.resolve(INSTRUCTION).paths.directory
    good, bad = "dadadadadadad", "hhh"
    metrics = {}
    for name, completion, reference in (("better", good, bad), ("worse", bad, good)):
        rows = [
            {
                "step": 8,
                "prompt": f"{letter}- d+ ~ L",
                "completion": completion,
                "reference": reference,
            }
            for letter in "bcefgh"
        ]
        write_jsonl(directory / "samples.jsonl", rows)
        judge(study.resolve(INSTRUCTION))
        metrics[name] = json.loads((directory / "metrics.json").read_text())
        annotations = json.loads((directory / "annotations.json").read_text())
        assert {a["instruction"] for a in annotations} == {row["prompt"] for row in rows}
        assert {a["output_2"] for a in annotations} == {completion}
    assert metrics["better"]["win_rate"] > 80 > 20 > metrics["worse"]["win_rate"]
    assert "length_controlled_win_rate" in metrics["better"]


def test_judging_writes_the_curve_over_steps(study):
    directory = study.resolve(INSTRUCTION).paths.directory
    good, bad = "dadadadadadad", "hhh"
    rows = [
        {"step": step, "prompt": f"{letter}- d+ ~ L", "completion": line, "reference": "dada"}
        for step, line in ((4, bad), (8, good))
        for letter in "bcefgh"
    ]
    write_jsonl(directory / "samples.jsonl", rows)
    judge(study.resolve(INSTRUCTION))
    curve = pd.read_csv(directory / "curve.csv")
    assert list(curve["step"]) == [4, 8]
    first, last = curve["length_controlled_win_rate"]
    assert first < last
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["length_controlled_win_rate"] == pytest.approx(last)
    annotations = json.loads((directory / "annotations.json").read_text())
    assert {a["output_2"] for a in annotations} == {good}
