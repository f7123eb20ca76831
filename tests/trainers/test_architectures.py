"""Models unlike Llama train with humanline: the reference's weights are swapped for any of them.

Each has something that a swap of weights could disturb: routed experts, state-space layers, short
convolutions, learned attention sinks, or linear attention beside full attention.
"""

import pytest
import torch
import transformers
from tiny import final_losses, make_trainer, rows, weights

SIZE = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
SIZE |= {"num_key_value_heads": 2, "head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MAMBA = {"mamba_num_heads": 4, "mamba_head_dim": 8, "mamba_n_groups": 1, "ssm_state_size": 8}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 2}
LINEAR |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
KINDS = {
    "Qwen3Moe": EXPERTS | {"num_hidden_layers": 2, "decoder_sparse_step": 1},
    "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 2},
    "NemotronH": MAMBA
    | {"layers_block_type": ["mamba", "attention"], "chunk_size": 8, "use_mamba_kernels": False},
    "Lfm2": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]},
    "Qwen3_5Text": LINEAR
    | {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]},
}


def untrained(kind: str, tokenizer, folder):
    """Load the same weights each time from a folder, from which TRL loads a reference, too."""
    policy = getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")
    if folder.exists():
        return policy.from_pretrained(folder, dtype=torch.float32)
    size = dict(SIZE)
    if kind == "Lfm2":
        size.pop("head_dim")  # it has no such option
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), **ends, **size, **KINDS[kind]
    )
    torch.manual_seed(0)
    model = policy(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    return untrained(kind, tokenizer, folder)


def trained(objective, kind, tokenizer, groups, folder, **options):
    dataset = rows(objective, groups)
    options = {"max_steps": 4} | options
    model = untrained(kind, tokenizer, folder / "model")
    trainer = make_trainer(objective, model, tokenizer, dataset, folder / "out", **options)
    return final_losses(trainer), weights(trainer.model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objective", ["dpo", "grpo"])
def test_they_train_alike_however_the_reference_is_kept(
    objective, kind, tokenizer, groups, tmp_path
):
    options = {"sync_interval": 2, "log_eps_p": -0.05, "log_eps_r": 0.05}
    ends = [
        trained(objective, kind, tokenizer, groups, tmp_path, reference=way, **options)
        for way in ("cached", "model")
    ]
    (losses, cached), (others, model) = ends
    assert losses == pytest.approx(others, abs=2e-5)
    before = weights(untrained(kind, tokenizer, tmp_path / "model"))
    assert any(not torch.equal(cached[name], before[name]) for name in before)
    for name, value in model.items():
        torch.testing.assert_close(cached[name], value, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_without_bounds_and_syncs_they_train_as_with_trl(kind, tokenizer, groups, tmp_path):
    unbounded = {"sync_interval": None, "log_eps_p": None, "log_eps_r": None}
    own, _ = trained("kto", kind, tokenizer, groups, tmp_path, **unbounded)
    of_trl, _ = trained("kto", kind, tokenizer, groups, tmp_path, humanline=False)
    assert own == pytest.approx(of_trl, abs=1e-5)
