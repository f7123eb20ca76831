import io
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import published
import pytest
from hypothesis import given
from hypothesis import strategies as st

from humanline.scoring.annotations import write_annotations
from humanline.scoring.judge import (
    annotate,
    sigmoid_judge,
    summarize,
)

AWKWARD = ("{output_1}", '{"a": [1]}', 'say "hi"', "two\nlines", "naïve ☃", "", "nan", "1", "\\")
text = st.text(max_size=20)


def outputs(generator, seed, n=20):
    """Synthetic outputs in AlpacaEval's format; some texts are hard to quote."""
    rng = random.Random(seed)
    return [
        {
            "instruction": f"{AWKWARD[i % len(AWKWARD)]} {i}",
            "output": rng.choice(AWKWARD) + "x" * rng.randrange(30),
            "generator": generator,
            "dataset": "synthetic",
        }
        for i in range(n)
    ]


def score(instruction, output):
    return math.sin(len(instruction) + 3 * len(output))


JUDGE = sigmoid_judge(score, temperature=0.5, length_bias=0.3)


def judged(tmp_path, judge=JUDGE, seed=0):
    return annotate(
        outputs("model", 1), outputs("baseline", 2), judge, work_dir=tmp_path, seed=seed
    )


# The judge


@given(text, text, text, st.floats(-2, 2))
def test_sigmoid_judge_favours_no_position(instruction, output_1, output_2, length_bias):
    judge = sigmoid_judge(score, temperature=0.5, length_bias=length_bias)
    probability = judge(instruction, output_1, output_2)
    assert 0 <= probability <= 1
    assert judge(instruction, output_2, output_1) == pytest.approx(1 - probability)
    assert judge(instruction, output_1, output_1) == 0.5


def test_sigmoid_judge_by_hand():
    """Scores 1 and 2, lengths 1 and 3: (1 + 0.2 * (3 - 1) / 4) / 0.5 = 2.2."""
    scores = {"a": 1.0, "bbb": 2.0}
    judge = sigmoid_judge(lambda _, output: scores[output], temperature=0.5, length_bias=0.2)
    assert judge("", "a", "bbb") == pytest.approx(1 / (1 + math.exp(-2.2)))


def test_sigmoid_judge_wants_a_positive_temperature():
    with pytest.raises(ValueError, match="temperature must be positive; got 0"):
        sigmoid_judge(score, temperature=0, length_bias=0)


# Annotation


@pytest.mark.parametrize("seed", [0, 1])
def test_preferences_are_the_judges(tmp_path, seed):
    baseline, model = outputs("baseline", 2), outputs("model", 1)
    shuffled = random.Random(0).sample(model, len(model))
    annotations = annotate(shuffled, baseline, JUDGE, work_dir=tmp_path, seed=seed)
    assert list(annotations.columns) == [
        "instruction",
        "output_1",
        "generator_1",
        "output_2",
        "generator_2",
        "annotator",
        "preference",
    ]
    assert annotations["instruction"].tolist() == [row["instruction"] for row in baseline]
    assert annotations["output_1"].tolist() == [row["output"] for row in baseline]
    assert annotations["output_2"].tolist() == [row["output"] for row in model]
    assert set(annotations["generator_1"]) == {"baseline"}
    assert set(annotations["generator_2"]) == {"model"}
    assert set(annotations["annotator"]) == {"humanline_local"}
    expected = [
        1 + JUDGE(b["instruction"], b["output"], m["output"])
        for b, m in zip(baseline, model, strict=True)
    ]
    assert annotations["preference"].tolist() == pytest.approx(expected, abs=1e-12)


def test_positions_are_random_and_undone(tmp_path):
    """A judge that always favours its second output favours either side about equally often."""
    preferences = judged(tmp_path, lambda *_: 0.9)["preference"]
    assert set(preferences.round(6)) == {1.1, 1.9}
    assert preferences.equals(judged(tmp_path, lambda *_: 0.9)["preference"])
    assert not preferences.equals(judged(tmp_path, lambda *_: 0.9, seed=1)["preference"])


def test_every_pair_is_judged_once_as_written(tmp_path):
    asked = []

    def judge(instruction, output_1, output_2):
        asked.append((instruction, *sorted((output_1, output_2))))
        return 0.5

    annotations = judged(tmp_path, judge)
    pairs = annotations[["instruction", "output_1", "output_2"]].itertuples(index=False)
    assert sorted(asked) == sorted((i, *sorted((a, b))) for i, a, b in pairs if a != b)


def test_identical_outputs_are_a_tie_without_asking(tmp_path):
    def judge(*_):
        raise AssertionError("asked")

    model, baseline = outputs("model", 1), outputs("baseline", 1)
    annotations = annotate(model, baseline, judge, work_dir=tmp_path)
    assert (annotations["preference"] == 1.5).all()


def test_more_pairs_than_a_chunk_keep_their_order(tmp_path):
    model, baseline = outputs("model", 1, n=300), outputs("baseline", 2, n=300)
    annotations = annotate(model, baseline, JUDGE, work_dir=tmp_path)
    assert annotations["output_2"].tolist() == [row["output"] for row in model]
    expected = [
        1 + JUDGE(b["instruction"], b["output"], m["output"])
        for b, m in zip(baseline, model, strict=True)
    ]
    assert annotations["preference"].tolist() == pytest.approx(expected, abs=1e-12)


def changed(rows, number, **fields):
    return [row | fields if i == number else row for i, row in enumerate(rows)]


def without(row, field):
    return {name: value for name, value in row.items() if name != field}


MODEL, BASELINE = outputs("model", 1, n=3), outputs("baseline", 2, n=3)


@pytest.mark.parametrize(
    ("model", "baseline", "message"),
    [
        ([], BASELINE, "outputs: no rows; generate"),
        (MODEL, [], "baseline: no rows"),
        (MODEL[:2], BASELINE, "outputs: field instruction: 'say .* is missing; generate that"),
        (MODEL, BASELINE[1:], "baseline: field instruction: '{output_1} 0' is missing; remove it"),
        ([*MODEL, MODEL[1]], BASELINE, "outputs: row 3: field instruction: .* again; keep one"),
        (MODEL, [*BASELINE, BASELINE[0]], "baseline: row 3: field instruction: .* again"),
        ([without(row, "output") for row in MODEL], BASELINE, "outputs: row 0: field output"),
        ([without(row, "dataset") for row in MODEL], BASELINE, "outputs: row 0: field dataset"),
        (MODEL, changed(BASELINE, 1, output=None), "baseline: row 1: field output: not a string"),
        (["text"], BASELINE, "outputs: row 0: not an object"),
        (changed(MODEL, 1, generator="other"), BASELINE, "'model' and 'other'; judge one"),
        (outputs("baseline", 1, n=3), BASELINE, "'baseline' is the baseline's name as well"),
    ],
)
def test_rows_that_do_not_fit_are_refused_in_one_line(tmp_path, model, baseline, message):
    with pytest.raises(ValueError, match=message) as error:
        annotate(model, baseline, JUDGE, work_dir=tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("probability", [math.nan, -0.1, 1.5])
def test_judges_must_return_probabilities(tmp_path, probability):
    with pytest.raises(ValueError, match="return a probability in"):
        judged(tmp_path, lambda *_: probability)


# The figures


@pytest.mark.parametrize("model", published.MODELS)
def test_published_figures_are_reproduced(model):
    """The leaderboard's length-controlled win rate is of the full GLM, and not compared."""
    figures, expected = summarize(published.annotations(model)), published.figures(model)
    for name in ("n_wins", "n_wins_base", "n_draws", "n_total", "avg_length"):
        assert figures[name] == int(expected[name])
    for name in ("win_rate", "standard_error", "discrete_win_rate"):
        assert figures[name] == pytest.approx(float(expected[name]), rel=1e-14)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("model", published.MODELS)
def test_length_controlled_win_rates_are_alpaca_evals_own(model, monkeypatch):
    """The result does not depend on the difficulties that alpaca_eval downloads."""
    import sklearn
    from alpaca_eval.metrics import glm_winrate

    annotations = published.annotations(model)
    rng = random.Random(0)
    rows = [f"{i},{rng.gauss(0, 1)},x" for i in range(len(annotations))]
    difficulties = "\n".join(["index,instruction_difficulty,model", *rows])
    monkeypatch.setattr(glm_winrate, "hf_hub_download", lambda **_: io.StringIO(difficulties))
    with sklearn.config_context():
        expected = glm_winrate.get_length_controlled_winrate(
            annotations.copy(), glm_name="length_controlled_minimal", save_weights_dir=None
        )
    figures = summarize(annotations)
    assert figures["length_controlled_winrate"] == expected["length_controlled_winrate"]
    assert figures["win_rate"] == expected["win_rate"]


def test_summary_is_plain_numbers(tmp_path):
    figures = summarize(judged(tmp_path))
    assert list(figures) == [
        "win_rate",
        "standard_error",
        "n_wins",
        "n_wins_base",
        "n_draws",
        "n_total",
        "discrete_win_rate",
        "length_controlled_winrate",
        "lc_standard_error",
        "avg_length",
    ]
    assert figures["n_total"] == 20
    assert json.loads(json.dumps(figures)) == figures


def test_summary_leaves_the_annotations_as_they_are(tmp_path):
    annotations = judged(tmp_path)
    before = annotations.copy()
    summarize(annotations)
    pd.testing.assert_frame_equal(annotations, before)


def test_without_variation_in_length_control_changes_nothing(tmp_path):
    same_length = [
        [row | {"output": f"{side}{i:02d}"} for i, row in enumerate(outputs(side, 1))]
        for side in ("m", "b")
    ]
    figures = summarize(annotate(*same_length, JUDGE, work_dir=tmp_path))
    assert figures["length_controlled_winrate"] == figures["win_rate"]


# Files and side effects


def test_annotations_are_written_in_full_precision(tmp_path):
    annotations = judged(tmp_path)
    write_annotations(annotations, tmp_path / "run" / "annotations.json")
    written = json.loads((tmp_path / "run" / "annotations.json").read_text(encoding="utf-8"))
    assert written == annotations.to_dict(orient="records")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"annotations.json", ".annotations.json.seal"}


def snapshot(folder):
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if "__pycache__" not in str(path)
    }


@pytest.mark.filterwarnings("ignore:pkg_resources:UserWarning")
def test_nothing_is_written_outside_the_work_dir(tmp_path, monkeypatch):
    """No GLM weights or results are in alpaca_eval's package, and nothing in the current folder."""
    import alpaca_eval

    import humanline

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    ours = Path(humanline.__file__).parent / "scoring" / "judges"
    packages = [Path(alpaca_eval.__file__).parent, ours]
    before = [snapshot(package) for package in packages]
    summarize(judged(Path("../work")))
    assert [snapshot(package) for package in packages] == before
    assert list(elsewhere.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "work"}


def test_a_fresh_process_stays_quiet_and_keeps_its_settings(tmp_path):
    """alpaca_eval by itself warns on import and changes the log level and scikit-learn's settings.

    It also downloads when asked for a length-controlled win rate.
    """
    code = """if True:
        import json, logging, pathlib, sys
        import sklearn
        from humanline.scoring.judge import annotate, summarize
        settings = sklearn.get_config()
        pair = json.load(sys.stdin)
        annotations = annotate(*pair, lambda *_: 0.6, work_dir=pathlib.Path(sys.argv[1]))
        summarize(annotations)
        assert logging.getLogger().level == logging.WARNING
        assert sklearn.get_config() == settings
        from alpaca_eval.metrics import glm_winrate
        from huggingface_hub import hf_hub_download
        assert glm_winrate.hf_hub_download is hf_hub_download
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        input=json.dumps([outputs("model", 1), outputs("baseline", 2)]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert all(line.startswith("Annotation chunk") for line in done.stderr.splitlines() if line)
