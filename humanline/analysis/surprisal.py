"""What a policy thinks of its own outputs and of others', in surprisals.

The surprisal of an output is z = log pi_theta(y|x) - log pi_ref(y|x), in nats: how much more likely
the policy finds it than its reference, the model that it was trained from (arXiv 2509.24207).
"""

from humanline.data.stage_files import Surprisal, prompts_of
from humanline.files.records import read_rows, write_columns
from humanline.study.experiments import Cell
from humanline.study.study import Study


def make(study: Study, seed: int) -> None:
    """Write the surprisals of fresh outputs of the figure's policy and of every source.

    Columns: source, prompt_id, surprisal. The policy is there twice, as 'policy' and, with other
    draws, as 'on-policy', so that what sampling error looks like can be seen.
    """
    import pandas as pd

    from humanline.generation.engines import load_model

    cells = study.experiments.perceived(seed)
    policy = cells["policy"]
    data = study.data(policy.task, study.split(seed))
    prompts = read_rows(data, prompts_of(policy.task))
    texts = [row["prompt"] for row in prompts]
    sources = {"policy": policy, "on-policy": policy} | cells
    outputs = {
        name: _outputs(study, cell, texts, 1000 * seed + number)
        for number, (name, cell) in enumerate(sources.items())
    }
    options = study.scale.generation.dtype, study.shards(policy)
    models = [
        load_model(study.directory(cell) / "model", *options) for cell in (policy, policy.base)
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
    write_columns(study.surprisals(seed), Surprisal, pd.concat(frames, ignore_index=True))


def _outputs(study: Study, cell: Cell, prompts: list[str], seed: int) -> list[str]:
    from humanline.generation.engines import open_engine, sample_text

    sampling = study.scale.tasks[cell.task].training.sampling
    options = study.scale.generation, study.shards(cell)
    with open_engine(study.directory(cell) / "model", *options) as engine:
        groups = sample_text(engine, prompts, n=1, sampling=sampling, seed=seed)
    return [text for (text,) in groups]


def _surprisals(models, pairs: list[tuple[str, str]]) -> list[float]:
    from humanline.generation.likelihood import token_log_probabilities

    policy, reference = (
        token_log_probabilities(model, tokenizer, pairs) for model, tokenizer in models
    )
    return [float(p.sum() - r.sum()) for p, r in zip(policy, reference, strict=True)]
