"""The configuration: what it accepts, and that each mistake gets one line that helps."""

import copy
import re
import shutil
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
import yaml
from pydantic import BaseModel

from humanline.files.validation import ConfigError
from humanline.study import experiments, scale
from humanline.study.scale.hub import HubSource
from humanline.study.scale.scale import Scale, load_scale
from humanline.study.study import load_study

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "workflow" / "config"
HEADLINES = ("instruction_following", "math_reasoning")
SMOKE = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
EXPERIMENTS = yaml.safe_load((CONFIG / "experiments.yaml").read_text())
EXPERIMENTS["tables"] = {name: EXPERIMENTS["tables"][name] for name in HEADLINES}
SCALES = sorted(p.stem for p in CONFIG.glob("*.yaml") if "tasks:" in p.read_text())
INSTRUCTIONS = "tasks.instruction_following"
MATH = "tasks.math_reasoning"


@pytest.fixture
def fault(tmp_path):
    """Edit smoke.yaml and experiments.yaml, load them, and return the error's message."""

    def load(changes: dict | None = None, experiments: dict | None = None) -> str:
        for name, content, edits in (
            ("smoke.yaml", SMOKE, changes),
            ("experiments.yaml", EXPERIMENTS, experiments),
        ):
            text = yaml.safe_dump(edited(content, edits or {}), sort_keys=False)
            (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError) as error:
            load_study(tmp_path / "smoke.yaml", tmp_path / "experiments.yaml", tmp_path / "results")
        message = str(error.value)
        assert "\n" not in message
        return message.removeprefix(f"{tmp_path}/")

    return load


REMOVE = object()


def edited(content: dict, changes: dict) -> dict:
    """A copy with changes, by dotted path; `REMOVE` removes a key."""
    # Through YAML's text and back would keep aliases; a change must not reach the other task.
    content = _unshared(content)
    for path, value in changes.items():
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
        inner = content
        for part in parents:
            inner = inner[part]
        if value is REMOVE:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(value)
    return content


def _unshared(content):
    if isinstance(content, dict):
        return {key: _unshared(value) for key, value in content.items()}
    return [_unshared(value) for value in content] if isinstance(content, list) else content


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_loads_with_the_experiments(scale):
    study = load_study(CONFIG / f"{scale}.yaml", CONFIG / "experiments.yaml", Path("results"))
    assert study.scale.scale == scale
    assert study.all_cells()


SIBLINGS = re.findall(r"^ *start: &smol .*$", (ROOT / "docs" / "scales.md").read_text(), re.M)


@pytest.mark.parametrize("line", SIBLINGS, ids=lambda line: line.split("repo: ")[1].split(",")[0])
def test_a_model_of_the_hub_is_one_line(line, tmp_path):
    """As docs/scales.md says: it stands in the place of the package's eight lines."""
    config = shutil.copytree(CONFIG, tmp_path / "config")
    text = (config / "workstation.yaml").read_text()
    text, replaced = re.subn(r"^ +start: &smol\n(?: {8}.+\n)+", f"{line}\n", text, flags=re.M)
    assert replaced == 1
    (config / "workstation.yaml").write_text(text)
    scale = load_study(config / "workstation.yaml", config / "experiments.yaml", tmp_path).scale
    assert all(task.base_model.repo in line for task in scale.tasks.values())


@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_is_frozen(scale):
    with pytest.raises(ValueError, match="frozen"):
        load_scale(CONFIG / f"{scale}.yaml").scale = "other"


MODEL = {"kind": "hub", "repo": "owner/name", "revision": None}
REAL = {"kind": "hub", "train": MODEL, "evaluation": MODEL}
PAID = {"kind": "openai", "model": "gpt-4.1", "max_dollars": 10}
PAID["prices"] = {"gpt-4.1": {"input": 2, "output": 8}}
PLAN = yaml.safe_load((CONFIG / "paper.yaml").read_text())["plan"]
# What is changed in smoke.yaml, the field that is named, and what is said of it.
MISTAKES = {
    "a truth value for a whole number": (
        {f"{MATH}.training.lora": {"r": True}},
        f"{MATH}.training.lora.r",
        "True is no number",
    ),
    "a truth value for a number": (
        {f"{MATH}.training.learning_rate": True},
        f"{MATH}.training.learning_rate",
        "True is no number",
    ),
    "a truth value in a list": ({"seeds.report": [True]}, "seeds.report.0", "True is no number"),
    "a truth value of an objective": (
        {f"{MATH}.training.objectives.grpo.beta": True},
        f"{MATH}.training.objectives.grpo.beta",
        "True is no number",
    ),
    "a number for a truth value": (
        {f"{MATH}.training.bf16": 1},
        f"{MATH}.training.bf16",
        "1 is no truth value; write true or false.*",
    ),
    "a text for a truth value": (
        {f"{MATH}.training.bf16": "yes"},
        f"{MATH}.training.bf16",
        "'yes' is no truth value",
    ),
    "an absent model that nothing names": (
        {f"{INSTRUCTIONS}.absent_models": {"largest": "no package has it"}},
        f"{INSTRUCTIONS}.absent_models.largest",
        "no row of experiments.yaml and no claim names it; use one of none, or remove it",
    ),
    "unknown key": ({"sceed": 1}, "sceed", "unknown key; remove it"),
    "unknown inner key": (
        {f"{INSTRUCTIONS}.data.colour": 1},
        f"{INSTRUCTIONS}.data.colour",
        "unknown key",
    ),
    "missing key": ({"seeds": REMOVE}, "seeds", "missing; add this key"),
    "missing inner key": (
        {f"{MATH}.data.train": REMOVE},
        f"{MATH}.data.train",
        "missing; add this key",
    ),
    "missing kind": ({f"{MATH}.data.kind": REMOVE}, f"{MATH}.data.kind", "missing; add this key"),
    "unknown kind": (
        {f"{MATH}.data.kind": "web"},
        f"{MATH}.data.kind",
        "'web' is unknown; use one of 'miniature', 'english', 'hub'",
    ),
    "wrong type": (
        {f"{MATH}.training.steps": "many"},
        f"{MATH}.training.steps",
        "valid integer.*'many'; change",
    ),
    "wrong type within a kind": (
        {f"{MATH}.base_model.layers": "deep"},
        f"{MATH}.base_model.layers",
        "valid integer.*'deep'; change",
    ),
    "value for a mapping": ({f"{MATH}.evaluation": 3}, f"{MATH}.evaluation", "'3'; change"),
    "unknown task": ({"tasks.poetry": {}}, "tasks.poetry", "'poetry'; change"),
    "unknown objective": (
        {f"{MATH}.training.objectives.ppo": {"batch_size": 8, "beta": 0.1}},
        f"{MATH}.training.objectives.ppo",
        "'dpo', 'kto' or 'grpo'.*'ppo'; change",
    ),
    "out of bounds": ({f"{MATH}.evaluation.top_p": 2}, f"{MATH}.evaluation.top_p", "'2'; change"),
    "no rates to try": (
        {f"{MATH}.training.tune_learning_rates": []},
        f"{MATH}.training.tune_learning_rates",
        "at least 1 item",
    ),
    "negative rate to try": (
        {f"{MATH}.training.tune_learning_rates": [0.1, -1]},
        f"{MATH}.training.tune_learning_rates.1",
        "greater than 0.*'-1'; change",
    ),
    "a rate to try twice": (
        {f"{MATH}.training.tune_learning_rates": [0.1, 0.2, 0.1]},
        f"{MATH}.training.tune_learning_rates",
        "0.1 is listed twice; remove",
    ),
    "a wider rate that is not wider": (
        {f"{MATH}.training.wider_learning_rates": [1e-4, 1e-3]},
        f"{MATH}.training.wider_learning_rates.1",
        "go from 0.001 to 0.001; give a rate beyond",
    ),
    "a rate without end": (
        {f"{MATH}.training.learning_rate": float("inf")},
        f"{MATH}.training.learning_rate",
        "finite number.*'inf'; change",
    ),
    "no name of a file": ({"learning_rates": ""}, "learning_rates", "at least 1 character"),
    "DPO without a reference": (
        {f"{INSTRUCTIONS}.training.objectives.dpo.beta": 0},
        f"{INSTRUCTIONS}.training.objectives.dpo.beta",
        "dpo learns nothing at 0; raise it",
    ),
    "shared seeds": ({"seeds.tune": [7, 1]}, "seeds.tune", r"shares \[1\].*use other seeds"),
    "seed listed twice": ({"seeds.report": [1, 2, 1]}, "seeds.report", "1 is listed twice; remove"),
    "another file's name": ({"scale": "laptop"}, "scale", "'laptop' is not the file's name; write"),
    "name with a slash": ({"scale": "a/b"}, "scale", "'a/b'; change"),
    "groups split over batches": (
        {f"{MATH}.training.objectives.grpo.batch_size": 18},
        f"{MATH}.training.objectives.grpo.batch_size",
        "18 is not a multiple of training.group_size, 4; change either",
    ),
    "uneven micro-batches": (
        {f"{MATH}.training.micro_batch_size": 3},
        f"{MATH}.training.objectives.grpo.batch_size",
        "16 is not a multiple of training.micro_batch_size, 3; change either",
    ),
    "odd KTO batch": (
        {f"{INSTRUCTIONS}.training.objectives.kto.batch_size": 15},
        f"{INSTRUCTIONS}.training.objectives.kto.batch_size",
        "15 is odd;.*even",
    ),
    "odd KTO micro-batch": (
        {f"{INSTRUCTIONS}.training.micro_batch_size": 1},
        f"{INSTRUCTIONS}.training.micro_batch_size",
        "1 is odd;.*even",
    ),
    "batch that does not divide among devices": (
        {"resources": {"train": {"gpu": 3}}},
        f"{INSTRUCTIONS}.training.objectives.dpo.batch_size",
        "8 does not divide among 3 devices, 1 at once on each; change it",
    ),
    "micro-batches that do not divide among devices": (
        {"resources": {"train": {"gpu": 4}}, f"{INSTRUCTIONS}.training.micro_batch_size": 4},
        f"{INSTRUCTIONS}.training.objectives.dpo.batch_size",
        "8 does not divide among 4 devices, 4 at once on each; change it",
    ),
    "odd share of a KTO batch": (
        {
            "resources": {"train": {"gpu": 4}},
            f"{INSTRUCTIONS}.training.objectives.kto.batch_size": 20,
        },
        f"{INSTRUCTIONS}.training.objectives.kto.batch_size",
        "20 does not divide among 4 devices, 2 at once on each; change it",
    ),
    "devices without use": (
        {"resources": {"generate": {"gpu": 2}}},
        "resources.generate.gpu",
        "2, but this stage takes 1; set gpus of a model that needs more",
    ),
    "plan of models that have no size": (
        {"plan": PLAN},
        "plan",
        "knows no miniature models, but instruction_following has one; remove it",
    ),
    "plan of unknown models": (
        {
            "plan": PLAN,
            f"{INSTRUCTIONS}.data": REAL,
            f"{INSTRUCTIONS}.base_model": MODEL,
            f"{INSTRUCTIONS}.base_models": {},
            f"{INSTRUCTIONS}.reward": MODEL,
            f"{INSTRUCTIONS}.judge": PAID,
        },
        "plan.parameters.owner/name",
        "missing; add this key",
    ),
    "plan of no tasks": (
        {"plan": PLAN | {"lengths": {}}},
        "plan.lengths.instruction_following",
        "missing; add this key",
    ),
    "heads": (
        {f"{MATH}.base_model.heads": 3},
        f"{MATH}.base_model.hidden_size",
        "32 is not an even multiple of heads, 3; change either",
    ),
    "odd heads": (
        {f"{MATH}.base_model.heads": 32},
        f"{MATH}.base_model.hidden_size",
        "32 is not an even multiple of heads, 32; change either",
    ),
    "no judge": ({f"{INSTRUCTIONS}.judge": REMOVE}, f"{INSTRUCTIONS}.judge", "missing; add"),
    "proxy for math": (
        {f"{MATH}.reward.kind": "proxy"},
        f"{MATH}.reward.kind",
        "proxy does not fit; use math_verify",
    ),
    "math_verify for instructions": (
        {f"{INSTRUCTIONS}.reward.kind": "math_verify"},
        f"{INSTRUCTIONS}.reward.kind",
        "math_verify does not fit; use hub or proxy",
    ),
    "absent folder": (
        {f"{MATH}.base_model": {"kind": "hub", "repo": "/nowhere/model", "revision": None}},
        f"{MATH}.base_model.repo",
        "no such folder: '/nowhere/model'; mend",
    ),
    "absent relative folder": (
        {f"{INSTRUCTIONS}.reward": {"kind": "hub", "repo": "./nowhere", "revision": None}},
        f"{INSTRUCTIONS}.reward.repo",
        "no such folder: './nowhere'; mend",
    ),
    "greedy training": (
        {f"{MATH}.training.sampling.temperature": 0},
        f"{MATH}.training.sampling.temperature",
        "0 draws the same completion again and again; raise it",
    ),
    "negative temperature": (
        {f"{MATH}.evaluation.temperature": -1},
        f"{MATH}.evaluation.temperature",
        "'-1'; change",
    ),
    "training that stops at strings": (
        {f"{MATH}.training.sampling.stop": ["x"]},
        f"{MATH}.training.sampling.stop",
        "training samples until the end token.*; remove",
    ),
    "an empty stop string": (
        {f"{MATH}.evaluation.stop": [""]},
        f"{MATH}.evaluation.stop.0",
        "; change",
    ),
    "unknown engine": ({"generation": {"engine": "x"}}, "generation.engine", "'x'; change"),
    "a branch is no revision": (
        {f"{MATH}.base_model": {"kind": "hub", "repo": "owner/name", "revision": "main"}},
        f"{MATH}.base_model.revision",
        "'main'; change",
    ),
    "code of a repository that is not allowed": (
        {f"{INSTRUCTIONS}.reward": MODEL | {"trust_remote_code": True}},
        f"{INSTRUCTIONS}.reward.trust_remote_code",
        "true, but owner/name at this revision is not in REMOTE_CODE .*add it there",
    ),
    "code of a folder without a fingerprint": (
        {f"{INSTRUCTIONS}.reward": MODEL | {"repo": "/", "trust_remote_code": True}},
        f"{INSTRUCTIONS}.reward.fingerprint",
        "missing, but trust_remote_code runs the code of /; read it, and write",
    ),
    "stored completions of an unknown model": (
        {
            f"{INSTRUCTIONS}.data": REAL | {"stored": {"x": MODEL}},
            f"{INSTRUCTIONS}.base_model": MODEL,
            f"{INSTRUCTIONS}.base_models": dict.fromkeys(("x1", "other"), MODEL),
            f"{INSTRUCTIONS}.reward": MODEL,
            f"{INSTRUCTIONS}.judge": PAID,
        },
        f"{INSTRUCTIONS}.data.stored.x",
        "not a name in base_models; add",
    ),
    "stored groups that do not fill a batch": (
        {
            f"{MATH}.data": REAL | {"stored_group_size": 3},
            f"{MATH}.base_model": MODEL,
        },
        f"{MATH}.data.stored_group_size",
        "3 does not divide training.objectives.grpo.batch_size, 16; change",
    ),
    "miniature model of real prompts": (
        {f"{MATH}.data": REAL},
        f"{MATH}.base_model.kind",
        "miniature understands the miniature's prompts only, but data.kind is hub; change",
    ),
    "proxy of real prompts": (
        {f"{INSTRUCTIONS}.data": REAL, f"{INSTRUCTIONS}.base_model": MODEL},
        f"{INSTRUCTIONS}.reward.kind",
        "proxy understands .*; change",
    ),
    "gold judge of real prompts": (
        {
            f"{INSTRUCTIONS}.data": REAL,
            f"{INSTRUCTIONS}.base_model": MODEL,
            f"{INSTRUCTIONS}.reward": MODEL,
        },
        f"{INSTRUCTIONS}.judge.kind",
        "gold understands .*; change",
    ),
    "judge without a price": (
        {f"{INSTRUCTIONS}.judge": {**PAID, "model": "gpt-4.1-mini"}},
        f"{INSTRUCTIONS}.judge.prices",
        "none of gpt-4.1-mini; add",
    ),
    "judge without a cap": (
        {f"{INSTRUCTIONS}.judge": {k: v for k, v in PAID.items() if k != "max_dollars"}},
        f"{INSTRUCTIONS}.judge.max_dollars",
        "missing; add this key",
    ),
    "judge at no address": (
        {f"{INSTRUCTIONS}.judge": {**PAID, "base_url": "localhost:8000"}},
        f"{INSTRUCTIONS}.judge.base_url",
        "is no address of an endpoint; change",
    ),
    "judge whose key is in the file": (
        {f"{INSTRUCTIONS}.judge": {**PAID, "api_key": "sk-0"}},
        f"{INSTRUCTIONS}.judge.api_key",
        "unknown key; remove",
    ),
    "task that a table needs": ({MATH: REMOVE}, MATH, "missing, but table math_reasoning needs it"),
}


@pytest.mark.parametrize(
    "url",
    [
        "https://user:SECRET@host/v1",
        "https://SECRET@host/v1",
        "https://host/v1?key=SECRET",
        "https://host/v1#SECRET",
        "ftp://user:SECRET@host",
        "https://host:SECRET/v1",
        "https://[SECRET/v1",
        "https:///SECRET",
        "https://host/SECRET\nX-Header: 1",
        "https://host\\@SECRET",
    ],
)
def test_an_address_of_a_judge_has_no_secret_and_its_error_does_not_repeat_it(url, fault):
    told = fault({f"{INSTRUCTIONS}.judge": {**PAID, "base_url": url}})
    assert f"{INSTRUCTIONS}.judge.base_url: " in told and "SECRET" not in told and "\n" not in told


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_scale(mistake, fault):
    changes, field, said = MISTAKES[mistake]
    assert re.fullmatch(rf"smoke\.yaml: {re.escape(field)}: .*{said}.*", fault(changes))


ROW = "tables.math_reasoning.cells.0"
DPO = "tables.instruction_following.cells.0"
GRPO = {"objective": "grpo", "data": "online"}
MISTAKES_IN_EXPERIMENTS = {
    "a number for a truth value": (
        {f"{ROW}.humanline": [False, 1]},
        f"{ROW}.humanline.1",
        "1 is no truth value",
    ),
    "a truth value for a whole number": (
        {f"{ROW}.lora": {"r": True}},
        f"{ROW}.lora.r",
        "True is no number",
    ),
    "tuned at a value that no cell has": (
        {"tables.math_reasoning.tuned": {"sync_interval": 5}},
        "tables.math_reasoning.tuned",
        "no cell has .*5.*; mend or remove it",
    ),
    "unknown objective": (
        {f"{ROW}.objective": "ppo"},
        f"{ROW}.objective",
        "'dpo', 'kto' or 'grpo'.*'ppo'; change",
    ),
    "unknown objective of a grid": (
        {f"{ROW}.objective": ["grpo", "ppo"]},
        f"{ROW}.objective.1",
        "'dpo', 'kto' or 'grpo'.*'ppo'; change",
    ),
    "objective that the scale lacks": (
        {f"{ROW}.objective": "kto"},
        f"{ROW}.objective",
        "kto is not in tasks.math_reasoning.training.objectives of .*smoke.yaml; add",
    ),
    "objective of a grid that the scale lacks": (
        {f"{ROW}.objective": ["grpo", "dpo"]},
        f"{ROW}.objective",
        "dpo is not in ",
    ),
    "never sampling": (
        {f"{ROW}.sample_every": 0},
        f"{ROW}.sample_every",
        "greater than 0.*'0'; change",
    ),
    "never syncing": (
        {f"{ROW}.sync_interval": [1, 0]},
        f"{ROW}.sync_interval.1",
        "greater than 0.*'0'; change",
    ),
    "default of never sampling": (
        {"defaults.math_reasoning.sample_every": 0},
        "defaults.math_reasoning.sample_every",
        "'0'; change",
    ),
    "default of never syncing": (
        {"defaults.math_reasoning.sync_interval": 0},
        "defaults.math_reasoning.sync_interval",
        "'0'; change",
    ),
    "lower bound above": ({f"{ROW}.log_eps_p": 1.5}, f"{ROW}.log_eps_p", "'1.5'; change"),
    "upper bound below": ({f"{ROW}.log_eps_r": -1.5}, f"{ROW}.log_eps_r", "'-1.5'; change"),
    "bound without end": (
        {f"{ROW}.log_eps_r": float("inf")},
        f"{ROW}.log_eps_r",
        "finite number.*'inf'; change",
    ),
    "bounds that leave nothing": (
        {f"{ROW}.humanline": [False, True], f"{ROW}.log_eps_p": 0, f"{ROW}.log_eps_r": [1, 0]},
        f"{ROW}.log_eps_p",
        "0, and log_eps_r is 0, too: no interval is left; change",
    ),
    "empty grid": ({f"{ROW}.data": []}, f"{ROW}.data", "change"),
    "no cells": ({"tables.math_reasoning.cells": []}, "tables.math_reasoning.cells", "at least 1"),
    "no defaults": (
        {"defaults.math_reasoning": REMOVE},
        "defaults.math_reasoning",
        "missing, but table math_reasoning needs it; add",
    ),
    "unknown override": (
        {f"{ROW}.overrides": {"betta": 1}},
        f"{ROW}.overrides.betta",
        "unknown key; use one of .*beta",
    ),
    "override out of bounds": (
        {f"{ROW}.overrides": {"epsilon": 2}},
        f"{ROW}.overrides.epsilon",
        "less than 1, not 2; change",
    ),
    "override that the objective does not read": (
        {"tables.instruction_following.cells.0.overrides": {"epsilon": 0.1}},
        "tables.instruction_following.cells.0.overrides.epsilon",
        "only grpo reads it, not dpo; remove it",
    ),
    "override of a weight that the objective does not read": (
        {f"{ROW}.overrides": {"desirable_weight": 2}},
        f"{ROW}.overrides.desirable_weight",
        "only kto reads it, not grpo; remove it",
    ),
    "override that leaves nothing to learn": (
        {"tables.instruction_following.cells.0.overrides": {"beta": 0}},
        "tables.instruction_following.cells.0.overrides.beta",
        "dpo learns nothing at 0; raise it",
    ),
    "negative learning rate": (
        {f"{ROW}.overrides": {"learning_rate": -1}},
        f"{ROW}.overrides.learning_rate",
        "-1 is not positive; change",
    ),
    "override that splits groups": (
        {f"{ROW}.overrides": {"batch_size": 6}},
        f"{ROW}.overrides.batch_size",
        "6 is not a multiple of training.group_size, 4; change",
    ),
    "model that the scale lacks": (
        {f"{ROW}.base_model": ["none", "huge"]},
        f"{ROW}.base_model",
        "'huge' is not in tasks.math_reasoning.base_models of .*smoke.yaml; add it there",
    ),
    "data of a model that the scale lacks": (
        {f"{ROW}.data": "offline", f"{ROW}.data_from": "huge"},
        f"{ROW}.data_from",
        "'huge' is not in tasks.math_reasoning.base_models of .*smoke.yaml; add it there",
    ),
    "fifth quartile": ({f"{ROW}.quartile": [1, 5]}, f"{ROW}.quartile.1", "'5'; change"),
    "last sampling of groups": (
        {f"{ROW}.data": "online", f"{ROW}.last_sampling": 2},
        f"{ROW}.last_sampling",
        "2, but GRPO samples by TRL's own schedule to the end; remove it",
    ),
    "last sampling within a round": (
        {f"{DPO}.data": "online", f"{DPO}.sample_every": 2, f"{DPO}.last_sampling": 3},
        f"{DPO}.last_sampling",
        "3, but sampling is every 2 steps; make it a multiple",
    ),
    "anchor of a plain run": (
        {f"{DPO}.humanline": [True, False], f"{DPO}.overrides": {"sft_weight": 0.1}},
        f"{DPO}.overrides.sft_weight",
        "only humanline reads it; set humanline: true, or remove it",
    ),
    "humanline and trust region": (
        {f"{ROW}.humanline": True, f"{ROW}.trust_region": [False, True]},
        f"{ROW}.trust_region",
        "true, but humanline is true, too; choose one",
    ),
    "learning rate and its factor": (
        {f"{ROW}.overrides": {"learning_rate": 0.1, "learning_rate_factor": 2}},
        f"{ROW}.overrides.learning_rate_factor",
        "given beside learning_rate; remove one",
    ),
    "zero factor in a grid": (
        {f"{ROW}.overrides": {"learning_rate_factor": [1, 0]}},
        f"{ROW}.overrides.learning_rate_factor",
        "0 is not positive; change",
    ),
    "task given twice": (
        {f"{ROW}.task": "math_reasoning"},
        f"{ROW}.task",
        "given in the table, too; give it once",
    ),
    "headline of no task": (
        {"tables.math_reasoning.task": REMOVE, f"{ROW}.task": "math_reasoning"},
        "tables.math_reasoning.cells.1.task",
        "given neither here nor in the table; give it once",
    ),
    "override of half an example": (
        {f"{ROW}.overrides": {"batch_size": 4.5}},
        f"{ROW}.overrides.batch_size",
        "integer.*4.5; change",
    ),
    "seeds of tuning": (
        {"tables.math_reasoning.seeds": [1, 101]},
        "tables.math_reasoning.seeds",
        r"\[101\] are tuning seeds of .*smoke.yaml; use others",
    ),
    "seed listed twice": (
        {"tables.math_reasoning.seeds": [3, 3]},
        "tables.math_reasoning.seeds",
        "3 is listed twice; remove",
    ),
    "no seeds": ({"tables.math_reasoning.seeds": []}, "tables.math_reasoning.seeds", "at least 1"),
    "table name with a slash": (
        {"tables.a/b": EXPERIMENTS["tables"]["math_reasoning"]},
        "tables.a/b",
        "'a/b'; change",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES_IN_EXPERIMENTS)
def test_a_mistake_in_the_experiments(mistake, fault):
    changes, field, said = MISTAKES_IN_EXPERIMENTS[mistake]
    message = fault(experiments=changes)
    assert re.fullmatch(rf"experiments\.yaml: {re.escape(field)}: .*{said}.*", message)


@pytest.mark.parametrize(
    ("every", "steps", "needed"), [(1, 8, 4), (4, 8, 16), (64, 8, 32), (64, 4, 16)]
)
def test_grpo_needs_the_prompts_of_a_sampling(every, steps, needed, fault, tmp_path):
    """TRL would end such a run after no step, as if trained. Batches of 16 in groups of 4."""
    data, training = f"{MATH}.data.train", f"{MATH}.training.steps"
    rows = {"tables.math_reasoning.cells": [{**GRPO, "sample_every": every}]}
    message = fault({data: needed - 1, training: steps}, rows)
    said = f"grpo takes {needed} prompts at once, more than {data} of {tmp_path}/smoke.yaml, "
    assert message == f"experiments.yaml: {ROW}.objective: {said}{needed - 1}; raise that"
    for name, content, edits in (
        ("smoke.yaml", SMOKE, {data: needed, training: steps}),
        ("experiments.yaml", EXPERIMENTS, rows),
    ):
        (tmp_path / name).write_text(yaml.safe_dump(edited(content, edits)))
    load_study(tmp_path / "smoke.yaml", tmp_path / "experiments.yaml", tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("seeds: [101]\n", r"chosen: missing; add"),
        ("chosen: 3\n", r"chosen: .*'3'; change"),
        ("chosen: {poetry: {}}\n", r"chosen\.poetry: .*'poetry'; change"),
        ("chosen: {math_reasoning: {a: 0.1}}\n", r"chosen\.math_reasoning\.a: .*'0.1'; change"),
        (
            "chosen: {math_reasoning: {a: {rate: 1}}}\n",
            r"chosen\.math_reasoning\.a\.learning_rate: missing; add",
        ),
        (
            "chosen: {math_reasoning: {a: {learning_rate: 0}}}\n",
            r"chosen\.math_reasoning\.a\.learning_rate: .*'0'; change",
        ),
        ("- 1\n", r"not a mapping"),
        ("{\n", r"not valid YAML .*; mend that line"),
        (None, r"cannot be read .*; check that the file exists"),
    ],
)
def test_a_mistake_in_the_learning_rates(content, said, fault, tmp_path):
    if content is not None:
        (tmp_path / "rates.yaml").write_text(content)
    assert re.match(rf"rates\.yaml: {said}", fault({"learning_rates": "rates.yaml"}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"scale: [\n", r"not valid YAML .*line 2.*; mend that line"),
        (b"a: 1\nb: 2\na: 3\n", r"not valid YAML .*'a' is given twice.*line 3.*; mend that line"),
        (b"a: b: c\n", r"not valid YAML .*line 1.*; mend that line"),
        (b"\xff\xfe\xfa", r"cannot be read .*; check"),
        (b"", r"not a mapping"),
        (b"just words\n", r"not a mapping"),
    ],
)
def test_an_unreadable_file(content, said, tmp_path):
    path = tmp_path / "scale.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"scale\.yaml: {said}") as error:
        load_scale(path)
    assert "\n" not in str(error.value)


def test_a_folder_or_an_absent_file(tmp_path):
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(ConfigError, match=r"cannot be read .*; check that the file exists"):
            load_scale(path)
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(ConfigError, match=r"that the file exists; beside it are mine\.yaml$"):
        load_scale(tmp_path / "absent.yaml")


def test_the_first_fault_is_told_and_the_others_counted(fault):
    message = fault({"sceed": 1, "learning_rates": 0, f"{MATH}.training.steps": 0})
    assert message.endswith("(and 2 more)")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "abc"}, r"base_model\.start\.sha256: String should match"),
        ({"package": "llm"}, r"base_model\.start\.package: String should match"),
        ({"kind": "hub", "repo": "a/b"}, r"base_model\.start\.revision: missing"),
        (
            {"kind": "hub", "repo": "a/b", "revision": None, "gpus": 2},
            r"base_model\.start\.gpus: lessons are given on one GPU",
        ),
    ],
)
def test_a_mistake_in_the_model_that_lessons_start_from(change, said, fault):
    lessons = {"examples": 8, "epochs": 1, "batch_size": 4, "learning_rate": 1.0e-3}
    package = {
        "kind": "package", "package": "llm==0.1", "sha256": "0" * 64, "file": "model.gguf",
        "file_sha256": "0" * 64, "eos_token": "a", "pad_token": "b",
    }  # fmt: skip
    start = change if "kind" in change else package | change
    model = {"kind": "fine_tuned", "start": start, "carelessness": 0, **lessons}
    assert re.search(said, fault({f"{MATH}.base_model": model}))


def test_a_bootstrap_is_refused(fault):
    assert fault({"bootstrap_replicates": 100}).endswith("t intervals over seeds; remove it")


def test_a_tracker_that_is_not_installed_is_refused(fault, monkeypatch):
    monkeypatch.setattr("humanline.study.scale.scale.find_spec", lambda name: None)
    expected = "report_to.0: wandb needs the package wandb, which is not installed; pip install"
    assert fault({"report_to": ["wandb"]}).startswith(f"smoke.yaml: {expected}")


def test_a_long_value_is_shortened(fault):
    message = fault({f"{MATH}.training.steps": "many " * 100})
    assert len(message) < 250


def test_a_local_folder_and_a_hub_name_are_sources(tmp_path):
    for repo in (str(tmp_path), "owner/name"):
        HubSource(kind="hub", repo=repo, revision=None)


def test_an_exponent_without_a_point_is_a_number(tmp_path):
    """YAML 1.1 reads 1e-3 as text; pydantic makes a number of it."""
    text = (CONFIG / "smoke.yaml").read_text().replace("1.0e-3", "1e-3")
    (tmp_path / "smoke.yaml").write_text(text)
    rate = load_scale(tmp_path / "smoke.yaml").tasks["math_reasoning"].training.learning_rate
    assert rate == 1e-3


def extending(folder: Path, content: str, below: str = "smoke.yaml") -> Path:
    (folder / "smoke.yaml").write_text((CONFIG / "smoke.yaml").read_text())
    path = folder / "mine.yaml"
    path.write_text(f"extends: {below}\nscale: mine\n{content}")
    return path


def test_a_scale_extends_another(tmp_path):
    text = "tasks: {math_reasoning: {training: {steps: 16}}}\nseeds: {report: [7]}"
    mine = load_scale(extending(tmp_path, text))
    smoke = load_scale(tmp_path / "smoke.yaml")
    assert mine.scale == "mine"
    assert mine.seeds.report == [7] and mine.seeds.tune == smoke.seeds.tune
    own, theirs = (s.tasks["math_reasoning"].training for s in (mine, smoke))
    assert own == theirs.model_copy(update={"steps": 16})


@pytest.mark.parametrize("below", ("mine.yaml", "absent.yaml", "[smoke.yaml]"))
def test_a_scale_that_extends_what_it_cannot(below, tmp_path):
    with pytest.raises(ConfigError, match=r"mine.yaml: extends: .*; name one|absent.yaml: cannot"):
        load_scale(extending(tmp_path, "", below))


def test_scales_that_extend_each_other(tmp_path):
    path = extending(tmp_path, "", "other.yaml")
    (tmp_path / "other.yaml").write_text("extends: mine.yaml")
    with pytest.raises(ConfigError, match=r"other.yaml: extends: 'mine.yaml' is not another file"):
        load_scale(path)


def test_a_scale_extends_one_of_another_folder(tmp_path, monkeypatch):
    """Its learning rates are still those that stand beside the file below; a pilot is not its."""
    monkeypatch.chdir(tmp_path)
    below, mine = Path("shipped/laptop.yaml"), Path("mine/mine.yaml")
    for path in (below, mine):
        path.parent.mkdir()
    below.write_text((CONFIG / "laptop.yaml").read_text())
    mine.write_text("extends: ../shipped/laptop.yaml\nscale: mine")
    found = load_scale(mine)
    changed = {"scale": "mine", "learning_rates": "../shipped/learning_rates/laptop.yaml"}
    assert found == load_scale(below).model_copy(update=changed | {"pilot": None})


def test_limits_of_a_plan_and_absent_models_are_those_of_its_own_tables(tmp_path):
    """A scale of one's own may have other experiments than the scale that it extends."""
    below = CONFIG / "workstation.yaml"
    (tmp_path / "mine.yaml").write_text(f"extends: {below}\nscale: mine")
    mine, shipped = load_scale(tmp_path / "mine.yaml").plan, load_scale(below).plan
    assert mine == shipped.model_copy(update={"limits": None}) and shipped.limits.tables


def test_a_model_that_the_scale_below_lacks_can_be_had_and_the_other_way_round(tmp_path):
    """An absent model of an extended file is no longer absent; a name in both is still refused."""
    hub = f"{{kind: hub, repo: HuggingFaceTB/SmolLM2-360M-Instruct, revision: {40 * 'a'}}}"
    begin = f"extends: {CONFIG / 'workstation.yaml'}\nscale: mine\n"
    models = f"base_models: {{larger: {hub}}}, absent_models: {{weaker: not needed}}"
    path = tmp_path / "mine.yaml"
    path.write_text(f"{begin}tasks: {{instruction_following: {{{models}}}}}")
    shipped = load_scale(CONFIG / "workstation.yaml").tasks["instruction_following"]
    mine = load_scale(path).tasks["instruction_following"]
    assert set(mine.base_models) == {*shipped.base_models, "larger"} - {"weaker"}
    assert set(mine.absent_models) == {"other", "weaker"}
    both = models.replace("weaker", "larger")
    path.write_text(f"{begin}tasks: {{instruction_following: {{{both}}}}}")
    with pytest.raises(ConfigError, match=r"absent_models.larger: in base_models, too; remove one"):
        load_scale(path)


def test_a_part_of_another_kind_is_replaced_whole(tmp_path):
    text = "tasks: {instruction_following: {judge: {kind: function, path: statistics.mean}}}"
    judge = load_scale(extending(tmp_path, text)).tasks["instruction_following"].judge
    assert judge.kind == "function" and judge.path == "statistics.mean"
    text = "tasks: {instruction_following: {judge: {temperature: 0.5}}}"
    judge = load_scale(extending(tmp_path, text)).tasks["instruction_following"].judge
    assert judge.kind == "gold" and judge.temperature == 0.5 and judge.length_bias == 0.02


def test_a_mistake_in_what_is_laid_over_names_its_file(tmp_path):
    path = extending(tmp_path, "tasks: {math_reasoning: {training: {steps: -1}}}")
    with pytest.raises(ConfigError, match=r"mine.yaml: tasks.math_reasoning.training.steps: "):
        load_scale(path)


def _models(module) -> list[type[BaseModel]]:
    found = [value for value in vars(module).values() if isinstance(value, type)]
    return [value for value in found if issubclass(value, BaseModel)]


SECTIONS = [
    import_module(f"{scale.__name__}.{module.name}") for module in iter_modules(scale.__path__)
]
MODELS = [model for module in (*SECTIONS, experiments) for model in _models(module)]


@pytest.mark.parametrize("model", dict.fromkeys(MODELS))
def test_every_field_is_described(model):
    bare = [name for name, field in model.model_fields.items() if not field.description]
    assert not bare


@pytest.mark.parametrize("model", (Scale, experiments.Experiments))
def test_every_model_refuses_unknown_keys_in_its_schema(model):
    schema = model.model_json_schema()
    objects = [schema, *schema["$defs"].values()]
    assert all(part["additionalProperties"] is False for part in objects if "properties" in part)
