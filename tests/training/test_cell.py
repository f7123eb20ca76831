"""Training of a cell: what it writes, and what an interruption leaves."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from damages import damaged, files_of
from safetensors.torch import load_file, save_file
from signals import SignalAt, in_a_child
from transformers import AutoModelForCausalLM

from humanline.files.json_files import read_json, read_jsonl, write_jsonl
from humanline.files.validation import ConfigError
from humanline.generation import offline
from humanline.study.cells import Cell
from humanline.study.runs import hashes
from humanline.study.study import load_study
from humanline.trainers.registry import OBJECTIVES
from humanline.trainers.shared import manifest
from humanline.training import base_model
from humanline.training import cell as training
from humanline.worlds import miniature

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
RUN = "dpo-offline-humanline-k4-clip-1.5_1.5-s1"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The smoke scale with its data and one base model."""
    root = tmp_path_factory.mktemp("results")
    study = load_study(CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", root)
    task = "instruction_following"
    config = study.scale.tasks[task]
    for split, rows in miniature.splits(task, config.data, 1).items():
        write_jsonl(study.paths.prompts(task, "s1", split), rows)
    cell = study.find(task, RUN)
    base_model.make(task, config.base_model, 1, study.resolve(cell.base).paths.model, config.data)
    offline.make(study.resolve(cell.base))
    return study


def test_a_run_leaves_its_model_log_and_record(study):
    cell = study.find("instruction_following", RUN)
    training.train(study.resolve(cell))
    directory = study.resolve(cell).paths.directory
    record = read_json(directory / "train.json")
    assert record["steps"] == 8
    assert record["manifest"]["learning_rate"] == study.resolve(cell).learning_rate
    assert (directory / "model" / "model.safetensors").exists()
    seconds = record["seconds"]
    timeline = record["timeline"]
    assert [point["step"] for point in timeline] == [2, 4, 6, 8]
    assert 0 < timeline[0]["seconds"] < timeline[-1]["seconds"] <= seconds["total"]
    assert record["sampled_tokens"] == 0  # it had its data
    assert seconds["total"] == pytest.approx(seconds["sample"] + seconds["train"], abs=0.02)
    header = (directory / "metrics.csv").read_text().splitlines()[0]
    assert "humanline/unclipped_chosen" in header


def test_metrics_also_go_where_the_scale_says(study):
    run = study.run("instruction_following", RUN)
    reporting = replace(run, report_to=["trackio"])
    given = training._options(reporting, Path("checkpoints"))
    assert given["report_to"] == ["trackio"] and given["project"] == "humanline-smoke"
    assert given["run_name"] == f"instruction_following/{RUN}"
    assert reporting.hashes.manifest == run.hashes.manifest  # so nothing is trained again


def test_a_base_model_learns_on_one_gpu_alone(study, tmp_path, monkeypatch):
    """With two in sight, transformers would multiply the batch by their number."""
    from transformers import TrainingArguments

    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 2))
    task = study.scale.tasks["instruction_following"]
    with pytest.raises(ConfigError, match=r"2 GPUs are visible.* set CUDA_VISIBLE_DEVICES"):
        base_model.make("instruction_following", task.base_model, 1, tmp_path / "model", task.data)
    assert not (tmp_path / "model" / "config.json").exists()


@pytest.mark.parametrize(
    "name", ["dpo-offline-s1", "grpo-offline-s1", "dpo-online-every4-s1", "grpo-online-every4-s1"]
)
def test_so_does_a_run_of_one_process(study, name, monkeypatch):
    from transformers import TrainingArguments

    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 2))
    run = study.run("instruction_following", name)
    with pytest.raises(ConfigError, match=rf"{name}: 2 GPUs are visible.* CUDA_VISIBLE_DEVICES"):
        training.train(run)
    assert not run.paths.model.exists()


@pytest.fixture
def interrupt(study, monkeypatch):
    """Train a cell until a step is kept, and give the folder of its checkpoints."""
    on_save = training.Progress.on_save

    def interrupted(cell, after: int) -> Path:
        def on_save_and_stop(self, args, state, control, **kwargs):
            on_save(self, args, state, control, **kwargs)
            if state.global_step == after:
                raise InterruptedError

        with monkeypatch.context() as patch, pytest.raises(InterruptedError):
            patch.setattr(training.Progress, "on_save", on_save_and_stop)
            training.train(study.resolve(cell))
        return training._checkpoints(study.resolve(cell))

    return interrupted


def reseal(checkpoint: Path) -> None:
    """Write a checkpoint's manifest again, after a change of its files that is meant."""
    content = manifest.read_manifest(checkpoint)
    manifest.write_manifest(checkpoint, content | {"files": manifest.fingerprints(checkpoint)})


def test_an_interrupted_run_goes_on_and_an_ended_one_starts_anew(study, interrupt):
    cell = study.find("instruction_following", RUN)
    checkpoint = interrupt(cell, after=6) / "checkpoint-6"
    # As if it had taken long.
    content = {"step": 6, "seconds": {"sample": 10.0, "total": 1000.0}, "sampled_tokens": 77}
    content |= {"timeline": [{"step": 6, "seconds": 1000.0}], "run": checkpoint.parent.name}
    (checkpoint / "progress.json").write_text(json.dumps(content))
    reseal(checkpoint)
    training.train(study.resolve(cell))
    resumed = read_json(study.resolve(cell).paths.record)
    assert resumed["steps"] == 8
    assert resumed["seconds"]["sample"] == 10.0
    assert resumed["seconds"]["total"] > 1000
    assert resumed["sampled_tokens"] == 77
    assert [point["step"] for point in resumed["timeline"]] == [6, 8]
    assert resumed["timeline"][1]["seconds"] > 1000

    training.train(study.resolve(cell))
    assert read_json(study.resolve(cell).paths.record)["seconds"]["total"] < 900


@pytest.mark.parametrize("run", [RUN, "kto-online-every1-s1"])
def test_a_run_that_gets_sigterm_goes_on_from_the_step_it_was_in(run, study, monkeypatch):
    run = study.run("instruction_following", run)
    made = (run.paths.model / "model.safetensors", run.paths.log)
    training.train(run)
    uncut = [path.read_bytes() for path in made]
    build = training.build_trainer

    def with_signal(*args):
        trainer = build(*args)
        trainer.add_callback(SignalAt(2))
        return trainer

    shutil.rmtree(run.paths.model)
    with monkeypatch.context() as patch:
        patch.setattr(training, "build_trainer", with_signal)
        assert in_a_child(lambda: training.train(run)) == 143
    assert not run.paths.model.exists()
    assert (training._checkpoints(run) / "checkpoint-3" / "optimizer.pt").exists()
    training.train(run)
    assert [path.read_bytes() for path in made] == uncut
    assert [p["step"] for p in read_json(run.paths.record)["timeline"]] == [2, 3, 4, 6, 8]


def made(run) -> list:
    """A run's weights, and its log without what the clock says."""
    log = pd.read_csv(run.paths.log)
    log = log[[column for column in log if column != "step_time"]]
    return [(run.paths.model / "model.safetensors").read_bytes(), log.to_csv()]


@pytest.mark.parametrize(
    ("run", "files", "found"),
    [
        (RUN, ["optimizer.pt"], "is missing"),
        (RUN, ["rng_state.pth", "humanline.json"], r"humanline\.json.* is damaged"),
        ("kto-online-every8-s1", ["round-0.pt"], "is damaged"),
        ("grpo-offline-s1", ["scheduler.pt"], "is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_told_and_set_aside_and_the_run_ends_as_if_uncut(
    run, files, found, study, interrupt, capsys
):
    run = study.run("instruction_following", run)
    training.train(run)
    uncut, cost = made(run), read_json(run.paths.record)["sampled_tokens"]
    checkpoints = interrupt(run.cell, after=6)
    for name in files:
        path = checkpoints / "checkpoint-6" / name
        path.unlink() if found == "is missing" else path.write_bytes(bytes(path.stat().st_size))
    (checkpoints / "unusable-checkpoint-6").mkdir()  # of an earlier time
    capsys.readouterr()
    training.train(run)
    told = capsys.readouterr().out
    aside = checkpoints / "unusable-checkpoint-6-2"
    assert re.search(f"^humanline: warning: {checkpoints}/checkpoint-6 .*{found}.*; set aside as "
                     f"{aside}, and trained again$", told, re.M), told  # fmt: skip
    assert sorted(set(files_of(aside)) & {*files, "trainer_state.json"})
    assert made(run) == uncut
    record = read_json(run.paths.record)
    assert [point["step"] for point in record["timeline"]] == [2, 4, 6, 8]
    assert record["sampled_tokens"] == cost


def test_an_older_checkpoint_that_is_whole_is_used(study, interrupt, monkeypatch, capsys):
    """Both are there if a run is killed before the older one is thinned."""
    run = study.run("instruction_following", RUN)
    training.train(run)
    uncut = made(run)
    monkeypatch.setattr(training.Progress, "_thin", lambda self, last: None)
    checkpoints = interrupt(run.cell, after=6)
    (checkpoints / "checkpoint-6" / "optimizer.pt").write_bytes(b"")
    monkeypatch.undo()
    started = []
    on_begin = training.Progress.on_train_begin

    def note(self, args, state, control, **kwargs):
        started.append(state.global_step)
        return on_begin(self, args, state, control, **kwargs)

    monkeypatch.setattr(training.Progress, "on_train_begin", note)
    training.train(run)
    assert started == [4] and made(run) == uncut
    assert "optimizer.pt is empty; set aside as" in capsys.readouterr().out


def test_every_damage_of_a_studys_checkpoint_is_set_aside(study, interrupt, tmp_path, capsys):
    run = study.run("instruction_following", RUN)
    kept = interrupt(run.cell, after=6) / "checkpoint-6"
    folder = tmp_path / kept.parent.name
    trainer = training.build_trainer(run, training.training_rows(run), folder)
    place, tried = folder / kept.name, 0
    folder.mkdir(exist_ok=True)
    capsys.readouterr()
    for name, damage in damaged(kept, place, {}):
        progress = training.Progress(folder, 8)
        progress._trainer = trainer
        assert progress.last_usable() is None, (name, damage)
        told = capsys.readouterr().out
        assert f"{name}" in told and told.count("\n") == 1, told
        aside = next(folder.glob("*checkpoint*"))
        assert aside.name == "unusable-checkpoint-6" and f"set aside as {aside}, " in told
        aside.rename(place)  # where it is replaced
        tried += 1
    assert tried > 60
    shutil.copytree(kept, place)
    progress = training.Progress(tmp_path / "of-another-run", 8)
    progress._trainer = trainer
    shutil.copytree(folder, tmp_path / "of-another-run")
    assert progress.last_usable() is None
    assert "checkpoint-6 is of another step or run; set aside" in capsys.readouterr().out


def test_a_copy_of_a_checkpoint_under_another_name_is_left_alone(tmp_path):
    (tmp_path / "checkpoint-6-copy").mkdir()
    assert training.Progress(tmp_path, 8).last_usable() is None


def test_kept_are_the_last_checkpoint_and_models_that_are_evaluated(study, interrupt, monkeypatch):
    cell = study.find("instruction_following", RUN)
    options = study.scale.tasks[cell.task].training
    monkeypatch.setitem(options.__dict__, "evaluate_every", 4)  # steps are kept by twos
    checkpoints = interrupt(cell, after=6)
    kept = {folder.name: folder for folder in checkpoints.glob("checkpoint-*")}
    assert set(kept) == {"checkpoint-4", "checkpoint-6"}
    assert (kept["checkpoint-6"] / "optimizer.pt").exists()
    evaluated = {path.name for path in kept["checkpoint-4"].iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= evaluated
    assert not {"optimizer.pt", "reference.safetensors", "ahead-0.pt"} & evaluated
    AutoModelForCausalLM.from_pretrained(kept["checkpoint-4"])
    training.train(study.resolve(cell))
    assert [folder.name for folder in checkpoints.glob("checkpoint-*")] == ["checkpoint-4"]


def test_a_scale_may_keep_half_the_bytes_and_nothing_to_go_on(study, interrupt, monkeypatch):
    """Its models are those of other scales, rounded; an interrupted run begins again."""
    cell = study.find("instruction_following", RUN)
    run = study.resolve(cell)
    training.train(run)
    whole = load_file(run.paths.model / "model.safetensors")
    as_it_was = run.hashes.manifest
    options = study.scale.tasks[cell.task].training
    assert "save_dtype" not in as_it_was["training"]
    changed = {"evaluate_every": 4, "save_dtype": "bfloat16", "resumable": False}
    for name, value in changed.items():
        monkeypatch.setitem(options.__dict__, name, value)
    assert run.hashes.manifest["training"] == (
        as_it_was["training"] | {"evaluate_every": 4, "save_dtype": "bfloat16"}
    )
    checkpoints = interrupt(cell, after=4)
    assert not [*checkpoints.glob("checkpoint-4/optimizer*"), *checkpoints.rglob("reference*")]
    training.train(run)
    assert [folder.name for folder in checkpoints.glob("checkpoint-*")] == ["checkpoint-4"]
    assert [point["step"] for point in read_json(run.paths.record)["timeline"]] == [4, 8]
    for folder in (run.paths.model, checkpoints / "checkpoint-4"):
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert model.dtype == torch.bfloat16
    kept = load_file(run.paths.model / "model.safetensors")
    assert all(torch.equal(kept[name], whole[name].bfloat16()) for name in whole)


def test_other_code_has_other_checkpoints(study, monkeypatch):
    """What one code has sampled and trained, another does not go on from."""
    cell = study.find("math_reasoning", "grpo-online-every1-s1")
    before = training._checkpoints(study.resolve(cell))
    assert training._checkpoints(study.resolve(cell)) == before
    asked = []
    monkeypatch.setattr(
        hashes, "code_hash", lambda name, **options: asked.append((name, options)) or "other"
    )
    assert training._checkpoints(study.resolve(cell)) != before
    named = OBJECTIVES["grpo"].modules
    assert asked == [("train", {"by_value": True, "tasks": ["math_reasoning"], "named": named})]


def test_another_base_model_has_other_checkpoints(study):
    cell = study.find("instruction_following", RUN)
    before = training._inputs(study.resolve(cell))
    weights = study.resolve(cell.base).paths.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    assert training._inputs(study.resolve(cell)) != before


@pytest.mark.parametrize(("steps", "every"), [(8, 3), (8, 8), (128, 16), (128, 128), (3, 2)])
def test_every_evaluated_checkpoint_is_saved(study, steps, every):
    options = study.scale.tasks["instruction_following"].training
    options = options.model_copy(update={"steps": steps, "evaluate_every": every})
    assert every % options.save_every == 0
    assert options.save_every <= max(1, steps // 4)


@pytest.fixture
def rewritten(study):
    """Change the study's offline groups for a test, by a function of their number and row."""
    path = study.resolve(study.find("instruction_following", RUN).data_base).paths.offline_groups
    before = path.read_bytes()

    def rewrite(change) -> Path:
        write_jsonl(path, [change(i, row) for i, row in enumerate(read_jsonl(path))])
        return path

    yield rewrite
    path.write_bytes(before)


def train_fault(study, run=RUN) -> str:
    with pytest.raises(ConfigError) as caught:
        training.train(study.run("instruction_following", run))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("run", [RUN, "kto-offline-s1", "grpo-offline-s1"])
def test_groups_without_a_difference_are_an_error_before_any_work(run, study, rewritten):
    path = rewritten(lambda i, row: row | {"scores": [0.5] * len(row["scores"])})
    directory = study.run("instruction_following", run).paths.directory
    before = sorted(directory.rglob("*"))
    message = train_fault(study, run)
    assert message.startswith(f"{path}: none of the 64 groups of {run} has completions whose ")
    assert sorted(directory.rglob("*")) == before


def test_groups_that_are_dropped_are_told_and_counted(study, rewritten, capsys):
    rewritten(lambda i, row: row | {"scores": [0.5] * 4} if i < 40 else row)
    cell = study.find("instruction_following", RUN)
    training.train(study.resolve(cell))
    assert f"{RUN}: 40 of 64 groups have nothing to learn from" in capsys.readouterr().out
    record = read_json(study.resolve(cell).paths.record)
    assert (record["groups"], record["groups_without_difference"]) == (64, 40)


@pytest.mark.parametrize("score", [None, "1", [1.0]])
def test_a_score_that_is_no_number_is_refused_by_file_and_row(score, study, rewritten):
    path = rewritten(lambda i, row: row | {"scores": [score, 1, 2, 3]} if i == 5 else row)
    assert train_fault(study).startswith(f"{path}: line 6: scores.0: ")


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_score_that_is_not_finite_is_refused_by_file_and_row(number, study, rewritten):
    path = rewritten(lambda i, row: row)
    lines = path.read_text().splitlines()
    row = json.loads(lines[5])
    lines[5] = json.dumps(row | {"scores": [float(number), 1, 2, 3]})
    path.write_text("\n".join(lines))
    assert train_fault(study).startswith(f"{path}: line 6: holds {number}")


def test_fewer_groups_than_a_run_is_named_for_are_refused(study):
    cell = study.find("instruction_following", RUN).model_copy(update={"groups": 65})
    with pytest.raises(ConfigError, match=r"64 groups, but .* is to train on 65"):
        training.training_rows(study.resolve(cell))
    assert len(training.training_rows(study.resolve(cell.model_copy(update={"groups": 64})))) == 64


@pytest.mark.parametrize(
    ("cell", "used"),
    [
        ({"data": "offline"}, 32),
        ({"data": "online", "sample_every": 1}, 32),
        ({"data": "online", "sample_every": 3}, 36),  # three samplings, the last cut off
    ],
)
def test_a_run_reads_no_more_groups_than_it_uses_and_those_that_trl_would_draw(
    cell, used, study, tmp_path
):
    run = study.resolve(Cell(task="instruction_following", objective="grpo", seed=1, **cell))
    rows = training.training_rows(run)
    trainer = training.build_trainer(run, rows, tmp_path)
    assert len(trainer.train_dataset) == used < len(rows)
    drawn = list(trainer._get_train_sampler())
    trainer.shuffle_dataset = True
    everything = list(trainer._get_train_sampler(rows))[: len(drawn)]
    prompts = [turns[0]["content"] for turns in trainer.train_dataset["prompt"]]
    assert [prompts[i] for i in drawn] == [rows[i]["prompt"] for i in everything]


@pytest.mark.parametrize("run", [RUN, "grpo-offline-s1"])
def test_a_prompt_beyond_the_models_context_is_refused_before_any_work(run, study, rewritten):
    grpo = study.run("instruction_following", "grpo-offline-s1")
    number = min(training.used_groups(grpo, training.training_rows(grpo)))
    path = rewritten(lambda i, row: row | {"prompt": "a" * 200} if i == number else row)
    assert train_fault(study, run).startswith(f"{path}: row {number}: a prompt of 202 tokens")


def test_a_base_model_without_a_tensor_is_not_trained(study):
    base = study.resolve(study.find("instruction_following", RUN).base).paths.model
    path, before = base / "model.safetensors", (base / "model.safetensors").read_bytes()
    weights = load_file(path)
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    try:
        message = train_fault(study)
    finally:
        path.write_bytes(before)
    assert message.startswith(f"{base}: no weights for model.layers.0.mlp.up_proj.weight")


def test_weights_that_are_not_finite_end_a_run(study, monkeypatch):
    """Also where the last update broke them, after the last loss."""
    directory = study.run("instruction_following", RUN).paths.directory
    shutil.rmtree(directory, ignore_errors=True)
    rate = {"learning_rate": 1e300, "max_grad_norm": 0.0, "warmup_steps": 0, "max_steps": 1}
    options = training._options
    monkeypatch.setattr(training, "_options", lambda *args: options(*args) | rate)
    assert "training ended with weights that are not finite" in train_fault(study)
    assert not (directory / "train.json").exists() and not (directory / "model").exists()
