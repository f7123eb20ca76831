"""What the stages are given, resolved: a run, or the runs of a table or of the claims.

`Study` makes these objects, each run once. Stages take them and never ask the study.
"""

from dataclasses import dataclass
from functools import cached_property

from humanline.files.validation import ConfigError
from humanline.study.claims import Claims, Comparison
from humanline.study.config import (
    Generation,
    HubData,
    HubModel,
    HubReward,
    LocalJudge,
    MiniatureData,
    MiniatureModel,
    ObjectiveConfig,
    OpenAIJudge,
    ProxyReward,
    Resources,
    Sampling,
    Training,
    VerifiableReward,
    how_scored,
)
from humanline.study.experiments import Cell, HumanlineDefaults, Table
from humanline.study.hashes import Hashes, content_hash
from humanline.study.paths import Paths, RunPaths


@dataclass(frozen=True)
class Run:
    """A cell with its files, its options and what its jobs ask for.

    Args:
        cell: what is trained, on what, and how.
        scale: the name of its scale.
        paths: of its files, and of those that it reads.
        has_curve: whether all kept checkpoints are evaluated, or the last one alone.
        learning_rate: after overrides and tuning.
        rate_source: where that comes from: a tuned variant's name, or own or default.
        data: the task's prompts.
        model: that it starts from.
        data_model: that its offline data are sampled from.
        reward: scores completions for training.
        judge: compares outputs with the references, where the task has one.
        training: what all runs of the task share.
        evaluation: how the completions of the tables are drawn.
        generation: what draws completions, and where.
        resources: what each stage's jobs ask for, at their first attempt.
    """

    cell: Cell
    scale: str
    paths: RunPaths
    has_curve: bool
    learning_rate: float
    rate_source: str
    data: MiniatureData | HubData
    model: MiniatureModel | HubModel
    data_model: MiniatureModel | HubModel
    reward: ProxyReward | HubReward | VerifiableReward
    judge: LocalJudge | OpenAIJudge | None
    training: Training
    evaluation: Sampling
    generation: Generation
    resources: dict[str, Resources]

    @property
    def name(self) -> str:
        """Variant and seed."""
        return self.cell.name

    @property
    def is_trained(self) -> bool:
        """Whether it is more than a base model."""
        return self.cell.objective != "base"

    @property
    def is_stored(self) -> bool:
        """Whether the completions of `data_model` come with `data`, scores and all."""
        is_scored = self.data.kind == "hub" and how_scored(self.cell.task) == "judge"
        return is_scored and self.cell.data_base.base_model in (None, *self.data.stored)

    @property
    def requests(self) -> int:
        """How many requests at a time the job that judges it sends to an endpoint."""
        return getattr(self.judge, "concurrency", 0)

    @property
    def evaluations(self) -> int:
        """How many of its checkpoints are evaluated; see `samples.checkpoints`."""
        if not self.is_trained or not self.has_curve:
            return 1
        return self.training.evaluations

    @cached_property
    def hashes(self) -> Hashes:
        """What each of its stages depends on besides input files."""
        return Hashes(self)

    @cached_property
    def objective(self) -> ObjectiveConfig:
        """Its hyperparameters, the cell's own taking precedence over the scale's."""
        options = self.training.objectives[self.cell.objective].model_dump()
        options |= {key: value for key, value in self.cell.overrides.items() if key in options}
        return ObjectiveConfig.model_validate(options)

    def batch_share(self, devices: int) -> tuple[int, int]:
        """A device's part of a batch: examples per backward pass, passes per step.

        Raises:
            ConfigError: if the batch, which counts over all devices, does not divide among them.
        """
        if found := self.training.objective_fault(self.cell.objective, self.objective, devices):
            field, reason = found
            where = f"scale {self.scale}: tasks.{self.cell.task}.training.objectives"
            raise ConfigError(f"{where}.{self.cell.objective}.{field}: {reason}")
        if devices % self.shards and self.generation.engine == "vllm":
            raise ConfigError(
                f"scale {self.scale}: {devices} devices train {self.name}, but the gpus of "
                f"its model are {self.shards}; make resources.train.gpu a multiple"
            )
        return self.training.share(self.objective.batch_size, devices)

    @property
    def shards(self) -> int:
        """How many GPUs share its model where it samples."""
        return self._gpus_of_model or 1

    @property
    def _gpus_of_model(self) -> int | None:
        return getattr(self.model, "gpus", None)

    def asked(self, stage: str) -> Resources:
        """What a stage's jobs ask of the scheduler, whatever the run."""
        return self.resources.get(stage, Resources())

    def gpus(self, stage: str) -> int:
        """How many GPUs a stage's job asks for: more for some models, none to read stored data."""
        asked = self.asked(stage).gpu
        if not asked or (stage == "offline" and self.is_stored):
            return 0
        return self._gpus_of_model or asked

    def memory(self, stage: str) -> int:
        """Megabytes of main memory of a stage's job, more where it has more GPUs than others."""
        return self.asked(stage).memory(self.gpus(stage))


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
