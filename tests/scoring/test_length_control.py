import math

import numpy as np
import pandas as pd
import published
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humanline.scoring import length_control
from humanline.scoring.judge import summarize
from humanline.scoring.length_control import length_controlled_win_rate

# (preference, length of the baseline's output, length of the model's) of each row.
rows = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 300), st.integers(0, 300)), min_size=2, max_size=30
).map(lambda drawn: [np.array(column, dtype=float) for column in zip(*drawn, strict=True)])


@pytest.fixture(params=published.MODELS)
def public(request):
    """Published annotations of a model by AlpacaEval 2's judge."""
    return published.annotations(request.param)


def columns(annotations):
    """The arguments of length_controlled_win_rate."""
    lengths = [annotations[output].str.len().to_numpy() for output in ("output_1", "output_2")]
    return annotations["preference"].to_numpy() - 1, *lengths


def test_worked_example():
    """Two groups of rows, the model's output 2 characters shorter or longer than the baseline's.

    The feature is -h and h, and the fit meets the groups' mean preferences 0.2 and 0.5. So
    theta = (logit 0.2 + logit 0.5) / 2 = -log(4) / 2 = -log 2, and logistic(-log 2) = 1/3.
    """
    preference = np.array([0.1, 0.3, 0.4, 0.6])
    win_rate = length_controlled_win_rate(preference, np.full(4, 10), np.array([8, 8, 12, 12]))
    assert win_rate == pytest.approx(1 / 3, abs=1e-7)


def test_equals_maximum_likelihood_of_statsmodels(public):
    import statsmodels.api as sm

    preference, baseline, model = columns(public)
    difference = model - baseline
    design = sm.add_constant(np.tanh(difference / difference.std(ddof=1)))
    fit = sm.GLM(preference, design, family=sm.families.Binomial()).fit(tol=1e-12)
    expected = 1 / (1 + math.exp(-fit.params[0]))
    assert length_controlled_win_rate(preference, baseline, model) == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_equals_alpaca_evals_fit_without_its_penalty(public):
    import sklearn
    from alpaca_eval.metrics.glm_winrate import fit_LogisticRegressionCV

    preference, baseline, model = columns(public)
    difference = baseline - model
    data = pd.DataFrame(
        {
            "length": np.tanh(difference / difference.std(ddof=1)),
            "theta": 1.0,
            "preference": preference,
        }
    )
    with sklearn.config_context():
        fit = fit_LogisticRegressionCV(
            data, "preference", n_splits=0, penalty=None, solver="lbfgs", tol=1e-10, max_iter=10_000
        )
    expected = fit.predict_proba(pd.DataFrame({"length": [0.0], "theta": [1.0]}))[0, 1]
    assert length_controlled_win_rate(preference, baseline, model) == pytest.approx(
        expected, abs=1e-6
    )


def test_is_within_three_tenths_of_a_point_of_alpaca_eval(public):
    """alpaca_eval's L1 penalty makes the difference: 0.10, 0.07 and 0.29 points."""
    assert 100 * length_controlled_win_rate(*columns(public)) == pytest.approx(
        summarize(public)["length_controlled_winrate"], abs=0.3
    )


@settings(deadline=None)
@given(rows, st.data())
def test_weights_equal_repeated_rows(table, data):
    n = len(table[0])
    draws = st.lists(st.integers(0, 3), min_size=n, max_size=n).filter(lambda w: sum(w) > 1)
    weights = np.array(data.draw(st.lists(draws, min_size=1, max_size=4)))
    expected = [
        length_controlled_win_rate(*(np.repeat(column, counts) for column in table))
        for counts in weights
    ]
    win_rates = length_controlled_win_rate(*table, weights=weights)
    assert win_rates.shape == (len(weights),)
    assert win_rates == pytest.approx(np.array(expected), abs=1e-5)


@settings(deadline=None)
@given(rows)
def test_is_a_probability_and_symmetric(table):
    preference, baseline, model = table
    win_rate = length_controlled_win_rate(preference, baseline, model)
    assert 0 <= win_rate <= 1
    swapped = length_controlled_win_rate(1 - preference, model, baseline)
    assert swapped == pytest.approx(1 - win_rate, abs=1e-6)


@settings(deadline=None)
@given(rows, st.integers(-50, 50))
def test_without_variation_in_length_it_is_the_mean_preference(table, longer):
    preference, baseline, _ = table
    fractional = np.linspace(0.1, 1.9, len(preference))[None] + 0.1  # rounds where counts do not
    win_rate = length_controlled_win_rate(preference, baseline, baseline + longer)
    weighted = length_controlled_win_rate(preference, baseline, baseline + longer, fractional)
    assert win_rate == pytest.approx(preference.mean(), abs=1e-6)
    assert weighted == pytest.approx(np.average(preference, weights=fractional[0]), abs=1e-6)


def test_is_invariant_to_the_unit_of_length():
    rng = np.random.default_rng(0)
    preference, baseline, model = rng.random(50), rng.random(50), rng.random(50)
    assert length_controlled_win_rate(preference, 1000 * baseline, 1000 * model) == pytest.approx(
        length_controlled_win_rate(preference, baseline, model), abs=1e-9
    )


@pytest.mark.parametrize(
    ("preference", "longer", "expected"),
    [
        ([1, 1, 1, 1], [-3, -1, 1, 3], 1),
        ([0, 0, 0, 0], [-3, -1, 1, 3], 0),
        ([0, 0, 1, 1], [-3, -1, 1, 3], 0.5),
        ([0, 1, 0, 1], [-1000, 1000, -1, 1], 0.5),  # a narrow gap: hundreds of steps
    ],
)
def test_separable_preferences_have_a_finite_fit(preference, longer, expected):
    win_rate = length_controlled_win_rate(preference, np.zeros(4), longer)
    assert win_rate == pytest.approx(expected, abs=1e-4)


def test_rare_long_losses_do_not_make_the_fit_diverge():
    """Undamped Newton steps run away from here. Without ridge the win rate tends to 1."""
    win_rate = length_controlled_win_rate([1, 1, 0], np.zeros(3), [-2, 57, 468], [[9, 1878, 5]])
    assert win_rate == pytest.approx([1], abs=1e-4)


def test_rows_without_preference_are_left_out():
    rng = np.random.default_rng(0)
    preference, baseline, model = rng.random(20), rng.integers(9, 99, 20), rng.integers(9, 99, 20)
    weights = rng.integers(1, 3, (5, 20))
    judged = np.arange(20) % 4 > 0
    missing = np.where(judged, preference, np.nan)
    kept = [column[judged] for column in (preference, baseline, model)]
    assert length_controlled_win_rate(missing, baseline, model) == length_controlled_win_rate(*kept)
    assert np.array_equal(
        length_controlled_win_rate(missing, baseline, model, weights),
        length_controlled_win_rate(*kept, weights[:, judged]),
    )


def test_chunks_of_replicates_do_not_show(monkeypatch):
    rng = np.random.default_rng(0)
    table = rng.random(20), rng.integers(9, 99, 20), rng.integers(9, 99, 20)
    weights = rng.integers(0, 3, (7, 20))
    at_once = length_controlled_win_rate(*table, weights)
    monkeypatch.setattr(length_control, "CHUNK", 60)
    assert length_controlled_win_rate(*table, weights) == pytest.approx(at_once, abs=1e-9)
    assert length_controlled_win_rate(*table, weights[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("preference", "model", "weights", "message"),
    [
        ([1.0, 2.0, 1.5], [1, 2, 3], None, r"in \[0, 1\]; subtract 1"),
        ([0.1, 0.2], [1, 2, 3], None, r"one shape \(N,\); got \(2,\)"),
        ([[0.1, 0.2, 0.3]], [1, 2, 3], None, r"one shape \(N,\)"),
        ([0.1, 0.2, 0.3], [1, 2, math.nan], None, "lengths must be finite"),
        ([0.1, 0.2, 0.3], [1, 2, 3], [1, 1, 1], r"weights must be \(R, 3\); got \(3,\)"),
        ([0.1, 0.2, 0.3], [1, 2, 3], [[1, 1]], r"weights must be \(R, 3\)"),
        ([0.1, 0.2, 0.3], [1, 2, 3], [[1, 1, -1]], "not be negative"),
        ([0.1, 0.2, 0.3], [1, 2, 3], [[1, 1, math.nan]], "not be negative or nan"),
        ([0.1, 0.2, 0.3], [1, 2, 3], [[0.2, 0.3, 0.5]], "counts of rows"),
        ([0.1, math.nan, math.nan], [1, 2, 3], None, "more than one judged row"),
        ([math.nan] * 3, [1, 2, 3], None, "more than one judged row"),
    ],
)
def test_wrong_input_is_refused(preference, model, weights, message):
    with pytest.raises(ValueError, match=message):
        length_controlled_win_rate(preference, [1, 2, 3], model, weights)
