import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humanline.files.validation import ConfigError
from humanline.trainers.rows.preferences import (
    assistant_turn,
    best_quarter,
    best_versus_worst,
    labelled,
    pairs,
    quartile,
    stored_groups,
    user_turn,
)

scores = st.lists(st.floats(-10, 10), min_size=1, max_size=8)
differences = st.floats(0, 3)
scored = st.lists(
    st.lists(st.tuples(st.text(max_size=4), st.floats(-10, 10)), min_size=2, max_size=6).map(
        lambda rows: {
            "prompt": "p",
            "completions": [text for text, _ in rows],
            "scores": [score for _, score in rows],
        }
    ),
    max_size=6,
)


@given(scores, differences)
def test_the_pair_is_of_the_extremes(values, difference):
    pair = best_versus_worst(values, difference)
    if pair is None:
        assert max(values) - min(values) <= difference
    else:
        best, worst = pair
        assert (values[best], values[worst]) == (max(values), min(values))
        assert values[best] - values[worst] > difference


def test_ties_and_near_ties_make_no_pair():
    assert best_versus_worst([1.0, 1.0, 1.0], 0.0) is None
    assert best_versus_worst([1.0, 1.5], 0.5) is None
    assert best_versus_worst([1.0, 1.5], 0.49) == (1, 0)
    assert best_versus_worst([3.0], 0.0) is None


@given(scored, differences)
def test_pairs_are_trls_conversational_rows(groups, difference):
    rows = pairs(groups, difference)
    assert len(rows) == sum(max(g["scores"]) - min(g["scores"]) > difference for g in groups)
    for row in rows:
        assert row.keys() == {"prompt", "chosen", "rejected"}
        assert [turn["role"] for turn in row["prompt"]] == ["user"]
        assert [turn["role"] for turn in row["chosen"] + row["rejected"]] == ["assistant"] * 2


def test_the_chosen_is_the_best_and_the_order_is_kept():
    groups = [
        {"prompt": "p", "completions": ["a", "b", "c"], "scores": [0.5, 0.9, 0.1]},
        {"prompt": "q", "completions": ["d", "e"], "scores": [0.5, 0.5]},
        {"prompt": "r", "completions": ["f", "g"], "scores": [0.7, 0.2]},
    ]
    rows = pairs(groups, 0.01)
    assert [row["prompt"] for row in rows] == [user_turn("p"), user_turn("r")]
    assert [row["chosen"] for row in rows] == [assistant_turn("b"), assistant_turn("f")]
    assert [row["rejected"] for row in rows] == [assistant_turn("c"), assistant_turn("g")]


@given(scored, differences)
def test_labelled_rows_are_the_pairs_taken_apart(groups, difference):
    paired, rows = pairs(groups, difference), labelled(groups, difference)
    assert len(rows) == 2 * len(paired)
    assert [row["label"] for row in rows] == [True, False] * len(paired)
    for key, label in (("chosen", True), ("rejected", False)):
        ours = [(r["prompt"], r["completion"]) for r in rows if r["label"] is label]
        assert sorted(map(str, ours)) == sorted(str((p["prompt"], p[key])) for p in paired)


def test_neighbours_among_labelled_rows_have_different_prompts():
    groups = [{"prompt": str(i), "completions": ["a", "b"], "scores": [1.0, 0.0]} for i in range(6)]
    prompts = [row["prompt"] for row in labelled(groups, 0.0)]
    assert all(a != b for a, b in itertools.pairwise(prompts))


@given(scored)
def test_stored_groups_lose_nothing(groups):
    rows = stored_groups(groups)
    assert [row["prompt"] for row in rows] == [user_turn(g["prompt"]) for g in groups]
    for key in ("completions", "scores"):
        assert [row[key] for row in rows] == [g[key] for g in groups]


@pytest.mark.parametrize(
    "view", [lambda g: pairs(g, 0.0), lambda g: labelled(g, 0.0), stored_groups]
)
def test_views_take_a_generator_and_change_nothing(view, groups):
    before = [group | {"scores": list(group["scores"])} for group in groups]
    assert view(group for group in groups) == view(groups)
    assert groups == before


@given(st.lists(st.lists(st.floats(-5, 0), min_size=2, max_size=3), min_size=4, max_size=40))
def test_quartiles_part_the_groups_from_unlikely_to_likely(values):
    groups = [{"prompt": index} for index in range(len(values))]
    likelihoods = [{"mean_token_log_probability": own} for own in values]
    parts = [quartile(groups, likelihoods, number) for number in (1, 2, 3, 4)]
    found = [group["prompt"] for part in parts for group in part]
    assert sorted(found) == list(range(len(values)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all(part == sorted(part, key=lambda group: group["prompt"]) for part in parts)
    means = [sum(own) / len(own) for own in values]
    for lower, upper in itertools.pairwise(parts):
        assert max(means[g["prompt"]] for g in lower) <= 1e-9 + min(
            means[g["prompt"]] for g in upper
        )


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_fewer_than_four_groups_have_no_quartiles(number):
    likelihoods = [{"mean_token_log_probability": [-1.0]}] * 3
    with pytest.raises(ConfigError, match="3 groups have no quartiles; make 4 or more"):
        quartile([{"prompt": "p"}] * 3, likelihoods, number)


def test_the_best_quarter_is_by_spread_or_by_score():
    """Of eight groups two are taken, in their order; of equal ones the first."""
    scores = [[1, 2], [0, 5], [9, 9], [3, 4], [0, 5], [8, 9], [0, 6], [1, 1]]
    groups = [{"prompt": str(i), "scores": own} for i, own in enumerate(scores)]
    taken = lambda by: [group["prompt"] for group in best_quarter(groups, by)]  # noqa: E731
    assert taken("spread") == ["1", "6"] and taken("score") == ["2", "5"]
    assert best_quarter(groups[:1], "spread") == groups[:1]
