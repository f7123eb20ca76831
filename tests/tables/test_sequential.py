"""Sequential p-values: what they are by hand, and what many simulated studies find with them."""

import numpy as np
import pytest
from scipy.special import stdtr

from humanline.tables.statistics.multiplicity import holm
from humanline.tables.statistics.sequential import sequential_p_values

LOOKS, WEIGHTS = (10, 15, 20, 30), (0.8, 0.1, 0.06, 0.04)
ALPHA, CLAIMS, STUDIES = 0.05, 6, 3000


def test_the_least_share_of_a_weight_counts():
    assert sequential_p_values([0.04, 0.004], [0.8, 0.2]) == pytest.approx(0.02)
    assert sequential_p_values([0.9, 0.9], [0.8, 0.2]) == 1
    both = sequential_p_values([[0.04, np.nan], [np.nan, np.nan]], [0.8, 0.2])
    assert both == pytest.approx([0.05, np.nan], nan_ok=True)
