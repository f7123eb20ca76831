"""Training without a step is an error, and saves nothing; rows that are left out are counted."""

import math

import pytest
from datasets import Dataset
from tiny import OBJECTIVES, make_trainer, rows

import humanline
from humanline.files.validation import ConfigError
from humanline.trainers.rows.preferences import user_turn


@pytest.fixture
def refused(model, tokenizer, tmp_path, groups):
    """What a trainer says that cannot do its work, neither leaving a model nor a checkpoint."""

    def call(objective: str, dataset=None, **options) -> str:
        dataset = rows(objective, groups) if dataset is None else dataset
        options = {"save_strategy": "epoch"} | options
        with pytest.raises(ConfigError) as caught:
            trainer = make_trainer(objective, model, tokenizer, dataset, tmp_path, **options)
            trainer.train()
        assert not list(tmp_path.rglob("*.safetensors"))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return call


def long(dataset: Dataset, number: int | None = None) -> Dataset:
    """Rows of which the first have prompts of more than 16 tokens."""
    turn = user_turn("1+" * 20 + "1")
    number = len(dataset) if number is None else number
    return Dataset.from_list(
        [row | {"prompt": turn} if i < number else row for i, row in enumerate(dataset)]
    )


@pytest.mark.parametrize("humanline", [True, False])
@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_no_row_is_left(objective, humanline, refused, groups):
    dataset = long(rows(objective, groups))
    message = refused(objective, dataset, max_length=8, humanline=humanline)
    assert f"all {len(dataset)} rows have max_length=8" in message


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_no_row_of_a_stream_is_left(objective, refused, groups):
    stream = long(rows(objective, groups)).to_iterable_dataset()
    assert "no step can be taken" in refused(objective, stream, max_length=8, max_steps=2)


def test_a_stream_of_fewer_groups_than_a_batch(refused, groups):
    stream = rows("grpo", groups[:1]).to_iterable_dataset()
    assert "too few to fill one generation batch" in refused("grpo", stream, max_steps=2)


@pytest.mark.parametrize("humanline", [True, False])
def test_fewer_groups_than_a_batch(humanline, refused, groups):
    dataset = rows("grpo", groups[:1])
    assert "1 prompts do not fill one generation batch of 2" in refused(
        "grpo", dataset, humanline=humanline
    )


def test_fewer_prompts_than_a_batch(model, tokenizer, tmp_path):
    dataset = Dataset.from_list([{"prompt": "1+1"}])
    reward = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
    with pytest.raises(ConfigError, match="do not fill one generation batch"):
        make_trainer("grpo", model, tokenizer, dataset, tmp_path, reward)


@pytest.mark.parametrize("humanline", [True, False])
def test_no_batch_is_full(humanline, refused, groups):
    dataset = rows("dpo", groups[:3])
    options = {"dataloader_drop_last": True, "max_steps": -1, "humanline": humanline}
    assert "do not fill one batch of 8" in refused("dpo", dataset, **options)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_empty_dataset(objective, refused, groups):
    assert "train set: no rows" in refused(objective, rows(objective, groups).select([]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_steps", 0),
        ("max_steps", -2),
        ("num_train_epochs", 0),
        ("learning_rate", math.nan),
        ("learning_rate", -1.0),
        ("beta", math.inf),
        ("per_device_train_batch_size", 0),
        ("log_eps_r", math.nan),
    ],
)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_numbers_without_sense(objective, name, value, tmp_path):
    config = getattr(humanline, f"Humanline{objective.upper()}Config")
    with pytest.raises(ValueError, match=f"^{name} must be "):
        config(str(tmp_path), **{name: value})


def test_prompts_that_are_left_out_are_told_and_logged(model, tokenizer, tmp_path, groups, caplog):
    trainer = make_trainer("grpo", model, tokenizer, rows("grpo", groups[:5]), tmp_path)
    assert "1 of 5 prompts" in caplog.text
    trainer.train()
    logged = [row for row in trainer.state.log_history if "loss" in row]
    assert {row["humanline/prompts_left_out"] for row in logged} == {1}


def test_dropped_rows_of_a_stream_are_counted(model, tokenizer, tmp_path, groups):
    stream = long(rows("dpo", groups), 5).to_iterable_dataset()
    options = {"max_length": 12, "max_steps": 2}
    trainer = make_trainer("dpo", model, tokenizer, stream, tmp_path, **options)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "loss" in row]
    assert logged[-1]["humanline/rows_dropped"] == 5


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "1+1"}, "train set: needs a column `prompt`, and has question; rename"),
        ({"prompt": None}, "a prompt must be a text or messages; got None; mend its row"),
    ],
    ids=str,
)
def test_rows_without_a_prompt_to_sample_from(row, message, streams, refused):
    dataset = Dataset.from_list([row] * 4)
    dataset = dataset.to_iterable_dataset() if streams else dataset
    extra = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
    assert message in refused("grpo", dataset, extra=extra, max_steps=1)
