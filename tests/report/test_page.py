"""The page: text of models is data, samples are chosen by a rule, every number has its run."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_results import COMMIT, PROMPTS, made_study, make_results, with_many_cells

from humanline.cli.parser import parser
from humanline.files.code_hashes import PACKAGE, code_hash
from humanline.files.validation import ConfigError
from humanline.report.page import page, runs, samples
from humanline.report.page.text import LIMIT, shown
from humanline.study.tasks import find_task
from humanline.worlds.letters import proxy_reward

TEMPLATES = Path(page.__file__).parent / "templates"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x00b\x1b[31m\x7f", "a␀b␛[31m[U+007F]"),
        ("left\u202eright\u2066x\u200f\u061c", "left[U+202E]right[U+2066]x[U+200F][U+061C]"),
        ("\ufeffzero\u200bwidth\u2028line", "[U+FEFF]zero[U+200B]width[U+2028]line"),
        ("half \ud83d of one", "half [U+D83D] of one"),
        ("two\nlines\tand a return\r", "two\nlines\tand a return␍"),
        ("z" + 9 * "\u0336" + "a" + 70 * "\u200d" + "b", "z\u0336[9 marks]a\u200d[70 marks]b"),
        ("a\u3164b\ufe01\U000e0141", "a[U+3164]b[U+FE01][U+E0141]"),  # fillers and variants
        ("<b> & \"'", "<b> & \"'"),  # HTML is escaped where HTML is written
        (
            "שלום مرحبا 你好 e\u0301 👩\u200d🔬 ❤\ufe0f",
            "שלום مرحبا 你好 e\u0301 👩\u200d🔬 ❤\ufe0f",
        ),
    ],
)
def test_nothing_in_a_text_is_hidden(text, expected):
    assert shown(text) == expected


def test_a_long_text_is_cut_and_its_length_is_told():
    assert shown("x" * LIMIT) == "x" * LIMIT
    assert shown("x" * 100_000) == "x" * LIMIT + " … (cut: 100,000 characters)"


class Parsed(HTMLParser):
    """The elements of a page, and the text of its scripts."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements, self.scripts, self._is_script = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._is_script = tag == "script"
        if self._is_script:
            self.scripts.append((dict(attributes), ""))

    def handle_data(self, data):
        if self._is_script:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data

    def handle_endtag(self, tag):
        self._is_script = False

    def data(self, part: str) -> dict:
        return next(json.loads(t) for a, t in self.scripts if a.get("data-part") == part)


PLANTED = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "broken \udcff\udcfe UTF-8",  # the bytes ff and fe in the file
    "half \ud83d of a character",
    "right \u202e to \u2067 left",
    "y" * 100_000,
    "{{ 7 * 7 }} {% endraw %}",
    "]]>\u2028\x00\x1b",
    "z" + "\u0336" * 1500,
    "\"'><svg/onload=alert(1)> javascript:alert(1)",
]
EVIL = f"of {PLANTED[0]}, {PLANTED[1]}, {PLANTED[5]} and {PLANTED[-1]}"  # in all other texts
SHOWN = (
    "of &lt;script&gt;alert(1)&lt;/script&gt;, &lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;,"
    " right [U+202E] to"
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A page of texts that try to be more than text."""
    study = made_study(tmp_path_factory.mktemp("planted"))
    made = make_results(study, lambda run, number, text: (PLANTED[number:] or [text])[0])
    for run in (run for run in made.runs if run.is_trained):
        record = json.loads(run.paths.record.read_text())
        record["provenance"]["machine"]["processor"] = EVIL
        run.paths.record.write_text(json.dumps(record))
        run.paths.log.write_text(f"{EVIL!r},step\n".replace(", ", " ") + "1,8\n")
    claims = made.claims.claims
    said = [own.model_copy(update={"claim": EVIL, "untested": EVIL}) for own in claims.claims]
    request = replace(
        made,
        description=EVIL,
        claims=replace(made.claims, claims=claims.model_copy(update={"claims": said})),
        tables=[
            replace(own, spec=own.spec.model_copy(update={"description": EVIL}))
            for own in made.tables
        ],
    )
    page.make_page(request)
    return request.paths.page.read_bytes().decode()  # which is UTF-8 throughout


def test_text_of_models_stays_text(planted):
    parsed = Parsed(planted)
    code = [text for attributes, text in parsed.scripts if "type" not in attributes]
    files = ["page.js", *sorted(f.name for f in TEMPLATES.glob("*.js") if f.name != "page.js")]
    assert code == ["\n".join((TEMPLATES / name).read_text() for name in files)]
    assert {tag for tag, _ in parsed.elements}.isdisjoint({"img", "iframe", "object", "link"})
    names = {name for _, attributes in parsed.elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\u2028]", planted)
    assert planted.count(SHOWN) > 20  # captions, claims, the description, the machine
    for group in parsed.data("samples")["groups"]:
        texts = [row["outputs"][0]["text"] for row in group["prompts"]]
        assert texts[:3] == PLANTED[:3]
        assert texts[3] == "broken �� UTF-8"
        assert texts[4] == "half � of a character"
        assert texts[6].endswith(" … (cut: 100,000 characters)") and len(texts[6]) < LIMIT + 40
        assert texts[7] == PLANTED[7]
        assert texts[9:11] == ["z\u0336[1,500 marks]", PLANTED[10]]
    assert any("alert(1)" in name for name in parsed.data("runs")["metrics"][0])


def test_the_page_is_one_file_that_runs_its_own_script_alone(planted):
    for tag, attributes in Parsed(planted).elements:
        assert "src" not in attributes
        # Files of the results lie beside the page; nothing loads them, but a reader may follow.
        assert re.match(r"#|\.\./(tables|figures)/\w", attributes.get("href", "#")), tag
    style = planted[planted.index("<style>") : planted.index("</style>")]
    assert "url(" not in style and "@import" not in style
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', planted)[1]
    assert policy.startswith("default-src 'none'; ") and "script-src 'sha256-" in policy
    assert "unsafe-inline'; script" in policy and "unsafe-eval" not in policy


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return made_study(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def request_(study):
    return make_results(study)


@pytest.fixture(scope="module")
def groups(request_):
    return {group["title"]: group for group in samples.context(request_)["data"]["groups"]}


def test_prompts_are_chosen_by_a_stated_rule(request_, monkeypatch):
    """Two hundred in all, the same number for every table, evenly spaced."""
    assert samples.PROMPTS == 200
    monkeypatch.setattr(samples, "PROMPTS", 17)
    found = samples.context(request_)
    groups = found["data"]["groups"]
    assert len(groups) > 2
    counts = [len(group["prompts"]) for group in groups]
    assert sum(counts) == 17 and max(counts) - min(counts) <= 1
    for group, count in zip(groups, counts, strict=True):
        numbers = [row["number"] for row in group["prompts"]]
        assert numbers == [place * PROMPTS // count for place in range(count)]
        assert f"{group['title']}: {count} of {PROMPTS}, seed {group['seed']}" in found["rule"]


def test_a_sample_has_its_wishes_in_words_and_all_cells(groups, request_):
    group = groups["instruction following"]
    assert group["cells"][:3] == ["base model", "offline DPO", "offline DPO with humanline"]
    assert "online GRPO" in group["cells"]
    row = group["prompts"][0]
    assert row["wishes"] == find_task("instruction_following").prompt_words(row["prompt"])
    assert len(row["outputs"]) == len(group["cells"]) == len(group["runs"])
    assert {f"{run.cell.task}/{run.name}" for run in request_.runs} >= set(group["runs"])


def test_judge_and_proxy_disagree_where_one_of_them_prefers_the_reference(groups, request_):
    group = groups["instruction following"]
    seen = set()
    for place, name in enumerate(group["runs"]):
        run = next(run for run in request_.runs if f"{run.cell.task}/{run.name}" == name)
        judged = json.loads(run.paths.annotations.read_text())
        for row, own in zip(group["prompts"], judged, strict=True):
            output = row["outputs"][place]
            assert row["prompt"] == own["instruction"]
            assert output["judge"] == pytest.approx(own["preference"] - 1, rel=0.01)
            better = proxy_reward(row["prompt"], output["text"]) > proxy_reward(
                row["prompt"], row["gold"]
            )
            assert output["odd"] == (better != (own["preference"] > 1.5))
            seen.add(output["odd"])
    assert seen == {True, False}


def test_a_graded_sample_has_problem_answer_and_grading(groups, request_):
    group = groups["math reasoning"]
    assert group["outcomes"] == ["correct", "wrong", "no box", "timed out"]
    run = next(r for r in request_.runs if f"{r.cell.task}/{r.name}" == group["runs"][0])
    graded = [line.split(",")[-1] for line in run.paths.grades.read_text().splitlines()[1:]]
    assert len(set(graded)) > 1
    for row, outcome in zip(group["prompts"], graded, strict=True):
        assert eval(row["prompt"]) == int(row["gold"])
        own = row["outputs"][0]
        assert group["outcomes"][own["outcome"]] == outcome.replace("_", " ")
        assert own["odd"] == (outcome != "correct")


def test_every_run_has_its_command_hash_rate_and_metrics(request_):
    data = runs.context(request_)["data"]
    found = {
        f"{cell['task']}/{cell['variant']}-s{run['seed']}": (cell, run)
        for cell in data["cells"]
        for run in cell["runs"]
    }
    assert len(found) == len(request_.runs)
    for place, run in enumerate(request_.runs):
        cell, own = found[runs.anchor(run.cell, seed=True).removeprefix("run-")]
        assert runs.anchor(run.cell) == f"run-{cell['task']}/{cell['variant']}"
        assert own["score"] == pytest.approx(50 + place / 8, abs=0.01)
        if run.is_trained:
            assert (own["hash"], own["rate"]) == (run.hashes.train, run.learning_rate)
            assert data["made"][own["made"]].startswith(f"commit {COMMIT[:7]}, a processor")
            metrics = dict(zip(data["metrics"][own["names"]], own["metrics"], strict=True))
            assert metrics["step"] == "8" and metrics["humanline/metric_number_23"] == "0.241"
        words = ["score", run.cell.task, run.name, *shlex.split(data["options"])]
        assert parser().parse_args(words).run_name == run.name
    told = {cell["rate_from"] for cell in data["cells"]}
    assert {"the task's default, not tuned", None} <= told


def test_the_page_of_two_thousand_cells_is_small(study, request_):
    many = with_many_cells(study, request_, 2000)
    try:
        text = page.render(many)
    finally:
        with_many_cells(study, request_, 0)
    assert len({(run.cell.task, run.cell.variant) for run in many.runs}) == 2000
    assert len(text.encode()) < 5_000_000
    assert len(Parsed(text).data("runs")["cells"]) == 2000
    assert '"metrics":["0.0123"' in text


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_text(""), "empty"),
        (lambda path: path.write_text('{"step": 8}\n'), "line 1: no completion, prompt"),
        (lambda path: path.write_text(path.read_text().replace("1", "2")), "field prompt: not as"),
    ],
)
def test_a_damaged_file_is_one_clear_line(request_, damage, said):
    table = next(table for table in request_.tables if table.name == "math_reasoning")
    path = table.runs[-1].paths.samples
    kept = path.read_bytes()
    damage(path)
    try:
        with pytest.raises(ConfigError) as raised:
            samples.context(request_)
    finally:
        path.write_bytes(kept)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)
    assert said in str(raised.value) and samples.AGAIN in str(raised.value)


def test_every_part_with_data_has_a_function_in_the_script(planted):
    named = re.search(r"const PARTS = \{ ([\w, ]+) \};", planted)[1].split(", ")
    assert named == [a["data-part"] for a, _ in Parsed(planted).scripts if "data-part" in a]


def test_an_edit_of_the_page_reruns_the_page_alone(tmp_path):
    """Its templates and its script are in the hash of its command, and in no other."""
    edited = tmp_path / "humanline"
    shutil.copytree(PACKAGE, edited, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("page.js", "samples.html.j2"):
        with open(edited / "report" / "page" / "templates" / name, "a") as file:
            file.write("\n")
    tasks = ["math_reasoning"]
    hashes = {
        command: [code_hash(command, tasks=tasks, package=folder) for folder in (PACKAGE, edited)]
        for command in ("train", "table", "claims", "report")
    }
    assert {name for name, (one, other) in hashes.items() if one != other} == {"report"}
