"""What of the hub a job reads: refused before any work unless it is pinned to a commit."""

from humanline.files.validation import ConfigError
from humanline.study.runs.resolved import Run
from humanline.study.scale.hub import hub_sources
from humanline.study.scale.scale import Scale


def require_pinned(scale: Scale, stage: str, task: str, run: Run | None = None) -> None:
    """Refuse a job that reads a repository on the hub without its commit hash.

    Args:
        stage: the job's rule, which has the name of its command.
        run: the run or base model that the job is about; None for `data`.

    Raises:
        ConfigError: naming the first such field, and how to look its hash up.
    """
    read = {f"tasks.{task}.{part}" for part in _parts_read(stage, run)}
    for field, source in hub_sources(scale).items():
        if field in read and not source.is_pinned:
            raise ConfigError(f"scale {scale.scale}: {field}.{source.how_to_pin}")


def _parts_read(stage: str, run: Run | None) -> list[str]:
    """The parts of a task's configuration whose repositories a job reads, if they have any."""
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
    return []
