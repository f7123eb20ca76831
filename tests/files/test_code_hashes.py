"""What the workflow reruns by: every module that a command imports counts, and no prose does."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from humanline.cli import commands as cli
from humanline.cli.parser import COMMANDS as TABLE
from humanline.files.code_hashes import PACKAGE, code_hash, modules_of
from humanline.study.study import load_study
from humanline.study.tasks import TASKS
from humanline.trainers.registry import OBJECTIVES

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "workflow" / "config"
RULES = [ROOT / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))]
SCORING = ("score", "table", "scores", "power", "claims", "tune", "map", "figures", "report")
DEAR = (
    "data",
    "pretrained",
    "base_model",
    "offline",
    "likelihood",
    "train",
    "generate",
    "predictors",
    "surprisal",
)
MODELS = {"data", "base_model", "offline", "train", "generate"}
COMMANDS = (*SCORING, *DEAR)


def hashes(package: Path = PACKAGE) -> dict[str, str]:
    return {
        name: code_hash(name, by_value=name not in SCORING, tasks=TASKS, package=package)
        for name in COMMANDS
    }


@pytest.fixture
def package(tmp_path) -> Path:
    return shutil.copytree(PACKAGE, tmp_path / "humanline")


def changed_by(package: Path, file: str, text: str) -> set[str]:
    """The commands whose hash changes as text is added to a file of a copy."""
    before = hashes()
    with open(package / file, "a") as module:
        module.write(text)
    after = hashes(package)
    return {name for name in before if before[name] != after[name]}


def test_a_copy_has_the_same_hashes(package):
    assert hashes(package) == hashes()
    assert len({*hashes().values()}) > len(COMMANDS) // 2


@pytest.mark.parametrize(
    ("file", "changed", "unchanged"),
    [
        ("scoring/score.py", {"score"}, {*MODELS, "table"}),
        ("scoring/math/grading.py", {"score", "train", "offline"}, {"generate", "base_model"}),
        ("scoring/length_control.py", {"score", "table", "claims"}, MODELS),
        ("scoring/judges/openai/prompt.txt", {"score"}, MODELS),
        ("scoring/judge.py", {"score"}, MODELS),
        ("report/plots.py", {"table", "map", "figures"}, {*MODELS, "score", "tune", "claims"}),
        # Named by the registry alone.
        ("trainers/dpo.py", {"train"}, {"generate", "score", "table", "offline", "data"}),
        ("trainers/batches/rounds.py", {"train"}, {"generate", "score", "table", "offline"}),
        ("worlds/sums.py", {"data", "pretrained", "base_model"}, {"generate", "table"}),
        ("generation/samples.py", {"generate"}, {"train", "offline", "table"}),
        (
            "generation/vllm_engine.py",
            {"offline", "train", "generate", "surprisal"},
            {"table", "data"},
        ),
        ("tables/run_results.py", {"table", "claims", "map"}, {"train", "generate", "data"}),
        # What is asked enters the dear stages by value, so their hashes leave it out.
        ("study/scale/scale.py", set(SCORING), set(DEAR)),
        ("study/claims.py", set(SCORING), set(DEAR)),
        ("study/study.py", set(SCORING), set(DEAR)),
        ("study/runs/resolved.py", set(SCORING), set(DEAR)),
        ("study/runs/hashes.py", set(SCORING), set(DEAR)),
        # What a stage does with a run is its own code.
        ("training/cell.py", {"train"}, {"generate", "score", "table", "offline", "data"}),
        ("data/training_files.py", {"train", "generate", "table"}, {"data", "base_model", "score"}),
        ("scoring/score_files.py", {"score", "table", "tune"}, MODELS),
        ("cli/plan.py", set(), set(COMMANDS)),
        ("cli/parser.py", set(), set(COMMANDS)),
        ("cli/local/run_locks.py", set(), set(COMMANDS)),
        ("cli/local/worker.py", set(), set(COMMANDS)),  # it imports what all commands import
    ],
)
def test_who_imports_a_module_has_it_in_its_hash(file, changed, unchanged, package):
    found = changed_by(package, file, "\n_EDITED = 1\n")
    assert changed <= found
    assert not unchanged & found


def test_a_tasks_file_is_in_the_hashes_of_its_own_rules_alone(package):
    with open(package / "tasks" / "shared_divisors.py", "a") as module:
        module.write("\n_EDITED = 1\n")
    for command in COMMANDS:
        for task in TASKS:
            before = code_hash(command, tasks=[task])
            after = code_hash(command, tasks=[task], package=package)
            assert (before != after) == (task == "shared_divisors"), (command, task)


@pytest.mark.parametrize(
    ("function", "changed"),
    [
        ("grade_completion", {"score", "offline", "likelihood", "train", "report"}),
        ("write_completion", {"data", "pretrained", "base_model"}),
        ("draw_prompts", {"data", "pretrained", "base_model"}),
        ("read_row", {"data", "offline", "likelihood"}),
    ],
)
def test_of_a_task_those_functions_count_that_a_command_calls(function, changed, package):
    path = package / "tasks" / "shared_divisors.py"
    text, start = path.read_text(), f"def {function}("
    path.write_text(text.replace(start, f"def _edited():\n    pass\n\n\n@_edited\n{start}"))
    before, after = hashes(), hashes(package)
    assert {name for name in before if before[name] != after[name]} == changed


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        (
            'label="math"',
            'label="maths"',
            {"table", "power", "claims", "report", "map", "figures"},
        ),
        (
            "count as wrong",
            "count as false",
            {"table", "scores", "power", "map", "claims", "predictors", "report"},
        ),
        (
            '"no_box"',
            '"no_answer"',
            {*COMMANDS} - {"data", "pretrained", "base_model", "generate", "figures", "surprisal"},
        ),
    ],
)
def test_of_a_task_those_values_count_that_a_command_reads(old, new, changed, package):
    """What tables say of a task trains nothing anew."""
    path = package / "tasks" / "math_reasoning.py"
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    before, after = hashes(), hashes(package)
    assert {name for name in before if before[name] != after[name]} == changed


def test_of_a_run_its_own_objective_counts(package):
    """A change of one trainer, or a new objective, trains no other's runs anew."""

    def trained(package: Path) -> dict[str, str]:
        return {
            name: code_hash("train", by_value=True, named=row.modules, package=package)
            for name, row in OBJECTIVES.items()
        }

    before = trained(PACKAGE)
    for name in ("kto", "shared/trl_losses"):
        with open(package / "trainers" / f"{name}.py", "a") as module:
            module.write("\n_EDITED = 1\n")
        shutil.copytree(package, package.parent / Path(name).name / "humanline")
    (package.parent / "kto" / "humanline" / "trainers" / "new.py").write_text("X = 1\n")
    after = trained(package.parent / "kto" / "humanline")
    assert {name for name in before if before[name] != after[name]} == {"kto"}
    assert trained(package)["dpo"] != before["dpo"]
    with open(package / "trainers" / "shared" / "checkpoints.py", "a") as module:
        module.write("\n_EDITED = 1\n")
    everything = trained(shutil.copytree(package, package.parent / "all" / "humanline"))
    assert all(everything[name] != before[name] for name in before)


def test_a_command_has_its_own_function_in_its_hash(package):
    path = package / "cli" / "commands.py"
    text = path.read_text()
    assert text.count("base_model.make(") == 1
    path.write_text(text.replace("base_model.make(", "assert base_model.make("))
    before, after = hashes(), hashes(package)
    assert {name for name in before if before[name] != after[name]} == {"base_model"}


def test_a_new_file_that_no_module_names_is_in_every_hash(package):
    assert changed_by(package, "unknown.csv", "1\n") == set(COMMANDS)


def test_a_new_file_that_a_module_names_is_in_the_hashes_of_those_who_import_it(package):
    (package / "weights.csv").write_text("1\n")
    assert "weights.csv" not in (package / "scoring" / "length_control.py").read_text()
    with open(package / "scoring" / "length_control.py", "a") as module:
        module.write('_FILE = "weights.csv"\n')
    before = hashes(package)
    other = shutil.copytree(package, package.parent / "other" / "humanline")
    (other / "weights.csv").write_text("2\n")
    after = hashes(other)
    changed = {name for name in before if before[name] != after[name]}
    assert {"score", "table", "claims"} <= changed and not changed & MODELS


def test_prose_reruns_nothing(package):
    for path in package.rglob("*.py"):
        text = re.sub(r'^( *)"""(?=\w)', r'\1"""Now: ', path.read_text(), flags=re.M)
        text = re.sub(r"^( *return [\w. ]+)$", r"\n  # Why.\n\1  # So.", text, flags=re.M)
        path.write_text(f"{text}\n\n# The end.\n")
    assert hashes(package) == hashes()


def test_what_looks_like_a_comment_in_a_text_is_code(package):
    before = changed_by(package, "scoring/math/grading.py", '_A = "x # one"\n')
    other = shutil.copytree(package, package.parent / "other" / "humanline")
    path = other / "scoring" / "math" / "grading.py"
    path.write_text(path.read_text().replace("# one", "# two"))
    assert "score" in before
    assert code_hash("score", tasks=TASKS, package=other) != code_hash(
        "score", tasks=TASKS, package=package
    )


@pytest.mark.parametrize(
    "line",
    [
        "from ...cli import plan",
        "from ...cli.plan import describe",
        "from humanline.cli import plan",
        "import humanline.cli.plan as p",
        "def f():\n    try:\n        import humanline.cli.plan\n    finally:\n        pass",
        "def f(x):\n    match x:\n        case 1:\n            import humanline.cli.plan",
        "class A:\n    async def f(self):\n        with x:\n            from ...cli import plan",
        "import_module('humanline.cli.plan')",
    ],
)
def test_every_kind_of_import_is_found(line, package):
    with open(package / "scoring" / "math" / "grading.py", "a") as module:
        module.write(f"\n{line}\n")
    assert "cli.plan" not in modules_of("score", tasks=TASKS)
    assert {"cli.plan", "cli.jobs"} <= modules_of("score", tasks=TASKS, package=package)


def test_an_unknown_command_is_an_error():
    with pytest.raises(ValueError, match="no command 'fly'"):
        code_hash("fly")


def test_every_command_of_the_table_has_the_function_of_its_name():
    for command in TABLE:
        assert getattr(cli, f"_{command.name}").__name__ == f"_{command.name}"


def test_every_rule_that_writes_files_has_the_hash_of_its_command():
    found = []
    for path in RULES:
        for rule in re.split(r"^ *(?:rule|checkpoint)\b", path.read_text(), flags=re.M)[1:]:
            if not re.search(r"^ +output:$", rule, flags=re.M) or "touch(" in rule:
                continue
            (hashed,) = re.findall(r'\bcode=code_(?:hash|of)\("([\w-]+)"(.*)\)', rule)
            (run,) = re.findall(r'\bcommand\(\s*"([\w-]+)', rule)
            assert hashed[0] == run, rule
            assert "code_of(" in rule or "tasks=" in hashed[1] or run == "figures", rule
            assert ("by_value=True" in hashed[1]) == (run not in SCORING), rule
            found.append(run)
    assert set(found) == set(COMMANDS)


def test_hashes_are_cheap():
    """They are made anew in every job of a cluster."""
    code = "import humanline.files.code_hashes as c; "
    code += f"[c.code_hash(n, tasks=[t]) for n in {COMMANDS} for t in {TASKS}]"
    code += "; import time; print(time.process_time())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 3  # 0.25 on a machine with nothing else to do


# Runs commands, each in a fork of a process that has not imported ours, and tells what each did.
RECORD = """
import json, os, sys
import datasets, pandas, transformers, trl, trl.trainer.grpo_trainer, trl.trainer.kto_trainer

folder, *options = sys.argv[1:]
assert not [name for name in sys.modules if name.startswith("humanline")]
for number, command in enumerate(json.loads(sys.stdin.read())):
    child = os.fork()
    if child == 0:
        from humanline.cli.commands import main
        status = main([*command, *options])
        ours = sorted(name for name in sys.modules if name.startswith("humanline"))
        with open(f"{folder}/{number}.json", "w") as file:
            json.dump({"status": status, "modules": ours}, file)
        os._exit(0)
    os.waitpid(child, 0)
"""
BASE, MATH = "base-s1", "math_reasoning"
QUARTILE = "grpo-offline-quartile1-s1"
KTO = ("instruction_following", "kto-online-every8-s1")
RUNS = {
    ("instruction_following", QUARTILE),
    KTO,
    ("math_reasoning", "grpo-online-every1-s1"),
    ("shared_divisors", "grpo-online-every1-s1"),
}
SEEN = [["generate", *KTO], ["score", *KTO]]  # they import what those of the other run do


@pytest.mark.slow
def test_no_command_imports_what_its_hash_lacks(tmp_path):
    """The modules that a command has after its work, at a scale of moments."""
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    for task in scale["tasks"].values():
        task["base_model"] |= {"examples": 64, "epochs": 1}
        task["training"] |= {"steps": 2, "evaluate_every": 1, "warmup_steps": 0}
        task["evaluation"]["max_new_tokens"] = 8
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(scale))
    experiments = yaml.safe_load(
        (Path(__file__).parents[1] / "workflow" / "experiments.yaml").read_text()
    )
    row = {"objective": "grpo", "data": "offline", "quartile": 1}
    experiments["tables"]["instruction_following"]["cells"].append(row)
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(experiments))
    commands = [["data", task, "s1"] for task in scale["tasks"]]
    study = load_study(tmp_path / "smoke.yaml", tmp_path / "experiments.yaml", tmp_path)
    commands += [["pretrained", MATH, name] for name in study.pretrained(MATH)]
    commands += [["base_model", task, BASE] for task in scale["tasks"]]
    commands += [["offline", "instruction_following", BASE]]
    commands += [["likelihood", "instruction_following", BASE, "--of", BASE]]
    for run in sorted(RUNS):
        commands += [["train", *run], ["generate", *run], ["score", *run]]
    commands = [words for words in commands if words not in SEEN]
    commands += [["predictors", "instruction_following", QUARTILE]]
    done = len(commands)
    # Of the others the inputs are missing, but they have imported what they need.
    commands += [
        ["table", "cost"],
        ["scores"],
        ["claims"],
        ["power"],
        ["tune"],
        ["map"],
        ["figures"],
        ["report"],
    ]
    commands += [["surprisal", "1"], ["judge_cost"]]
    options = ["--scale=smoke", f"--config={tmp_path}", f"--results={tmp_path / 'results'}"]
    run = subprocess.run(
        [sys.executable, "-c", RECORD, tmp_path, *options],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    for number, command in enumerate(commands):
        record = json.loads((tmp_path / f"{number}.json").read_text())
        assert (record["status"] == 0) or number >= done, (command, run.stderr[-3000:])
        found = {name.removeprefix("humanline").removeprefix(".") for name in record["modules"]}
        found -= {"cli", "cli.commands", "cli.parser", "cli.local", "cli.local.run_locks"}
        found -= {"cli.progress", "cli.progress.joblog"}
        # Whether the packages and the workflow are there; if not, nothing runs.
        found -= {"cli.install", "cli.install.missing", "cli.install.starter"}
        # What seals and errors say besides: the commit, and the command that makes a file.
        found -= {"files.provenance", "cli.makers"}
        # Of every command the configuration is validated, with all tasks that it names.
        found -= {f"tasks.{task}" for task in TASKS if task not in command}
        tasks = [task for task in TASKS if task in command] or TASKS
        missing = found - modules_of(command[0], tasks=tasks)
        assert not missing, f"{command}: {missing}"
        asked = found - modules_of(command[0], by_value=True, tasks=tasks)
        assert asked <= modules_of("check"), f"{command}: {asked}"
