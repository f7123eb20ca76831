"""Looking at results several times, as seeds are added, without more false verdicts.

Look k has the p-value p_k of all seeds so far, and a weight w_k; the weights sum to 1. The
sequential p-value (Liu and Anderson 2008) is here the least p_k / w_k. If the tested hypothesis is
true, p_k is below w_k alpha with a chance of w_k alpha, so any p_k / w_k is below alpha with a
chance of at most alpha. This union bound holds however the looks depend on each other, and whenever
they end: fewer looks can only have a larger minimum. So sequential p-values are p-values, and
Holm's method corrects them over claims, even if the results decide which claims get more seeds.
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
