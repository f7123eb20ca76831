"""Texts of a configuration that a shell, Python or Snakemake could obey: none of them does."""

import copy
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
import yaml
from test_rules import FILES

from humanline.cli.parser import parser
from humanline.files.validation import ConfigError
from humanline.study.study import load_study

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "workflow" / "config"
NAMES = ("smoke.yaml", "experiments.yaml", "claims.yaml")
ATTACKS = (
    "x;touch CANARY",
    "$(touch CANARY)",
    "`touch CANARY`",
    "'$(touch CANARY)'",
    "{input}{wildcards.run}{{CANARY}}%s",
    "-x\nCANARY: 1",
    "../../CANARY",
)
ALL = " ".join(ATTACKS)
# In the name of a folder. Braces are refused, and so is a line break.
FOLDER = "x;touch CANARY $(touch CANARY) `touch CANARY` '\"%s*\\n&"
TARGETS = ("all", "all_tables", "explore", "tune", "plan", "judge_cost", "prefetch")

Place = tuple[str | int, ...]


def texts(node: object, place: Place = ()) -> Iterator[tuple[Place, bool]]:
    """Yield where a text is, and whether it is a key."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*place, key), True
            yield from texts(value, (*place, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from texts(value, (*place, index))
    elif isinstance(node, str):
        yield place, False


def put(content: dict, place: Place, is_key: bool, text: str) -> None:
    """Replace a text."""
    *parents, last = place
    for part in parents:
        content = content[part]
    if is_key:
        renamed = {text if key == last else key: value for key, value in content.items()}
        content.clear()
        content.update(renamed)
    else:
        content[last] = text


def kind_of(name: str, place: Place, is_key: bool) -> tuple:
    """What is told apart: items of a list are alike; so are tables, tasks, models and sources."""
    alike = ["*" if isinstance(part, int) else part for part in place]
    for index, part in enumerate(alike[:-1]):
        if part in ("tables", "tasks", "base_models", "sources"):
            alike[index + 1] = "*"
    return (name, *alike, is_key)


def is_taken(folder: Path, name: str, content: dict, place: Place, is_key: bool, text: str) -> bool:
    """Whether a study is valid with another text at a place of one of its files."""
    kept = (folder / name).read_text()
    changed = copy.deepcopy(content)
    put(changed, place, is_key, text)
    (folder / name).write_text(yaml.safe_dump(changed, sort_keys=False))
    try:
        load_study(folder / "smoke.yaml", folder / "experiments.yaml", folder)
    except ConfigError:
        return False
    finally:
        (folder / name).write_text(kept)
    return True


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> tuple[Path, set[tuple]]:
    """A configuration with all attacks in each text that may be any; and the kinds of those."""
    folder = tmp_path_factory.mktemp("hostile") / FOLDER
    shutil.copytree(CONFIG, folder)
    for name in NAMES[1:]:
        shutil.copy(Path(__file__).with_name(name), folder)
    contents = {name: yaml.safe_load((folder / name).read_text()) for name in NAMES}
    contents["smoke.yaml"]["tasks"]["instruction_following"]["judge"] = {
        "kind": "openai",
        "model": ALL,
        "base_url": "http://127.0.0.1:9/$(touch${IFS}CANARY);x",
        "max_dollars": 1,
        "prices": {ALL: {"input": 2, "output": 8}},  # also by the name of the model
    }
    for name in NAMES:
        (folder / name).write_text(yaml.safe_dump(contents[name], sort_keys=False))
    load_study(folder / "smoke.yaml", folder / "experiments.yaml", folder)
    seen, free = set(), {}
    for name in NAMES:
        for place, is_key in texts(contents[name]):
            if (kind := kind_of(name, place, is_key)) in seen:
                continue
            seen.add(kind)
            if all(is_taken(folder, name, contents[name], place, is_key, own) for own in ATTACKS):
                free[kind] = place
    for (name, *_, is_key), place in reversed(free.items()):  # keys after what is below them
        put(contents[name], place, is_key, ALL)
    for name in NAMES:
        (folder / name).write_text(yaml.safe_dump(contents[name], sort_keys=False))
    load_study(folder / "smoke.yaml", folder / "experiments.yaml", folder)
    assert len(seen) > 100
    return folder, free.keys()


def test_only_words_for_people_may_be_any_text(hostile):
    """Names of tables, rows, models, tasks, bases and files are patterns or known words."""
    _, free = hostile
    assert {(name, place[-1]) for name, *place, _ in free} == {
        ("smoke.yaml", "description"),
        ("experiments.yaml", "description"),
        ("claims.yaml", "claim"),
        ("claims.yaml", "reason"),
        ("claims.yaml", "paper_value"),
        ("claims.yaml", "says"),
    }


def test_every_value_in_a_shell_command_is_quoted():
    commands = [
        found
        for path in FILES
        for found in re.findall(r"^ +shell:\n((?: {8,}.*\n)+)", path.read_text(), flags=re.M)
    ]
    assert len(commands) > 20
    for text in commands:
        code = re.sub(r"#.*", "", text).strip()
        assert code.startswith("command("), text
        fields = re.findall(r"\{[^{}]*\}", code)
        assert all(field.endswith(":q}") for field in fields), text


def snakemake(folder: Path, *arguments: str) -> str:
    """Run it on the hostile configuration, into a folder with such a name; return its output."""
    config = ["scale=smoke", f"config_directory={folder}", f"results={folder / FOLDER}"]
    run = forked.snakemake("--cores", "2", "--nolock", *arguments, "--config", *config)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def no_canary() -> bool:
    return not [path for path in ROOT.iterdir() if path.name.startswith("CANARY")]


def test_each_value_is_one_word_of_each_command(hostile):
    """Our own parser finds each value in one word of each command that a dry run prints."""
    folder, _ = hostile
    text = snakemake(folder, "-n", "-p", "--verbose", *TARGETS)
    commands = [line for line in text.splitlines() if "$HUMANLINE_PYTHON" in line]
    names = set()
    for line in commands:
        words = shlex.split(line.removeprefix("Shell command: "))
        assert words[:3] == ["$HUMANLINE_PYTHON", "-m", "humanline"]
        ends = [words.index(operator) for operator in ("|", "&&") if operator in words]
        own, rest = words[3 : min(ends, default=len(words))], words[min(ends, default=len(words)) :]
        read = parser().parse_args(own)
        names.add(read.command.name)
        assert (read.scale, read.config, read.results) == ("smoke", folder, folder / FOLDER)
        assert all(Path(file).is_relative_to(read.results) for file in rest[-1:])
        assert read.log is None or Path(read.log).is_relative_to(read.results)
    assert len(commands) > 60 and len(names) > 15, names
    assert no_canary()


@pytest.mark.slow
def test_a_run_obeys_no_text(hostile):
    folder, _ = hostile
    results = folder / FOLDER / "smoke"
    prompts = results / "data" / "math_reasoning" / "s1" / "train.jsonl"
    text = snakemake(folder, "plan", "judge_cost", str(prompts))
    assert prompts.exists() and (results / "logs" / "plan.md").read_text() in text
    assert no_canary()


@pytest.mark.parametrize(
    "target",
    [
        "data/{}/s1/train.jsonl",
        "data/math_reasoning/s1{}/train.jsonl",
        "data/math_reasoning/likelihood-{}-s1-under-base-s1.jsonl",
        "runs/math_reasoning/base-{}-s1/model/config.json",
        "runs/math_reasoning/{}-s1/samples.jsonl",
        "pretrained/math_reasoning/{}/config.json",
        "figures/surprisals-s{}.csv",
        "tables/{}.csv",
    ],
)
def test_a_wildcard_takes_no_command(target, tmp_path):
    file = tmp_path / "smoke" / target.format("x;touch CANARY $(touch CANARY)")
    config = ["scale=smoke", f"results={tmp_path}"]
    run = forked.snakemake("--cores", "1", "--nolock", str(file), "--config", *config)
    assert run.returncode != 0
    assert no_canary() and not (tmp_path / "smoke").exists()
