"""A study: a scale and its experiments, checked together. It knows all cells and their runs.

Snakefiles import this module, so it is cheap.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from humanline.files.seals import require_seal
from humanline.files.validation import ConfigError, at, load_yaml, pick, validate
from humanline.study.checks import bounds
from humanline.study.claims import Claims, Comparison
from humanline.study.experiments import Cell, Experiments
from humanline.study.runs.paths import Paths, RunPaths, require_folder
from humanline.study.runs.pilot import Pilot, on_seed, options_of
from humanline.study.runs.rates import Rates, TunedRates
from humanline.study.runs.requests import (
    ClaimsRequest,
    ComparedRuns,
    Design,
    PageRequest,
    PowerRequest,
    TableRequest,
)
from humanline.study.runs.resolved import Run
from humanline.study.runs.verdicts import LooksTaken
from humanline.study.scale.scale import Scale, load_scale
from humanline.study.study_cells import TARGETS, StudyCells
from humanline.study.table_checks import (
    absent_fault,
    claims_at,
    claims_fault,
    possible_at,
    require_tables,
)
from humanline.study.tasks import find_task


class Study(StudyCells):
    """A scale and its experiments; it gives the workflow and the commands their cells and runs.

    Args:
        scale: the validated scale.
        experiments: the validated tables.
        learning_rates: the tuned rates by task and variant, as in `TunedRates.chosen`.
        root: the folder of results; files of this scale are in its subfolder.
        claims: the paper's claims; None: there are none.
        pilot: the adopted pilot; None: there is none, and no claim is refused for lack of power.
        taken: the looks that `decide` has taken; None: none.
        left_out: why the scale cannot make some tables of experiments.yaml, by their names.
    """

    def __init__(
        self,
        scale: Scale,
        experiments: Experiments,
        learning_rates: dict,
        root: Path,
        claims: Claims | None = None,
        pilot: Pilot | None = None,
        taken: LooksTaken | None = None,
        left_out: Mapping[str, str] | None = None,
    ):
        rates = Rates(scale, experiments, learning_rates)
        super().__init__(scale, experiments, rates, claims, taken or LooksTaken())
        self.learning_rates = learning_rates
        self.root = root
        self.pilot = pilot
        self.left_out = left_out or {}
        self.paths = Paths(root / scale.scale)
        self._runs: dict[tuple[str, str], Run] = {}

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
            has_curve=(cell.task, cell.name) in self.with_curves,
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
            report_to=self.scale.report_to,
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
        found = [self._on(own, self.claim_seeds(own)) for own in self.comparisons()]
        return ClaimsRequest(
            claims=self.claims,
            compared=found,
            scale=self.scale.scale,
            paths=self.paths,
            has_pilot=self.pilot is not None,
            taken=self.taken,
            pilot_changes=self.pilot_changes(),
        )

    def page_request(self, config: Path) -> PageRequest:
        """Resolve what the page shows: the tables, claims and runs that `all` makes.

        Args:
            config: the folder of the configuration.
        """
        cells = {(cell.task, cell.name): cell for cell in self.evaluated("all")}
        return PageRequest(
            scale=self.scale.scale,
            description=self.scale.description,
            tables=[self.table(name) for name in self.tables_of("all")],
            claims=self.claims_request(),
            runs=[self.resolve(cell) for cell in cells.values()],
            paths=self.paths,
            config=config,
        )

    def power_request(self) -> PowerRequest:
        """Resolve the pilot: the comparisons of all claims, on the pilot's seeds.

        Raises:
            ConfigError: if no claim is primary, or the pilot has a single seed.
        """
        seeds, name = self.scale.seeds.piloting, self.scale.scale
        if self.claims is None or not self._primary:
            raise ConfigError("claims.yaml: claims: none is primary; write primary: true into one")
        if len(seeds) < 2:
            raise ConfigError(f"scale {name}: seeds.pilot: {seeds} has no spread; add seeds")
        compared = [self._on(own, self.pilot_seeds(own)) for own in self.comparisons()]
        measured = ClaimsRequest(self.claims, compared, name, self.paths)
        planned = [number for _, number in self.planned()]
        return PowerRequest(measured, planned, seeds, self._compared_options())

    def design(self) -> Design | None:
        """Collect what is known of the claims before their runs; None if there are no claims."""
        if self.claims is None:
            return None
        return Design(
            scale=self.scale.scale,
            claims=self.claims,
            planned=self.planned(),
            pilot=self.pilot,
            pilot_changes=self.pilot_changes(),
            written=self.paths.pilot,
        )

    def pilot_changes(self) -> str:
        """Say which options are others now than those of the adopted pilot; empty: none."""
        return self.pilot.changes(self._compared_options()) if self.pilot else ""

    def _compared_options(self) -> dict[str, str]:
        cells = [cell for comparison in self.comparisons() for cell in comparison.cells]
        return options_of(self.scale, self.rates, cells)

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

    def pretrained(self, task: str) -> dict[str, Run]:
        """List a task's pretrained models by name, each with a run that goes back to it."""
        runs = [self.resolve(cell.base) for cell in self.all_cells() if cell.task == task]
        return {name: run for run in runs if (name := run.hashes.pretrained)}

    def scored_by(self, scoring: Literal["judge", "grade"]) -> list[str]:
        """List the tasks with this way of scoring."""
        return [task for task in self.scale.tasks if find_task(task).scoring == scoring]

    def figure_tasks(self) -> list[str]:
        """List the task of the figure of implied capacities; empty without that figure."""
        spec = self.experiments.implied_capacity
        return [spec.task] if spec else []

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
        plain = [
            cell
            for cell in cells
            if cell.data == "online"
            and not (cell.humanline or cell.overrides or cell.last_sampling)
        ]
        # Of several, the one that samples as often as is usual.
        plain.sort(key=lambda cell: cell.sample_every == defaults[cell.task].sample_every)
        online = {kind(cell): cell for cell in plain}
        offline = [cell for cell in cells if cell.data == "offline" and kind(cell) in online]
        return [(self.resolve(cell), self.resolve(online[kind(cell)])) for cell in offline]


# The studies that a worker has read for its commands, each with the stamp of its files.
_held: dict[tuple[str, ...], tuple[list, Study]] = {}


def hold_study(scale_file: Path, experiments_file: Path, root: Path) -> None:
    """Read a study once for all commands of a worker; each would need 0.2 s for it.

    Args:
        scale_file, experiments_file, root: as for `load_study`, which then returns this study.

    Raises:
        ConfigError: if the study is wrong.
    """
    stamp = _stamp(scale_file, root)  # before it is read, so that a later edit is noticed
    study = load_study(scale_file, experiments_file, root)
    study.all_cells(), study.with_curves  # each is computed at its first use
    _held[_key(scale_file, experiments_file, root)] = stamp, study


def _key(*paths: Path) -> tuple[str, ...]:
    return os.getcwd(), *map(str, paths)


def _stamp(scale_file: Path, root: Path) -> list[tuple[str, int, int]]:
    """List the configuration's files and the record of looks, with times of change and sizes."""
    record = Paths(root / scale_file.stem).looks
    paths = sorted(scale_file.parent.glob("*.yaml")) + [record] * record.exists()
    files = [(path.name, path.stat()) for path in paths]
    return [(name, found.st_mtime_ns, found.st_size) for name, found in files]


def load_study(scale_file: Path, experiments_file: Path, root: Path) -> Study:
    """Read and validate the whole configuration, unless it is held and was not edited since.

    Args:
        scale_file: the scale.
        experiments_file: the tables; claims.yaml is read from the same folder, if it exists.
        root: the folder of results.

    Raises:
        ConfigError: at the first fault, with file, field and remedy.
    """
    require_folder("results", root)
    stamp, held = _held.get(_key(scale_file, experiments_file, root), ([], None))
    if held and stamp == _stamp(scale_file, root):
        return held
    scale = load_scale(scale_file)
    whole = validate(Experiments, load_yaml(experiments_file), experiments_file)
    experiments, left_out = possible_at(scale, whole)
    with at(experiments_file):
        bounds.require_names(experiments, left_out)
        bounds.require_few_runs(scale, experiments)
    require_tables(scale, experiments, scale_file, experiments_file)
    with at(scale_file):
        bounds.require_tables_of_plan(scale, [*experiments.tables, *left_out])
    rates = _rates(scale, scale_file)
    claims_file = experiments_file.with_name("claims.yaml")
    written = None
    if claims_file.is_symlink() or claims_file.exists():
        written = validate(Claims, load_yaml(claims_file), claims_file)
    if reason := absent_fault(scale, scale_file, whole, written):
        raise ConfigError(f"{scale_file}: {reason}")
    if not written:
        return _checked(Study(scale, experiments, rates, root, left_out=left_out), experiments_file)
    claims = _claims(written, scale, scale_file)
    pilot = None
    if scale.pilot:
        file = scale_file.parent / scale.pilot
        pilot = validate(Pilot, load_yaml(file), file)
        pilot.require_scale(scale.scale, file)
        with at(file):
            scale.seeds.require_unreported(pilot.seeds, "the pilot is measured")
    taken = _taken(Paths(root / scale.scale).looks, claims, scale)
    study = Study(scale, experiments, rates, root, claims, pilot, taken, left_out)
    if reason := claims_fault(claims, experiments.defaults, study.common_seeds):
        raise ConfigError(f"{claims_file}: {reason}")
    return _checked(study, experiments_file)


def _rates(scale: Scale, scale_file: Path) -> dict:
    if not scale.learning_rates:
        return {}
    file = scale_file.parent / scale.learning_rates
    tuned = validate(TunedRates, load_yaml(file), file)
    with at(file):
        scale.seeds.require_unreported(tuned.seeds or [], "rates are chosen")
    return tuned.model_dump()["chosen"]


def _checked(study: Study, experiments_file: Path) -> Study:
    """Check what is known of all runs together."""
    with at(experiments_file):
        bounds.require_short_names(study.all_cells())
    return study


def _claims(written: Claims, scale: Scale, scale_file: Path) -> Claims:
    """Return the claims at a scale; they have later looks only if it has seeds for them."""
    claims = claims_at(scale, written)
    if not claims.rule.looks:
        return claims
    if not scale.seeds.more:
        rule = claims.rule.model_copy(update={"looks": None})
        return claims.model_copy(update={"rule": rule})
    with at(scale_file):
        claims.rule.looks.require(scale.seeds)
    return claims


def _taken(file: Path, claims: Claims, scale: Scale) -> LooksTaken | None:
    if not file.is_symlink() and not file.exists():
        return None
    taken = validate(LooksTaken, load_yaml(file), file)  # JSON is YAML
    require_seal(file)
    taken.require(claims.rule.looks, scale.seeds, claims.primary, file)
    return taken


def schemas() -> dict[str, dict]:
    """Make the JSON schemas of the configuration's files, by file name."""
    models: dict[str, type[BaseModel]]
    models = {"scale": Scale, "experiments": Experiments, "claims": Claims}
    return {f"{name}.schema.json": model.model_json_schema() for name, model in models.items()}
