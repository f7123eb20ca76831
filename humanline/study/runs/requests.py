"""What stages that look at many runs are asked for, resolved: a table, or the claims.

`Study.table` and `Study.compared` make these objects. Stages take them and never ask the study.
"""

from dataclasses import dataclass
from functools import cached_property

from humanline.study.claims import Claims, Comparison
from humanline.study.experiments import Cell, HumanlineDefaults, Table
from humanline.study.runs.hashes import content_hash
from humanline.study.runs.paths import Paths
from humanline.study.runs.resolved import Run


@dataclass(frozen=True)
class TableRequest:
    """A table of experiments.yaml.

    Args:
        name: of its files.
        spec: how it is shown.
        scale: the name of the scale.
        runs: of its cells on its seeds, base models first.
        seeds: its seeds.
        tune_seeds: those that learning rates were chosen on.
        defaults: of its tasks, what humanline means where a row says nothing.
        collapse_below: the share of its base model's score below which a run has collapsed.
        replicates: of the bootstrap.
        paths: of the scale's files.
    """

    name: str
    spec: Table
    scale: str
    runs: list[Run]
    seeds: list[int]
    tune_seeds: list[int]
    defaults: dict[str, HumanlineDefaults]
    collapse_below: float
    replicates: int
    paths: Paths

    @property
    def measured(self) -> list[Run]:
        """Its runs whose `predictors.json` it shows."""
        return [run for run in self.runs if run.cell.data == "offline" and self.spec.compares_data]

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Run]:
        return {(run.cell.task, run.name): run for run in self.runs}

    def run(self, cell: Cell) -> Run:
        """The resolved run of one of its cells."""
        return self._by_name[cell.task, cell.name]

    @property
    def config_hash(self) -> str:
        """Hash of all options that its numbers depend on."""
        runs = [[run.hashes.train, run.hashes.generate] for run in self.runs]
        judges = {run.cell.task: run.hashes.score for run in self.runs}
        return content_hash([runs, [judges[task] for task in self.spec.tasks], self.replicates])

    @property
    def hash(self) -> str:
        """Hash of all that it shows besides its runs' files, captions among it."""
        rates = [run.rate_source for run in self.runs if run.is_trained]
        asked = [self.spec.model_dump(), self.collapse_below, rates]
        asked += [self.defaults[task].model_dump() for task in self.spec.tasks]
        return content_hash([self.config_hash, *asked])


@dataclass(frozen=True)
class ClaimsRequest:
    """The verdicts on the paper's claims.

    Args:
        claims: with the rule of the verdicts.
        compared: every comparison, with the runs of its two cells on the seeds that have both.
        scale: the name of the scale.
        paths: of its files.
    """

    claims: Claims
    compared: list[tuple[Comparison, list[tuple[Run, Run]]]]
    scale: str
    paths: Paths

    def pairs(self, comparison: Comparison) -> list[tuple[Run, Run]]:
        """The runs of a comparison, seed by seed."""
        return next(pairs for own, pairs in self.compared if own is comparison)

    @property
    def runs(self) -> list[Run]:
        """Every run, once."""
        found = [run for _, pairs in self.compared for pair in pairs for run in pair]
        return list({(run.cell.task, run.name): run for run in found}.values())
