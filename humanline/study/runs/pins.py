"""Refusing jobs, before any work, for what they need: pinned repositories, and PEFT for LoRA."""

from importlib.util import find_spec

from humanline.files.validation import ConfigError
from humanline.study.runs.resolved import Run
from humanline.study.scale.hub import hub_sources
from humanline.study.scale.scale import Scale


def require_pinned(scale: Scale, stage: str, task: str, run: Run | None = None) -> None:
    """Refuse a job that reads a repository on the hub without a commit hash, or lacks PEFT.

    Args:
        scale: the scale.
        stage: the name of the job's rule, which is also that of its command.
        task: the task's name.
        run: the job's run or base model; None for `data`.

    Raises:
        ConfigError: at the first such field, with the command that looks up the hash, or installs.
    """
    if stage == "train" and run:
        require_peft(run)
    read = [f"tasks.{task}.{part}" for part in _parts_read(stage, run)]
    for field, source in hub_sources(scale).items():
        # A fine-tuned model has the repository that it starts from in a field of its own.
        if field.removesuffix(".start") in read and not source.is_pinned:
            raise ConfigError(f"scale {scale.scale}: {field}.{source.how_to_pin}")


def require_peft(run: Run) -> None:
    """Refuse a run with LoRA where PEFT is not installed.

    Raises:
        ConfigError: with the command that installs it.
    """
    if run.cell.lora and find_spec("peft") is None:
        raise ConfigError(
            f"{run.name}: lora: needs the package peft, which is not installed; pip install "
            "'humanline[peft]'"
        )


def _parts_read(stage: str, run: Run | None) -> list[str]:
    """List the parts of a task's configuration that a job may read from the hub."""
    if stage == "data" or run is None:
        return ["data.train", "data.evaluation"]
    name = run.cell.base_model
    match stage:
        case "base_model":
            return [f"base_models.{name}" if name else "base_model"]
        case "offline" if run.is_stored:
            return ["data.train", f"data.stored.{name}"]
        case "offline":
            return ["reward"]
        case "train" if run.cell.data == "online":
            return ["reward"]
        case _ if stage.startswith("score"):  # each task has its own rule
            return ["judge.model"]
    return []
