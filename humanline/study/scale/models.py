"""The options of base models, which training starts from."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from humanline.files.validation import Strict, fault
from humanline.study.scale.hub import HubSource


class HubModel(HubSource):
    """A causal language model."""

    # No result depends on where it computes, so no hash of the options has it.
    gpus: int | None = Field(
        None,
        gt=0,
        exclude=True,
        description="GPUs that share the model, in training and in vLLM; null: one is enough, and "
        "training uses those of resources.train",
    )


class Lessons(Strict):
    """Procedurally generated completions, and how a small model learns from them."""

    examples: int = Field(gt=0, description="completions to learn from")
    epochs: float = Field(gt=0, description="passes over the examples")
    batch_size: int = Field(gt=0, description="completions per optimizer step")
    learning_rate: float = Field(gt=0, description="peak learning rate")
    carelessness: float = Field(
        ge=0, le=1, description="chance that a completion ignores a wish or is wrong"
    )


class Pretraining(Lessons):
    """Lessons that a model has once, for all seeds."""

    seed: int = Field(
        0, ge=0, lt=2**32, description="of the first weights, and of the examples and their order"
    )


class MiniatureModel(Lessons):
    """A small model; its lessons are those of one seed."""

    kind: Literal["miniature"] = Field(description="a small model, made here")
    architecture: Literal["llama", "qwen3"] = Field("llama", description="its name in transformers")
    hidden_size: int = Field(gt=0, description="width of the residual stream")
    intermediate_size: int = Field(gt=0, description="width of the feed-forward layers")
    layers: int = Field(gt=0, description="transformer layers")
    heads: int = Field(gt=0, description="attention heads; twice this number divides hidden_size")
    pretraining: Pretraining | None = Field(
        None,
        description="lessons that all seeds share, before those of each; null: each seed learns "
        "from first weights of its own",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="the model's logits are divided by it after fine-tuning: above 1, its outputs "
        "have more entropy, and the likeliest one stays the same",
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
