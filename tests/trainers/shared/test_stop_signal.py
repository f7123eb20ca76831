"""SIGTERM in a real process: a checkpoint appears, and who goes on ends as if nothing had been."""

import signal

import pytest
import torch
from combinations import in_rounds
from signals import SignalAt, in_a_child
from tiny import equal, make_trainer, rows, weights
from transformers import AutoModelForCausalLM

STATUS = 143


@pytest.fixture
def build(model_folder, tokenizer, groups, tmp_path):
    def build(objective="dpo", folder=tmp_path, **options):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        options = {"max_steps": 6, "logging_steps": 4, "sync_interval": 4} | options
        options = {"save_strategy": "steps", "save_steps": 100} | options
        return make_trainer(
            objective, model, tokenizer, rows(objective, groups), folder,
            **{"enable_jit_checkpoint": True} | options,
        )  # fmt: skip

    return build


def stop(trainer, step: int, moment: str = "on_step_begin") -> int:
    trainer.add_callback(SignalAt(step, moment))
    return in_a_child(trainer.train)


def checkpoints(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("*checkpoint*"))


def logged(trainer) -> list[dict]:
    timed = ("train_runtime", "step_time")
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


@pytest.mark.parametrize("objective", ["dpo", "kto", "grpo"])
@pytest.mark.parametrize("reference", ["cached", "model"])
def test_it_goes_on_as_if_nothing_had_been(objective, reference, build, tmp_path, capfd):
    """The step of the signal is within a window, a rollout and a span of the log."""
    options = {"reference": reference}
    if objective == "grpo":
        options |= {"steps_per_generation": 4}
    whole, cut = (build(objective, tmp_path / name, **options) for name in ("whole", "cut"))
    whole.train()
    assert stop(cut, 2, "on_pre_optimizer_step") == STATUS
    checkpoint = tmp_path / "cut" / "checkpoint-3"
    told = f"SIGTERM: stopped after step 3 of 6; go on from {checkpoint}, which is whole"
    assert told in capfd.readouterr().err
    assert checkpoints(tmp_path / "cut") == ["checkpoint-3"]
    resumed = build(objective, tmp_path / "cut", **options)
    resumed.train(resume_from_checkpoint=True)
    assert equal(weights(resumed.model), weights(whole.model))
    assert logged(resumed) == logged(whole)


def test_it_waits_for_no_further_step_while_it_evaluates(build, groups, tmp_path):
    data = {"eval_dataset": rows("dpo", groups).select(range(8))}
    cut = build(eval_strategy="steps", eval_steps=2, extra=data)
    assert stop(cut, 2, "on_prediction_step") == STATUS
    assert checkpoints(tmp_path) == ["checkpoint-2"]


def test_the_best_checkpoint_does_not_displace_the_one_to_go_on_from(build, groups, tmp_path):
    """At the end of a training that may keep one, the Trainer deletes all but the best."""
    data = {"eval_dataset": rows("dpo", groups).select(range(8))}
    cut = build(
        eval_strategy="steps", eval_steps=1, save_steps=1, load_best_model_at_end=True,
        save_total_limit=1, metric_for_best_model="loss", greater_is_better=True, extra=data,
    )  # fmt: skip
    assert stop(cut, 3) == STATUS
    assert (tmp_path / "checkpoint-4").is_dir()


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_within_a_round(objective, model_folder, tmp_path):
    build = lambda name: in_rounds(  # noqa: E731
        objective, model_folder, tmp_path / name, enable_jit_checkpoint=True
    )
    whole, cut, resumed = build("whole"), build("cut"), build("cut")
    whole.train()
    assert stop(cut, 2) == STATUS
    resumed.train(resume_from_checkpoint=True)
    assert equal(weights(resumed.model), weights(whole.model))
    assert logged(resumed) == logged(whole)


def test_without_the_option_it_ends_at_once_as_in_trl(build, tmp_path):
    assert stop(build(enable_jit_checkpoint=False), 2) == -signal.SIGTERM
    assert not checkpoints(tmp_path)


def test_before_and_after_training_it_ends_at_once(build):
    trainer = build(max_steps=1, save_strategy="no")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    trainer.train()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_in_the_last_step_ends_a_whole_training(build, tmp_path):
    assert stop(build(max_steps=3), 2) == 0
    assert checkpoints(tmp_path) == ["checkpoint-3"]
