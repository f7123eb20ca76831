"""A user's own objective, reward and judge, as docs/extending.md shows them."""

from pathlib import Path

MARGIN = '''
"""Margin: preferences by mean perceived log-ratios, the chosen one ahead by a margin."""

from pydantic import Field

from humanline.trainers.registry import PAIRS, Objective, Options


class MarginOptions(Options):
    """What a study may set."""

    margin: float = Field(0.0, ge=0, description="lead of the chosen completion, as a reward")


OBJECTIVE = Objective(
    label="Margin",
    view=PAIRS,
    trainer="margin_trainer:MarginTrainer",
    config="margin_trainer:MarginConfig",
    options=MarginOptions,
)
'''

MARGIN_TRAINER = '''
"""The trainer of Margin and its config."""

from dataclasses import dataclass, field

import torch
from torch.nn.functional import logsigmoid

from humanline.method.losses import DPOLoss
from humanline.trainers.dpo import HumanlineDPOConfig, HumanlineDPOTrainer


@dataclass
class MarginConfig(HumanlineDPOConfig):
    """The options of DPO, and a margin."""

    margin: float = field(default=0.0, metadata={"help": "Lead of the chosen completion."})

    def __post_init__(self):
        super().__post_init__()
        if self.margin < 0:
            raise ValueError(f"margin must be at least 0; got {self.margin}")
        if not self.is_papers_loss:
            raise ValueError("Margin is a loss of its own; leave loss_type and its like out")


class MarginTrainer(HumanlineDPOTrainer):
    """DPO on rewards per token, with a margin.

    With r the mean over a completion's tokens of the perceived log-ratio, the loss of a pair is
    -log sigmoid(beta r_chosen - beta r_rejected - margin).
    """

    loss_is_ours = True  # also with humanline=False, where log-ratios are perceived as they are

    def loss_of_pairs(self, chosen, rejected, perceive) -> DPOLoss:
        rewards = [self.beta * mean_log_ratio(*scores, perceive) for scores in (chosen, rejected)]
        losses = -logsigmoid(rewards[0] - rewards[1] - self.args.margin)
        return DPOLoss(losses, *(reward.detach() for reward in rewards))


def mean_log_ratio(policy, reference, mask, perceive):
    """(B,), in nats per token, of log-probabilities and a mask (B, T)."""
    log_ratios = perceive(torch.where(mask.bool(), policy - reference, 0.0))
    return log_ratios.sum(-1) / mask.sum(-1).clamp(min=1)
'''

BREVITY = '''
"""A reward: the shorter, the better."""


def brevity(prompts, completions, answers):
    return [1 / (1 + len(text)) for text in completions]
'''

SHORTER = '''
"""A judge that likes the shorter output."""


def shorter(instructions, first, second):
    return [0.5 + 0.4 * (len(a) > len(b)) - 0.4 * (len(a) < len(b)) for a, b in zip(first, second)]
'''

FILES = {
    "margin.py": MARGIN,
    "margin_trainer.py": MARGIN_TRAINER,
    "my_reward.py": BREVITY,
    "my_judge.py": SHORTER,
}


def write(folder: Path) -> Path:
    """Write all files of a user to a folder."""
    for name, text in FILES.items():
        (folder / name).write_text(text.lstrip())
    return folder
