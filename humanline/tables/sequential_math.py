"""Looking at results several times, as seeds are added, without more false verdicts.

Look k has its p-value from all seeds so far, and a weight w_k; the weights sum to 1. The sequential
p-value is the least p_k / w_k. If the tested hypothesis is true, p_k / w_k is at most alpha with a
chance of at most w_k alpha, so any of them is with a chance of at most alpha (the union bound). It
holds for any dependence between the looks, and if the looks end early for any reason, as fewer looks
give a larger minimum. Sequential p-values are thus p-values, and Holm's method corrects them over
claims, even if other claims decide which get more seeds.
"""

import numpy as np
from numpy.typing import ArrayLike


def sequential_p_values(p_values: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """Combine the p-values of successive looks.

    Args:
        p_values: (..., K), look by look; NaN for a look without a p-value.
        weights: the share of alpha that each look may spend, (K,); they sum to at most 1.

    Returns:
        The sequential p-values, (...), at most 1; NaN where no look has a p-value.
    """
    shares = np.asarray(p_values, dtype=float) / np.asarray(weights, dtype=float)
    least = np.where(np.isnan(shares), np.inf, shares).min(axis=-1)
    return np.where(np.isinf(least), np.nan, np.minimum(least, 1.0))
