"""Which rows a step trains on depends on neither interruptions nor the number of processes."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from combinations import PAIRS, ROUNDS, SPREAD, Combination, train
from datasets import Dataset
from forked_together import run_together
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from selected import selected
from tiny import equal, make_trainer, rows, weights
from transformers import AutoModelForCausalLM, TrainerCallback
from trl.trainer.utils import RepeatSampler

from humanline.trainers.batches.order import RolloutStream

# More than CI has time for: HUMANLINE_EXAMPLES=200 pytest tests/trainers/batches/test_order.py
EXAMPLES = int(os.environ.get("HUMANLINE_EXAMPLES", 10))
WORKER = Path(__file__).parents[1] / "combinations.py"
ON_ROWS = "test_two_processes_train_on_the_rows_of_one_with_whole_groups_and_with_parts"
# Parts of groups and whole ones, given and sampled, a stream, and rounds.
FEW = ("given", "split-online", "stream-online", *ROUNDS, PAIRS)


def policy(trainer) -> dict:
    return {name: w for name, w in weights(trainer.model).items() if ".ref." not in name}


def resumed_everywhere(combination, model_folder, folder, stops, **extra):
    """Train, then go on from checkpoints; the weights of the first, and those of the others."""
    saving = {"save_strategy": "steps", "save_steps": 1}
    trainer = combination.trainer(model_folder, folder, **extra, **saving)
    trainer.train()
    ends = {}
    for stop in stops:
        resumed = combination.trainer(model_folder, folder, **extra)
        resumed.train(resume_from_checkpoint=str(folder / f"checkpoint-{stop}"))
        ends[stop] = policy(resumed)
    return policy(trainer), ends


def assert_all_equal(whole, ends) -> None:
    for stop, end in ends.items():
        assert equal(whole, end), f"resumed from step {stop} it ends elsewhere"


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("humanline", [False, True])
def test_every_epoch_has_the_order_it_has_in_a_run_that_is_not_cut(
    humanline, online, model_folder, tmp_path
):
    """Seven groups, one a step: two epochs; to the last checkpoint, after which no step is made."""
    combination = Combination(groups=7, steps=13, humanline=humanline, online=online)
    whole, ends = resumed_everywhere(combination, model_folder, tmp_path, (3, 8, 13))
    assert_all_equal(whole, ends)


@pytest.mark.parametrize("humanline", [False, True])
def test_a_rollout_that_serves_twice_is_not_sampled_again(humanline, model_folder, tmp_path):
    combination = Combination(
        groups=6, rollout=2, iterations=2, steps=6, online=True, humanline=humanline
    )
    whole, ends = resumed_everywhere(combination, model_folder, tmp_path, (1, 2, 3, 4))
    assert_all_equal(whole, ends)


@st.composite
def combinations(draw):
    size = draw(st.integers(2, 4))
    groups_per_batch = draw(st.integers(1, 2))
    rollout, accumulation = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    per_rollout = rollout * groups_per_batch
    steps = draw(st.integers(4, 7))
    options = {
        "loss_type": draw(st.sampled_from(["dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo"])),
        "importance_sampling_level": draw(st.sampled_from(["token", "sequence"])),
        "top_entropy_quantile": draw(st.sampled_from([1.0, 0.5])),
        "beta": draw(st.sampled_from([0.0, 0.1])),
        "shuffle_dataset": draw(st.booleans()),
    }
    if draw(st.booleans()):
        options |= {"eval_strategy": draw(st.sampled_from(["steps", "epoch"])), "eval_steps": 2}
    if draw(st.booleans()):
        options["perception"] = draw(st.sampled_from(["sample", "authors"]))
    combination = Combination(
        groups=per_rollout * draw(st.integers(1, 3)) + draw(st.integers(0, per_rollout - 1)),
        size=size,
        batch=size * groups_per_batch,
        accumulation=accumulation,
        rollout=rollout,
        iterations=draw(st.integers(1, 2)),
        steps=steps,
        online=draw(st.booleans()),
        humanline=draw(st.booleans()),
        interval=draw(st.sampled_from([None, 1, 2, 3, 5])),
        reference=draw(st.sampled_from(["cached", "model", "adapter"])),
        options=options,
    )
    return combination, draw(st.integers(1, steps)), draw(st.booleans())


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(combinations())
def test_a_resumed_run_ends_exactly_where_one_that_is_not_cut_does(model_folder, drawn):
    combination, stop, streams = drawn
    dataset = combination.dataset()
    extra = {"dataset": dataset.to_iterable_dataset(2) if streams else dataset}
    if combination.reference == "adapter":
        lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        extra["extra"] = {"peft_config": lora}
    folder = Path(tempfile.mkdtemp())
    try:
        whole, ends = resumed_everywhere(combination, model_folder, folder, (stop,), **extra)
    finally:
        shutil.rmtree(folder)
    assert_all_equal(whole, ends)


@pytest.fixture(scope="module")
def spread(model_folder, tmp_path_factory, request):
    """What one process and two make of the same combinations."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    names = sorted({"given", *(asked["name"] for asked in selected(request, ON_ROWS))})
    run_together(two / "log.txt", WORKER, model_folder, two, *names)
    for name in names:
        train(name, model_folder, one)
    return [
        {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in names}
        for folder in (one, two)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FEW else pytest.mark.thorough)
        for name in (*SPREAD, *ROUNDS, PAIRS)
    ],
)
def test_two_processes_train_on_the_rows_of_one_with_whole_groups_and_with_parts(name, spread):
    one, two = (result[name] for result in spread)
    for key, values in one["log"].items():
        assert two["log"][key] == pytest.approx(values, abs=2e-5), key
    for weight, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][weight], value, atol=2e-5, rtol=0)
    for result in (one, two):
        assert equal(result["weights"], result["resumed"])


@pytest.mark.slow
def test_a_group_in_two_processes_is_trained_on_whole(spread):
    rewards = [sum((3 * i + j * j) % 5 for j in range(4)) / 4 for i in range(8)]
    for result in spread:
        assert sorted(result["given"]["log"]["reward"]) == pytest.approx(sorted(rewards))


class TestTokensOfAStep:
    """dapo: a token counts alike in all batches of an optimizer step, however it is made up."""

    def steps(self, model_folder, folder, loss_type, **options):
        """Of each step: the loss and the gradient, and the batches it was made of."""
        combination = Combination(
            groups=6, accumulation=2, steps=2, options={"loss_type": loss_type}, **options
        )
        trainer = combination.trainer(model_folder, folder, learning_rate=0.0)
        batches, gradients = [], []
        prepare = trainer._prepare_inputs
        trainer._prepare_inputs = lambda inputs: batches.append(prepare(inputs)) or batches[-1]

        class Keep(TrainerCallback):
            def on_pre_optimizer_step(self, args, state, control, **kwargs):
                gradients.append([p.grad.clone() for p in trainer.model.parameters()])

        trainer.add_callback(Keep())
        trainer.train(), trainer.model.zero_grad()
        return trainer, batches, gradients

    @pytest.mark.parametrize("rollout", [1, 3])
    @pytest.mark.parametrize("humanline", [False, True])
    def test_all_of_them_count_alike(self, humanline, rollout, model_folder, tmp_path):
        """Without an update each gradient is that of the mean over the step's tokens."""
        trainer, batches, gradients = self.steps(
            model_folder, tmp_path, "dapo", rollout=rollout, humanline=humanline, reference="model"
        )
        for step in (0, 1):
            parts = batches[2 * step : 2 * step + 2]
            tokens = sum(part["completion_mask"].sum() for part in parts)
            trainer.model.zero_grad()
            for part in parts:
                scores, *_ = trainer._token_scores(trainer.model, part)
                # All ratios are one, and so the loss has the gradient of this one.
                gain = (scores * part["completion_mask"] * part["advantages"][:, None]).sum()
                (-gain / tokens).backward()
            norm = torch.stack([p.grad.norm() for p in trainer.model.parameters()]).norm()
            scale = min(1.0, trainer.args.max_grad_norm / (norm.item() + 1e-6))
            for own, parameter in zip(gradients[step], trainer.model.parameters(), strict=True):
                torch.testing.assert_close(own, scale * parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["stored", "sampled"])
@pytest.mark.parametrize("humanline", [False, True])
def test_grpo_trains_on_a_stream_as_on_its_rows(humanline, kind, model_folder, tmp_path):
    combination = Combination(
        online=kind == "sampled", humanline=humanline, options={"shuffle_dataset": False}, steps=6
    )
    stream = combination.dataset().to_iterable_dataset(num_shards=2)
    ends = []
    for name, dataset in (("rows", None), ("stream", stream)):
        trainer = combination.trainer(model_folder, tmp_path / name, dataset=dataset)
        torch.manual_seed(0)
        trainer.train()
        ends.append(policy(trainer))
    assert equal(*ends)


def test_a_stream_gives_rollouts_as_trls_sampler_does():
    """Seven rows, three to a rollout of four steps; each row is there once for all of them."""
    stream = Dataset.from_list([{"x": i} for i in range(7)]).to_iterable_dataset()
    options = {"prompts": 3, "times": 2, "steps": 4, "processes": 2, "choose": list}
    parts = list(RolloutStream(stream, **options))
    sampler = RepeatSampler(range(7), mini_repeat_count=2, batch_size=3, repeat_count=4,
                            shuffle=False)  # fmt: skip
    assert [row["x"] for part in parts for row in part.rows] == list(sampler)
    assert {len(part.rows) for part in parts} == {3} and len(set(map(id, parts))) == 4
    rows_ = parts[0].rows
    assert rows_[0] == rows_[1] and rows_[0] is not rows_[1]  # a reward function may change one


def test_a_stream_is_read_anew_within_a_step(model_folder, tmp_path):
    """Five rows in batches of two, two batches a step: no row is left out, and none comes twice."""
    prompts = [f"{i}+1" for i in range(5)]
    stream = Dataset.from_list([{"prompt": prompt} for prompt in prompts]).to_iterable_dataset()
    seen = []

    def reward(prompts, **_):
        seen.extend(prompts[::2])
        return [0.0] * len(prompts)

    combination = Combination(size=2, batch=4, accumulation=2, steps=5, online=True)
    extra = {"reward_funcs": reward}
    options = {"shuffle_dataset": False, "dataset": stream}
    combination.trainer(model_folder, tmp_path, extra, **options).train()
    # A rollout takes two prompts; the fifth, which fills none, is left out of each round.
    assert seen == (prompts[:4] * 5)[: 4 * 5]


@pytest.mark.parametrize("objective", ["dpo", "kto"])
@pytest.mark.parametrize("options", [{}, {"dataloader_num_workers": 1, "data_seed": 5}])
def test_preferences_resume_in_later_epochs_too(
    objective, options, model_folder, tokenizer, groups, tmp_path
):
    """Twenty rows in batches of 8, two to a step: the last step of an epoch is short."""
    ends = []
    for checkpoint in (None, "checkpoint-3", "checkpoint-4", "checkpoint-6"):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        dataset = rows(objective, groups).select(range(20))
        trainer = make_trainer(
            objective, model, tokenizer, dataset, tmp_path, gradient_accumulation_steps=2,
            max_steps=6, save_strategy="steps", save_steps=1, reference="model",
            accelerator_config={"use_seedable_sampler": False}, **options,
        )  # fmt: skip
        torch.manual_seed(len(ends))  # nothing but the run's seed may decide
        trainer.train(resume_from_checkpoint=checkpoint and str(tmp_path / checkpoint))
        ends.append(weights(trainer.model))
    for end in ends[1:]:
        assert equal(ends[0], end)


def test_an_evaluation_leaves_what_is_sampled_later_alone(model_folder, tmp_path):
    """Also where it is made after the checkpoint of the same step, at the end of an epoch."""
    combination = Combination(groups=4, online=True, steps=6)
    evaluated = Combination(
        groups=4, online=True, steps=6, options={"eval_strategy": "epoch", "eval_steps": 1}
    )
    plain = combination.trainer(model_folder, tmp_path / "plain")
    plain.train()
    whole, ends = resumed_everywhere(evaluated, model_folder, tmp_path / "evaluated", (4,))
    assert equal(whole, policy(plain))
    assert_all_equal(whole, ends)


def test_training_twice_with_one_trainer_begins_with_the_first_rows(model_folder, tmp_path):
    seen = []

    def reward(prompts, **_):
        seen.append(prompts[0])
        return [0.0] * len(prompts)

    combination = Combination(groups=4, steps=3, rollout=2, online=True, humanline=False)
    trainer = combination.trainer(model_folder, tmp_path, {"reward_funcs": reward})
    trainer.train(), trainer.train()
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]


def test_a_batch_is_as_long_as_its_own_longest_completion(model_folder, tokenizer, tmp_path):
    """TRL pads all batches to the longest completion of the rollout."""
    texts = [["1", "2", "33", "44"], ["1", "2", "3", "4444444"]]
    groups = [
        {"prompt": f"{i}+1", "completions": own, "scores": [0.0, 1.0, 2.0, 3.0]}
        for i, own in enumerate(texts)
    ]
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    options = {"per_device_train_batch_size": 4, "steps_per_generation": 2, "max_steps": 2}
    options |= {"max_completion_length": 9, "shuffle_dataset": False}
    trainer = make_trainer("grpo", model, tokenizer, rows("grpo", groups), tmp_path, **options)
    lengths = []
    compute_loss = trainer._compute_loss

    def look(model, inputs):
        ends = inputs["completion_mask"].sum(1)
        lengths.append((inputs["completion_ids"].size(1), int(ends.max())))
        return compute_loss(model, inputs)

    trainer._compute_loss = look
    trainer.train()
    assert all(width == longest for width, longest in lengths)
    assert len({width for width, _ in lengths}) == 2, "the rollout has batches of two lengths"
