import copy

import pytest
import torch

from humanline.method.reference import (
    ModelReference,
    PolicyReference,
    copy_weights,
    load_reference,
    save_reference,
)
from humanline.worlds.tiny_model import build_model

SMALL = {"hidden_size": 16, "intermediate_size": 32, "layers": 1, "heads": 2}


def normed(seed: int) -> torch.nn.Module:
    """A module with parameters and buffers, persistent and not."""
    torch.manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    module.register_buffer("scratch", torch.randn(2), persistent=False)
    module[1].running_mean.normal_()
    return module


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.fixture
def other():
    return build_model(**SMALL, seed=9)


def test_copying_makes_the_models_equal(model, other):
    assert not same(model, other)
    before = copy.deepcopy(model)
    copy_weights(model, other)
    assert same(model, other)
    assert same(model, before)


def test_the_copy_is_of_values(model, other):
    copy_weights(model, other)
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(1)
    assert not same(model, other)


def test_copying_is_in_place(model, other):
    places = [p.data_ptr() for p in other.parameters()]
    copy_weights(model, other)
    assert [p.data_ptr() for p in other.parameters()] == places


def test_buffers_are_copied_too_persistent_or_not():
    source, target = normed(1), normed(2)
    copy_weights(source, target)
    assert torch.equal(target[1].running_mean, source[1].running_mean)
    assert torch.equal(target.scratch, source.scratch)


def test_no_gradient_flows_through_the_copy(model, other):
    copy_weights(model, other)
    assert all(p.grad_fn is None and p.grad is None for p in other.parameters())
    assert all(p.is_leaf for p in other.parameters())


def test_a_copy_between_types_of_number_keeps_the_targets(model, other):
    other.to(torch.bfloat16)
    copy_weights(model, other)
    assert {p.dtype for p in other.parameters()} == {torch.bfloat16}
    assert torch.equal(
        other.model.embed_tokens.weight, model.model.embed_tokens.weight.to(torch.bfloat16)
    )


def test_another_depth_is_refused_and_nothing_is_copied(model):
    deeper = build_model(**SMALL | {"layers": 2}, seed=9)
    before = copy.deepcopy(deeper)
    for source, target in ((model, deeper), (deeper, model)):
        with pytest.raises(ValueError, match="architecture"):
            copy_weights(source, target)
    assert same(deeper, before)


# The last two would be broadcast by Tensor.copy_ without a word.
@pytest.mark.parametrize("sizes", [((8, 4), (4, 4)), ((1, 4), (3, 4)), ((4, 1), (4, 3))])
def test_another_width_is_refused(sizes):
    source, target = (torch.nn.Linear(i, o, bias=False) for o, i in sizes)
    before = target.weight.clone()
    with pytest.raises(ValueError, match="architecture"):
        copy_weights(source, target)
    assert torch.equal(target.weight, before)


def test_a_wider_model_is_refused(model):
    with pytest.raises(ValueError, match="architecture"):
        copy_weights(build_model(**SMALL | {"hidden_size": 32}, seed=9), model)


def test_a_part_of_the_way(model, other):
    before = copy.deepcopy(other)
    copy_weights(model, other, alpha=0.25)
    for ours, old, new in zip(
        other.parameters(), before.parameters(), model.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, 0.25 * new + 0.75 * old)


def test_a_second_model_round_trip(model, other, tmp_path):
    save_reference(ModelReference(other, model).state(), tmp_path)
    restored = ModelReference(model, other)
    restored.load(load_reference(tmp_path))
    assert same(model, other)


def test_tied_weights_survive_the_round_trip(model, other, tmp_path):
    save_reference(ModelReference(other, model).state(), tmp_path)
    ModelReference(model, other).load(load_reference(tmp_path))
    assert other.lm_head.weight.data_ptr() == other.model.embed_tokens.weight.data_ptr()


def test_saving_leaves_the_policys_files_alone(model, other, tmp_path):
    model.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    save_reference(ModelReference(model, other).state(), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_every_process_saves_its_own_shard(tmp_path):
    for rank in (0, 1):
        save_reference({"weight": torch.full((2,), float(rank))}, tmp_path, rank)
    assert load_reference(tmp_path, 1)["weight"].tolist() == [1, 1]


def test_loading_into_another_architecture_fails(model, tmp_path):
    save_reference(ModelReference(model, model).state(), tmp_path)
    deeper = build_model(**SMALL | {"layers": 2}, seed=9)
    with pytest.raises(ValueError, match="architecture"):
        ModelReference(model, deeper).load(load_reference(tmp_path))


def moved(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Move the policy as an update would; its weights before that."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    return before


def test_until_an_update_the_policy_is_the_reference(model):
    reference = PolicyReference(model)
    with reference.scoring() as lent:
        assert lent is model
    assert reference.state() == {}


def test_a_snapshot_outlasts_updates_and_leaves_the_policy_as_it_was(model):
    reference = PolicyReference(model)
    reference.keep_snapshot()
    reference.forget_policy()
    before = moved(model)
    places = [p.data_ptr() for p in model.parameters()]
    for _ in range(2):
        with reference.scoring() as lent:
            assert all(torch.equal(p, before[name]) for name, p in lent.named_parameters())
        assert all(torch.equal(p, before[name] + 1) for name, p in model.named_parameters())
    assert [p.data_ptr() for p in model.parameters()] == places


def test_a_failure_while_scoring_gives_the_policy_back(model):
    reference = PolicyReference(model)
    reference.keep_snapshot()
    reference.forget_policy()
    before = moved(model)
    with pytest.raises(KeyError), reference.scoring():
        raise KeyError
    assert all(torch.equal(p, before[name] + 1) for name, p in model.named_parameters())


def test_a_snapshot_holds_what_is_trained(model):
    model.lm_head.weight.requires_grad_(False)
    reference = PolicyReference(model)
    reference.keep_snapshot()
    assert reference.state().keys() == {n for n, p in model.named_parameters() if p.requires_grad}


def test_without_a_snapshot_an_updated_policy_has_no_reference(model):
    reference = PolicyReference(model)
    reference.forget_policy()
    with pytest.raises(RuntimeError, match="eval_dataset"), reference.scoring():
        pass
    reference.keep_snapshot()  # too late: these are not the reference's weights
    assert reference.state() == {}
    reference.sync()
    with reference.scoring() as lent:
        assert lent is model
