"""A resolved run: all that the stages need to know about a cell, in one object.

`Study.resolve` makes it, once. Stages take it and never ask the study.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from humanline.files.validation import ConfigError
from humanline.study.experiments import Cell
from humanline.study.runs.hashes import Hashes
from humanline.study.runs.paths import RunPaths
from humanline.study.scale.data import Data
from humanline.study.scale.judges import Judge
from humanline.study.scale.models import Model
from humanline.study.scale.plan import Resources
from humanline.study.scale.rewards import Reward
from humanline.study.scale.sampling import Generation, Sampling
from humanline.study.scale.training import Training
from humanline.study.tasks import find_task
from humanline.study.values import Stage
from humanline.trainers.registry import Options, with_overrides


@dataclass(frozen=True)
class Run:
    """A cell with its files, its options and the resources of its jobs.

    Args:
        cell: the cell.
        scale: the name of the scale.
        paths: the paths of the files that it writes and reads.
        has_curve: whether all kept checkpoints are evaluated, or only the last.
        learning_rate: the rate after overrides and tuning.
        rate_source: where the rate comes from: a tuned variant's name, ``own`` or ``default``.
        data: the source of the task's prompts.
        model: the model that it starts from.
        data_model: the model that its offline data are sampled from.
        reward: the reward that scores completions for training.
        judge: the judge that compares outputs with references; None for a graded task.
        training: the options that all runs of the task share.
        evaluation: the sampling of the completions for the tables.
        generation: the engine that samples completions.
        resources: the resources of each stage's jobs at their first attempt.
        report_to: where the metrics of its training also go.
    """

    cell: Cell
    scale: str
    paths: RunPaths
    has_curve: bool
    learning_rate: float
    rate_source: str
    data: Data
    model: Model
    data_model: Model
    reward: Reward
    judge: Judge | None
    training: Training
    evaluation: Sampling
    generation: Generation
    resources: dict[Stage, Resources]
    report_to: Sequence[str]

    @property
    def name(self) -> str:
        """The name: variant and seed."""
        return self.cell.name

    @property
    def is_trained(self) -> bool:
        """Whether the run is trained; a base model is not."""
        return self.cell.objective != "base"

    @property
    def shares_prompts(self) -> bool:
        """Whether all seeds have the same prompts; in a generated world each has its own."""
        return self.data.shares_prompts

    @property
    def is_stored(self) -> bool:
        """Whether `data` already contains the scored completions of `data_model`."""
        if self.data.kind != "hub" or not find_task(self.cell.task).has_stored_scores:
            return False
        name = self.cell.data_base.base_model
        return name in self.data.stored if name else not self.data.own_completions

    @property
    def evaluations(self) -> int:
        """The number of checkpoints that are evaluated; see `samples.checkpoints`."""
        if not self.is_trained or not self.has_curve:
            return 1
        return self.training.evaluations

    @cached_property
    def hashes(self) -> Hashes:
        """The hashes of the options that each stage reads."""
        return Hashes(self)

    @property
    def pretrained(self) -> Path | None:
        """The folder of the model that its base model starts from; None: there is none."""
        name = self.hashes.pretrained
        return self.paths.paths.pretrained(self.cell.task, name) if name else None

    @cached_property
    def objective(self) -> Options:
        """The objective's hyperparameters: the scale's, with the cell's overrides."""
        return with_overrides(self.training.objectives[self.cell.objective], self.cell.overrides)

    def batch_share(self, devices: int) -> tuple[int, int]:
        """Compute a device's share of a batch.

        Args:
            devices: the number of devices that train together.

        Returns:
            Examples per backward pass, and backward passes per step.

        Raises:
            ConfigError: if the whole batch does not divide among the devices.
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
        """The number of GPUs that share the model in sampling."""
        return self._gpus_of_model or 1

    @property
    def _gpus_of_model(self) -> int | None:
        return getattr(self.model, "gpus", None)

    def resources_for(self, stage: Stage) -> Resources:
        """Return the resources of a stage's jobs, the same for all runs."""
        return self.resources.get(stage, Resources())

    def gpus(self, stage: Stage) -> int:
        """Count a job's GPUs for a stage: more for some models, none to read stored data."""
        asked = self.resources_for(stage).gpu
        if not asked or (stage == "offline" and self.is_stored):
            return 0
        return self._gpus_of_model or asked

    def memory(self, stage: Stage) -> int:
        """Compute the megabytes of main memory of a stage's job, in proportion to its GPUs."""
        return self.resources_for(stage).memory(self.gpus(stage))
