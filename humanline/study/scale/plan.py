"""The resources of a stage's jobs, and the assumptions of `snakemake plan`."""

from typing import Annotated

from pydantic import Field

from humanline.files.validation import Strict
from humanline.study.tasks import TaskName
from humanline.study.values import PositiveInt


class Resources(Strict):
    """The resources that a stage's jobs request from the scheduler at their first attempt."""

    gpu: int = Field(0, ge=0, description="GPUs; training uses several, the other stages one")
    mem_mb: int = Field(3000, gt=0, description="main memory, megabytes")
    runtime: int = Field(60, gt=0, description="minutes")

    def memory(self, gpus: int) -> int:
        """Compute the megabytes of a job with `gpus` GPUs; `mem_mb` is for `gpu` GPUs."""
        return self.mem_mb * max(1, gpus) // max(1, self.gpu)


class Rates(Strict):
    """Tokens per second and GPU for a model of a billion parameters.

    The rate is proportional to the number of GPUs, and inversely to the number of parameters.
    """

    train: float = Field(gt=0, description="tokens in a training step, with the reference's pass")
    sample: float = Field(gt=0, description="sampled tokens, without prompts")
    score: float = Field(gt=0, description="prompt and completion tokens in a forward pass")


class Lengths(Strict):
    """The number of a task's prompts, and the lengths of its texts."""

    train_prompts: PositiveInt = Field(description="prompts to train on")
    evaluation_prompts: PositiveInt = Field(description="prompts that the tables evaluate on")
    prompt_tokens: PositiveInt = Field(description="mean tokens of a prompt")
    completion_tokens: PositiveInt = Field(description="mean tokens of a completion")


class Assumptions(Strict):
    """The assumptions of `snakemake plan` about all that is not configured. They are guesses."""

    device: str = Field(min_length=1, description="the GPU for which the rates hold")
    device_gigabytes: float = Field(gt=0, description="the GPU's memory, gigabytes")
    tokens_per_second: Rates = Field(description="per GPU, for a billion parameters")
    startup_minutes: float = Field(ge=0, description="minutes until a GPU job computes")
    judge_tokens: PositiveInt = Field(
        description="tokens of the judge's instructions, without prompt and completions"
    )
    parameters: dict[str, Annotated[float, Field(gt=0)]] = Field(
        description="each model's parameters in billions, by repository"
    )
    lengths: dict[TaskName, Lengths] = Field(description="prompts and tokens of every task")
