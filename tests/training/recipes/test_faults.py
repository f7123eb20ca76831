"""What a user's recipe and rows can have wrong: one line each, before a model is loaded."""

import json
import math
import sys
from pathlib import Path

import pytest
from test_recipe import VIEWS, fault, feedback_rows, train, write  # noqa: F401 - a fixture

from humanline.cli import errors
from humanline.trainers.rows.preferences import assistant_turn, user_turn
from humanline.training.recipes import checks
from humanline.training.recipes import recipe as recipes


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    """All of this is known without one."""
    from trl.trainer import dpo_trainer, grpo_trainer, kto_trainer

    for module in (dpo_trainer, kto_trainer, grpo_trainer):
        monkeypatch.setattr(module, "create_model_from_path", None)


@pytest.fixture
def broken(write, groups, tmp_path):  # noqa: F811
    """The fault of a recipe whose row 5, on line 6, has other values."""

    def call(objective: str, change: dict, view: str | None = None, **options) -> str:
        rows = VIEWS[view or objective](groups)
        rows[5] = {key: value for key, value in (rows[5] | change).items() if value != "(none)"}
        message = fault(write(objective, rows, **options))
        place = f"{tmp_path / 'rows.jsonl'}: line 6: "
        assert message.startswith(place), message
        return message.removeprefix(place)

    return call


@pytest.mark.parametrize("label", [-1, 2, 0.1, 0.9, None, "true", "1", [1], math.nan, "(none)"])
def test_what_is_no_label(label, broken):
    message = broken("kto", {"label": label})
    assert "label: " in message or (label != label and "holds NaN" in message)


@pytest.mark.parametrize("labels", [(True, False), (1, 0), (1.0, 0.0)])
def test_labels_are_truth_values_and_0_and_1(labels, write, groups, monkeypatch):  # noqa: F811
    monkeypatch.undo()
    rows = VIEWS["kto"](groups)
    rows = [row | {"label": labels[i % 2]} for i, row in enumerate(rows)]
    trainer = recipes.build_trainer(recipes.read(write("kto", rows), []))
    assert sum(trainer.train_dataset["label"]) == (len(rows) + 1) // 2
    assert all(label in (True, False) for label in trainer.train_dataset["label"])


@pytest.mark.parametrize("field", ["prompt", "chosen", "rejected"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        [],
        ["text"],
        {"role": "user", "content": "x"},
        [{"role": "assistant"}],
        [{"content": "x"}],
        [{"role": "assistant", "content": None}],
        [{"role": "robot", "content": "x"}],
        [{"from": "human", "value": "x"}],
    ],
    ids=str,
)
def test_pairs(field, value, broken):
    assert field in broken("dpo", {field: value})


@pytest.mark.parametrize(
    ("objective", "change", "expected"),
    [
        ("dpo", {"chosen": user_turn("x")}, "chosen: ends with a turn of user"),
        ("dpo", {"chosen": "text", "rejected": "other"}, "chosen: text, but "),
        ("dpo", {"rejected": "(none)"}, "rejected: missing; add this key"),
        ("dpo", {"chosen": assistant_turn("\ud800")}, "holds half a character"),
        ("dpo", {"tools": "[{"}, "tools is no JSON"),
        ("kto", {"completion": None}, "completion: "),
        ("grpo", {"completions": ["a"] * 3, "scores": [1.0] * 3}, "completions: 3, but num_gen"),
        ("grpo", {"scores": [1.0, 2.0]}, "scores: 2 of 4 completions"),
        ("grpo", {"scores": ["1", "2", "3", "4"]}, "scores.0: "),
        ("grpo", {"scores": [1, 2, 3, None]}, "scores.3: "),
        ("grpo", {"scores": [True, False, True, False]}, "scores.0: "),
        ("grpo", {"scores": [1, 2, 3, math.nan]}, "holds NaN, which is not JSON"),
        ("grpo", {"scores": [1, 2, 3, -math.inf]}, "holds -Infinity"),
        ("grpo", {"scores": [1, 2, 3, 10**400]}, "holds the integer 1000"),
        ("grpo", {"scores": [1, 2, 3, -1e16]}, "scores.3: "),
        ("grpo", {"scores": None}, "scores: "),
        ("grpo", {"completions": ["a", "b", "c", None]}, "completions.3: "),
        ("grpo", {"completions": ["a", "b", "c", assistant_turn("d")]}, "completions"),
        ("grpo", {"prompt": None}, "prompt: "),
    ],
)
def test_rows(objective, change, expected, broken):
    assert expected in broken(objective, change)


@pytest.mark.parametrize("prompt", [None, 5, [], [{"role": "user", "content": None}]])
def test_prompts_to_sample_for(prompt, broken):
    assert "prompt" in broken("grpo", {"prompt": prompt}, reward_funcs=["think_format_reward"])


@pytest.mark.parametrize(
    ("objective", "rows", "expected"),
    [
        ("dpo", [{"prompt": "a", "chosen": "b", "rejected": "b"}] * 3, "nothing to learn"),
        ("grpo", [{"prompt": "a", "completions": ["b"] * 4, "scores": [1.0] * 4}], "nothing to"),
        ("dpo", [{"prompt": " ", "chosen": "b", "rejected": "c"}], "line 1: prompt: empty; "),
    ],
)
def test_rows_that_teach_nothing(objective, rows, expected, write):  # noqa: F811
    assert expected in fault(write(objective, rows))


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("kto", {"label": -1}, "row 5: label: "),
        ("kto", {"label": 0.5}, "row 5: label: "),
        ("kto", {"label": None}, "row 5: label: "),
        ("kto", {"type": "pairwise_feedback"}, "row 5: type: "),
        ("kto", {"type": None}, "row 5: type: "),
        ("kto", {"output": "text"}, "row 5: output: "),
        ("kto", {"output": []}, "row 5: output: "),
        ("kto", {"prompt": [{"content": "x"}]}, "row 5: prompt.0.role: missing"),
        ("grpo", {"reward_A": "1"}, "row 5: reward_A: "),
        ("grpo", {"prompt_id": "0"}, "row 5: prompt_id: "),
    ],
)
def test_feedback(kind, change, expected, write, groups):  # noqa: F811
    rows = feedback_rows(groups, kind)
    rows[5] |= change
    assert expected in fault(write(kind, rows))


def test_feedback_of_another_split(write, groups):  # noqa: F811
    rows = [row | {"split": "test"} for row in feedback_rows(groups, "kto")]
    assert "no rows of split 'train'" in fault(write("kto", rows))


GOOD = b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n'


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("rows.jsonl", GOOD * 7 + b'{"prompt": "x", \n' + GOOD, "line 8: not JSON ("),
        ("rows.jsonl", GOOD * 3 + GOOD[:-9], "line 4: not JSON ("),
        ("rows.jsonl", GOOD + b"null\n" + GOOD, "line 2: not an object with columns"),
        ("rows.jsonl", GOOD + b'{"prompt": "\xe9"}\n', "line 2: not UTF-8; "),
        ("rows.jsonl", GOOD[:-2] + b', "x": NaN}\n', "line 1: holds NaN, which is not JSON"),
        ("rows.jsonl", GOOD[:-2] + b', "x": 1e999}\n', "line 1: holds the number 1e999"),
        ("rows.jsonl", GOOD[:-2] + b', "chosen": "d"}\n', "line 1: has the key 'chosen' twice"),
        ("rows.jsonl", b"", "no rows in split 'train'"),
        ("rows.jsonl", b"\n \n", "no rows in split 'train'"),
        ("rows.json", b"[]", "no rows in split 'train'"),
        ("rows.json", b'["a"]', "row 0: not an object with columns"),
        ("rows.json", b"[\n" + GOOD + b"," + GOOD[:-9] + b"]", "line 3: not JSON ("),
        ("rows.json", b'{\n "data": []\n}', "one object, not a list of rows; "),
        ("rows.csv", b"prompt,chosen,rejected\na,b,c\n", "files like this are not read; write "),
        ("rows.txt", b"a", "files like this are not read; write "),
        ("rows.parquet", b"", "cannot be loaded ("),
    ],
)
def test_files(name, content, expected, write, tmp_path):  # noqa: F811
    path = tmp_path / name
    recipe = write(dataset_name=str(path))
    path.write_bytes(content)
    message = fault(recipe)
    assert expected in message and str(path) in message and "network" not in message


@pytest.mark.parametrize("streaming", [False, True])
def test_a_broken_line_in_a_folder(streaming, write, tmp_path):  # noqa: F811
    path = tmp_path / "data" / "train.jsonl"
    path.parent.mkdir()
    path.write_bytes(GOOD + b'{"a"\n')
    message = fault(write(dataset_name=str(path.parent), dataset_streaming=streaming))
    assert f"{path}: line 2: " in message and "network" not in message


def test_an_empty_split_to_evaluate(write, tmp_path):  # noqa: F811
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_bytes(GOOD * 4)
    (tmp_path / "data" / "test.jsonl").write_bytes(b"")
    options = {"eval_strategy": "steps", "eval_steps": 1}
    fault(write(dataset_name=str(tmp_path / "data"), **options))


def test_a_stream_is_checked_as_it_is_read(write, groups, monkeypatch, tmp_path, capfd):  # noqa: F811
    monkeypatch.undo()
    rows = [row | {"label": 1 if row["label"] else -1} for row in VIEWS["kto"](groups)]
    assert train(write("kto", rows, dataset_streaming=True)) == 1
    err = capfd.readouterr().err
    assert "label: -1 is no label" in err and "Traceback" not in err
    assert not list(tmp_path.rglob("out/*.safetensors"))


def test_a_metric_that_is_not_measured_is_one_line(write, groups, monkeypatch, capfd):  # noqa: F811
    monkeypatch.undo()
    steps = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "zeal"}
    assert train(write("dpo", dataset_test_split="train", **steps, **best)) == 1
    err = capfd.readouterr().err
    assert "metric_for_best_model" in err and "zeal" in err and "Traceback" not in err


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e-3, True, None, [1, 2], {"a": 1}, "x"])
def test_a_learning_rate(value, write):  # noqa: F811
    assert "learning_rate" in fault(write(learning_rate=value))


@pytest.mark.parametrize(
    ("objective", "key", "value"),
    [
        ("dpo", "per_device_train_batch_size", 0),
        ("dpo", "gradient_accumulation_steps", 0),
        ("dpo", "max_steps", 0),
        ("dpo", "max_steps", -5),
        ("dpo", "num_train_epochs", 0),
        ("dpo", "beta", -0.1),
        ("kto", "beta", 0.0),
        ("dpo", "weight_decay", -1),
        ("dpo", "adam_beta1", 1.5),
        ("dpo", "max_length", 0),
        ("dpo", "seed", -1),
        ("dpo", "log_eps_p", math.nan),
        ("dpo", "logging_steps", 0),
        ("dpo", "pad_to_multiple_of", 0),
        ("grpo", "top_p", 1.5),
        ("grpo", "temperature", 0),
        ("grpo", "num_generations", 3),
        ("grpo", "reward_weights", [math.nan]),
        ("dpo", "lr_scheduler_type", "zigzag"),
        ("dpo", "optim", "best"),
        ("dpo", "report_to", "nonsense"),
        ("dpo", "eval_strategy", "sometimes"),
        ("dpo", "save_strategy", False),
        ("dpo", "dtype", True),
        ("dpo", "model_init_kwargs", "x"),
        ("dpo", "lr_scheduler_kwargs", [1]),
        ("dpo", "lora_r", 4),
        ("dpo", "reference", "adapter"),
        ("dpo", "dataset_config", "nope"),
        ("dpo", "dataset_train_split", "train[:4]"),
        ("dpo", "dataset_streaming", True),
        ("dpo", "model_revision", "nope"),
        ("dpo", "ignore_bias_buffers", True),
        ("dpo", "load_best_model_at_end", True),
    ],
)
def test_values(objective, key, value, write):  # noqa: F811
    path = write(
        objective, **({"max_steps": -1} if key == "dataset_streaming" else {}) | {key: value}
    )
    message = fault(path)
    assert message.startswith(f"{path}: "), message
    named = {"dataset_streaming": "max_steps", "report_to": "report_to"}.get(key, key)
    assert named.split("_")[0] in message


@pytest.mark.parametrize(
    ("options", "package"),
    [
        ({"use_peft": True}, "peft"),
        ({"load_in_4bit": True}, "bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"optim": "adamw_bnb_8bit"}, "bitsandbytes"),
        ({"use_vllm": True}, "vllm"),
        ({"use_liger_kernel": True, "humanline": False}, "liger-kernel"),
        ({"report_to": "wandb"}, "wandb"),
        ({"report_to": ["tensorboard"]}, "tensorboard"),
        ({"report_to": "trackio"}, "trackio"),
    ],
)
def test_a_package_that_is_missing(options, package, write, monkeypatch):  # noqa: F811
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    for name in ("wandb", "tensorboard", "trackio"):
        monkeypatch.setattr(checks.integration_utils, f"is_{name}_available", bool)
    objective = "grpo" if "use_vllm" in options else "dpo"
    message = fault(write(objective, **options))
    assert f"needs the package {package}, which is not installed; pip install" in message


@pytest.mark.parametrize("value", ["true", "True", "nope", "./nope"])
def test_nothing_to_resume(value, write):  # noqa: F811
    path = write()
    message = fault(path, "--resume_from_checkpoint", value)
    assert message.startswith(f"{path}: resume_from_checkpoint: ") and "checkpoint" in message


def test_a_file_says_true_to_resume(write):  # noqa: F811
    assert "resume_from_checkpoint: true, but " in fault(write(resume_from_checkpoint=True))


def test_a_folder_that_is_no_checkpoint(write, tmp_path):  # noqa: F811
    (tmp_path / "trainer_state.json").write_text("{")
    assert "is no checkpoint (" in fault(write(resume_from_checkpoint=str(tmp_path)))


@pytest.mark.parametrize("kind", ["file", "below"])
def test_an_output_folder_that_cannot_be(kind, write, tmp_path):  # noqa: F811
    (tmp_path / "taken").write_text("x")
    output = tmp_path / "taken" / ("" if kind == "file" else "out")
    message = fault(write(output_dir=str(output)))
    assert f"output_dir: {tmp_path / 'taken'} is a file; " in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("no weights", "has no weights (*.safetensors)"),
        ("truncated", "model.safetensors cannot be read ("),
        ("no tokenizer", "the tokenizer of "),
        ("no template", "has no chat template"),
        ("config", "cannot be loaded ("),
    ],
)
def test_a_model_folder(change, expected, write, tmp_path, model_folder):  # noqa: F811
    import shutil

    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    weights = folder / "model.safetensors"
    if change == "no weights":
        weights.unlink()
    elif change == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif change == "no tokenizer":
        for path in folder.glob("tok*"):
            path.unlink()
    elif change == "no template":
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config.pop("chat_template", None)
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    else:
        (folder / "config.json").write_text("{")
    message = fault(write(model_name_or_path=str(folder)))
    assert expected in message and "network" not in message


@pytest.mark.parametrize(
    "text",
    ["run_name: 2024-13-45\n", "? [a]\n: 1\n", "1: 2\n", "beta: .1\nbeta: .2\n", "a: [1", "x"],
)
def test_yaml(text, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert str(path) in fault(path)


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        ("def broken(:\n", "my_module.broken", "cannot be imported (SyntaxError: "),
        ("1 / 0\n", "my_module.broken", "cannot be imported (ZeroDivisionError: "),
        ("number = 3\n", "my_module.number", "is int, not a function"),
    ],
)
def test_a_reward_function_of_a_broken_module(source, name, expected, write, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_module", raising=False)
    (tmp_path / "my_module.py").write_text(source)
    message = fault(write("grpo", [{"prompt": "1+1"}], reward_funcs=[name]))
    assert "reward_funcs: " in message and expected in message
    sys.modules.pop("my_module", None)


def test_a_reward_model_that_is_not_there(write):  # noqa: F811
    options = {"reward_model_name_or_path": "./none"}
    assert "reward_model_name_or_path: no such file" in fault(write("grpo", **options))


def test_an_objective_without_a_value(write):  # noqa: F811
    assert "objective: expected one argument" in fault(write(), "--objective")


def test_parquet_rows_are_checked(write, groups, tmp_path):  # noqa: F811
    from datasets import Dataset

    rows = VIEWS["grpo"](groups)
    rows[5]["scores"] = [1.0, 2.0, math.nan, 3.0]
    path = tmp_path / "rows.parquet"
    Dataset.from_list(rows).to_parquet(path)
    message = fault(write("grpo", dataset_name=str(path)))
    assert f"{path}: split train: row 5: scores.2: " in message


def test_an_error_of_a_dataloaders_worker_is_one_line(write, groups, monkeypatch, capfd):  # noqa: F811
    monkeypatch.undo()
    rows = [row | {"label": 1 if row["label"] else -1} for row in VIEWS["kto"](groups)]
    options = {"dataset_streaming": True, "dataloader_num_workers": 1}
    options |= {"humanline": False, "sync_interval": None}
    assert train(write("kto", rows, **options)) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error: " in line]
    assert "label: -1 is no label" in line and "Traceback" not in line


def test_the_traceback_behind_a_line(write, monkeypatch, capfd):  # noqa: F811
    path = write(model_init_kwargs={"nonsense": 1})
    monkeypatch.undo()
    for value in ("0", "1"):
        monkeypatch.setenv("HUMANLINE_TRACEBACK", value)
        assert train(path) == 1
        err = capfd.readouterr().err
        assert f"{path}: " in err and "(HUMANLINE_TRACEBACK=1 shows where)" in err
        assert ("Traceback" in err) == (value == "1")


def test_processes_that_train_together_tell_an_error_once(write, monkeypatch, capfd):  # noqa: F811
    waited = []
    monkeypatch.setattr(errors.time, "sleep", waited.append)
    path = write(max_steps=0)
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert train(path) == 1
    assert waited == [errors.ERROR_DELAY]  # the other is ended by then
    assert capfd.readouterr().err.count("max_steps must be") == 2
