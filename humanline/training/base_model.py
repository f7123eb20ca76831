"""Make a base model: copy one from the hub, or fine-tune a small one for the miniature."""

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import cast

from humanline.data.hub import WEIGHTS, model_files, model_folder
from humanline.files.weights import require_whole
from humanline.study.scale.hub import HubSource
from humanline.study.scale.models import MiniatureModel
from humanline.trainers.rows.preferences import assistant_turn, user_turn
from humanline.worlds.miniature import fine_tuning_rows


def make(
    task: str,
    config: HubSource | MiniatureModel,
    seed: int,
    directory: Path,
    avoid: set[str],
    lengths: str | None = None,
) -> None:
    """Write the base model of a task and seed to `directory` as a Hugging Face folder.

    Args:
        task: the task's name.
        config: a model on the hub, or the miniature's sizes and fine-tuning.
        seed: seed of the miniature's weights, examples and fine-tuning.
        directory: where to write; an existing folder is replaced.
        avoid: prompts that fine-tuning must not see.
        lengths: the lengths of the miniature world's wishes; None means all.

    Raises:
        ConfigError: if the model cannot be downloaded, its weights are damaged, or too few examples
            are left to learn from.
    """
    if directory.exists():  # old files could be read with the new ones; links would be followed
        shutil.rmtree(directory)
    match config:
        case HubSource() as source:
            _fetch(source, directory)
        case MiniatureModel() as miniature:
            rows = fine_tuning_rows(
                task, miniature.examples, miniature.carelessness, seed, avoid, lengths
            )
            _fine_tune(rows, miniature, seed, directory)


def _fetch(source: HubSource, directory: Path) -> None:
    """Copy a model's small files and link its weights, which stay where they are.

    Raises:
        ConfigError: if weights are missing or not finite.
    """
    directory.mkdir(parents=True)
    for file in model_files(source, model_folder(source)):
        target = directory / file.name
        if fnmatch(file.name, WEIGHTS):
            target.symlink_to(file.resolve())
        else:
            shutil.copyfile(file, target)
    require_whole(directory)


def _fine_tune(rows: list[dict], config: MiniatureModel, seed: int, directory: Path) -> None:
    """Fine-tune a new small model with TRL, on completions alone, with a cosine schedule."""
    from torch.nn import Module
    from trl import SFTConfig, SFTTrainer

    from humanline.worlds.tiny_model import build_model, build_tokenizer, divide_logits

    tokenizer = build_tokenizer()
    trainer = SFTTrainer(
        model=build_model(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            layers=config.layers,
            heads=config.heads,
            seed=seed,
            architecture=config.architecture,
            # transformers' 0.02 is for wide models, and learns more slowly here. With 0.1 and more,
            # some seeds learn a kind of wish that others do not, and wins vary by ten points.
            initializer_range=0.05,
        ),
        args=SFTConfig(
            output_dir=str(directory / "sft"),
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            adam_beta2=0.95,  # so that the mean of squares follows gradients within few steps
            warmup_steps=50,
            max_grad_norm=1.0,
            dataset_kwargs={"skip_prepare_dataset": True},  # the rows are tokens already
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            bf16=False,
            gradient_checkpointing=False,
            seed=seed,
        ),
        train_dataset=_tokenized(tokenizer, rows),
        processing_class=tokenizer,
    )
    trainer.train()
    divide_logits(cast(Module, trainer.model), config.temperature)  # typed as possibly None
    trainer.save_model(str(directory))


def _tokenized(tokenizer, rows: list[dict]):
    """Encode rows for TRL's fine-tuning as the preference trainers encode theirs."""
    from datasets import Dataset

    from humanline.trainers.rows.conversations import encode_rows

    prompts = [user_turn(row["prompt"]) for row in rows]
    completions = [assistant_turn(row["completion"]) for row in rows]
    pairs = encode_rows(tokenizer, prompts, completions)
    return Dataset.from_dict(
        {
            "input_ids": [prompt_ids + ids for prompt_ids, ids in pairs],
            "labels": [[-100] * len(prompt_ids) + ids for prompt_ids, ids in pairs],
        }
    )
