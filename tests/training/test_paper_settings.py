"""The settings of the paper's scale reach the trainers as the authors' scripts have them."""

from pathlib import Path

import pytest
import torch
from transformers import get_scheduler

from humanline.study.study import load_study
from humanline.training.cell import _options

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
TASK = "instruction_following"


@pytest.fixture(scope="module")
def paper():
    return load_study(CONFIG / "paper.yaml", CONFIG / "experiments.yaml", Path("results"))


def options(study, task, name):
    return _options(study.run(task, name), Path("out"))


def test_the_rate_warms_up_from_a_tenth_and_then_stays(paper):
    asked = options(paper, TASK, "dpo-offline-s1")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(
        asked["lr_scheduler_type"],
        optimizer,
        num_warmup_steps=asked["warmup_steps"],
        num_training_steps=asked["max_steps"],
        scheduler_specific_kwargs=asked["lr_scheduler_kwargs"],
    )
    rates = []
    for _ in range(asked["max_steps"]):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[:32] == pytest.approx([0.1 + 0.9 * step / 31 for step in range(32)])
    assert set(rates[31:]) == {1.0}


@pytest.mark.parametrize("objective", ["dpo", "kto", "grpo"])
def test_gradients_of_plain_online_pairs_are_clipped_to_half(paper, objective):
    cells = [cell for cell in paper.evaluated("all") if cell.task == TASK and not cell.base_model]
    norms: dict[bool, set] = {}
    for cell in cells:
        if cell.objective == objective and "max_grad_norm" not in cell.overrides:
            is_plain = cell.data == "online" and not (cell.humanline or cell.trust_region)
            norm = _options(paper.resolve(cell), Path("out"))["max_grad_norm"]
            norms.setdefault(is_plain, set()).add(norm)
    assert norms == {True: {1.0 if objective == "grpo" else 0.5}, False: {1.0}}


def test_a_step_in_math_has_256_completions(paper):
    asked = options(paper, "math_reasoning", "grpo-online-every1-s1")
    size = asked["per_device_train_batch_size"] * asked["gradient_accumulation_steps"]
    assert size == 256  # on this machine, one device
