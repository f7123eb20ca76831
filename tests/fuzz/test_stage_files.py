"""Files between stages, damaged in every way: refused in one line, or read right.

A sample runs here. More by hand, also on a finished study of the workflow:

    FUZZ_INPUTS=4000 FUZZ_STUDY=RESULTS FUZZ_CONFIG=CONFIG python tests/fuzz/test_stage_files.py
"""

import contextlib
import io
import json
import os
import random
import re
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from stage_file_damages import FOLDER, damages

from humanline.cli.commands import main
from humanline.files.json_files import write_json, write_jsonl
from humanline.files.seals import made_by, seal_of

TASKS = ("instruction_following", "math_reasoning")


@dataclass(frozen=True)
class Input:
    """A file, and the commands that read it with the files that they write.

    Args:
        file: the file, below the folder of the scale.
        others: files that somebody may put in its place.
        commands: the commands' words; with them the files that they write.
    """

    file: str
    others: tuple[str, ...]
    commands: tuple[str, ...]


class Tried(NamedTuple):
    """A damage that was tried, and what came of it."""

    verdict: str
    file: str
    damage: str
    command: str
    told: str


OFFLINE, ONLINE = "grpo-offline", "grpo-online-every8"
QUARTILE = "grpo-offline-from-stronger-quartile1"
SPARSE = "grpo-online-every64-humanline-k24-clip-1.5_1.5"
IF, MATH = "runs/instruction_following/", "runs/math_reasoning/"
GRADED = "grpo-online-every1"
TABLE_IF, TABLE_MATH, COST, SWEEP = (f"table {t}" for t in (*TASKS, "cost", "sweep"))

INPUTS = (
    Input(
        "data/instruction_following/s1/evaluation.jsonl",
        (
            "data/instruction_following/s2/evaluation.jsonl",
            "data/instruction_following/s1/train.jsonl",
            "data/math_reasoning/s1/evaluation.jsonl",
        ),
        ("generate instruction_following base-s1", f"score instruction_following {OFFLINE}-s1"),
    ),
    Input(
        "data/math_reasoning/s1/evaluation.jsonl",
        ("data/math_reasoning/s2/evaluation.jsonl",),
        ("generate math_reasoning base-s1", f"score math_reasoning {GRADED}-s1"),
    ),
    Input(
        "data/instruction_following/s1/train.jsonl",
        (
            "data/instruction_following/s2/train.jsonl",
            "data/instruction_following/s1/evaluation.jsonl",
        ),
        ("offline instruction_following base-s1", f"train instruction_following {ONLINE}-s1"),
    ),
    Input(
        "data/instruction_following/offline-base-s1.jsonl",
        (
            "data/instruction_following/offline-base-s2.jsonl",
            "data/instruction_following/offline-base-stronger-s1.jsonl",
            "data/instruction_following/s1/train.jsonl",
        ),
        (
            f"train instruction_following {OFFLINE}-s1",
            f"predictors instruction_following {OFFLINE}-s1",
        ),
    ),
    Input(
        "data/instruction_following/likelihood-base-stronger-s1-under-base-s1.jsonl",
        ("data/instruction_following/likelihood-base-stronger-s2-under-base-s2.jsonl",),
        (f"train instruction_following {QUARTILE}-s1",),
    ),
    Input(
        f"{IF}{OFFLINE}-s1/samples.jsonl",
        (
            f"{IF}{ONLINE}-s1/samples.jsonl",
            f"{IF}{OFFLINE}-s2/samples.jsonl",
            f"{MATH}{GRADED}-s1/samples.jsonl",
        ),
        (f"score instruction_following {OFFLINE}-s1", "report"),
    ),
    Input(
        f"{MATH}{GRADED}-s1/samples.jsonl",
        (f"{MATH}base-s1/samples.jsonl", f"{MATH}{GRADED}-s2/samples.jsonl"),
        (f"score math_reasoning {GRADED}-s1", "report"),
    ),
    Input(
        f"{IF}{OFFLINE}-s1/annotations.json",
        (f"{IF}{ONLINE}-s1/annotations.json", f"{IF}{OFFLINE}-s2/annotations.json"),
        (TABLE_IF, "claims", "scores", "report"),
    ),
    Input(
        f"{IF}{OFFLINE}-s1/metrics.json",
        (f"{IF}{ONLINE}-s1/metrics.json", f"{IF}{OFFLINE}-s2/metrics.json"),
        (TABLE_IF, SWEEP, "scores"),
    ),
    Input(
        f"{IF}{OFFLINE}-learning_rate=0.001-s101/metrics.json",
        (f"{IF}{ONLINE}-learning_rate=0.001-s101/metrics.json",),
        ("tune",),
    ),
    Input(
        f"{MATH}{GRADED}-learning_rate=0.001-s101/grades.csv",
        (f"{MATH}{SPARSE}-learning_rate=0.001-s101/grades.csv",),
        ("tune",),
    ),
    Input(
        f"{IF}{OFFLINE}-s1/curve.csv",
        (f"{IF}{ONLINE}-s1/curve.csv", f"{IF}{OFFLINE}-s2/curve.csv"),
        (SWEEP, "scores"),
    ),
    Input(
        f"{MATH}{GRADED}-s1/grades.csv",
        (f"{MATH}base-s1/grades.csv", f"{MATH}{GRADED}-s2/grades.csv"),
        (TABLE_MATH, SWEEP, "claims", "scores", "report"),
    ),
    Input(
        f"{IF}{OFFLINE}-s1/train.json",
        (
            f"{IF}{ONLINE}-s1/train.json",
            f"{IF}{OFFLINE}-s2/train.json",
            f"{MATH}{GRADED}-s1/train.json",
        ),
        (
            TABLE_IF,
            COST,
            f"generate instruction_following {OFFLINE}-s1",
            "claims",
            "report",
            "scores",
        ),
    ),
    Input(
        f"{IF}{OFFLINE}-s1/metrics.csv",
        (f"{IF}{ONLINE}-s1/metrics.csv", f"{IF}{OFFLINE}-s2/metrics.csv"),
        (COST, SWEEP, "report"),
    ),
    Input(f"{IF}{OFFLINE}-s1/predictors.json", (f"{IF}{OFFLINE}-s2/predictors.json",), (SWEEP,)),
    Input(
        f"{IF}grpo-offline-quartile1-s101/predictors.json",
        (f"{IF}grpo-offline-quartile4-s101/predictors.json",),
        ("table looked_into",),
    ),
    Input("figures/surprisals-s1.csv", ("figures/surprisals-s2.csv",), ("figures",)),
    Input("tables/scores.csv", ("tables/cost.csv",), ("report", "compare")),
    Input("tables/instruction_following.csv", ("tables/cost.csv",), ("report", "compare")),
    Input("tables/math_reasoning.csv", ("tables/cost.csv",), ("report", "compare")),
    Input("tables/claims.csv", ("tables/comparisons.csv",), ("report", "compare")),
    Input("tables/comparisons.csv", ("tables/claims.csv",), ("report", "compare")),
    Input(
        "tables/instruction_following.provenance.json",
        ("tables/cost.provenance.json",),
        ("compare",),
    ),
    Input("tables/claims.provenance.json", ("tables/scores.provenance.json",), ("compare",)),
)


@contextlib.contextmanager
def keeping(*files: Path):
    """Write some files and their seals again as they were."""
    kept = {
        path: path.read_bytes()
        for file in files
        for path in (file, seal_of(file))
        if path.is_file()
    }
    try:
        yield
    finally:
        for path, content in kept.items():
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            path.write_bytes(content)


class Finished:
    """A finished study, and what its commands write.

    Args:
        results: the folder of results, with a copy of the scale as `reference`.
        config: the folder of the configuration.
        scale: the scale's name.
    """

    def __init__(self, results: Path, config: Path, scale: str = "smoke"):
        self.results, self.config, self.scale = results, config, scale
        self.folder = results / scale
        self._right: dict[str, dict[str, bytes]] = {}

    def run(self, command: str) -> tuple[int, str]:
        """Run a command in this process; return its exit status, and what it wrote on errors."""
        words = command.split()
        if words == ["compare"]:
            words += [str(self.folder), str(self.results / "copy" / self.scale)]
        words += [
            "--scale",
            self.scale,
            "--config",
            str(self.config),
            "--results",
            str(self.results),
        ]
        errors = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stderr(errors):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(io.StringIO()) as told:
                status = main(words)
        self.told = told.getvalue() if words[0] == "compare" else ""
        return status, errors.getvalue()

    def written(self, command: str) -> dict[str, bytes]:
        """Read what a command has written, except seconds and machine."""
        name, *rest = command.split()
        run = self.folder / "runs" / "/".join(rest)
        data = self.folder / "data"
        globs = {
            "generate": (run, "samples.jsonl"),
            "score": (run, "[agmc]*"),
            "train": (run, "model/model.safetensors"),
            "predictors": (run, "predictors.json"),
            "offline": (data, f"*/offline-{rest[-1:] and rest[-1]}.jsonl"),
            "table": (self.folder / "tables", f"{rest and rest[0]}*.[cmt]*"),
            "claims": (self.folder / "tables", "c[lo][am]*.[cmt]*"),
            "scores": (self.folder / "tables", "scores.csv"),
            "report": (self.folder / "report", "index.html"),
            "map": (self.folder / "map", "*.csv"),
            "figures": (self.folder / "figures", "i*.csv"),
            "tune": (self.folder / "tune", "*"),
        }
        if name == "compare":
            return {"": self.told.encode()}
        folder, glob = globs[name]
        return {
            str(path): path.read_bytes()
            for path in sorted(folder.glob(glob))
            if path.is_file() and path.name != "metrics.csv" and "provenance" not in path.name
        }

    def right(self, command: str) -> dict[str, bytes]:
        """What a command writes from files that are whole."""
        if command not in self._right:
            with self.kept(command):
                status, errors = self.run(command)
                if status:
                    raise AssertionError(f"{command}: {errors[-2000:]}")
                self._right[command] = self.written(command)
        return self._right[command]

    @contextlib.contextmanager
    def kept(self, command: str):
        """Undo what a command changes, seals too: a training has other seconds each time."""
        name, *rest = command.split()
        folder = self.folder / "runs" / "/".join(rest)
        if name == "train":
            with tempfile.TemporaryDirectory() as place:
                shutil.copytree(folder, Path(place, "run"))
                yield
                shutil.rmtree(folder)
                shutil.copytree(Path(place, "run"), folder)
            return
        files = [Path(path) for path in self.written(command) if path]
        with keeping(*files):
            yield

    def verdict(self, command: str, file: Path, content: bytes | None) -> tuple[str, str]:
        """Run a command on a damaged file.

        Returns:
            ``refused``, ``right``, or a fault: ``traceback``, ``silent``, ``vague`` (an error that
            does not name the file), ``lost`` (what was there is gone); and the error's last line.
        """
        right = self.right(command)
        before = {} if command == "compare" else self.written(command)
        with self.kept(command), keeping(file):
            file.unlink()
            if content == FOLDER:
                file.mkdir()
            elif content is not None:
                file.write_bytes(content)
            start = time.monotonic()
            status, errors = self.run(command)
            seconds = time.monotonic() - start
            written = {} if command == "compare" and status == 2 else self.written(command)
        last = (errors.strip().splitlines() or [""])[-1]
        if "Traceback" in errors:
            return "traceback", last
        if seconds > 60:
            return "slow", f"{seconds:.0f} s"
        if command == "compare" and status == 1:
            return "right", last  # it tells that the sides differ
        if status == 0:
            return "right" if _without(file, written) == _without(file, right) else "silent", last
        if not (file.name in last and ": error: " in last and ";" in last):
            return "vague", last
        return "refused" if _without(file, written) == _without(file, before) else "lost", last


def _without(file: Path, written: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in written.items() if path != str(file)}


def count(study: Finished, number: int, rng: random.Random, inputs: Sequence[Input]) -> list[Tried]:
    """Try a number of damages, evenly over files and their readers."""
    queues = []
    for one in inputs:
        others = {f"of {other}": study.folder / other for other in one.others}
        own = list(damages(study.folder / one.file, others, rng))
        rng.shuffle(own)
        queues.append([(one, name, content) for name, content in own])
    rounds = zip_longest(*queues)
    chosen = [(turn, own) for turn, row in enumerate(rounds) for own in row if own][:number]
    found = []
    for turn, (one, name, content) in chosen:
        command = one.commands[turn % len(one.commands)]
        verdict, told = study.verdict(command, study.folder / one.file, content)
        found.append(Tried(verdict, one.file, name, command, told))
    return found


def faults(tried: Iterable[Tried]) -> list[Tried]:
    return [own for own in tried if own.verdict not in ("refused", "right")]


SLOW = (
    "train",
    "predictors",
    "offline",
    "generate",
    "figures",
    "tune",
    "looked_into",
)  # models, or long


def quick_inputs(study: Finished) -> list[Input]:
    """The inputs that a made study has, with the commands that take less than a second."""
    quick = []
    for one in INPUTS:
        commands = tuple(c for c in one.commands if not any(word in c for word in SLOW))
        if commands and (study.folder / one.file).exists():
            quick.append(replace(one, commands=commands))
    return quick


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Finished:
    import finished_study

    root = tmp_path_factory.mktemp("fuzz")
    config = finished_study.write_config(root / "config")
    with contextlib.redirect_stderr(io.StringIO()):
        finished_study.make(root / "results", config)
    return with_copy(Finished(root / "results", config))


def with_copy(study: Finished) -> Finished:
    """Copy what `compare` compares."""
    copy = study.results / "copy" / study.scale
    if not copy.exists():
        shutil.copytree(study.folder / "tables", copy / "tables")
    return study


def test_damaged_files_are_refused_in_one_line_or_read_right(study):
    inputs = quick_inputs(study)
    assert len(inputs) > 15
    tried = count(study, 70, random.Random(1), inputs)
    assert faults(tried) == []
    assert Counter(own.verdict for own in tried)["refused"] > 50


@pytest.mark.parametrize("place", ["runs/math_reasoning/base-s1/samples.jsonl"])
def test_a_broken_line_is_told_with_its_number_and_the_command_that_makes_the_file(study, place):
    path = study.folder / place
    lines = path.read_bytes().splitlines(keepends=True)
    content = b"".join([*lines[:6], lines[6][:9], b"\n", *lines[7:]])
    verdict, told = study.verdict("score math_reasoning base-s1", path, content)
    assert verdict == "refused"
    assert f"{place}: line 7: not JSON" in told
    options = f"--scale smoke --config {study.config} --results {study.results}"
    assert told.endswith(f"(`humanline generate math_reasoning base-s1 {options}`)")


@pytest.mark.parametrize("text", ["", " \n", "the same for all"])
@pytest.mark.parametrize("place", [f"{IF}{OFFLINE}-s1", f"{MATH}{GRADED}-s1"])
def test_outputs_that_are_all_alike_are_scored(study, place, text):
    """A model that writes nothing, or the same everywhere, is a result."""
    folder = study.folder / place
    command = f"score {place.removeprefix('runs/').replace('/', ' ')}"
    path = folder / "samples.jsonl"
    rows = [json.loads(line) | {"completion": text} for line in path.read_text().splitlines()]
    table = TABLE_IF if place.startswith(IF) else TABLE_MATH
    with study.kept(command), study.kept(table), keeping(path):
        write_jsonl(path, rows, sealed=True)
        assert study.run(command)[0] == study.run(table)[0] == 0
        if place.startswith(MATH):
            assert set(pd.read_csv(folder / "grades.csv")["outcome"]) == {"no_box"}
            return
        found = json.loads((folder / "metrics.json").read_text())
        assert 0 <= found["length_controlled_win_rate"] <= 100
        assert found["avg_length"] == len(text)


def test_a_table_of_several_commits_is_marked(study):
    """Unless all of its runs were trained, sampled and scored by the present code."""
    run = study.folder / "runs/math_reasoning" / f"{GRADED}-s1" / "train.json"
    table = study.folder / "tables" / "math_reasoning"
    content = json.loads(run.read_text())
    content["provenance"]["git"] = {"commit": "fedcba9876543210", "modified": True}
    content["provenance"]["packages"]["trl"] = "1.15.0"
    with keeping(run), study.kept(TABLE_MATH):
        for code in ("old", None):
            with made_by(lambda code=code: {"code": code}):
                write_json(run, content, sealed=True)
            assert study.run(TABLE_MATH)[0] == study.run("report")[0] == 0
            made = json.loads(table.with_suffix(".provenance.json").read_text())
            differ = made["differences_between_runs"]
            assert [n for own, n in differ["commits"].items() if "fedcba9 with changes" in own] == [
                1
            ]
            assert not differ["same_code"]
            assert differ["packages"]["trl"]["1.15.0"] == 1
            page = study.folder / "report" / "index.html"
            for path in (table.with_suffix(".md"), table.with_suffix(".tex"), page):
                text = path.read_text()
                assert re.search(r"Runs of \d commits, maybe of different code", text)
                assert "fedcba9 with changes, then " in text
                assert "Runs with 2 versions of trl" in text


if __name__ == "__main__":
    by_hand = with_copy(Finished(Path(os.environ["FUZZ_STUDY"]), Path(os.environ["FUZZ_CONFIG"])))
    seed, number = (int(os.environ.get(f"FUZZ_{n}", d)) for n, d in (("SEED", 1), ("INPUTS", 400)))
    results = count(by_hand, number, random.Random(seed), INPUTS)
    print(*faults(results), Counter(own.verdict for own in results), sep="\n")
