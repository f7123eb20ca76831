"""Measure, after a run, quantities that may predict how well its offline data train.

- The likelihood of the data under the initial model: it explains in the paper why some are worse.
- The share of tokens that humanline's bounds did not clip, also of chosen and of rejected
  completions.
- How far training moved the probability of chosen and of rejected completions: how stale they are.
- The distance from the human capacity to the capacity that the data imply for the trained policy:
  it explains in the paper why online data are better.
"""

import numpy as np

from humanline.data.training_files import Predictors
from humanline.files.typed_files import write_record
from humanline.study.runs.resolved import Run
from humanline.tables.run_results import unclipped
from humanline.trainers.rows.preferences import best_versus_worst

PROMPTS = 512  # most prompts of a run that are used
OWN = 2  # completions of the policy per prompt
_GRID = np.linspace(0, 1, 101)


def measure(run: Run) -> None:
    """Measure an offline run's predictors and write its `predictors.json`.

    `Predictors` describes the fields.

    Raises:
        ConfigError: if the run's data or logs are missing or damaged.
    """
    from humanline.generation.engines import load_model, open_engine, sample_text
    from humanline.scoring.likelihood.tokens import token_log_probabilities
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
    moved = _log_ratios(log_probabilities(policy, data), under_initial)
    moved_own = _log_ratios(log_probabilities(policy, own), log_probabilities(initial, own))
    found = {
        "mean_token_log_probability": float(np.mean([s.mean() for s in under_initial])),
        **{
            f"unclipped{side}": unclipped(run.paths.directory, side) if run.cell.humanline else None
            for side in ("", "_chosen", "_rejected")
        },
        **_distances(own=_sums(moved_own), data=_sums(moved)),
        **movement([group["scores"] for group in groups], moved),
    }
    write_record(run.paths.predictors, Predictors, found)


def movement(scores: list[list[float]], log_ratios: list[np.ndarray]) -> dict[str, float | None]:
    """Average the log-ratios of the tokens of each group's best and of its worst completion.

    Args:
        scores: of each group's completions.
        log_ratios: of all completions' tokens, in nats, group by group.

    Returns:
        ``log_ratio_chosen`` and ``log_ratio_rejected``; None if no group's scores differ.
    """
    rest = iter(log_ratios)
    groups = [[next(rest) for _ in group] for group in scores]
    found = [(best_versus_worst(own, 0), group) for own, group in zip(scores, groups, strict=True)]
    tokens = [[group[index] for index in pair] for pair, group in found if pair]
    if not tokens:
        return {"log_ratio_chosen": None, "log_ratio_rejected": None}
    chosen, rejected = (float(np.concatenate(side).mean()) for side in zip(*tokens, strict=True))
    return {"log_ratio_chosen": chosen, "log_ratio_rejected": rejected}


def _log_ratios(policy: list[np.ndarray], initial: list[np.ndarray]) -> list[np.ndarray]:
    return [one - other for one, other in zip(policy, initial, strict=True)]


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
