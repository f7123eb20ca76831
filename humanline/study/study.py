"""A study: a scale and its experiments, checked together; which cells exist, and their runs.

Snakefiles import this module, so it is cheap.
"""

from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel

from humanline.files.validation import ConfigError, load_yaml, pick, validate
from humanline.study.claims import ClaimError, Claims, Comparison, comparisons
from humanline.study.experiments import Cell, Experiments
from humanline.study.runs.paths import Paths, RunPaths
from humanline.study.runs.rates import Rates, TunedRates
from humanline.study.runs.requests import ClaimsRequest, TableRequest
from humanline.study.runs.resolved import Run
from humanline.study.scale.scale import Scale, load_scale
from humanline.study.table_checks import figure_fault, table_fault
from humanline.study.tasks import find_task

Target = Literal["all", "tune", "explore"]
TARGETS: tuple[Target, ...] = get_args(Target)  # of the workflow: those that evaluate cells


class Study:
    """A scale and its experiments: the workflow and the commands ask it for cells and runs."""

    def __init__(
        self,
        scale: Scale,
        experiments: Experiments,
        learning_rates: dict,
        root: Path,
        claims: Claims | None = None,
    ):
        self.scale = scale
        self.experiments = experiments
        self.learning_rates = learning_rates
        self.root = root
        self.claims = claims
        self.paths = Paths(root / scale.scale)
        self.rates = Rates(scale, experiments, learning_rates)
        self._runs: dict[tuple[str, str], Run] = {}

    # Runs, resolved.

    def resolve(self, cell: Cell) -> Run:
        """All that the stages need to know of a cell."""
        key = cell.task, cell.name
        if key not in self._runs:
            self._runs[key] = self._resolved(cell)
        return self._runs[key]

    def _resolved(self, cell: Cell) -> Run:
        task = self.scale.tasks[cell.task]
        return Run(
            cell=cell,
            scale=self.scale.scale,
            paths=RunPaths(self.paths, cell, self.scale.seeds.split(cell.seed)),
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
        """The run of a name, resolved."""
        return self.resolve(self.find(task, name))

    def table(self, name: str) -> TableRequest:
        """A table, with its runs.

        Raises:
            ConfigError: if there is no table of that name.
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
            replicates=self.scale.bootstrap_replicates,
            paths=self.paths,
        )

    def compared(self) -> ClaimsRequest | None:
        """The claims, with the runs that they compare; None where the study has none."""
        if self.claims is None:
            return None
        found = [
            (comparison, [(self.resolve(a), self.resolve(b)) for a, b in self.pairs(comparison)])
            for comparison in self.comparisons()
        ]
        return ClaimsRequest(self.claims, found, self.scale.scale, self.paths)

    def perceived(self, seed: int) -> dict[str, Run]:
        """The runs of the figure of implied capacities: the policy, and every source of data."""
        cells = self.experiments.perceived(seed)
        return {name: self.resolve(cell) for name, cell in cells.items()}

    def scored_by(self, scoring: Literal["judge", "grade"]) -> list[str]:
        """The tasks whose completions are judged, or graded."""
        return [task for task in self.scale.tasks if find_task(task).scoring == scoring]

    def figure_tasks(self) -> list[str]:
        """The task of the figure of implied capacities, where there is one."""
        spec = self.experiments.implied_capacity
        return [spec.task] if spec else []

    # Which cells exist.

    def tables(self, *, exploratory: bool = False) -> list[str]:
        """The tables that report, or those that explore."""
        tables = self.experiments.tables.items()
        return [name for name, spec in tables if spec.exploratory == exploratory]

    def report_cells(self, table: str) -> list[Cell]:
        """The cells of a table on its seeds."""
        return self.experiments.cells(table, self.report_seeds(table))

    def report_seeds(self, table: str) -> list[int]:
        """A table's own seeds, else the scale's: of sweeps, or of all reports.

        Exploratory tables look at tuning seeds, which no claim is tested on.
        """
        spec, seeds = self.experiments.tables[table], self.scale.seeds
        if spec.exploratory:
            return seeds.tune
        return spec.seeds or (seeds.sweep if spec.view == "sweep" else None) or seeds.report

    def figure_seeds(self) -> list[int]:
        """The seeds that figures look at."""
        return self.scale.seeds.sweep or self.scale.seeds.report

    def evaluated(self, target: Target) -> list[Cell]:
        """The cells that a target of the workflow evaluates."""
        if target == "tune":
            return [cell for task in self.scale.tasks for cell in self.rates.tune_cells(task)]
        tables = self.tables(exploratory=target == "explore")
        return [cell for table in tables for cell in self.report_cells(table)]

    def find(self, task: str, name: str) -> Cell:
        """The cell of a run's name, among all reporting and tuning cells."""
        if cell := self._cells.get((task, name)):
            return cell
        raise ConfigError(
            f"no cell of {task} is named {name!r}; add it to a table of experiments.yaml"
        )

    def all_cells(self) -> list[Cell]:
        """Every cell of every table and of tuning, base models included."""
        return list(self._cells.values())

    @cached_property
    def _cells(self) -> dict[tuple[str, str], Cell]:
        cells = [cell for table in self.experiments.tables for cell in self.report_cells(table)]
        if self.experiments.implied_capacity:
            for seed in self.figure_seeds():
                cells += self.experiments.perceived(seed).values()
        for task in self.scale.tasks:
            cells += self.rates.tune_cells(task)
        cells += [cell.base for cell in cells] + [cell.data_base for cell in cells]
        return {(cell.task, cell.name): cell for cell in cells}

    @cached_property
    def _with_curves(self) -> set[tuple[str, str]]:
        """The cells whose learning curves are looked at, by task and name."""
        return {
            (cell.task, cell.name)
            for table, spec in self.experiments.tables.items()
            if spec.view != "sweep"
            for cell in self.report_cells(table)
        }

    def mapped(self) -> list[tuple[Run, Run]]:
        """Every exploratory offline run, with the plain online one of its kind and seed."""
        cells = {
            (cell.task, cell.name): cell
            for table in self.tables(exploratory=True)
            for cell in self.report_cells(table)
        }.values()
        kind = lambda cell: (cell.task, cell.base_model, cell.objective, cell.seed)  # noqa: E731
        online = {
            kind(cell): cell
            for cell in cells
            if cell.data == "online" and not cell.humanline and not cell.overrides
        }
        offline = [cell for cell in cells if cell.data == "offline" and kind(cell) in online]
        return [(self.resolve(cell), self.resolve(online[kind(cell)])) for cell in offline]

    def comparisons(self) -> list[Comparison]:
        """What the claims compare."""
        found = comparisons(self.claims, self.experiments.defaults) if self.claims else []
        return [comparison for _, comparison in found]

    def pairs(self, comparison: Comparison) -> list[tuple[Cell, Cell]]:
        """The runs that a comparison is about, on the seeds that tables have both cells for."""
        first = self._reported.get((comparison.cell.task, comparison.cell.variant), {})
        second = self._reported.get((comparison.against.task, comparison.against.variant), {})
        return [(first[seed], second[seed]) for seed in sorted(set(first) & set(second))]

    @cached_property
    def _reported(self) -> dict[tuple[str, str], dict[int, Cell]]:
        """The cells of all tables but the exploratory by task and variant, and by seed."""
        found: dict[tuple[str, str], dict[int, Cell]] = {}
        for table in self.tables():
            for cell in self.report_cells(table):
                found.setdefault((cell.task, cell.variant), {})[cell.seed] = cell
        return found


def load_study(scale_file: Path, experiments_file: Path, root: Path) -> Study:
    """Read and validate everything a run depends on; raise `ConfigError` on the first fault."""
    scale = load_scale(scale_file)
    experiments = validate(Experiments, load_yaml(experiments_file), experiments_file)
    experiments = _of_scale(experiments, scale)
    _require_tables(scale, experiments, scale_file, experiments_file)
    rates = {}
    if scale.learning_rates:
        file = scale_file.parent / scale.learning_rates
        rates = validate(TunedRates, load_yaml(file), file).model_dump()["chosen"]
    claims_file = experiments_file.with_name("claims.yaml")
    if not claims_file.exists():  # then there are no claims
        return Study(scale, experiments, rates, root)
    claims = validate(Claims, load_yaml(claims_file), claims_file)
    study = Study(scale, experiments, rates, root, claims)
    if reason := _claims_fault(claims, study):
        raise ConfigError(f"{claims_file}: {reason}")
    return study


def _of_scale(experiments: Experiments, scale: Scale) -> Experiments:
    """Experiments without the optional tables whose tasks a scale lacks."""
    tables = {
        name: table
        for name, table in experiments.tables.items()
        if not table.optional or set(table.tasks) <= set(scale.tasks)
    }
    return experiments.model_copy(update={"tables": tables})


def _require_tables(
    scale: Scale, experiments: Experiments, scale_file: Path, experiments_file: Path
) -> None:
    """Refuse tables and figures that ask of the scale what it has not."""
    for name, table in experiments.tables.items():
        for task in table.tasks:
            if task not in scale.tasks:
                raise ConfigError(
                    f"{scale_file}: tasks.{task}: missing, but table {name} needs it; add it"
                )
        if reason := table_fault(table, experiments.defaults, scale, scale_file):
            raise ConfigError(f"{experiments_file}: tables.{name}.{reason}")
    if reason := figure_fault(experiments, scale, scale_file):
        raise ConfigError(f"{experiments_file}: implied_capacity.{reason}")


def _claims_fault(claims: Claims, study: Study) -> str | None:
    """The first thing that the claims ask of the tables and they do not have."""
    try:
        found = comparisons(claims, study.experiments.defaults)
    except ClaimError as error:
        return str(error)
    for place, comparison in found:
        if not study.pairs(comparison):
            cells = f"{comparison.cell.variant} and {comparison.against.variant}"
            where = "tables of experiments.yaml have no seed with both"
            return f"{place}: {where} {cells} ({comparison.cell.task}); add them, or remove this"
    return None


def schemas() -> dict[str, dict]:
    """The JSON schemas of the configuration's files, by file name."""
    models: dict[str, type[BaseModel]]
    models = {"scale": Scale, "experiments": Experiments, "claims": Claims}
    return {f"{name}.schema.json": model.model_json_schema() for name, model in models.items()}
