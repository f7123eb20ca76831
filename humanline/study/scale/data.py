"""The options of a task's data: generated, or from the hub.

A *draw* is one set of a task's prompts: training, validation and evaluation. In a generated world
each seed has its own draw, so that its runs repeat the whole experiment. The hub's data are one
draw for all seeds.
"""

from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from humanline.files.validation import Strict, fault
from humanline.study.scale.hub import HubSource
from humanline.study.values import PositiveInt


def _is_inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or path.startswith("/") or not path.isprintable():
        raise fault("", f"{path!r} is no path within the repository; mend it")
    return path


class HubDataset(HubSource):
    """One split of a dataset."""

    repo_type: ClassVar[str] = "dataset"
    split: str = Field("train", pattern=r"^\w[^\s/\\]*$", description="the split")
    file: Annotated[str, AfterValidator(_is_inside)] | None = Field(
        None, description="its JSON file, if the repository has several; null: all files"
    )


class GeneratedData(Strict):
    """Procedurally generated prompts; its kind names the task's world that they are drawn from."""

    kind: str = Field(description="the world")
    train: PositiveInt = Field(description="prompts to train on")
    validation: PositiveInt = Field(description="prompts that tuning evaluates on")
    evaluation: PositiveInt = Field(description="prompts that the tables evaluate on")
    shares_prompts: ClassVar[bool] = False

    def draw(self, seed: int) -> str:
        """Name the draw of a seed's prompts."""
        return f"s{seed}"


class MiniatureData(GeneratedData):
    """Prompts in few characters, for a model that is made here."""

    kind: Literal["miniature"] = Field(description="procedurally generated")
    lengths: str | None = Field(
        None,
        pattern="^[SML]+$",
        description="length wishes to draw from, if the task has any: S, M and L ask for 5, 9 and "
        "13 letters; null: SML",
    )


class EnglishData(GeneratedData):
    """Prompts in English, for a real model."""

    kind: Literal["english"] = Field(description="procedurally generated, in English")
    most_words: int = Field(
        20, ge=8, description="instructions: words of the longest text that a prompt asks for"
    )
    terms: int = Field(4, ge=2, le=9, description="math: numbers in a sum")
    digits: int = Field(2, ge=1, le=4, description="math: most digits of a number in a sum")
    word_problems: float = Field(
        0.25, ge=0, le=1, description="math: share of problems in words; the others are sums"
    )


class HubData(Strict):
    """Real prompts, and for offline training real scored completions."""

    kind: Literal["hub"] = Field(description="from the Hugging Face hub or local folders")
    train: HubDataset = Field(description="the dataset to train on")
    evaluation: HubDataset = Field(description="the dataset that the tables evaluate on")
    validation: PositiveInt = Field(256, description="train prompts set aside for tuning")
    stored: dict[str, HubDataset] = Field(
        {}, description="datasets of other base models' scored completions, by model name"
    )
    stored_group_size: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="stored completions to keep of each prompt, evenly spaced from the best to the "
        "worst; null: all",
    )
    # A hash of the options has it only if it is used.
    own_completions: bool = Field(
        False,
        exclude_if=lambda own: not own,
        description="the base model samples its offline completions and the reward scores them, "
        "also where `train` has scored ones: another model's, say",
    )
    shares_prompts: ClassVar[bool] = True

    def draw(self, seed: int) -> str:
        """Name the draw of a seed's prompts: there is one for all."""
        return "all"


Data = MiniatureData | EnglishData | HubData
