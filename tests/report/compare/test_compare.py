"""`humanline compare`: what it finds in result folders, what it writes, and its exit status."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from humanline.cli.commands import main

CELLS = ["base", "dpo-offline", "dpo-online-every8", "kto-offline", "kto-online-every8"]
SEEDS = [21, 22, 23, 24, 25]
TASK = "instruction_following"


def scores(noise: float = 0.0) -> pd.DataFrame:
    """A score per run; noise is a rerun's, in standard deviations over seeds."""
    rng, other = np.random.default_rng(1), np.random.default_rng(2)
    rows = [
        {"task": TASK, "variant": cell, "seed": seed, "step": 128, "n_prompts": 1024}
        | {"score": 40 + 5 * i + 1.5 * (rng.normal() + noise * other.normal())}
        for i, cell in enumerate(CELLS)
        for seed in SEEDS
    ]
    return pd.DataFrame(rows)


def write(folder, runs: pd.DataFrame, verdict="supported", rate=5e-4, processor="one", **changes):
    """Write the files of a scale's results that a comparison reads."""
    tables = folder / "tables"
    tables.mkdir(parents=True)
    runs.to_csv(tables / "scores.csv", index=False)
    wide = runs.pivot(index="seed", columns="variant", values="score")
    rows, mean, error = [], wide.mean(), wide.std() / np.sqrt(len(wide))
    for cell in wide:
        row = {"objective": cell[:3], "k": None, "learning_rate": rate, "seeds": len(wide)}
        row |= {"score": mean[cell], "score_se": error[cell], "score_low": mean[cell] - 2}
        row |= {"score_high": mean[cell] + 2, "training_seconds": 9.0, "variant": cell}
        rows.append(row)
    pd.DataFrame(rows).to_csv(tables / "ablation.csv", index=False)
    ratio = np.log(wide["dpo-online-every8"] / wide["dpo-offline"])
    half = 2.776 * ratio.std() / np.sqrt(len(wide))
    row = {"claim": "C1", "point": None, "asked": "online beats offline", "comparison": "a / b > 1"}
    row |= {"measure": "score", "compare": "ratio", "seeds": len(wide)}
    row |= dict(
        zip(
            ["estimate", "estimate_low", "estimate_high"],
            np.exp([ratio.mean(), ratio.mean() - half, ratio.mean() + half]),
            strict=True,
        )
    )
    pd.DataFrame([row]).to_csv(tables / "comparisons.csv", index=False)
    claims = [{"claim": "C1", "verdict": verdict}, {"claim": "C9", "verdict": "exploratory"}]
    pd.DataFrame(claims).to_csv(tables / "claims.csv", index=False)
    record = {"scale": "laptop", "config_hash": "ab12", "seeds": {"report": SEEDS}}
    record |= {"git": {"commit": "c0ffee" * 6 + "abcd", "modified": False}}
    record |= {"packages": {"torch": "2.13.0"}, "machine": {"processor": processor}}
    record |= {"runs": {f"dpo-offline-s{seed}": {"learning_rate": rate} for seed in SEEDS}}
    (tables / "ablation.provenance.json").write_text(json.dumps(record | changes))


def text_of(page: str) -> str:
    """The words of a page, without its style and script."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", body)).split())


@pytest.fixture
def compare(tmp_path, monkeypatch, capsys):
    """Compare two folders; return status, output, the page and the rows of the CSV file."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "results/reference/laptop", scores())

    def call(*arguments):
        status = main(["compare", *map(str, arguments)])
        out, err = capsys.readouterr()
        folder = tmp_path / "results/laptop/comparison"
        page = text_of((folder / "index.html").read_text()) if status < 2 else ""
        rows = pd.read_csv(folder / "comparison.csv") if status < 2 else None
        return status, out + err, page, rows

    return call


def test_a_rerun_with_equal_numbers_agrees_exactly(compare, tmp_path):
    write(tmp_path / "results/laptop", scores())
    status, out, page, rows = compare("laptop")
    assert status == 0 and out.endswith("They agree: all numbers are equal.\n")
    assert set(rows["status"]) == {"equal"}
    assert rows["kind"].value_counts().to_dict() == {
        "run": 25, "cell": 5, "task": 1, "number": 5, "comparison": 1, "verdict": 2, "time": 5,
        "exact": 53
    }  # fmt: skip
    assert "Nothing is known to differ" in page
    # The folder itself, its tables, and the reference that is named are the same sides.
    names = ["results/laptop", "results/laptop/tables", tmp_path / "results/laptop"]
    assert [compare(name, "results/reference/laptop")[0] for name in names] == [0, 0, 0]


def test_another_machine_agrees_within_the_usual_spread(compare, tmp_path):
    write(tmp_path / "results/laptop", scores(noise=0.1), processor="another")
    status, out, page, rows = compare("results/laptop")
    assert status == 0 and "no number differs by more than chance" in out.splitlines()[-1]
    assert set(rows.loc[rows["kind"] == "cell", "status"]) == {"within"}
    assert "processor another one" in page and "would be found" in page


@pytest.mark.parametrize("seeds", [SEEDS, SEEDS[:1]])
def test_a_fault_in_a_cell_or_a_run_is_found_and_named(compare, tmp_path, seeds):
    runs = scores(noise=0.1)
    broken = (runs["variant"] == "kto-offline") & runs["seed"].isin(seeds)
    write(tmp_path / "results/laptop", runs.assign(score=runs["score"] + 30 * broken))
    status, out, page, rows = compare("laptop")
    assert status == 1 and "They differ" in out and "look for a fault" in out
    differing = rows[rows["status"] == "differs"]
    assert differing["row"].str.contains("kto-offline").all() and len(differing)
    assert set(differing["kind"]) >= ({"cell", "number"} if len(seeds) > 1 else {"run"})
    assert "kto-offline" in page.partition("p, corrected")[2].partition("What one side lacks")[0]


def test_a_difference_in_how_they_were_made_is_named_as_the_cause(compare, tmp_path):
    runs = scores()
    moved = runs.assign(score=runs["score"] + 30 * (runs["variant"] == "dpo-offline"))
    changed = {"packages": {"torch": "2.14.0"}, "config_hash": "cd34"}
    write(tmp_path / "results/laptop", moved, rate=1e-3, **changed)
    status, out, page, _ = compare("laptop")
    assert status == 1 and "which may be why" in out
    for what in (
        "learning rate: dpo-offline",
        "package: torch",
        "configuration of tables: ablation",
    ):
        assert what in page


def test_words_for_people_are_no_numbers(compare, tmp_path):
    write(tmp_path / "results/laptop", scores())
    path = tmp_path / "results/laptop/tables/comparisons.csv"
    pd.read_csv(path).assign(point="synced every 12 steps").to_csv(path, index=False)
    status, out, _, _ = compare("laptop")
    assert status == 0 and out.endswith("They agree: all numbers are equal.\n")


def test_tables_that_do_not_follow_from_equal_runs_differ(compare, tmp_path):
    write(tmp_path / "results/laptop", scores())
    path = tmp_path / "results/laptop/tables/ablation.csv"
    table = pd.read_csv(path)
    table["score"] += 1e-4
    table.to_csv(path, index=False)
    status, _, _, rows = compare("laptop")
    assert status == 1 and set(rows.loc[rows["status"] == "differs", "where"]) == {"ablation"}


def test_one_run_that_is_not_equal_is_named_however_small_its_difference(compare, tmp_path):
    runs = scores()
    runs.loc[3, "score"] += 0.01
    write(tmp_path / "results/laptop", runs)
    status, out, page, _ = compare("laptop")
    told = (
        f"24 of 25 runs are equal, as on one machine, so look why the others are not: {TASK} base"
    )
    assert status == 0 and told in out and told in page


@pytest.mark.parametrize(
    ("verdict", "status", "told"),
    [("undecided", 0, "(undecided on one side)"), ("contradicted", 1, "opposite contradicted")],
)
def test_only_opposite_verdicts_differ(compare, tmp_path, verdict, status, told):
    write(tmp_path / "results/laptop", scores(noise=0.01), verdict=verdict)
    found, _, page, _ = compare("laptop")
    assert found == status and told in page


def test_what_one_side_lacks_is_listed_and_the_rest_is_compared(compare, tmp_path):
    runs = scores()
    write(tmp_path / "results/laptop", runs[~runs["variant"].str.startswith("kto")])
    status, out, page, rows = compare("laptop")
    assert (
        status == 0
        and "They agree in what both have: all numbers that were compared are equal; only B" in out
    )
    told = "rows of ablation: kto-offline, kto-online-every8"
    assert f"only B has: cells: {TASK} kto-offline, {TASK} kto-online-every8; {told}." in out
    assert f"Only in B, {told}" in page
    assert (rows["status"] == "only in B").sum() == 4  # two cells, and their rows of the table
    # A column, and all but one table.
    tables = tmp_path / "results/laptop/tables"
    pd.read_csv(tables / "ablation.csv").drop(columns="score").to_csv(tables / "ablation.csv")
    out = compare("laptop")[1]
    assert "only A" not in out and "columns of ablation: score;" in out
    for path in tables.glob("c*.csv"):
        path.unlink()
    status, out, page, _ = compare("laptop")
    assert status == 0 and "tables: claims, comparisons" in out
    assert "Only in B, tables: claims, comparisons" in page
    # Some runs of cells that both sides have.
    runs[runs["seed"] < 25].to_csv(tables / "scores.csv", index=False)
    assert "5 runs" in compare("laptop")[1]
    runs[1:].to_csv(tables / "scores.csv", index=False)
    assert f"runs: {TASK} base s21" in compare("laptop")[1]


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("ablation", "score_low"),
        ("ablation", "score_se"),
        ("ablation", "collapsed"),
        ("comparisons", "estimate_high"),
        ("comparisons", "p_sequence"),
        ("claims", "p"),
        ("scores", "curve_mean"),
        ("math_curves", "mean"),
        ("math_curves", "seed"),
        ("power", "power"),
    ],
)
def test_whatever_follows_from_equal_runs_must_be_equal(compare, tmp_path, file, column):
    write(tmp_path / "results/laptop", scores())
    for place in ("laptop", "reference/laptop"):
        tables = tmp_path / "results" / place / "tables"
        for name, columns in (
            ("ablation", {"collapsed": 0}),
            ("comparisons", {"p_sequence": 0.1}),
            ("claims", {"p": 0.1}),
            ("scores", {"curve_mean": 40.0}),
        ):
            path = tables / f"{name}.csv"
            pd.read_csv(path).assign(**columns).to_csv(path, index=False)
        curves = pd.DataFrame({"variant": CELLS, "seed": 21, "step": 8, "mean": 40.0})
        curves.to_csv(tables / "math_curves.csv", index=False)
        power = pd.DataFrame({"claim": ["C1"], "comparison": "a / b > 1", "power": 0.9})
        power.to_csv(tables / "power.csv", index=False)
    path = tmp_path / "results/laptop/tables" / f"{file}.csv"
    table = pd.read_csv(path)
    table.loc[0, column] = 99
    table.to_csv(path, index=False)
    status, out, page, rows = compare("laptop")
    told = "They differ: all runs are equal, but what follows is not: 1 number differs."
    assert status == 1 and told in out and told in page
    differing = rows[rows["status"] == "differs"]
    column = column.replace("seed", "rows that the other side has not")
    assert list(zip(differing["where"], differing["column"], strict=True)) == [(file, column)]


def test_other_seeds_are_compared_by_their_means(compare, tmp_path):
    runs = scores()
    write(tmp_path / "results/laptop", runs.assign(seed=runs["seed"] + 100))
    status, _, page, rows = compare("laptop")
    assert status == 0 and "a run differs from its rerun" not in page
    assert rows["kind"].value_counts().to_dict() == {
        "cell": 5, "number": 5, "comparison": 1, "verdict": 2, "time": 5
    }  # fmt: skip


def test_results_of_an_earlier_version_are_compared_by_their_tables(compare, tmp_path):
    write(tmp_path / "results/laptop", scores(noise=0.1))
    old = tmp_path / "results/reference/laptop/tables"
    (old / "scores.csv").unlink()
    (old / "comparisons.csv").unlink()
    (old / "claims.csv").rename(old / "verdicts.csv")
    pd.DataFrame({"claim": ["C1", "C1"], "verdict": ["a", "b"]}).to_csv(old / "claims.csv")
    status, _, page, rows = compare("laptop")
    assert status == 0 and " Cells " not in page
    assert rows["kind"].value_counts().to_dict() == {"number": 7, "time": 5, "verdict": 2}
    assert "only A has: tables: comparisons, scores" in page


def test_commits_are_read_without_changing_the_clone(compare, tmp_path):
    write(tmp_path / "results/laptop", scores())
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "results/reference"], ["commit", "-qm", "reference"]):
        subprocess.run([*git, *words], check=True)
    shutil.rmtree(tmp_path / "results/reference")
    assert compare("laptop", "HEAD")[0] == 0
    assert compare("HEAD", "HEAD")[0] == 0
    status, out, _, _ = compare("HEAD", "laptop~1")
    assert status == 2 and out.count("\n") == 1 and "no commit" in out
    assert not (tmp_path / "results/reference").exists()


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("scores.csv", "task,variant,seed\n", "field score"),
        ("scores.csv", "task,variant,seed,score\n", "has no runs"),
        ("scores.csv", "task,variant,seed,score\na,b,1,\n", "field score: 'nan' is no number"),
        ("comparisons.csv", "claim,comparison,compare,measure,seeds,estimate\n", "estimate_low"),
        ("claims.csv", "claim,verdict\nC1,a\nC1,a\n", "line 3: C1 is there twice"),
        ("scores.csv", "task,variant,seed,score\na,b,1,x\n", "line 2: field score: 'x'"),
        (
            "scores.csv",
            "task,variant,seed,score\na,b,1,1\na,b,1,2\n",
            "line 3: a b 1 is there",
        ),
        ("ablation.csv", "", "cannot be read"),
        ("ablation.provenance.json", "[1]", "not an object"),
        ("ablation.provenance.json", '{"scale": "smoke"}', "laptop is of the scale smoke"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_status_2(compare, tmp_path, file, text, told):
    write(tmp_path / "results/laptop", scores())
    (tmp_path / "results/laptop/tables" / file).write_text(text)
    status, out, _, _ = compare("laptop", "results/reference/laptop")
    assert status == 2 and out.count("\n") == 1 and told in out


def test_a_side_that_is_not_there_is_one_line(compare, tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "results/own", scores(), scale="own")
    for name, told in (
        ("empty", "has no tables"),
        ("nothing", "no commit"),
        ("own", "no reference results/reference/own"),
        ("", "the name of a side is empty"),
    ):
        status, out, _, _ = compare(name)
        assert status == 2 and out.count("\n") == 1 and told in out
    (tmp_path / "file").touch()
    status, out, _, _ = compare("reference/laptop", "reference/laptop", "--output", "file/there")
    assert status == 2 and out.count("\n") == 1 and "cannot be written" in out


def test_one_seed_without_intervals_cannot_be_compared(compare, tmp_path):
    for place, noise in (("laptop", 0.1), ("reference/other", 0)):
        folder = tmp_path / "results" / place
        write(folder, scores(noise)[lambda runs: runs["seed"] == 21])
        for name in ("ablation.csv", "comparisons.csv", "claims.csv"):
            (folder / "tables" / name).unlink()
    status, out, _, _ = compare("laptop", "results/reference/other")
    assert status == 2 and "run two seeds or more" in out
