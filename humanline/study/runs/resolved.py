"""A run, resolved: all that the stages need to know of a cell, in one object.

`Study.resolve` makes it, once. Stages take it and never ask the study.
"""

from dataclasses import dataclass
from functools import cached_property

from humanline.files.validation import ConfigError
from humanline.study.experiments import Cell
from humanline.study.runs.hashes import Hashes
from humanline.study.runs.paths import RunPaths
from humanline.study.scale.data import HubData, MiniatureData
from humanline.study.scale.judges import Judge
from humanline.study.scale.models import HubModel, MiniatureModel
from humanline.study.scale.plan import Resources
from humanline.study.scale.rewards import Reward
from humanline.study.scale.sampling import Generation, Sampling
from humanline.study.scale.training import Training
from humanline.study.tasks import find_task
from humanline.study.values import Stage
from humanline.trainers.registry import Options, with_overrides


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
    reward: Reward
    judge: Judge | None
    training: Training
    evaluation: Sampling
    generation: Generation
    resources: dict[Stage, Resources]

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
        if self.data.kind != "hub" or not find_task(self.cell.task).has_stored_scores:
            return False
        return self.cell.data_base.base_model in (None, *self.data.stored)

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
    def objective(self) -> Options:
        """Its hyperparameters, the cell's own taking precedence over the scale's."""
        return with_overrides(self.training.objectives[self.cell.objective], self.cell.overrides)

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

    def asked(self, stage: Stage) -> Resources:
        """What a stage's jobs ask of the scheduler, whatever the run."""
        return self.resources.get(stage, Resources())

    def gpus(self, stage: Stage) -> int:
        """How many GPUs a stage's job asks for: more for some models, none to read stored data."""
        asked = self.asked(stage).gpu
        if not asked or (stage == "offline" and self.is_stored):
            return 0
        return self._gpus_of_model or asked

    def memory(self, stage: Stage) -> int:
        """Megabytes of main memory of a stage's job, more where it has more GPUs than others."""
        return self.asked(stage).memory(self.gpus(stage))
