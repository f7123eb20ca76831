"""The plan: as many jobs as the workflow has, and sums that can be worked by hand."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from humanline.cli import plan
from humanline.study.study import Study, load_study

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
TASK = "instruction_following"


@pytest.fixture(scope="module")
def paper():
    return load_study(CONFIG / "paper.yaml", CONFIG / "experiments.yaml", Path("results"))


@pytest.fixture(scope="module")
def jobs(paper) -> dict[str, plan.Job]:
    of_targets = plan.jobs(paper).values()
    return {f"{job.rule} {job.name}": job for of_target in of_targets for job in of_target}


def with_resources(study: Study, resources: dict) -> Study:
    scale = study.scale.model_copy(update={"resources": resources})
    return Study(scale, study.experiments, study.learning_rates, study.root, study.claims)


def test_every_job_is_planned_once(paper, jobs):
    assert len(jobs) == sum(map(len, plan.jobs(paper).values())) > 500


def test_hours_of_offline_dpo(paper, jobs):
    """312 steps of 32 pairs of 600 tokens each at 24,000 / 8 tokens per second and GPU."""
    job = jobs[f"train {TASK}/dpo-offline-s1"]
    tokens = 312 * 32 * 2 * 600
    assert [(work.kind, work.tokens, work.billions) for work in job.work] == [("train", tokens, 8)]
    assert plan.hours(paper, job) == pytest.approx(tokens / 3000 / 4 / 3600 + 5 / 60)


@pytest.mark.parametrize(
    ("run", "sampled"),
    [
        ("dpo-online-every8-s1", 32 * 8),
        ("kto-online-every8-s1", 32 * 8),
        ("grpo-online-every8-s1", 64),
    ],
)
def test_online_training_samples_and_labels(run, sampled, jobs):
    """DPO and KTO make a pair of a group of eight, GRPO trains on all of it."""
    work = {(work.kind, work.billions): work.tokens for work in jobs[f"train {TASK}/{run}"].work}
    assert work["sample", 8] == 312 * sampled * 400
    assert work["score", 7.5] == 312 * sampled * 600  # the reward model


def test_math_is_graded_at_every_checkpoint_of_its_curve(jobs):
    (work,) = jobs["generate math_reasoning/grpo-online-every1-s1"].work
    assert work.tokens == 16 * 500 * 600
    assert jobs["score_math_reasoning math_reasoning/grpo-online-every1-s1"].judged == 0
    assert jobs[f"score_{TASK} {TASK}/grpo-online-every8-s1"].judged == 805


def test_tuning_looks_at_validation_prompts(jobs):
    run = f"{TASK}/dpo-offline-learning_rate=1e-06-s101"
    assert jobs[f"score_{TASK} {run}"].judged == 512


def test_stored_completions_are_not_sampled(jobs):
    assert jobs[f"offline {TASK}/base-s1"].work == ()
    assert jobs[f"offline {TASK}/base-weaker-s1"].work


def test_a_model_may_sample_its_own_completions_although_others_are_stored():
    """Eight for each of 4096 prompts, of 300 tokens, and 200 of the prompt to score."""
    study = load_study(CONFIG / "one_gpu.yaml", CONFIG / "experiments.yaml", Path("results"))
    jobs = {job.name: job for job in plan.jobs(study)["all"] if job.rule == "offline"}
    work = [(work.kind, work.tokens, work.billions) for work in jobs[f"{TASK}/base-s1"].work]
    completions = 8 * 4096
    assert work == [("sample", completions * 300, 0.49), ("score", completions * 500, 0.6)]


def test_models_that_are_kept(jobs):
    """The last one, and for math one every 100 of 1600 steps."""
    assert jobs[f"train {TASK}/dpo-offline-s1"].gigabytes == 32
    assert jobs["train math_reasoning/grpo-online-every1-s1"].gigabytes == 16 * 6


def test_the_text_shows_jobs_sums_and_assumptions(paper):
    text = plan.describe(paper)
    for said in ("| train ", "| total ", "| terabytes", "H100", "A GPU has 80.", "main memory"):
        assert said in text
    assert "**Warning:** scale paper: seeds.report: one seed cannot decide C1, C2, " in text


def test_a_model_that_needs_more_gpus_has_them(paper, jobs):
    """Eight share the 27B model: 27.2 * 16 bytes of training, and what runs beside it."""
    assert jobs[f"train {TASK}/larger-grpo-offline-s1"].gpus == 8
    assert jobs[f"generate {TASK}/larger-grpo-offline-s1"].gpus == 8
    assert jobs[f"generate {TASK}/dpo-offline-s1"].gpus == 1
    table = plan.memory(paper).set_index("model").loc["google/gemma-2-27b-it"]
    assert table["training"] == pytest.approx(27.2 * 16 / 8)
    assert table["together"] == pytest.approx(27.2 * 16 / 8 + 0.3 * 80 + 2 * 7.5)
    assert "**google/gemma-2-27b-it** does not fit" in plan.describe(paper)


def test_too_little_is_told(paper):
    resources = paper.scale.resources
    train = resources["train"].model_copy(update={"gpu": 0})
    generate = resources["generate"].model_copy(update={"runtime": 5})
    study = with_resources(paper, resources | {"train": train, "generate": generate})
    text = plan.describe(study)
    assert "**train** has a model compute, but `resources` gives it no GPU." in text
    assert "**generate** takes longer than its `runtime` in `resources`." in text


def test_a_priced_judge_costs(paper):
    study = SimpleNamespace(scale=SimpleNamespace(tasks={TASK: SimpleNamespace(judge=None)}))
    assert plan.judge_dollars(study, TASK, 1e6, 1) is None
    price = SimpleNamespace(dollars=lambda read, written: 2e-6 * read + 8e-6 * written)
    study.scale.tasks[TASK].judge = SimpleNamespace(price=price)
    assert plan.judge_dollars(study, TASK, 1e6, 1e6) == pytest.approx(10)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "workstation"])
def test_without_assumptions_the_jobs_are_told(scale):
    study = load_study(CONFIG / f"{scale}.yaml", CONFIG / "experiments.yaml", Path("results"))
    text = plan.describe(study)
    rows = dict(re.findall(r"^\| (\w+) +\| +([\d,]+) ", text, re.M))
    cells = {
        (cell.task, cell.name)
        for table in study.tables()
        for cell in study.report_cells(table)
        if cell.objective != "base"
    }
    assert rows["train"] == f"{len(cells)}"
    assert "GPU hours" not in text and "this scale has no `plan`" in text
