"""TRL's losses and its auxiliary loss: as in TRL's own trainers, and on perceived log-ratios."""

from functools import partial

import pytest
import torch
import trl
from combinations import in_rounds
from peft import LoraConfig
from tiny import final_losses, make_trainer, rows, weights
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM
from transformers.models.mixtral import modeling_mixtral
from trl.trainer.utils import FusedCausalLMOutput

from humanline.method.losses import DPOLoss
from humanline.trainers.batches.windows import SCORES
from humanline.trainers.dpo import HumanlineDPOConfig, HumanlineDPOTrainer

BETA = 0.5
UNPERCEIVED = {"log_eps_p": None, "log_eps_r": None, "sync_interval": None}

# DPO's losses, of the log-ratios (B,) of chosen and rejected completions and their lengths, as
# their papers have them.


def sigmoid(chosen, rejected, *_):
    return torch.log1p(torch.exp(-BETA * (chosen - rejected)))


def hinge(chosen, rejected, *_):
    return (1 - BETA * (chosen - rejected)).clamp(min=0)


def ipo(chosen, rejected, chosen_length, rejected_length):
    return (chosen / chosen_length - rejected / rejected_length - 1 / (2 * BETA)).square()


def exo_pair(chosen, rejected, *_):
    log_share = BETA * torch.stack([chosen, rejected], -1)
    log_share = log_share - log_share.logsumexp(-1, keepdim=True)
    return (log_share.exp() * (log_share - torch.tensor([0.9, 0.1]).log())).sum(-1)


def nca_pair(chosen, rejected, *_):
    down = sum(-logsigmoid(-BETA * x) / 2 for x in (chosen, rejected))
    return -logsigmoid(BETA * chosen) + down


def robust(chosen, rejected, *_):
    right, wrong = sigmoid(chosen, rejected), sigmoid(rejected, chosen)
    return (0.9 * right - 0.1 * wrong) / 0.8


def bco_pair(chosen, rejected, *_):
    return -logsigmoid(BETA * chosen) - logsigmoid(-BETA * rejected)


def sppo_hard(chosen, rejected, *_):
    return (chosen - 1 / (2 * BETA)).square() + (rejected + 1 / (2 * BETA)).square()


def aot_unpaired(chosen, rejected, *_):
    chosen, rejected = chosen.sort().values, rejected.sort().values
    return 0.9 * sigmoid(chosen, rejected) + 0.1 * sigmoid(rejected, chosen)


def apo_zero(chosen, rejected, *_):
    return torch.sigmoid(-BETA * chosen) + torch.sigmoid(BETA * rejected)


def apo_down(chosen, rejected, *_):
    return torch.sigmoid(BETA * chosen) + torch.sigmoid(-BETA * (chosen - rejected))


def discopop(chosen, rejected, *_):
    logits = BETA * (chosen - rejected)
    share = torch.sigmoid(logits / 0.05)
    return (1 - share) * sigmoid(chosen, rejected) + share * torch.exp(-logits)


def sigmoid_norm(chosen, rejected, chosen_length, rejected_length):
    return sigmoid(chosen / chosen_length, rejected / rejected_length)


def js_divergence(chosen, rejected, *_):
    """f-DPO: f'(u) of Jensen and Shannon's divergence for log u."""
    return sigmoid(*(torch.log(2 * x.exp() / (1 + x.exp())) for x in (chosen, rejected)))


SMOOTHED = {"label_smoothing": 0.1}
LOSSES = {
    **{f: {} for f in (sigmoid, hinge, ipo, nca_pair, bco_pair, sppo_hard)},
    **{f: {} for f in (apo_zero, apo_down, discopop, sigmoid_norm)},
    **{f: SMOOTHED for f in (exo_pair, robust, aot_unpaired)},
}


def options_of(loss) -> dict:
    return {"loss_type": [loss.__name__]} | LOSSES[loss]


WHOLE = [
    *(pytest.param("dpo", options_of(loss), id=loss.__name__) for loss in LOSSES),
    *(
        pytest.param("dpo", options, id=name)
        for name, options in {
            "added up": {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.8, 0.3]},
            "divergence": {"loss_type": ["ipo"], "f_divergence_type": "js_divergence"},
            "ld_alpha": {"ld_alpha": 0.3},
            "use_weighting": {"use_weighting": True},
        }.items()
    ),
    pytest.param("kto", {"loss_type": "apo_zero_unpaired"}, id="apo_zero_unpaired"),
]


@pytest.fixture
def groups() -> list[dict]:
    """Scored groups, in which the completions of a prompt differ in length."""
    return [
        {
            "prompt": f"{i % 10}+{i // 10}",
            "completions": ["abcd"[j] * (1 + (i + j) % 3) for j in range(4)],
            "scores": [float((i + j) % 5) for j in range(4)],
        }
        for i in range(24)
    ]


def train(make, objective, folder, tokenizer, groups, tmp_path, **options):
    """Three steps; the losses, the weights at the end, and the metrics of the last step."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    options = {"max_steps": 3, "train_sampling_strategy": "sequential", "beta": BETA} | options
    trainer = make(objective, model, tokenizer, rows(objective, groups), tmp_path, **options)
    losses = final_losses(trainer)
    return losses, weights(trainer.model), trainer.state.log_history[-2]


def trls(objective, model, tokenizer, dataset, folder, **options):
    """TRL's own trainer, as `make_trainer` makes ours."""
    name = objective.upper()
    args = getattr(trl, f"{name}Config")(
        output_dir=str(folder), per_device_train_batch_size=8, learning_rate=1e-2,
        report_to="none", save_strategy="no", logging_steps=1, gradient_checkpointing=False,
        bf16=False, disable_tqdm=True, **options,
    )  # fmt: skip
    trainer = getattr(trl, f"{name}Trainer")
    return trainer(model, args=args, train_dataset=dataset, processing_class=tokenizer)


def assert_same(one, other, **tolerance):
    (losses, ends, metrics), (other_losses, other_ends, other_metrics) = one, other
    assert losses == pytest.approx(other_losses, abs=1e-5)
    for name, weight in ends.items():
        torch.testing.assert_close(weight, other_ends[name], **tolerance)
    times = ("runtime", "per_second")
    for name in other_metrics:
        if not name.endswith(times):
            assert metrics[name] == pytest.approx(other_metrics[name], abs=1e-4), name


@pytest.mark.parametrize(("objective", "options"), WHOLE)
def test_unperceived_a_loss_is_trls(objective, options, model_folder, tokenizer, groups, tmp_path):
    run = partial(train, objective=objective, folder=model_folder, tokenizer=tokenizer)
    run = partial(run, groups=groups, tmp_path=tmp_path, **options)
    theirs = run(trls)
    assert_same(run(make_trainer, humanline=False), theirs, atol=0, rtol=0)
    # Adam divides by the gradient's size, so that roundings of tiny ones grow.
    assert_same(run(make_trainer, **UNPERCEIVED), theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        ("dpo", {}),
        ("dpo", {"loss_type": ["apo_zero"]}),
        ("kto", {"router_aux_loss_coef": 0.7}),
        ("kto", {"loss_type": "apo_zero_unpaired"}),
    ],
    ids=str,
)
def test_experts_share_their_load_as_in_trl(
    objective, options, experts_folder, tokenizer, groups, tmp_path, monkeypatch
):
    run = partial(train, objective=objective, folder=experts_folder, tokenizer=tokenizer)
    run = partial(run, groups=groups, tmp_path=tmp_path)
    options = {"router_aux_loss_coef": 0.5} | options
    theirs = run(trls, **options)
    assert theirs[2]["aux_loss"] > 0
    assert_same(run(make_trainer, humanline=False, **options), theirs, atol=0, rtol=0)
    assert_same(run(make_trainer, **UNPERCEIVED, **options), theirs, atol=1e-3, rtol=0)
    without = run(make_trainer, **UNPERCEIVED, **options | {"router_aux_loss_coef": 0.0})
    assert "aux_loss" not in without[2]
    assert without[0] != pytest.approx(theirs[0], abs=0.1)

    balanced, balance = [], modeling_mixtral.load_balancing_loss_func
    monkeypatch.setattr(
        modeling_mixtral,
        "load_balancing_loss_func",
        lambda *args: balanced.append(balance(*args)) or balanced[-1],
    )
    narrow = {"log_eps_p": -0.02, "log_eps_r": 0.02, "sync_interval": 2}
    cached, model = (
        run(make_trainer, **narrow, **options, reference=kind) for kind in ("cached", "model")
    )
    assert_same(cached, model, atol=1e-3, rtol=0)
    assert cached[2]["aux_loss"] == pytest.approx(balanced[2].item())
    assert len(balanced) == 2 * 3, "the policy's forward passes alone, one in each step"


class Batch:
    """A batch whose log-probabilities are given, for a trainer with a loss."""

    def __init__(self, trainer):
        self.trainer = trainer
        trainer.model.train()
        self.inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        self.mask = self.inputs["completion_mask"][:, 1:].bool()
        draws = torch.Generator().manual_seed(0)
        shape = self.mask.shape
        self.policy = -3 * torch.rand(shape, generator=draws) * self.mask
        self.reference = -3 * torch.rand(shape, generator=draws) * self.mask

    def loss(self):
        """The trainer's loss, and its gradient by the policy's log-probabilities."""
        policy = self.policy.clone().requires_grad_()
        nothing = torch.zeros_like(policy)
        outputs = FusedCausalLMOutput(
            log_probs=policy, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
        )
        inputs = self.inputs | {SCORES: {"completion": self.reference}}
        loss = self.trainer._compute_loss(lambda **_: outputs, inputs, False)
        loss.backward()
        return loss.detach(), policy.grad

    def expected(self, formula):
        """A formula of log-probabilities and clipped log-ratios, both (B, T), and its gradient."""
        policy = self.policy.clone().requires_grad_()
        log_ratio = torch.where(self.mask, policy - self.reference, 0)
        inside = (log_ratio > LOW) & (log_ratio < HIGH)
        clipped = torch.where(inside, log_ratio, log_ratio.detach().clamp(LOW, HIGH))
        assert 0.1 < inside[self.mask].float().mean() < 0.9, "clipping must tell"
        loss = formula(policy, clipped)
        loss.backward()
        return loss.detach(), policy.grad


LOW, HIGH = -0.5, 0.8


@pytest.fixture
def batch_of(model, tokenizer, groups, tmp_path):
    def make(objective="dpo", **options):
        options = {"log_eps_p": LOW, "log_eps_r": HIGH, "beta": BETA, "max_steps": 1} | options
        dataset = rows(objective, groups[:8])
        return Batch(make_trainer(objective, model, tokenizer, dataset, tmp_path, **options))

    return make


def of_pairs(formula, mask):
    """The mean of a formula of DPO's, of clipped log-ratios (2 B, T)."""

    def mean(policy, clipped):
        # TRL counts the tokens that completions have; the first of a row is never one of them.
        return formula(*clipped.sum(-1).chunk(2), *mask.sum(-1).chunk(2)).mean()

    return mean


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_a_loss_is_the_papers_on_clipped_log_ratios(loss, batch_of):
    batch = batch_of(**options_of(loss))
    torch.testing.assert_close(batch.loss(), batch.expected(of_pairs(loss, batch.mask)))


def test_a_divergence_is_of_clipped_log_ratios(batch_of):
    batch = batch_of(f_divergence_type="js_divergence")
    torch.testing.assert_close(batch.loss(), batch.expected(of_pairs(js_divergence, batch.mask)))


def test_sft_in_a_sum_is_the_plain_likelihood(batch_of):
    batch = batch_of(loss_type=["sft", "hinge"], loss_weights=[0.25, 2.0])
    chosen = batch.mask & (torch.arange(len(batch.mask)) < len(batch.mask) // 2)[:, None]

    def expected(policy, clipped):
        return -0.25 * policy[chosen].mean() + 2 * of_pairs(hinge, batch.mask)(policy, clipped)

    torch.testing.assert_close(batch.loss(), batch.expected(expected))


@pytest.mark.parametrize("options", [{}, {"loss_type": ["hinge"]}], ids=["papers", "hinge"])
def test_an_anchor_is_trls_sft_beside_any_loss(options, batch_of):
    plain, anchored = batch_of(**options), batch_of(**options, sft_weight=0.25)
    chosen = plain.mask & (torch.arange(len(plain.mask)) < len(plain.mask) // 2)[:, None]
    (without, _), (found, gradient) = plain.loss(), anchored.loss()
    likelihood, _ = anchored.expected(lambda policy, clipped: -policy[chosen].mean())
    torch.testing.assert_close(found, without + 0.25 * likelihood)
    assert not torch.allclose(gradient, plain.loss()[1])


def test_ld_alpha_weighs_clipped_log_ratios_beyond_the_shared_length(batch_of):
    batch = batch_of(ld_alpha=0.3)
    place = batch.mask.cumsum(-1)
    shared = torch.minimum(*batch.mask.sum(-1).chunk(2)).repeat(2)[:, None]
    weight = torch.where(place > shared, 0.3, 1.0)
    assert (place > shared).any(), "one completion of a pair must be longer"

    def expected(policy, clipped):
        return of_pairs(sigmoid, batch.mask)(policy, weight * clipped)

    torch.testing.assert_close(batch.loss(), batch.expected(expected))


def test_apo_zero_unpaired_is_of_clipped_log_ratios(batch_of):
    weighs = {"desirable_weight": 1.2, "undesirable_weight": 0.7}
    batch = batch_of("kto", loss_type="apo_zero_unpaired", **weighs)
    assert "KL_input_ids" not in batch.inputs, "nothing is scored in vain"

    def expected(policy, clipped):
        rewards, desirable = BETA * clipped.sum(-1), batch.inputs["label"].bool()
        good, bad = torch.sigmoid(-rewards), torch.sigmoid(rewards)
        return torch.where(desirable, 1.2 * good, 0.7 * bad).mean()

    torch.testing.assert_close(batch.loss(), batch.expected(expected))


ONE_OF_EACH = [
    ("dpo", {"loss_type": ["ipo", "sft"], "loss_weights": [0.5, 0.1]}),
    ("kto", {"loss_type": "apo_zero_unpaired"}),
]
NARROW = {"log_eps_p": -0.05, "log_eps_r": 0.05, "sync_interval": 3}


@pytest.mark.parametrize(("objective", "options"), ONE_OF_EACH)
def test_other_losses_train_alike_however_the_reference_is_kept(
    objective, options, model_folder, tokenizer, groups, tmp_path
):
    """With gradients accumulated, evaluations in between, and a resumption between two syncs."""
    ends = {}
    for name, resume in (("model", None), ("cached", None), ("resumed", "checkpoint-5")):
        kind = "model" if name == "model" else "cached"
        saving = {"save_strategy": "steps", "save_steps": 5, "eval_strategy": "steps"}
        dataset = rows(objective, groups)
        trainer = make_trainer(
            objective,
            AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32),
            tokenizer,
            dataset,
            tmp_path / kind,
            extra={"eval_dataset": dataset.select(range(8))},
            **options | NARROW | saving,
            eval_steps=4,
            max_steps=7,
            gradient_accumulation_steps=2,
            per_device_train_batch_size=4,
            reference=kind,
        )
        trainer.train(resume_from_checkpoint=resume and str(tmp_path / kind / resume))
        losses = [row.get("loss", row.get("eval_loss")) for row in trainer.state.log_history]
        ends[name] = [loss for loss in losses if loss is not None], weights(trainer.model)
    assert len(ends["model"][0]) == 7 + 2, "steps and evaluations"
    for name in ("cached", "resumed"):
        assert ends[name][0] == pytest.approx(ends["model"][0], abs=2e-5)
        for key, weight in ends["model"][1].items():
            torch.testing.assert_close(ends[name][1][key], weight, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("objective", "options"), ONE_OF_EACH)
def test_other_losses_train_adapters(objective, options, model_folder, tokenizer, groups, tmp_path):
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    losses = []
    for reference in ("cached", "adapter"):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        torch.manual_seed(0)
        trainer = make_trainer(
            objective,
            model,
            tokenizer,
            rows(objective, groups),
            tmp_path,
            extra={"peft_config": lora},
            **{"max_steps": 5, "reference": reference} | options | NARROW,
        )
        losses.append(final_losses(trainer))
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)
    assert len(set(losses[0])) == 5


@pytest.mark.parametrize(("objective", "options"), ONE_OF_EACH)
def test_other_losses_train_online_in_rounds(objective, options, model_folder, tmp_path):
    ends = []
    for reference in ("cached", "model"):
        trainer = in_rounds(
            objective, model_folder, tmp_path / reference, reference=reference, **options | NARROW
        )
        initial = weights(trainer.model)
        ends.append((final_losses(trainer), weights(trainer.model)))
    (losses, weights_), (other_losses, other_weights) = ends
    assert losses == pytest.approx(other_losses, abs=2e-5) and len(losses) == 6
    for name, weight in weights_.items():
        torch.testing.assert_close(other_weights[name], weight, atol=1e-4, rtol=1e-4)
        assert not torch.equal(weight, initial[name])


def test_kto_resumes_with_the_loss_that_its_rows_are_for(model, tokenizer, groups, tmp_path):
    saving = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    args = "kto", model, tokenizer, rows("kto", groups), tmp_path
    make_trainer(*args, loss_type="apo_zero_unpaired", **saving).train()
    trainer = make_trainer(*args, **saving)
    with pytest.raises(ValueError, match="loss_type='apo_zero_unpaired', and this one has 'kto'"):
        trainer.train(resume_from_checkpoint=True)


def test_another_loss_perceives_random_bounds(batch_of):
    options = {"perception": "sample", "gamma_p": 2.0, "gamma_r": 2.0}
    options |= {"loss_type": ["hinge"], "train_sampling_strategy": "sequential"}
    batches = [batch_of(seed=seed, **options) for seed in (1, 1, 2)]
    (loss, first), (again, second), (other, third) = (batch.loss() for batch in batches)
    assert torch.equal(loss, again) and torch.equal(loss, other), "values are as they are"
    assert torch.equal(first, second) and not torch.equal(first, third), "gradients are drawn"


class TestLossOfOnesOwn:
    @pytest.fixture
    def own(self, model, tokenizer, groups, tmp_path):
        class Flat(HumanlineDPOTrainer):
            def loss_of_pairs(self, chosen, rejected, perceive):
                return DPOLoss(chosen[0].sum(1) * 0 + 7, chosen[0].sum(1), rejected[0].sum(1))

        def make(**options):
            args = HumanlineDPOConfig(
                output_dir=str(tmp_path), bf16=False, report_to="none", **options
            )
            data = {"train_dataset": rows("dpo", groups), "processing_class": tokenizer}
            return Flat(model, args=args, **data)

        return make

    @pytest.mark.parametrize("is_humanline", [False, True])
    def test_it_is_trained_with(self, own, is_humanline):
        trainer = own(humanline=is_humanline)
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        assert trainer.compute_loss(trainer.model, batch).item() == 7

    @pytest.mark.parametrize(
        "options", [{"loss_type": ["hinge"]}, {"use_weighting": True}, {"ld_alpha": 0.5}], ids=str
    )
    def test_an_option_of_another_loss_is_refused(self, own, options):
        message = f"{next(iter(options))}=.* has no meaning for Flat, which has a loss of its own"
        with pytest.raises(ValueError, match=message):
            own(**options)
