"""What is measured after a run."""

import numpy as np
import pytest

from humanline.analysis.predictors import movement


def test_movement_is_of_the_tokens_of_the_best_and_the_worst_completions():
    """Two groups of two; in the second one the scores are equal, so it has no best completion."""
    tokens = [np.array([-1.0, -3.0]), np.array([0.5]), np.array([9.0]), np.array([9.0])]
    found = movement([[0.0, 1.0], [1.0, 1.0]], tokens)
    assert found == pytest.approx({"log_ratio_chosen": 0.5, "log_ratio_rejected": -2.0})
    third = [np.array([0.1, 0.2, 0.3]), np.array([1.0])]
    found = movement([[0.0, 1.0], [1.0, 0.0]], tokens[:2] + third)
    assert found["log_ratio_chosen"] == pytest.approx((0.5 + 0.6) / 4)  # four tokens


def test_without_a_difference_nothing_is_best():
    assert set(movement([[1.0, 1.0]], [np.zeros(2)] * 2).values()) == {None}
