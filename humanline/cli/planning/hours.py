"""The time of jobs: of one, and of many on a machine that runs some at a time."""

from collections.abc import Iterable, Iterator, Mapping

from humanline.cli.jobs import Job, jobs_of_table
from humanline.files.validation import pick
from humanline.report.origins.seconds import seconds_of
from humanline.study.study import Study
from humanline.study.study_cells import TARGETS


def hours(study: Study, job: Job) -> float:
    """Compute the hours of a job, on the GPUs that it requests, or else on one.

    Raises:
        ConfigError: if the job has work and the scale no `plan`.
    """
    if not job.work:
        return 0
    plan = study.scale.assumptions
    rates, calls = plan.tokens_per_second, plan.seconds_per_call
    of_tokens = sum(
        work.tokens * work.billions / rates.billions / getattr(rates, work.kind)
        for work in job.work
    )
    of_calls = sum(work.calls * getattr(calls, work.kind) for work in job.work)
    seconds = of_tokens / plan.speed / max(1, job.gpus) + of_calls
    return seconds / 3600 + plan.startup_minutes / 60


def seconds_taken(study: Study, job: Job) -> float | None:
    """Read the seconds that a job took when it ran here; None if it did not, or was not measured.

    Raises:
        ConfigError: if Snakemake's file of its seconds is damaged.
    """
    folder = study.paths.benchmarks / ("score" if job.stage == "score" else job.rule)
    for name in (job.name, job.name.replace("/", "-").replace(" ", "-")):
        path = folder / f"{name}.tsv"
        if job.name and path.exists():
            measured = [own for own in seconds_of(path) if own is not None]
            return sum(measured) if measured else None
    return None


def minutes(study: Study, jobs: Iterable[Job], ratios: Mapping[str, float] | None = None) -> float:
    """Compute the minutes of some jobs on one machine that runs `jobs_at_a_time`, from nothing.

    No order of the jobs takes longer, if none waits while it could run: they fill the machine, or
    those that are left follow each other (R. L. Graham, 1966).

    Args:
        study: the study.
        jobs: the jobs.
        ratios: by rule, how many times as long as planned its jobs take; None: as planned.
    """
    at_a_time = study.scale.assumptions.jobs_at_a_time or 1
    total = 0.0
    longest: dict[str, float] = {}
    for job in jobs:
        needed = 60 * hours(study, job) * (ratios or {}).get(job.rule, 1.0)
        total += needed
        longest[job.stage] = max(needed, longest.get(job.stage, 0.0))
    return total / at_a_time + sum(longest.values()) * (1 - 1 / at_a_time)


def spans(study: Study, planned: dict[str, list[Job]]) -> Iterator[tuple[str, list[Job]]]:
    """Yield what the plan times: targets, the tables with a limit together, and each table.

    Yields:
        A name, and its jobs from nothing; for targets other than the first, those that they add.
    """
    for target in TARGETS:
        if planned[target]:
            yield target if target == TARGETS[0] else f"{target}, besides", planned[target]
    limits = study.scale.assumptions.limits
    if limits and len(limits.tables) > 1:
        yield name_of_limited(limits.tables), jobs_of_limited(study)
    for table in study.experiments.tables:
        yield f"table_{table}", jobs_of_table(study, table)


def jobs_of_limited(study: Study) -> list[Job]:
    """List the jobs of the tables with a limit of their own, from nothing.

    Raises:
        ConfigError: if one of them is no table at this scale.
    """
    limits = study.scale.assumptions.limits
    tables = limits.tables if limits else []
    for table in tables:
        pick("table of plan.limits.tables", table, study.experiments.tables)
    found = [job for table in tables for job in jobs_of_table(study, table)]
    return list({(job.rule, job.name): job for job in found}.values())


def name_of_limited(tables: list[str]) -> str:
    """Name some tables together."""
    return " ".join(f"table_{table}" for table in tables)
