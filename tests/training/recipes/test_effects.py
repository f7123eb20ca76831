"""Options of a recipe that have no effect beside its others."""

import logging

import pytest
from test_recipe import fault, train, write  # noqa: F401 - a fixture

from humanline.training.recipes import effects
from humanline.training.recipes import recipe as recipes
from humanline.training.recipes.options import Parser, sources


def test_every_option_of_the_table_exists():
    known = {"takes_groups"}
    for objective in ("dpo", "kto", "grpo"):
        for kind in Parser(objective).dataclass_types:
            known |= set(kind.__dataclass_fields__)
    for needs in effects._NEEDS:
        assert {*needs.names.split(), *needs.others.split()} <= known


@pytest.mark.parametrize(
    ("objective", "options", "idle"),
    [
        ("dpo", {"humanline": False}, "sync_interval"),
        ("dpo", {"eval_steps": 5}, "eval_steps"),
        ("dpo", {"lora_alpha": 8}, "lora_alpha"),
        ("dpo", {"num_train_epochs": 2}, "num_train_epochs"),
        ("dpo", {"lr_scheduler_type": "constant", "warmup_steps": 1}, "warmup_steps"),
        ("grpo", {"top_p": 0.9}, "top_p"),
        ("grpo", {"loss_type": "sapo", "epsilon": 0.1}, "epsilon"),
    ],
)
def test_it_is_refused_in_a_file(objective, options, idle, write):  # noqa: F811
    path = write(objective, **options)
    assert fault(path).startswith(f"{path}: {idle}: has no effect ")


def test_the_command_line_may_switch_the_files_options_off(write, caplog):  # noqa: F811
    path = write(log_eps_p=-1.0)
    with caplog.at_level(logging.WARNING):
        recipe = recipes.read(path, ["--humanline", "false"])
    assert not recipe.training.humanline
    assert f"{path}: log_eps_p: has no effect with humanline: false" in caplog.text
    assert "sync_interval: has no effect" in fault(path, "--no_humanline", "--sync_interval", 4)


@pytest.mark.parametrize("option", ["--eval_steps=3", "--eval-steps=3", "--no_eval_steps"])
def test_sources(option):
    found = sources({"beta": 1, "eval_steps": 4}, [option, "x", "--beta", "2"])
    assert found["beta"] == found["eval_steps"] == "command line"


def test_a_default_is_no_fault(write):  # noqa: F811
    recipes.read(write(per_device_eval_batch_size=8, hub_strategy="every_save"), [])


def test_an_earlier_training_is_not_lost(write, tmp_path, capfd):  # noqa: F811
    path, weights = write(), tmp_path / "out" / "model.safetensors"
    assert train(path) == 0
    first = weights.read_bytes()
    assert train(path, "--learning_rate", 1) == 1
    error = capfd.readouterr().err
    assert "output_dir: " in error and weights.read_bytes() == first
    assert ("set resume_from_checkpoint" in error) is any(weights.parent.glob("checkpoint-*"))
    kept = weights.parent / "checkpoint-9" / "kept"
    kept.parent.mkdir()
    kept.touch()
    assert train(path, "--overwrite_output_dir", "true", "--max_length", 1) == 1
    assert kept.exists()  # because this command has no training
    assert "set resume_from_checkpoint" not in error
    assert train(path, "--learning_rate", 1, "--overwrite_output_dir", "true") == 0
    assert weights.read_bytes() != first


def test_the_models_own_folder_is_not_written(write, model_folder):  # noqa: F811
    message = fault(write(output_dir=str(model_folder), overwrite_output_dir=True))
    assert "output_dir: " in message and "is the folder of model_name_or_path" in message


def test_columns_of_later_rows_are_kept(write, groups):  # noqa: F811
    rows = [{"prompt": "a", "chosen": f"b{i}", "rejected": "c"} for i in range(8)]
    rows[3]["note"] = "kept"
    trainer = recipes.build_trainer(recipes.read(write(rows=rows), []))
    assert trainer.train_dataset["note"][3] == "kept"


def test_a_row_that_the_template_refuses_has_its_place(write, groups, tmp_path):  # noqa: F811
    """KTO's rows are shuffled, so the trainer's number would be another row's."""
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]
    answer = [{"role": "assistant", "content": "b"}]
    rows = [{"prompt": turns[1:], "completion": answer, "label": i % 2} for i in range(8)]
    rows[2]["prompt"] = turns
    message = fault(write("kto", rows))
    assert message.startswith(f"{tmp_path / 'rows.jsonl'}: line 3: the chat template refuses it")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"optim": "grokadamw"}, "optim"),
        ({"optim": "sgd", "optim_args": "nonsense"}, "optim_args"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "lr_scheduler_kwargs"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"warmup_steps": 100}, "warmup_steps"),
        ({"load_in_4bit": True, "load_in_8bit": True}, "load_in_"),
        ({"accelerator_config": {"nonsense": 1}}, "accelerator_config"),
        ({"report_to": ["none", "nonsense"]}, "report_to"),
        ({"use_peft": True, "lora_alpha": 0}, "lora_alpha"),
    ],
)
def test_a_librarys_error_names_the_field(options, field, write):  # noqa: F811
    path = write(**options)
    assert fault(path).startswith(f"{path}: {field}")
