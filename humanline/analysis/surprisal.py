"""Measure the surprisals of a policy's own outputs and of other sources' outputs.

The surprisal of an output is z = log pi_theta(y|x) - log pi_ref(y|x), in nats: how much more likely
it is under the policy than under the reference, the policy's initial model (arXiv 2509.24207).
"""

from pathlib import Path

from humanline.data.stage_files import Surprisal, prompts_of
from humanline.files.typed_files import read_rows, write_columns
from humanline.study.runs.resolved import Run


def make(runs: dict[str, Run], seed: int, path: Path) -> None:
    """Write the surprisals of new outputs of the figure's policy and of every other source.

    The columns are source, prompt_id and surprisal (nats). The policy occurs twice with different
    samples, as 'policy' and as 'on-policy': their difference shows the sampling error.

    Args:
        runs: the sources by label; 'policy' is the figure's policy.
        seed: the run's seed; the sampling seeds depend on it.
        path: the CSV to write.

    Raises:
        ConfigError: if a model or the prompts are missing or damaged.
    """
    import pandas as pd

    from humanline.generation.engines import load_model

    policy = runs["policy"]
    prompts = read_rows(policy.paths.evaluation_prompts, prompts_of(policy.cell.task))
    texts = [row["prompt"] for row in prompts]
    sources = {"policy": policy, "on-policy": policy} | runs
    outputs = {
        name: _outputs(run, texts, 1000 * seed + number)
        for number, (name, run) in enumerate(sources.items())
    }
    models = [
        load_model(folder, policy.generation.dtype, policy.shards)
        for folder in (policy.paths.model, policy.paths.base_model)
    ]
    frames = [
        pd.DataFrame(
            {
                "source": name,
                "prompt_id": range(len(texts)),
                "surprisal": _surprisals(models, list(zip(texts, own, strict=True))),
            }
        )
        for name, own in outputs.items()
    ]
    write_columns(path, Surprisal, pd.concat(frames, ignore_index=True))


def _outputs(run: Run, prompts: list[str], seed: int) -> list[str]:
    from humanline.generation.engines import open_engine, sample_text

    with open_engine(run.paths.model, run.generation, run.shards) as engine:
        groups = sample_text(engine, prompts, n=1, sampling=run.training.sampling, seed=seed)
    return [text for (text,) in groups]


def _surprisals(models: list[tuple], pairs: list[tuple[str, str]]) -> list[float]:
    from humanline.scoring.likelihood.tokens import token_log_probabilities

    policy, reference = (
        token_log_probabilities(model, tokenizer, pairs) for model, tokenizer in models
    )
    return [float(p.sum() - r.sum()) for p, r in zip(policy, reference, strict=True)]
