"""Trainers of a tiny model on a few rows, for the tests beside this file."""

import torch
from datasets import Dataset

import humanline
from humanline.trainers.rows import preferences

OBJECTIVES = ("dpo", "kto", "grpo")
GROUP = 4


def rows(objective: str, groups: list[dict]) -> Dataset:
    view = {
        "dpo": lambda: preferences.pairs(groups, 0.01),
        "kto": lambda: preferences.labelled(groups, 0.01),
        "grpo": lambda: preferences.stored_groups(groups),
    }
    return Dataset.from_list(view[objective]())


def make_trainer(objective, model, tokenizer, dataset, folder, extra=None, **options):
    name = objective.upper()
    if objective == "grpo":
        options = {"num_generations": GROUP, "max_completion_length": 6} | options
    args = getattr(humanline, f"Humanline{name}Config")(
        output_dir=str(folder),
        **{
            "max_steps": 9,
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-2,
            "report_to": "none",
            "save_strategy": "no",
            "logging_steps": 1,
            "gradient_checkpointing": False,
            "bf16": False,
            "disable_tqdm": True,
        }
        | options,
    )
    trainer = getattr(humanline, f"Humanline{name}Trainer")
    return trainer(
        model, args=args, train_dataset=dataset, processing_class=tokenizer, **(extra or {})
    )


def weights(model) -> dict[str, torch.Tensor]:
    """Copy a model's parameters to main memory, wherever the model is."""
    return {name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters()}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def final_losses(trainer) -> list[float]:
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]
