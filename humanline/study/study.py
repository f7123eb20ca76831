"""A study: a scale and its experiments, checked together; its cells, paths, values and hashes.

Snakefiles import this module, so it is cheap.
"""

import hashlib
import json
import math
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from humanline.files.validation import ConfigError, Strict, load_yaml, validate
from humanline.study.claims import ClaimError, Claims, Comparison, comparisons
from humanline.study.experiments import Cell, Experiments
from humanline.study.scale.hub import hub_sources
from humanline.study.scale.judges import ERRANDS
from humanline.study.scale.plan import Resources
from humanline.study.scale.scale import Scale, load_scale
from humanline.study.table_checks import figure_fault, table_fault
from humanline.study.tasks import TaskName, find_task, scoring_of
from humanline.study.values import SeedList
from humanline.trainers.registry import Options, find_objective, with_overrides

# What an untuned cell shares with the tuned one whose learning rate it takes.
_KINSHIP = ("objective", "data", "humanline", "trust_region")
# Raise it when a change that the rules' code hashes leave out, of options or of the libraries that
# are pinned, changes what data, training or sampling mean: all is made anew.
# 3: base models of neighbouring seeds learned from the same sums but one.
VERSION = 3


class Study:
    """A scale and its experiments: what the workflow and the commands ask for names and values."""

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

    @property
    def results(self) -> Path:
        """Where this scale's files lie."""
        return self.root / self.scale.scale

    def tables(self, *, exploratory: bool = False) -> list[str]:
        """The tables that report, or those that explore."""
        tables = self.experiments.tables.items()
        return [name for name, spec in tables if spec.exploratory == exploratory]

    def require_pinned(self, stage: str, task: str, name: str | None = None) -> None:
        """Refuse a job that reads a repository on the hub without its commit hash.

        Args:
            stage: the job's rule, which has the name of its command.
            name: the run or base model that the job is about; None for `data`.

        Raises:
            ConfigError: naming the first such field, and how to look its hash up.
        """
        cell = self.find(task, name) if name else None
        read = {f"tasks.{task}.{part}" for part in self._parts_read(stage, cell)}
        for field, source in hub_sources(self.scale).items():
            if field in read and not source.is_pinned:
                raise ConfigError(f"scale {self.scale.scale}: {field}.{source.how_to_pin}")

    def _parts_read(self, stage: str, cell: Cell | None) -> list[str]:
        """The parts of a task's configuration whose repositories a job reads, if they have any."""
        match stage:
            case "data":
                return ["data.train", "data.evaluation"]
            case "base_model":
                return [f"base_models.{cell.base_model}" if cell.base_model else "base_model"]
            case "offline" if self.is_stored(cell):
                return ["data.train", f"data.stored.{cell.base_model}"]
            case "offline":
                return ["reward"]
            case "train" if cell.data == "online":
                return ["reward"]
        return []

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

    def tune_cells(self, task: str) -> list[Cell]:
        """Every tuned variant of a task, at every candidate rate, on the tuning seeds."""
        return [
            cell.model_copy(update={"overrides": cell.overrides | {"learning_rate": rate}})
            for cell in self._tuned[task]
            for rate in self.scale.tasks[task].training.tune_learning_rates
        ]

    @cached_property
    def _tuned(self) -> dict[str, list[Cell]]:
        """The cells of each task that get a learning rate of their own, on the tuning seeds."""
        tuned: dict[str, dict[str, Cell]] = {task: {} for task in self.scale.tasks}
        for table, spec in self.experiments.tables.items():
            for cell in self.experiments.cells(table, self.scale.seeds.tune) * spec.tuned:
                fixed = {"learning_rate", "learning_rate_factor"} & set(cell.overrides)
                if cell.objective != "base" and not fixed:
                    tuned[cell.task][cell.name] = cell
        return {task: list(cells.values()) for task, cells in tuned.items()}

    def learning_rate(self, cell: Cell) -> float:
        """A cell's learning rate: its own, else the tuned one, else the task's default.

        A cell that was not tuned takes the rate of its `rate_source`.
        """
        default = self.scale.tasks[cell.task].training.learning_rate
        tuned = self.learning_rates.get(cell.task, {}).get(self.rate_source(cell), {})
        rate = cell.overrides.get("learning_rate", tuned.get("learning_rate", default))
        return rate * cell.overrides.get("learning_rate_factor", 1.0)

    def rate_source(self, cell: Cell) -> str:
        """Where a cell's learning rate comes from: a tuned variant's name, or own or default.

        A cell that was not tuned takes the rate of a tuned one that has its objective, data and
        method, and is nearest in how often it samples and syncs.
        """
        if "learning_rate" in cell.overrides:
            return "own"
        tuned = self.learning_rates.get(cell.task, {})
        if cell.variant in tuned:
            return cell.variant
        kin = [
            other
            for other in self._tuned[cell.task]
            if other.variant in tuned
            and all(getattr(other, field) == getattr(cell, field) for field in _KINSHIP)
        ]
        kin.sort(key=lambda other: _unlike(other, cell))
        return kin[0].variant if kin else "default"

    def split(self, seed: int) -> str:
        """Tuning looks at validation prompts, the tables at evaluation prompts."""
        return "validation" if seed in self.scale.seeds.tune else "evaluation"

    def directory(self, cell: Cell) -> Path:
        """The folder of a cell's run."""
        return self.results / "runs" / cell.task / cell.name

    def answers(self, cell: Cell) -> Path:
        """What an endpoint answered as the judge of a run, JSON Lines, in alpaca_eval's folder."""
        return self.directory(cell) / "judge" / "answers.jsonl"

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
            cells += self.tune_cells(task)
        cells += [cell.base for cell in cells] + [cell.data_base for cell in cells]
        return {(cell.task, cell.name): cell for cell in cells}

    def figure_seeds(self) -> list[int]:
        """The seeds that figures look at."""
        return self.scale.seeds.sweep or self.scale.seeds.report

    def figure_tasks(self) -> list[str]:
        """The task of the figure of implied capacities, where there is one."""
        spec = self.experiments.implied_capacity
        return [spec.task] if spec else []

    def mapped(self) -> list[tuple[Cell, Cell]]:
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
        offline = [cell for cell in cells if cell.data == "offline"]
        return [(cell, online[kind(cell)]) for cell in offline if kind(cell) in online]

    def surprisals(self, seed: int) -> Path:
        """How the figure's policy perceives the outputs of every source, CSV."""
        return self.results / "figures" / f"surprisals-s{seed}.csv"

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

    def scored_by(self, scoring: Literal["judge", "grade"]) -> list[str]:
        """The tasks whose completions are judged, or graded."""
        return [task for task in self.scale.tasks if find_task(task).scoring == scoring]

    def score_file(self, cell: Cell) -> Path:
        """The file whose presence says that a run is scored."""
        return self.directory(cell) / scoring_of(cell.task).score_file

    def requests(self, task: str) -> int:
        """How many requests at a time a job that judges sends to an endpoint."""
        return getattr(self.scale.tasks[task].judge, "concurrency", 0)

    def has_curve(self, cell: Cell) -> bool:
        """Whether all kept checkpoints of a run are evaluated, or the last one alone."""
        return (cell.task, cell.name) in self._with_curves

    @cached_property
    def _with_curves(self) -> set[tuple[str, str]]:
        return {
            (cell.task, cell.name)
            for table, spec in self.experiments.tables.items()
            if spec.view != "sweep"
            for cell in self.report_cells(table)
        }

    def data(self, task: str, split: str) -> Path:
        """The prompts of a split, JSON Lines."""
        return self.results / "data" / task / f"{split}.jsonl"

    def offline_groups(self, base: Cell) -> Path:
        """The scored completions of a base model, JSON Lines."""
        return self.results / "data" / base.task / f"offline-{base.name}.jsonl"

    def is_stored(self, base: Cell) -> bool:
        """Whether a base model's completions come with the task's data, scores and all."""
        data = self.scale.tasks[base.task].data
        is_scored = data.kind == "hub" and find_task(base.task).has_stored_scores
        return is_scored and base.base_model in (None, *data.stored)

    def likelihoods(self, source: Cell, base: Cell) -> Path:
        """How likely a base model finds the completions of another, or its own, JSON Lines."""
        folder = self.results / "data" / base.task
        return folder / f"likelihood-{source.name}-under-{base.name}.jsonl"

    def objective(self, cell: Cell) -> Options:
        """A cell's hyperparameters, its own taking precedence over the scale's."""
        options = self.scale.tasks[cell.task].training.objectives[cell.objective]
        return with_overrides(options, cell.overrides)

    def batch_share(self, cell: Cell, devices: int) -> tuple[int, int]:
        """A device's part of a cell's batch: examples per backward pass, passes per step.

        Raises:
            ConfigError: if the batch, which counts over all devices, does not divide among them.
        """
        training, options = self.scale.tasks[cell.task].training, self.objective(cell)
        if found := training.objective_fault(cell.objective, options, devices):
            field, reason = found
            where = f"scale {self.scale.scale}: tasks.{cell.task}.training.objectives"
            raise ConfigError(f"{where}.{cell.objective}.{field}: {reason}")
        if devices % self.shards(cell) and self.scale.generation.engine == "vllm":
            raise ConfigError(
                f"scale {self.scale.scale}: {devices} devices train {cell.name}, but the gpus of "
                f"its model are {self.shards(cell)}; make resources.train.gpu a multiple"
            )
        return training.share(options.batch_size, devices)

    def resources(self, stage: str) -> dict[str, int]:
        """What a stage's jobs ask of the scheduler."""
        return self.scale.resources.get(stage, Resources()).model_dump()

    def gpus(self, stage: str, cell: Cell) -> int:
        """How many GPUs a stage's job asks for: more for some models, none to read stored data."""
        asked = self.resources(stage)["gpu"]
        if not asked or (stage == "offline" and self.is_stored(cell)):
            return 0
        return self._gpus_of_model(cell) or asked

    def memory(self, stage: str, gpus: int) -> int:
        """Megabytes of main memory of a stage's job, more where it has more GPUs than others."""
        asked = self.resources(stage)
        return asked["mem_mb"] * max(1, gpus) // max(1, asked["gpu"])

    def shards(self, cell: Cell) -> int:
        """How many GPUs share a cell's model where it samples."""
        return self._gpus_of_model(cell) or 1

    def _gpus_of_model(self, cell: Cell) -> int | None:
        return getattr(self.base_model(cell.task, cell.base_model), "gpus", None)

    def manifest(self, cell: Cell) -> dict:
        """All that determines a run's model, except the code and the machine."""
        task = self.scale.tasks[cell.task]
        training = task.training.model_dump(
            exclude={"learning_rate", "tune_learning_rates", "objectives"}
        )
        if cell.objective != "base":
            options = task.training.objectives[cell.objective].model_dump()
            training["objective"] = options | find_objective(cell.objective).identity()
        return {
            "version": VERSION,
            # Without defaults, so that an option yet to be invented retrains nothing.
            "cell": cell.model_dump(exclude_defaults=True),
            "learning_rate": self.learning_rate(cell),
            "training": training,
            "reward": task.reward.model_dump(),
            "base": self.base_hash(cell.task, cell.base_model),
            "data": self.offline_hash(cell.data_base) if cell.data == "offline" else None,
        } | (self._engine if cell.data == "online" else {})

    @property
    def _engine(self) -> dict:
        """What of the engine changes the samples; nothing of the default, which always was."""
        generation = self.scale.generation
        return generation.model_dump(include={"engine", "dtype"}, exclude_defaults=True)

    # What a stage's result depends on besides its input files, as a parameter of its rule: a
    # change of an option reruns the stages that read it, and no others.

    def data_hash(self, task: str) -> str:
        return content_hash([VERSION, self.scale.tasks[task].data.model_dump(exclude_none=True)])

    def base_hash(self, task: str, base_model: str | None = None) -> str:
        model = self.base_model(task, base_model)
        return content_hash([self.data_hash(task), model.model_dump()])

    def base_model(self, task: str, name: str | None = None):
        """The configuration of a task's base model, or of another of its base models."""
        config = self.scale.tasks[task]
        return config.base_models[name] if name else config.base_model

    def offline_hash(self, base: Cell) -> str:
        config = self.scale.tasks[base.task]
        sampling = [config.training.group_size, config.training.sampling.model_dump()]
        model = self.base_hash(base.task, base.base_model)
        return content_hash([model, config.reward.model_dump(), sampling, *self._engine.items()])

    def likelihood_hash(self) -> str:
        return content_hash([VERSION, self.scale.generation.dtype])

    def predictors_hash(self, task: str) -> str:
        sampling = self.scale.tasks[task].training.sampling.model_dump()
        return content_hash([VERSION, sampling, *self._engine.items()])

    def surprisal_hash(self) -> str:
        spec = self.experiments.implied_capacity
        sampling = spec and self.scale.tasks[spec.task].training.sampling.model_dump()
        engine = self._engine.items()
        return content_hash([VERSION, spec and spec.model_dump(), sampling, *engine])

    def run_hash(self, cell: Cell) -> str:
        return content_hash(self.manifest(cell))

    def generate_hash(self, cell: Cell) -> str:
        sampling = self.scale.tasks[cell.task].evaluation.model_dump()
        return content_hash([VERSION, sampling, self.has_curve(cell), *self._engine.items()])

    def config_hash(self, table: str) -> str:
        """Hash of all options that a table's numbers depend on."""
        cells = self.report_cells(table)
        runs = [[self.run_hash(cell), self.generate_hash(cell)] for cell in cells]
        judges = [self.score_hash(task) for task in self.experiments.tables[table].tasks]
        return content_hash([runs, judges, self.scale.bootstrap_replicates])

    def table_hash(self, table: str) -> str:
        """Hash of all that a table shows besides its runs' files, captions among it."""
        experiments = self.experiments
        spec = experiments.tables[table]
        rates = [
            self.rate_source(cell) for cell in self.report_cells(table) if cell.objective != "base"
        ]
        asked = [spec.model_dump(), experiments.collapse_below, rates]
        asked += [experiments.defaults[task].model_dump() for task in spec.tasks]
        return content_hash([self.config_hash(table), *asked])

    def score_hash(self, task: str) -> str:
        judge = self.scale.tasks[task].judge
        return content_hash(judge and judge.model_dump(exclude=ERRANDS))


def _unlike(one: Cell, other: Cell) -> tuple:
    """How far two cells of a kind are apart, what matters most first."""
    intervals = [math.log(cell.sync_interval or math.inf) for cell in (one, other)]
    return (
        one.sample_every != other.sample_every,
        one.sync_alpha != other.sync_alpha,
        0.0 if one.sync_interval == other.sync_interval else abs(intervals[0] - intervals[1]),
    )


def content_hash(content) -> str:
    """Twelve hexadecimal digits that depend on a JSON-serialisable value alone."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class TunedRate(Strict):
    """What tuning chose for a variant; what else the file says of it is for people."""

    model_config = ConfigDict(extra="allow")
    learning_rate: float = Field(gt=0, description="the chosen learning rate")


class TunedRates(Strict):
    """A file of tuned learning rates, as `humanline tune` writes it."""

    seeds: SeedList | None = Field(None, description="the tuning seeds")
    chosen: dict[TaskName, dict[str, TunedRate]] = Field(description="by task and variant")


def load_study(scale_file: Path, experiments_file: Path, root: Path) -> Study:
    """Read and validate everything a run depends on; raise `ConfigError` on the first fault."""
    scale = load_scale(scale_file)
    experiments = validate(Experiments, load_yaml(experiments_file), experiments_file)
    experiments = _of_scale(experiments, scale)
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
    rates = {}
    if scale.learning_rates:
        file = scale_file.parent / scale.learning_rates
        rates = validate(TunedRates, load_yaml(file), file).model_dump()["chosen"]
    claims_file = experiments_file.with_name("claims.yaml")
    if not claims_file.exists():  # then there are no claims
        return Study(scale, experiments, rates, root)
    claims = validate(Claims, load_yaml(claims_file), claims_file)
    study = Study(scale, experiments, rates, root, claims)
    if reason := _claims_fault(study):
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


def _claims_fault(study: Study) -> str | None:
    """The first thing that the claims ask of the tables and they do not have."""
    try:
        found = comparisons(study.claims, study.experiments.defaults)
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
    models = {"scale": Scale, "experiments": Experiments, "claims": Claims}
    return {f"{name}.schema.json": model.model_json_schema() for name, model in models.items()}
