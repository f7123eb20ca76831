import itertools
import json
import random
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from humanline.files.validation import ConfigError
from humanline.scoring.length_control import length_controlled_win_rate
from humanline.study.experiments import Cell, Table
from humanline.tables.estimates import read_scores
from humanline.tables.headline import (
    explained,
    learning_curves,
    pass_at_1_table,
    win_rate_table,
)
from humanline.tables.run_results import scores
from humanline.tables.statistics.inference import estimate

SEEDS = (1, 2, 3)
OPTIONS = {"shares_prompts": True}
QUALITY = {
    ("offline", False): 0.0,
    ("offline", True): 0.6,
    ("online", False): 0.8,
    ("online", True): 0.9,
}


def humanline_options(on, k):
    return {"humanline": on} | (
        {"sync_interval": k, "log_eps_p": -1.5, "log_eps_r": 1.5} if on else {}
    )


def instruction_cells(objectives=("dpo", "kto", "grpo"), seeds=SEEDS):
    """The base model and the cells of the paper's table, with the quality to give each."""
    base = [(Cell(task="instruction_following", objective="base", seed=s), -0.3) for s in seeds]
    trained = [
        (
            Cell(
                task="instruction_following",
                objective=objective,
                data=data,
                sample_every=8 if data == "online" else None,
                seed=seed,
                **humanline_options(on, 4),
            ),
            quality,
        )
        for objective, ((data, on), quality), seed in itertools.product(
            objectives, QUALITY.items(), seeds
        )
    ]
    return base + trained


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_training_record(directory, cell):
    if cell.objective != "base":
        seconds = {"sample": 1.0, "train": 2.0, "total": 10.0 + cell.seed}
        write_json(directory / "train.json", {"cell": cell.model_dump(), "seconds": seconds})


def write_judged(root, cell, quality, prompts=60):
    """A run whose preferences depend on its quality, on the prompt and on the seed."""
    common, own = np.random.default_rng(5), np.random.default_rng(zlib.crc32(cell.name.encode()))
    logit = quality + common.normal(size=prompts) + 0.2 * np.sin(cell.seed)
    win = 1 / (1 + np.exp(-logit - 0.3 * own.normal(size=prompts)))
    order = own.permutation(prompts)
    directory = root / cell.name
    annotations = [
        {
            "instruction": f"prompt {i}",
            "output_1": "b" * (10 + i % 5),
            "generator_1": "reference",
            "output_2": "m" * int(own.integers(8, 20)),
            "generator_2": cell.name,
            "preference": 1 + win[i],
        }
        for i in order
    ]
    write_json(directory / "annotations.json", annotations)
    metrics = {
        "win_rate": 100 * win.mean(),
        "length_controlled_winrate": 100 * win.mean() + 0.1,
        "avg_length": 14,
    }
    write_json(directory / "metrics.json", metrics)
    write_training_record(directory, cell)
    return cell, directory


def judged_runs(root, *args, **kwargs):
    return [
        write_judged(root, cell, quality) for cell, quality in instruction_cells(*args, **kwargs)
    ]


def math_cells(seeds=SEEDS):
    """Base, online, 16x sparser and that with humanline, with the final accuracy of each."""
    rows = [("base", {}, 0.4)] + [
        ("grpo", {"data": "online", "sample_every": every, **humanline_options(on, 24)}, accuracy)
        for every, on, accuracy in [(1, False, 0.8), (16, False, 0.6), (16, True, 0.75)]
    ]
    return [
        (Cell(task="math_reasoning", objective=objective, seed=seed, **options), accuracy)
        for (objective, options, accuracy), seed in itertools.product(rows, seeds)
    ]


def write_graded(root, cell, accuracy, problems=80, steps=(16, 32), samples=2):
    """A run whose accuracy rises from 0.4 to its final one; rows are in no order."""
    rng = np.random.default_rng(zlib.crc32(cell.name.encode()))
    steps = (0,) if cell.objective == "base" else steps
    rows = [
        (step, problem, sample, int(rng.random() < 0.4 + (accuracy - 0.4) * step / 32))
        for step, problem, sample in itertools.product(steps, range(problems), range(samples))
    ]
    grades = pd.DataFrame(rows, columns=["step", "problem_id", "sample", "correct"])
    directory = root / cell.name
    directory.mkdir(parents=True)
    grades.sample(frac=1, random_state=1).to_csv(directory / "grades.csv", index=False)
    write_training_record(directory, cell)
    return cell, directory


def graded_runs(root):
    return [write_graded(root, cell, accuracy) for cell, accuracy in math_cells()]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return judged_runs(tmp_path_factory.mktemp("judged"))


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    return graded_runs(tmp_path_factory.mktemp("graded"))


@pytest.fixture(scope="module")
def instruction(judged):
    return win_rate_table(judged, **OPTIONS)


@pytest.fixture(scope="module")
def math(graded):
    return pass_at_1_table(graded, **OPTIONS)


def row(frame, **values):
    """The only row with these values."""
    for column, value in values.items():
        frame = frame[(frame[column] == value).fillna(False)]
    assert len(frame) == 1
    return frame.iloc[0]


def test_instruction_following_has_the_base_model_and_12_variants_in_order(judged, instruction):
    variants = list(dict.fromkeys(cell.variant for cell, _ in judged))
    assert list(instruction["variant"]) == variants
    assert variants[0] == "base" and len(variants) == 13
    assert (instruction["seeds"] == 3).all()
    assert list(instruction["k"].dropna()) == [4] * 6


def refitted(folder) -> float:
    """A run's length-controlled win rate in per cent, from its annotations."""
    rows = json.loads((folder / "annotations.json").read_text())
    columns = [
        [row["preference"] - 1 for row in rows],
        [len(row["output_1"]) for row in rows],
        [len(row["output_2"]) for row in rows],
    ]
    return 100 * length_controlled_win_rate(*map(np.array, columns))


def test_win_rates_are_means_over_runs_with_intervals_around_them(judged, instruction):
    for variant, group in itertools.groupby(judged, key=lambda run: run[0].variant):
        folders = [folder for _, folder in group]
        metrics = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
        own = row(instruction, variant=variant)
        assert own["win_rate"] == pytest.approx(np.mean([m["win_rate"] for m in metrics]))
        assert own["alpaca_eval_lc_win_rate"] == pytest.approx(
            np.mean([m["length_controlled_winrate"] for m in metrics])
        )
        assert own["length_controlled_win_rate"] == pytest.approx(
            np.mean([refitted(folder) for folder in folders])
        )
        assert own["mean_length"] == 14
    column = "length_controlled_win_rate"
    low, high = instruction[f"{column}_low"], instruction[f"{column}_high"]
    assert ((low < instruction[column]) & (instruction[column] < high)).all()
    assert (instruction["win_rate_se"] > 0).all()


def test_comparisons_are_with_the_same_objectives_plain_cells(judged):
    frame = win_rate_table(judged, shares_prompts=False)
    kto = {"objective": "kto", "humanline": False}
    offline, online = (row(frame, data=data, **kto) for data in ("offline", "online"))
    values = {
        data: [
            refitted(folder)
            for cell, folder in judged
            if (cell.objective, cell.data, cell.humanline) == ("kto", data, False)
        ]
        for data in ("offline", "online")
    }
    logs = np.log(values["online"]) - np.log(values["offline"])
    assert online["ratio_to_offline"] == pytest.approx(np.exp(logs.mean()))
    assert offline["ratio_to_online"] == pytest.approx(np.exp(-logs.mean()))
    expected = stats.ttest_1samp(logs, 0).confidence_interval()
    bounds = online[["ratio_to_offline_low", "ratio_to_offline_high"]]
    assert list(np.log(bounds.astype(float))) == pytest.approx(list(expected))
    expected = stats.ttest_1samp(logs, 0, alternative="greater").pvalue
    assert online["p_beats_offline"] == pytest.approx(expected)
    expected = stats.ttest_1samp(logs, 0).pvalue
    assert offline["p_differs_from_online"] == pytest.approx(expected)


def test_a_cell_has_ratio_one_to_itself_and_nothing_where_there_is_no_cell(judged, instruction):
    offline = row(instruction, objective="dpo", data="offline", humanline=False)
    assert offline["ratio_to_offline"] == 1
    assert (
        offline[["ratio_to_offline_low", "ratio_to_offline_high", "p_beats_offline"]].isna().all()
    )
    base = row(instruction, variant="base")
    assert base[["ratio_to_offline", "ratio_to_online", "training_seconds"]].isna().all()
    without = [run for run in judged if run[0].data != "online" or run[0].humanline]
    frame = win_rate_table(without, **OPTIONS)
    assert (
        frame[["ratio_to_online", "ratio_to_online_low", "p_differs_from_online"]]
        .isna()
        .all(axis=None)
    )
    assert frame.loc[1:, "ratio_to_offline"].notna().all()


def test_training_seconds_are_means_over_seeds(instruction, math):
    assert (instruction.loc[1:, "training_seconds"] == 12).all()
    assert (math.loc[1:, "training_seconds"] == 12).all()


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_tables_do_not_depend_on_the_order_of_runs(graded, math, seed):
    shuffled = random.Random(seed).sample(graded, len(graded))
    frame = pass_at_1_table(shuffled, **OPTIONS)
    assert frame["variant"][0] == "base"
    frame = frame.set_index("variant").loc[math["variant"]].reset_index()
    pd.testing.assert_frame_equal(frame[math.columns], math)


def test_one_seed_has_no_intervals_and_no_p_values(tmp_path):
    frame = win_rate_table(judged_runs(tmp_path, ("dpo",), (1,)), **OPTIONS)
    assert frame["length_controlled_win_rate"].notna().all()
    assert frame[["length_controlled_win_rate_low", "ratio_to_online_low"]].isna().all(axis=None)
    assert frame[["p_beats_offline", "p_differs_from_online"]].isna().all(axis=None)


def test_two_identical_variants_have_ratio_one_and_p_one(tmp_path):
    """The same annotations under two names."""
    runs = judged_runs(tmp_path, ("dpo",))
    folders = {(cell.data, cell.humanline, cell.seed): folder for cell, folder in runs}
    runs = [
        (cell, folders["online", False, cell.seed] if cell.data == "offline" else folder)
        for cell, folder in runs
    ]
    own = row(win_rate_table(runs, **OPTIONS), data="offline", humanline=False)
    columns = ["ratio_to_online", "ratio_to_online_low", "ratio_to_online_high"]
    assert list(own[columns]) == [1, 1, 1]
    assert own["p_differs_from_online"] == 1


def test_math_reasoning_shows_the_last_step(graded, math):
    online = row(math, sample_every=1)
    finals = []
    for _, folder in (run for run in graded if run[0].sample_every == 1):
        grades = pd.read_csv(folder / "grades.csv")
        finals.append(100 * grades.loc[grades["step"] == 32, "correct"].mean())
    assert online["pass_at_1"] == pytest.approx(np.mean(finals))
    assert online["pass_at_1_low"] < online["pass_at_1"] < online["pass_at_1_high"]
    assert list(math["steps"]) == [0, 32, 32, 32]
    assert online["difference_to_online"] == 0
    assert online[["difference_to_online_low", "p_differs_from_online"]].isna().all()


def test_math_humanline_is_compared_with_online_and_with_the_plain_run_as_sparse(math):
    sparse, humanline = (row(math, sample_every=16, humanline=on) for on in (False, True))
    online = row(math, sample_every=1)
    for own in (sparse, humanline):
        gap = own["pass_at_1"] - online["pass_at_1"]
        assert own["difference_to_online"] == pytest.approx(gap)
        assert own["difference_to_online_low"] < gap < own["difference_to_online_high"]
        assert 0 < own["p_differs_from_online"] < 1
    assert 0 < humanline["p_beats_plain"] < 0.5
    assert pd.isna(sparse["steps_to_online"]) and online["steps_to_online"] == 32
    assert np.isnan(sparse["p_beats_plain"])


def test_learning_curves_start_at_the_base_model_and_end_at_the_table(graded, math):
    curves = learning_curves(graded, **OPTIONS)
    assert list(curves.columns) == ["variant", "seed", "step", "pass_at_1", "mean", "low", "high"]
    assert len(curves) == 3 * 3 * 3
    start = curves[curves["step"] == 0].groupby("seed")["pass_at_1"]
    assert (start.nunique() == 1).all()
    base = row(math, variant="base")
    assert start.first().mean() == pytest.approx(base["pass_at_1"])
    for _, end in curves[curves["step"] == 32].iterrows():
        final = row(math, variant=end["variant"])
        columns = ["pass_at_1", "pass_at_1_low", "pass_at_1_high"]
        assert list(end[["mean", "low", "high"]]) == pytest.approx(list(final[columns]))


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replace_prompt(rows):
    rows[0]["instruction"] = "another"


def replace_all_prompts(rows):
    for row in rows:
        row["instruction"] += " of another seed"


def replace_baseline(rows):
    rows[0]["output_1"] = "another"


def remove_preference(rows):
    rows[3]["preference"] = None


def spoil_preference(rows):
    rows[3]["preference"] = 0.2


def take_anothers(rows):
    for row in rows:
        row["generator_2"] = "base-s9"


def remove_output(rows):
    for annotation in rows:
        del annotation["output_2"]


def test_each_seed_may_have_its_own_prompts(tmp_path):
    """The fault below is for two runs of one seed."""
    runs = judged_runs(tmp_path, ("dpo",), (1, 2))
    before = win_rate_table(runs, shares_prompts=False)
    for cell, directory in runs:
        if cell.seed == 2:
            edit_json(directory / "annotations.json", replace_all_prompts)
    assert win_rate_table(runs, shares_prompts=False).equals(before)


def test_a_row_with_fewer_seeds_has_intervals_and_no_p(tmp_path):
    """It is explored, and a p would pass for a verdict."""
    runs = judged_runs(tmp_path, ("dpo",), (1, 2, 3))
    dropped = ("online", True, 3)
    kept = [run for run in runs if (run[0].data, run[0].humanline, run[0].seed) != dropped]
    table = win_rate_table(kept, shares_prompts=False)
    few = row(table, data="online", humanline=True)
    assert few["seeds"] == 2 and np.isfinite(few["ratio_to_offline_low"])
    assert np.isnan(few["p_beats_offline"]) and np.isnan(few["p_differs_from_online"])
    assert row(table, data="online", humanline=False)["p_beats_offline"] < 1


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("annotations.json", replace_prompt, "instruction and output_1: not the same as in"),
        ("annotations.json", replace_baseline, "instruction and output_1: not the same as in"),
        ("annotations.json", remove_preference, "field preference: not always a number from 1"),
        ("annotations.json", spoil_preference, "field preference: not always a number from 1"),
        ("annotations.json", take_anothers, "field generator_2: 'base-s9', another run's; judge"),
        ("annotations.json", remove_output, "field output_2: missing; judge that run again"),
        ("annotations.json", list.clear, "no rows; judge that run again"),
        ("metrics.json", lambda m: m.pop("win_rate"), "field win_rate: missing or no number"),
        ("train.json", lambda t: t.pop("seconds"), "field seconds.total: missing or no number"),
    ],
)
def test_a_fault_of_a_judged_run_is_one_line(tmp_path, file, change, message):
    runs = judged_runs(tmp_path, ("dpo",), (1,))
    path = runs[-1][1] / file
    edit_json(path, change)
    with pytest.raises(ConfigError) as error:
        win_rate_table(runs, **OPTIONS)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda grades: grades[grades["problem_id"] != 3], "field problem_id: not the same as in"),
        (lambda grades: grades[grades["step"] != 16], "field step: not the same as in"),
        (
            lambda grades: grades[(grades["step"] != 16) | (grades["problem_id"] != 3)],
            "field problem_id: problems differ between steps",
        ),
        (lambda grades: grades.drop(columns="correct"), "field correct: missing"),
        (lambda grades: grades.assign(correct=2), "field correct: not always 0 or 1"),
        (lambda grades: grades.assign(correct=float("nan")), "row 0: field correct: nan is no"),
        (lambda grades: grades.assign(step="x"), "row 0: field step: x is no number from 0"),
        (lambda grades: grades.assign(outcome="maybe"), "field outcome: maybe is no outcome of"),
        (
            lambda grades: grades.assign(outcome="correct"),
            "field outcome: correct is no outcome of",
        ),
        (lambda grades: grades.head(0), "no rows"),
        (lambda grades: pd.DataFrame(), "cannot be read"),
    ],
)
def test_a_fault_of_a_graded_run_is_one_line(tmp_path, change, message):
    runs = graded_runs(tmp_path)
    path = runs[-1][1] / "grades.csv"
    text = change(pd.read_csv(path)).to_csv(index=False)
    path.write_text(text.strip())
    with pytest.raises(ConfigError) as error:
        pass_at_1_table(runs, **OPTIONS)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_gradings_that_ran_out_of_time_are_counted(tmp_path):
    runs = graded_runs(tmp_path)
    assert not pass_at_1_table(runs, **OPTIONS)["timed_out"].any()  # no outcomes, as before
    cell, directory = runs[-1]
    grades = pd.read_csv(directory / "grades.csv")
    grades["outcome"] = np.where(grades["correct"] == 1, "correct", "wrong")
    late = grades.index[grades["correct"] == 0][:3]
    grades.loc[late, "outcome"] = "timed_out"
    grades.to_csv(directory / "grades.csv", index=False)
    table = pass_at_1_table(runs, **OPTIONS)
    assert row(table, variant=cell.variant)["timed_out"] == 3
    assert table["timed_out"].sum() == 3


def leave_out(directory, number):
    """Take the judge's verdict away from a prompt."""
    table = pd.read_json(directory / "annotations.json", dtype={"preference": float})
    table.loc[table["instruction"] == f"prompt {number}", "preference"] = None
    kept = table["preference"].dropna()
    rows = table.astype(object).where(table.notna(), None)
    write_json(directory / "annotations.json", rows.to_dict("records"))
    metrics = json.loads((directory / "metrics.json").read_text())
    metrics |= {"win_rate": 100 * (kept.mean() - 1), "n_left_out": len(table) - len(kept)}
    write_json(directory / "metrics.json", metrics)


def test_pairs_without_a_verdict_are_left_out_of_their_run_alone_and_counted(tmp_path):
    runs = judged_runs(tmp_path, ("dpo",), (1, 2))
    whole = win_rate_table(runs, **OPTIONS)
    changed = runs[-1]
    leave_out(changed[1], 3), leave_out(changed[1], 7)
    table = win_rate_table(runs, **OPTIONS)
    others = table["variant"] != changed[0].variant
    figures = ["win_rate", "length_controlled_win_rate", "length_controlled_win_rate_se"]
    pd.testing.assert_frame_equal(table.loc[others, figures], whole.loc[others, figures])
    own = row(table, variant=changed[0].variant)
    assert own["left_out"] == 2 and not table.loc[others, "left_out"].any()
    before = row(whole, variant=changed[0].variant)
    assert 0 < abs(own["win_rate"] - before["win_rate"]) < 5
    assert 0 < abs(own[figures[1]] - before[figures[1]]) < 5
    assert np.isfinite(own[["win_rate_se", "ratio_to_offline"]].astype(float)).all()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("metrics.json", {"win_rate": float("nan")}, "holds NaN"),
        ("metrics.json", {"win_rate": 101}, "field win_rate: 101 is not from 0 to 100"),
        ("metrics.json", {"avg_length": True}, "field avg_length: missing or no number"),
        ("metrics.json", {"n_left_out": 4}, "0 are null, but metrics.json says 4"),
        ("train.json", {"seconds": {"total": float("inf")}}, "holds Infinity"),
    ],
)
def test_numbers_of_a_judged_run_are_finite_and_in_range(tmp_path, file, change, message):
    runs = judged_runs(tmp_path, ("dpo",), (1,))
    edit_json(runs[-1][1] / file, lambda content: content.update(change))
    with pytest.raises(ConfigError, match=message):
        win_rate_table(runs, **OPTIONS)


@pytest.mark.parametrize("text", ["0,nan", "0,101.5", "0,inf", "x,50", "-1,50"])
def test_numbers_of_a_curve_are_finite_and_in_range(tmp_path, text):
    cell, _ = instruction_cells(("dpo",), (1,))[0]
    path = tmp_path / "curve.csv"
    path.write_text(f"step,length_controlled_win_rate\n{text}\n")
    with pytest.raises(
        ConfigError, match=f"{path}: row 0: field (step|length_controlled_win_rate)"
    ):
        scores(cell, tmp_path)


@pytest.mark.parametrize("file", ["annotations.json", "metrics.json", "train.json"])
def test_a_missing_file_is_named(tmp_path, file):
    runs = judged_runs(tmp_path, ("dpo",), (1,))
    path = runs[-1][1] / file
    path.unlink()
    with pytest.raises(ConfigError, match=f"{path}: cannot be read"):
        win_rate_table(runs, **OPTIONS)


@pytest.mark.parametrize("table", [win_rate_table, pass_at_1_table])
def test_a_table_of_no_runs_is_refused(table):
    with pytest.raises(ConfigError, match="no runs to compare"):
        table([], **OPTIONS)


def test_rows_of_different_seeds_are_compared_on_those_that_both_have(judged, instruction):
    """The last row lacks a seed: only its own figures change, and plain runs keep all of theirs."""
    frame = win_rate_table(judged[:-1], **OPTIONS)
    assert list(frame["seeds"]) == [3] * 12 + [2]
    pd.testing.assert_frame_equal(frame[:-1], instruction[:-1])
    runs = of_cell(judged, objective="grpo", humanline=False, data="offline")
    own = [refitted(folder) for _, folder in judged[-3:-1]]
    logs = np.log(own) - np.log([refitted(folder) for _, folder in runs[:2]])
    assert frame["ratio_to_offline"].iloc[-1] == pytest.approx(np.exp(logs.mean()))


@pytest.mark.parametrize(
    ("task", "view"),
    [
        ("instruction_following", "headline"),
        ("math_reasoning", "headline"),
        ("math_reasoning", "sweep"),
    ],
)
def test_captions_say_scale_seeds_and_how_uncertainty_was_measured(task, view):
    row = {"objective": "grpo", "data": "online"}
    spec = Table(task=task, view=view, description="What it shows.", cells=[row])
    values = {"scale": "smoke", "seeds": 3, "collapse_below": 0.5}
    caption, notes = explained(spec, shares_prompts=False, **values)
    assert caption.startswith("What it shows. ") and caption.count(". ") <= 2
    text = " ".join([caption, *notes])
    for part in ("smoke", "Seeds: 3", "t intervals", "t-tests", "per cent", "prompts of its own"):
        assert part in text
    assert "{" not in text
    _, notes = explained(spec, shares_prompts=True, **values)
    assert "all seeds share their evaluation prompts" in " ".join(notes)
    braces = spec.model_copy(update={"description": "Uses {scale}.\n\nRates in {1e-3, 1e-4}. "})
    caption, (first, *_) = explained(braces, shares_prompts=True, **values)
    assert caption.startswith("Uses {scale}. ") and first == "Rates in {1e-3, 1e-4}."


def of_cell(runs, **fields):
    """The runs of the only cell with these fields."""
    return [run for run in runs if all(getattr(run[0], k) == v for k, v in fields.items())]


def test_scores_by_seed_are_in_order_and_are_the_runs_own(judged):
    runs = of_cell(judged, objective="kto", data="online", humanline=False)
    found = read_scores(runs[::-1], shares_prompts=False)
    assert found.seeds == SEEDS and found.left_out is None
    assert found.values == pytest.approx([refitted(folder) for _, folder in runs])
    assert found.floor == pytest.approx(50 / 60)  # half a prompt of 60


def test_scores_on_shared_prompts_have_the_jackknife_of_their_prompts(judged, graded):
    """With as many groups as prompts, pseudo-values of a mean are the prompts' own values."""
    runs = of_cell(judged, objective="kto", data="online", humanline=False)
    assert read_scores(runs, shares_prompts=True).left_out.shape == (3, 60)
    runs = of_cell(graded, sample_every=1)
    pseudo = read_scores(runs, shares_prompts=True).itself.pseudo
    assert pseudo.shape == (3, 64)  # 80 problems in 64 groups
    grades = pd.read_csv(runs[0][1] / "grades.csv")
    share = grades[grades["step"] == 32].groupby("problem_id")["correct"].mean()
    assert pseudo[0].mean() == pytest.approx(100 * share.mean(), abs=0.5)


def test_other_measures_are_the_curves_mean_and_the_seconds(graded):
    runs = of_cell(graded, sample_every=1)
    grades = [pd.read_csv(folder / "grades.csv").groupby("step")["correct"].mean()
              for _, folder in runs]  # fmt: skip
    found = read_scores(runs, "curve_mean", shares_prompts=True)
    assert found.values == pytest.approx([100 * own[[16, 32]].mean() for own in grades])
    assert found.left_out.shape == (3, 64)
    assert list(read_scores(runs, "training_seconds", shares_prompts=True).values) == [11, 12, 13]
    base = of_cell(graded, objective="base")
    assert np.isnan(read_scores(base, "curve_mean", shares_prompts=False).values).all()
    assert np.isnan(read_scores(base, "training_seconds", shares_prompts=False).values).all()


def test_a_judged_runs_curve_has_a_mean_and_no_known_variance_of_shared_prompts(tmp_path):
    runs = judged_runs(tmp_path, ("dpo",), (1, 2))
    runs = of_cell(runs, data="online", humanline=False)
    for (_, folder), last in zip(runs, (40, 60), strict=True):
        rows = "step,length_controlled_win_rate\n0,10\n8,30\n16," + str(last)
        (folder / "curve.csv").write_text(rows)
    assert list(read_scores(runs, "curve_mean", shares_prompts=False).values) == [35, 45]
    found = estimate(read_scores(runs, "curve_mean", shares_prompts=True).itself)
    assert found.value == 40 and np.isnan(found.low)
