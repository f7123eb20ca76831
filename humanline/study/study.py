"""A study: a scale and its experiments, checked together. It knows all cells and their runs.

Snakefiles import this module, so it is cheap.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel

from humanline.files.validation import ConfigError, load_yaml, pick, validate
from humanline.study.claims import Claims, Comparison, comparisons
from humanline.study.experiments import Cell, Experiments
from humanline.study.pilot import Pilot, on_seed, pilot_cells
from humanline.study.runs.paths import Paths, RunPaths
from humanline.study.runs.rates import Rates, TunedRates
from humanline.study.runs.requests import ClaimsRequest, ComparedRuns, PowerRequest, TableRequest
from humanline.study.runs.resolved import Run
from humanline.study.scale.scale import Scale, load_scale
from humanline.study.table_checks import claims_fault, possible_at, require_tables
from humanline.study.tasks import find_task

Target = Literal["all", "tune", "explore", "all_tables", "power"]
TARGETS: tuple[Target, ...] = get_args(Target)  # of the workflow: those that evaluate cells


class Study:
    """A scale and its experiments; it gives the workflow and the commands their cells and runs.

    Args:
        scale: the validated scale.
        experiments: the validated tables.
        learning_rates: the tuned rates by task and variant, as in `TunedRates.chosen`.
        root: the folder of results; files of this scale are in its subfolder.
        claims: the paper's claims; None: there are none.
        pilot: the adopted pilot; None: there is none, and no claim is refused for lack of power.
    """

    def __init__(
        self,
        scale: Scale,
        experiments: Experiments,
        learning_rates: dict,
        root: Path,
        claims: Claims | None = None,
        pilot: Pilot | None = None,
    ):
        self.scale = scale
        self.experiments = experiments
        self.learning_rates = learning_rates
        self.root = root
        self.claims = claims
        self.pilot = pilot
        self.paths = Paths(root / scale.scale)
        self.rates = Rates(scale, experiments, learning_rates)
        self._runs: dict[tuple[str, str], Run] = {}

    # Runs, resolved.

    def resolve(self, cell: Cell) -> Run:
        """Resolve a cell: collect its options, files and hashes in one object for the stages."""
        key = cell.task, cell.name
        if key not in self._runs:
            self._runs[key] = self._resolved(cell)
        return self._runs[key]

    def _resolved(self, cell: Cell) -> Run:
        task = self.scale.tasks[cell.task]
        return Run(
            cell=cell,
            scale=self.scale.scale,
            paths=RunPaths(
                self.paths, cell, task.data.draw(cell.seed), self.scale.seeds.split(cell.seed)
            ),
            has_curve=(cell.task, cell.name) in self._with_curves,
            learning_rate=self.rates.rate(cell),
            rate_source=self.rates.source(cell),
            data=task.data,
            model=task.model(cell.base_model),
            data_model=task.model(cell.data_base.base_model),
            reward=task.reward,
            judge=task.judge,
            training=task.training,
            evaluation=task.evaluation,
            generation=self.scale.generation,
            resources=self.scale.resources,
        )

    def run(self, task: str, name: str) -> Run:
        """Find a run by its name, and resolve it.

        Raises:
            ConfigError: if no cell of the task has that name.
        """
        return self.resolve(self.find(task, name))

    def table(self, name: str) -> TableRequest:
        """Resolve a table and its runs.

        Raises:
            ConfigError: if no table has that name.
        """
        spec = pick("table", name, self.experiments.tables)
        return TableRequest(
            name=name,
            spec=spec,
            scale=self.scale.scale,
            runs=[self.resolve(cell) for cell in self.report_cells(name)],
            seeds=self.report_seeds(name),
            tune_seeds=self.scale.seeds.tune,
            defaults=self.experiments.defaults,
            collapse_below=self.experiments.collapse_below,
            paths=self.paths,
        )

    def claims_request(self) -> ClaimsRequest | None:
        """Resolve the claims and the runs that they compare; None if the study has no claims."""
        if self.claims is None:
            return None
        found = [self._on(own, self.common_seeds(own.cells)) for own in self.comparisons()]
        name = self.scale.scale
        return ClaimsRequest(self.claims, found, name, self.paths, self.pilot is not None)

    def power_request(self) -> PowerRequest:
        """Resolve the pilot: the primary claims' comparisons, and others of the same cells.

        Raises:
            ConfigError: if no claim is primary, or the pilot has a single seed.
        """
        seeds, name = self.scale.seeds.piloting, self.scale.scale
        if self.claims is None or not self._primary:
            raise ConfigError("claims.yaml: claims: none is primary; write primary: true into one")
        if len(seeds) < 2:
            raise ConfigError(f"scale {name}: seeds.pilot: {seeds} has no spread; add seeds")
        found = [(own, n) for own, n in self.planned() if self._is_primary(own.cells)]
        compared = [self._on(own, seeds) for own, _ in found]
        measured = ClaimsRequest(self.claims, compared, name, self.paths)
        return PowerRequest(measured, [n for _, n in found], seeds)

    def _on(self, comparison: Comparison, seeds: list[int]) -> ComparedRuns:
        """Resolve both cells of each of a comparison's pairs on some seeds."""
        runs = [
            [[self.resolve(on_seed(cell, seed)) for seed in seeds] for cell in pair]
            for pair in comparison.pairs
        ]
        return comparison, [(first, second) for first, second in runs]

    def planned(self) -> list[tuple[Comparison, int]]:
        """List the comparisons of all claims, and how many seeds their cells have in the tables."""
        return [(own, len(self.common_seeds(own.cells))) for own in self.comparisons()]

    def perceived(self, seed: int) -> dict[str, Run]:
        """Resolve the runs of the figure of implied capacities: policy and data sources, by name.

        Raises:
            ConfigError: if the experiments have no such figure.
        """
        cells = self.experiments.perceived(seed)
        return {name: self.resolve(cell) for name, cell in cells.items()}

    def judged(self) -> dict[str, list[Run]]:
        """Resolve the runs that a judge scores, by the target that evaluates them."""
        tasks = self.scored_by("judge")
        return {
            target: [self.resolve(cell) for cell in self.evaluated(target) if cell.task in tasks]
            for target in TARGETS
        }

    def draws(self, task: str) -> dict[str, int]:
        """List the sets of a task's prompts, each with a seed whose runs have it."""
        data = self.scale.tasks[task].data
        return {data.draw(cell.seed): cell.seed for cell in self.all_cells() if cell.task == task}

    def scored_by(self, scoring: Literal["judge", "grade"]) -> list[str]:
        """List the tasks with this way of scoring."""
        return [task for task in self.scale.tasks if find_task(task).scoring == scoring]

    def figure_tasks(self) -> list[str]:
        """List the task of the figure of implied capacities; empty without that figure."""
        spec = self.experiments.implied_capacity
        return [spec.task] if spec else []

    # Which cells exist.

    def tables(self, *, exploratory: bool = False, extra: bool = False) -> list[str]:
        """List the names of the reporting tables, with `extra` all of them, or the exploratory."""
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
        return [cell for table in self.tables_of(target) for cell in self.report_cells(table)]

    def find(self, task: str, name: str) -> Cell:
        """Find a cell by its run's name, among all cells of the study.

        Raises:
            ConfigError: if no cell of the task has that name.
        """
        if cell := self._cells.get((task, name)):
            return cell
        raise ConfigError(
            f"no cell of {task} is named {name!r}; add it to a table of experiments.yaml"
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
            cells += self.rates.tune_cells(task)
        cells += self._pilot_cells
        cells += [cell.base for cell in cells] + [cell.data_base for cell in cells]
        return {(cell.task, cell.name): cell for cell in cells}

    @property
    def _pilot_cells(self) -> list[Cell]:
        if len(self.scale.seeds.piloting) < 2:  # which `power_request` refuses
            return []
        return pilot_cells(self.comparisons(), self.scale.seeds.piloting)

    @cached_property
    def _with_curves(self) -> set[tuple[str, str]]:
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
                cells += pilot_cells([comparison], self.scale.seeds.piloting)
        return {(cell.task, cell.name) for cell in cells if cell.objective != "base"}

    def mapped(self) -> list[tuple[Run, Run]]:
        """List every exploratory offline run, with the plain online run to compare it with.

        The two runs have the same task, base model, objective and seed.
        """
        cells = {
            (cell.task, cell.name): cell
            for table in self.tables(exploratory=True)
            for cell in self.report_cells(table)
        }.values()
        kind = lambda cell: (cell.task, cell.base_model, cell.objective, cell.seed)  # noqa: E731
        defaults = self.experiments.defaults
        online = {
            kind(cell): cell
            for cell in cells
            if cell.data == "online" and cell.sample_every == defaults[cell.task].sample_every
            if not (cell.humanline or cell.overrides or cell.last_sampling)
        }
        offline = [cell for cell in cells if cell.data == "offline" and kind(cell) in online]
        return [(self.resolve(cell), self.resolve(online[kind(cell)])) for cell in offline]

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

    def pairs(self, comparison: Comparison) -> list[tuple[Cell, Cell]]:
        """List a comparison's pairs of cells on each seed for which tables have all of them."""
        seeds = self.common_seeds(comparison.cells)
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


def load_study(scale_file: Path, experiments_file: Path, root: Path) -> Study:
    """Read and validate the whole configuration.

    Args:
        scale_file: the scale.
        experiments_file: the tables; claims.yaml is read from the same folder, if it exists.
        root: the folder of results.

    Raises:
        ConfigError: at the first fault, with file, field and remedy.
    """
    scale = load_scale(scale_file)
    experiments = validate(Experiments, load_yaml(experiments_file), experiments_file)
    experiments = possible_at(scale, experiments)
    require_tables(scale, experiments, scale_file, experiments_file)
    rates = {}
    if scale.learning_rates:
        file = scale_file.parent / scale.learning_rates
        rates = validate(TunedRates, load_yaml(file), file).model_dump()["chosen"]
    claims_file = experiments_file.with_name("claims.yaml")
    if not claims_file.exists():
        return Study(scale, experiments, rates, root)
    claims = validate(Claims, load_yaml(claims_file), claims_file)
    pilot = None
    if scale.pilot:
        file = scale_file.parent / scale.pilot
        pilot = validate(Pilot, load_yaml(file), file)
        pilot.require_scale(scale.scale, file)
    study = Study(scale, experiments, rates, root, claims, pilot)
    if reason := claims_fault(claims, experiments.defaults, study.common_seeds):
        raise ConfigError(f"{claims_file}: {reason}")
    return study


def schemas() -> dict[str, dict]:
    """Make the JSON schemas of the configuration's files, by file name."""
    models: dict[str, type[BaseModel]]
    models = {"scale": Scale, "experiments": Experiments, "claims": Claims}
    return {f"{name}.schema.json": model.model_json_schema() for name, model in models.items()}
