"""The configuration of a scale: every option, its bounds, and the only place where defaults live.

`load_scale` reads one file of workflow/config and refuses what it does not know, with one line
that names the file, the field and the remedy. Snakefiles import this module, so it is cheap.
"""

from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Task = Literal["instruction_following", "math_reasoning"]
Objective = Literal["dpo", "kto", "grpo"]
Stage = Literal["data", "base_model", "offline", "train", "generate", "score", "table"]
TASKS: tuple[str, ...] = get_args(Task)
OBJECTIVES: tuple[str, ...] = get_args(Objective)


class ConfigError(ValueError):
    """The user's input is wrong. The message is one line: file, field and remedy."""


class Strict(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HubSource(Strict):
    """A repository on the Hugging Face hub, or a local folder in the same format."""

    kind: Literal["hub"]
    repo: str = Field(description="owner/name on the hub, or a local path")
    revision: str | None = Field(description="commit hash; null for a local path")
    split: str = Field("train", description="split of a dataset; models ignore it")


class MiniatureData(Strict):
    """Procedurally generated prompts."""

    kind: Literal["miniature"]
    train: int = Field(gt=0, description="prompts to train on")
    validation: int = Field(gt=0, description="prompts that tuning evaluates on")
    evaluation: int = Field(gt=0, description="prompts that the tables evaluate on")


class HubData(Strict):
    """Real prompts, and for offline training real scored completions."""

    kind: Literal["hub"]
    train: HubSource
    evaluation: HubSource
    validation: int = Field(256, description="train prompts set aside for tuning")


class MiniatureModel(Strict):
    """A small Llama that is fine-tuned on procedurally generated completions."""

    kind: Literal["miniature"]
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    examples: int = Field(gt=0, description="completions to fine-tune on")
    epochs: float = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    carelessness: float = Field(
        ge=0, le=1, description="chance that a fine-tuning completion ignores a wish or errs"
    )


class ProxyReward(Strict):
    """The miniature's imperfect reward model."""

    kind: Literal["proxy"]


class HubReward(HubSource):
    """A reward model on the hub."""

    trust_remote_code: bool = False


class VerifiableReward(Strict):
    """1 when math-verify finds the boxed answer equal to the gold answer, else 0."""

    kind: Literal["math_verify"]


class LocalJudge(Strict):
    """A judge that sees the miniature's gold reward."""

    kind: Literal["gold"]
    temperature: float = Field(gt=0, description="gold-reward difference that gives odds of e")
    length_bias: float = Field(description="gold reward that a much longer output is worth to it")


class OpenAIJudge(Strict):
    """The AlpacaEval 2 judge behind an OpenAI-compatible endpoint."""

    kind: Literal["openai"]
    model: str
    base_url: str | None = None


class Sampling(Strict):
    """How completions are drawn."""

    temperature: float = Field(gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(gt=0)


class ObjectiveConfig(Strict):
    """Hyperparameters of one objective. `batch_size` counts pairs (DPO), completions (others)."""

    batch_size: int = Field(gt=0, description="per optimizer step, over all devices")
    beta: float = Field(ge=0)
    epsilon: float = Field(0.2, gt=0, lt=1, description="GRPO's clip range around a ratio of 1")
    desirable_weight: float = Field(1.0, gt=0, description="KTO's weight of desirable examples")


class Training(Strict):
    """What all runs of a task share."""

    steps: int = Field(gt=0, description="optimizer steps of every run")
    evaluate_every: int = Field(gt=0, description="optimizer steps between kept checkpoints")
    group_size: int = Field(8, ge=2, description="completions per prompt")
    micro_batch_size: int | None = Field(None, description="per device; null: the whole batch")
    learning_rate: float = Field(gt=0, description="where tuning chose none")
    tune_learning_rates: list[float] = Field(min_length=1, description="what tuning tries")
    warmup_steps: int = Field(ge=0)
    max_grad_norm: float = 1.0
    weight_decay: float = 0.01
    adam_epsilon: float = 1e-5
    bf16: bool = False
    gradient_checkpointing: bool = False
    max_length: int | None = Field(None, description="tokens of prompt and completion")
    min_score_difference: float = Field(0.01, description="of a pair's chosen over its rejected")
    sampling: Sampling
    objectives: dict[Objective, ObjectiveConfig]


class TaskConfig(Strict):
    """One task at one scale."""

    data: Annotated[MiniatureData | HubData, Field(discriminator="kind")]
    base_model: Annotated[MiniatureModel | HubSource, Field(discriminator="kind")]
    reward: Annotated[ProxyReward | HubReward | VerifiableReward, Field(discriminator="kind")]
    judge: Annotated[LocalJudge | OpenAIJudge, Field(discriminator="kind")] | None = None
    training: Training
    evaluation: Sampling


class Seeds(Strict):
    """Reporting seeds fill the tables; tuning seeds choose learning rates and nothing else."""

    report: list[int] = Field(min_length=1)
    tune: list[int] = Field(min_length=1)

    @model_validator(mode="after")
    def _disjoint(self):
        if both := set(self.report) & set(self.tune):
            raise ValueError(f"report and tune share {sorted(both)}; use other seeds for one")
        return self


class Resources(Strict):
    """What a stage's jobs ask of the scheduler."""

    gpu: int = Field(0, ge=0)
    mem_mb: int = Field(3000, gt=0)
    runtime: int = Field(60, gt=0, description="minutes")


class Scale(Strict):
    """One file of workflow/config."""

    scale: str
    description: str
    seeds: Seeds
    bootstrap_replicates: int = Field(2000, gt=0)
    learning_rates: str | None = Field(
        None, description="file of tuned learning rates, relative to this file"
    )
    resources: dict[Stage, Resources] = {}
    tasks: dict[Task, TaskConfig]


def load_yaml(path: Path) -> dict:
    """Read a YAML mapping, or raise a `ConfigError` that names the file and the line."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); check that the file exists") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not valid YAML ({reason}); mend that line") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a mapping of keys to values; see the files beside it")
    return content


def validate(model: type[BaseModel], content: dict, path: Path):
    """Validate `content` of `path`, or raise a `ConfigError` with the first fault on one line."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    field = ".".join(str(part) for part in fault["loc"]) or "(file)"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    match fault["type"]:
        case "extra_forbidden":
            return f"{field}: unknown key; remove it or mend its spelling{more}"
        case "missing":
            return f"{field}: missing; add this key{more}"
        case _:
            given = str(fault.get("input"))
            given = given if len(given) < 60 else given[:57] + "..."
            return f"{field}: {fault['msg']}, but the file says {given!r}; change it{more}"


def load_scale(path: Path) -> Scale:
    """Read and validate a scale's file."""
    return validate(Scale, load_yaml(path), path)
