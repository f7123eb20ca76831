"""What TRL's users do besides the plain case, with the same results or one clear refusal."""

import pytest
import torch
import trl
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tiny import OBJECTIVES, equal, final_losses, make_trainer, rows, weights

import humanline
from humanline import HumanlineGRPOTrainer
from humanline.trainers.rows.preferences import assistant_turn, user_turn
from humanline.worlds.tiny_model import build_model

NARROW = {"log_eps_p": -0.05, "log_eps_r": 0.05}


def lengths(completions, **_) -> list[float]:
    return [float(sum(map(ord, text)) % 7) for text in completions]


def sums() -> Dataset:
    return Dataset.from_list([{"prompt": f"{i}+1"} for i in range(8)])


def peft_policy(model):
    """A policy that comes as a PEFT model, to which TRL adds an adapter of its own."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    policy = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    return policy


def policy_weights(trainer) -> dict:
    return {name: w for name, w in weights(trainer.model).items() if ".ref." not in name}


@pytest.mark.parametrize("reference", ["cached", "model", "adapter"])
@pytest.mark.parametrize("objective", ["dpo", "grpo"])
def test_a_peft_model_resumes(objective, reference, model_folder, tokenizer, groups, tmp_path):
    from transformers import AutoModelForCausalLM

    ends = []
    for checkpoint in (None, tmp_path / "checkpoint-5"):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        options = {"reference": reference, "sync_interval": 3, "max_steps": 8, **NARROW}
        saving = {"save_strategy": "steps", "save_steps": 5, "learning_rate": 5e-2}
        trainer = make_trainer(
            objective, peft_policy(model), tokenizer, rows(objective, groups), tmp_path,
            **options, **saving,
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        ends.append(policy_weights(trainer))
    assert equal(*ends)


def test_an_evaluation_leaves_sampled_bounds_alone(model_folder, tokenizer, groups, tmp_path):
    from transformers import AutoModelForCausalLM

    ends = []
    for evaluation in ({}, {"eval_strategy": "steps", "eval_steps": 2}):
        dataset = rows("dpo", groups)
        trainer = make_trainer(
            "dpo",
            AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32),
            tokenizer,
            dataset,
            tmp_path,
            extra={"eval_dataset": dataset.select(range(8))},
            perception="sample",
            gamma_p=2.0,
            gamma_r=2.0,
            sync_interval=3,
            max_steps=6,
            **NARROW,
            **evaluation,
        )
        trainer.train()
        ends.append(weights(trainer.model))
    assert equal(*ends)


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_compute_metrics_gets_the_logits(objective, model, tokenizer, groups, tmp_path):
    dataset, shapes = rows(objective, groups), []

    def compute_metrics(prediction):
        shapes.append(prediction.predictions.shape)
        return {"answer": 42.0}

    extra = {"eval_dataset": dataset.select(range(8)), "compute_metrics": compute_metrics}
    trainer = make_trainer(objective, model, tokenizer, dataset, tmp_path, extra=extra)
    assert trainer.evaluate()["eval_answer"] == 42.0
    assert shapes[0][-1] == model.config.vocab_size


def test_metrics_of_one_kind_are_not_thinned_by_batches_without_it(model, tokenizer, tmp_path):
    """First desirable examples alone, then undesirable ones: as TRL, the mean of what there is."""
    examples = [
        {"prompt": f"{i}", "completion": text, "label": text == "ab"}
        for text in ("ab", "ba")
        for i in range(8)
    ]
    logs = []
    for is_humanline in (True, False):
        trainer = make_trainer(
            "kto",
            model,
            tokenizer,
            Dataset.from_list(examples),
            tmp_path,
            humanline=is_humanline,
            max_steps=2,
            logging_steps=2,
            learning_rate=0.0,
            train_sampling_strategy="sequential",
        )
        trainer.train()
        logs.append(trainer.state.log_history[0])
    own, trl = logs
    for name in ("logps/chosen", "logps/rejected", "logits/chosen", "rewards/chosen"):
        assert own[name] == pytest.approx(trl[name], abs=1e-5)
    assert own["humanline/unclipped_chosen"] == own["humanline/unclipped_rejected"] == 1


def test_every_metric_of_trls_grpo_is_there(model, tokenizer, tmp_path):
    names = []
    for is_humanline in (True, False):
        trainer = make_trainer(
            "grpo", model, tokenizer, sums(), tmp_path, extra={"reward_funcs": lengths},
            humanline=is_humanline, max_steps=1,
        )  # fmt: skip
        trainer.train()
        names.append({name for row in trainer.state.log_history for name in row})
    assert names[1] <= names[0]


@pytest.mark.parametrize("is_humanline", [True, False])
@pytest.mark.parametrize("online", [True, False], ids=["online", "offline"])
def test_a_subclass_may_have_advantages_of_tokens(
    online, is_humanline, model_folder, tokenizer, groups, tmp_path, monkeypatch
):
    """If all tokens of a completion have its advantage, training is the same."""
    from transformers import AutoModelForCausalLM

    class OfTokens(HumanlineGRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            batch = super()._generate_and_score_completions(inputs)
            whole = batch["advantages"][:, None].expand(batch["completion_ids"].shape)
            return batch | {"advantages": whole.clone()}

    dataset, extra = (sums(), {"reward_funcs": lengths}) if online else (rows("grpo", groups), {})
    options = {"humanline": is_humanline, "max_steps": 4, "sync_interval": 2, **NARROW}
    logs = []
    for kind in (HumanlineGRPOTrainer, OfTokens):
        monkeypatch.setattr(humanline, "HumanlineGRPOTrainer", kind, raising=False)
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        trainer = make_trainer("grpo", model, tokenizer, dataset, tmp_path, extra, **options)
        torch.manual_seed(0)
        trainer.train()
        times = ("time", "runtime", "per_second")
        history = [
            {name: x for name, x in row.items() if not any(part in name for part in times)}
            for row in trainer.state.log_history
        ]
        logs.append(history)
    assert logs[0] == [pytest.approx(row, abs=1e-6) for row in logs[1]]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_plain_trainer_says_that_our_config_is_not_for_it(
    objective, model, tokenizer, groups, tmp_path
):
    name, rewards = objective.upper(), {"reward_funcs": lengths} if objective == "grpo" else {}
    dataset = sums() if objective == "grpo" else rows(objective, groups)
    options = {"output_dir": str(tmp_path), "report_to": "none", "bf16": False, "max_steps": 1}
    plain, config = getattr(trl, f"{name}Trainer"), getattr(humanline, f"Humanline{name}Config")
    extra = {"train_dataset": dataset, "processing_class": tokenizer, **rewards}
    args = config(**options)
    getattr(humanline, f"Humanline{name}Trainer")(model, args=args, **extra)
    message = rf"^args is a Humanline{name}Config, but .*; use Humanline{name}Trainer, or set.*$"
    with pytest.raises(ValueError, match=message):
        plain(model, args=args, **extra)  # the same config, which ours had before
    plain(model, args=config(**options, humanline=False), **extra)


@pytest.mark.parametrize("is_stream", [False, True], ids=["rows", "stream"])
def test_a_step_gets_the_rows_of_its_rollout(is_stream, model, tokenizer, tmp_path):
    dataset, seen = sums(), []
    options = {"humanline": False, "max_steps": 4, "steps_per_generation": 2}
    trainer = make_trainer(
        "grpo", model, tokenizer, dataset.to_iterable_dataset() if is_stream else dataset,
        tmp_path, {"reward_funcs": lengths}, shuffle_dataset=False, **options,
    )  # fmt: skip
    step = trainer.training_step
    trainer.training_step = lambda model, rows, *rest: (
        seen.append(rows),
        step(model, rows, *rest),
    )[1]
    trainer.train()
    first, second = ([r for r in dataset.select(range(i, i + 4)) for _ in range(4)] for i in (0, 4))
    assert seen == [first, first, second, second]


def test_completions_that_no_function_scores_are_trls_without_humanline(
    model, tokenizer, tmp_path, caplog
):
    """TRL warns, and such completions have no advantage."""
    extra = {"reward_funcs": lambda completions, **_: [None] * len(completions)}
    options = {"max_steps": 1, "humanline": False}
    make_trainer("grpo", model, tokenizer, sums(), tmp_path, extra, **options).train()
    assert "returned None" in caplog.text


def test_an_environment_may_own_the_prompts(model, tokenizer, tmp_path):
    pytest.importorskip("jmespath", reason="jmespath is not installed, which TRL's tools need")

    class Adds:
        def reset(self, **_):
            return "1+1"

        def get_reward(self) -> float:
            return 1.0

    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ m.tool_calls }}{% endfor %}"
    dataset = Dataset.from_list([{"environment": "adds"}] * 8)
    extra = {"environment_factory": {"adds": Adds}}
    trainer = make_trainer("grpo", model, tokenizer, dataset, tmp_path, extra)
    assert trainer.reward_func_names == ["Adds"]


class TestReferenceModel:
    def test_one_that_cannot_take_the_policys_weights_is_refused(
        self, model, tokenizer, groups, tmp_path
    ):
        size = {"hidden_size": 32, "intermediate_size": 32, "layers": 1, "heads": 2}
        extra = {"ref_model": build_model(**size, seed=0)}
        with pytest.raises(ValueError, match=r"architecture of the policy.*leave ref_model out"):
            make_trainer("dpo", model, tokenizer, rows("dpo", groups), tmp_path, extra=extra)
        never = {"sync_interval": None, "max_steps": 1}
        make_trainer(
            "dpo", model, tokenizer, rows("dpo", groups), tmp_path, extra=extra, **never
        ).train()

    @pytest.mark.parametrize(
        ("began", "goes_on"),
        [
            ({"reference": "cached"}, {"reference": "model"}),
            ({"reference": "model"}, {"reference": "cached"}),
            ({"humanline": False}, {"reference": "cached"}),
        ],
    )
    def test_a_run_is_resumed_with_the_options_it_began_with(
        self, began, goes_on, model, tokenizer, groups, tmp_path
    ):
        saving = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "sync_interval": 3}
        dataset = rows("dpo", groups)
        make_trainer("dpo", model, tokenizer, dataset, tmp_path, **saving, **began).train()
        other = make_trainer("dpo", model, tokenizer, dataset, tmp_path, **saving, **goes_on)
        with pytest.raises(ValueError, match=r"checkpoint-2.*resume it with the options"):
            other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


@pytest.mark.parametrize(("rows_", "batch", "accumulation"), [(20, 4, 2), (18, 4, 1), (20, 2, 2)])
@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_data_of_unknown_length_train_alike_however_the_reference_is_kept(
    objective, rows_, batch, accumulation, model_folder, tokenizer, groups, tmp_path
):
    """Over several epochs, whose last steps may have fewer batches."""
    from transformers import AutoModelForCausalLM

    results = []
    for reference in ("cached", "model"):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        trainer = make_trainer(
            objective,
            model,
            tokenizer,
            rows(objective, groups).select(range(rows_)).to_iterable_dataset(),
            tmp_path,
            reference=reference,
            sync_interval=3,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            **NARROW,
        )
        results.append((final_losses(trainer), weights(trainer.model)))
    (losses, ends), (other_losses, other_ends) = results
    assert losses == pytest.approx(other_losses, abs=2e-5) and len(losses) == 9
    for name in ends:
        torch.testing.assert_close(ends[name], other_ends[name], atol=2e-5, rtol=0)


def test_weights_are_swapped_once_for_all_batches_of_a_step(model, tokenizer, tmp_path):
    trainer = make_trainer(
        "grpo", model, tokenizer, sums(), tmp_path, extra={"reward_funcs": lengths},
        max_steps=4, gradient_accumulation_steps=4, sync_interval=1,
    )  # fmt: skip
    swaps, swap = [], trainer.reference._swap
    trainer.reference._swap = lambda: (swaps.append(1), swap())
    trainer.train()
    assert 0 < len(swaps) <= 2 * 4


def test_persistent_workers_fetch_the_same_prompts_again(model, tokenizer, tmp_path):
    trainer = make_trainer(
        "grpo",
        model,
        tokenizer,
        sums().select(range(2)),
        tmp_path,
        extra={"reward_funcs": lengths},
        max_steps=3,
        shuffle_dataset=False,
        steps_per_generation=1,
        dataloader_num_workers=1,
        dataloader_persistent_workers=True,
    )
    assert len(final_losses(trainer)) == 3


class TestStoredGroups:
    TRAIN = (("1+1", "abcd", (1.0, 0, 0, 0)), ("2+1", "abcd", (1.0, 0, 0, 0)))

    def dataset(self, groups, conversational=False) -> Dataset:
        return Dataset.from_list(
            [
                {
                    "prompt": user_turn(prompt) if conversational else prompt,
                    "completions": [assistant_turn(t) if conversational else t for t in texts],
                    "scores": list(scores),
                }
                for prompt, texts, scores in groups
            ]
        )

    def best(self, trainer, tokenizer) -> set[tuple[str, str]]:
        """Prompt and completion of the first batch's positive advantages."""
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.model.train()
        batch = trainer._prepare_inputs(batch)
        texts = [
            tokenizer.batch_decode(batch[f"{part}_ids"], skip_special_tokens=True)
            for part in ("prompt", "completion")
        ]
        rows_ = zip(*texts, batch["advantages"].tolist(), strict=True)
        return {(prompt, text) for prompt, text, advantage in rows_ if advantage > 0}

    def test_a_prompt_of_both_splits_keeps_each_ones_completions(self, model, tokenizer, tmp_path):
        evaluation = self.dataset([("1+1", "dcba", (0, 0, 0, 1.0))])
        extra = {"eval_dataset": evaluation}
        dataset = self.dataset(self.TRAIN)
        trainer = make_trainer("grpo", model, tokenizer, dataset, tmp_path, extra=extra)
        assert self.best(trainer, tokenizer) == {("1+1", "a"), ("2+1", "a")}
        trainer.evaluate()

    def test_completions_may_be_conversations(self, model, tokenizer, tmp_path):
        dataset = self.dataset(self.TRAIN, conversational=True)
        trainer = make_trainer("grpo", model, tokenizer, dataset, tmp_path)
        assert self.best(trainer, tokenizer) == {("1+1", "a"), ("2+1", "a")}

    def test_any_groups_can_be_evaluated_on(self, model, tokenizer, tmp_path):
        dataset = self.dataset(self.TRAIN)
        extra = {"eval_dataset": {"own": dataset, "other": dataset.select([1])}}
        trainer = make_trainer("grpo", model, tokenizer, dataset, tmp_path, extra=extra)
        trainer.train()
        assert {"eval_own_loss", "eval_other_loss"} <= trainer.evaluate().keys()
        assert "eval_loss" in trainer.evaluate(self.dataset([("3+1", "efgh", (0, 1.0, 0, 0))]))

    def test_scores_and_reward_functions_are_one_too_many(self, model, tokenizer, tmp_path):
        extra = {"reward_funcs": lengths}
        with pytest.raises(ValueError, match="reward_funcs would not be used"):
            make_trainer("grpo", model, tokenizer, self.dataset(self.TRAIN), tmp_path, extra=extra)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_after_training_one_may_evaluate_on_anything(objective, model, tokenizer, groups, tmp_path):
    dataset = rows(objective, groups)
    trainer = make_trainer(objective, model, tokenizer, dataset, tmp_path, max_steps=5)
    trainer.train()
    assert "eval_loss" in trainer.evaluate(dataset.select(range(8)))


@pytest.mark.parametrize("interval", [2.5, True, 0])
def test_a_sync_interval_is_a_number_of_steps(interval, model, tokenizer, groups, tmp_path):
    with pytest.raises(ValueError, match="sync_interval must be an integer"):
        make_trainer("dpo", model, tokenizer, rows("dpo", groups), tmp_path, sync_interval=interval)
