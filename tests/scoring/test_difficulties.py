"""The difficulties of AlpacaEval's instructions: estimated, shipped, and what they are worth."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import published
import pytest
from scipy.special import expit

from humanline.scoring.difficulties import FILE, find_difficulty
from humanline.scoring.length_control import Difficulty, length_controlled_win_rate

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "difficulties.py"
PREFERENCES = published.FOLDER / "preferences.csv.gz"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("estimation", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def alpaca(script):
    if not PREFERENCES.exists():
        pytest.skip(f"no public preferences at {PREFERENCES}")
    return script.Annotations(PREFERENCES)


def test_the_shipped_difficulties_have_their_provenance():
    shipped = json.loads(FILE.read_text())
    values = np.array(list(shipped["difficulty"].values()))
    assert len(values) == 805 and np.isfinite(values).all()
    assert len(shipped["made"]["models"]) == 41 and len(shipped["made"]["sha256"]) == 3
    assert shipped["phi"][0] > 0 and shipped["psi"][0] > 0


def test_only_alpaca_evals_instructions_have_difficulties():
    instruction = "What are the names of some famous actors that started their careers on Broadway?"
    assert np.isfinite(find_difficulty([instruction]).values).all()
    assert find_difficulty([instruction, "another"]) is None
    assert find_difficulty([]) is None


@pytest.mark.parametrize("model", published.MODELS)
def test_every_instruction_of_published_files_is_known(model):
    table = published.annotations(model)
    assert len(find_difficulty(table["instruction"]).values) == 805


def drawn(n=4000):
    """Preferences of a model with weights -1, 1.5 and 0.9, which are the prior's means."""
    rng = np.random.default_rng(0)
    gamma, baseline = rng.normal(0, 1.5, n), rng.integers(500, 3000, n)
    length = np.maximum(0, baseline + rng.integers(-1500, 300, n))
    difference = length - baseline
    probability = expit(-1 + 1.5 * np.tanh(difference / difference.std(ddof=1)) + 0.9 * gamma)
    preference = (rng.random(n) < probability).astype(float)
    return preference, baseline, length, Difficulty(gamma, (1.5, 0.15), (0.9, 0.03))


def test_the_fit_finds_the_win_rate_at_equal_length():
    preference, baseline, length, difficulty = drawn()
    truth = expit(-1 + 0.9 * difficulty.values).mean()
    value = length_controlled_win_rate(preference, baseline, length, difficulty=difficulty)
    assert value == pytest.approx(truth, abs=0.02)
    assert abs(preference.mean() - truth) > 0.05


def test_the_fit_is_the_maximum_of_likelihood_times_prior():
    """By a general optimiser, on few rows, where the prior counts."""
    from scipy.optimize import minimize

    preference, baseline, length, difficulty = (
        column[:60] if isinstance(column, np.ndarray) else column for column in drawn()
    )
    gamma = difficulty.values[:60]
    difference = length - baseline
    x = np.column_stack([np.ones(60), np.tanh(difference / difference.std(ddof=1)), gamma])

    def loss(weights):
        likelihood = np.logaddexp(0, x @ weights) - preference * (x @ weights)
        (phi, v), (psi, w) = difficulty.phi, difficulty.psi
        return likelihood.sum() + (weights[1] - phi) ** 2 / 2 / v + (weights[2] - psi) ** 2 / 2 / w

    theta, _, psi = minimize(loss, np.zeros(3), tol=1e-12).x
    own = Difficulty(gamma, difficulty.phi, difficulty.psi)
    value = length_controlled_win_rate(preference, baseline, length, difficulty=own)
    assert value == pytest.approx(expit(theta + psi * gamma).mean(), abs=1e-5)


def test_replicates_are_fits_of_repeated_rows():
    preference, baseline, length, difficulty = drawn(200)
    weights = np.random.default_rng(1).integers(0, 3, (4, 200))
    values = length_controlled_win_rate(preference, baseline, length, weights, difficulty)
    for value, counts in zip(values, weights, strict=True):
        rows = np.repeat(np.arange(200), counts)
        own = Difficulty(difficulty.values[rows], difficulty.phi, difficulty.psi)
        columns = (column[rows] for column in (preference, baseline, length))
        assert value == pytest.approx(
            length_controlled_win_rate(*columns, difficulty=own), abs=1e-6
        )


def test_a_thousand_replicates_of_805_rows_take_seconds():
    import time

    preference, baseline, length, difficulty = drawn(805)
    weights = np.random.default_rng(1).multinomial(805, np.full(805, 1 / 805), size=1000)
    start = time.perf_counter()
    length_controlled_win_rate(preference, baseline, length, weights, difficulty)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("values", [np.zeros(3), np.full(4, np.nan)])
def test_difficulties_that_do_not_fit_are_refused(values):
    with pytest.raises(ValueError, match=r"difficulties must be \(4,\) and finite"):
        length_controlled_win_rate(
            np.full(4, 0.5), np.ones(4), np.arange(4), difficulty=Difficulty(values, (1, 1), (1, 1))
        )


def test_the_estimate_finds_the_difficulties_that_preferences_were_drawn_from(script, tmp_path):
    import pandas as pd

    rng = np.random.default_rng(0)
    gamma = rng.normal(0, 1.5, 100)
    models = [f"m{i}" for i in range(30)]
    weights = pd.DataFrame({"phi": 1.5, "psi": 0.9, "theta": rng.normal(-1, 1, 30)}, index=models)
    rows = []
    for name, own in weights.iterrows():
        baseline, length = rng.integers(500, 2000, 100), rng.integers(200, 2000, 100)
        tanh = np.tanh((length - baseline) / (length - baseline).std(ddof=1))
        probability = expit(own["theta"] + 1.5 * tanh + 0.9 * gamma)
        rows += [(name, i, baseline[i], length[i], 1 + probability[i]) for i in range(100)]
    names = ["model", "instruction", "baseline_length", "model_length", "preference"]
    path = tmp_path / "preferences.csv"
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)
    found = script.estimate(script.Annotations(path), weights)
    assert np.corrcoef(found, gamma)[0, 1] > 0.99


def test_shipped_difficulties_come_within_a_point_of_the_leaderboard(alpaca, script):
    """Of models that took part in the estimate; benchmarks/difficulties.py has those held out."""
    import pandas as pd
    from scipy.stats import spearmanr

    table = published.annotations(published.MODELS[0])
    difficulty = find_difficulty(table["instruction"])
    own = [script.controlled(alpaca, i, difficulty) for i in range(len(alpaca.models))]
    board = pd.read_csv(published.FOLDER / "leaderboard.csv", index_col=0).loc[alpaca.models]
    expected = board["length_controlled_winrate"]
    assert np.abs(own - expected).mean() < 1.0
    assert spearmanr(own, expected).statistic > spearmanr(board["win_rate"], expected).statistic
