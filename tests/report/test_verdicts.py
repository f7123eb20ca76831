"""The page's first screen: its sentence fits every outcome, and its plots show what they say."""

import json
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from made_results import CONFIG, write_claims, write_scores, write_training

from humanline.files.validation import ConfigError
from humanline.report.page import origin, verdicts
from humanline.report.page.dots import WIDTH, Dot, Span, axis_below, overview, row_dot, span_of
from humanline.report.page.page import PARTS, render
from humanline.study.scale.models import HubModel
from humanline.study.study import Study, load_study

KINDS = Path(__file__).parents[1] / "workflow"  # a claim of every kind of comparison
LEVELS = {"dpo-online": 60, "kto-online": 55, "grpo-online": 70}  # others 40


def level(run) -> float:
    return LEVELS.get(f"{run.cell.objective}-{run.cell.data}", 40)


@pytest.fixture
def study(tmp_path) -> Study:
    """A study of few claims on four seeds, with what its runs and claims leave behind."""
    config = tmp_path / "config"
    config.mkdir()
    for name in ("experiments.yaml", "claims.yaml"):
        shutil.copy(KINDS / name, config)
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    scale["seeds"] = {"report": [1, 2, 3, 5], "sweep": [1, 2, 3], "tune": [101]}
    (config / "smoke.yaml").write_text(yaml.safe_dump(scale))
    study = load_study(config / "smoke.yaml", config / "experiments.yaml", tmp_path)
    request = study.page_request(config)
    for run in request.runs:
        write_training(run)
    write_scores(request)
    write_claims(request.claims, level)
    return study


def context(study: Study) -> dict:
    return verdicts.context(study.page_request(CONFIG))


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({}, "No claim of this scale is primary, so none has a verdict."),
        ({"C1": "supported"}, "The one primary claim, C1, holds at this scale."),
        ({"C1": "contradicted"}, "The one primary claim, C1, does not hold at this scale."),
        ({"C1": "undecided"}, "The one primary claim, C1, is undecided at this scale."),
        (dict.fromkeys("AB", "supported"), "All 2 primary claims hold at this scale."),
        (dict.fromkeys("AB", "contradicted"), "None of the 2 primary claims holds at this scale."),
        (
            dict.fromkeys("AB", "undecided"),
            "None of the 2 primary claims is decided at this scale.",
        ),
        (
            {"A": "supported", "B": "contradicted", "C": "supported", "D": "undecided"},
            "Of 4 primary claims, 2 hold (A and C), 1 does not hold (B) and 1 is undecided (D).",
        ),
    ],
)
def test_the_sentence_fits_every_outcome(told, sentence):
    assert verdicts.takeaway(told, []) == sentence


def test_the_sentence_says_what_humanline_gained_where_a_primary_claim_tells(study):
    """The claims of this repository's own studies; none of those of the tests compares the two."""
    assert "humanline" not in context(study)["takeaway"]
    own = load_study(
        study.root / "config/smoke.yaml", CONFIG / "experiments.yaml", study.root / "own"
    )
    asked = own.claims_request()
    write_claims(asked, lambda run: 60 if run.cell.humanline else 40)
    _, compared = verdicts._read(asked, asked.paths.tables)
    told = re.fullmatch(
        r"in C2, offline training with humanline scores (.*) \(DPO\), .* \(KTO\) and .* \(GRPO\)"
        " times as much as without",
        verdicts._gained(compared),
    )
    assert told and float(told[1]) == pytest.approx(1.5, rel=0.2)
    # An estimate that is not known, or of one seed, is no news.
    own = next(own for own in compared if verdicts._is_gain(own.comparison))
    for column in ("estimate", "estimate_low"):
        unknown = own._replace(row=own.row | {column: math.nan})
        assert verdicts._gained([unknown if o is own else o for o in compared]) == ""


def test_every_claim_has_its_verdict_estimates_and_what_it_is_about(study):
    found = context(study)
    first, second = found["primary"]
    assert (first["id"], first["word"], first["verdict"]) == ("C1", "yes", "supported")
    assert first["hold"] == "4 of 4 hold"
    assert first["about"] == (
        "instruction following; length-controlled win rate; the usual base model; 4 seeds"
    )
    (plot,) = first["plots"]
    assert [row["words"] for row in plot["rows"]][:2] == [
        "mean: online beats offline",
        "DPO: online beats offline",
    ]
    assert [row["paper"] for row in plot["rows"]][1] == "1.4 (notes)"
    assert all(re.fullmatch(r"\d\.\d\dx \[.+, .+\]", row["estimate"]) for row in plot["rows"])
    assert {row["result"] for row in plot["rows"]} == {"yes"}
    # Differences and ratios have axes of their own.
    assert [len(plot["rows"]) for plot in second["plots"]] == [2, 1]
    (secondary,) = found["explored"]
    assert secondary["id"] == "C4" and secondary["word"] == ""
    assert found["dropped"] == study.claims.dropped
    assert [row["result"] for plot in secondary["plots"] for row in plot["rows"]] == [
        "4 seeds",
        "3 seeds",
    ]


def test_a_no_says_whether_the_opposite_was_shown():
    rows = [
        {"role": "all", "result": "no", "is_opposite": True},
        {"role": "all", "result": "open", "is_opposite": False},
    ]
    assert verdicts.verdict_words("contradicted", rows) == "no, the opposite"
    rows[1]["result"] = "no"
    assert verdicts.verdict_words("contradicted", rows) == "no"
    rows[1]["role"] = "point"  # a claim about a mean is not about its points
    assert verdicts.verdict_words("contradicted", rows) == "no, the opposite"
    rows.append({"role": "all", "result": "yes", "is_opposite": False})
    assert verdicts.verdict_words("contradicted", rows) == "no"
    assert verdicts.verdict_words("undecided", rows) == "open"


def test_it_says_what_was_run_and_what_is_missing(study):
    asked = study.page_request(CONFIG)
    found = origin.facts(asked)
    assert "llama, 1 layer of width 32" in found["Models"]
    assert found["Seeds"] == "3 to 4 a cell, of 1 to 3 and 5"
    assert found["Commit"] == "0123456" and found["Machine"] == "a processor, 2 cores"
    assert found["Versions"] == "trl 1.16.0"
    folder = study.paths.benchmarks / "train" / "task"
    folder.mkdir(parents=True)
    for number, seconds in enumerate(["3600.5", "7200", "-"]):
        (folder / f"{number}.tsv").write_text(f"s\th:m:s\n{seconds}\t-\n")
    assert origin.facts(asked)["Hours"].endswith("; 3.0 hours of jobs in all (3 jobs, added up)")
    assert set(origin.missing(asked)) == {"no pilot", "no registration"}
    has_pilot = replace(asked.claims, has_pilot=True, pilot_changes="measured on another")
    assert (
        "measured on another" in origin.missing(replace(asked, claims=has_pilot))["earlier pilot"]
    )
    assert origin.missing(replace(asked, claims=None)) == {}


def test_each_fault_of_the_runs_has_a_badge(study):
    asked = study.page_request(CONFIG)
    trained = [run.paths.record for run in asked.claims.runs if run.is_trained]
    one, two, three = trained[:3]

    def change(path, **parts):
        record = json.loads(path.read_text())
        record["provenance"] |= parts
        path.write_text(json.dumps(record))

    change(one, git={"commit": "f" * 40, "modified": True}, packages={"trl": "1.17.0"})
    change(two, git={"commit": None, "modified": None}, machine={})
    change(three, machine={"processor": "another", "cores": 1})
    os.utime(one, (0, 0))
    folder = HubModel(kind="hub", repo=str(study.root), revision=None)
    found = origin.missing(replace(asked, runs=[*asked.runs, replace(asked.runs[0], model=folder)]))
    assert set(found) - {"no pilot", "no registration"} == {
        "commit unknown",
        "modified code",
        "several commits",
        "machine unknown",
        "several machines",
        "several versions",
        "registered late",
        "local model",
    }
    assert found["modified code"].startswith("1 of ")
    assert "fffffff" in found["several commits"] and "0123456" in found["several commits"]
    assert "another, 1 core" in found["several machines"]
    assert "trl 1.16.0 and 1.17.0" in found["several versions"]
    assert found["registered late"].startswith("C1, C4 and C5 got their")


def test_the_first_screen_is_html_with_and_without_claims(study):
    asked, parts = study.page_request(CONFIG), PARTS[:1]
    page = render(replace(asked), parts)
    section = page[page.index('<section id="verdicts"') : page.index("</section>")]
    assert page.index('id="claim-C1"') < page.index('id="claim-C5"') < page.index('id="claim-C4"')
    assert "nan" not in section and "None" not in section.replace("None of", "")
    assert section.count('<svg class="dots"') == 2 + 3 + 4 + 1 + 3 + 2 + 2 + 1
    links = set(re.findall(r'href="#(run-[^"]+)"', section))
    assert "run-instruction_following/grpo-offline" in links
    without = render(replace(asked, claims=None), parts)
    assert "No claims at this scale" in without and "<svg" not in without


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("claims.csv", lambda text: text.replace("supported", "maybe"), "field verdict: C1"),
        ("claims.csv", lambda text: text.replace("verdict", "word", 1), "field verdict: missing"),
        ("comparisons.csv", lambda text: text.replace("> 1", "> 2"), "field comparison: not those"),
        ("comparisons.csv", lambda text: text.splitlines()[0], "no rows"),
    ],
)
def test_a_damaged_table_is_one_clear_line(study, name, damage, said):
    path = study.paths.tables / name
    path.write_text(damage(path.read_text()))
    with pytest.raises(ConfigError) as raised:
        context(study)
    assert str(raised.value).startswith(f"{path}: ") and said in str(raised.value)
    assert verdicts.AGAIN in str(raised.value) and "\n" not in str(raised.value)


# Dot plots.


def test_a_row_says_and_shows_its_numbers():
    dot = Dot("<DPO>", 1.25, 1.0, 2.0, paper=1.4, claimed=(1.1, math.inf))
    svg = row_dot(dot, Span(0.5, 2.0, 1.0, logarithmic=True))
    label = "&lt;DPO&gt;: 1.25, 95 % interval 1 to 2; the paper&#39;s figure 1.4"
    assert f'role="img" aria-label="{label}"' in svg
    span = Span(0.5, 2.0, 1.0, logarithmic=True)
    assert span.place(1.0) == pytest.approx(WIDTH / 2)
    assert f'<circle cx="{span.place(1.25):.1f}"' in svg
    assert f'class="paper" d="M{span.place(1.4) - 7:.1f}' in svg
    assert f'class="claimed" d="M{span.place(1.1):.1f} 0H{WIDTH}.0' in svg


def test_an_overview_has_all_estimates_at_the_places_of_their_rows():
    span = Span(0.5, 2.0, 1.0, logarithmic=True)
    dots = [Dot("a", 1.25, 1.0, 1.5, paper=1.4), Dot("b", 0.75, 0.6, 0.9)]
    svg = overview(dots, span)
    assert f'aria-label="{dots[0].words.replace(chr(39), "&#39;")}; {dots[1].words}"' in svg
    assert re.findall(r'circle cx="([\d.]+)"', svg) == [f"{span.place(d.value):.1f}" for d in dots]
    assert svg.count('class="paper"') == 1 and svg.count('class="tick"') == len(span.ticks)


def test_what_is_not_known_or_beyond_the_axis_is_drawn_as_such():
    unknown = row_dot(Dot("a", math.nan, math.nan, math.nan), Span(0, 1))
    assert "not known" in unknown and "circle" not in unknown and "interval" not in unknown
    without = row_dot(Dot("a", 0.5, math.nan, math.nan), Span(0, 1))
    assert "circle" in without and 'class="interval"' not in without
    arrow = row_dot(Dot("a", 0.5, -math.inf, 0.75), Span(0, 1))
    assert re.search(r'class="interval" d="M16\.0 11H[\d.]+M21\.0 7\.?0?L16\.0 11l5 4M', arrow)


def test_an_axis_shows_all_points_and_not_all_of_an_endless_interval():
    dots = [Dot("a", 1.2, 1e-9, 1e9, paper=1.4), Dot("b", 0.9, 0.8, 1.0)]
    span = span_of(dots, reference=1.0, logarithmic=True)
    assert 0.2 < span.low < 0.8 and 1.4 < span.high < 5
    assert len(span.ticks) >= 2 and all(span.low <= tick <= span.high for tick in span.ticks)
    nothing = span_of([Dot("a", math.nan, math.nan, math.nan)])
    assert nothing.low < 0 < nothing.high
    wide = Span(1e-4, 1e6, logarithmic=True)
    assert 2 <= len(wide.ticks) <= 8
    assert "seconds" in axis_below(wide, "seconds")
