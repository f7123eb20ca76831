"""Words of the first screen: which claims hold, what was run, and what is missing.

What is missing is what one needs to run the same again or to compare with it.
"""

from collections.abc import Callable, Iterable, Sequence

from humanline.data.training_files import Described
from humanline.report.claims import first_run, registered_after
from humanline.report.origins.mixed import commit_words, record_of
from humanline.report.origins.seconds import seconds_of
from humanline.report.origins.unrepeatable import not_deterministic
from humanline.report.page.runs import machine_words
from humanline.study.runs.requests import ClaimsRequest, PageRequest
from humanline.study.runs.resolved import Run
from humanline.study.scale.judges import EnglishJudge, FunctionJudge, Judge, LocalJudge, OpenAIJudge
from humanline.study.scale.models import FineTunedModel, HubModel, Model, PackageModel
from humanline.study.tasks import title_of

# The packages whose versions the page names; files of provenance have all.
_NAMED = ("torch", "transformers", "trl", "humanline")

_HOLDS = {
    "supported": ("holds", "hold"),
    "contradicted": ("does not hold", "do not hold"),
    "undecided": ("is undecided", "are undecided"),
    "untested": ("lacks runs", "lack runs"),
}


def held(verdicts: dict[str, str]) -> str:
    """Say which primary claims hold, which do not, and which are undecided.

    Args:
        verdicts: of the primary claims, by their names; ``untested`` if runs are not made yet.
    """
    number = len(verdicts)
    groups = {told: [c for c, own in verdicts.items() if own == told] for told in _HOLDS}
    if not number:
        return "No claim of this scale is primary, so none has a verdict"
    if number == 1:
        ((claim, told),) = verdicts.items()
        return f"The one primary claim, {claim}, {_HOLDS[told][0]} at this scale"
    for told, claims in groups.items():
        if len(claims) == number:
            return {
                "supported": f"All {number} primary claims hold at this scale",
                "contradicted": f"None of the {number} primary claims holds at this scale",
                "undecided": f"None of the {number} primary claims is decided at this scale",
                "untested": f"None of the {number} primary claims has all of its runs yet",
            }[told]
    parts = [
        f"{len(claims)} {_HOLDS[told][len(claims) > 1]} ({listed(claims)})"
        for told, claims in groups.items()
        if claims
    ]
    return f"Of {number} primary claims, {listed(parts)}"


def facts(request: PageRequest) -> dict[str, str]:
    """Say what was run: models, judge, seeds, runs, hours, commit, machine and versions.

    Args:
        request: what the page shows.

    Returns:
        A text by its title; what is not known is left out.

    Raises:
        ConfigError: if a run's record is missing or damaged.
    """
    runs, records = request.runs, _records(request)
    cells = {(run.cell.task, run.cell.variant) for run in runs}
    found = {
        "Models": _by_task(runs, _models),
        "Judge": "; ".join(dict.fromkeys(_judge(run.judge) for run in runs if run.judge)),
        "Seeds": _seeds(runs),
        "Runs": f"{len(runs):,} of {counted(len(cells), 'cell')}",
        "Hours": _hours(request, records),
        "Commit": listed(commit_words(record.provenance.git) for record in records),
        "Machine": listed(map(machine_words, records)),
        "Versions": _versions(records),
    }
    return {title: text for title, text in found.items() if text}


def missing(request: PageRequest) -> dict[str, str]:
    """Say what is missing to run the same again, or to compare with it.

    Args:
        request: what the page shows.

    Returns:
        By a short name, what it means and, where there is one, the remedy; empty: nothing is.

    Raises:
        ConfigError: if a run's record is missing or damaged.
    """
    records = _records(request)
    found = {"not all made": " ".join(told)} if (told := not_made(request)) else {}
    found |= _missing_of_code(records) | _missing_of_machines(records)
    seeds: dict[tuple[str, str], set[int]] = {}
    for run in request.runs:
        seeds.setdefault((run.cell.task, run.cell.variant), set()).add(run.cell.seed)
    if single := sum(len(own) == 1 for own in seeds.values()):
        found["one seed"] = (
            f"{single} of {counted(len(seeds), 'cell')} {'has' if single == 1 else 'have'} one"
            " seed, and so no interval. Add seeds.report or seeds.sweep to the scale."
        )
    models = [getattr(run.model, "start", run.model) for run in request.runs]
    if local := [m.repo for m in models if isinstance(m, HubModel) and not m.revision]:
        found["local model"] = f"Only who has these folders can start from them: {listed(local)}."
    if reasons := not_deterministic(request.runs):
        found["not deterministic"] = (
            f"{listed(reasons)}; the same commit and seeds do not give the same bytes again."
        )
    return found | (_missing_of_claims(request.claims) if request.claims else {})


def not_made(request: PageRequest) -> list[str]:
    """Say what the page leaves out because it was not made yet, and the command that makes it.

    Args:
        request: what the page shows.

    Returns:
        Sentences; empty: nothing is left out.
    """
    if not (lacks := request.not_made):
        return []
    tables, runs = len(request.tables), len(request.runs)
    told = [
        f"This page shows {tables} of {counted(tables + len(lacks.tables), 'table')} and"
        f" {runs:,} of {counted(runs + lacks.runs, 'run')}."
    ]
    if lacks.tables:
        names = "; ".join(
            f"{name} ({counted(number, 'run')} missing)" for name, number in lacks.lacking.items()
        )
        told.append(f"Tables that are not made: {names}.")
    if request.claims and not lacks.has_verdicts:
        tested, claims = request.claims.tested, request.claims.claims
        names = listed(claim.id for claim in tested) or "none"
        told.append(f"Claims that have all of their runs: {names}, of {len(claims.claims)}.")
        if any(claim.primary for claim in tested):
            told.append(
                "Holm's correction counts the others, too; their runs can only decide more."
            )
    if not lacks.has_scores:
        told.append("The file of all runs' scores is not made.")
    told.append(f"All of it is made by: {lacks.command}")
    if lacks.tables:
        told.append(f"For one table write table_{lacks.tables[0].name} in place of report.")
    return told


def _records(request: PageRequest) -> list[Described]:
    return [record_of(run) for run in request.runs if run.is_trained]


def _missing_of_code(records: Sequence[Described]) -> dict[str, str]:
    """Say whether anyone can get the code that trained the runs, and whether it is one code."""
    found: dict[str, str] = {}
    states = [record.provenance.git for record in records]
    of_all = f"of {counted(len(states), 'trained run')}"
    if unknown := sum(not git.get("commit") and not git.get("version") for git in states):
        found["commit unknown"] = (
            f"{unknown} {of_all} had no git repository, so nobody can find their code."
        )
    if modified := sum(bool(git.get("modified")) for git in states):
        found["modified code"] = (
            f"{modified} {of_all} had files that differ from their commit or release, and none has"
            " these changes."
        )
    told = ((git.get("commit") or "")[:7] or git.get("version") for git in states)
    commits = list(dict.fromkeys(filter(None, told)))
    if len(commits) > 1:
        found["several commits"] = (
            f"The runs were trained at {len(commits)} commits, {listed(commits)}, so their code"
            " may differ, too."
        )
    return found


def _missing_of_machines(records: Sequence[Described]) -> dict[str, str]:
    """Say whether all runs were trained on one kind of machine, with the same packages."""
    found: dict[str, str] = {}
    machines = [machine_words(record) for record in records]
    if unknown := sum(not words for words in machines):
        found["machine unknown"] = f"{unknown} of {counted(len(machines), 'record')} name none."
    if len(named := set(filter(None, machines))) > 1:
        found["several machines"] = (
            f"The runs were trained on {listed(sorted(named))}. Numbers of two machines differ in"
            " their last digits, and so after training."
        )
    versions: dict[str, set[str]] = {}
    for record in records:
        for name, version in record.provenance.packages.items():
            versions.setdefault(name, set()).add(version)
    if several := {name: own for name, own in versions.items() if len(own) > 1}:
        told = "; ".join(f"{name} {listed(sorted(own))}" for name, own in several.items())
        found["several versions"] = f"The runs were trained with different packages: {told}."
    return found


def _missing_of_claims(asked: ClaimsRequest) -> dict[str, str]:
    """Say whether the claims were fixed, and their power known, before their runs."""
    found: dict[str, str] = {}
    claims, day = asked.claims, first_run(asked.runs)
    if day and (late := registered_after(claims, day)):
        found["registered late"] = (
            f"{listed(late)} got {'its' if len(late) == 1 else 'their'} present form after the"
            f" first of these runs ended, on {day} (UTC). A claim that may have been written to fit"
            " its runs is no test; run it on other seeds."
        )
    if not claims.primary:
        return found
    if not claims.registration:
        found["no registration"] = (
            "claims.yaml names no commit that fixed rule and tests before the runs."
        )
    if not asked.has_pilot:
        found["no pilot"] = (
            "Nobody computed before the runs what these claims could decide with their seeds, so"
            " what is open may have had too few. The command snakemake power does."
        )
    elif asked.pilot_changes:
        found["earlier pilot"] = f"The claims' power was {asked.pilot_changes}."
    return found


def counted(number: int, word: str) -> str:
    """Write a number with what it counts: ``1 seed``, ``1,024 seeds``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def listed(texts: Iterable[str]) -> str:
    """List texts, each once: ``a, b and c``; those that are empty are left out."""
    *most, last = [*dict.fromkeys(filter(None, texts))] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _by_task(runs: Sequence[Run], words: Callable[[list[Run]], str]) -> str:
    """Say something of every task; tasks of which the same is said are together."""
    by_task: dict[str, list[Run]] = {}
    for run in runs:
        by_task.setdefault(run.cell.task, []).append(run)
    said: dict[str, list[str]] = {}
    for task, own in by_task.items():
        said.setdefault(words(own), []).append(title_of(task))
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{listed(tasks)}: {text}" for text, tasks in said.items())


def _models(runs: Sequence[Run]) -> str:
    """Say which base models runs start from: the task's own, and others by their names."""
    found = {run.cell.base_model: _model(run.model) for run in runs}
    usual = found.pop(None, None)
    others = [f"{name} ({text})" if text != usual else str(name) for name, text in found.items()]
    if not usual:
        return listed(others)
    return f"{usual}, also {listed(others)}" if others else usual


def _model(model: Model) -> str:
    if isinstance(model, FineTunedModel):
        return f"{_model(model.start)}, fine-tuned"
    if isinstance(model, PackageModel):
        return f"{model.package}, a package"
    if isinstance(model, HubModel):
        return f"{model.repo} at {model.revision[:7]}" if model.revision else model.repo
    return f"{model.architecture}, {counted(model.layers, 'layer')} of width {model.hidden_size}"


def _judge(judge: Judge) -> str:
    """Say which judge compares outputs with references."""
    match judge:
        case EnglishJudge():
            return f"knows the wishes' gold grade, and how likely {judge.model.repo} finds a text"
        case LocalJudge():
            return "knows the generated world's gold reward"
        case OpenAIJudge():
            return f"{judge.model} at {judge.base_url}"
        case FunctionJudge():
            return f"the function {judge.path}"


def _seeds(runs: Sequence[Run]) -> str:
    """Say which seeds runs have, and how many a cell has if not all: ``2 a cell, of 1 to 3``."""
    by_cell: dict[tuple[str, str], set[int]] = {}
    for run in runs:
        by_cell.setdefault((run.cell.task, run.cell.variant), set()).add(run.cell.seed)
    numbers = sorted({len(own) for own in by_cell.values()})
    if not numbers:
        return ""
    seeds = set().union(*by_cell.values())
    ranges = _ranges(sorted(seeds))
    if numbers == [len(seeds)]:
        return ranges
    return f"{' to '.join(map(str, dict.fromkeys([numbers[0], numbers[-1]])))} a cell, of {ranges}"


def _ranges(numbers: Sequence[int]) -> str:
    """Write whole numbers in rising order as ranges: ``21 to 30 and 39``."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return listed(" to ".join(map(str, own)) for own in ranges)


def _hours(request: PageRequest, records: Sequence[Described]) -> str:
    """Say how long the training of the runs took, and all jobs that Snakemake measured."""
    told = f"{_time(sum(record.seconds.total for record in records))} of training"
    jobs = []
    for path in request.paths.benchmarks.rglob("*.tsv"):
        jobs += [own or 0.0 for own in seconds_of(path)]
    if jobs:
        told += f"; {_time(sum(jobs))} of jobs in all ({counted(len(jobs), 'job')}, added up)"
    return told


def _time(seconds: float) -> str:
    """Write seconds in the unit that people would use."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _versions(records: Sequence[Described]) -> str:
    """Name the versions of Python and of the main packages."""
    found = {"Python": [record.provenance.machine.get("python") for record in records]}
    for name in _NAMED:
        found[name] = [record.provenance.packages.get(name) for record in records]
    named = {name: listed(map(str, filter(None, own))) for name, own in found.items()}
    return ", ".join(f"{name} {versions}" for name, versions in named.items() if versions)
