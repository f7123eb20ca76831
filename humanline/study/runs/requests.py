"""Resolved requests for stages that read many runs: a table, the claims, or their power.

`Study` makes these objects. Stages take them and never ask it.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from humanline.study.claims import Claim, Claims, Comparison
from humanline.study.experiments import Cell, HumanlineDefaults, Table
from humanline.study.runs.hashes import content_hash
from humanline.study.runs.paths import Paths
from humanline.study.runs.pilot import Pilot
from humanline.study.runs.resolved import Run
from humanline.study.runs.verdicts import LooksTaken


@dataclass(frozen=True)
class TableRequest:
    """A table of experiments.yaml.

    Args:
        name: the table's name, and that of its files.
        spec: its rows and its view.
        scale: the name of the scale.
        runs: the runs of its cells on its seeds, base models first.
        seeds: its seeds.
        tune_seeds: the seeds on which learning rates were chosen.
        defaults: humanline's defaults by task.
        collapse_below: a run has collapsed if its score is below this share of its base model's.
        paths: the paths of the scale's files.
    """

    name: str
    spec: Table
    scale: str
    runs: list[Run]
    seeds: list[int]
    tune_seeds: list[int]
    defaults: dict[str, HumanlineDefaults]
    collapse_below: float
    paths: Paths

    @property
    def title(self) -> str:
        """The table's name in words, as a heading."""
        words = self.name.replace("_", " ")
        return words[:1].upper() + words[1:]

    @property
    def measured(self) -> list[Run]:
        """The runs whose `predictors.json` the table shows: its offline runs.

        They are on the seeds that all offline cells have, so that rows are of the same seeds.
        """
        if not self.spec.compares_data:
            return []
        offline = [run for run in self.runs if run.cell.data == "offline"]
        seeds: dict[tuple[str, str], set[int]] = {}
        for run in offline:
            seeds.setdefault((run.cell.task, run.cell.variant), set()).add(run.cell.seed)
        shared = set.intersection(*seeds.values())
        return [run for run in offline if run.cell.seed in shared]

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Run]:
        return {(run.cell.task, run.name): run for run in self.runs}

    def run(self, cell: Cell) -> Run:
        """Find the resolved run of one of the table's cells."""
        return self._by_name[cell.task, cell.name]

    def shares_prompts(self, task: str) -> bool:
        """Say whether all seeds have the same evaluation prompts of a task."""
        return any(run.shares_prompts for run in self.runs if run.cell.task == task)

    @property
    def config_hash(self) -> str:
        """The hash of all options that the table's numbers depend on."""
        runs = [[run.hashes.train, run.hashes.generate] for run in self.runs]
        judges = {run.cell.task: run.hashes.score for run in self.runs}
        return content_hash([runs, [judges[task] for task in self.spec.tasks]])

    @property
    def hash(self) -> str:
        """The hash of all that the table shows besides its runs' files, for example captions."""
        rates = [run.rate_source for run in self.runs if run.is_trained]
        asked = [self.spec.model_dump(), self.collapse_below, rates]
        asked += [self.defaults[task].model_dump() for task in self.spec.tasks]
        return content_hash([self.config_hash, *asked])


# A comparison, and the runs of both cells of each of its pairs, seed by seed.
ComparedRuns = tuple[Comparison, list[tuple[list[Run], list[Run]]]]


@dataclass(frozen=True)
class ClaimsRequest:
    """The claims, and the runs to test them on.

    Args:
        claims: the claims, and the rule for their verdicts.
        compared: every comparison, with the runs of both cells of each of its pairs, in the order
            of the seeds that all of these cells have. A claim without all of its runs has none.
        scale: the name of the scale.
        paths: the paths of the scale's files.
        has_pilot: whether the scale has a pilot, and so a page of the claims' power.
        taken: the looks that `decide` has taken.
        pilot_changes: how the scale differs from what its pilot measured; see `Pilot.changes`.
    """

    claims: Claims
    compared: list[ComparedRuns]
    scale: str
    paths: Paths
    has_pilot: bool = False
    taken: LooksTaken = field(default_factory=LooksTaken)
    pilot_changes: str = ""

    @property
    def added(self) -> dict[str, list[list[int]]]:
        """By claim, the seeds that each of its looks after the first has added."""
        return {claim: self.taken.added(claim) for claim in self.claims.primary}

    def pairs(self, comparison: Comparison) -> list[tuple[list[Run], list[Run]]]:
        """List the runs of both cells of each pair of a comparison."""
        return next(pairs for own, pairs in self.compared if own is comparison)

    @property
    def tested(self) -> list[Claim]:
        """The claims that have comparisons."""
        known = {comparison.claim.id for comparison, _ in self.compared}
        return [claim for claim in self.claims.claims if claim.id in known]

    @property
    def runs(self) -> list[Run]:
        """All runs, each once."""
        sides = [side for _, pairs in self.compared for pair in pairs for side in pair]
        found = [run for side in sides for run in side]
        return list({(run.cell.task, run.name): run for run in found}.values())


@dataclass(frozen=True)
class PowerRequest:
    """The claims' comparisons on the seeds of the pilot.

    Args:
        measured: the claims, and their comparisons with the runs on the pilot's seeds.
        planned: the number of seeds of each of these comparisons in the tables.
        seeds: the pilot's seeds.
        options: the hashes of these runs' options, by field.
    """

    measured: ClaimsRequest
    planned: list[int]
    seeds: list[int]
    options: dict[str, str]


@dataclass(frozen=True)
class Design:
    """What is known of the claims before their runs.

    Args:
        scale: the name of the scale.
        claims: the claims and their rule.
        planned: every comparison, and the number of its seeds in the tables.
        pilot: the adopted pilot, if any.
        pilot_changes: how the scale differs from what the pilot measured; see `Pilot.changes`.
        written: where `snakemake power` writes a new pilot.
    """

    scale: str
    claims: Claims
    planned: list[tuple[Comparison, int]]
    pilot: Pilot | None
    pilot_changes: str
    written: Path


@dataclass(frozen=True)
class NotMade:
    """What a page lacks, because it was not made yet.

    Args:
        tables: the tables without files, each with those of its runs that are there.
        lacking: how many runs each of these tables lacks, by its name.
        has_verdicts: whether the files of the claims are there; else the page tests the claims that
            have all of their runs.
        has_scores: whether the file of all runs' scores is there.
        runs: the number of runs that are not there.
        command: what makes it all, for a shell.
    """

    tables: list[TableRequest]
    lacking: dict[str, int]
    has_verdicts: bool
    has_scores: bool
    runs: int
    command: str


@dataclass(frozen=True)
class PageRequest:
    """The page of a scale's results.

    Args:
        scale: the name of the scale.
        description: what the scale's file says of it.
        tables: the tables that `all` makes, in the order of experiments.yaml.
        claims: the claims and their runs; None: there are none.
        runs: the runs whose scores tables and claims show, each once.
        paths: the paths of the scale's files.
        config: the folder of the configuration, for the commands that the page shows.
        not_made: what is left out, because it is not there; None: nothing is.
    """

    scale: str
    description: str
    tables: list[TableRequest]
    claims: ClaimsRequest | None
    runs: list[Run]
    paths: Paths
    config: Path
    not_made: NotMade | None = None
