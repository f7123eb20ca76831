"""The registry of tasks: what every file of humanline/tasks keeps to, and a module of one's own."""

import math
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from humanline.cli.commands import main
from humanline.data.stage_files import Instruction, Problem, prompts_of
from humanline.files.code_hashes import code_hash
from humanline.files.json_files import read_jsonl, write_jsonl
from humanline.files.typed_files import read_rows, write_rows
from humanline.files.validation import ConfigError
from humanline.scoring.rewards import load_reward
from humanline.study.experiments import Cell
from humanline.study.scale.scale import load_scale
from humanline.study.study import load_study
from humanline.study.tasks import SCORINGS, TASKS, Notice, find_task, score_rule, title_of
from humanline.tables.headline import explained, headline_table
from humanline.tables.run_results import notice_names, notices, scores
from humanline.worlds.tiny_model import build_tokenizer

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "workflow" / "config"
GRADED = [task for task in TASKS if find_task(task).scoring == "grade"]
SLOW = ("torch", "trl", "transformers", "pandas", "numpy", "datasets", "reasoning_gym", "sympy")


@pytest.fixture(params=TASKS)
def name(request) -> str:
    return request.param


def test_tasks_are_the_files_of_their_folder():
    files = (ROOT / "humanline" / "tasks").glob("*.py")
    assert list(TASKS) == sorted({path.stem for path in files} - {"__init__"})
    assert {find_task(name).scoring for name in TASKS} == set(SCORINGS)


def test_tasks_are_cheap_to_import():
    code = f"""
import sys
from humanline.study.tasks import TASKS, find_task
found = [find_task(name) for name in TASKS]
print(len(found), *({{*{SLOW}}} & {{*sys.modules}}))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(len(TASKS))]


def test_prompts_are_rows_of_the_task_that_the_miniature_can_say(name, tmp_path):
    """Each file is drawn alike twice, and written and read by what a row of the task is."""
    task, tokenizer = find_task(name), build_tokenizer()
    rows = task.draw_prompts(40, 7)
    assert rows == task.draw_prompts(40, 7) != task.draw_prompts(40, 8)
    model = prompts_of(name)
    assert model is {"judge": Instruction, "grade": Problem}[task.scoring]
    distinct = list({row["prompt"]: row for row in rows}.values())
    write_rows(tmp_path / "rows.jsonl", model, distinct)
    assert read_rows(tmp_path / "rows.jsonl", model) == distinct
    for row in rows:
        completion = task.write_completion(row["prompt"], random.Random(1), 0.5)
        for text in (row["prompt"], completion):
            assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("name", GRADED)
def test_a_careful_expert_is_right_and_a_careless_one_is_not(name):
    task, rng = find_task(name), random.Random(0)
    rows = task.draw_prompts(40, 7)

    def share(carelessness: float) -> float:
        written = [task.write_completion(row["prompt"], rng, carelessness) for row in rows]
        graded = zip(written, rows, strict=True)
        found = [task.grade_completion(text, row["answer"]) for text, row in graded]
        assert set(found) <= set(task.outcomes)
        return found.count(task.outcomes[0]) / len(found)

    assert share(0) == 1
    assert share(1) < 0.1
    assert task.grade_completion("", rows[0]["answer"]) != task.outcomes[0]


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_a_scales_reward_is_finite_and_fits(scale):
    for name, config in load_scale(CONFIG / f"{scale}.yaml").tasks.items():
        task = find_task(name)
        assert config.reward.kind in task.rewards
        if config.reward.kind == "hub":
            continue
        rows = task.draw_prompts(4, 7)
        prompts, answers = [[row.get(key) for row in rows] for key in ("prompt", "answer")]
        texts = [task.write_completion(prompt, random.Random(1), 0) for prompt in prompts]
        for completions in (texts, [""] * 4):
            found = load_reward(config.reward, name)(prompts, completions, answers)
            assert len(found) == 4 and all(map(math.isfinite, found))


class Scored:
    """Runs of the smoke scale in a folder, scored by the command."""

    def __init__(self, folder: Path):
        self.study = load_study(CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", folder)
        self.options = ["--scale=smoke", f"--config={CONFIG}", f"--results={folder}"]

    def score(self, cell: Cell, carelessness: float, steps: tuple[int, ...]) -> Path:
        task, rng = find_task(cell.task), random.Random(f"{cell.name} {carelessness}")
        rows = list({row["prompt"]: row for row in task.draw_prompts(12, 7)}.values())
        write_rows(self.study.resolve(cell).paths.evaluation_prompts, prompts_of(cell.task), rows)
        samples = [
            {"step": step, "prompt_id": i, **row}
            | {"completion": task.write_completion(row["prompt"], rng, carelessness)}
            for step in steps
            for i, row in enumerate(rows)
        ]
        directory = self.study.resolve(cell).paths.directory
        write_jsonl(directory / "samples.jsonl", samples)
        assert main(["score", cell.task, cell.name, *self.options]) == 0
        return directory


def said(spec, **values) -> str:
    """All that a table says about itself."""
    caption, notes = explained(spec, **values)
    return " ".join([caption, *notes])


def test_a_run_is_scored_and_read_back(name, tmp_path, capsys):
    """Its score file says that it is scored, and every table can read it."""
    scored = Scored(tmp_path)
    base = Cell(task=name, objective="base", seed=1)
    directory = scored.score(base, 0.2, (0,))
    scoring = SCORINGS[find_task(name).scoring]
    assert {path.name for path in directory.iterdir()} >= set(scoring.files)
    assert scored.study.resolve(base).paths.scored == directory / scoring.score_file
    (step, score), *others = scores(base, directory).items()
    assert step == 0 and 0 <= score <= 100 and not others
    assert list(notices(base, directory)) == notice_names(name)
    spec = scored.study.experiments.tables[name]
    assert spec.has_curves == scoring.has_curves
    frame = headline_table(name, [(base, directory)], shares_prompts=False)
    assert list(frame["variant"]) == ["base"] and set(notice_names(name)) <= set(frame)
    text = said(spec, scale="smoke", seeds=1, shares_prompts=False, collapse_below=0.5)
    assert "{" not in text
    for notice in find_task(name).notices:
        assert notice.text in text


def test_captions_tell_of_the_tables_own_tasks_alone():
    study = load_study(CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", Path("results"))
    tables = study.experiments.tables
    values = {"scale": "smoke", "seeds": 1, "shares_prompts": False, "collapse_below": 0.5}
    both, one = (said(tables[name], **values) for name in ("sync_interval", "data_quality"))
    told = "Score: length-controlled win rate of instruction following"
    assert f"{told}, Pass@1 of math reasoning, in per cent" in both and "Timed out" in both
    assert f"{told}, in per cent" in one and "Timed out" not in one and "Left out" in one
    plain = said(tables["shared_divisors"], **values)
    assert "Pass@1" in plain and "Timed out" not in plain and "Left out" not in plain


def test_a_scale_that_lacks_an_optional_tables_task_does_without_it(tmp_path):
    for scale, has in (("smoke", True), ("laptop", False)):
        study = load_study(CONFIG / f"{scale}.yaml", CONFIG / "experiments.yaml", tmp_path)
        assert ("shared_divisors" in study.tables()) == has
    experiments = yaml.safe_load((CONFIG / "experiments.yaml").read_text())
    del experiments["tables"]["shared_divisors"]["optional"]
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(experiments))
    with pytest.raises(ConfigError, match=r"tasks\.shared_divisors: missing, but table shared_div"):
        load_study(CONFIG / "laptop.yaml", tmp_path / "experiments.yaml", tmp_path)


USUAL = find_task("shared_divisors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scoring": "vote"}, "scoring: 'vote' is unknown here; use one of judge, grade"),
        ({"grade_completion": None}, "grade_completion: a graded task needs it"),
        ({"scoring": "judge"}, "a judged one has none; add or remove it"),
        (
            {"scoring": "judge", "grade_completion": None},
            "rewards: grade is for tasks that are graded; remove it",
        ),
        ({"label": " "}, "label: empty, but tables show it; write one"),
        ({"rewards": "grade"}, r"rewards: 'grade' is one text; write \('grade',\)"),
        ({"outcomes": ("correct",)}, "outcomes: success and failure are two; name both"),
        ({"draw_prompts": None}, "write_completion: a generated world needs both"),
        ({"notices": (Notice("late", "Late", "Late."),)}, "notices: 'late' is not in outcomes"),
    ],
)
def test_a_task_that_lacks_a_part_is_one_line(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(USUAL, **change)


def test_an_outcome_that_a_task_does_not_have_is_one_line():
    task = replace(USUAL, grade_completion=lambda completion, answer: "nearly")
    with pytest.raises(ConfigError, match="returned 'nearly', which is not in outcomes, correct, "):
        task.grade_completion("1", "1")


SPELLING = '''
"""A task of one's own: a letter, said so often as the prompt asks."""

import random
import re

from my_project.words import LETTER
from humanline.study.tasks import Notice, Task


def draw_prompts(count, seed):
    numbers = random.Random(seed).choices(range(1, 90), k=count)
    return [{"prompt": str(number), "answer": LETTER * number} for number in numbers]


def write_completion(prompt, rng, carelessness):
    return LETTER * (int(prompt) + (rng.random() < carelessness))


def read_row(row, place):
    return {"prompt": str(row["n"]), "answer": LETTER * row["n"]}


def grade_completion(completion, answer):
    if not completion:
        return "silent"
    return "right" if completion == answer else "wrong"


TASK = Task(
    label="spelling",
    scoring="grade",
    rewards=("grade",),
    read_row=read_row,
    draw_prompts=draw_prompts,
    write_completion=write_completion,
    grade_completion=grade_completion,
    outcomes=("right", "wrong", "silent"),
    notices=(Notice("silent", "Said nothing", "Said nothing: empty answers."),),
)
'''
OWN = "my_project.spelling"


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A project with a task of its own, in the working directory, and a configuration for it."""
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "my_project"
    package.mkdir()
    (package / "spelling.py").write_text(SPELLING)
    (package / "words.py").write_text('LETTER = "a"\n')
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    options = scale["tasks"]["shared_divisors"]
    options["data"] |= {"train": 24, "validation": 8, "evaluation": 8}
    scale["tasks"] = {OWN: options}
    row = {"objective": "grpo", "data": "online"}
    table = {"task": OWN, "view": "headline", "description": "Mine.", "cells": [row]}
    defaults = {"sample_every": 1, "sync_interval": 1, "log_eps_p": -1, "log_eps_r": 1}
    experiments = {"defaults": {OWN: defaults}, "tables": {"mine": table}}
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(scale))
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(experiments))
    yield tmp_path
    find_task.cache_clear()
    for module in [name for name in sys.modules if name.split(".")[0] == "my_project"]:
        del sys.modules[module]


def command(*arguments) -> int:
    return main([*arguments, "--scale=smoke", "--config=.", "--results=results"])


def test_a_module_of_ones_own_is_a_task_by_its_dotted_path(own, capfd):
    """Prompts, samples, grades, the table: no file of humanline is touched."""
    assert command("data", OWN, "s1") == 0, capfd.readouterr().err
    rows = read_jsonl(own / "results" / "smoke" / "data" / OWN / "s1" / "evaluation.jsonl")
    assert len(rows) == 8 and all(row["answer"] == "a" * int(row["prompt"]) for row in rows)
    study = load_study(own / "smoke.yaml", own / "experiments.yaml", own / "results")
    base, paths = study.find(OWN, "base-s1"), study.run(OWN, "base-s1").paths
    samples = [
        {"step": 0, "prompt_id": i, **row, "completion": row["answer"] * (i > 1)}
        for i, row in enumerate(rows)
    ]
    write_jsonl(paths.samples, samples)
    assert command("score", OWN, "base-s1") == 0, capfd.readouterr().err
    grades = pd.read_csv(paths.scored)
    assert list(grades["outcome"]) == ["silent"] * 2 + ["right"] * 6
    assert scores(base, paths.directory) == {0: 75}
    frame = headline_table(OWN, [(base, paths.directory)], shares_prompts=False)
    assert list(frame["silent"]) == [2]
    assert (score_rule(OWN), title_of(OWN)) == ("score_my_project_spelling", "spelling")


def test_what_judging_costs_is_told_of_every_judged_task(own, capfd):
    """Of the suite's own and of one's own, each with its own judge."""
    text = "TASK = replace(find_task('instruction_following'), label='poems')\n"
    imports = "from dataclasses import replace\nfrom humanline.study.tasks import find_task\n"
    (own / "my_project" / "poems.py").write_text(imports + text)
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    scale["tasks"]["my_project.poems"] = scale["tasks"]["instruction_following"]
    (own / "smoke.yaml").write_text(yaml.safe_dump(scale))
    shutil.copy(CONFIG / "experiments.yaml", own)
    assert command("judge_cost") == 0, capfd.readouterr().err
    told = capfd.readouterr().out
    for name in ("instruction_following", "my_project.poems"):
        assert f"{name}\nscale smoke: its judge, gold, costs nothing" in told


def test_the_workflow_has_rules_for_a_module_of_ones_own(own):
    for name in ("Snakefile", "workflow"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, own / name)
    options = ["scale=smoke", "config_directory=.", "results=results"]
    run = subprocess.run(
        [Path(sys.executable).parent / "snakemake", "-n", "--cores=1", "--config", *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "score_my_project_spelling" in run.stdout + run.stderr


def test_the_code_of_a_module_of_ones_own_counts_with_what_it_imports(own):
    find_task(OWN)

    def hashes() -> tuple[str, ...]:
        code_hash.__globals__["_hash_of"].cache_clear()
        return tuple(code_hash(command, tasks=[OWN]) for command in ("data", "score"))

    before = hashes()
    (own / "my_project" / "words.py").write_text('LETTER = "b"\n')
    other = hashes()
    assert all(one != two for one, two in zip(before, other, strict=True))
    path = own / "my_project" / "spelling.py"
    path.write_text(path.read_text().replace('return "right" if', 'return "right" if 1 and'))
    data, score = hashes()
    assert (data == other[0]) and (score != other[1])
    path.write_text(path.read_text() + "\n# The end.\n")
    assert hashes() == (data, score)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("TASK = 3\n", "its TASK is int; make it a humanline.study.tasks.Task"),
        ("del TASK\n", "has no attribute 'TASK'"),
        ("TASK = Task(label='', scoring='x', rewards=(), read_row=None)\n", "'x' is unknown"),
    ],
)
def test_a_module_that_is_no_task_is_one_line(change, message, own, capfd):
    with open(own / "my_project" / "spelling.py", "a") as file:
        file.write(change)
    assert command("check") == 1
    error = capfd.readouterr().err
    assert error.startswith(f"humanline: error: smoke.yaml: tasks.{OWN}: ")
    assert message in error and error.count("\n") == 1


def test_rows_that_are_none_of_the_task_are_not_written(own, capfd):
    """And not told by the next stage alone, that its input is to be made again."""
    path = own / "my_project" / "spelling.py"
    path.write_text(path.read_text().replace('"answer": LETTER * number', '"gold": LETTER'))
    assert command("data", OWN, "s1") == 1
    error = capfd.readouterr().err
    assert error.endswith("train.jsonl: line 1: answer: missing; add this key\n")
    assert not (own / "results").exists()


def test_a_tasks_function_may_import_a_module_beside_it(own):
    """As the command that a person types, which has no working directory on Python's path."""
    path = own / "my_project" / "spelling.py"
    text = path.read_text().replace("from my_project.words import LETTER\n", "")
    (own / "letters_of_mine.py").write_text('LETTER = "c"\n')
    late = "(count, seed):\n    global LETTER\n    from letters_of_mine import LETTER\n\n"
    path.write_text(text.replace("(count, seed):\n", late))
    command = [Path(sys.executable).parent / "humanline", "data", OWN, "s1"]
    options = ["--scale=smoke", "--config=.", "--results=results"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([*command, *options], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    rows = read_jsonl(own / "results" / "smoke" / "data" / OWN / "s1" / "evaluation.jsonl")
    assert set(rows[0]["answer"]) == {"c"}


@pytest.mark.parametrize("name", ["spelling", "my_project.nowhere", "../spelling"])
def test_an_unknown_name_is_one_line_with_the_known_ones(name, own, capfd):
    text = (own / "smoke.yaml").read_text()
    (own / "smoke.yaml").write_text(text.replace(OWN, name))
    assert command("check") == 1
    error = capfd.readouterr().err
    known = ", ".join(TASKS)
    assert f"tasks.{name}: use one of {known}, or the dotted path of a module" in error
    assert error.count("\n") == 1


def test_lengths_for_a_world_that_has_none_are_refused(tmp_path):
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    scale["tasks"]["math_reasoning"]["data"]["lengths"] = "S"
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(scale))
    with pytest.raises(
        ConfigError, match=r"math_reasoning\.data\.lengths: the task's world has no"
    ):
        load_scale(tmp_path / "smoke.yaml")


def test_prompts_of_generated_worlds_read_in_words(name):
    """Each wish has words of its own; a prompt without words is one that people can read."""
    task = find_task(name)
    prompts = [row["prompt"] for row in task.draw_prompts(200, 3)]
    if task.prompt_words is None:
        assert all(re.fullmatch(r"[\d+-]+", prompt) for prompt in prompts)  # sums
        return
    told = {prompt: task.prompt_words(prompt) for prompt in prompts}
    assert all(len(words) == len(set(words)) for words in told.values())
    assert len(set(map(tuple, told.values()))) == len(told)
    assert all(re.search("[a-z]{2}", text) for words in told.values() for text in words)


def test_the_words_of_wishes():
    words = find_task("instruction_following").prompt_words
    assert words("a+ g- ~ L") == [
        "many a",
        "no g",
        "vowels and consonants in turn",
        "long: 13 letters",
    ]
    assert words("< S") == ["letters in alphabetical order", "short: 5 letters"]
    gcd = find_task("shared_divisors").prompt_words
    assert gcd("12 18") == ["the largest number that divides 12 and 18"]


def test_words_are_for_prompts_of_a_generated_world():
    task = find_task("shared_divisors")
    with pytest.raises(ConfigError, match="prompt_words: it is for"):
        replace(task, draw_prompts=None, write_completion=None)
