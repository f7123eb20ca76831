"""The options of sampling completions, and of the engine that samples."""

from typing import Annotated, Literal

from pydantic import Field

from humanline.files.validation import Strict
from humanline.study.values import PositiveInt


class Sampling(Strict):
    """The options of sampling completions."""

    temperature: float = Field(ge=0, description="divides the logits; 0: the likeliest token")
    top_p: float = Field(1.0, gt=0, le=1, description="probability mass of the tokens kept")
    max_new_tokens: int = Field(gt=0, description="tokens of a completion at most")
    # A hash of the options has it only if it is used.
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        exclude_if=lambda strings: not strings,
        description="strings that end a completion, and are not part of its text",
    )


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
