"""The cells of a study: which ones its tables and claims need, on which seeds, and with a curve.

Snakefiles import this module, so it is cheap.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Literal, get_args

from humanline.files.validation import ConfigError
from humanline.study.claims import Claims, Comparison, comparisons
from humanline.study.experiments import Cell, Experiments
from humanline.study.runs.pilot import on_seed
from humanline.study.runs.rates import Rates
from humanline.study.runs.verdicts import LooksTaken
from humanline.study.scale.scale import Scale

Target = Literal["all", "tune", "explore", "all_tables", "power"]
TARGETS: tuple[Target, ...] = get_args(Target)  # of the workflow: those that evaluate cells


class StudyCells:
    """The cells of a scale's tables, claims, figures and tuning.

    Args:
        scale: the validated scale.
        experiments: the validated tables.
        rates: the learning rates, with the cells that are tuned.
        claims: the paper's claims; None: there are none.
        taken: the looks that `decide` has taken.
    """

    def __init__(
        self,
        scale: Scale,
        experiments: Experiments,
        rates: Rates,
        claims: Claims | None,
        taken: LooksTaken,
    ):
        self.scale = scale
        self.experiments = experiments
        self.rates = rates
        self.claims = claims
        self.taken = taken

    def tables(self, *, exploratory: bool = False, extra: bool = False) -> list[str]:
        """List the names of some tables.

        Args:
            exploratory: the tables that explore; else those that report.
            extra: also the tables that `all` leaves out.
        """
        return [
            name
            for name, spec in self.experiments.tables.items()
            if spec.exploratory == exploratory and (extra or not spec.extra)
        ]

    def tables_of(self, target: Target) -> list[str]:
        """List the names of the tables that a target of the workflow makes."""
        if target in ("tune", "power"):
            return []
        return self.tables(exploratory=target == "explore", extra=target == "all_tables")

    def report_cells(self, table: str) -> list[Cell]:
        """List the cells of a table, each on its seeds.

        A table's own seeds are those of all its cells. Exploratory tables have the tuning seeds: no
        claim is tested on those. Tables of cost have the sweep seeds, because they evaluate every
        checkpoint. In all other tables a cell has its `seeds`.
        """
        spec, seeds = self.experiments.tables[table], self.scale.seeds
        fixed = seeds.tune if spec.exploratory else spec.seeds
        if spec.view == "cost" and not fixed:
            fixed = self._few_seeds
        return self.experiments.cells(table, lambda cell: fixed or self.seeds(cell))

    def report_seeds(self, table: str) -> list[int]:
        """List all seeds that a table has cells on."""
        return sorted({cell.seed for cell in self.report_cells(table)})

    def seeds(self, cell: Cell) -> list[int]:
        """List the seeds of a cell in the tables: more if a primary claim compares it."""
        return self.scale.seeds.report if self._is_primary([cell]) else self._few_seeds

    @property
    def _few_seeds(self) -> list[int]:
        return self.scale.seeds.sweep or self.scale.seeds.report

    def _is_primary(self, cells: Iterable[Cell]) -> bool:
        """Say whether primary claims compare all of some cells."""
        return all((cell.task, cell.variant) in self._primary for cell in cells)

    @cached_property
    def _primary(self) -> set[tuple[str, str]]:
        """The cells that primary claims compare, by task and variant."""
        return {
            (cell.task, cell.variant)
            for comparison in self.comparisons()
            if comparison.claim.primary
            for cell in comparison.cells
        }

    def figure_seeds(self) -> list[int]:
        """List the seeds of the figures: the scale's sweep seeds, else its reporting seeds."""
        return self._few_seeds

    def evaluated(self, target: Target) -> list[Cell]:
        """List the cells that a target of the workflow evaluates."""
        if target == "tune":
            return [cell for task in self.scale.tasks for cell in self.rates.tune_cells(task)]
        if target == "power":
            return self._pilot_cells
        cells = [cell for table in self.tables_of(target) for cell in self.report_cells(table)]
        return cells if target == "explore" else cells + self._added_cells

    def wider(self, best: Mapping[str, Mapping[str, float]]) -> list[Cell]:
        """List the cells that tuning adds for the variants whose best rate is at an edge.

        Args:
            best: the best candidate rate of each variant, by task and variant.
        """
        return [c for task, rates in best.items() for c in self.rates.wider_cells(task, rates)]

    def find(self, task: str, name: str) -> Cell:
        """Find a cell by its run's name, among all cells of the study.

        Raises:
            ConfigError: if no cell of the task has that name.
        """
        if cell := self._cells.get((task, name)):
            return cell
        raise ConfigError(
            f"no cell of {task} is named {name!r}; add it to a table of experiments.yaml, "
            "or its seed to the scale's seeds"
        )

    def all_cells(self) -> list[Cell]:
        """List every cell of every table, of the figures and of tuning, with their base models."""
        return list(self._cells.values())

    @cached_property
    def _cells(self) -> dict[tuple[str, str], Cell]:
        cells = [cell for table in self.experiments.tables for cell in self.report_cells(table)]
        if self.experiments.implied_capacity:
            for seed in self.figure_seeds():
                cells += self.experiments.perceived(seed).values()
        for task in self.scale.tasks:
            cells += self.rates.tune_cells(task) + self.rates.wider_cells(task)
        cells += self._pilot_cells + self._added_cells
        cells += [cell.base for cell in cells] + [cell.data_base for cell in cells]
        return {(cell.task, cell.name): cell for cell in cells}

    def pilot_seeds(self, comparison: Comparison) -> list[int]:
        """List the pilot's seeds of a comparison: two if no primary claim has all of its cells."""
        seeds = self.scale.seeds.piloting
        return seeds if self._is_primary(comparison.cells) else seeds[:2]

    @property
    def _pilot_cells(self) -> list[Cell]:
        """The cells that claims compare, on the pilot's seeds."""
        if len(self.scale.seeds.piloting) < 2:  # which `power_request` refuses
            return []
        return self._piloted(self.comparisons())

    def _piloted(self, comparisons: Iterable[Comparison]) -> list[Cell]:
        found = {
            (cell.task, cell.variant, seed): on_seed(cell, seed)
            for comparison in comparisons
            for cell in comparison.cells
            for seed in self.pilot_seeds(comparison)
        }
        return list(found.values())

    @cached_property
    def _added_cells(self) -> list[Cell]:
        """The cells that only later looks of claims have."""
        return [
            cell
            for claim in dict.fromkeys(own.claim for own in self.taken.taken)
            for cell in self.cells_of_claim(claim, self.taken.seeds(claim))
        ]

    def cells_of_claim(self, claim: str, seeds: Iterable[int]) -> list[Cell]:
        """List the cells that a claim compares, on some seeds.

        Args:
            claim: the claim's name.
            seeds: the seeds.
        """
        cells = [cell for own in self.comparisons() if own.claim.id == claim for cell in own.cells]
        found = {(cell.task, cell.variant): cell for cell in cells}
        return [on_seed(cell, seed) for cell in found.values() for seed in seeds]

    @cached_property
    def with_curves(self) -> set[tuple[str, str]]:
        """The trained cells whose learning curve a table or a claim reads, by task and name."""
        cells = [
            cell
            for table, spec in self.experiments.tables.items()
            if spec.has_curves or spec.view == "cost"
            for cell in self.report_cells(table)
        ]
        for comparison in self.comparisons():
            if comparison.test.measure == "curve_mean":
                cells += [cell for pair in self.pairs(comparison) for cell in pair]
                cells += self._piloted([comparison])
        return {(cell.task, cell.name) for cell in cells if cell.objective != "base"}

    def comparisons(self) -> list[Comparison]:
        """List the comparisons of all claims."""
        return self._comparisons

    @cached_property
    def _comparisons(self) -> list[Comparison]:
        found = comparisons(self.claims, self.experiments.defaults) if self.claims else []
        return [comparison for _, comparison in found]

    def common_seeds(self, cells: Iterable[Cell]) -> list[int]:
        """List the seeds for which the tables that `all` makes have all of some cells."""
        found = [set(self._reported.get((cell.task, cell.variant), {})) for cell in cells]
        return sorted(set.intersection(*found))

    def claim_seeds(self, comparison: Comparison) -> list[int]:
        """List a comparison's seeds: its cells' common ones, and those of its claim's looks."""
        return self.common_seeds(comparison.cells) + self.taken.seeds(comparison.claim.id)

    def pairs(self, comparison: Comparison) -> list[tuple[Cell, Cell]]:
        """List a comparison's pairs of cells on each of its seeds."""
        seeds = self.claim_seeds(comparison)
        return [
            (on_seed(cell, seed), on_seed(against, seed))
            for cell, against in comparison.pairs
            for seed in seeds
        ]

    @cached_property
    def _reported(self) -> dict[tuple[str, str], dict[int, Cell]]:
        """The cells of the tables that `all` makes: by task and variant, then by seed."""
        found: dict[tuple[str, str], dict[int, Cell]] = {}
        for table in self.tables():
            for cell in self.report_cells(table):
                found.setdefault((cell.task, cell.variant), {})[cell.seed] = cell
        return found
