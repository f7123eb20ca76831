"""An adapter for the reference leaves the policy what it was, however adapters are initialized."""

import pytest
import torch
from peft import IA3Config, LoHaConfig, LoraConfig, PromptTuningConfig, VeraConfig, get_peft_model
from tiny import OBJECTIVES, make_trainer, rows
from transformers import AutoModelForCausalLM

from humanline.method.reference import AdapterReference

TARGETS = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
KINDS = (True, False, "gaussian", "pissa", "pissa_niter_4", "olora", "orthogonal", "eva")
CONFIGS = {
    **{f"{kind}": LoraConfig(init_lora_weights=kind, **TARGETS) for kind in KINDS},
    "dora": LoraConfig(use_dora=True, init_lora_weights="pissa", **TARGETS),
    "rslora": LoraConfig(use_rslora=True, init_lora_weights="olora", **TARGETS),
    "all": LoraConfig(
        r=4, target_modules="all-linear", rank_pattern={"q_proj": 2}, init_lora_weights="pissa"
    ),
    "modules": LoraConfig(modules_to_save=["gate_proj"], **TARGETS),
    "tokens": LoraConfig(trainable_token_indices=[1, 2], **TARGETS),
    "replicated": LoraConfig(layer_replication=[(0, 1), (0, 1)], **TARGETS),
    "loha": LoHaConfig(**TARGETS),
    "vera": VeraConfig(**TARGETS),
    "ia3": IA3Config(target_modules=["v_proj"], feedforward_modules=[]),
    "prompt": PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
}  # fmt: skip
IDS = torch.arange(5, 15)[None]


def policy_of(model, config):
    """A PEFT policy whose adapter has been trained a little."""
    policy = get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(0)
    move(policy, lambda p: 0.05 * torch.randn(p.shape, generator=generator))
    return policy


@torch.no_grad()
def move(policy, step):
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter += step(parameter)


@torch.no_grad()
def logits(policy):
    return policy(IDS).logits


@pytest.mark.parametrize("name", CONFIGS)
def test_adding_the_references_adapter_changes_nothing(name, model):
    policy = policy_of(model, CONFIGS[name])
    base = {n: p.clone() for n, p in policy.named_parameters() if not p.requires_grad}
    before, draws = logits(policy), torch.get_rng_state()
    reference = AdapterReference(policy)
    assert torch.equal(draws, torch.get_rng_state())
    assert all(torch.equal(policy.get_parameter(n), p) for n, p in base.items())
    assert torch.allclose(logits(policy), before, atol=1e-7)
    with reference.scoring() as model_of_reference:
        assert torch.allclose(logits(model_of_reference), before, atol=1e-7)
    move(policy, lambda _: 0.1)
    assert not torch.allclose(logits(policy), before, atol=1e-4)
    with reference.scoring() as model_of_reference:
        assert torch.allclose(logits(model_of_reference), before, atol=1e-7)
    assert policy.peft_config["default"].to_dict() == CONFIGS[name].to_dict() | {
        key: policy.peft_config["default"].to_dict()[key]
        for key in ("base_model_name_or_path", "peft_type", "target_modules", "inference_mode")
        if key in CONFIGS[name].to_dict()
    }


def test_what_peft_refuses_is_told_with_the_remedy(model):
    policy = get_peft_model(model, LoraConfig(bias="lora_only", **TARGETS))
    with pytest.raises(ValueError, match=r"reference='adapter'.*use cached or model"):
        AdapterReference(policy)


@pytest.mark.parametrize(
    ("objective", "kind"), [("dpo", "olora"), *((objective, "pissa") for objective in OBJECTIVES)]
)
def test_no_way_to_keep_the_reference_changes_the_policy(
    objective, kind, model_folder, tokenizer, groups, tmp_path
):
    """TRL adds an adapter, too, where the policy comes as a PEFT model."""
    losses = {}
    for reference in ("cached", "model", "adapter"):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        torch.manual_seed(0)
        policy = policy_of(model, LoraConfig(init_lora_weights=kind, **TARGETS))
        before = logits(policy)
        options = {"reference": reference, "max_steps": 2, "sync_interval": 2}
        dataset = rows(objective, groups)
        trainer = make_trainer(objective, policy, tokenizer, dataset, tmp_path, **options)
        assert torch.allclose(logits(policy), before, atol=1e-7)
        trainer.train()
        losses[reference] = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses["adapter"] == pytest.approx(losses["model"], abs=1e-6)
    assert losses["cached"] == pytest.approx(losses["model"], abs=1e-6)


def test_trls_own_reference_changes_no_policy(model, tokenizer, groups, tmp_path):
    policy = policy_of(model, LoraConfig(init_lora_weights="pissa", **TARGETS))
    before = logits(policy)
    options = {"humanline": False}
    make_trainer("dpo", policy, tokenizer, rows("dpo", groups), tmp_path, **options)
    assert torch.allclose(logits(policy), before, atol=1e-7)
    assert policy.peft_config["default"].init_lora_weights == "pissa"


def test_an_adapter_of_another_name_is_refused(model, tokenizer, groups, tmp_path):
    policy = get_peft_model(model, LoraConfig(**TARGETS), adapter_name="mine")
    with pytest.raises(ValueError, match="adapter is called mine"):
        make_trainer("dpo", policy, tokenizer, rows("dpo", groups), tmp_path)
