"""The trainers on a tiny model: what a sync leaves, what the loss is, what TRL's users get."""

import copy
import dataclasses
import json

import pytest
import torch
from datasets import Dataset
from tiny import GROUP, OBJECTIVES, equal, final_losses, make_trainer, rows, weights
from transformers import TrainerCallback
from trl import GRPOTrainer

import humanline
from humanline.method.losses import dpo_loss, grpo_loss, kto_kl, kto_loss
from humanline.method.perception import Clipping
from humanline.trainers.rows import preferences


class Recorder(TrainerCallback):
    """Keeps the policy as it stood before every update, and both models after it."""

    def __init__(self):
        self.before, self.after, self.reference = [], [], []
        self.trainer = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.reference.append(weights(self.trainer.ref_model))

    def on_optimizer_step(self, args, state, control, **kwargs):  # after the update
        self.after.append(weights(self.trainer.model))
        self.reference.append(weights(self.trainer.ref_model))

    def on_step_begin(self, args, state, control, **kwargs):
        self.before.append(weights(self.trainer.model))


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("interval", [1, 4])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_sync_gives_the_reference_the_policy_before_the_step(
    objective, interval, accumulation, model, tokenizer, groups, tmp_path
):
    trainer = make_trainer(
        objective,
        model,
        tokenizer,
        rows(objective, groups),
        tmp_path,
        sync_interval=interval,
        gradient_accumulation_steps=accumulation,
        reference="model",
    )
    recorder = Recorder()
    recorder.trainer = trainer
    trainer.add_callback(recorder)
    trainer.train()

    assert len(recorder.after) == 9
    for step in range(1, 10):
        before, after = recorder.before[step - 1], recorder.after[step - 1]
        reference, reference_before = recorder.reference[step], recorder.reference[step - 1]
        assert not equal(before, after), "the update must move the policy, or the test is empty"
        assert equal(reference, before if step % interval == 0 else reference_before)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_without_sync_interval_the_reference_never_moves(
    objective, model, tokenizer, groups, tmp_path
):
    initial = weights(model)
    trainer = make_trainer(
        objective, model, tokenizer, rows(objective, groups), tmp_path, sync_interval=None
    )
    trainer.train()
    assert equal(weights(trainer.ref_model), initial)
    assert not equal(weights(trainer.model), initial)


def perturbed(model, scale=0.3):
    """A copy whose log-ratios against the model reach beyond narrow bounds."""
    generator = torch.Generator().manual_seed(1)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            draws = torch.randn(parameter.shape, generator=generator)
            parameter += scale * draws.to(parameter.device)
    return copied


def log_probs(model, input_ids, attention_mask):
    """Token log-probabilities by the textbook, without TRL's fused head."""
    logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1]
    return torch.log_softmax(logits, -1).gather(-1, input_ids[:, 1:, None]).squeeze(-1)


def scored(trainer, batch, prefix=""):
    inputs = batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"]
    mask = batch[f"{prefix}completion_mask"][:, 1:]
    return log_probs(trainer.model, *inputs), log_probs(trainer.ref_model, *inputs), mask


def first_batch(trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    return trainer._prepare_inputs(batch)


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dapo", "dr_grpo"])
def test_tools_tokens_and_vllms_correction_count_as_in_trl(
    loss_type, model, tokenizer, groups, tmp_path
):
    """At the first step policy, old policy and reference are one, and the losses are the same."""
    trainer = make_trainer(
        "grpo", model, tokenizer, rows("grpo", groups), tmp_path, loss_type=loss_type, beta=0.0
    )
    inputs = first_batch(trainer)
    trainer.current_gradient_accumulation_steps = 1
    plain = trainer._compute_loss(trainer.model, inputs)
    shape, device = inputs["completion_mask"].shape, inputs["completion_mask"].device
    draws = torch.Generator().manual_seed(0)
    inputs["tool_mask"] = torch.randint(0, 2, shape, generator=draws).to(device)
    inputs["importance_sampling_ratio"] = torch.rand(shape, generator=draws).to(device) + 0.5
    trainer.use_vllm = trainer.vllm_importance_sampling_correction = True
    own = trainer._compute_loss(trainer.model, inputs)
    expected = GRPOTrainer._compute_loss(trainer, trainer.model, inputs)
    torch.testing.assert_close(own, expected)
    assert not torch.isclose(own, plain)
    gradients = []
    for loss in (own, expected):
        trainer.model.zero_grad()
        loss.backward()
        gradients.append([p.grad.clone() for p in trainer.model.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_is_the_objective_on_plainly_computed_log_probabilities(
    objective, model, tokenizer, groups, tmp_path
):
    options = {"log_eps_p": -0.2, "log_eps_r": 0.4}
    dataset = rows(objective, groups)
    trainer = make_trainer(
        objective, model, tokenizer, dataset, tmp_path, reference="model", **options
    )
    batch = first_batch(trainer)
    trainer.ref_model.load_state_dict(perturbed(trainer.ref_model).state_dict())
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.compute_loss(trainer.model, batch)
    perceive = Clipping(**options)
    if objective == "dpo":
        chosen, rejected = zip(*(x.chunk(2) for x in scored(trainer, batch)), strict=True)
        expected = dpo_loss(*chosen, *rejected, beta=trainer.beta, perceive=perceive).losses.mean()
    elif objective == "kto":
        kl = kto_kl(*scored(trainer, batch, "KL_"), perceive=perceive)
        expected = kto_loss(
            *scored(trainer, batch),
            batch["label"],
            kl,
            beta=trainer.beta,
            desirable_weight=1.0,
            undesirable_weight=1.0,
            perceive=perceive,
        ).losses.mean()
    else:
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
        attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
        width = batch["completion_ids"].size(1)
        policy, reference = (
            log_probs(m, ids, attention)[:, -width:] for m in (trainer.model, trainer.ref_model)
        )
        mask = batch["completion_mask"]
        losses = grpo_loss(
            policy,
            reference,
            mask,
            batch["advantages"],
            epsilon_low=0.2,
            epsilon_high=0.2,
            beta=0.0,
            perceive=perceive,
        ).losses
        expected = losses.sum() / mask.sum()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_wide_clip_and_no_sync_equal_trl(objective, model_folder, tokenizer, groups, tmp_path):
    """Humanline with nothing to perceive is TRL's own objective, step for step."""
    from transformers import AutoModelForCausalLM

    def run(name, **options):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        dataset = rows(objective, groups)
        return final_losses(
            make_trainer(objective, model, tokenizer, dataset, tmp_path / name, **options)
        )

    unbounded = {"log_eps_p": None, "log_eps_r": None, "sync_interval": None}
    ours, theirs = run("ours", humanline=True, **unbounded), run("theirs", humanline=False)
    assert ours == pytest.approx(theirs, abs=1e-5)
    narrow = run("narrow", humanline=True, log_eps_p=-0.05, log_eps_r=0.05, sync_interval=None)
    assert narrow != pytest.approx(theirs, abs=1e-5)


def test_online_grpo_without_humanline_is_trl(model_folder, tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    dataset = Dataset.from_list([{"prompt": preferences.user_turn(f"{i}+1")} for i in range(10)])

    def reward(completions, **_):
        return [float(len(c[0]["content"])) for c in completions]

    options = {"num_generations": GROUP, "max_completion_length": 6, "steps_per_generation": 4}

    def model():
        return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)

    trainer = make_trainer(
        "grpo",
        model(),
        tokenizer,
        dataset,
        tmp_path / "ours",
        extra={"reward_funcs": reward},
        humanline=False,
        **options,
    )
    torch.manual_seed(0)  # both sample from torch's global generator
    ours = final_losses(trainer)
    config = {k: v for k, v in trainer.args.to_dict().items() if k in ("seed", "max_steps")}
    theirs = GRPOTrainer(
        model(),
        reward,
        args=GRPOConfig(
            output_dir=str(tmp_path / "theirs"),
            per_device_train_batch_size=8,
            learning_rate=1e-2,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            gradient_checkpointing=False,
            bf16=False,
            disable_tqdm=True,
            **config,
            **options,
        ),
        train_dataset=dataset,
        processing_class=tokenizer,
    )
    torch.manual_seed(0)
    assert ours == final_losses(theirs)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    objective, model_folder, tokenizer, groups, tmp_path
):
    """Interrupted between two syncs: the reference must come back as it was."""
    from transformers import AutoModelForCausalLM

    def run(name, resume=None, **options):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        trainer = make_trainer(
            objective,
            model,
            tokenizer,
            rows(objective, groups),
            tmp_path / name,
            sync_interval=4,
            save_strategy="steps",
            save_steps=6,
            **options,
        )
        trainer.train(resume_from_checkpoint=resume)
        return weights(trainer.model)

    whole = run("whole")
    resumed = run("resumed", resume=str(tmp_path / "whole" / "checkpoint-6"))
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value)


def test_rollouts_sampled_in_chunks_stay_with_their_prompts(
    model, tokenizer, tmp_path, monkeypatch
):
    """A sampler that echoes the prompt shows whose completion is whose."""
    from trl import GRPOTrainer

    monkeypatch.setattr("humanline.trainers.grpo._SEQUENCES_AT_ONCE", 6)
    calls = []

    def echo(self, prompt_ids, *args, **kwargs):
        calls.append(len(prompt_ids))
        return [list(ids) for ids in prompt_ids], None

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", echo)
    dataset = Dataset.from_list([{"prompt": preferences.user_turn(f"{i}+1")} for i in range(12)])
    trainer = make_trainer(
        "grpo",
        model,
        tokenizer,
        dataset,
        tmp_path,
        extra={"reward_funcs": lambda completions, **_: [0.0] * len(completions)},
        steps_per_generation=2,
        max_completion_length=20,
    )
    batch = first_batch(trainer)
    assert calls == [6, 6, 4]
    for prompt, completion in zip(batch["prompt_ids"], batch["completion_ids"], strict=True):
        assert torch.equal(prompt, completion)


def test_steps_since_sync_counts_the_updates_the_policy_is_ahead(
    model, tokenizer, groups, tmp_path
):
    trainer = make_trainer("dpo", model, tokenizer, rows("dpo", groups), tmp_path, sync_interval=4)
    trainer.train()
    ahead = [r["humanline/steps_since_sync"] for r in trainer.state.log_history if "loss" in r]
    # Steps 4 and 8 sync before their update, so steps 5 and 9 start one update ahead.
    assert ahead == [0, 1, 2, 3, 1, 2, 3, 4, 1]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_humanline_sampling_is_seeded_and_its_limit_is_near_clipping(
    objective, model_folder, tokenizer, groups, tmp_path
):
    """Bounds so narrow that many tokens are rejected; GRPO's gradients are clipping's."""
    from transformers import AutoModelForCausalLM

    def run(name, **options):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        bounds = {"log_eps_p": -0.05, "log_eps_r": 0.05, "sync_interval": 4}
        dataset, folder = rows(objective, groups), tmp_path / name
        trainer = make_trainer(objective, model, tokenizer, dataset, folder, **bounds, **options)
        trainer.train()
        return weights(trainer.model)

    sampled = run("sampled", perception="sample", gamma_p=2.0, gamma_r=2.0)
    again = run("again", perception="sample", gamma_p=2.0, gamma_r=2.0, reference="model")
    for name, weight in sampled.items():
        torch.testing.assert_close(again[name], weight)
    other = run("other", perception="sample", gamma_p=2.0, gamma_r=2.0, seed=43)
    assert not equal(sampled, other)
    authors = run("authors", perception="authors")
    again = run("authors_again", perception="authors", reference="model")
    for name, weight in authors.items():
        torch.testing.assert_close(again[name], weight)
    assert not equal(sampled, authors)
    if objective == "grpo":
        limit = run("limit", perception="sample", gamma_p=1e9, gamma_r=1e9, epsilon=0.9)
        for name, weight in run("clipped", epsilon=0.9).items():
            torch.testing.assert_close(limit[name], weight, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("humanline_on", [False, True])
def test_online_grpo_resumed_between_two_samplings_uses_up_the_rollout_it_had(
    humanline_on, model_folder, tokenizer, tmp_path
):
    from transformers import AutoModelForCausalLM

    dataset = Dataset.from_list([{"prompt": preferences.user_turn(f"{i}+1")} for i in range(12)])
    sampled_at = []

    def reward(completions, trainer_state, **_):
        sampled_at.append(trainer_state.global_step)
        return [float(len(c[0]["content"])) for c in completions]

    def run(name, resume=None):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        trainer = make_trainer(
            "grpo",
            model,
            tokenizer,
            dataset,
            tmp_path / name,
            extra={"reward_funcs": reward},
            humanline=humanline_on,
            sync_interval=3,
            steps_per_generation=4,
            max_steps=8,
            save_strategy="steps",
            save_steps=6,
        )
        trainer.train(resume_from_checkpoint=resume)
        return weights(trainer.model)

    whole = run("whole")
    assert sampled_at == [0, 4]
    sampled_at.clear()
    resumed = run("resumed", resume=str(tmp_path / "whole" / "checkpoint-6"))
    assert sampled_at == [], "the rollout that was begun must be read, not sampled again"
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value)


@pytest.mark.parametrize(
    ("objective", "option", "value"),
    [
        ("dpo", "loss_type", ["aot"]),
        ("dpo", "precompute_ref_log_probs", True),
        ("dpo", "sync_ref_model", True),
        ("grpo", "sync_ref_model", True),
        ("dpo", "use_liger_kernel", True),
        ("kto", "precompute_ref_log_probs", True),
        ("grpo", "use_liger_kernel", True),
    ],
)
def test_options_without_humanline_meaning_are_refused(objective, option, value, tmp_path):
    config = getattr(humanline, f"Humanline{objective.upper()}Config")
    with pytest.raises(ValueError, match=f"{option}=.*humanline"):
        config(output_dir=str(tmp_path), bf16=False, **{option: value})
    config(output_dir=str(tmp_path), bf16=False, humanline=False, **{option: value})


def test_gammas_have_the_defaults_of_their_perception(tmp_path):
    def gammas(**options):
        args = humanline.HumanlineKTOConfig(output_dir=str(tmp_path), bf16=False, **options)
        return args.gamma_p, args.gamma_r

    assert gammas(perception="sample") == (10, 10)
    assert gammas(perception="authors") == (0.5, 0.01)
    assert gammas(perception="authors", gamma_p=0.75, gamma_r=0.25) == (0.75, 0.25)
    assert gammas() == (None, None)
    options = {"output_dir": str(tmp_path), "bf16": False, "perception": "second_moment"}
    assert humanline.HumanlineGRPOConfig(**options).second_moment == 0.04


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"log_eps_p": 0.5}, "log_eps_p"),
        ({"log_eps_r": -0.5}, "log_eps_r"),
        ({"sync_interval": 0}, "sync_interval"),
        ({"reference": "copy"}, "reference must be one of cached, model, adapter"),
        ({"perception": "nap"}, "perception must be one of clip, sample"),
        ({"perception": "sample", "gamma_p": 0.0}, "gamma_p"),
        ({"perception": "authors", "gamma_r": -1.0}, "gamma_r must be above 0; got -1"),
        ({"second_moment": 0.1}, "second_moment=0.1 has no meaning .* perception to second_moment"),
        ({"perception": "second_moment", "second_moment": 0.0}, "second_moment must be above 0"),
        ({"sft_weight": -1.0}, "sft_weight must be at least 0; got -1"),
        ({"sft_weight": 0.5, "humanline": False}, "sft_weight=0.5 has no meaning with humanline="),
        ({"gamma_p": 5.0}, "gamma_p=5.0 has no meaning with perception='clip'; leave it out"),
        ({"sync_alpha": 0.0}, "sync_alpha"),
        ({"sync_alpha": 0.5}, "sync_alpha=0.5 .* reference='model'"),
    ],
)
def test_impossible_options_are_refused(options, field, tmp_path):
    with pytest.raises(ValueError, match=field):
        humanline.HumanlineDPOConfig(output_dir=str(tmp_path), bf16=False, **options)


def test_a_trl_config_is_refused_with_the_remedy(model, tokenizer, groups, tmp_path):
    from trl import DPOConfig

    with pytest.raises(ValueError, match="HumanlineDPOConfig"):
        humanline.HumanlineDPOTrainer(
            model,
            args=DPOConfig(output_dir=str(tmp_path), report_to="none", bf16=False),
            train_dataset=rows("dpo", groups),
            processing_class=tokenizer,
        )


def test_offline_grpo_refuses_groups_of_the_wrong_size(model, tokenizer, groups, tmp_path):
    groups[3]["scores"] = groups[3]["scores"][:2]
    with pytest.raises(ValueError, match=r"row 3 .* 2 scores"):
        make_trainer("grpo", model, tokenizer, rows("grpo", groups), tmp_path)


def test_offline_grpo_trains_on_the_stored_completions_with_their_scores(
    model, tokenizer, groups, tmp_path
):
    trainer = make_trainer("grpo", model, tokenizer, rows("grpo", groups), tmp_path)
    batch = first_batch(trainer)
    by_prompt = {group["prompt"]: group for group in groups}
    texts = tokenizer.batch_decode(batch["completion_ids"], skip_special_tokens=True)
    prompts = tokenizer.batch_decode(batch["prompt_ids"], skip_special_tokens=True)
    for prompt, text, advantage in zip(prompts, texts, batch["advantages"], strict=True):
        group = by_prompt[prompt]
        score = group["scores"][group["completions"].index(text)]
        mean = sum(group["scores"]) / GROUP
        assert (score > mean) == (advantage > 0)


def test_offline_kto_pairs_a_prompt_with_another_prompts_completion(model, tokenizer, tmp_path):
    """TRL pairs neighbours within a batch, before it shuffles."""
    prompts = [f"{i}+{i}" for i in range(8)]
    groups = [
        {"prompt": prompt, "completions": [prompt, f"{prompt}="], "scores": [1.0, 0.0]}
        for prompt in prompts
    ]
    trainer = make_trainer("kto", model, tokenizer, rows("kto", groups), tmp_path)
    for row in trainer.train_dataset:
        prompt = tokenizer.decode(row["prompt_ids"], skip_special_tokens=True)
        mismatched = tokenizer.decode(row["KL_completion_ids"], skip_special_tokens=True)
        assert prompt != mismatched.rstrip("=")


NAMES = ("unclipped", "log_ratio_q05", "log_ratio_q50", "log_ratio_q95")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_metrics_of_trl_stay_and_humanline_adds_its_own(
    objective, model_folder, tokenizer, groups, tmp_path
):
    from transformers import AutoModelForCausalLM

    def logged(humanline):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        folder = tmp_path / str(humanline)
        trainer = make_trainer(
            objective, model, tokenizer, rows(objective, groups), folder, humanline=humanline
        )
        trainer.train()
        return {key for row in trainer.state.log_history for key in row}

    ours, theirs = logged(True), logged(False)
    assert theirs <= ours
    own = [f"{name}_{side}" for name in NAMES for side in ("chosen", "rejected")]
    assert {"humanline/steps_since_sync", *(f"humanline/{name}" for name in own)} <= ours


class TestRounds:
    """Online training in rounds, with a sampler that tells who sampled."""

    STEPS = 3

    def trainer(self, objective, model, tokenizer, folder, humanline_on=False, steps=6, **options):
        from humanline.trainers.batches.rounds import Rounds

        self.sampled_by = []

        def sample(trainer, prompts, number):
            self.sampled_by.append((number, weights(trainer.model)))
            generator = torch.Generator().manual_seed(number)
            ids = torch.randint(10, 30, (len(prompts), GROUP, 3), generator=generator).tolist()
            return [{"prompt_ids": [2, 3, 4], "completion_ids": group} for group in ids]

        def score(prompts, completions):
            return [float(sum(map(ord, text))) for text in completions]

        name = objective.upper()
        cls = getattr(humanline, f"Humanline{name}Trainer")
        args = getattr(humanline, f"Humanline{name}Config")(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            learning_rate=1e-2,
            report_to="none",
            save_strategy="steps",
            save_steps=4,
            bf16=False,
            gradient_checkpointing=False,
            humanline=humanline_on,
            disable_tqdm=True,
            **{"sync_interval": 2} | options,
        )
        rounds = Rounds(
            prompts=[preferences.user_turn(str(i)) for i in range(10)],
            sample=sample,
            score=score,
            steps=self.STEPS,
            directory=folder / "rounds",
            min_score_difference=0.01,
        )
        return cls(
            model,
            args=args,
            train_dataset=cls.placeholder(args),
            processing_class=tokenizer,
            rounds=rounds,
        )

    @pytest.mark.parametrize("objective", ["dpo", "kto"])
    def test_every_round_is_sampled_by_the_policy_of_its_start(
        self, objective, model, tokenizer, tmp_path
    ):
        trainer = self.trainer(objective, model, tokenizer, tmp_path)
        recorder = Recorder()
        recorder.trainer = trainer
        trainer.add_callback(recorder)
        trainer.train()
        assert [number for number, _ in self.sampled_by] == [0, 1]
        assert equal(self.sampled_by[0][1], recorder.before[0])
        assert equal(self.sampled_by[1][1], recorder.before[self.STEPS])
        # Without humanline, the policy that sampled a round is its reference throughout.
        for step, reference in enumerate(recorder.reference[1:]):
            assert equal(reference, self.sampled_by[step // self.STEPS][1])

    @pytest.mark.parametrize("objective", ["dpo", "kto"])
    def test_a_run_resumed_in_mid_round_ends_where_an_uninterrupted_one_does(
        self, objective, model_folder, tokenizer, tmp_path
    ):
        from transformers import AutoModelForCausalLM

        def model():
            return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)

        whole = self.trainer(objective, model(), tokenizer, tmp_path / "run")
        whole.train()
        resumed = self.trainer(objective, model(), tokenizer, tmp_path / "run")
        resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
        assert self.sampled_by == [], "the round that was begun must be read, not sampled again"
        for kind in ("model", "ref_model"):
            for name, value in weights(getattr(whole, kind)).items():
                torch.testing.assert_close(weights(getattr(resumed, kind))[name], value)

    @pytest.mark.parametrize("interval", [1, 2, 4])
    @pytest.mark.parametrize("objective", ["dpo", "kto"])
    def test_however_the_reference_is_kept_humanline_rounds_train_alike(
        self, objective, interval, model_folder, tokenizer, tmp_path
    ):
        """A round of three steps: windows end inside and outside of it."""
        from transformers import AutoModelForCausalLM

        final = {}
        for reference in ("cached", "model"):
            model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
            options = {"reference": reference, "sync_interval": interval, "log_eps_p": -0.3}
            folder = tmp_path / reference
            trainer = self.trainer(objective, model, tokenizer, folder, True, **options)
            trainer.train()
            final[reference] = weights(trainer.model)
            if reference == "cached":
                checkpoint = str(folder / "checkpoint-4")
                model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
                trainer = self.trainer(objective, model, tokenizer, folder, True, **options)
                trainer.train(resume_from_checkpoint=checkpoint)
                final["resumed"] = weights(trainer.model)
        for name, weight in final["model"].items():
            torch.testing.assert_close(final["cached"][name], weight, atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(final["resumed"][name], weight, atol=2e-5, rtol=1e-4)

    @pytest.mark.parametrize("is_humanline", [False, True])
    @pytest.mark.parametrize("objective", ["dpo", "kto"])
    def test_a_policy_that_has_collapsed_trains_on_nothing(
        self, objective, is_humanline, model, tokenizer, tmp_path
    ):
        """From round 1 on all completions have one score: weights stay, the metric says why."""
        trainer = self.trainer(objective, model, tokenizer, tmp_path, is_humanline, steps=6)
        score = trainer.rounds.score
        # A score for each round, which scores all of its completions at once.
        scores = iter([score, lambda prompts, texts: [1.0] * len(texts)])
        trainer.rounds.score = lambda prompts, texts: next(scores)(prompts, texts)
        trainer.args.logging_steps = trainer.state.logging_steps = 1
        with pytest.warns(UserWarning, match="round 1: no prompt .* train on nothing"):
            trainer.train()
        logs = [row for row in trainer.state.log_history if "loss" in row]
        assert [row["grad_norm"] > 0 for row in logs] == [True] * 3 + [False] * 3
        shares = [row["frac_reward_zero_std"] for row in logs if "frac_reward_zero_std" in row]
        assert shares == [0, 1]

    def test_a_score_that_tells_nothing_apart_is_refused(self, model, tokenizer, tmp_path):
        trainer = self.trainer("dpo", model, tokenizer, tmp_path)
        trainer.rounds.score = lambda prompts, texts: [1.0] * len(texts)
        with pytest.raises(RuntimeError, match="look at the score"):
            trainer.train()

    def test_the_last_round_lasts_to_the_end(self, model_folder, tokenizer, tmp_path):
        """Round 0 has 3 steps; round 1 is the last, samples for 5, and can be resumed."""
        from transformers import AutoModelForCausalLM

        ends = []
        for checkpoint in (None, str(tmp_path / "run" / "checkpoint-4")):
            model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
            trainer = self.trainer("dpo", model, tokenizer, tmp_path / "run", steps=8)
            trainer.rounds = dataclasses.replace(trainer.rounds, last=1)
            trainer.train(resume_from_checkpoint=checkpoint)
            ends.append(weights(trainer.model))
            assert [number for number, _ in self.sampled_by] == ([] if checkpoint else [0, 1])
        assert equal(*ends)
        files = [path for path in sorted(tmp_path.rglob("round-*")) if path.suffix != ".pt"]
        examples = [json.loads(path.read_text()) for path in files]
        assert [len(rows) for rows in examples] == [8 * 3, 8 * 5]

    def test_kto_pairs_a_prompt_with_another_prompts_completion(self, model, tokenizer, tmp_path):
        trainer = self.trainer("kto", model, tokenizer, tmp_path)
        pairs = [([i], [10 + i], [20 + i]) for i in range(4)]
        examples = trainer.round_examples(pairs, 4)
        for example in examples:
            (prompt,), (mismatched,) = example["prompt_ids"], example["KL_completion_ids"]
            assert mismatched % 10 != prompt

    def test_rounds_are_kept_as_files(self, model, tokenizer, tmp_path):
        self.trainer("dpo", model, tokenizer, tmp_path).train()
        files = sorted((tmp_path / "rounds").glob("round-*.json"))
        assert [f.name for f in files] == ["round-0000.json", "round-0001.json"]
        examples = json.loads(files[0].read_text())
        assert len(examples) == 4 * 2 * self.STEPS
