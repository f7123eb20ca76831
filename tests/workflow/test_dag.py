"""The workflow: what it plans, what it refuses, and one whole run at smoke scale."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from zipfile import ZipFile

import forked
import psutil
import pytest
import yaml
from edited_yaml import edit

from humanline.cli import WORKER
from humanline.study.runs.hashes import score_hash
from humanline.study.scale.scale import load_scale
from humanline.study.study import load_study

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "workflow" / "config"
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
SCALES = sorted(p.stem for p in CONFIG.glob("*.yaml") if "tasks:" in p.read_text())


def command(*arguments, results: Path, **config) -> list:
    options = [f"{key}={value}" for key, value in (config | {"results": results}).items()]
    return ["--cores", "2", *arguments, "--config", *options]


def snakemake(*arguments, worker: Path | None = None, **config) -> subprocess.CompletedProcess:
    return forked.snakemake(*command(*arguments, **config), worker=worker)


def as_typed(*arguments, **config) -> subprocess.CompletedProcess:
    """The same in a process of its own."""
    words = [SNAKEMAKE, *command(*arguments, **config)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True)


def plan(results: Path, *targets, **config) -> str:
    run = snakemake(*targets, "-n", "--nolock", results=results, **config)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def jobs(text: str) -> dict[str, int]:
    """Snakemake's job statistics."""
    assert "Job stats:" in text, text[-3000:]
    table = text.split("Job stats:")[1].split("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.M)}


@pytest.fixture(scope="module")
def worker():
    """The socket of a worker for several workflows; else each has to start one."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:  # a socket's path is short
        socket = Path(folder, "socket")
        command = [sys.executable, "-m", "humanline", "worker", socket]
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT):
            yield socket


@pytest.fixture
def config(tmp_path) -> Path:
    """A copy of the configuration, to be edited, with every kind of table and of cell once."""
    folder = shutil.copytree(CONFIG, tmp_path / "config")
    for name in ("experiments.yaml", "claims.yaml"):
        shutil.copy(Path(__file__).with_name(name), folder)
    return folder


# They differ from laptop in numbers; below, their headline tables are planned.
LIKE_LAPTOP = ("laptop_long", "laptop_short")


@pytest.mark.parametrize(
    "scale",
    [
        pytest.param(name, marks=[pytest.mark.slow, pytest.mark.thorough] * (name in LIKE_LAPTOP))
        for name in SCALES
    ],
)
def test_every_scale_resolves(scale, tmp_path):
    counts = jobs(plan(tmp_path, scale=scale))
    study = load_study(CONFIG / f"{scale}.yaml", CONFIG / "experiments.yaml", tmp_path)
    cells = {
        (cell.task, cell.name): cell
        for table in study.tables()
        for cell in study.report_cells(table)
    }
    trained = [cell for cell in cells.values() if cell.objective != "base"]
    assert counts["train"] == len(trained)
    scored = sum(count for name, count in counts.items() if name.startswith("score_"))
    assert scored == counts["generate"] == len(cells)
    assert {name for name in counts if name.startswith("table_")} == {
        f"table_{name}" for name in study.tables()
    }


def groups_of_short_jobs() -> list[str]:
    """The options of `slurm_short` that put jobs into groups, each of which is a submission."""
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm_short/profile.yaml").read_text())
    words = [f"--cores={profile['cores']}"]
    for option in ("groups", "group-components"):
        words += [f"--{option}", *(f"{key}={value}" for key, value in profile[option].items())]
    return words


def groups(text: str) -> list[str]:
    """The name of each group that is planned."""
    return re.findall(r"^\[.+\] Group job (\w+) ", text, flags=re.M)


@pytest.fixture(scope="module")
def headline(tmp_path_factory):
    """What is planned for both headline tables of a scale, with groups."""
    targets = ("table_instruction_following", "table_math_reasoning")

    @cache
    def planned(scale: str) -> str:
        folder = tmp_path_factory.mktemp(scale)
        return plan(folder, *targets, *groups_of_short_jobs(), scale=scale)

    return planned


@pytest.mark.parametrize("scale", SCALES)
def test_the_headline_tables_have_twelve_and_five_variants(scale, headline):
    """No primary claim compares online humanline, and sampling every 16 steps: fewer seeds do."""
    counts = jobs(headline(scale))
    seeds = load_scale(CONFIG / f"{scale}.yaml").seeds
    many, few = len(seeds.report), len(seeds.sweep or seeds.report)
    assert counts["train"] == (9 + 3) * many + (3 + 2) * few
    assert counts["score_instruction_following"] == 10 * many + 3 * few
    assert counts["score_math_reasoning"] == 4 * many + 2 * few


@pytest.mark.parametrize(("scale", "most"), [("laptop", 60), ("workstation", 30)])
def test_short_jobs_share_submissions_of_a_cluster(scale, most, headline):
    """A group is one submission, and so is each other job: 484 and 259 jobs."""
    text = headline(scale)
    alone = re.findall(r"^(?:rule (\w+)|Job \d+: (.+)$)", text, flags=re.M)
    grouped = re.findall(r"^ +(?:rule \w+|Job \d+):", text, flags=re.M)
    assert len(grouped) + len(alone) == sum(jobs(text).values())
    assert set(groups(text)) == {"prepare", "runs"}
    assert len(groups(text)) + len(alone) <= most


def test_runs_of_a_graph_with_a_checkpoint_share_no_submission(tmp_path):
    """Snakemake would submit some of them twice."""
    text = plan(tmp_path, "tune", *groups_of_short_jobs(), scale="smoke")
    assert groups(text).count("runs") == jobs(text)["generate"] > 8


def test_the_plan_counts_the_jobs_of_the_workflow(tmp_path):
    """Over 500 at paper scale; benchmarks/load_cells.py tells how long it takes."""
    paper = {"results": tmp_path, "scale": "paper"}
    dry = snakemake("all_tables", "tune", "explore", "-n", "--nolock", **paper)
    counts = jobs(dry.stdout + dry.stderr)
    run = snakemake("plan", "--nolock", **paper)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("# Plan of scale paper")
    for target in ("all_tables", "explore"):  # they do nothing
        del counts[target]
    row = r"^\| (\w+(?:, \w+)?) +\| +(\d+) \| +(\d+) \| +(\d+) \| +(\d+) \|"
    rows = re.findall(row, run.stdout, re.M)
    planned = {rule: sum(map(int, parts)) for rule, *parts in rows}
    assert planned.pop("total") == sum(counts.values()) > 500
    summaries = planned.pop("tables, figures")
    assert planned == {rule: count for rule, count in counts.items() if rule in planned}
    assert summaries == sum(count for rule, count in counts.items() if rule not in planned)


@pytest.mark.parametrize(
    ("arguments", "devices"), [((), 4), (("--set-resources", "train:gpu=8"), 8)]
)
def test_training_is_launched_on_the_gpus_of_its_job(arguments, devices, tmp_path):
    text = plan(tmp_path, "table_first_taste", "--printshellcmds", *arguments, scale="paper")
    commands = re.findall(r"humanline train .*", text)
    assert len(commands) == 4
    assert all(f" --devices {devices} " in command for command in commands)


def test_one_table_is_one_target(tmp_path):
    counts = jobs(plan(tmp_path, "table_math_reasoning", scale="laptop"))
    assert counts["table_math_reasoning"] == 1
    assert "score_instruction_following" not in counts


def test_tune_gives_every_variant_the_same_budget(tmp_path):
    text = plan(tmp_path, "tune", scale="laptop")
    scale = yaml.safe_load((CONFIG / "laptop.yaml").read_text())
    runs = re.findall(r"training (\S+)-learning_rate=(\S+)-s(\d+) \((\w+)\)", text)
    for task, options in scale["tasks"].items():
        tried: dict[str, set] = {}
        for variant, rate, seed, of in runs:
            if of == task:
                tried.setdefault(variant, set()).add((float(rate), int(seed)))
        rates = options["training"]["tune_learning_rates"]
        budget = {(rate, seed) for rate in rates for seed in scale["seeds"]["tune"]}
        assert tried and all(points == budget for points in tried.values())


def test_a_row_adds_a_cell_without_code(config, tmp_path):
    def add(experiments):
        experiments["tables"]["math_reasoning"]["cells"].append(
            {"objective": "grpo", "data": "online", "sample_every": 4, "overrides": {"beta": 0.5}}
        )

    before = jobs(plan(tmp_path, scale="smoke", config_directory=config))
    edit(config / "experiments.yaml", add)
    text = plan(tmp_path, scale="smoke", config_directory=config)
    assert jobs(text)["train"] == before["train"] + 1
    assert "training grpo-online-every4-beta=0.5-s1" in text


def test_the_judges_cost_is_told_before_anything_is_trained(config, tmp_path):
    def pay(scale):
        scale["tasks"]["instruction_following"]["judge"] = {
            "kind": "openai",
            "model": "gpt-4.1",
            "max_dollars": 10,
            "prices": {"gpt-4.1": {"input": 2, "output": 8}},
        }

    edit(config / "smoke.yaml", pay)
    options = {"results": tmp_path, "scale": "smoke", "config_directory": config}
    run = snakemake("judge_cost", "--nolock", **options)
    assert run.returncode == 0, run.stderr
    assert "gpt-4.1 at https://api.openai.com/v1, $2 per million tokens" in run.stdout
    assert re.search(r"^ +all +max_new_tokens +\d+ ", run.stdout, flags=re.M)
    assert not (tmp_path / "smoke" / "runs").exists()


def test_how_an_endpoint_is_asked_reruns_nothing(config, tmp_path):
    scale = load_scale(config / "paper.yaml")
    hashes = []
    for change in ({}, {"max_dollars": 3, "concurrency": 1}, {"model": "other"}):
        task = scale.tasks["instruction_following"]
        judge = task.judge.model_copy(update=change)
        hashes.append(score_hash(judge))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_cell_of_two_tables_is_trained_once(config, tmp_path):
    def copy_table(experiments):
        experiments["tables"]["again"] = experiments["tables"]["math_reasoning"]

    before = jobs(plan(tmp_path, scale="smoke", config_directory=config))
    edit(config / "experiments.yaml", copy_table)
    after = jobs(plan(tmp_path, scale="smoke", config_directory=config))
    assert after["train"] == before["train"]
    assert after["table_again"] == 1


def test_a_table_may_name_its_own_seeds(config, tmp_path):
    def more(experiments):
        experiments["tables"]["math_reasoning"]["seeds"] = [1, 5, 6]

    edit(config / "experiments.yaml", more)
    target = "table_math_reasoning"
    counts = jobs(plan(tmp_path, target, scale="smoke", config_directory=config))
    assert counts["score_math_reasoning"] == 4 * 3


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        (
            "experiments.yaml",
            lambda c: c["tables"]["math_reasoning"].update(seeds=[101]),
            r"experiments\.yaml: tables\.math_reasoning\.seeds: \[101\] are tuning seeds.*others",
        ),
        (
            "experiments.yaml",
            lambda c: c["tables"]["math_reasoning"]["cells"][0].update(objective="kto"),
            r"experiments\.yaml: tables\.math_reasoning\.cells\.0\.objective: kto .*add it",
        ),
        ("smoke.yaml", lambda c: c.update(sceed=1), r"smoke\.yaml: sceed: .*spelling"),
        ("smoke.yaml", lambda c: c.pop("seeds"), r"smoke\.yaml: seeds: missing; add"),
        (
            "experiments.yaml",
            lambda c: c["tables"]["math_reasoning"]["cells"][0].update(objective="gppo"),
            r"experiments\.yaml: tables\.math_reasoning\.cells\.0\.objective.*gppo.*change",
        ),
        (
            "smoke.yaml",
            lambda c: c.update(learning_rates="nowhere.yaml"),
            r"nowhere\.yaml: cannot be read .*; check",
        ),
    ],
)
def test_bad_input_gets_one_line_before_anything_runs(file, change, expected, config, tmp_path):
    edit(config / file, change)
    results = tmp_path / "results"
    run = snakemake("--nolock", results=results, scale="smoke", config_directory=config)
    assert run.returncode != 0
    lines = [line for line in run.stderr.splitlines() if "humanline: error:" in line]
    assert len(lines) == 1
    assert re.search(expected, lines[0]), lines[0]
    assert "Traceback" not in run.stderr
    assert not results.exists()


def test_an_unknown_config_key_is_one_line(tmp_path):
    run = snakemake("--nolock", results=tmp_path, scal="smoke")
    assert run.returncode != 0
    assert "--config: scal: unknown key; use scale" in run.stderr
    assert "Traceback" not in run.stderr


def test_an_unknown_scale_is_one_line(tmp_path):
    run = snakemake("--nolock", results=tmp_path, scale="huge")
    assert run.returncode != 0
    assert "huge.yaml: cannot be read" in run.stderr
    assert "Traceback" not in run.stderr


def test_what_is_not_pinned_is_one_line_before_anything_runs(tmp_path):
    results = tmp_path / "results"
    run = snakemake("table_math_reasoning", "--nolock", results=results, scale="paper")
    assert run.returncode != 0
    lines = [line for line in run.stderr.splitlines() if "humanline: error:" in line]
    assert len(lines) == 1 and "revision: null" in lines[0] and "git ls-remote" in lines[0]
    assert "Traceback" not in run.stderr
    assert not results.exists()


def test_what_is_not_pinned_stops_no_jobs_that_do_not_read_it(worker, tmp_path):
    """Where the cache is empty the first job fails, and not the check before it."""
    study = {"results": tmp_path, "scale": "paper", "worker": worker}
    run = snakemake("table_instruction_following", "--nolock", **study)
    assert run.returncode != 0
    assert "revision: null" not in run.stderr
    assert "llama3-ultrafeedback-armorm at revision" in run.stderr


def test_prefetch_always_looks_again(config, tmp_path):
    study = {"scale": "smoke", "config_directory": config, "results": tmp_path / "results"}
    for _ in range(2):
        run = snakemake("prefetch", "--nolock", **study)
        assert run.returncode == 0, run.stderr
        assert jobs(run.stdout + run.stderr) == {"prefetch": 1}


def test_snakemakes_linter_has_no_complaints():
    """It asks for a log on every rule, among other things."""
    lint = forked.snakemake("--lint")
    assert lint.returncode == 0, lint.stdout + lint.stderr


def kill_a_job_half_way(console: Path, *, results: Path, **config) -> Path:
    """Run everything until a training job has kept a checkpoint; kill it; return the checkpoint.

    Snakemake then ends by itself. `console` is the file that its output goes to.
    """
    with open(console, "w") as output:
        workflow = subprocess.Popen(
            [SNAKEMAKE, *command("--nolock", results=results, **config)],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    # What is written after a checkpoint, of runs whose fourth step is in the middle of a rollout.
    pattern = "smoke/runs/math_reasoning/grpo-online-every64*/checkpoints/*/progress.json"
    while workflow.poll() is None:
        time.sleep(0.005)
        for note in results.glob(pattern):
            if json.loads(note.read_text())["step"] < 4:
                continue
            checkpoint = note.parent / "checkpoint-4"
            run = note.parents[2]
            kill_process(workflow.pid, argument=run.name)
            if not (run / "train.json").exists():  # it had not ended just before
                workflow.wait(timeout=120)
                return checkpoint
    pytest.fail(f"no job was killed:\n{console.read_text()}")


def kill_process(ancestor: int, argument: str) -> None:
    for process in psutil.Process(ancestor).children(recursive=True):
        try:
            if argument in process.cmdline():
                process.kill()
        except psutil.NoSuchProcess:
            pass


SECRET = "canary-9f2c71d0"
KEYS = ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY")
TASKS = ("instruction_following", "math_reasoning", "shared_divisors")
SCORES = {f"score_{task}" for task in TASKS}
TABLES = {"table_cost", "table_sweep", *(f"table_{task}" for task in TASKS)}
# What is made anew after edits of modules, of which test_code_hashes has each alone. Of a task's
# module, data, models and samples of that task.
EDITED = ("scoring/score.py", "analysis/figures.py", "tasks/shared_divisors.py")
OF_SHARED_DIVISORS = {"data": 1, "base_model": 1, "offline": 1, "train": 2, "generate": 3}
MADE_ANEW = {*SCORES, "scores", "claims", "figures", "report", "all", *TABLES, *OF_SHARED_DIVISORS}


def check_snakemakes_report(path: Path, results: Path) -> None:
    """It has the page, verdicts, tables and figures, each in a list and with words of ours."""
    page = results / "report" / "index.html"
    with ZipFile(path) as file:
        text = file.read("report/report.html").decode()
        (own,) = (file.read(name) for name in file.namelist() if name.endswith("/index.html"))
    assert own == page.read_bytes()
    lists, entries = (
        json.loads(re.search(rf"^ +var {name} = (\{{.*);$", text, flags=re.M)[1])
        for name in ("categories", "results")
    )
    kinds = {"All on one page", "Verdicts", "Tables", "Figures", "Scores of all runs"}
    assert lists.keys() == kinds
    assert lists["All on one page"]["Other"] == [str(page)]
    for files in (files for (files,) in map(dict.values, lists.values())):
        labels = [tuple(entries[file]["labels"].values()) for file in files]
        assert len(labels) == len({*labels})  # of two with the same, Snakemake shows one
    assert all(entry["caption"] for entry in entries.values())
    made = [file for folder in ("tables", "figures") for file in (results / folder).iterdir()]
    made = {
        str(file)
        for file in made
        if file.suffix in (".csv", ".md", ".svg")
        and not re.match("looked_into|surprisals", file.name)  # of `explore`, and on the way
    }
    assert entries.keys() == made | {str(page)}
    table = entries[str(results / "tables" / "shared_divisors.md")]
    assert "Shared divisors, a third task." in table["caption"]


@pytest.mark.slow
def test_smoke_scale_end_to_end(config, tmp_path, worker, monkeypatch):
    """Everything, once: a killed job, tables, a rerun, a changed option, a broken file."""
    results = tmp_path / "results"
    study = {"results": results, "scale": "smoke", "config_directory": config}
    monkeypatch.setenv(WORKER, str(worker))
    for key in KEYS:
        monkeypatch.setenv(key, SECRET)
    checkpoint = kill_a_job_half_way(tmp_path / "console.txt", **study)
    state = checkpoint / "trainer_state.json"
    saved = state.stat().st_mtime_ns
    run = as_typed("--nolock", **study)
    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads((checkpoint.parents[2] / "train.json").read_text())["steps"] == 8
    assert state.stat().st_mtime_ns == saved  # it went on from there, and did not start anew

    tables = results / "smoke" / "tables"
    for table in (*TASKS, "cost", "sweep"):
        for suffix in ("csv", "md", "tex"):
            assert (tables / f"{table}.{suffix}").stat().st_size > 0
        provenance = json.loads((tables / f"{table}.provenance.json").read_text())
        assert provenance["seeds"]["report"] == [1]
        assert provenance["packages"]["trl"] == "1.16.0"
        assert provenance["seconds_per_stage"]["train"] > 0
        assert len(provenance["config_hash"]) == 12
        assert provenance["git"].keys() == {"commit", "modified"}
        assert provenance["machine"]["cores"] > 0
    compared = (tables / "comparisons.csv").read_text().splitlines()
    assert len(compared) == 1 + 4 + 2 + 3
    assert all(row.endswith(",smoke") for row in compared[1:])
    assert sum(",open," in row for row in compared) == 4 + 3  # one seed
    assert len((tables / "claims.csv").read_text().splitlines()) == 1 + 3
    assert "| C5 " in (tables / "claims.md").read_text()
    scores = (tables / "scores.csv").read_text().splitlines()
    assert sum("math_reasoning,base,1,0," in row for row in scores) == 1
    rows = (tables / "instruction_following.csv").read_text().splitlines()
    assert len(rows) == 1 + 10
    assert (tables / "math_reasoning_curves.svg").read_text().lstrip().startswith("<?xml")

    again = partial(snakemake, worker=worker)
    explored = again("explore", "--nolock", **study)
    assert explored.returncode == 0, explored.stdout + explored.stderr
    rows = (results / "smoke" / "map" / "map.csv").read_text().splitlines()
    assert [row.split(",")[1:3] for row in rows[1:]] == [
        ["dpo-offline", "101"],
        ["dpo-offline-humanline-k4-clip-1.5_1.5", "101"],
    ]
    assert (tables / "looked_into.csv").exists()

    assert set(jobs(plan(**study))) == {"report", "all"}  # the page shows the map, too
    reported = tmp_path / "report.zip"
    run = again("--nolock", "--report", reported, "--report-after-run", **study)
    assert run.returncode == 0, run.stdout + run.stderr
    check_snakemakes_report(reported, results / "smoke")
    run = again("--nolock", **study)
    assert "Nothing to be done" in run.stdout + run.stderr

    scale = (config / "smoke.yaml").read_text()
    edit(
        config / "smoke.yaml",
        lambda c: c["tasks"]["math_reasoning"]["evaluation"].update(temperature=0.8),
    )
    expected = {
        "generate",
        "score_math_reasoning",
        "table_math_reasoning",
        "table_sweep",
        "scores",
        "claims",
        "report",
        "all",
    }
    assert set(jobs(plan(**study))) == expected
    (config / "smoke.yaml").write_text(scale)

    edited = tmp_path / "edited"  # Snakemake imports what lies beside its Snakefile
    for name in ("humanline", "workflow/rules"):
        shutil.copytree(ROOT / name, edited / name)
    shutil.copy(ROOT / "Snakefile", edited)
    for name in EDITED:
        with open(edited / "humanline" / name, "a") as module:
            module.write("\n_EDITED = 1\n")
    run = as_typed("-s", edited / "Snakefile", "-n", "--nolock", **study)
    anew = jobs(run.stdout + run.stderr)
    assert set(anew) == MADE_ANEW
    assert {rule: anew[rule] for rule in OF_SHARED_DIVISORS} == OF_SHARED_DIVISORS

    runs = results / "smoke" / "runs"
    broken = runs / "math_reasoning" / "grpo-online-every1-s1"
    (broken / "samples.jsonl").write_text('{"step": 0\n')
    (broken / "grades.csv").unlink()
    kept = (tables / "instruction_following.md").stat().st_mtime_ns
    failed = again("--nolock", **study)
    output = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert re.search(r"^the whole log: .*\.log$", output, flags=re.M)
    remedy = r"make it again \(`humanline generate math_reasoning grpo-online-every1-s1 .*`\)"
    assert re.search(rf"samples\.jsonl: line 1: not JSON .*; {remedy}\Z", output.rstrip())
    assert (tables / "instruction_following.md").stat().st_mtime_ns == kept
    assert (broken / "train.json").exists()

    files = [path for path in (*results.rglob("*"), tmp_path / "console.txt") if path.is_file()]
    assert {"index.html", "train.json"} <= {path.name for path in files}
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
