"""The hashes of the options that a stage reads: a parameter of the stage's rule.

A change of an option reruns the stages that read it, and no others.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from humanline.files.code_hashes import code_hash
from humanline.study.scale.judges import REQUEST_OPTIONS
from humanline.study.scale.models import FineTunedModel, MiniatureModel
from humanline.study.scale.sampling import Generation
from humanline.study.scale.training import Training
from humanline.trainers.registry import find_objective

if TYPE_CHECKING:
    from humanline.study.runs.resolved import Run

# Raise it to make everything again. That is needed if the meaning of data, training or sampling
# changes outside the hashed code: in an option, or in a pinned library.
# 3: base models of neighbouring seeds had learned from the same sums, except one.
# 4: every seed of a generated world has its own prompts.
VERSION = 4


def content_hash(content: Any) -> str:
    """Hash a JSON-serialisable value.

    Returns:
        Twelve hexadecimal digits.
    """
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def code_of_run(command: str, run: "Run", *, by_value: bool = False) -> str:
    """Hash of the code that a command runs for a trained run: of its task and objective alone."""
    named = find_objective(run.cell.objective).modules
    return code_hash(command, by_value=by_value, tasks=[run.cell.task], named=named)


def code_of_stage(command: str, task: str, run: "Run | None" = None) -> str:
    """Hash of the code of a task's stage, as its rule has it and the seals of its files say.

    Args:
        command: the stage's command.
        task: the task's name.
        run: the trained run, of a training.
    """
    if command == "train" and run:
        return code_of_run(command, run, by_value=True)
    return code_hash(command, by_value=command != "score", tasks=[task])


@dataclass(frozen=True)
class Hashes:
    """The hashes of a run's stages, by the names of their rules."""

    run: "Run"

    @property
    def data(self) -> str:
        """The hash of the prompts of the run's seed."""
        return data_hash(self.run.data, self.run.paths.draw)

    @property
    def pretrained(self) -> str | None:
        """The hash of the model that the base models of all seeds start from; None: there is none.

        Models with the same sizes, pretraining and world have the same, and so have fine-tuned
        models with the same start.
        """
        model = self.run.model
        if isinstance(model, FineTunedModel):
            return content_hash([VERSION, model.start.model_dump()])
        if not isinstance(model, MiniatureModel) or model.pretraining is None:
            return None
        world = self.run.data.model_dump(exclude_none=True)  # the sizes decide on the train split
        return content_hash([VERSION, world, model.sizes, model.pretraining.model_dump()])

    @property
    def base_model(self) -> str:
        """The hash of the model that the run starts from."""
        return content_hash([self.data, self.run.model.model_dump()])

    @property
    def offline(self) -> str:
        """The hash of the run's offline data: scored completions of `data_model`."""
        run = self.run
        model = content_hash([self.data, run.data_model.model_dump()])
        sampling = [run.training.group_size, run.training.sampling.model_dump()]
        return content_hash([model, run.reward.model_dump(), sampling, *self._engine.items()])

    @property
    def likelihood(self) -> str:
        """The hash of the likelihoods of completions under a base model."""
        return content_hash([VERSION, self.run.generation.dtype])

    @property
    def train(self) -> str:
        """The hash of the run's training, without code and machine."""
        return content_hash(self.manifest)

    @property
    def generate(self) -> str:
        """The hash of the samples for the evaluation."""
        run = self.run
        asked = [run.evaluation.model_dump(), run.has_curve]
        return content_hash([VERSION, *asked, *self._engine.items()])

    @property
    def score(self) -> str:
        """The hash of the judge's verdicts."""
        return score_hash(self.run.judge)

    @property
    def predictors(self) -> str:
        """The hash of the predictors, which depend on fresh samples."""
        return sampling_hash(self.run)

    @property
    def manifest(self) -> dict:
        """All that determines the run's model, except the code and the machine."""
        run = self.run
        training = shared_training(run.training)
        if run.cell.objective != "base":
            options = run.training.objectives[run.cell.objective].model_dump()
            training["objective"] = options | find_objective(run.cell.objective).identity()
        return {
            "version": VERSION,
            # Without defaults, so that a new option in a later version retrains nothing.
            "cell": run.cell.model_dump(exclude_defaults=True),
            "learning_rate": run.learning_rate,
            "training": training,
            "reward": run.reward.model_dump(),
            "base": self.base_model,
            "data": self.offline if run.cell.data == "offline" else None,
        } | (self._engine if run.cell.data == "online" else {})

    @property
    def _engine(self) -> dict:
        return engine_options(self.run.generation)


def shared_training(training: Training) -> dict:
    """Select the options of training that all runs of a task share: no rates, no objectives.

    LoRA is an option of each cell.
    """
    rates = {"learning_rate", "tune_learning_rates", "wider_learning_rates", "lora_rate_factor"}
    return training.model_dump(exclude={*rates, "objectives", "lora"})


def engine_options(generation: Generation) -> dict:
    """Select the engine's options that change samples, unless they have their defaults.

    Defaults are left out because the first versions had no such options.
    """
    named = {"engine", "dtype", "most_at_once"}
    return generation.model_dump(include=named, exclude_defaults=True)


def data_hash(data, draw: str) -> str:
    """Hash a draw of a task's prompts, by the `data` of its configuration."""
    return content_hash([VERSION, data.model_dump(exclude_none=True), draw])


def score_hash(judge) -> str:
    """Hash a judge's verdicts, without the options of how requests are sent."""
    return content_hash(judge and judge.model_dump(exclude=REQUEST_OPTIONS))


def sampling_hash(run: "Run", *asked: Any) -> str:
    """Hash samples that are drawn with training's options, and further values."""
    sampling = run.training.sampling.model_dump()
    return content_hash([VERSION, *asked, sampling, *engine_options(run.generation).items()])
