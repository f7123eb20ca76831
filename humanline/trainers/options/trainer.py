"""The trainer that has the options: what the mixins of our trainers build on."""

from collections import defaultdict
from typing import Any

from transformers import PreTrainedModel, Trainer

from humanline.trainers.options.humanline import HumanlineOptions


class TrainerOfTrl(Trainer):
    """What TRL's DPO, KTO and GRPO trainers have besides the Trainer, with our options.

    In the order of classes it stands before TRL's trainer, and changes nothing.
    """

    args: HumanlineOptions
    model: PreTrainedModel
    ref_model: Any
    train_dataset: Any
    eval_dataset: Any
    processing_class: Any
    data_collator: Any
    _metrics: dict[str, defaultdict[str, list]]  # of "train" and "eval", until they are logged
    _total_train_tokens: int
    # Of the model card.
    _name: str
    _tag_names: list[str]
    _paper: dict[str, str]
