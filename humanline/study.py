"""A study: a scale and its experiments, checked together; its cells, paths, values and hashes.

Snakefiles import this module, so it is cheap.
"""

import hashlib
import json
from pathlib import Path

from pydantic import ConfigDict, Field, ValidationError

from humanline.config import (
    ConfigError,
    MiniatureData,
    ObjectiveConfig,
    Resources,
    Scale,
    SeedList,
    Strict,
    Task,
    TaskConfig,
    load_scale,
    load_yaml,
    validate,
)
from humanline.experiments import Cell, Experiments, HumanlineDefaults, Table

# Raise it when a change of code changes what data, training or sampling mean: all is made anew.
VERSION = 2


class Study:
    """A scale and its experiments: what the workflow and the commands ask for names and values."""

    def __init__(self, scale: Scale, experiments: Experiments, learning_rates: dict, root: Path):
        self.scale = scale
        self.experiments = experiments
        self.learning_rates = learning_rates
        self.root = root

    @property
    def results(self) -> Path:
        """Where this scale's files lie."""
        return self.root / self.scale.scale

    def report_cells(self, table: str) -> list[Cell]:
        """The cells of a table on its seeds."""
        return self.experiments.cells(table, self.report_seeds(table))

    def report_seeds(self, table: str) -> list[int]:
        """A table's own seeds, else the scale's reporting seeds."""
        return self.experiments.tables[table].seeds or self.scale.seeds.report

    def tune_cells(self, task: str) -> list[Cell]:
        """Every trained variant of a task, at every candidate rate, on the tuning seeds."""
        seeds = self.scale.seeds.tune
        trained = {
            cell.name: cell
            for table, spec in self.experiments.tables.items()
            if spec.task == task
            for cell in self.experiments.cells(table, seeds)
            if cell.objective != "base" and "learning_rate" not in cell.overrides
        }
        return [
            cell.model_copy(update={"overrides": cell.overrides | {"learning_rate": rate}})
            for cell in trained.values()
            for rate in self.scale.tasks[task].training.tune_learning_rates
        ]

    def learning_rate(self, cell: Cell) -> float:
        """A cell's learning rate: its own, else the tuned one, else the task's default."""
        default = self.scale.tasks[cell.task].training.learning_rate
        tuned = self.learning_rates.get(cell.task, {}).get(cell.variant, {})
        return cell.overrides.get("learning_rate", tuned.get("learning_rate", default))

    def split(self, seed: int) -> str:
        """Tuning looks at validation prompts, the tables at evaluation prompts."""
        return "validation" if seed in self.scale.seeds.tune else "evaluation"

    def directory(self, cell: Cell) -> Path:
        """The folder of a cell's run."""
        return self.results / "runs" / cell.task / cell.name

    def find(self, task: str, name: str) -> Cell:
        """The cell of a run's name, among all reporting and tuning cells."""
        for cell in self.all_cells():
            if (cell.task, cell.name) == (task, name):
                return cell
        raise ConfigError(
            f"no cell of {task} is named {name!r}; add it to a table of experiments.yaml"
        )

    def all_cells(self) -> list[Cell]:
        """Every cell of every table and of tuning, base models included."""
        cells = [cell for table in self.experiments.tables for cell in self.report_cells(table)]
        for task in {spec.task for spec in self.experiments.tables.values()}:
            cells += self.tune_cells(task)
        cells += [cell.base for cell in cells]
        return list({(cell.task, cell.name): cell for cell in cells}.values())

    def data(self, task: str, split: str) -> Path:
        """The prompts of a split, JSON Lines."""
        return self.results / "data" / task / f"{split}.jsonl"

    def offline_groups(self, task: str, seed: int) -> Path:
        """The scored completions of a seed's base model, JSON Lines."""
        return self.results / "data" / task / f"offline-s{seed}.jsonl"

    def resources(self, stage: str) -> dict[str, int]:
        """What a stage's jobs ask of the scheduler."""
        return self.scale.resources.get(stage, Resources()).model_dump()

    def manifest(self, cell: Cell) -> dict:
        """All that determines a run's model, except the code and the machine."""
        task = self.scale.tasks[cell.task]
        training = task.training.model_dump(
            exclude={"learning_rate", "tune_learning_rates", "objectives"}
        )
        if cell.objective != "base":
            training["objective"] = task.training.objectives[cell.objective].model_dump()
        return {
            "version": VERSION,
            # Without defaults, so that an option yet to be invented retrains nothing.
            "cell": cell.model_dump(exclude_defaults=True),
            "learning_rate": self.learning_rate(cell),
            "training": training,
            "reward": task.reward.model_dump(),
            "base": self.base_hash(cell.task),
        }

    # What a stage's result depends on besides its input files, as a parameter of its rule: a
    # change of an option reruns the stages that read it, and no others.

    def data_hash(self, task: str) -> str:
        return content_hash([VERSION, self.scale.tasks[task].data.model_dump()])

    def base_hash(self, task: str) -> str:
        return content_hash([self.data_hash(task), self.scale.tasks[task].base_model.model_dump()])

    def offline_hash(self, task: str) -> str:
        config = self.scale.tasks[task]
        sampling = [config.training.group_size, config.training.sampling.model_dump()]
        return content_hash([self.base_hash(task), config.reward.model_dump(), sampling])

    def run_hash(self, cell: Cell) -> str:
        return content_hash(self.manifest(cell))

    def generate_hash(self, task: str) -> str:
        return content_hash([VERSION, self.scale.tasks[task].evaluation.model_dump()])

    def config_hash(self, table: str) -> str:
        """Hash of all options that a table's numbers depend on."""
        task = self.experiments.tables[table].task
        runs = [self.run_hash(cell) for cell in self.report_cells(table)]
        stages = [self.offline_hash(task), self.generate_hash(task), self.score_hash(task)]
        return content_hash([runs, stages, self.scale.bootstrap_replicates])

    def score_hash(self, task: str) -> str:
        judge = self.scale.tasks[task].judge
        return content_hash(judge and judge.model_dump())


def content_hash(content) -> str:
    """Twelve hexadecimal digits that depend on a JSON-serialisable value alone."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def code_hash(*modules: str) -> str:
    """Hash of the source of some of this package's modules.

    A parameter of the rules of cheap stages: editing what computes a table makes it anew. The
    dear stages are tied to `VERSION` instead.
    """
    package = Path(__file__).parent
    return content_hash([(package / name).read_text() for name in modules])


class TunedRate(Strict):
    """What tuning chose for a variant; what else the file says of it is for people."""

    model_config = ConfigDict(extra="allow")
    learning_rate: float = Field(gt=0, description="the chosen learning rate")


class TunedRates(Strict):
    """A file of tuned learning rates, as `humanline tuning` writes it."""

    seeds: SeedList | None = Field(None, description="the tuning seeds")
    chosen: dict[Task, dict[str, TunedRate]] = Field(description="by task and variant")


def load_study(scale_file: Path, experiments_file: Path, root: Path) -> Study:
    """Read and validate everything a run depends on; raise `ConfigError` on the first fault."""
    scale = load_scale(scale_file)
    experiments = validate(Experiments, load_yaml(experiments_file), experiments_file)
    for name, table in experiments.tables.items():
        if table.task not in scale.tasks:
            raise ConfigError(
                f"{scale_file}: tasks.{table.task}: missing, but table {name} needs it; add it"
            )
        if reason := _table_fault(table, experiments.defaults[table.task], scale, scale_file):
            raise ConfigError(f"{experiments_file}: tables.{name}.{reason}")
    rates = {}
    if scale.learning_rates:
        file = scale_file.parent / scale.learning_rates
        rates = validate(TunedRates, load_yaml(file), file).model_dump()["chosen"]
    return Study(scale, experiments, rates, root)


def _table_fault(
    table: Table, defaults: HumanlineDefaults, scale: Scale, scale_file: Path
) -> str | None:
    """The first thing that a table asks of a scale and cannot have: field, reason and remedy."""
    if shared := set(table.seeds or []) & set(scale.seeds.tune):
        return f"seeds: {sorted(shared)} are tuning seeds of {scale_file}; use others"
    for index, row in enumerate(table.cells):
        for cell in row.cells(table.task, defaults, seed=0):
            if reason := _cell_fault(cell, scale.tasks[table.task], scale_file):
                return f"cells.{index}.{reason}"
    return None


def _cell_fault(cell: Cell, task: TaskConfig, scale_file: Path) -> str | None:
    """What is wrong with a cell, if anything: the field of its row, reason and remedy."""
    training = task.training
    if cell.objective not in training.objectives:
        where = f"tasks.{cell.task}.training.objectives of {scale_file}"
        return f"objective: {cell.objective} is not in {where}; add it there"
    if cell.humanline and cell.log_eps_p == cell.log_eps_r:
        return "log_eps_p: 0, as log_eps_r, leaves no interval; change either"
    for key, reader in (("epsilon", "grpo"), ("desirable_weight", "kto")):
        if key in cell.overrides and cell.objective != reader:
            return f"overrides.{key}: only {reader} reads it, not {cell.objective}; remove it"
    options = training.objectives[cell.objective].model_dump()
    options |= {key: value for key, value in cell.overrides.items() if key in options}
    try:
        options = ObjectiveConfig.model_validate(options)
    except ValidationError as error:
        detail = error.errors()[0]
        reason = f"{detail['msg']}, not {detail['input']:g}; change it"
        return f"overrides.{detail['loc'][0]}: {reason}"
    if found := training.objective_fault(cell.objective, options):
        field, reason = found
        return f"overrides.{field}: {reason}"
    return _prompts_fault(cell, task, options.batch_size, scale_file)


def _prompts_fault(cell: Cell, task: TaskConfig, batch_size: int, scale_file: Path) -> str | None:
    """GRPO leaves out a sampling that the prompts do not fill, and would take no step."""
    if cell.objective != "grpo" or not isinstance(task.data, MiniatureData):
        return None
    window = min(cell.sample_every or 1, task.training.steps)
    needed = window * batch_size // task.training.group_size
    if needed <= task.data.train:
        return None
    prompts = f"tasks.{cell.task}.data.train of {scale_file}, {task.data.train}"
    return f"objective: grpo takes {needed} prompts at once, more than {prompts}; raise that"


def schemas() -> dict[str, dict]:
    """The JSON schemas of the configuration's files, by file name."""
    models = {"scale": Scale, "experiments": Experiments}
    return {f"{name}.schema.json": model.model_json_schema() for name, model in models.items()}
