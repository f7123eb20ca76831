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

    train: float = Field(gt=0, description="of a step, the reference's pass included")
    sample: float = Field(gt=0, description="sampled, prompts not counted")
    score: float = Field(gt=0, description="of prompts and completions in a forward pass")


class Lengths(Strict):
    """The number of a task's prompts, and the lengths of its texts."""

    train_prompts: PositiveInt = Field(description="prompts to train on")
    evaluation_prompts: PositiveInt = Field(description="prompts that the tables evaluate on")
    prompt_tokens: PositiveInt = Field(description="of a prompt, on average")
    completion_tokens: PositiveInt = Field(description="of a completion, on average")


class Assumptions(Strict):
    """The assumptions of `snakemake plan` about all that is not configured. They are guesses."""

    device: str = Field(min_length=1, description="the GPU that the rates are of")
    device_gigabytes: float = Field(gt=0, description="of its memory")
    tokens_per_second: Rates = Field(description="per GPU, for a billion parameters")
    startup_minutes: float = Field(ge=0, description="of a GPU job until it computes")
    judge_tokens: PositiveInt = Field(
        description="of a judge's instructions, besides the prompt and two completions"
    )
    parameters: dict[str, Annotated[float, Field(gt=0)]] = Field(
        description="billions of parameters of every model, by repository"
    )
    lengths: dict[TaskName, Lengths] = Field(description="prompts and tokens of every task")
