"""What judgements would cost, before money is spent."""

from pathlib import Path

import pytest
import yaml

from humanline.files.json_files import write_jsonl, write_text
from humanline.files.validation import ConfigError
from humanline.scoring import judge_cost
from humanline.scoring.api_judge import Answer, estimated_tokens
from humanline.scoring.judge import CONFIGURATIONS
from humanline.study.study import Study, load_study

TASK = "instruction_following"
CONFIG = Path(__file__).parents[2] / "workflow" / "config"
TEMPLATE = len((CONFIGURATIONS / "openai" / "prompt.txt").read_text())
TASK = "instruction_following"
LONGEST = 18  # smoke's max_new_tokens
PROMPTS = [{"prompt": "p" * 40, "reference": "r" * 80}, {"prompt": "q" * 20, "reference": "s" * 8}]
TOKENS = [estimated_tokens(TEMPLATE + 120), estimated_tokens(TEMPLATE + 28)]


@pytest.fixture
def study(tmp_path) -> Study:
    """Smoke scale, judged by gpt-4.1, with two prompts in every split."""
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    scale["tasks"][TASK]["judge"] = {
        "kind": "openai",
        "model": "gpt-4.1",
        "max_dollars": 10,
        "prices": {"gpt-4.1": {"input": 2, "output": 8}},
    }
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(scale))
    study = load_study(tmp_path / "smoke.yaml", CONFIG / "experiments.yaml", tmp_path / "results")
    for runs in study.judged().values():
        for run in runs:
            write_jsonl(run.paths.evaluation_prompts, PROMPTS)
    return study


def targets(study: Study) -> dict[str, list]:
    """What the command gives: the runs that are judged, by target."""
    return {
        target: [study.resolve(cell) for cell in study.evaluated(target) if cell.task == TASK]
        for target in ("all", "explore", "tune")
    }


def estimate(study: Study, task: str):
    return judge_cost.estimate(targets(study))


def describe(study: Study) -> str:
    return judge_cost.describe(study.scale.scale, {TASK: study.scale.tasks[TASK]}, targets(study))


def cells(study: Study, exploratory=False) -> dict:
    tables = study.tables(exploratory=exploratory)
    return {c.name: c for t in tables for c in study.report_cells(t) if c.task == TASK}


def test_without_samples_every_run_has_prompts_and_the_longest_outputs(study):
    table = estimate(study, TASK).set_index("target")
    assert list(table.index) == ["all", "explore", "tune"]
    assert set(table["lengths"]) == {"max_new_tokens"}
    tuned = {cell.name for cell in study.rates.tune_cells(TASK)}
    assert table["runs"].sum() == len({*cells(study), *cells(study, exploratory=True), *tuned})
    row = table.loc["all"]
    assert row["runs"] == len(cells(study))
    assert row["pairs"] == row["answer_tokens"] == 2 * row["runs"]
    assert row["prompt_tokens"] == row["runs"] * (sum(TOKENS) + 2 * LONGEST)
    assert row["dollars"] == pytest.approx(
        (2 * row["prompt_tokens"] + 8 * row["answer_tokens"]) / 1e6
    )
    assert row["spent"] == 0


def test_samples_are_counted_as_they_are_and_ties_not_at_all(study):
    cell = next(iter(cells(study).values()))
    samples = [PROMPTS[0] | {"completion": "c" * 8}, PROMPTS[1] | {"completion": "s" * 8}]
    write_jsonl(study.resolve(cell).paths.samples, samples)
    table = estimate(study, TASK).set_index(["target", "lengths"])
    row = table.loc["all", "samples.jsonl"]
    assert (row["runs"], row["pairs"]) == (1, 1)
    assert row["prompt_tokens"] == estimated_tokens(TEMPLATE + 128)
    assert table.loc["all", "max_new_tokens"]["runs"] == len(cells(study)) - 1


def test_what_was_spent_is_told_with_retries(study):
    cell = next(iter(cells(study).values()))
    usage = {"retries": 0, "prompt_tokens": 1000, "completion_tokens": 1}
    reply = [{"token": "m", "logprob": 0.0}]
    rows = [Answer(key="a", fault="a refusal", **usage)]
    rows.append(Answer(key="a", top_logprobs=reply, **usage))
    lines = [row.model_dump_json() + "\n" for row in rows]
    write_text(study.resolve(cell).paths.answers, "".join(lines) + '{"key"')
    assert estimate(study, TASK)["spent"].sum() == pytest.approx(2 * 0.002008)


def test_every_evaluated_checkpoint_is_judged(study):
    """Headline and cost tables look at curves: with a checkpoint every 3 of 8 steps, at three."""
    task = study.scale.tasks[TASK]
    training = task.training.model_copy(update={"evaluate_every": 3})
    tasks = study.scale.tasks | {TASK: task.model_copy(update={"training": training})}
    scale = study.scale.model_copy(update={"tasks": tasks})
    curves = Study(scale, study.experiments, {}, study.root)
    steps = [
        3 if curves.resolve(cell).has_curve and cell.objective != "base" else 1
        for cell in cells(study).values()
    ]
    assert 1 in steps and 3 in steps
    assert estimate(curves, TASK).set_index("target").loc["all", "pairs"] == 2 * sum(steps)


def test_the_description_tells_model_prices_cap_and_what_lengths_are_of(study):
    text = describe(study)
    assert text.startswith("gpt-4.1 at https://api.openai.com/v1, $2 per million tokens of prompts")
    for part in (
        "dollars",
        "spent",
        "max_new_tokens",
        "18 tokens",
        "before it costs more than $10",
    ):
        assert part in text


def test_a_judge_without_endpoint_costs_nothing(tmp_path):
    study = load_study(CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", tmp_path)
    assert describe(study) == "scale smoke: its judge, gold, costs nothing"


def test_without_prompts_the_file_is_named(study):
    study.paths.prompts(TASK, "s1", "evaluation").unlink()
    with pytest.raises(ConfigError, match=r"evaluation\.jsonl: cannot be read"):
        estimate(study, TASK)
