"""The command line: exit status, one-line errors, logs, and the schemas it writes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from humanline.cli import commands as cli
from humanline.cli.commands import main
from humanline.cli.parser import COMMANDS, LISTS, parser
from humanline.cli.progress.joblog import LINES as TAIL
from humanline.data.hub import rows_fingerprint
from humanline.files.json_files import read_jsonl, write_jsonl
from humanline.study.study import schemas

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "workflow"
# A file that extends another says the rest of what its schema asks for there.
FILES = [
    path
    for path in sorted((WORKFLOW / "config").glob("*.yaml"))
    if "extends" not in yaml.safe_load(path.read_text())
]


@pytest.fixture
def run(tmp_path, capfd):
    """Run a command at smoke scale; return its exit status, output and error output."""

    def call(*arguments, scale="smoke"):
        options = ["--scale", scale, "--config", WORKFLOW / "config", "--results", tmp_path]
        status = main([str(argument) for argument in (*arguments, *options)])
        return status, *capfd.readouterr()

    return call


def test_check_counts_cells(run):
    status, out, err = run("check")
    assert status == 0 and not err
    assert "cells" in out and "valid" in out and "check: " in out


def test_a_command_writes_its_stages_files(run, tmp_path):
    status, _, _ = run("data", "math_reasoning", "s1")
    assert status == 0
    names = {path.name for path in (tmp_path / "smoke/data/math_reasoning/s1").iterdir()}
    rows = {"train.jsonl", "validation.jsonl", "evaluation.jsonl"}
    assert names == rows | {f".{name}.seal" for name in rows}


def test_where_metrics_go_has_the_name_of_the_run(tmp_path, monkeypatch):
    for variable in ("WANDB_PROJECT", "TENSORBOARD_LOGGING_DIR"):
        monkeypatch.setenv(variable, "")  # so that it is as before afterwards
        monkeypatch.delenv(variable)
    monkeypatch.setattr("humanline.study.scale.scale.find_spec", lambda name: True)
    config = shutil.copytree(WORKFLOW / "config", tmp_path / "config")
    with open(config / "smoke.yaml", "a") as file:
        file.write("\nreport_to: [tensorboard]\n")
    monkeypatch.setattr(cli, "_train", lambda study, arguments: 0)
    options = ["--scale", "smoke", "--config", str(config), "--results", str(tmp_path)]
    assert main(["train", "math_reasoning", "grpo-online-every1-s1", *options]) == 0
    folder = tmp_path / "smoke/tensorboard/math_reasoning/grpo-online-every1-s1"
    assert os.environ[variable] == str(folder)
    assert os.environ["WANDB_PROJECT"] == "humanline-smoke"


@pytest.mark.parametrize("draw", ["all", "s999", "1", "../s1"])
def test_a_set_of_prompts_that_no_run_has_is_one_line(run, draw, tmp_path):
    status, _, err = run("data", "math_reasoning", draw)
    assert status == 1 and err.count("\n") == 1
    assert f"draw of math_reasoning: {draw!r}" in err and "s1" in err
    assert not (tmp_path / "smoke").exists()


def test_data_of_the_hub_come_from_its_reader(tmp_path, monkeypatch):
    from humanline.data import hub_datasets

    model = {"kind": "hub", "repo": "owner/name", "revision": "a1" * 20}
    scale = yaml.safe_load((WORKFLOW / "config/smoke.yaml").read_text())
    math = {"data": {"kind": "hub", "train": model, "evaluation": model}, "base_model": model}
    scale["tasks"]["math_reasoning"] = scale["tasks"]["math_reasoning"] | math
    config = tmp_path / "config"
    config.mkdir()
    (config / "smoke.yaml").write_text(yaml.safe_dump(scale))
    shutil.copy(WORKFLOW / "config/experiments.yaml", config)
    rows = lambda task, config: {"train": [{"prompt": task, "answer": "2"}]}  # noqa: E731
    monkeypatch.setattr(hub_datasets, "splits", rows)
    options = ["--scale", "smoke", "--config", str(config), "--results", str(tmp_path)]
    assert main(["data", "math_reasoning", "all", *options]) == 0
    path = tmp_path / "smoke/data/math_reasoning/all/train.jsonl"
    assert read_jsonl(path) == [{"prompt": "math_reasoning", "answer": "2"}]


def test_a_base_model_starts_from_what_all_seeds_share(run, tmp_path, monkeypatch):
    from humanline.training import base_model

    calls = []
    for name in ("make", "pretrain"):
        monkeypatch.setattr(base_model, name, lambda *arguments: calls.append(arguments))
    for base in ("base-s1", "base-s101"):
        assert run("base-model", "math_reasoning", base)[0] == 0
    (task, model, seed, folder, data, pretrained), (_, _, other, _, _, shared) = calls
    assert (task, seed, other, data.kind) == ("math_reasoning", 1, 101, "miniature")
    assert folder == tmp_path / "smoke/runs/math_reasoning/base-s1/model"
    assert pretrained == shared == tmp_path / "smoke/pretrained/math_reasoning" / shared.name
    assert run("pretrained", "math_reasoning", shared.name)[0] == 0
    assert calls[-1] == (task, model.sizes, model.pretraining, shared, data)
    assert run("base-model", "instruction_following", "base-s1")[0] == 0
    assert calls[-1][-1] is None


def test_a_pretrained_model_that_no_base_model_starts_from_is_one_line(run):
    status, _, err = run("pretrained", "math_reasoning", "0123456789ab")
    assert status == 1 and err.count("\n") == 1
    assert "pretrained model of math_reasoning" in err


def test_math_is_scored_by_grading(run, tmp_path):
    folder = tmp_path / "smoke/runs/math_reasoning/base-s1"
    row = {"step": 0, "prompt_id": 0, "prompt": "1+2", "answer": "3", "completion": "\\boxed{3}"}
    write_jsonl(folder / "samples.jsonl", [row])
    status, _, _ = run("score", "math_reasoning", "base-s1")
    assert status == 0
    assert (folder / "grades.csv").exists()


def test_what_is_not_pinned_is_not_read(run):
    status, _, err = run("data", "math_reasoning", "all", scale="paper")
    assert status == 1 and err.count("\n") == 1
    assert "tasks.math_reasoning.data.train.revision: null" in err
    assert "git ls-remote https://huggingface.co/datasets/" in err


@pytest.mark.parametrize(
    "command",
    [
        ("data", "instruction_following", "all"),
        ("offline", "instruction_following", "base-s1"),
        ("base-model", "math_reasoning", "base-s1"),
    ],
)
def test_what_is_not_pinned_stops_no_command_that_does_not_read_it(run, command):
    """They get as far as an empty cache or folder."""
    status, _, err = run(*command, scale="paper")
    assert status == 1 and "revision: null" not in err
    assert "not in the cache" in err or "cannot be read" in err


def test_an_unpinned_scale_is_valid(run):
    status, out, _ = run("check", scale="paper")
    assert status == 0 and "valid" in out


def test_prefetch_tells_what_was_fetched(tmp_path, capfd, model_folder, hub_cache):
    rows = [{"problem": f"{i}+1", "answer": str(i + 1)} for i in range(3)]
    write_jsonl(tmp_path / "math" / "train.jsonl", rows)
    hub_cache(tmp_path / "math", "owner/math", "a1" * 20, "dataset")
    hub_cache(model_folder, "owner/model", "b2" * 20)
    data = {"kind": "hub", "repo": "owner/math", "revision": "a1" * 20}
    model = {"kind": "hub", "repo": "owner/model", "revision": "b2" * 20}
    scale = yaml.safe_load((WORKFLOW / "config/smoke.yaml").read_text())
    math = {"data": {"kind": "hub", "train": data, "evaluation": data}, "base_model": model}
    scale["tasks"]["math_reasoning"] |= math
    shutil.copy(WORKFLOW / "config/experiments.yaml", tmp_path)
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(scale))
    options = ["--scale", "smoke", "--config", str(tmp_path), "--results", str(tmp_path)]
    assert main(["prefetch", *options]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "tasks.math_reasoning.data.train",
        "tasks.math_reasoning.data.evaluation",
        "tasks.math_reasoning.base_model",
        "prefetch",
    ]
    assert lines[0].endswith(f"3 rows, fingerprint {rows_fingerprint(rows)}")
    assert "owner/model: fingerprint " in lines[2]
    math["data"]["train"] = data | {"revision": None}
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(scale))
    assert main(["prefetch", *options]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert "owner/math: not fetched; revision: null" in lines[0] and len(lines) == 4
    math["data"]["train"] = data | {"fingerprint": rows_fingerprint(rows[:2])}
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(scale))
    assert main(["prefetch", *options]) == 1
    assert "fetch it anew" in capfd.readouterr().err


def test_a_wrong_scale_is_one_line(run):
    status, out, err = run("check", scale="huge")
    assert status == 1 and not out
    assert err.startswith("humanline: error: ") and err.count("\n") == 1
    assert "huge.yaml: cannot be read" in err and "Traceback" not in err


def test_a_wrong_run_name_is_one_line(run):
    status, _, err = run("train", "math_reasoning", "ppo-s1")
    assert status == 1
    assert err.startswith("humanline: error: no cell of math_reasoning is named 'ppo-s1'; add it")
    assert "or its seed to the scale's seeds" in err
    assert err.count("\n") == 1


def test_a_wrong_table_is_one_line(run):
    status, _, err = run("table", "poems")
    assert status == 1 and err.count("\n") == 1
    assert err.startswith(
        "humanline: error: table: 'poems' is unknown here; use one of first_taste"
    )


def test_what_a_study_lacks_is_one_line(tmp_path, capfd):
    """A study may have no claims, and no figure of its own models."""
    for name in ("smoke.yaml", "experiments.yaml"):
        shutil.copy(WORKFLOW / "config" / name, tmp_path)
    experiments = yaml.safe_load((tmp_path / "experiments.yaml").read_text())
    del experiments["implied_capacity"]
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(experiments))
    options = ["--scale", "smoke", "--config", str(tmp_path), "--results", str(tmp_path / "r")]
    for command, lacks in (
        (["claims"], "claims.yaml: cannot be read; write the claims"),
        (["figures"], "experiments.yaml: implied_capacity: missing, but the figures show it; add"),
        (["surprisal", "1"], "experiments.yaml: implied_capacity: missing"),
    ):
        assert main([*command, *options]) == 1
        error = capfd.readouterr().err
        assert error.startswith(f"humanline: error: {tmp_path}/{lacks}") and error.count("\n") == 1


def test_help_lists_every_command(capfd):
    with pytest.raises(SystemExit) as error:
        main(["--help"])
    assert error.value.code == 0
    out = capfd.readouterr().out
    listed = {line.split()[0] for line in out.splitlines() if line.startswith("    ")}
    assert {command.name for command in COMMANDS} <= listed


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_explains_itself(command, capfd):
    with pytest.raises(SystemExit) as error:
        main([command.name, "--help"])
    assert error.value.code == 0
    out = " ".join(capfd.readouterr().out.split())
    assert f"usage: humanline {command.name} " in out and command.text in out


def test_a_name_may_be_typed_with_dashes():
    dashed = parser().parse_args(["base-model", "math_reasoning", "base-s1"])
    assert dashed == parser().parse_args(["base_model", "math_reasoning", "base-s1"])


def test_versions(capfd):
    with pytest.raises(SystemExit) as error:
        main(["--version"])
    assert error.value.code == 0
    versions = dict(line.split() for line in capfd.readouterr().out.splitlines())
    assert list(versions) == ["humanline", "trl", "transformers", "torch"]
    assert versions["trl"] == "1.16.0"


def test_the_parser_is_cheap():
    """Each job pays for it: no library that computes is imported before a command asks for it."""
    code = "import sys; from humanline.cli.commands import main\n"
    code += "try: main(['--version'])\nexcept SystemExit: print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.splitlines()[-1].split())
    assert {"humanline.cli.parser", "pydantic"} <= loaded
    assert not loaded & {"torch", "transformers", "trl", "numpy", "pandas", "tabulate", "rich"}


class TestList:
    @pytest.fixture
    def listed(self, run):
        def call(*arguments) -> list[dict]:
            status, out, err = run("list", *arguments, "--json")
            assert status == 0 and not err
            return json.loads(out)

        return call

    def test_what_can_be_listed(self, listed):
        assert [row["name"] for row in listed()] == list(LISTS)

    def test_scales(self, listed):
        rows = {row["name"]: row for row in listed("scales")}
        files = {path.stem for path in (WORKFLOW / "config").glob("*.yaml")}
        assert rows.keys() == files - {"experiments", "claims"}
        assert rows["smoke_vllm"]["extends"] == "smoke.yaml" and not rows["smoke"]["extends"]
        assert all(row["description"] for row in rows.values())

        assert not any(row["fault"] for row in rows.values())

    def test_a_wrong_scale_hides_no_other(self, tmp_path, capfd):
        shutil.copytree(WORKFLOW / "config", tmp_path / "config")
        (tmp_path / "config/broken.yaml").write_text("scale: [")
        (tmp_path / "config/empty.yaml").write_text("scale: empty\nextends: smoke.yaml\nseeds: 1")
        assert main(["list", "scales", "--json", "--config", str(tmp_path / "config")]) == 0
        rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)}
        assert len(rows) > 4 and rows["laptop"]["fault"] is None
        assert re.search(r"broken\.yaml: .*line 1", rows["broken"]["fault"])
        assert re.search(r"empty\.yaml: seeds: ", rows["empty"]["fault"])
        assert rows["empty"]["extends"] == "smoke.yaml"

    def test_a_folder_without_scales_is_told(self, tmp_path, capfd):
        assert main(["list", "scales", "--config", str(tmp_path)]) == 1
        assert f"{tmp_path}: no scale is here; name" in capfd.readouterr().err

    def test_tables(self, listed):
        rows = {row["name"]: row for row in listed("tables")}
        tables = yaml.safe_load((WORKFLOW / "config/experiments.yaml").read_text())["tables"]
        assert rows.keys() == tables.keys()
        headline = rows["instruction_following"]
        assert (headline["view"], headline["cells"], headline["seeds"]) == ("headline", 13, "1")
        assert all(row["description"] == tables[name]["description"] for name, row in rows.items())
        for name, row in rows.items():
            usual = "all_tables" if tables[name].get("extra") else "all"
            assert row["target"] == ("explore" if tables[name].get("exploratory") else usual)

    def test_cells(self, listed, tmp_path):
        rows = {(row["task"], row["name"]): row for row in listed("cells")}
        cell = rows["math_reasoning", "grpo-online-every1-s1"]
        assert (cell["variant"], cell["seed"]) == ("grpo-online-every1", 1)
        assert cell["learning_rate"] == 1e-3 and cell["done"] is False
        assert rows["math_reasoning", "base-s1"]["learning_rate"] is None
        path = tmp_path / "smoke/runs/math_reasoning/grpo-online-every1-s1/grades.csv"
        path.parent.mkdir(parents=True)
        path.touch()
        done = [row["name"] for row in listed("cells") if row["done"]]
        assert done == ["grpo-online-every1-s1"]

    @pytest.mark.parametrize(
        ("kind", "some"),
        [
            ("objectives", {"dpo", "kto", "grpo"}),
            ("tasks", {"instruction_following", "math_reasoning"}),
            ("commands", {"train", "list"}),
        ],
    )
    def test_what_needs_no_study(self, kind, some, tmp_path, monkeypatch, capfd):
        monkeypatch.chdir(tmp_path)
        assert main(["list", kind, "--json"]) == 0
        assert some <= {row["name"] for row in json.loads(capfd.readouterr().out)}

    @pytest.mark.parametrize("kind", LISTS)
    def test_for_people_it_is_columns(self, kind, run, listed):
        rows = listed(kind)
        status, out, _ = run("list", kind)
        head, *lines = out.splitlines()
        assert status == 0 and head.split() == list(rows[0])
        assert len(lines) == len(rows)
        assert all(str(row["name"]) in line for row, line in zip(rows, lines, strict=True))

    def test_a_reader_that_has_enough_gets_no_traceback(self):
        """As `| head` has, which closes the pipe."""
        words = [sys.executable, "-m", "humanline", "list", "cells", "--scale=smoke"]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0
        process.stderr.close()

    def test_an_unknown_kind_is_wrong_usage(self, capfd):
        with pytest.raises(SystemExit) as error:
            main(["list", "judges"])
        assert error.value.code == 2
        assert "'judges' is unknown; use one of scales, tables" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [["train", "poetry", "x"], ["fly"], [], ["base-model"]])
def test_wrong_usage_exits_with_two(arguments, capfd):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    err = capfd.readouterr().err
    assert err.startswith("humanline: error: ") and err.count("\n") == 1 and "--help`" in err


def test_an_unforeseen_error_shows_its_traceback(run, monkeypatch):
    monkeypatch.setattr(cli, "_check", lambda study, arguments: 1 / 0)
    status, _, err = run("check")
    assert status == 1
    assert "Traceback" in err and "ZeroDivisionError" in err


class TestLogs:
    """In a process of its own: a log takes file descriptors, which pytest wants as well."""

    @pytest.fixture
    def log(self, tmp_path) -> Path:
        return tmp_path / "logs" / "of a command.log"

    @pytest.fixture
    def run(self, tmp_path, log):
        def call(*arguments, before="") -> subprocess.CompletedProcess:
            options = ["--scale", "smoke", "--config", WORKFLOW / "config", "--results", tmp_path]
            argv = [str(argument) for argument in (*arguments, *options, "--log", log)]
            imports = "import sys\nfrom humanline.cli import commands as cli"
            code = f"{imports}\n{before}\nsys.exit(cli.main({argv}))"
            return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

        return call

    def test_a_log_takes_the_output(self, run, log):
        done = run("check")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert "valid" in log.read_text()

    def test_a_log_takes_the_output_of_subprocesses(self, run, log):
        before = "import os; cli._check = lambda study, arguments: os.system('echo of a child')"
        assert run("check", before=before).stdout == ""
        assert "of a child" in log.read_text()

    def test_a_failed_commands_log_shows_its_tail(self, run, log):
        loop = "[print('line', 1 / (99 - n)) for n in range(100)]"
        before = f"cli._check = lambda study, arguments: {loop}"
        done = run("check", before=before)
        assert done.returncode == 1 and not done.stdout
        first, *tail = done.stderr.splitlines()
        assert first == f"humanline: failed; the last lines of {log}:"
        assert [line[2:] for line in tail] == log.read_text().splitlines()[-TAIL:]
        assert log.read_text().count("line ") > TAIL and "ZeroDivisionError" in tail[-1]

    def test_a_configuration_error_has_no_traceback(self, run, log):
        done = run("train", "math_reasoning", "ppo-s1")
        assert done.returncode == 1
        assert "humanline: error: no cell" in done.stderr and "Traceback" not in done.stderr


class TestSchemas:
    def test_the_written_files_are_the_models_own(self):
        folder = WORKFLOW / "schemas"
        written = {path.name: json.loads(path.read_text()) for path in folder.iterdir()}
        assert written == schemas(), "run `humanline schema`"

    def test_the_command_needs_no_scale(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert main(["schema"]) == 0
        for name in schemas():
            written = (tmp_path / "workflow" / "schemas" / name).read_bytes()
            assert written == (WORKFLOW / "schemas" / name).read_bytes()

    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
    def test_every_file_names_its_schema(self, path):
        name = path.stem if path.stem in ("experiments", "claims") else "scale"
        first = path.read_text().splitlines()[0]
        assert first == f"# yaml-language-server: $schema=../schemas/{name}.schema.json"

    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
    def test_every_file_fits_its_schema(self, path):
        jsonschema = pytest.importorskip("jsonschema")  # snakemake brings it
        name = path.stem if path.stem in ("experiments", "claims") else "scale"
        schema = schemas()[f"{name}.schema.json"]
        jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(path.read_text()))
