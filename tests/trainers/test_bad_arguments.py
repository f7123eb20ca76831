"""Nonsense given to configs and trainers from Python: one ValueError that names the argument."""

import math

import pytest
import torch
from datasets import Dataset
from tiny import OBJECTIVES, make_trainer, rows

import humanline

NOT_NUMBERS = ("many", True, [1.0], {"a": 1}, math.nan, math.inf)
BAD = {
    **dict.fromkeys(("learning_rate", "beta", "log_eps_p", "sync_alpha"), NOT_NUMBERS),
    **dict.fromkeys(
        ("per_device_train_batch_size", "max_steps", "sync_interval", "seed"),
        ("many", True, 1.5, [1], math.nan, math.inf),
    ),
    "humanline": ("false", None, 1, []),
    "reference": (None, ["cached"], "Cached", 1),
    "perception": (None, ["clip"], "clips"),
    "warmup_steps": (1.5, -1),
}
OF_ONE = (
    ("dpo", {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.0, 0.0]}, "loss_weights"),
    ("kto", {"desirable_weight": 0.0, "undesirable_weight": 0.0}, "desirable_weight"),
    ("kto", {"per_device_train_batch_size": 1}, "per_device_train_batch_size"),
    ("grpo", {"num_generations": 1}, "num_generations"),
    ("grpo", {"num_generations": None}, "num_generations"),
    ("grpo", {"reward_weights": [0.0]}, "reward_weights"),
    ("grpo", {"generation_kwargs": {"nonsense": 1}}, "generation_kwargs"),
    ("grpo", {"generation_kwargs": {"num_return_sequences": 2}}, "generation_kwargs"),
)


def config(objective: str, **options):
    kind = getattr(humanline, f"Humanline{objective.upper()}Config")
    return kind(output_dir="out", use_cpu=True, **options)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", BAD)
def test_a_value_of_a_config(objective, name):
    for value in BAD[name]:
        with pytest.raises(ValueError, match=f"^{name} must be [^\n]*$"):
            config(objective, **{name: value})


@pytest.mark.parametrize(("objective", "options", "name"), OF_ONE)
def test_values_of_one_objective(objective, options, name):
    with pytest.raises(ValueError, match=f"^{name}[^\n]*$"):
        config(objective, **options)


def test_texts_that_are_numbers_are_numbers():
    """As YAML makes of 1e-3."""
    made = config("dpo", learning_rate="1e-3", max_length="8", sync_interval="2")
    assert (made.learning_rate, made.max_length, made.sync_interval) == (1e-3, 8, 2)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("given", [None, 5, torch.nn.Linear(1, 1), "/no/such/folder"], ids=str)
def test_a_model_that_is_none(objective, given):
    trainer = getattr(humanline, f"Humanline{objective.upper()}Trainer")
    with pytest.raises(ValueError, match=r"^model[^\n]*$"):
        trainer(given, args=config(objective), train_dataset=Dataset.from_list([{"prompt": "a"}]))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_arguments_of_another_objective(objective, model, tokenizer, groups):
    trainer = getattr(humanline, f"Humanline{objective.upper()}Trainer")
    other = config("kto" if objective == "dpo" else "dpo")
    for args in ({"beta": 0.1}, other):
        with pytest.raises(ValueError, match=r"^args must be a Humanline[^\n]*$"):
            trainer(model, args=args, train_dataset=rows(objective, groups))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_model_of_nan_saves_nothing(objective, model, tokenizer, groups, tmp_path):
    next(model.parameters()).data.fill_(math.nan)
    data = rows(objective, groups)
    trainer = make_trainer(objective, model, tokenizer, data, tmp_path, max_steps=1, use_cpu=True)
    with pytest.raises(ValueError, match=r"nothing is saved: [^\n]*$"):
        trainer.train()
    with pytest.raises(ValueError, match=r"nothing is saved: [^\n]*$"):
        trainer.save_model()
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("name", "error"),
    [("raises", RuntimeError("the judge\nis out")), ("exits", SystemExit(3))],
)
def test_what_a_reward_function_raises_is_one_line(name, error):
    from humanline.trainers.rows.scores import checked_reward

    def function(prompts, **_):
        raise error

    with pytest.raises(ValueError, match=rf"^reward function {name} raised [^\n]*$"):
        checked_reward(function, name)(["a"])
