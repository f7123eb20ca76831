"""The map of exploratory runs."""

import numpy as np
import pandas as pd
import pytest

from humanline.analysis.map import PREDICTORS, by_objective, map_frame, rank_correlations
from humanline.study.experiments import Cell


def cell(data: str, seed: int, **fields) -> Cell:
    return Cell(task="instruction_following", objective="dpo", data=data, seed=seed, **fields)


def measured(cell: Cell) -> dict:
    likelihood = -1.0 - (cell.groups or 0)
    return dict.fromkeys(PREDICTORS) | {"mean_token_log_probability": likelihood}


PAIRS = [
    (cell("offline", seed, groups=groups), cell("online", seed, sample_every=8))
    for groups in (None, 1, 2, 3)
    for seed in (101, 102)
]


@pytest.fixture
def frame() -> pd.DataFrame:
    """Runs whose score falls with the likelihood of their data."""
    return map_frame(PAIRS, lambda c: 40 if c.data == "online" else 30 - (c.groups or 0), measured)


def test_a_run_is_compared_with_online_training_of_its_seed():
    frame = map_frame(PAIRS, lambda c: c.seed if c.data == "online" else 50.0, measured)
    assert list(frame["online"]) == list(frame["seed"])
    assert np.allclose(frame["share"], 50 / frame["seed"])


def test_a_predictor_that_orders_the_runs_has_rank_correlation_one(frame):
    ranks = rank_correlations(frame).set_index(["method", "predictor"])
    # Those that were never measured are left out, and seeds count once.
    assert set(ranks.index) == {
        ("all", "mean_token_log_probability"),
        ("plain", "mean_token_log_probability"),
    }
    assert ranks["rho"].tolist() == pytest.approx([1, 1])
    assert ranks["variants"].tolist() == [4, 4]


def test_base_models_do_not_hide_what_orders_the_runs_of_one():
    """All runs of the weaker model score less; the order within the usual one stays."""
    online = cell("online", 101, base_model="weaker", sample_every=8)
    others = [
        (cell("offline", 101, base_model="weaker", groups=groups), online)
        for groups in (None, 1, 2, 3)
    ]

    def score(cell):
        return 40 if cell.data == "online" else 30 - (cell.groups or 0) - 20 * bool(cell.base_model)

    frame = map_frame(PAIRS + others, score, measured)
    ranks = by_objective(frame).set_index(["base_model", "objective", "method"])
    assert ranks.loc[("default", "dpo", "all"), "rho"] == pytest.approx(1)
    assert ranks.loc[("default", "all", "all"), "variants"] == 4
    assert ranks.loc[("all", "all", "all"), "variants"] == 8
    assert ranks.loc[("all", "all", "all"), "rho"] < 0.9


def test_there_is_no_share_of_an_online_score_of_zero():
    pairs = [(cell("offline", 1), cell("online", 1))]
    frame = map_frame(pairs, lambda cell: 0.0 if cell.data == "online" else 3.0, measured)
    assert np.isnan(frame["share"].item()) and frame["score"].item() == 3
