"""What a stage's result depends on besides its input files: a parameter of its rule.

A change of an option reruns the stages that read it, and no others.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from humanline.files.code_hashes import code_hash
from humanline.study.scale.judges import ERRANDS
from humanline.study.scale.sampling import Generation
from humanline.trainers.registry import find_objective

if TYPE_CHECKING:
    from humanline.study.runs.resolved import Run

# Raise it when a change that the rules' code hashes leave out, of options or of the libraries that
# are pinned, changes what data, training or sampling mean: all is made anew.
# 3: base models of neighbouring seeds learned from the same sums but one.
VERSION = 3


def content_hash(content) -> str:
    """Twelve hexadecimal digits that depend on a JSON-serialisable value alone."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def code_of_run(command: str, run: "Run", *, by_value: bool = False) -> str:
    """Hash of the code that a command runs for a trained run: of its task and objective alone."""
    named = find_objective(run.cell.objective).modules
    return code_hash(command, by_value=by_value, tasks=[run.cell.task], named=named)


@dataclass(frozen=True)
class Hashes:
    """Of a run, the hash of each stage that makes it, by the name of the stage's rule."""

    run: "Run"

    @property
    def data(self) -> str:
        """Of its task's prompts."""
        return data_hash(self.run.data)

    @property
    def base_model(self) -> str:
        """Of the model that it starts from."""
        return content_hash([self.data, self.run.model.model_dump()])

    @property
    def offline(self) -> str:
        """Of the completions of the model that its offline data are of."""
        run = self.run
        model = content_hash([self.data, run.data_model.model_dump()])
        sampling = [run.training.group_size, run.training.sampling.model_dump()]
        return content_hash([model, run.reward.model_dump(), sampling, *self._engine.items()])

    @property
    def likelihood(self) -> str:
        """Of how likely a base model finds completions."""
        return content_hash([VERSION, self.run.generation.dtype])

    @property
    def train(self) -> str:
        """Of its training, but for the code and the machine."""
        return content_hash(self.manifest)

    @property
    def generate(self) -> str:
        """Of its evaluation's samples."""
        run = self.run
        asked = [run.evaluation.model_dump(), run.has_curve]
        return content_hash([VERSION, *asked, *self._engine.items()])

    @property
    def score(self) -> str:
        """Of the judge's verdicts."""
        return score_hash(self.run.judge)

    @property
    def predictors(self) -> str:
        """Of what may predict how well offline data train, as of other fresh samples."""
        return sampling_hash(self.run)

    @property
    def manifest(self) -> dict:
        """All that determines the run's model, except the code and the machine."""
        run = self.run
        training = run.training.model_dump(
            exclude={"learning_rate", "tune_learning_rates", "objectives"}
        )
        if run.cell.objective != "base":
            options = run.training.objectives[run.cell.objective].model_dump()
            training["objective"] = options | find_objective(run.cell.objective).identity()
        return {
            "version": VERSION,
            # Without defaults, so that an option yet to be invented retrains nothing.
            "cell": run.cell.model_dump(exclude_defaults=True),
            "learning_rate": run.learning_rate,
            "training": training,
            "reward": run.reward.model_dump(),
            "base": self.base_model,
            "data": self.offline if run.cell.data == "offline" else None,
        } | (self._engine if run.cell.data == "online" else {})

    @property
    def _engine(self) -> dict:
        return engine(self.run.generation)


def engine(generation: Generation) -> dict:
    """What of the engine changes the samples; nothing of the default, which always was."""
    return generation.model_dump(include={"engine", "dtype"}, exclude_defaults=True)


def data_hash(data) -> str:
    """Of a task's prompts, by the `data` of its configuration."""
    return content_hash([VERSION, data.model_dump(exclude_none=True)])


def score_hash(judge) -> str:
    """Of a judge's verdicts; how it is asked changes none."""
    return content_hash(judge and judge.model_dump(exclude=ERRANDS))


def sampling_hash(run: "Run", *asked) -> str:
    """Of samples drawn as training draws them, for what is asked besides."""
    sampling = run.training.sampling.model_dump()
    return content_hash([VERSION, *asked, sampling, *engine(run.generation).items()])
