"""What a stage's jobs ask of the scheduler, and what `snakemake plan` assumes."""

from typing import Annotated

from pydantic import Field

from humanline.files.validation import Strict
from humanline.study.tasks import TaskName
from humanline.study.values import PositiveInt


class Resources(Strict):
    """What a stage's jobs ask of the scheduler, at their first attempt."""

    gpu: int = Field(0, ge=0, description="GPUs; training uses several, the other stages one")
    mem_mb: int = Field(3000, gt=0, description="main memory, megabytes")
    runtime: int = Field(60, gt=0, description="minutes")

    def memory(self, gpus: int) -> int:
        """Megabytes of main memory of a job with so many GPUs, where others have `gpu`."""
        return self.mem_mb * max(1, gpus) // max(1, self.gpu)


class Rates(Strict):
    """Tokens per second and GPU for a model of a billion parameters.

    Proportionally fewer for a larger model; several GPUs are as fast as their number.
    """

    train: float = Field(gt=0, description="of a step, the reference's pass included")
    sample: float = Field(gt=0, description="sampled, prompts not counted")
    score: float = Field(gt=0, description="of prompts and completions in a forward pass")


class Lengths(Strict):
    """How many prompts a task has, and how long its texts are."""

    train_prompts: PositiveInt = Field(description="prompts to train on")
    evaluation_prompts: PositiveInt = Field(description="prompts that the tables evaluate on")
    prompt_tokens: PositiveInt = Field(description="of a prompt, on average")
    completion_tokens: PositiveInt = Field(description="of a completion, on average")


class Assumptions(Strict):
    """What `snakemake plan` reckons with where the configuration says nothing. Not measured."""

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
