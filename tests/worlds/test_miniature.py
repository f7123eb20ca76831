import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humanline.files.validation import ConfigError
from humanline.scoring.math.grading import is_correct
from humanline.study.scale.data import MiniatureData
from humanline.study.scale.models import Lessons, Pretraining
from humanline.worlds import letters, miniature

TASKS = ("instruction_following", "math_reasoning")
SIZES = {"train": 200, "validation": 30, "evaluation": 50}


def world(**options) -> MiniatureData:
    return MiniatureData(kind="miniature", **SIZES | options)


def splits(task: str, seed: int = 1, **options) -> dict[str, list[dict]]:
    return miniature.splits(task, world(**options), seed)


def taught(task, count, carelessness=0.4, seed=1, kind=Lessons, **options) -> list[dict]:
    """What a model learns from."""
    steps = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3}
    lessons = kind(examples=count, carelessness=carelessness, **steps)
    return miniature.fine_tuning_rows(task, world(**options), lessons, seed)


@pytest.mark.parametrize("task", TASKS)
def test_splits_have_the_asked_sizes(task):
    assert {split: len(rows) for split, rows in splits(task).items()} == SIZES


@pytest.mark.parametrize("task", TASKS)
def test_no_prompt_occurs_twice(task):
    prompts = [row["prompt"] for rows in splits(task).values() for row in rows]
    assert len(prompts) == len(set(prompts))


def drawn_for_examples(task: str, count: int) -> list[dict]:
    """The rows that seed 1's fine-tuning data are made from."""
    return miniature._draw(task, count, miniature._stream(1, miniature._EXAMPLES))


def wished(prompt: str) -> frozenset[str]:
    return frozenset(prompt.split())


@pytest.mark.parametrize("task", TASKS)
def test_no_wishes_are_in_two_splits(task):
    by_split = [{wished(row["prompt"]) for row in rows} for rows in splits(task).values()]
    assert all(not one & other for one, other in itertools.combinations(by_split, 2))


@pytest.mark.parametrize(("task", "field"), [(TASKS[0], "reference"), (TASKS[1], "answer")])
def test_rows_have_the_fields_of_their_task(task, field):
    for rows in splits(task).values():
        for row in rows:
            assert row.keys() == {"prompt", field}
            assert all(type(text) is str and text for text in row.values())


@pytest.mark.parametrize("task", TASKS)
def test_splits_are_deterministic(task):
    assert splits(task) == splits(task)


@pytest.mark.parametrize("task", TASKS)
def test_other_seeds_are_drawn_from_other_prompts(task):
    first = taught(task, 50, 0.4, 1)
    assert first == taught(task, 50, 0.4, 1)
    assert first != taught(task, 50, 0.4, 2)


@pytest.mark.parametrize("task", TASKS)
def test_what_base_models_of_several_seeds_learn_from_is_shared_by_chance_alone(task):
    """In pairs of seeds near and far as many rows are equal: none was drawn for both."""
    seeds = (0, 1, 2, 31, 32)
    learned = {
        seed: {(row["prompt"], row["completion"]) for row in taught(task, 300, 0.4, seed)}
        for seed in seeds
    }
    for one, other in itertools.combinations(seeds, 2):
        assert len(learned[one] & learned[other]) < 15, (one, other)


def test_prompts_and_base_models_have_few_problems_in_common():
    """Whatever the seeds: what any two of them draw comes from streams that are far apart."""
    seeds = (0, 1, 2, 3, 21, 42)
    drawn = {("prompts", seed): {row["prompt"] for row in everything(seed)} for seed in seeds}
    for seed in seeds:
        rows = taught(TASKS[1], 300, 0.4, seed)
        drawn["examples", seed] = {row["prompt"] for row in rows}
    for one, other in itertools.combinations(drawn, 2):
        assert len(drawn[one] & drawn[other]) < 15, (one, other)


def everything(seed: int) -> list[dict]:
    return [row for rows in splits(TASKS[1], seed).values() for row in rows]


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_has_its_own_prompts(task):
    first, second = splits(task, 1), splits(task, 2)
    for split, size in SIZES.items():
        both = {row["prompt"] for row in first[split]} & {row["prompt"] for row in second[split]}
        assert len(both) < size / 2, split


@pytest.mark.parametrize("task", TASKS)
def test_no_seed_trains_on_wishes_that_it_is_evaluated_on(task):
    """Nor does the pretrained model that all seeds share, whatever the seed."""
    shared = {wished(row["prompt"]) for row in taught(task, 400, seed=0, kind=Pretraining)}
    for seed in (1, 2, 31):
        rows = splits(task, seed)
        held_out = {wished(row["prompt"]) for row in rows["validation"] + rows["evaluation"]}
        learned = {wished(row["prompt"]) for row in rows["train"] + taught(task, 400, seed=seed)}
        assert not held_out & (learned | shared)
        assert len(held_out) > 50 and len(learned) > 200


def test_seeds_are_evaluated_on_wishes_of_their_own():
    """Else what they have in common would look more certain than it is."""
    sizes = {"train": 100, "validation": 25, "evaluation": 400}
    first, second = (
        {wished(row["prompt"]) for row in splits(TASKS[0], seed, **sizes)["evaluation"]}
        for seed in (1, 2)
    )
    by_chance = len(first) * len(second) / 5000
    assert len(first & second) < 3 * by_chance
    learned = {wished(row["prompt"]) for row in taught(TASKS[0], 400, seed=1)}
    assert learned & {wished(row["prompt"]) for row in splits(TASKS[0], 2)["evaluation"]}


@pytest.mark.parametrize("task", TASKS)
def test_pretraining_has_random_numbers_of_its_own(task):
    own, shared = taught(task, 300), taught(task, 300, kind=Pretraining)
    assert own[:50] != shared[:50]
    both = [{(row["prompt"], row["completion"]) for row in rows} for rows in (own, shared)]
    assert len(both[0] & both[1]) < 15


@settings(deadline=None, max_examples=10)
@given(st.sampled_from(TASKS), st.integers(0, 2**32 - 1))
def test_whatever_the_seed_its_splits_are_whole_and_apart(task, seed):
    sizes = {"train": 20, "validation": 8, "evaluation": 8}
    rows = splits(task, seed, **sizes)
    assert {split: len(own) for split, own in rows.items()} == sizes
    by_split = [{wished(row["prompt"]) for row in own} for own in rows.values()]
    assert all(not one & other for one, other in itertools.combinations(by_split, 2))
    assert rows == splits(task, seed, **sizes)


def test_lines_of_one_length_can_be_wished_for():
    rows = splits("instruction_following", lengths="L")
    assert all("L" in wished(row["prompt"]) for own in rows.values() for row in own)
    rows = taught("instruction_following", 50, lengths="SM")
    assert {"S", "M"} == set().union(*(wished(row["prompt"]) for row in rows)) & set("SML")


def test_all_lengths_are_the_default():
    assert splits("instruction_following") == splits("instruction_following", lengths="SML")


def test_too_many_prompts_are_refused(monkeypatch):
    monkeypatch.setattr(letters, "sample_prompt", lambda rng, lengths: f"{rng.choice('abc')}+ ~ L")
    with pytest.raises(ValueError, match=r"train: only \d different prompts, not 200"):
        splits("instruction_following")


def test_too_few_prompts_to_learn_from_are_told(monkeypatch):
    """There would be fewer examples than were asked for."""
    monkeypatch.setattr(miniature, "_split_of", lambda prompt, sizes, seed: "evaluation")
    with pytest.raises(ConfigError, match="0 of 268 prompts are for training, not 100 examples"):
        taught(TASKS[0], 100)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("count", [1, 17, 128])
def test_fine_tuning_rows_are_as_many_as_asked(task, count):
    rows = taught(task, count, 0.4, 1)
    assert len(rows) == count
    assert all(row.keys() == {"prompt", "completion"} for row in rows)


def test_carelessness_is_the_rate_of_wrong_sums():
    answers = {row["prompt"]: row["answer"] for row in drawn_for_examples("math_reasoning", 800)}
    for carelessness in (0.0, 0.4, 1.0):
        rows = taught("math_reasoning", 400, carelessness, 1)
        wrong = [not is_correct(row["completion"], answers[row["prompt"]]) for row in rows]
        assert sum(wrong) / len(wrong) == pytest.approx(carelessness, abs=0.08)


def test_carelessness_costs_gold():
    def gold(carelessness):
        rows = taught("instruction_following", 400, carelessness, 1)
        return sum(letters.gold_reward(row["prompt"], row["completion"]) for row in rows) / 400

    assert gold(0.0) > gold(0.45) + 0.05 > gold(1.0) + 0.1


def test_references_are_better_than_the_base_models_teacher():
    rows = splits("instruction_following")["train"]
    reference = sum(letters.gold_reward(row["prompt"], row["reference"]) for row in rows) / len(
        rows
    )
    rows = taught("instruction_following", 200, 0.45, 1)
    gold = sum(letters.gold_reward(row["prompt"], row["completion"]) for row in rows) / 200
    assert reference > gold + 0.03
