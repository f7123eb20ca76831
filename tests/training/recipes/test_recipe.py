"""Recipes: from one file to a trained model, and one line for what is wrong."""

import json
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from damages import DAMAGES
from safetensors.torch import load_file
from signals import SignalAt, in_a_child

from humanline.cli.commands import main
from humanline.files.validation import ConfigError
from humanline.trainers.rows import preferences
from humanline.training.recipes import recipe as recipes

SHIPPED = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))
VIEWS = {
    "dpo": lambda groups: preferences.pairs(groups, 0.01),
    "kto": lambda groups: preferences.labelled(groups, 0.01),
    "grpo": preferences.stored_groups,
}
OPTIONS = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": "1e-2",  # what YAML makes of 1e-2
    "sync_interval": 1,
    "report_to": "none",
    "save_strategy": "no",
    "bf16": False,
    "use_cpu": True,
    "disable_tqdm": True,
}
GRPO = {"num_generations": 4, "max_completion_length": 6}


def plain(rows: list[dict]) -> list[dict]:
    """Conversations of one turn as text."""

    def text(value):
        is_conversation = isinstance(value, list) and isinstance(value[0], dict)
        return value[0]["content"] if is_conversation else value

    return [{key: text(value) for key, value in row.items()} for row in rows]


@pytest.fixture
def write(tmp_path, model_folder, groups):
    """Write a recipe, and rows for it; returns its path."""

    def call(objective="dpo", rows=None, remove=(), **options) -> Path:
        data = tmp_path / "rows.jsonl"
        rows = VIEWS[objective](groups) if rows is None and objective in VIEWS else rows or []
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        content = {
            "objective": objective,
            "model_name_or_path": str(model_folder),
            "dataset_name": str(data),
            "output_dir": str(tmp_path / "out"),
        }
        content |= OPTIONS | (GRPO if objective == "grpo" else {}) | options
        content = {key: value for key, value in content.items() if key not in remove}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return call


def train(path: Path, *overrides) -> int:
    return main(["recipe", str(path), *map(str, overrides)])


def fault(path: Path, *overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        recipes.build_trainer(recipes.read(path, [str(o) for o in overrides]))
    message = str(caught.value)
    assert message.count("\n") == 0
    return message


def is_trained(folder: Path, model_folder: Path) -> bool:
    before, after = (load_file(f / "model.safetensors") for f in (model_folder, folder))
    return before.keys() == after.keys() and any((before[n] != after[n]).any() for n in before)


@pytest.mark.parametrize("form", [list, plain], ids=["conversational", "plain"])
@pytest.mark.parametrize("objective", VIEWS)
def test_a_recipe_trains_and_saves_a_model(
    objective, form, write, groups, tmp_path, model_folder, capfd
):
    assert train(write(objective, form(VIEWS[objective](groups)))) == 0
    assert is_trained(tmp_path / "out", model_folder)
    assert "humanline/steps_since_sync" in capfd.readouterr().out


def feedback_rows(groups: list[dict], objective: str) -> list[dict]:
    """Scored groups as HALOs' `train/label.py` writes them, pairwise, or binary for KTO."""
    rows = []
    for number, group in enumerate(groups):
        shared = {"prompt_id": str(number), "prompt": preferences.user_turn(group["prompt"])}
        outputs = [preferences.assistant_turn(text) for text in group["completions"]]
        if objective == "kto":
            shared["type"] = "binary_feedback"
            for output, score in zip(outputs, group["scores"], strict=True):
                rows.append(shared | {"output": output, "label": int(score > 1), "reward": score})
            continue
        shared["type"] = "pairwise_feedback"
        for a, b in ((0, 1), (2, 3)):
            pair = {"output_A": outputs[a], "reward_A": group["scores"][a]}
            pair |= {"output_B": outputs[b], "reward_B": group["scores"][b]}
            label = int(pair["reward_A"] > pair["reward_B"])
            rows.append(shared | pair | {"label": label})
    return rows


@pytest.mark.parametrize("objective", VIEWS)
def test_a_feedback_file_trains(objective, write, groups, tmp_path, model_folder):
    assert train(write(objective, feedback_rows(groups, objective))) == 0
    assert is_trained(tmp_path / "out", model_folder)


def test_binary_feedback_has_no_pairs(write, groups):
    assert "lacks chosen, rejected" in fault(write("dpo", feedback_rows(groups, "kto")))


def test_code_of_a_repository_is_not_run_unasked(write):
    message = fault(write(trust_remote_code=True))
    assert "trust_remote_code: true, but" in message and "REMOTE_CODE" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [("trust_remote_code", True), ("revision", "main"), ("use_safetensors", False)],
)
def test_what_is_loaded_is_decided_in_one_place(key, value, write):
    message = fault(write(model_init_kwargs={key: value}))
    assert f"model_init_kwargs: has {key}; " in message


def test_the_command_line_takes_precedence(write, tmp_path):
    path = write(max_steps=3, log_eps_p=-1.0)
    overrides = ["--max_steps", "1", "--log_eps_p", "null", "--output_dir", str(tmp_path / "b")]
    training = recipes.read(path, overrides).training
    assert (training.max_steps, training.log_eps_p) == (1, None)
    assert (training.sync_interval, training.learning_rate) == (1, 0.01)
    assert recipes.read(path, ["--objective=kto"]).objective == "kto"
    assert train(path, *overrides) == 0
    assert (tmp_path / "b" / "model.safetensors").exists() and not (tmp_path / "out").exists()


def test_a_file_says_null_lists_and_mappings(write):
    path = write(
        sync_interval=None,
        loss_type="sigmoid",
        lr_scheduler_kwargs={"num_cycles": 2},
        lr_scheduler_type="cosine",
    )
    training = recipes.read(path, []).training
    assert training.sync_interval is None
    assert training.loss_type == ["sigmoid"]
    assert training.lr_scheduler_kwargs == {"num_cycles": 2}


def test_resumed_at_the_last_step(write, tmp_path, capfd):
    path = write(max_steps=-1, num_train_epochs=1, save_strategy="epoch")
    assert train(path) == 0
    (tmp_path / "out" / "model.safetensors").unlink()
    assert train(path, "--resume_from_checkpoint", "true") == 1
    assert "is of the last step, and nothing is left to train; " in capfd.readouterr().err
    assert train(path, "--resume_from_checkpoint", "true", "--max_steps", 6) == 1
    assert "is at step 6 of 6, and nothing is left to train; " in capfd.readouterr().err
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_sigterm_leaves_a_checkpoint_to_go_on_from(write, tmp_path, monkeypatch):
    path = write(max_steps=4, save_strategy="steps", save_steps=100)
    assert train(path) == 0
    uncut = (tmp_path / "out" / "model.safetensors").read_bytes()
    build = recipes.build_trainer

    def with_signal(recipe):
        trainer = build(recipe)
        trainer.add_callback(SignalAt(1))
        return trainer

    monkeypatch.setattr(recipes, "build_trainer", with_signal)
    new = ("--output_dir", tmp_path / "new")
    assert in_a_child(lambda: sys.exit(train(path, *new))) == 143
    assert [p.name for p in (tmp_path / "new").glob("checkpoint-*")] == ["checkpoint-2"]
    assert not (tmp_path / "new" / "model.safetensors").exists()
    off = ("--output_dir", tmp_path / "off", "--enable_jit_checkpoint", "false")
    assert in_a_child(lambda: sys.exit(train(path, *off))) == -signal.SIGTERM
    off = ("--output_dir", tmp_path / "off", "--save_strategy", "no")
    assert in_a_child(lambda: sys.exit(train(path, *off))) == -signal.SIGTERM
    monkeypatch.undo()
    assert train(path, *new, "--resume_from_checkpoint", "true") == 0
    assert (tmp_path / "new" / "model.safetensors").read_bytes() == uncut


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json", "humanline.json"])
def test_a_damaged_checkpoint_is_one_line(name, damage, write, saved, tmp_path, capfd):
    shutil.copytree(saved, tmp_path / "out" / "checkpoint-1")
    DAMAGES[damage](tmp_path / "out" / "checkpoint-1" / name)
    path = write(max_steps=2)
    asked = recipes.read(path, []).training.output_dir
    assert train(path, "--resume_from_checkpoint", "true") == 1
    (line,) = [x for x in capfd.readouterr().err.splitlines() if "humanline: error: " in x]
    assert f"{asked}/checkpoint-1" in line and name in line
    assert "train anew" in line or "folder checkpoint-N" in line
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.fixture(scope="module")
def saved(tmp_path_factory, model_folder):
    """A checkpoint of the first of two steps."""
    folder = tmp_path_factory.mktemp("saved")
    groups = [
        {"prompt": f"{i}+1", "completions": list("abcd"), "scores": [0.0, 1, 2, 3]}
        for i in range(8)
    ]
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in VIEWS["dpo"](groups)))
    content = {"objective": "dpo", "model_name_or_path": str(model_folder)}
    content |= {"dataset_name": str(rows), "output_dir": str(folder / "out")}
    content |= OPTIONS | {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    assert train(folder / "recipe.yaml") == 0
    return folder / "out" / "checkpoint-1"


def test_lora(write, tmp_path):
    options = {"use_peft": True, "lora_r": 4, "lora_target_modules": ["q_proj", "v_proj"]}
    assert train(write(reference="adapter", **options)) == 0
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["r"] == 4 and sorted(config["target_modules"]) == ["q_proj", "v_proj"]


def test_reward_functions_by_dotted_path(write, tmp_path, monkeypatch):
    source = "def count(completions, **_):\n    return [float(len(c)) for c in completions]\n"
    (tmp_path / "my_rewards.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    path = write("grpo", [{"prompt": f"{i}+1"} for i in range(8)], reward_funcs="my_rewards.count")
    assert train(path) == 0
    (function,) = recipes._reward_functions(recipes.read(path, []))
    assert function(["abc"]) == [3.0]


def test_reward_functions_of_trl_by_name(write):
    path = write("grpo", [{"prompt": "1+1"}], reward_funcs=["think_format_reward"])
    (function,) = recipes._reward_functions(recipes.read(path, []))
    assert function.__module__.startswith("trl.rewards")


def test_evaluation_takes_the_test_split(write, groups, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        rows = VIEWS["dpo"](groups)[:8]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    path = write(dataset_name=str(folder), eval_strategy="steps", eval_steps=2)
    trainer = recipes.build_trainer(recipes.read(path, []))
    trainer.train()
    assert any("eval_loss" in row for row in trainer.state.log_history)


def test_parquet(write, groups, tmp_path):
    from datasets import Dataset

    data = str(tmp_path / "rows.parquet")
    Dataset.from_list(VIEWS["kto"](groups)).to_parquet(data)
    trainer = recipes.build_trainer(recipes.read(write("kto", dataset_name=data), []))
    assert len(trainer.train_dataset) == 2 * len(groups)


def test_text_beside_conversations_that_repeat_it(write, groups):
    """As princeton-nlp's sets have it, which the shipped recipes name."""
    rows = [
        {
            "prompt": row["prompt"][0]["content"],
            "chosen": row["prompt"] + row["chosen"],
            "rejected": row["prompt"] + row["rejected"],
        }
        for row in VIEWS["dpo"](groups)
    ]
    for objective in ("dpo", "kto"):
        trainer = recipes.build_trainer(recipes.read(write(objective, rows), []))
        plain = recipes.build_trainer(recipes.read(write(objective, VIEWS["dpo"](groups)), []))
        assert trainer.train_dataset[0]["prompt_ids"] == plain.train_dataset[0]["prompt_ids"]


def test_kto_mixes_pairs(write, groups):
    """TRL trains in the order of the rows, and would put all desirable ones first."""
    trainer = recipes.build_trainer(recipes.read(write("kto", VIEWS["dpo"](groups)), []))
    labels = trainer.train_dataset["label"]
    assert sum(labels) == len(groups)
    assert 0 < sum(labels[: len(groups)]) < len(groups)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path, write, model_folder, tmp_path):
    """As far as it goes without vLLM, whose absence is then the one fault."""
    write()
    local = ["--model_name_or_path", model_folder, "--dataset_name", tmp_path / "rows.jsonl"]
    arguments = [*map(str, local), "--use_cpu", "--model_revision", "main"]
    content = yaml.safe_load(path.read_text())
    if content.get("use_vllm") and find_spec("vllm") is None:
        said = rf"{path.name}: use_vllm: True needs the package vllm, .*; pip install vllm"
        with pytest.raises(ConfigError, match=said):
            recipes.read(path, arguments)
        arguments += ["--use_vllm", "false"]
    recipe = recipes.read(path, arguments)
    assert recipe.objective == path.stem.split("_")[0]
    k = 24 if path.stem == "grpo_math" else 4
    assert recipe.training.humanline and recipe.training.sync_interval == k
    assert (recipe.training.log_eps_p, recipe.training.log_eps_r) == (-1.5, 1.5)
    if recipe.objective == "grpo":
        assert bool(recipes._reward_functions(recipe)) == (path.stem != "grpo_offline")


# GPUs, examples of a step and in all (of GRPO completions). Others are as `dpo`, `kto`, `grpo`.
BATCHES = {
    "dpo": (4, 32, 10_000),
    "dpo_one_gpu": (1, 32, 10_000),
    "kto": (4, 64, 20_000),
    "grpo": (4, 64, 20_000),
    "grpo_math": (8, 256, 409_600),
}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_have_the_papers_batches(path):
    content = yaml.safe_load(path.read_text())
    gpus, batch, examples = BATCHES.get(path.stem) or BATCHES[content["objective"]]
    of_a_gpu = content["per_device_train_batch_size"] * content["gradient_accumulation_steps"]
    assert of_a_gpu * gpus == batch
    assert round(batch * content["max_steps"], -2) == examples
    if path.stem == "grpo_math":  # 64 steps sampled at once
        sampled = content["steps_per_generation"] * content["per_device_train_batch_size"] * gpus
        assert sampled == 64 * batch == 16_384


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_warm_up_as_the_paper(path):
    content = yaml.safe_load(path.read_text())
    assert content["warmup_steps"] == 0.1
    if path.stem == "grpo_math":
        assert content["lr_scheduler_type"] == "constant_with_warmup"
    else:
        kwargs = {"num_decay_steps": 0, "min_lr_ratio": 0.1}
        assert content["lr_scheduler_type"] == "warmup_stable_decay"
        assert content["lr_scheduler_kwargs"] == kwargs and content["max_grad_norm"] == 1.0


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_pin_the_models_of_the_papers_scale(path):
    scale = SHIPPED[0].parents[1] / "workflow" / "config" / "paper.yaml"
    tasks = yaml.safe_load(scale.read_text())["tasks"].values()
    pinned = {task["base_model"]["repo"]: task["base_model"]["revision"] for task in tasks}
    content = yaml.safe_load(path.read_text())
    assert content["model_revision"] == pinned[content["model_name_or_path"]]


def test_recipes_of_one_experiment_differ_in_where_they_sample_alone():
    """vLLM's recipes are grpo.yaml with options of vLLM."""
    contents = {path.stem: yaml.safe_load(path.read_text()) for path in SHIPPED}
    plain = contents["grpo"]
    for name in ("grpo_colocated", "grpo_served"):
        own = contents[name]
        added = {key for key in own if key not in plain}
        assert added and all(key.startswith(("vllm_", "use_vllm")) for key in added)
        changed = {key for key in plain if own.get(key) != plain[key]}
        assert changed == {"output_dir"}
        # Samples of a nucleus, for which the weight is biased.
        assert own["top_p"] < 1 and own["vllm_importance_sampling_correction"] is False


@pytest.mark.parametrize("name", ["fsdp2", "zero3"])
def test_shipped_configurations_of_accelerate_are_valid(name):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(SHIPPED[0].parent / "accelerate" / f"{name}.yaml"))
    assert config.num_processes == 4 and config.mixed_precision == "bf16"


class TestFaults:
    """One line: file, field, remedy."""

    def test_the_file(self, tmp_path, capfd):
        assert train(tmp_path / "none.yaml") == 1
        err = capfd.readouterr().err
        assert err.startswith("humanline: error: ") and err.count("\n") == 1
        assert "none.yaml: cannot be read" in err

    @pytest.mark.parametrize("objective", ["ppo", None])
    def test_the_objective(self, objective, write):
        path = write(objective)
        assert fault(path).startswith(f"{path}: objective: ")
        assert fault(path).endswith("use one of dpo, kto, grpo")
        assert "'ipo' is unknown" in fault(write(), "--objective", "ipo")

    @pytest.mark.parametrize("value", [1, "1e-3", None, True, [1], {"a": 1}])
    def test_an_unknown_key(self, value, write):
        path = write(lerning_rate=value)
        expected = "lerning_rate: unknown key of dpo; did you mean learning_rate?"
        assert fault(path) == f"{path}: {expected}"

    def test_a_key_of_another_objective(self, write):
        path = write(num_generations=8)
        assert fault(path).startswith(f"{path}: num_generations: unknown key of dpo; ")

    @pytest.mark.parametrize(
        "options", [["--lora_rank", "8"], ["--lora_rank=8"], ["--learning", "1"], ["8"]]
    )
    def test_an_unknown_key_on_the_command_line(self, options, write):
        assert fault(write(), *options).startswith(f"command line: {options[0][:11].strip('-')}")

    def test_a_value_of_a_wrong_type(self, write):
        path = write(max_steps="many")
        assert fault(path) == f"{path}: max_steps: invalid int value: 'many'; change it"
        assert fault(write(), "--max_steps", "1.5").startswith("command line: max_steps: invalid")

    def test_a_value_that_is_no_choice(self, write):
        path = write(dtype="float17")
        assert fault(path).startswith(f"{path}: dtype: invalid choice: 'float17'")

    def test_a_value_that_the_config_refuses(self, write):
        path = write(sync_interval=0)
        assert (
            fault(path) == f"{path}: sync_interval must be an integer of at least 1, or None; got 0"
        )

    @pytest.mark.parametrize("field", ["model_name_or_path", "dataset_name"])
    def test_a_missing_key(self, field, write):
        path = write(remove=[field])
        assert fault(path) == f"{path}: {field}: missing; add this key"

    @pytest.mark.parametrize(
        ("field", "value"),
        [("model_name_or_path", "./none"), ("dataset_name", "/none"), ("dataset_name", "n.jsonl")],
    )
    def test_a_missing_path(self, field, value, write):
        path = write(**{field: value})
        assert fault(path).startswith(f"{path}: {field}: no such file or folder: {value!r}; ")

    @pytest.mark.parametrize("field", ["model_name_or_path", "dataset_name"])
    def test_a_name_that_is_not_there(self, field, write):
        path = write(**{field: "humanline-tests/none"})
        assert fault(path).startswith(f"{path}: {field}: humanline-tests/none cannot be loaded (")

    def test_a_folder_without_a_model(self, write, tmp_path):
        path = write(model_name_or_path=str(tmp_path))
        assert fault(path).startswith(f"{path}: model_name_or_path: {tmp_path} cannot be loaded (")

    @pytest.mark.parametrize(
        ("objective", "row", "lacking"),
        [
            ("dpo", {"prompt": "a", "chosen": "b"}, "rejected"),
            ("kto", {"prompt": "a", "completion": "b"}, "label"),
            ("grpo", {"prompt": "a", "completions": ["b"] * 4}, "scores"),
            ("grpo", {"prompt": "a"}, "completions, scores"),
        ],
    )
    def test_a_missing_column(self, objective, row, lacking, write, tmp_path, monkeypatch):
        monkeypatch.setattr("trl.trainer.utils.create_model_from_path", None)  # not reached
        path = write(objective, [row])
        expected = f"{tmp_path / 'rows.jsonl'} lacks {lacking}, which {objective} needs, and has "
        assert fault(path).startswith(f"{path}: dataset_name: {expected}")

    def test_a_missing_split(self, write):
        path = write(dataset_test_split="held_out", eval_strategy="steps", eval_steps=1)
        assert fault(path).startswith(f"{path}: dataset_test_split: no split 'held_out' in ")

    @pytest.mark.parametrize("name", ["nothing.here", "humanline.rewards.nothing", "nothing"])
    def test_a_reward_function_that_is_not_there(self, name, write):
        path = write("grpo", [{"prompt": "1+1"}], reward_funcs=[name])
        assert fault(path).startswith(f"{path}: reward_funcs: {name!r} cannot be imported (")


def test_help_lists_the_keys_of_the_objective(write, capfd):
    assert train(write(), "--help") == 0
    out = capfd.readouterr().out
    assert "--sync_interval" in out and "--lora_r" in out and "--dataset_name" in out
