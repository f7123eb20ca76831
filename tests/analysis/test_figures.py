"""The figures of the theory: their data frames."""

import numpy as np
import pandas as pd
import pytest

from humanline.analysis.figures import (
    capacity_frame,
    implied_capacity_frame,
    perceived_weight_frame,
)
from humanline.method.prospect_theory import capacity


def surprisals(better: float = 1.0) -> dict[int, pd.DataFrame]:
    """Surprisals of a policy (twice), and of a model whose outputs the policy finds likelier."""
    frames = {}
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        samples = {name: rng.normal(size=500) for name in ("policy", "on-policy", "better")}
        samples["better"] += better
        frames[seed] = pd.concat(
            [pd.DataFrame({"source": name, "surprisal": own}) for name, own in samples.items()]
        )
    return frames


def test_the_policys_other_draws_imply_the_identity_and_a_better_model_more_gains():
    frame = implied_capacity_frame(surprisals())
    assert list(frame["source"].unique()) == ["on-policy", "better"]
    assert list(frame["seed"].unique()) == [1, 2]
    own = frame[(frame["source"] == "on-policy") & (frame["part"] == "gains")]
    assert own["implied"].notna().sum() > 80  # about half of the two seeds' grids
    assert (own["implied"] - own["a"]).abs().max() < 0.1
    better = frame[(frame["source"] == "better") & (frame["part"] == "gains")]
    middle = better[better["a"].between(0.2, 0.4)]
    assert (middle["implied"] > middle["a"] + 0.1).all()


def test_a_distance_is_of_its_own_seed_source_and_part():
    frame = implied_capacity_frame(surprisals())
    groups = frame.groupby(["part", "source", "seed"])
    assert (groups["distance"].nunique() == 1).all()
    for _, rows in groups:
        known = rows.dropna()
        area = np.trapezoid(np.abs(known["implied"] - known["human"]), known["a"])
        assert rows["distance"].iloc[0] == pytest.approx(area / known["a"].max())


def test_a_tokens_weight_is_one_between_the_bounds_and_falls_outside():
    frame = perceived_weight_frame((-1.5, 1.0), (1, 100))
    assert list(frame["perception"].unique()) == [
        "sampling, gamma 1",
        "sampling, gamma 100",
        "clipping",
    ]
    weights = {name: rows.set_index("log_ratio") for name, rows in frame.groupby("perception")}

    def weight(name: str, low: float, high: float) -> pd.Series:
        own = weights[name]["weight"]
        return own[(own.index > low) & (own.index < high)]

    assert (weight("clipping", -1.49, 0.99) == 1).all()
    assert (weight("clipping", -9, -1.51) == 0).all()
    assert (weight("sampling, gamma 100", -1.4, 0.9) == 1).all()
    assert (weight("sampling, gamma 100", 1.3, 9) < 1e-6).all()
    assert 0.01 < weight("sampling, gamma 1", 3.9, 9).max() < 0.05


def test_the_capacity_frame_has_every_gammas_curve_from_0_to_1():
    frame = capacity_frame((0.61, 1.0))
    assert list(frame["gamma"].unique()) == [0.61, 1.0]
    for gamma, rows in frame.groupby("gamma"):
        assert rows["a"].iloc[0] == 0 and rows["a"].iloc[-1] == 1
        assert rows["a"].is_monotonic_increasing
        assert rows["capacity"].to_numpy() == pytest.approx(capacity(rows["a"], gamma))
    # The steepest curve shows in the picture as it is, not as a chord.
    steps = capacity_frame((0.4,))["capacity"].diff().max()
    assert steps < 0.1
