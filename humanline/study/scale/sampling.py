"""The options of sampling completions, and of the engine that samples."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from humanline.files.validation import ConfigError, Strict
from humanline.study.values import PositiveInt, distinct


class Sampling(Strict):
    """The options of sampling completions."""

    temperature: float = Field(ge=0, description="divides the logits; 0: the likeliest token")
    top_p: float = Field(1.0, gt=0, le=1, description="probability mass of the tokens kept")
    max_new_tokens: PositiveInt = Field(description="tokens of a completion at most")
    # A hash of the options has it only if it is used.
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(distinct)] = (
        Field(
            (),
            strict=False,  # YAML has lists
            max_length=100,
            exclude_if=lambda strings: not strings,
            description="strings that end a completion, and are not part of its text",
        )
    )


# Options that one engine reads, in one place if there is one.
_READERS = {
    "most_at_once": ("transformers", None),
    "gpu_memory_utilization": ("vllm", None),
    "max_model_length": ("vllm", None),
    "online": ("vllm", None),
    "online_memory_utilization": ("vllm", "colocate"),
    "server_url": ("vllm", "server"),
}


class Generation(Strict):
    """The engine that samples completions, and where it runs."""

    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="what samples; vllm needs pip install 'humanline[vllm]'"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="number format of a model's weights when it samples"
    )
    most_at_once: PositiveInt = Field(
        1024,
        description="transformers: completions of a batch at most; fewer take less of a GPU's "
        "memory, and other samples are drawn",
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="vLLM: share of a GPU's memory, or of the machine's on a CPU"
    )
    max_model_length: PositiveInt | None = Field(
        None, description="vLLM: tokens of prompt and completion; null: the model's own limit"
    )
    online: Literal["colocate", "server"] = Field(
        "colocate", description="vLLM in online training: on the training's GPUs, or on a server"
    )
    online_memory_utilization: float = Field(
        0.3, gt=0, le=1, description="colocated vLLM: its share of the memory"
    )
    server_url: str | None = Field(
        None, description="URL of the vLLM server; null: this machine, port 8000"
    )

    def require_read(self, keys: Iterable[str]) -> None:
        """Refuse options that this engine does not read.

        Args:
            keys: the options that a scale's file says itself; it may inherit others.

        Raises:
            ConfigError: field, reason and remedy.
        """
        for key in set(keys) & set(_READERS):
            engine, place = _READERS[key]
            if engine != self.engine or place not in (None, self.online):
                wanted = f"engine: {engine}" + (f" and online: {place}" if place else "")
                raise ConfigError(
                    f"generation.{key}: only {wanted} reads it; remove it, or set that"
                )
