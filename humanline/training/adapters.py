"""LoRA in a cell's training: its adapters, and the whole models that later stages read."""

import inspect
import os
import shutil
from pathlib import Path
from typing import Any

from humanline.files.validation import ConfigError
from humanline.files.weights import load_folder, put_in_place
from humanline.study.runs.pins import require_peft
from humanline.study.runs.resolved import Run

_ADAPTER = "adapter_config.json"  # PEFT's name; a folder with this file has an adapter alone


def adapter_options(run: Run, trainer: type) -> dict[str, Any]:
    """Return a trainer's arguments for the adapters of a run; none if the whole model trains.

    It seeds torch, from which PEFT draws the adapters' first weights. The trainer seeds it again.

    Args:
        run: the run.
        trainer: the class of its objective's trainer.

    Raises:
        ConfigError: if the trainer takes no adapters, or PEFT is not installed.
    """
    lora = run.cell.lora
    if lora is None:
        return {}
    taken = inspect.signature(trainer).parameters.values()
    if not any(p.name == "peft_config" or p.kind is p.VAR_KEYWORD for p in taken):
        raise ConfigError(
            f"{run.name}: lora: {trainer.__name__} takes no peft_config, so {run.cell.objective} "
            "trains whole models alone; give its rows lora: none, or let its trainer pass it to TRL"
        )
    require_peft(run)
    from peft import LoraConfig
    from transformers import set_seed

    set_seed(run.cell.seed)
    # PEFT's type of lora_alpha is int, but any number will do.
    options: dict[str, Any] = {"r": lora.r, "lora_alpha": lora.scaling}
    config = LoraConfig(**options, target_modules="all-linear", task_type="CAUSAL_LM")
    return {"peft_config": config}


def save_whole(trainer, run: Run, checkpoints: Path) -> None:
    """Save an ended run's model; make whole models of its adapters, also of those on the way.

    Args:
        trainer: the trainer. Every process calls this.
        run: the run.
        checkpoints: the folder of its checkpoints. The last one stays an adapter, since the run
            goes on from it if it is interrupted here.
    """
    written = run.paths.model.with_name(".model.incomplete")
    if trainer.is_world_process_zero():
        shutil.rmtree(written, ignore_errors=True)  # of a process that was killed
    trainer.accelerator.wait_for_everyone()
    trainer.save_whole_model(written)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        put_in_place(written, run.paths.model)
        last = checkpoints / f"checkpoint-{trainer.state.global_step}"
        earlier = [folder for folder in checkpoints.glob("checkpoint-*") if folder != last]
        for folder in [run.paths.model, *earlier]:
            merge(folder, run.paths.base_model)
    trainer.accelerator.wait_for_everyone()


def merge(folder: Path, base: Path) -> None:
    """Replace a folder that has an adapter by one with the whole model; leave others as they are.

    Args:
        folder: the folder of a saved model. Of its other files only a tokenizer's are kept.
        base: the folder of the model that the adapter was trained on.

    Raises:
        ConfigError: if that model is missing or damaged.
    """
    if not (folder / _ADAPTER).exists():
        return
    import torch
    from peft import PeftModel

    model, tokenizer = load_folder(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    whole = folder.with_name(f".merged-{folder.name}")
    shutil.rmtree(whole, ignore_errors=True)
    merged.save_pretrained(whole)
    tokenizer.save_pretrained(whole)
    # The adapter goes last: if this process is killed before, its files are merged again.
    kept = {path.name for path in whole.iterdir()}
    for path in whole.iterdir():
        os.replace(path, folder / path.name)
    for path in [*folder.iterdir()]:
        if path.name not in kept and not path.name.startswith("adapter_"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / _ADAPTER).unlink()
    for path in folder.glob("adapter_*"):
        path.unlink()
    whole.rmdir()
