"""Sequential p-values: what they are by hand, and what many simulated studies find with them."""

from pathlib import Path

import numpy as np
import pytest

from humanline.files.validation import load_yaml
from humanline.tables.statistics.inference import significance
from humanline.tables.statistics.multiplicity import holm
from humanline.tables.statistics.scores import Contrast
from humanline.tables.statistics.sequential import sequential_p_values

LOOKS, WEIGHTS = (10, 15, 20, 30), (0.8, 0.1, 0.06, 0.04)
CLAIMS_FILE = Path(__file__).parents[3] / "workflow" / "config" / "claims.yaml"
ALPHA, CLAIMS, STUDIES = 0.05, 6, 3000


def test_the_least_share_of_a_weight_counts():
    assert sequential_p_values([0.04, 0.004], [0.8, 0.2]) == pytest.approx(0.02)
    assert sequential_p_values([0.9, 0.9], [0.8, 0.2]) == 1
    both = sequential_p_values([[0.04, np.nan], [np.nan, np.nan]], [0.8, 0.2])
    assert both == pytest.approx([0.05, np.nan], nan_ok=True)


def decided(effects, looks=LOOKS, weights=WEIGHTS) -> np.ndarray:
    """Whether simulated studies have decided each claim after each look, (studies, claims, looks).

    The claims share seeds, so their contrasts are correlated. Every claim sees all looks: what
    stops early is a part of that.
    """
    rng, effects = np.random.default_rng(4), np.asarray(effects, dtype=float)
    shared = rng.normal(size=(STUDIES, 1, looks[-1]))
    own = rng.normal(size=(STUDIES, len(effects), looks[-1]))
    values = effects[:, None] + np.sqrt(0.5) * (shared + own)
    contrast = Contrast(tuple(range(looks[-1])), values)
    seen = [contrast.on(range(seeds)) for seeds in looks]
    p_values = np.stack([significance(own, 0.0, "greater") for own in seen], axis=-1)
    found = []
    for count in range(1, len(looks) + 1):
        sequential = sequential_p_values(p_values[..., :count], weights[:count])
        found.append(holm(sequential) < ALPHA)
    return np.stack(found, axis=-1)


@pytest.mark.parametrize("are_registered", [False, True])
@pytest.mark.parametrize("true", [0, 3, 5])
def test_the_chance_of_any_false_verdict_over_all_looks_is_at_most_alpha(true, are_registered):
    """Claims that are right take Holm's strictest levels, and leave more for those that are not."""
    looks = [LOOKS, WEIGHTS]
    if are_registered:
        found = load_yaml(CLAIMS_FILE)["rule"]["looks"]
        looks = [found["seeds"], found["weights"]]
    effects = [3.0] * true + [0.0] * (CLAIMS - true)
    wrong = decided(effects, *looks)[:, true:].any(axis=(1, 2)).mean()
    assert 0.02 < wrong < ALPHA + 2 * np.sqrt(ALPHA * (1 - ALPHA) / STUDIES)


def test_verdicts_stay_and_most_claims_need_few_seeds():
    """Effects of 0.8 standard deviations: 10 seeds decide half of the claims, 30 nearly all."""
    found = decided([0.8] * CLAIMS)
    assert (found[..., :-1] <= found[..., 1:]).all()
    first = np.where(found.any(axis=-1), found.argmax(axis=-1), len(LOOKS) - 1)
    used, powers = np.array(LOOKS)[first].mean(), found.mean(axis=(0, 1))
    ten = decided([0.8] * CLAIMS, LOOKS[:1], [1.0]).mean()
    assert used < 20 and powers[-1] > 0.8 > 0.6 > ten > powers[0] > ten - 0.1
