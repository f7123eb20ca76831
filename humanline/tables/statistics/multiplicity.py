"""Correction of p-values for their number."""

import numpy as np
from numpy.typing import ArrayLike


def holm(p_values: ArrayLike) -> np.ndarray:
    """Correct families of N p-values, (..., N), by Holm's method.

    The smallest p-value is multiplied by N, the next by N - 1 and so on; none may then be below one
    that was smaller. Not statsmodels' `multipletests`, which takes one family, and collects all
    garbage of the process each time. NaN stays NaN but still counts in the number of tests.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = p_values.argsort(axis=-1)  # NaN comes last
    factors = np.arange(p_values.shape[-1], 0, -1)
    ordered = np.take_along_axis(p_values, order, axis=-1) * factors
    corrected = np.minimum(1.0, np.maximum.accumulate(ordered, axis=-1))
    return np.take_along_axis(corrected, order.argsort(axis=-1), axis=-1)
