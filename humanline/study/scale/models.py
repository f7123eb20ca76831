"""The options of base models, which training starts from."""

from typing import Literal, Self

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


class MiniatureModel(Strict):
    """A small model that is fine-tuned on procedurally generated completions."""

    kind: Literal["miniature"] = Field(description="a small model, trained from scratch")
    architecture: Literal["llama", "qwen3"] = Field("llama", description="its name in transformers")
    hidden_size: int = Field(gt=0, description="width of the residual stream")
    intermediate_size: int = Field(gt=0, description="width of the feed-forward layers")
    layers: int = Field(gt=0, description="transformer layers")
    heads: int = Field(gt=0, description="attention heads; twice this number divides hidden_size")
    examples: int = Field(gt=0, description="completions to fine-tune on")
    epochs: float = Field(gt=0, description="passes over the examples")
    batch_size: int = Field(gt=0, description="completions per optimizer step")
    learning_rate: float = Field(gt=0, description="peak learning rate of fine-tuning")
    carelessness: float = Field(
        ge=0, le=1, description="chance that a fine-tuning completion ignores a wish or is wrong"
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="the model's logits are divided by it after fine-tuning: above 1, its outputs "
        "have more entropy, and the likeliest one stays the same",
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % (2 * self.heads):
            reason = f"{self.hidden_size} is not an even multiple of heads, {self.heads}"
            raise fault("hidden_size", f"{reason}; change either")
        return self
