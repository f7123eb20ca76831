"""Measure, after a run, quantities that may predict how well its offline data train.

- The likelihood of the data under the initial model: it explains in the paper why some are worse.
- The share of tokens that humanline's bounds did not clip.
- The distance from the human capacity to the capacity that the data imply for the trained policy:
  it explains in the paper why online data are better.
"""

import numpy as np

from humanline.data.training_files import Predictors
from humanline.files.typed_files import write_record
from humanline.study.runs.resolved import Run
from humanline.tables.run_results import unclipped

PROMPTS = 512  # most prompts of a run that are used
OWN = 2  # completions of the policy per prompt
_GRID = np.linspace(0, 1, 101)


def measure(run: Run) -> None:
    """Measure an offline run's predictors and write its `predictors.json`.

    The fields are ``mean_token_log_probability`` (nats) of the run's offline data under its initial
    model; ``unclipped``, the share of tokens within the bounds (0 to 1, mean over training, null
    without bounds); and ``distance_gains`` and ``distance_losses``, the `capacity_distance` between
    the human curve and the curve that the data imply for the trained policy (null if there are no
    gains, or no losses).

    Raises:
        ConfigError: if the run's data or logs are missing or damaged.
    """
    from humanline.generation.engines import load_model, open_engine, sample_text
    from humanline.generation.likelihood import token_log_probabilities
    from humanline.training.data import training_rows

    groups = training_rows(run)[:PROMPTS]
    prompts = [group["prompt"] for group in groups]
    sampling = run.training.sampling
    with open_engine(run.paths.model, run.generation, run.shards) as engine:
        own = sample_text(engine, prompts, n=OWN, sampling=sampling, seed=run.cell.seed)
    policy, initial = (
        load_model(folder, run.generation.dtype, run.shards)
        for folder in (run.paths.model, run.paths.base_model)
    )

    def log_probabilities(loaded: tuple, completions: list[list[str]]) -> list[np.ndarray]:
        model, tokenizer = loaded
        pairs = [
            (prompt, text)
            for prompt, group in zip(prompts, completions, strict=True)
            for text in group
        ]
        return token_log_probabilities(model, tokenizer, pairs)

    data = [group["completions"] for group in groups]
    under_initial = log_probabilities(initial, data)
    surprisals = {
        name: _sums(log_probabilities(policy, texts)) - _sums(log_probabilities(initial, texts))
        for name, texts in (("own", own), ("data", data))
    }
    found = {
        "mean_token_log_probability": float(np.mean([s.mean() for s in under_initial])),
        "unclipped": unclipped(run.paths.directory) if run.cell.humanline else None,
        **_distances(**surprisals),
    }
    write_record(run.paths.predictors, Predictors, found)


def _sums(scores: list[np.ndarray]) -> np.ndarray:
    return np.array([tokens.sum() for tokens in scores])


def _distances(own: np.ndarray, data: np.ndarray) -> dict[str, float | None]:
    from humanline.method.prospect_theory import (
        GAMMA_GAINS,
        GAMMA_LOSSES,
        capacity_distance,
        implied_capacity,
    )

    distances = {}
    for part, gamma in (("gains", GAMMA_GAINS), ("losses", GAMMA_LOSSES)):
        distance = capacity_distance(implied_capacity(own, data, _GRID, part=part), _GRID, gamma)
        distances[f"distance_{part}"] = None if np.isnan(distance) else distance
    return distances
