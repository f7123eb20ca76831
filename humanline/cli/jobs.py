"""The jobs of the workflow at a scale, with their work and the disk that they fill.

Without the scale's `plan` the jobs are the same, but their work is unknown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from humanline.cli.planning import work
from humanline.cli.planning.work import Work, billions_of, work_of
from humanline.study.experiments import Cell
from humanline.study.study import Study
from humanline.study.study_cells import TARGETS, Target
from humanline.study.tasks import find_task, score_rule
from humanline.study.values import Stage

BYTES = {"float32": 4, "bfloat16": 2}  # of a parameter


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Args:
        rule: the name of its rule.
        name: its name among the rule's jobs.
        stage: the stage whose resources it requests.
        work: the work of its GPUs.
        gigabytes: size of the weights that it leaves, in gigabytes.
        judged: number of pairs that a judge compares.
        gpus: number of GPUs that it requests.
        task: the task of the judge.
    """

    rule: str
    name: str
    stage: Stage
    work: tuple[Work, ...] = ()
    gigabytes: float = 0
    judged: int = 0
    gpus: int = 0
    task: str = ""


# The jobs, as the rules of the workflow have them.


def jobs(study: Study) -> dict[str, list[Job]]:
    """List the jobs of every target, without those of earlier targets.

    Returns:
        Jobs by target, in the order of `TARGETS`.
    """
    found: dict[str, list[Job]] = {}
    seen = set()
    for target in TARGETS:
        found[target] = []
        for job in _jobs_of(study, target):
            if (job.rule, job.name) not in seen:
                seen.add((job.rule, job.name))
                found[target].append(job)
    return found


def _jobs_of(study: Study, target: Target) -> Iterator[Job]:
    """Yield the jobs of a target; some come several times."""
    for cell in study.evaluated(target):
        yield from jobs_of_cell(study, cell)
    for cell in _perceived(study) if target == "all" else []:
        yield from _preparation(study, cell)
    yield from _measurements(study, _measured(study, target))
    yield from _summaries(study, target)


def jobs_of_table(study: Study, table: str) -> list[Job]:
    """List the jobs of one table, from nothing."""
    found = [job for cell in study.report_cells(table) for job in jobs_of_cell(study, cell)]
    if study.experiments.tables[table].compares_data:
        found += _measurements(study, [run.cell for run in study.table(table).measured])
    found.append(Job(f"table_{table}", "", "table"))
    return list({(job.rule, job.name): job for job in found}.values())


def jobs_of_cell(study: Study, cell: Cell) -> Iterator[Job]:
    """Yield the jobs that make a cell's score, in an order that does not depend on its seed."""
    yield from _preparation(study, cell)
    yield _generate(study, cell)
    yield _score(study, cell)


def _measured(study: Study, target: Target) -> list[Cell]:
    """List the cells of a target whose offline data are measured."""
    tables = study.experiments.tables
    comparing = [table for table in study.tables_of(target) if tables[table].compares_data]
    cells = [run.cell for table in comparing for run in study.table(table).measured]
    mapped = [run.cell for run, _ in study.mapped()] if target == "explore" else []
    return cells + mapped


def _measurements(study: Study, cells: list[Cell]) -> Iterator[Job]:
    """Yield the jobs that measure offline data, of which cells with their models are made."""
    for cell in cells:
        yield from _preparation(study, cell)
        gpus = study.resolve(cell).gpus("generate")
        done = work_of(work.predictors, study, cell)
        yield Job("predictors", _name(cell), "generate", done, gpus=gpus)


def _perceived(study: Study) -> list[Cell]:
    """List the cells of the figures."""
    if not study.experiments.implied_capacity:
        return []
    seeds = study.figure_seeds()
    return [cell for seed in seeds for cell in study.experiments.perceived(seed).values()]


def _summaries(study: Study, target: Target) -> Iterator[Job]:
    """Yield the jobs that read many runs: tables, scores, claims, figures, map, tuning."""
    if target in ("tune", "power"):
        if study.evaluated(target):
            if target == "tune":
                yield Job("first_rates", "", "table")
            yield Job(target, "", "table")
        return
    for table in study.tables_of(target):
        yield Job(f"table_{table}", "", "table")
    if target == "explore":
        if study.mapped():
            yield Job("map", "", "table")
        return
    yield Job("scores", "", "table")
    yield Job("report", "", "table")
    if study.claims:
        yield Job("claims", "", "table")
    if study.experiments.implied_capacity:
        yield Job("figures", "", "table")
        for seed in study.figure_seeds():
            gpus = study.perceived(seed)["policy"].gpus("generate")
            done = work_of(work.surprisal, study, seed)
            yield Job("surprisal", str(seed), "generate", done, gpus=gpus)


def _preparation(study: Study, cell: Cell) -> Iterator[Job]:
    """Yield the jobs that make a cell's model."""
    yield Job("data", f"{cell.task}/{study.resolve(cell).paths.draw}", "data")
    yield from _base_model(study, cell.base)
    if cell.data == "offline":
        source = cell.data_base
        yield from _base_model(study, source)
        gpus = study.resolve(source).gpus("offline")
        yield Job(
            "offline", _name(source), "offline", work_of(work.offline, study, source), gpus=gpus
        )
        if cell.quartile:
            name = f"{_name(source)} under {cell.base.name}"
            gpus = study.resolve(cell).gpus("generate")
            done = work_of(work.likelihood, study, cell)
            yield Job("likelihood", name, "generate", done, gpus=gpus)
    if cell.objective != "base":
        done = work_of(work.training, study, cell)
        gpus, kept = study.resolve(cell).gpus("train"), _kept_gigabytes(study, cell)
        yield Job("train", _name(cell), "train", done, gigabytes=kept, gpus=gpus)


def _base_model(study: Study, base: Cell) -> Iterator[Job]:
    if name := study.resolve(base).hashes.pretrained:
        yield Job("pretrained", f"{base.task}/{name}", "base_model")
    done = work_of(work.lessons, study, base)
    # Without lessons it is links into the cache of the hub or of packages.
    kept = BYTES["float32"] * billions_of(study, base) if done else 0
    gpus = study.scale.resources_for("base_model").gpu if done else 0
    yield Job("base_model", _name(base), "base_model", done, gigabytes=kept, gpus=gpus)


def _generate(study: Study, cell: Cell) -> Job:
    done = work_of(work.evaluation, study, cell)
    return Job("generate", _name(cell), "generate", done, gpus=study.resolve(cell).gpus("generate"))


def _score(study: Study, cell: Cell) -> Job:
    is_judged = find_task(cell.task).scoring == "judge"
    judged = work.outputs(study, cell) if is_judged else 0
    done = work_of(work.judging, study, cell)
    gpus = study.resolve(cell).gpus("score") if done else 0
    rule = score_rule(cell.task)
    return Job(rule, _name(cell), "score", done, judged=judged, gpus=gpus, task=cell.task)


def _name(cell: Cell) -> str:
    return f"{cell.task}/{cell.name}"


def _kept_gigabytes(study: Study, cell: Cell) -> float:
    """Compute the size of all models that a run keeps, in gigabytes; 0: unknown."""
    if study.scale.plan is None:
        return 0
    options = study.resolve(cell).training
    return BYTES[options.save_dtype] * billions_of(study, cell) * options.evaluations
