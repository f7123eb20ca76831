"""The resources of a stage's jobs, and the assumptions of `snakemake plan`."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from humanline.files.validation import Strict, fault
from humanline.study.tasks import TaskName
from humanline.study.values import PositiveInt, distinct


class Resources(Strict):
    """The resources that a stage's jobs request from the scheduler at their first attempt."""

    gpu: int = Field(
        0, ge=0, le=1000, description="GPUs; training uses several, the other stages one"
    )
    mem_mb: PositiveInt = Field(3000, description="main memory, megabytes")
    runtime: PositiveInt = Field(60, description="minutes")

    def memory(self, gpus: int) -> int:
        """Compute the megabytes of a job with `gpus` GPUs; `mem_mb` is for `gpu` GPUs."""
        return self.mem_mb * max(1, gpus) // max(1, self.gpu)


class Rates(Strict):
    """Tokens per second of a job, for a model of some size.

    The rate is proportional to the number of the job's GPUs, and inversely to the number of
    parameters.
    """

    train: float = Field(gt=0, description="tokens in a training step, with the reference's pass")
    sample: float = Field(gt=0, description="sampled tokens, without prompts")
    score: float = Field(gt=0, description="prompt and completion tokens in a forward pass")
    billions: float = Field(
        1.0, gt=0, description="parameters, in billions, of the model that has these rates"
    )


class Calls(Strict):
    """Seconds that a call of the model takes besides its tokens: small models mostly wait for it.

    They depend neither on the model's size nor on the number of GPUs.
    """

    train: float = Field(0.0, ge=0, description="of a forward and backward pass")
    sample: float = Field(0.0, ge=0, description="of one more token of all completions of a batch")
    score: float = Field(0.0, ge=0, description="of a forward pass")


class Lengths(Strict):
    """The number of a task's prompts, and the lengths of its texts."""

    train_prompts: PositiveInt = Field(description="prompts to train on")
    evaluation_prompts: PositiveInt = Field(description="prompts that the tables evaluate on")
    prompt_tokens: PositiveInt = Field(description="mean tokens of a prompt")
    completion_tokens: PositiveInt = Field(description="mean tokens of a completion")


class Footprint(Strict):
    """Memory of a GPU that a model takes besides its weights, gradients and moments."""

    activations: float = Field(
        gt=0, description="megabytes that a token of prompt or completion keeps for the backward"
    )
    checkpointed: float = Field(gt=0, description="the same with training.gradient_checkpointing")
    cache: float = Field(gt=0, description="megabytes of a token's keys and values, in float32")
    logits: float = Field(gt=0, description="megabytes of a token's logits, in float32")


class Limits(Strict):
    """What a scale may take; the plan says in bold what takes more."""

    minutes: float | None = Field(
        None, gt=0, description="of all that `snakemake` makes by default"
    )
    gigabytes: float | None = Field(
        None, gt=0, description="of a GPU, for the jobs that share it; null: its memory"
    )
    tables: Annotated[list[str], AfterValidator(distinct)] = Field(
        [], description="tables with a limit of their own, together"
    )
    tables_minutes: float | None = Field(None, gt=0, description="of these tables")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.tables and self.tables_minutes is None:
            raise fault("tables_minutes", "missing, but tables are named; add it")
        if self.tables_minutes is not None and not self.tables:
            raise fault("tables", "none, but tables_minutes is given; name them, or remove that")
        return self


class Assumptions(Strict):
    """The assumptions of `snakemake plan` about all that is not configured."""

    device: str = Field(min_length=1, description="the device for which the rates hold")
    measured: str | None = Field(
        None, description="how the rates were measured; null: they are guesses"
    )
    device_gigabytes: float | None = Field(
        gt=0, description="the GPU's memory, gigabytes; null: the device is no GPU"
    )
    jobs_at_a_time: PositiveInt | None = Field(
        None,
        description="jobs that run at a time on the whole machine, sharing its GPU, as "
        "`--resources gpu=N` says; null: there are as many GPUs as jobs ask for",
    )
    tokens_per_second: Rates = Field(description="of each job, while so many run at a time")
    seconds_per_call: Calls = Field(Calls(), description="of each job, besides its tokens")
    speed: float = Field(
        1.0, gt=0, description="of the device: its tokens per second by those measured"
    )
    startup_minutes: float = Field(ge=0, description="minutes until a job computes")
    startup_gigabytes: float = Field(
        0.0, ge=0, description="memory of a GPU that every job takes before it has a model"
    )
    footprints: dict[str, Footprint] = Field(
        {}, description="each model's memory in use, by repository or package; none: not planned"
    )
    judge_tokens: int = Field(
        0,
        ge=0,
        description="tokens of the judge's instructions, without prompt and completions",
    )
    parameters: dict[str, Annotated[float, Field(gt=0)]] = Field(
        description="each model's parameters in billions, by repository or package"
    )
    lengths: dict[TaskName, Lengths] = Field(description="prompts and tokens of every task")
    limits: Limits | None = Field(
        None,
        description="what it may take; null: no limit. "
        "A scale that extends this one does not inherit it",
    )
