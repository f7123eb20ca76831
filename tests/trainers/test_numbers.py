"""Scores, rewards, losses and weights are finite numbers, or training stops and says which."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny import OBJECTIVES, equal, make_trainer, rows, weights
from torch.utils._python_dispatch import TorchDispatchMode

from humanline.trainers.batches.rounds import Rounds
from humanline.trainers.rows import preferences
from humanline.trainers.rows.scores import check_group, checked_reward, finite_numbers

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.0, NAN], "score 1 is nan"),
        ([INF, 0.0], "score 0 is inf"),
        ([0.0, -INF], "score 1 is -inf"),
        ([0.0, None], "score 1 is None"),
        (["0.5", "1.0"], "score 0 is '0.5'"),
        ([True, False], "score 0 is True"),
        ([[0.0], [1.0]], r"score 0 is \[0.0\]"),
        ([0.0, 1e39], "score 1 is 1e\\+39"),
        ([0.0], "2 completions and 1 scores"),
        (0.5, "2 completions and 0.5 scores"),
        (None, "2 completions and None scores"),
        ([1e9 + 0.1, 1e9 + 0.9], "too large for their differences"),
        ([-3e38, 3e38], "score 0 is -3e\\+38; give a finite number of at most 1e15"),
    ],
)
def test_scores_of_a_group_are_finite_numbers_that_differ_in_single_precision(scores, message):
    with pytest.raises(ValueError, match=message):
        check_group(scores, 2)


@pytest.mark.parametrize(
    "scores",
    [[0, 1], [0.1 + 0.2, 0.3], [1e9, 1e9], [1e-30, 0.0], [1e3, 1e3 + 2**-14], [1234.56, 1234.57]],
)
def test_other_scores_are_as_they_are(scores):
    check_group(scores, 2)


def test_a_score_that_is_no_number_is_told_with_its_row(model, tokenizer, groups, tmp_path):
    groups[2]["scores"][1] = NAN
    with pytest.raises(ValueError, match="row 2 of the train set: score 1 is nan"):
        make_trainer("grpo", model, tokenizer, rows("grpo", groups), tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([NAN, 1.0], "returned nan for a completion of the prompt 'p'"),
        ([0.0, INF], "returned inf for a completion of the prompt 'q'"),
        ([0.0, "1"], "returned '1'"),
        ([0.0, [1.0]], r"returned \[1.0\]"),
        ([0.0], "returned 1 for 2 completions"),
        ([0.0, 1.0, 2.0], "returned 3 for 2 completions"),
        (0.5, "returned 0.5 for 2 completions"),
        (None, "returned None for 2 completions"),
        (torch.tensor([0.0, NAN]), "returned nan"),
    ],
)
def test_rewards_are_finite_numbers(values, message):
    function = checked_reward(lambda prompts, **_: values, "good")
    with pytest.raises(ValueError, match=f"reward function good {message}"):
        function(prompts=["p", "q"], completions=["a", "b"])


def test_forms_of_rewards():
    tensors = np.array([1, 0.5]), torch.tensor([1, 0.5]), [np.float32(1), torch.tensor(0.5)]
    for values in ([1, 0.5], (1, 0.5), *tensors):
        assert finite_numbers(values, ["p", "q"], "it") == [1, 0.5]
    function = checked_reward(lambda prompts, **_: [None, True], "it")
    assert function(prompts=["p", "q"]) == [None, True]
    with pytest.raises(ValueError, match="returned None"):
        finite_numbers([None, 1.0], ["p", "q"], "it")


def test_rewards_of_a_prompt_differ_in_single_precision():
    """Else all advantages are zero, and nothing is learned."""
    prompts = ["p", "p", "q", "q"]
    lost = [1.0, 2.0, 1e9 + 0.1, 1e9 + 0.9]
    with pytest.raises(ValueError, match="are too large for their differences"):
        checked_reward(lambda prompts, **_: lost, "it")(prompts=prompts)
    values = [1e9, 1e9, 0.0, None]
    assert checked_reward(lambda prompts, **_: values, "it")(prompts=prompts) == values


def test_rewards_that_come_later_are_checked():
    import asyncio

    async def score(prompts, **_):
        return [NAN]

    with pytest.raises(ValueError, match="returned nan"):
        asyncio.run(checked_reward(score, "later")(prompts=["p"]))


def test_online_a_completion_has_a_reward(model, tokenizer, tmp_path):
    """None is one function's "not applicable", as in TRL; of all of them it is no reward."""
    dataset = Dataset.from_list([{"prompt": f"{i}+1"} for i in range(4)])
    given = {}
    functions = [lambda prompts, **_: given["first"], lambda prompts, **_: given["second"]]
    extra = {"reward_funcs": functions}
    trainer = make_trainer("grpo", model, tokenizer, dataset, tmp_path, extra)

    def rewards(first, second):
        given.update(first=first, second=second)
        inputs = [{"prompt": "p"}, {"prompt": "q"}]
        return trainer._calculate_rewards(inputs, ["p", "q"], ["a", "b"], [[1], [2]])

    assert rewards([1.0, None], [None, 2.0]).nansum(1).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="gave no number for a completion of the prompt 'q'"):
        rewards([1.0, None], [1.0, None])
    with pytest.raises(ValueError, match="returned nan"):
        rewards([1.0, NAN], [1.0, 1.0])
    assert trainer.reward_funcs == functions


def test_a_rounds_scores_are_finite(model, tokenizer, tmp_path):
    import humanline

    def sample(trainer, prompts, draw):
        return [{"prompt_ids": [5], "completion_ids": [[6, 1], [7, 1]]} for _ in prompts]

    args = humanline.HumanlineDPOConfig(
        output_dir=str(tmp_path), bf16=False, report_to="none", max_steps=1,
        per_device_train_batch_size=2,
    )  # fmt: skip
    rounds = Rounds(
        prompts=[preferences.user_turn("1+2")] * 2,
        sample=sample,
        score=lambda prompts, texts: [0.0, NAN] * 2,
        steps=1,
        directory=tmp_path / "rounds",
        min_score_difference=0.0,
    )
    trainer = humanline.HumanlineDPOTrainer(
        model,
        args=args,
        train_dataset=humanline.HumanlineDPOTrainer.placeholder(args),
        processing_class=tokenizer,
        rounds=rounds,
    )
    with pytest.raises(ValueError, match="the rounds' score returned nan"):
        trainer.train()
    assert not list(tmp_path.rglob("round-*"))


@pytest.mark.parametrize("is_humanline", [True, False])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_loss_that_is_no_number_ends_training(
    objective, is_humanline, model, tokenizer, groups, tmp_path
):
    """The weights are broken, as after an update that was too large; no model is written."""
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = NAN
    dataset, options = rows(objective, groups), {"humanline": is_humanline, "max_steps": 2}
    options |= {"save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(objective, model, tokenizer, dataset, tmp_path, **options)
    with pytest.raises(ValueError, match=r"step 0: .* is nan; nothing is saved"):
        trainer.train()
    assert not list(tmp_path.rglob("*.safetensors"))
    with pytest.raises(ValueError, match="weights that are not finite"):
        trainer.save_model(str(tmp_path / "model"))


def test_a_gradient_that_is_no_number_changes_no_weight(model, tokenizer, groups, tmp_path):
    trainer = make_trainer("dpo", model, tokenizer, rows("dpo", groups), tmp_path)
    trainer.model.model.embed_tokens.weight.register_hook(lambda gradient: gradient * INF)
    with pytest.raises(ValueError, match=r"the gradient's norm is (nan|inf)"):
        trainer.train()
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_a_log_ratio_that_clipping_would_hide_is_refused(model, tokenizer, groups, tmp_path):
    trainer = make_trainer("dpo", model, tokenizer, rows("dpo", groups), tmp_path)
    policy, reference = torch.tensor([[-INF, -1.0]]), torch.tensor([[-1.0, -1.0]])
    with pytest.raises(ValueError, match="log-ratio of a token is -inf"):
        trainer._require_numbers(policy, reference, torch.tensor([[1, 1]]))
    trainer._require_numbers(policy, reference, torch.tensor([[0, 1]]))


def test_an_update_that_is_asked_about_later_is_left_out(model, tokenizer, groups, tmp_path):
    """As on a GPU, where an answer comes after the update: a fused optimizer updates nothing."""
    options = {"optim": "adamw_torch_fused", "max_steps": 3}
    trainer = make_trainer("dpo", model, tokenizer, rows("dpo", groups), tmp_path, **options)
    trainer.train()
    fused, before = trainer._fused_optimizer, weights(trainer.model)
    for value, has_moved in ((1.0, True), (INF, False), (NAN, False)):
        device = trainer.accelerator.device
        questions = tuple(
            (name, torch.tensor(number, device=device))
            for name, number in (("the loss", 0.5), ("the gradient's norm", value))
        )
        trainer._answers = trainer._asked(questions, fused)
        for parameter in trainer.model.parameters():
            parameter.grad = torch.full_like(parameter, value)
        fused.param_groups[0]["lr"] = 1e-2
        fused.step()
        after = weights(trainer.model)
        assert equal(before, after) != has_moved
        before = after
        if has_moved:
            trainer._look()
            continue
        with pytest.raises(ValueError, match=f"after step 3: the gradient's norm is {value}"):
            trainer._look()


class Doubles(TorchDispatchMode):
    """Notes the operations that make numbers of double precision."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            self.found.add(str(function))
        return result


@pytest.mark.parametrize("perception", ["clip", "sample", "authors"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nothing_is_in_double_precision(objective, perception, model, tokenizer, groups, tmp_path):
    """Apple's GPUs have none."""
    dataset, options = rows(objective, groups), {"perception": perception}
    trainer = make_trainer(objective, model, tokenizer, dataset, tmp_path, **options)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    batch = next(iter(trainer.get_train_dataloader()))
    with Doubles() as doubles:
        loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
        loss.backward()
    assert not doubles.found
