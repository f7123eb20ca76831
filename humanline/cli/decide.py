"""Taking looks: undecided claims get more seeds until all are decided or a time budget ends.

`snakemake decide` makes the claims, then runs this command. It finds the primary claims that are
undecided, and takes the next look of each, in the order of claims.yaml, if its jobs fit into the
time that is left by the seconds of the same jobs on the report seeds. A look is recorded before its
seeds run. From then on the study has these seeds, so that any later workflow makes or keeps them: a
look cannot be dropped for what it shows. Then it runs the workflow again for the claims.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import cache, partial
from typing import ClassVar

import pandas as pd

from humanline.cli.jobs import Job, jobs_of_cell
from humanline.cli.local import run_locks
from humanline.cli.planning.hours import seconds_taken
from humanline.files.json_files import write_json
from humanline.files.provenance import git_state
from humanline.files.typed_files import Columns, Count, read_columns
from humanline.files.validation import ConfigError
from humanline.study.experiments import Cell
from humanline.study.runs.pilot import on_seed
from humanline.study.runs.verdicts import Look, Looks, LooksTaken
from humanline.study.study import Study
from humanline.tables.claims import EXPLORATORY, VERDICTS


def decide(load: Callable[[], Study], minutes: float, cores: int) -> None:
    """Take looks until all primary claims are decided, no look is left, or the next takes too long.

    Args:
        load: reads the study, with the looks that are recorded.
        minutes: the time budget; a look that has begun is finished.
        cores: the number of jobs that run at a time.

    Raises:
        ConfigError: if the study has no looks, or the workflow fails.
    """
    end = time.monotonic() + 60 * minutes
    while True:
        study = load()
        looks = _looks(study)
        verdicts = read_verdicts(study)
        open_ = [claim for claim, verdict in verdicts.items() if verdict == "undecided"]
        coming = next_looks(study, looks, open_)
        left = (end - time.monotonic()) / 60
        estimate = Estimate(study)
        taken, needed = affordable(estimate, coming, left, cores)
        if estimate.unknown:
            _say(f"{len(estimate.unknown)} jobs were never timed and count as nothing")
        if not taken:
            break
        names = ", ".join(f"{own.claim} look {own.look}" for own in taken)
        _say(f"{names}: about {needed:.1f} minutes of the {left:.1f} that are left")
        require_workflow()
        record(study, looks, taken)
        run_workflow()
    if not open_:
        reason = "all primary claims are decided"
    elif not coming:
        reason = "no look is left"
    else:
        first = f"look {coming[0].look} of {coming[0].claim}"
        reason = f"{first} needs about {needed:.1f} minutes, but {max(0.0, left):.1f} are left"
    _say(f"{reason}; stopped")
    for claim, verdict in verdicts.items():
        _say(f"{claim}: {verdict}, looks: {1 + len(study.taken.added(claim))}")


def _say(text: str) -> None:
    print(f"decide: {text}", flush=True)


def _looks(study: Study) -> Looks:
    """Return the rule's looks at this scale, or refuse a study without them."""
    name = study.scale.scale
    if study.claims is None or not study.claims.primary:
        raise ConfigError("claims.yaml: claims: none is primary; write primary: true into one")
    if study.claims.rule.looks is None:
        where = f"scale {name}: seeds.more" if not study.scale.seeds.more else "claims.yaml: rule"
        raise ConfigError(
            f"{where}: there are no looks to take; a scale needs seeds.more and claims.yaml "
            "rule.looks, as the laptop scale has them"
        )
    return study.claims.rule.looks


def read_verdicts(study: Study) -> dict[str, str]:
    """Read the verdicts on the primary claims, as the workflow has written them.

    Raises:
        ConfigError: if a claim has none after its last look.
    """
    path, found = study.paths.tables / "claims.csv", {}
    rows = read_columns(path, _Verdict).set_index("claim") if path.exists() else pd.DataFrame()
    for claim in study.claims.primary if study.claims else []:
        looks = 1 + len(study.taken.added(claim))
        if claim not in rows.index or rows.loc[claim, "looks"] != looks:
            raise ConfigError(f"{path}: no verdict after the last look; run `snakemake claims`")
        found[claim] = str(rows.loc[claim, "verdict"])
    return found


class _Verdict(Columns):
    """What is read of a row of claims.csv."""

    remedy: ClassVar[str] = "run `snakemake claims`"
    claim: str
    verdict: str
    looks: Count | None  # a claim without comparisons has none

    @classmethod
    def fault(cls, frame: pd.DataFrame) -> str | None:
        """Look for a claim that is there twice, and for a word that is no verdict."""
        if (twice := frame.duplicated("claim")).any():
            return f"row {int(twice.to_numpy().argmax())}: field claim: it is there twice"
        if (known := frame["verdict"].isin([*VERDICTS, EXPLORATORY])).all():
            return None
        row = int(known.to_numpy().argmin())
        return f"row {row}: field verdict: {str(frame['verdict'].iloc[row])!r} is none"


def next_looks(study: Study, looks: Looks, claims: Iterable[str]) -> list[Look]:
    """List the next look of each of some claims; none of a claim that has had all."""
    today, commit = date.today(), git_state()["commit"]
    found = []
    for claim in claims:
        number = 2 + len(study.taken.added(claim))
        if number <= len(looks.seeds):
            seeds = looks.added(study.scale.seeds, number)
            found.append(Look(claim=claim, look=number, seeds=seeds, date=today, commit=commit))
    return found


def affordable(
    estimate: "Estimate", coming: Sequence[Look], minutes: float, cores: int
) -> tuple[list[Look], float]:
    """Choose the looks that fit into some minutes together, in order.

    Args:
        estimate: the estimate of their time.
        coming: the looks to choose from.
        minutes: the minutes that are left.
        cores: the number of jobs that run at a time.

    Returns:
        The looks, and the minutes that they need; if none fits, those that the first needs.
    """
    chosen: list[Look] = []
    total = alone = 0.0
    for own in coming:
        needed = estimate.seconds([*chosen, own]) / cores / 60
        if not chosen and own is coming[0]:
            alone = needed
        if needed <= minutes:
            chosen, total = [*chosen, own], needed
    return chosen, total if chosen else alone


class Estimate:
    """Estimates of the time that looks take, from Snakemake's measurements.

    Args:
        study: the study.

    Attributes:
        unknown: the jobs that were never timed, by rule and name; they count as nothing.
    """

    def __init__(self, study: Study):
        self.unknown: set[tuple[str, str]] = set()
        self._study = study
        self._measured = cache(partial(seconds_taken, study))

    def seconds(self, looks: Iterable[Look]) -> float:
        """Estimate the seconds of all jobs that some looks add, one after another.

        A job takes the mean of the same jobs on the report seeds; one that has been done, none.
        """
        study = self._study
        cells = [cell for own in looks for cell in study.cells_of_claim(own.claim, own.seeds)]
        found = {}
        for cell in cells:
            for number, job in enumerate(jobs_of_cell(study, cell)):
                if (job.rule, job.name) not in found:
                    found[job.rule, job.name] = self._job(job, cell, number)
        return sum(found.values())

    def _job(self, job: Job, cell: Cell, number: int) -> float:
        if self._measured(job) is not None:
            return 0.0
        alike = [self._jobs(on_seed(cell, seed))[number] for seed in self._study.scale.seeds.report]
        times = [self._measured(other) for other in alike]
        known = [time for time in times if time is not None]
        if not known and job.stage != "data":  # jobs that write prompts are short, and not timed
            self.unknown.add((job.rule, job.name))
        return sum(known) / len(known) if known else 0.0

    def _jobs(self, cell: Cell) -> list[Job]:
        return list(jobs_of_cell(self._study, cell))


def record(study: Study, looks: Looks, new: Sequence[Look]) -> None:
    """Add looks to the record of those that were taken."""
    taken = LooksTaken(looks=looks, taken=[*study.taken.taken, *new])
    write_json(study.paths.looks, taken.model_dump(mode="json"), sealed=True)


def require_workflow() -> run_locks.Workflow:
    """Find the workflow that this command is a job of.

    Raises:
        ConfigError: if no workflow runs this command.
    """
    if (waiting := run_locks.waiting_workflow()) is None:
        raise ConfigError("decide: it is a job of the workflow; run `snakemake decide`")
    return waiting


def run_workflow() -> None:
    """Run the workflow that this command is a job of again, for the claims.

    It has the same arguments, so also the same machine or cluster. The locks of its files are held
    by the workflow that waits for this command.

    Raises:
        ConfigError: if no workflow runs this command, or if either workflow is ended.
    """
    waiting = require_workflow()
    words = ["claims" if word == "decide" else word for word in waiting.arguments]
    workflow = subprocess.Popen([sys.executable, "-m", "snakemake", *words, "--nolock"])
    signal.signal(signal.SIGTERM, lambda *_: workflow.terminate())
    try:
        status = workflow.wait()
    except KeyboardInterrupt:  # a terminal interrupts both; the workflow ends its jobs
        status = workflow.wait()
    if status or not waiting.is_alive():
        reason = "the workflow ended before it was done, as it says above"
        raise ConfigError(f"decide: {reason}; run `snakemake decide` again to go on with this look")
