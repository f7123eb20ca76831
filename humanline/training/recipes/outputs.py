"""The folder that a recipe writes: made before training, and never written over unasked."""

import json
import os
import shutil
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from humanline.files.validation import ConfigError, first_line
from humanline.training.recipes.options import Recipe

# Files and folders of an earlier training.
_EARLIER = ("checkpoint-*", "*.safetensors", "pytorch_model*", "adapter_config.json")


def make_output(recipe: Recipe) -> None:
    """Make the output folder before the trainer is built.

    Raises:
        ConfigError: if the folder cannot be made, is not writable, is the model's own, or holds an
            earlier training that the recipe neither resumes nor may overwrite.
    """
    name = recipe.training.output_dir
    if not name.strip():
        raise recipe.fault("output_dir", "empty; name a folder")
    folder = Path(name)
    try:
        existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        if not existing.is_dir():
            raise recipe.fault("output_dir", f"{existing} is a file; name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(folder, os.W_OK)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or first_line(error)
        raise recipe.fault(
            "output_dir", f"{name[:200]!r} cannot be made ({reason}); name another folder"
        ) from None
    if not is_writable:
        raise recipe.fault("output_dir", f"{folder} is not writable; name another folder")
    _require_free(recipe, folder)


def _require_free(recipe: Recipe, folder: Path) -> None:
    """Refuse a folder with an earlier training, unless the recipe resumes or overwrites it."""
    model = Path(recipe.model_name)
    if model.is_dir() and model.samefile(folder):
        reason = f"{folder} is the folder of model_name_or_path; name another"
        raise recipe.fault("output_dir", reason)
    earlier = _earlier(recipe, folder)
    if earlier and not recipe.output.overwrite_output_dir:
        reason = f"{folder} holds an earlier training ({earlier[0].name}); name another folder, or"
        resume = "set resume_from_checkpoint: true to go on, or "
        remedy = resume if get_last_checkpoint(folder) else "set "
        remedy += "overwrite_output_dir: true to lose it"
        raise recipe.fault("output_dir", f"{reason} {remedy}")


def delete_earlier(recipe: Recipe) -> None:
    """Delete the checkpoints of an earlier training, just before training begins.

    A run that is resumed would take the last of them for its own. Training may replace them only
    once all else is known to be right: the trainer is built.
    """
    if os.environ.get("RANK", "0") == "0":
        for path in _earlier(recipe, Path(recipe.training.output_dir)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)


def _earlier(recipe: Recipe, folder: Path) -> list[Path]:
    """Find what an earlier training has left in the folder; nothing, if it is resumed."""
    checkpoint = recipe.training.resume_from_checkpoint
    if checkpoint and Path(checkpoint).resolve().parent == folder.resolve():
        return []
    return sorted(path for pattern in _EARLIER for path in folder.glob(pattern))


def checkpoint_of(recipe: Recipe) -> str | None:
    """Find the checkpoint to resume from; `true` means the last one in the output folder.

    Raises:
        ConfigError: if it is no checkpoint, or nothing is left to train.
    """
    asked, output = recipe.training.resume_from_checkpoint, recipe.training.output_dir
    if asked is None or str(asked).lower() in ("false", "none", "no", ""):
        return None
    if str(asked).lower() in ("true", "yes"):
        asked = get_last_checkpoint(output) if Path(output).is_dir() else None
        if asked is None:
            reason = f"true, but {output} has no checkpoint; remove this key to begin anew"
            raise recipe.fault("resume_from_checkpoint", reason)
    try:
        reached = reached_step(asked)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{asked!r} is no checkpoint (trainer_state.json: {first_line(error)})"
        raise recipe.fault(
            "resume_from_checkpoint", f"{reason}; use true, or a folder checkpoint-N"
        ) from None
    if 0 < recipe.training.max_steps <= reached:
        reason = f"{asked} is at step {reached} of {recipe.training.max_steps}"
        raise recipe.fault("max_steps", f"{reason}, and nothing is left to train; raise it")
    return str(asked)


def reached_step(checkpoint: str | None) -> int:
    """Read the optimizer step of a checkpoint; 0 without a checkpoint.

    Raises:
        OSError, ValueError, KeyError, TypeError: if its trainer_state.json cannot be read.
    """
    if checkpoint is None:
        return 0
    state = Path(checkpoint, "trainer_state.json").read_text(encoding="utf-8")
    return int(json.loads(state)["global_step"])
