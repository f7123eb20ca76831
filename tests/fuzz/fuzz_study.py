"""Bad configurations and command lines: each is refused in one line, or read right.

A sample runs with the other tests. All of them, or some thousands, by hand, with a table by kind:

    python tests/fuzz/fuzz_study.py --cases 4000 --out outcomes.tsv
"""

import argparse
import itertools
import random
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import study_commands
import study_fields
import study_names
import study_yaml
import yaml
from study_outcomes import BAD, Case, Outcome, run

ROOT = Path(__file__).parents[2]
SCALES = ("smoke", "laptop", "paper", "workstation")
LOOKS = {"seeds": [10, 15, 20], "weights": [0.8, 0.12, 0.08]}


def make_base(folder: Path) -> Path:
    """Write the study that cases change: every kind of table, claim, model and file, each once."""
    config = folder / "config"
    (config / "learning_rates").mkdir(parents=True)
    (config / "pilots").mkdir()
    theirs = ROOT / "workflow" / "config"
    others = ("learning_rates/laptop.yaml", "pilots/laptop.yaml")
    for name in (*(f"{scale}.yaml" for scale in SCALES), *others):
        shutil.copyfile(theirs / name, config / name)
    tests = ROOT / "tests" / "workflow"
    shutil.copyfile(tests / "experiments.yaml", config / "experiments.yaml")
    claims = (tests / "claims.yaml").read_text()
    looks = "looks: {seeds: [10, 15, 20], weights: [0.8, 0.12, 0.08]}"
    one = "rule: {alpha: 0.05, power: 0.8"
    assert one in claims
    claims = claims.replace(one, f"{one}, {looks}") + "\nregistration: 6a65ba8\n"
    (config / "claims.yaml").write_text(claims)
    record = folder / "results" / "laptop" / "decide" / "looks.json"
    record.parent.mkdir(parents=True)
    taken = {"claim": "C1", "look": 2, "seeds": [39, 40, 41, 42, 43], "date": "2026-11-27"}
    content = {"looks": LOOKS, "taken": [taken]}
    record.write_text(yaml.safe_dump(content, default_flow_style=True, width=10**6))
    return folder


def all_cases(base: Path) -> Iterator[Case]:
    """Make every case."""
    yield from study_yaml.cases(base)
    yield from study_names.cases()
    yield from study_commands.cases()
    yield from study_fields.cases(base)


def act(case: Case) -> int:
    """Do a case in the current folder, as the commands and the workflow would."""
    from humanline.cli.commands import main

    if case.words is not None:
        return main(list(case.words))
    status = main(["check", f"--scale={case.scale}", "--config=config"])
    return status or _read_all(case.scale)


def _read_all(scale: str) -> int:
    """Read all of a study that the workflow reads before any job."""
    from humanline.cli import plan
    from humanline.cli.list import rows
    from humanline.files.validation import ConfigError
    from humanline.study.study import load_study

    folder = Path("config")
    study = load_study(folder / f"{scale}.yaml", folder / "experiments.yaml", Path("results"))
    try:
        for cell in study.all_cells():
            run = study.resolve(cell)
            _ = run.hashes.train, run.hashes.generate, run.hashes.score, run.hashes.offline
            _ = run.resources_for("train"), run.gpus("train"), run.evaluations, run.is_stored
        for name in study.experiments.tables:
            request = study.table(name)
            _ = request.hash, request.measured, request.seeds
        if request := study.claims_request():
            for comparison, _ in request.compared:
                _ = comparison.hypotheses, comparison.refutations, comparison.words
                _ = comparison.paper_effect, study.pairs(comparison)
            _ = study.design(), study.pilot_changes(), study.claims.strictest_level
        study.page_request(folder), study.judged(), study.mapped()
        for task in study.scale.tasks:
            study.draws(task), study.pretrained(task)
        rows("tables", folder, lambda: study), rows("cells", folder, lambda: study)
        if study.experiments.implied_capacity:
            [study.perceived(seed) for seed in study.figure_seeds()]
        if study.scale.plan:
            plan.describe(study)
    except ConfigError as error:
        print(f"humanline: error: {error}", file=sys.stderr)
        return 1
    return 0


def warm() -> None:
    """Import what the cases import, so that children do not."""

    import humanline.cli.commands
    import humanline.cli.list
    import humanline.cli.local.run_locks
    import humanline.cli.parser
    import humanline.cli.plan
    import humanline.cli.progress.joblog
    import humanline.tables.tune  # noqa: F401


def outcomes(cases: list[Case], base: Path, folder: Path) -> Iterator[tuple[Case, Outcome]]:
    """Run cases, each in a folder of its own."""
    warm()
    for number, case in enumerate(cases):
        own = folder / str(number)
        yield case, run(case, base, own, act)
        shutil.rmtree(own, ignore_errors=True)


def sample(cases: list[Case], number: int, seed: int) -> list[Case]:
    """Draw cases at random, about as many of each kind; there are most of fields."""
    chance = random.Random(seed)
    kinds: dict[str, list[Case]] = defaultdict(list)
    for case in chance.sample(cases, len(cases)):
        kinds[case.kind].append(case)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*kinds.values()))
    return list(itertools.islice(filter(None, turns), number))


def summary(found: list[tuple[Case, Outcome]]) -> str:
    """Write the table: what is tried by what became of it."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for case, outcome in found:
        counts[case.kind.split(":")[0]][outcome.kind] += 1
        counts["all"][outcome.kind] += 1
    kinds = sorted({kind for own in counts.values() for kind in own}, key=lambda k: (k in BAD, k))
    lines = [
        "| what is tried | inputs | " + " | ".join(kinds) + " |",
        "| --- " * (len(kinds) + 2) + "|",
    ]
    for name, own in counts.items():
        cells = [str(own[kind] or "") for kind in kinds]
        lines.append(f"| {name} | {own.total()} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run a sample, print the table, and list what is bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, help="how many, at random; without it: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="", help="only kinds that have this in their name")
    parser.add_argument("--out", type=Path, help="a file for every outcome, tab-separated")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = make_base(Path(temporary, "base"))
        cases = [case for case in all_cases(base) if arguments.kind in case.kind]
        if arguments.cases and arguments.cases < len(cases):
            cases = sample(cases, arguments.cases, arguments.seed)
        found = []
        out = open(arguments.out, "w") if arguments.out else None  # noqa: SIM115
        for case, outcome in outcomes(cases, base, Path(temporary, "cases")):
            found.append((case, outcome))
            if out:
                text = outcome.text[-1500:]
                row = (outcome.kind, case.kind, case.name, f"{outcome.seconds:.2f}", repr(text))
                print("\t".join(" ".join(part.split()) for part in row), file=out, flush=True)
    print(summary(found))
    return int(any(outcome.kind in BAD for _, outcome in found))


if __name__ == "__main__":
    sys.exit(main())
