"""However the reference is kept, a run is the same: every loss on its way, and where it ends."""

import json

import pytest
import torch
from datasets import Dataset
from tiny import GROUP, OBJECTIVES, make_trainer, rows, weights
from transformers import AutoModelForCausalLM, TrainerCallback

from humanline.files.validation import ConfigError
from humanline.trainers.rows import preferences

STEPS = 10
# Rows that fill neither a batch nor an accumulation nor, with k = 4 and 10 steps, a window.
UNEVEN = {
    "max_steps": STEPS,
    "sync_interval": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 5e-3,
    "log_eps_p": -0.3,
    "log_eps_r": 0.3,
}
BATCH = {"dpo": 5, "kto": 10, "grpo": 4}
SAMPLED = ("offline", "online")


def lora():
    from peft import LoraConfig

    return LoraConfig(
        r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )


class Case:
    """One way to train, run again and again with references kept in different ways."""

    def __init__(self, objective, model_folder, tokenizer, groups, folder):
        self.objective, self.model_folder = objective, model_folder
        self.tokenizer, self.groups, self.folder = tokenizer, groups, folder

    def trainer(self, name: str, online=False, peft=False, **options):
        options = UNEVEN | {"per_device_train_batch_size": BATCH[self.objective]} | options
        extra = {"peft_config": lora()} if peft else {}
        dataset = rows(self.objective, self.groups)
        if online:
            prompts = [{"prompt": preferences.user_turn(f"{i}+1")} for i in range(16)]
            dataset = Dataset.from_list(prompts)
            extra["reward_funcs"] = lambda completions, **_: [
                float(sum(map(ord, c[0]["content"])) % 7) for c in completions
            ]
            options = {"steps_per_generation": 6} | options
        if "eval_strategy" in options:
            extra["eval_dataset"] = dataset.select(range(8))
        model = AutoModelForCausalLM.from_pretrained(self.model_folder, dtype=torch.float32)
        folder = self.folder / name
        torch.manual_seed(0)
        return make_trainer(
            self.objective, model, self.tokenizer, dataset, folder, extra=extra, **options
        )

    def run(self, name: str, resume=None, **options):
        """The losses of training and evaluation in order, and the weights at the end."""
        trainer = self.trainer(name, **options)
        torch.manual_seed(0)
        trainer.train(resume_from_checkpoint=resume)
        history = trainer.state.log_history
        losses = [row[key] for row in history for key in ("loss", "eval_loss") if key in row]
        trained = {n: w for n, w in weights(trainer.model).items() if ".ref." not in n}
        return losses, trained

    def assert_same(self, one, other):
        (losses, final), (other_losses, other_final) = one, other
        assert losses == pytest.approx(other_losses, abs=2e-5)
        for name, weight in final.items():
            torch.testing.assert_close(other_final[name], weight, atol=2e-5, rtol=1e-4)


@pytest.fixture
def case(request, model_folder, tokenizer, groups, tmp_path):
    return Case(request.param, model_folder, tokenizer, groups, tmp_path)


every_objective = pytest.mark.parametrize("case", OBJECTIVES, indirect=True)


@every_objective
@pytest.mark.parametrize("after", [False, True])
def test_cached_equals_a_second_model(case, after):
    options = {"sync_after_update": after}
    model = case.run("model", reference="model", **options)
    case.assert_same(model, case.run("cached", reference="cached", **options))
    unsynced = case.run("unsynced", reference="model", sync_interval=None)
    assert unsynced[0] != pytest.approx(model[0], abs=1e-4), "syncing must matter here"


@pytest.mark.parametrize("case", ["grpo"], indirect=True)
@pytest.mark.parametrize("peft", [False, True])
def test_grpos_kl_penalty_has_the_same_reference(case, peft):
    options = {"beta": 0.2, "peft": peft, "learning_rate": 2e-2}
    model = case.run("model", reference="model", **options)
    case.assert_same(model, case.run("cached", reference="cached", **options))
    assert model[0] != pytest.approx(case.run("free", peft=peft, beta=0.0)[0], abs=1e-4)


@pytest.mark.parametrize("case", ["grpo"], indirect=True)
@pytest.mark.parametrize("online", [False, True])
def test_grpos_other_losses_and_entropies_have_the_same_reference(case, online):
    """GSPO's ratio, and tokens chosen by entropy, of a rollout's samples and of stored groups."""
    options = {"importance_sampling_level": "sequence", "loss_type": "cispo", "online": online}
    options |= {"top_entropy_quantile": 0.5, "entropy_coef": 0.2, "epsilon_high": 1.1}
    cached = case.run("cached", reference="cached", **options)
    case.assert_same(cached, case.run("model", reference="model", **options))
    if online:
        return
    for name in ("importance_sampling_level", "loss_type", "top_entropy_quantile", "entropy_coef"):
        others = {key: value for key, value in options.items() if key != name}
        assert cached[0] != pytest.approx(case.run(name, **others)[0], abs=1e-4), name
    adapter = case.run("adapter", reference="adapter", peft=True, **options)
    case.assert_same(adapter, case.run("lora", reference="cached", peft=True, **options))


@pytest.mark.parametrize("case", ["grpo"], indirect=True)
def test_an_adaptive_entropy_bonus_goes_on_where_it_was(case):
    options = {"use_adaptive_entropy": True, "entropy_target": 100.0, "entropy_coef_delta": 0.1}
    options |= {"save_strategy": "steps", "save_steps": 5}
    whole = case.run("whole", **options)
    checkpoint = case.folder / "whole" / "checkpoint-5"
    losses, final = case.run("resumed", resume=str(checkpoint), **options)
    case.assert_same((whole[0][-len(losses) :], whole[1]), (losses, final))
    lost = json.dumps({"entropy_coef": 0.0, "last_world_entropy": 1.0})
    state = checkpoint / "entropy_ctrl_state.json"
    state.write_text(lost.ljust(state.stat().st_size))
    with pytest.raises(ConfigError, match=r"entropy_ctrl_state\.json is damaged"):
        case.run("lost", resume=str(checkpoint), **options)


@every_objective
def test_no_second_model_is_held(case):
    trainer = case.trainer("cached")
    steps, keep = [], trainer.reference.keep_snapshot
    trainer.reference.keep_snapshot = lambda: (steps.append(trainer.state.global_step), keep())
    assert trainer.ref_model is None
    trainer.train()
    assert trainer.ref_model is None
    last_window = STEPS - trainer.args.sync_interval
    assert min(steps) >= last_window, "every batch was known: a snapshot for afterwards alone"


@every_objective
def test_evaluation_in_between_sees_the_reference(case):
    options = {"eval_strategy": "steps", "eval_steps": 3}
    model = case.run("model", reference="model", **options)
    assert len(model[0]) == STEPS + 4, "and once at the end"
    case.assert_same(model, case.run("cached", reference="cached", **options))


@pytest.mark.parametrize("case", ["dpo"], indirect=True)
def test_weights_are_kept_for_windows_with_an_evaluation_alone(case, monkeypatch):
    from humanline.method.reference import PolicyReference

    kept = []
    keep = PolicyReference.keep_snapshot
    monkeypatch.setattr(PolicyReference, "keep_snapshot", lambda self: kept.append(keep(self)))
    options = {"eval_strategy": "steps", "eval_steps": 6, "sync_interval": 1}
    case.run("cached", reference="cached", **options)
    assert len(kept) == 2, "for the evaluation after step 6, and for that after the last"


@every_objective
@pytest.mark.parametrize("reference", ["cached", "model"])
@pytest.mark.parametrize("stop", [5, 7, 8])
def test_a_run_resumed_in_mid_window_ends_where_an_uninterrupted_one_does(case, reference, stop):
    """After step 5 in mid-window; after 7, the next step being a sync's; after 8, a sync's own."""
    options = {"reference": reference, "save_strategy": "steps", "save_steps": stop}
    whole = case.run("whole", **options)
    checkpoint = case.folder / "whole" / f"checkpoint-{stop}"
    assert checkpoint.exists()
    losses, final = case.run("resumed", resume=str(checkpoint), **options)
    case.assert_same((whole[0][-len(losses) :], whole[1]), (losses, final))


@pytest.mark.parametrize("case", ["grpo"], indirect=True)
@pytest.mark.parametrize("interval", [1, 2, 4, 5])
def test_sampling_inside_a_window(case, interval):
    """A rollout for three steps: windows end inside and outside of it."""
    options = {"online": True, "sync_interval": interval, "learning_rate": 1e-2}
    model = case.run("model", reference="model", **options)
    case.assert_same(model, case.run("cached", reference="cached", **options))


@pytest.mark.parametrize("case", ["grpo"], indirect=True)
@pytest.mark.parametrize(
    "rollout",
    [
        {"steps_per_generation": 1},
        {"steps_per_generation": 3},  # one step and a half
        {"steps_per_generation": 4, "num_iterations": 2},
    ],
)
def test_rollouts_that_fit_no_step_or_serve_twice(case, rollout):
    options = {"online": True, "learning_rate": 1e-2} | rollout
    model = case.run("model", reference="model", **options)
    case.assert_same(model, case.run("cached", reference="cached", **options))


@pytest.mark.parametrize("case", ["grpo"], indirect=True)
@pytest.mark.parametrize("interval", [3, 5])
def test_stored_rollouts_are_read_ahead_across_epochs(case, interval):
    """Rollouts of two steps, two to an epoch; shuffled, and resumed in the middle of one."""
    case.groups = case.groups[:8]
    options = {"sync_interval": interval, "steps_per_generation": 4}
    model = case.run("model", reference="model", **options)
    saving = {"save_strategy": "steps", "save_steps": 7}
    case.assert_same(model, case.run("cached", reference="cached", **options, **saving))
    checkpoint = str(case.folder / "cached" / "checkpoint-7")
    losses, final = case.run("resumed", resume=checkpoint, **options)
    case.assert_same((model[0][-len(losses) :], model[1]), (losses, final))


@pytest.mark.parametrize("case", ["grpo"], indirect=True)
@pytest.mark.parametrize("stop", [4, 5])
def test_a_resume_inside_a_rollout_and_a_window(case, stop):
    options = {"online": True, "save_strategy": "steps", "save_steps": stop}
    whole = case.run("whole", **options)
    checkpoint = str(case.folder / "whole" / f"checkpoint-{stop}")
    losses, final = case.run("resumed", resume=checkpoint, **options)
    case.assert_same((whole[0][-len(losses) :], whole[1]), (losses, final))


@every_objective
def test_lora_in_all_three_ways(case):
    options = {"peft": True, "learning_rate": 5e-2}
    model = case.run("model", reference="model", **options)
    case.assert_same(model, case.run("cached", reference="cached", **options))
    case.assert_same(model, case.run("adapter", reference="adapter", **options))
    unsynced = case.run("unsynced", reference="adapter", sync_interval=None, **options)
    assert unsynced[0] != pytest.approx(model[0], abs=1e-4), "syncing must matter here"


@every_objective
def test_lora_resumes_in_mid_window(case):
    options = {"peft": True, "learning_rate": 5e-2, "save_strategy": "steps", "save_steps": 6}
    for reference in ("cached", "adapter"):
        whole = case.run(f"whole-{reference}", reference=reference, **options)
        checkpoint = str(case.folder / f"whole-{reference}" / "checkpoint-6")
        losses, final = case.run("resumed", resume=checkpoint, reference=reference, **options)
        case.assert_same((whole[0][-len(losses) :], whole[1]), (losses, final))


@pytest.mark.parametrize("case", ["dpo"], indirect=True)
@pytest.mark.parametrize("peft", [False, True])
def test_gradient_checkpointing_changes_nothing(case, peft):
    plain = case.run("plain", peft=peft)
    case.assert_same(plain, case.run("checkpointing", peft=peft, gradient_checkpointing=True))


@every_objective
def test_bf16_trains_alike(case):
    """Only as alike as bfloat16 is: log-ratios of a few hundredths are at its limit."""
    model = case.run("model", reference="model", bf16=True, use_cpu=True)
    losses, _ = case.run("cached", reference="cached", bf16=True, use_cpu=True)
    assert losses == pytest.approx(model[0], abs=2e-3)


@every_objective
def test_a_soft_update_keeps_the_reference_between_old_and_new(case):
    soft = {"sync_alpha": 0.5, "sync_interval": 2, "sync_after_update": True}
    trainer = case.trainer("soft", reference="model", max_steps=2, **soft)
    before = weights(trainer.ref_model)
    trainer.train()
    policy = weights(trainer.model)
    for name, weight in weights(trainer.ref_model).items():
        torch.testing.assert_close(weight, (before[name] + policy[name]) / 2)


@pytest.mark.parametrize("case", ["dpo"], indirect=True)
def test_evaluating_where_nothing_was_kept_is_refused(case):
    class EvaluateUnasked(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                trainer.evaluate(trainer.train_dataset)

    trainer = case.trainer("cached")
    trainer.add_callback(EvaluateUnasked())
    with pytest.raises(RuntimeError, match="eval_dataset"):
        trainer.train()


@pytest.mark.parametrize("case", ["dpo"], indirect=True)
def test_training_twice_is_alike_too(case):
    losses = {}
    for reference in ("cached", "model"):
        trainer = case.trainer(reference, reference=reference)
        for _ in range(2):
            trainer.train()
            losses.setdefault(reference, []).append(trainer.state.log_history[0]["loss"])
    assert losses["cached"] == pytest.approx(losses["model"], abs=2e-5)


@pytest.mark.parametrize("case", ["dpo"], indirect=True)
def test_a_given_reference_is_used(case):
    """As with TRL: the reference need not be what the policy starts from."""
    given = AutoModelForCausalLM.from_pretrained(case.model_folder, dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():  # so little that not every log-ratio is clipped, and to the same bound
        given.lm_head.weight += 0.05 * torch.randn_like(given.lm_head.weight)
    model = AutoModelForCausalLM.from_pretrained(case.model_folder, dtype=torch.float32)
    dataset = rows("dpo", case.groups)
    options = {"max_steps": 1, "sync_interval": 1, "extra": {"ref_model": given}}
    trainer = make_trainer("dpo", model, case.tokenizer, dataset, case.folder, **options)
    expected = weights(trainer.model)
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["loss"] != pytest.approx(0.693147, abs=1e-5), "the policy is not the reference"
    for name, weight in weights(trainer.ref_model).items():
        assert torch.equal(weight, expected[name])


@pytest.mark.parametrize("case", ["dpo"], indirect=True)
def test_the_adapter_needs_peft(case):
    with pytest.raises(ValueError, match="PEFT"):
        case.trainer("adapter", reference="adapter")


def test_group_size_fits_the_batches():
    assert BATCH["grpo"] % GROUP == 0
