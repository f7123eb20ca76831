"""TRL's options mean what they mean in TRL, or are refused."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tiny import make_trainer, rows
from transformers import TrainingArguments
from trl import DPOConfig, GRPOConfig, KTOConfig

import humanline
from humanline.method.losses import grpo_loss
from humanline.trainers.batches.rounds import Rounds
from humanline.trainers.batches.together import scores_of
from humanline.trainers.options.humanline import _NEEDED_BY_ALL
from humanline.trainers.rows import preferences

CONFIGS = {"dpo": DPOConfig, "kto": KTOConfig, "grpo": GRPOConfig}

# What is done about each of TRL's options under humanline, besides those that `needs` refuses.
# By TRL's `__init__`.
LOADING = "model_init_kwargs trust_remote_code disable_dropout router_aux_loss_coef"
BATCHES = "pad_to_multiple_of"  # by TRL's collator, or GRPO's own padding
IN_TRL = {  # read by TRL's code that ours calls, and tested with TRL's own loss where it matters
    "dpo": f"{LOADING} {BATCHES} truncation_mode pad_token activation_offloading "
    "padding_free "  # which TRL itself switches off, with a warning
    # its losses
    "loss_type loss_weights label_smoothing f_divergence_type f_alpha_divergence_coef "
    "discopop_tau ld_alpha use_weighting",
    "kto": f"{LOADING} {BATCHES} loss_type activation_offloading",
    "grpo": f"{LOADING} {BATCHES} "
    # sampling
    "max_completion_length ds3_gather_for_generation shuffle_dataset generation_batch_size "
    "steps_per_generation temperature top_p top_k min_p generation_kwargs repetition_penalty "
    "cache_implementation use_vllm vllm_mode vllm_model_impl vllm_enable_sleep_mode "
    "vllm_structured_outputs_regex vllm_server_base_url vllm_server_host vllm_server_port "
    "vllm_server_timeout vllm_group_port vllm_gpu_memory_utilization vllm_max_model_length "
    "vllm_tensor_parallel_size use_transformers_continuous_batching use_transformers_paged "
    "transformers_continuous_batching_config max_tool_calling_iterations num_iterations "
    # its loss, which is given log-probabilities that tell the perceived ratio
    "beta epsilon epsilon_high delta importance_sampling_level top_entropy_quantile "
    "entropy_coef use_adaptive_entropy entropy_coef_min entropy_coef_max entropy_coef_delta "
    "entropy_target sapo_temperature_neg sapo_temperature_pos vespo_k_pos vespo_lambda_pos "
    "vespo_k_neg vespo_lambda_neg off_policy_mask_threshold "
    # TRL's weights for vLLM's samples
    "vllm_importance_sampling_mode vllm_importance_sampling_clip_max "
    "vllm_importance_sampling_clip_min vllm_importance_sampling_cap "
    # rewards, advantages and the log
    "reward_weights multi_objective_aggregation scale_rewards log_completions log_multimodal "
    "num_completions_to_print log_unique_prompts log_completions_hub_repo",
}
OURS = {  # read by our own code
    "dpo": "beta max_length dataset_num_proc",
    "kto": "beta max_length dataset_num_proc desirable_weight undesirable_weight",
    "grpo": "loss_type num_generations num_generations_eval "
    "chat_template_kwargs cast_lm_head_to_fp32 mask_truncated_completions "
    "use_bias_correction_kl vllm_importance_sampling_correction",
}
IDLE = {  # read with an option alone that is refused, or where TRL's own loss is computed
    "dpo": {
        "precompute_ref_batch_size": "precompute_ref_log_probs",
        "ref_model_mixup_alpha": "sync_ref_model",
        "ref_model_sync_steps": "sync_ref_model",
    },
    "kto": {
        "precompute_ref_batch_size": "precompute_ref_log_probs",
        "ref_model_mixup_alpha": "sync_ref_model",
        "ref_model_sync_steps": "sync_ref_model",
    },
    "grpo": {
        "ref_model_mixup_alpha": "sync_ref_model",
        "ref_model_sync_steps": "sync_ref_model",
    },
}
# The Trainer's options are its loop's, which is not ours, but for those that could reach a loss.
TRAINERS = {"label_smoothing_factor", "use_liger_kernel"}


@pytest.mark.parametrize("objective", CONFIGS)
def test_every_option_of_trl_is_accounted_for(objective):
    config, needs = CONFIGS[objective], set(own(objective).needs) | set(_NEEDED_BY_ALL)
    read = {*IN_TRL[objective].split(), *OURS[objective].split()}
    groups = [needs, read - {"loss_type"} if objective == "grpo" else read, set(IDLE[objective])]
    known = set().union(*groups, {"loss_type"})
    trainers = {field.name for field in fields(TrainingArguments)}
    of_trl = {field.name for field in fields(config)} - trainers
    assert sum(map(len, groups)) == len(set().union(*groups)), "an option has two meanings"
    assert known - TRAINERS == of_trl
    assert needs & trainers >= TRAINERS
    assert set(IDLE[objective].values()) <= needs | {"loss_type"}


def own(objective: str) -> type:
    return getattr(humanline, f"Humanline{objective.upper()}Config")


@pytest.mark.parametrize("objective", CONFIGS)
def test_every_option_that_is_refused_is_refused_when_given(objective, tmp_path):
    other = {"token": "sequence"}
    special = {"top_entropy_quantile": 0.5}
    for name, (allowed, _) in (own(objective).needs | _NEEDED_BY_ALL).items():
        value = special.get(name)
        if value is None:
            value = other[allowed] if isinstance(allowed, str) else allowed is False or 0.3
        options = {"output_dir": str(tmp_path), "bf16": False, name: value}
        with pytest.raises(ValueError, match=f"{name}="):
            own(objective)(**options)


# Offline GRPO without humanline is TRL's loss, with the initial model for the old policy.


@pytest.fixture
def moved(model, tokenizer, groups, tmp_path):
    """A trainer of stored groups, and a batch, whose policy has moved away from the initial one."""

    def make(**options):
        options = {"humanline": False, "loss_type": "grpo"} | options
        dataset = rows("grpo", groups)
        trainer = make_trainer("grpo", model, tokenizer, dataset, tmp_path, **options)
        trainer.model.train()
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        trainer.current_gradient_accumulation_steps = 1
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        return trainer, batch

    return make


def scores(trainer, batch) -> tuple:
    """(B, T) log-probabilities of policy and initial model, mask, and (B, 1) advantages."""
    sequences = [*trainer._sequences(batch).values()]
    [policy] = scores_of(trainer.model, sequences)
    with torch.no_grad():
        [initial] = scores_of(trainer.ref_model, sequences)
    return policy, initial, batch["completion_mask"], batch["advantages"][:, None]


def mean(losses, mask):
    return ((losses * mask).sum(-1) / mask.sum(-1)).mean()


def test_offline_the_loss_is_trls(moved):
    trainer, batch = moved()
    policy, initial, mask, advantages = scores(trainer, batch)
    bounds = {"epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.0}
    expected = grpo_loss(policy, initial, mask, advantages[:, 0], **bounds).losses
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch), mean(expected, mask))


def of_sequences(policy, initial, mask, advantages):
    log_ratio = ((policy - initial) * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)


def two_sided(policy, initial, mask, advantages):
    ratio = (policy - initial).exp()
    return -torch.minimum(ratio.clamp(max=1.3) * advantages, ratio.clamp(0.8, 1.2) * advantages)


def with_kl(policy, initial, mask, advantages):
    ratio = (policy - initial).exp()
    plain = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    kl = (initial - policy).exp() - (initial - policy) - 1
    return plain + 0.5 * kl * ratio


def with_plain_kl(policy, initial, mask, advantages):
    ratio = (policy - initial).exp()
    plain = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    return plain + 0.5 * ((initial - policy).exp() - (initial - policy) - 1)


def without_far_failures(policy, initial, mask, advantages):
    ratio = (policy - initial).exp()
    plain = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    far = ((initial - policy) * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True) > 0.01
    return plain * ~(far & (advantages < 0))


@pytest.mark.parametrize(
    ("options", "formula"),
    [
        ({"importance_sampling_level": "sequence"}, of_sequences),
        ({"delta": 1.3}, two_sided),
        ({"beta": 0.5}, with_kl),
        ({"beta": 0.5, "use_bias_correction_kl": False}, with_plain_kl),
        ({"off_policy_mask_threshold": 0.01}, without_far_failures),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_offline_trls_options_have_trls_meaning(options, formula, moved):
    trainer, batch = moved(**options)
    of_batch = scores(trainer, batch)
    loss = trainer.compute_loss(trainer.model, batch)
    torch.testing.assert_close(loss, mean(formula(*of_batch), of_batch[2]))
    policy, initial, mask, advantages = of_batch
    bounds = {"epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.0}
    plain = mean(grpo_loss(policy, initial, mask, advantages[:, 0], **bounds).losses, mask)
    assert not torch.isclose(loss, plain, atol=1e-3), "the option must tell, or the test is empty"


@pytest.mark.parametrize(
    "options",
    [
        *({"loss_type": name} for name in ("cispo", "sapo", "luspo", "vespo")),
        {"top_entropy_quantile": 0.5},
        {"entropy_coef": 0.1},
    ],
    ids=str,
)
def test_offline_trls_losses_and_entropies_are_trained_with(options, moved):
    trainer, batch = moved(**options)
    loss = trainer.compute_loss(trainer.model, batch)
    policy, initial, mask, advantages = scores(trainer, batch)
    bounds = {"epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.0}
    plain = mean(grpo_loss(policy, initial, mask, advantages[:, 0], **bounds).losses, mask)
    assert loss.isfinite()
    assert not torch.isclose(loss, plain, atol=1e-3)
    loss.backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in trainer.model.parameters())


@pytest.mark.parametrize(
    ("options", "extra", "message"),
    [
        ({"humanline": False, "sync_ref_model": True}, {}, "sync_ref_model=True"),
        ({"use_vllm": True}, {}, "use_vllm=True"),
        ({}, {"tools": [len]}, "tools"),
        ({}, {"rollout_func": len}, "rollout_func"),
    ],
)
def test_offline_nothing_is_sampled(options, extra, message, model, tokenizer, groups, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_trainer("grpo", model, tokenizer, rows("grpo", groups), tmp_path, extra, **options)


@pytest.mark.parametrize("name", ["sync_ref_model", "precompute_ref_log_probs"])
@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_rounds_have_a_reference_of_their_own(objective, name, model, tokenizer, tmp_path):
    rounds = Rounds([], len, len, steps=1, directory=tmp_path, min_score_difference=0.0)
    config, trainer = own(objective), getattr(humanline, f"Humanline{objective.upper()}Trainer")
    options = {"humanline": False, "bf16": False, name: True, "max_steps": 1}
    args = config(output_dir=str(tmp_path), **options)
    with pytest.raises(ValueError, match=f"{name}=True: with rounds"):
        trainer(model, args=args, train_dataset=trainer.placeholder(args), rounds=rounds)


@pytest.mark.parametrize(
    ("objective", "options", "field"),
    [
        ("grpo", {"generation_kwargs": {"temperature": float("nan")}}, "generation_kwargs.temp"),
        ("dpo", {"lr_scheduler_kwargs": {"min_lr": float("inf")}}, "lr_scheduler_kwargs.min_lr"),
        ("dpo", {"neftune_noise_alpha": -1.0}, "neftune_noise_alpha"),
    ],
)
def test_numbers_for_libraries_are_checked(objective, options, field, tmp_path):
    with pytest.raises(ValueError, match=f"^{field}.* must be (finite|at least 0); got "):
        own(objective)(output_dir=str(tmp_path), bf16=False, **options)


# vLLM's samples and the policy's distribution.

NARROW = [
    *({"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}, {"repetition_penalty": 1.1}),
    *({"generation_kwargs": {"top_p": 0.9}}, {"vllm_structured_outputs_regex": "a"}),
    {"generation_kwargs": {"temperature": 0.5}},
]


@pytest.mark.parametrize("is_humanline", [True, False])
@pytest.mark.parametrize("options", NARROW, ids=str)
def test_a_ratio_that_sampling_biases_is_refused(options, is_humanline, tmp_path):
    options = options | {"use_vllm": True, "humanline": is_humanline, "bf16": False}
    config = humanline.HumanlineGRPOConfig
    with pytest.raises(ValueError, match="vllm_importance_sampling_correction is biased by"):
        config(output_dir=str(tmp_path), **options)
    config(output_dir=str(tmp_path), vllm_importance_sampling_correction=False, **options)
    config(output_dir=str(tmp_path), **options | {"use_vllm": False})


@pytest.mark.parametrize(("top_p", "counts"), [(1.0, True), (0.95, False)])
def test_samples_of_a_nucleus_have_no_weights(top_p, counts, model, tokenizer, groups, tmp_path):
    dataset = rows("grpo", groups)
    # With a nucleus and vLLM the config demands that the correction is off.
    options = {"top_p": top_p, "vllm_importance_sampling_correction": counts}
    trainer = make_trainer("grpo", model, tokenizer, dataset, tmp_path, **options)
    trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.current_gradient_accumulation_steps = 1
    weights = torch.linspace(0.1, 2.0, batch["completion_mask"].numel())
    weights = {"importance_sampling_ratio": weights.view_as(batch["completion_mask"])}
    plain = trainer._compute_loss(trainer.model, batch)
    trainer.use_vllm = True
    weighted = trainer._compute_loss(trainer.model, batch | weights)
    assert bool(torch.isclose(plain, weighted)) != counts


def test_the_papers_online_runs_have_no_biased_ratio(tmp_path):
    """Their cells with vLLM and a nucleus, with the options that the workflow gives them."""
    from humanline.study.study import load_study
    from humanline.training import cell as training

    config = Path(__file__).parents[3] / "workflow" / "config"
    study = load_study(config / "paper.yaml", config / "experiments.yaml", tmp_path)
    cells = [c for c in study.all_cells() if (c.objective, c.data) == ("grpo", "online")]
    found = {}
    for cell in cells:
        options = training._engine_options(study.resolve(cell))
        top_p = study.scale.tasks[cell.task].training.sampling.top_p
        args = humanline.HumanlineGRPOConfig(
            output_dir=str(tmp_path), top_p=top_p, bf16=False, **options
        )
        found[top_p] = args.vllm_importance_sampling_correction
    assert found[0.95] is False


# Images.

PARTS = [{"type": "image"}, {"type": "text", "text": "q"}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "image": "a.png"},
        {"prompt": "q", "images": ["a.png"]},
        {"prompt": [{"role": "user", "content": PARTS}]},
    ],
    ids=lambda row: list(row)[-1],
)
@pytest.mark.parametrize("which", ["train", "eval", "eval a", "offline"])
def test_grpo_with_images_is_refused(which, row, model, tokenizer, tmp_path):
    plain = {"prompt": "q" if isinstance(row["prompt"], str) else preferences.user_turn("q")}
    stored = {"completions": list("abcd"), "scores": [0.0, 1.0, 2.0, 3.0]}
    extra = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
    if which == "offline":
        row, extra = row | stored, {}
    images = Dataset.from_list([row] * 2)
    train = Dataset.from_list([plain] * 2) if which.startswith("eval") else images
    if which.startswith("eval"):
        extra["eval_dataset"] = {"a": images} if which == "eval a" else images
    with pytest.raises(ValueError, match=r"text only") as error:
        make_trainer("grpo", model, tokenizer, train, tmp_path, extra)
    assert "\n" not in str(error.value)
