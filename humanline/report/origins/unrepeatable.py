"""What of some results the same seed does not give again, and why."""

from collections.abc import Iterable, Sequence

from humanline.report.origins.mixed import record_of
from humanline.study.runs.resolved import Run
from humanline.study.scale.judges import FunctionJudge, OpenAIJudge
from humanline.study.scale.rewards import FunctionReward


def not_deterministic(runs: Sequence[Run]) -> list[str]:
    """List the reasons why the same commit, seeds and machine may give other results.

    On CPUs, with transformers and a judge of this package, there is none: the bytes are the same.

    Args:
        runs: resolved runs; those that are still to be made tell nothing of their machine.

    Raises:
        ConfigError: if a run's record is damaged.
    """
    return list(dict.fromkeys(reason for run in runs for reason in _of_run(run)))


def _of_run(run: Run) -> Iterable[str]:
    if run.is_trained and run.paths.record.exists():
        machine = record_of(run).provenance.machine
        if gpu := machine.get("accelerator"):
            yield f"GPU kernels ({gpu}) add numbers in another order each time"
    if run.generation.engine == "vllm":
        yield "vLLM samples in batches that differ from time to time"
    match run.judge:
        case OpenAIJudge(model=model, base_url=url):
            yield f"a remote judge ({model} at {url}) may answer otherwise, and may change"
        case FunctionJudge(path=path):
            yield f"the judge is a function outside this package ({path})"
    if isinstance(run.reward, FunctionReward):
        yield f"the reward is a function outside this package ({run.reward.path})"
