"""GRPO's losses and their options: TRL's own where nothing is perceived, and what perception does.

TRL's trainer, and ours with `humanline=False` or with nothing clipped and never synced, train
alike: one rollout serves all steps, so that the old policy of TRL is the reference of ours, and
each step has all of it, for TRL's `dapo` takes a step's tokens for an even share.
"""

import pytest
import torch
from datasets import Dataset
from tiny import GROUP, final_losses, make_trainer, rows, weights
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

import humanline
from humanline.method.perception import Clipping, Rejection
from humanline.trainers.grpo import perceived
from humanline.trainers.options.grpo import _KNOWN

STEPS = 3
SHARED = {
    "num_generations": GROUP,
    "max_completion_length": 6,
    "steps_per_generation": 2,
    "gradient_accumulation_steps": 2,
    "num_iterations": STEPS,
    "max_steps": STEPS,
    "epsilon": 0.1,
    "per_device_train_batch_size": 8,
    "learning_rate": 4e-3,
    "report_to": "none",
    "save_strategy": "no",
    "logging_steps": 1,
    "gradient_checkpointing": False,
    "bf16": False,
    "disable_tqdm": True,
}
NOT_PERCEIVED = {"log_eps_p": None, "log_eps_r": None, "sync_interval": None}
SEQUENCE = {"importance_sampling_level": "sequence"}
DEFAULT = {"loss_type": "dapo"}
OPTIONS = [
    *({"loss_type": name} for name in _KNOWN["loss_type"]),
    {"loss_type": "cispo", "epsilon_high": 1.02},
    *(SEQUENCE | {"loss_type": name} for name in ("grpo", "dapo", "luspo", "sapo")),
    {"loss_type": "sapo", "sapo_temperature_pos": 2.0, "sapo_temperature_neg": 3.0},
    {"loss_type": "vespo", "vespo_k_pos": 1.0, "vespo_lambda_neg": 3.0},
    {"top_entropy_quantile": 0.3},
    {"entropy_coef": 0.5},
    {"top_entropy_quantile": 0.5, "entropy_coef": 0.5, "loss_type": "cispo"},
    {"use_adaptive_entropy": True, "entropy_target": 100.0, "entropy_coef_delta": 0.3},
    {"delta": 1.01},
    {"off_policy_mask_threshold": 0.001},
    {"mask_truncated_completions": True, "scale_rewards": "batch"},
    {"beta": 0.5, "use_bias_correction_kl": False, "loss_type": "sapo"},
]


def reward(completions, **_) -> list[float]:
    return [float(sum(map(ord, text)) % 7) for text in completions]


@pytest.fixture(scope="module")
def train(model_folder, tmp_path_factory):
    """Train on samples; the losses, and the weights at the end."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    prompts = Dataset.from_list([{"prompt": f"{i}+1"} for i in range(6)])

    def run(trainer: type, config: type, folder=model_folder, **options) -> tuple:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        args = config(output_dir=str(tmp_path_factory.mktemp("run")), **SHARED | options)
        data = {"train_dataset": prompts, "processing_class": tokenizer}
        trainer = trainer(model, reward, args=args, **data)
        torch.manual_seed(0)  # all sample from torch's global generator
        return final_losses(trainer), weights(trainer.model)

    return run


@pytest.fixture(scope="module")
def plain(train):
    """The weights at the end where all options have TRL's defaults."""
    return train(GRPOTrainer, GRPOConfig)[1]


OWN = humanline.HumanlineGRPOTrainer, humanline.HumanlineGRPOConfig


def trained_as_trl(train, **options) -> tuple:
    """Train with TRL's trainer and with ours, humanline and not; what TRL's makes."""
    losses, ends = train(GRPOTrainer, GRPOConfig, **options)
    for is_humanline in (False, True):
        special = NOT_PERCEIVED if is_humanline else {}
        found = train(*OWN, humanline=is_humanline, **options, **special)
        assert found[0] == pytest.approx(losses, abs=1e-6)
        for name, weight in ends.items():
            torch.testing.assert_close(found[1][name], weight, atol=1e-6, rtol=1e-5)
    return losses, ends


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_where_nothing_is_perceived_training_is_trls(options, train, plain):
    _, ends = trained_as_trl(train, **options)
    assert options == DEFAULT or not all(
        torch.allclose(weight, plain[name], atol=1e-5) for name, weight in ends.items()
    ), "the option must tell, or the test is empty"


def test_experts_share_their_load_as_in_trl(train, experts_folder):
    options = {"folder": experts_folder, "router_aux_loss_coef": 0.5}
    losses, _ = trained_as_trl(train, **options)
    without, _ = train(*OWN, **options | {"router_aux_loss_coef": 0.0}, **NOT_PERCEIVED)
    assert without[0] != pytest.approx(losses[0], abs=0.1)


# Perceived: the gradients of formulas that are written out here, by what each paper says.

BOUNDS = {"log_eps_p": -0.2, "log_eps_r": 0.3}
BETA, EPSILON, EPSILON_MAX, LENGTH = 0.1, 0.1, 1.2, 6


def token_losses(loss_type, level, log_ratio, mask, advantages):
    """(B, T) losses of tokens (B, T), or of sequences (B, 1), up to constants."""
    weight = log_ratio
    if level == "sequence":  # GSPO, arXiv 2507.18071
        weight = (log_ratio * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    ratio = weight.exp()
    if loss_type == "cispo":  # arXiv 2506.13585
        return -ratio.clamp(max=EPSILON_MAX).detach() * advantages * log_ratio
    if loss_type == "sapo":  # arXiv 2511.20347
        temperature = torch.where(advantages > 0, 1.0, 1.05)
        return -4 / temperature * torch.sigmoid(temperature * (ratio - 1)) * advantages
    if loss_type == "vespo":  # arXiv 2602.10693; of the whole sequence at either level
        k, rate = torch.where(advantages >= 0, 2.0, 3.0), torch.where(advantages >= 0, 3.0, 2.0)
        whole = (log_ratio * mask).sum(1, keepdim=True).exp()
        weight = (rate - rate * whole).exp() * whole**k
        return -weight.detach() * advantages * log_ratio
    clipped = ratio.clamp(1 - EPSILON, 1 + EPSILON_MAX)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def mean_of(loss_type, losses, mask):
    losses = losses * mask
    if loss_type in ("grpo", "sapo"):
        return (losses.sum(1) / mask.sum(1)).mean()
    if loss_type == "luspo":
        return losses.sum(1).mean()
    return losses.sum() / (len(mask) * LENGTH if loss_type == "dr_grpo" else mask.sum())


def log_probs(model, batch):
    """(B, T) of the completions, by the textbook, without TRL's fused head."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1]
    found = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return found[:, -batch["completion_ids"].size(1) :]


def gradient(loss, model) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.fixture
def moved(model, tokenizer, groups, tmp_path):
    """A trainer of stored groups, and a batch, whose policy has moved away from the reference."""

    def make(**options):
        options = {"reference": "model", "beta": BETA, "epsilon": EPSILON} | BOUNDS | options
        options |= {"epsilon_high": EPSILON_MAX, "max_completion_length": LENGTH}
        trainer = make_trainer("grpo", model, tokenizer, rows("grpo", groups), tmp_path, **options)
        trainer.model.train()
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        trainer.current_gradient_accumulation_steps = 1
        draws = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter += 0.3 * torch.randn(parameter.shape, generator=draws)
        return trainer, batch

    return make


@pytest.mark.parametrize("level", _KNOWN["importance_sampling_level"])
@pytest.mark.parametrize("loss_type", _KNOWN["loss_type"])
def test_a_losss_gradient_is_that_of_the_perceived_ratio(loss_type, level, moved):
    """A token beyond the bounds has a part in ratios, but passes no gradient, except the KL's."""
    trainer, batch = moved(loss_type=loss_type, importance_sampling_level=level)
    mask, advantages = batch["completion_mask"], batch["advantages"][:, None]
    found = gradient(trainer.compute_loss(trainer.model, batch), trainer.model)
    expected = {}
    for name, bounds in (("seen", (-0.2, 0.3)), ("plain", (-9, 9))):
        policy = log_probs(trainer.model, batch)
        log_ratio = policy - log_probs(trainer.ref_model, batch).detach()
        kl = torch.exp(-log_ratio) + log_ratio - 1
        losses = token_losses(loss_type, level, log_ratio.clamp(*bounds), mask, advantages)
        loss = mean_of(loss_type, losses + BETA * kl, mask)
        expected[name] = gradient(loss, trainer.model)
    torch.testing.assert_close(found, expected["seen"], atol=2e-6, rtol=1e-4)
    assert not torch.allclose(found, expected["plain"], atol=1e-3), "nothing was clipped"


@pytest.mark.parametrize("perceive", [Clipping(-0.5, 1.0), Rejection(-0.5, 1.0, 3.0, 3.0)])
def test_trl_finds_the_perceived_ratio_and_the_whole_kl(perceive):
    draws = torch.Generator().manual_seed(2)
    policy = (-5 * torch.rand(4, 9, generator=draws)).requires_grad_()
    reference = -5 * torch.rand(4, 9, generator=draws)
    # One that draws anew each time would not see twice alike.
    drawn = (lambda x: perceive.drawn([1])(x)) if isinstance(perceive, Rejection) else perceive
    stand_in, others = perceived(policy, reference, drawn)
    expected, ratio = drawn(policy - reference), stand_in - others["old_per_token_logps"]
    kl = others["ref_per_token_logps"] - stand_in
    assert torch.equal(stand_in, policy) and not others["old_per_token_logps"].requires_grad
    torch.testing.assert_close(ratio, expected)
    assert torch.equal(kl, reference - policy)
    of = lambda x: torch.autograd.grad(x.sum(), policy, retain_graph=True)[0]  # noqa: E731
    assert torch.equal(of(ratio), of(expected)) and 0 < of(ratio).sum() < ratio.numel()
    assert torch.equal(of(stand_in), of(expected))
    assert torch.equal(of(kl), -torch.ones_like(kl))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_type": "ppo"}, "loss_type='ppo' has no humanline meaning; choose one of grpo, dr_"),
        ({"importance_sampling_level": "word"}, "choose one of token, sequence"),
        ({"top_entropy_quantile": 1.5}, "top_entropy_quantile must be at most 1; got 1.5"),
        ({"top_entropy_quantile": -0.5}, "top_entropy_quantile must be at least 0; got -0.5"),
        ({"sapo_temperature_pos": 0.0}, "sapo_temperature_pos must be above 0; got 0.0"),
        ({"vespo_k_pos": -1.0}, "vespo_k_pos must be at least 0; got -1.0"),
        (
            {"use_adaptive_entropy": True, "entropy_coef_min": 2.0},
            "entropy_coef_min must be at most entropy_coef_max=1.0; got 2.0",
        ),
        ({"sync_ref_model": True}, "sync_ref_model=True has no humanline meaning: humanline syncs"),
        ({"use_liger_kernel": True}, "Liger's layers to the policy alone"),
        ({"use_bias_correction_kl": True, "beta": 0.1}, "the paper's KL penalty is not multiplied"),
    ],
    ids=str,
)
def test_what_is_refused_says_why_in_one_line(options, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        humanline.HumanlineGRPOConfig(output_dir=str(tmp_path), bf16=False, **options)
    assert "\n" not in str(error.value)


def test_help_texts_are_trls_and_say_what_perception_does():
    own = humanline.HumanlineGRPOConfig.__dataclass_fields__
    for name in ("loss_type", "importance_sampling_level", "delta", "entropy_coef"):
        trls = GRPOConfig.__dataclass_fields__[name]
        assert own[name].default == trls.default
        text, of_trl = own[name].metadata["help"], trls.metadata["help"]
        assert text.startswith(of_trl) and "humanline" in text.removeprefix(of_trl)
