"""A small study whose files no command made: math, an endpoint's judge, and models from elsewhere.

Its files take a second to make and are copied for every case, so there are few of them.
"""

import gzip
import json
import random
import shutil
from pathlib import Path

import gguf_files
import pandas as pd
import yaml
from edited_yaml import write

from humanline.data.stage_files import Surprisal, prompts_of, samples_of
from humanline.data.training_files import Predictors
from humanline.files.json_files import write_text
from humanline.files.seals import made_by
from humanline.files.typed_files import csv_text, read_rows, write_columns, write_record, write_rows
from humanline.scoring.score_files import grades_of
from humanline.study.runs.resolved import Run
from humanline.study.study import Study, load_study
from humanline.study.tasks import find_task
from humanline.worlds import miniature

ROOT = Path(__file__).parents[2]
IF, MATH = "instruction_following", "math_reasoning"
ONLINE = {"objective": "grpo", "data": "online"}
SPARSE = ONLINE | {"sample_every": 64}
OFFLINE = {"objective": "grpo", "data": "offline"}
LOOKS = {"seeds": [2, 3, 4], "weights": [0.3, 0.6, 0.1]}
REVISION = "a1" * 20
ARCHITECTURE = {"hidden_size": 16, "intermediate_size": 32, "layers": 1, "heads": 2, "seed": 0}


def make(folder: Path, endpoint: str) -> Path:
    """Write the study with all of its files.

    Args:
        folder: the folder.
        endpoint: the address of the judge.
    """
    theirs = ROOT / "workflow" / "config"
    scale = yaml.safe_load((theirs / "smoke.yaml").read_text())
    defaults = yaml.safe_load((theirs / "experiments.yaml").read_text())["defaults"]
    for task in scale["tasks"].values():
        task["data"] |= {"train": 64, "validation": 16, "evaluation": 16}
    _write_configurations(folder, scale, defaults, endpoint)
    _write_models(folder)
    _write_math(load(folder, "config", "small"), folder)
    _write_judged(load(folder, "judged", "judged"))
    _write_annotations(folder)
    return folder


def load(folder: Path, config: str, scale: str) -> Study:
    """Load the study of a configuration and scale of `make`."""
    config_folder = folder / config
    return load_study(
        config_folder / f"{scale}.yaml", config_folder / "experiments.yaml", folder / "results"
    )


def _write_configurations(folder: Path, scale: dict, defaults: dict, endpoint: str) -> None:
    seeds = {"report": [1, 2], "more": [3, 4], "tune": [101, 102]}
    math = {"seeds": seeds, "tasks": {MATH: scale["tasks"][MATH]}}
    test = {"task": MATH, "compare": "difference", "against": "base", "expect": "greater"}
    claims = [
        {"id": name, "claim": f"{name} learns.", "source": "ours", "primary": True}
        | {"registered": {"date": "2026-11-26", "reason": "a test"}}
        | {"tests": [test | {"cell": cell}]}
        for name, cell in {"online": ONLINE, "sparse": SPARSE}.items()
    ]
    looked = [OFFLINE | {"humanline": [False, True]}, OFFLINE | {"groups": [8, 4]}, ONLINE]
    tables = {
        "one": {"cells": [ONLINE, SPARSE]},
        "looked_into": {"cells": looked, "exploratory": True},
    }
    figure = {"task": MATH, "policy": ONLINE, "sources": {"a worse model's": "base"}}
    _write_configuration(folder / "config", {"small": scale | math}, defaults, tables, figure)
    write(folder / "config" / "claims.yaml", {"rule": {"looks": LOOKS}, "claims": claims})
    judge = {"kind": "openai", "model": "gpt-4.1", "base_url": endpoint, "timeout": 5}
    judge |= {"prices": {"gpt-4.1": {"input": 2, "output": 8}}, "max_dollars": 10, "retries": 1}
    judged = scale | {"tasks": {IF: scale["tasks"][IF] | {"judge": judge}}}
    own = {"one": {"cells": [ONLINE], "task": IF}}
    _write_configuration(folder / "judged", {"judged": judged}, defaults, own)
    wheel, content = _write_package(folder)
    package = {"kind": "package", "package": f"{gguf_files.NAME}=={gguf_files.VERSION}"}
    package |= {"file": gguf_files.FILE, "sha256": gguf_files.sha256(wheel.read_bytes())}
    package |= {"file_sha256": gguf_files.sha256(content)}
    models = {
        "local": {"kind": "hub", "repo": "./model", "revision": None},
        "cached": {"kind": "hub", "repo": "owner/tiny", "revision": REVISION},
        "packed": package | {"eos_token": gguf_files.EOS, "pad_token": gguf_files.PAD},
    }
    scales = {
        name: scale | math | {"tasks": {MATH: scale["tasks"][MATH] | {"base_model": model}}}
        for name, model in models.items()
    }
    (folder / "model").mkdir()
    _write_configuration(folder / "models", scales, defaults, {"one": {"cells": [ONLINE]}})


def _write_configuration(
    folder: Path, scales: dict, defaults: dict, tables: dict, figure: dict | None = None
) -> None:
    folder.mkdir(parents=True)
    for name, scale in scales.items():
        write(folder / f"{name}.yaml", scale | {"scale": name})
    tables = {n: {"task": MATH, "description": "A table."} | own for n, own in tables.items()}
    more = {"implied_capacity": figure} if figure else {}
    write(folder / "experiments.yaml", {"defaults": defaults, "tables": tables} | more)


def _write_package(folder: Path) -> tuple[Path, bytes]:
    """Write a wheel into the cache of packages; return it, and the model's file in it."""
    packages = folder / "home" / "humanline" / "packages"
    packages.mkdir(parents=True)
    gguf_files.write_gguf(packages / "model.gguf", gguf_files.build_model())
    content = (packages / "model.gguf").read_bytes()
    (packages / "model.gguf").unlink()
    return gguf_files.write_wheel(packages, content), content


def _write_models(folder: Path) -> None:
    """Write a tiny model as a local folder, and as a repository in the hub's cache."""
    from humanline.worlds.tiny_model import build_model, build_tokenizer

    build_tokenizer().save_pretrained(folder / "model")
    build_model(**ARCHITECTURE).save_pretrained(folder / "model")
    repository = folder / "home" / "hub" / "models--owner--tiny"
    shutil.copytree(folder / "model", repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)


def _write_math(study: Study, folder: Path) -> None:
    """Write what the runs of math left: prompts, scores, predictors, verdicts and seconds."""
    rng = random.Random(0)
    with made_by(dict):
        for cell in study.all_cells():
            _write_scored(study.resolve(cell))
        for offline, _ in study.mapped():
            names = dict.fromkeys(Predictors.model_fields, 0.5)
            names |= {"mean_token_log_probability": -1 - rng.random()}
            write_record(offline.paths.predictors, Predictors, names)
        for seed in study.figure_seeds():
            names = ("policy", "on-policy", *study.perceived(seed))
            rows = [(name, i, rng.gauss(0, 1)) for name in dict.fromkeys(names) for i in range(16)]
            frame = pd.DataFrame(rows, columns=["source", "prompt_id", "surprisal"])
            write_columns(study.paths.surprisals(seed), Surprisal, frame)
        for run in (study.run(MATH, "base-s1"), study.run(MATH, "grpo-online-every1-s1")):
            shutil.copytree(folder / "model", run.paths.model)
        verdicts = [(name, "undecided", 1) for name in ("online", "sparse")]
        frame = pd.DataFrame(verdicts, columns=["claim", "verdict", "looks"])
        write_text(study.paths.tables / "claims.csv", csv_text(frame), sealed=True)
    for cell in study.all_cells():
        rule = "base_model" if cell.objective == "base" else "train"
        path = study.paths.benchmarks / rule / f"{cell.task}/{cell.name}.tsv"
        write_text(path, "s\tmax_rss\n600\t9\n")


def _write_scored(run: Run) -> None:
    """Write the prompts of a run's seed, and grades of its evaluation."""
    _write_prompts(run)
    right = 4 + 8 * run.is_trained + run.cell.seed % 3
    outcomes = find_task(run.cell.task).outcomes
    rows = [
        {"step": step, "problem_id": i, "sample": 0}
        | {"correct": int(i < right), "outcome": outcomes[int(i >= right)]}
        for step in ((4, 8) if run.is_trained else (0,))
        for i in range(16)
    ]
    write_columns(run.paths.grades, grades_of(run.cell.task), pd.DataFrame(rows))


def _write_prompts(run: Run) -> None:
    if not run.paths.evaluation_prompts.exists():
        for split, rows in miniature.splits(run.cell.task, run.data, run.cell.seed).items():
            path = run.paths.evaluation_prompts.with_name(f"{split}.jsonl")
            write_rows(path, prompts_of(run.cell.task), rows)


def _write_judged(study: Study) -> None:
    """Write the prompts and samples of the base model that the endpoint judges."""
    run, rng = study.run(IF, "base-s1"), random.Random(1)
    with made_by(dict):
        _write_prompts(run)
        prompts = read_rows(run.paths.evaluation_prompts, prompts_of(IF))
        rows = [
            {"step": 0, "prompt_id": number, **row}
            | {"completion": find_task(IF).write_completion(row["prompt"], rng, 0.5)}
            for number, row in enumerate(prompts)
        ]
        write_rows(run.paths.samples, samples_of(IF), rows)


def _write_annotations(folder: Path) -> None:
    """Write the file of a person: annotations of 40 instructions."""
    rng = random.Random(2)
    rows = [
        {"instruction": f"instruction {i}", "preference": 1 + rng.random()}
        | {"output_1": "b" * rng.randrange(5, 30), "output_2": "m" * rng.randrange(5, 30)}
        | {"generator_1": "baseline", "generator_2": "model"}
        for i in range(40)
    ]
    content = json.dumps(rows).encode()
    (folder / "annotations.json").write_bytes(content)
    (folder / "annotations.json.gz").write_bytes(gzip.compress(content))
