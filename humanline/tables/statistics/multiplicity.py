"""Correction of p-values for their number."""

import numpy as np
from numpy.typing import ArrayLike


def holm(p_values: ArrayLike) -> np.ndarray:
    """Correct p-values (N,) by Holm's method, with statsmodels.

    NaN stays NaN but still counts in the number of tests.
    """
    from statsmodels.stats.multitest import multipletests

    p_values = np.asarray(p_values, dtype=float)
    is_known = ~np.isnan(p_values)
    corrected = multipletests(np.where(is_known, p_values, 1.0), method="holm")[1]
    return np.where(is_known, corrected, np.nan)
