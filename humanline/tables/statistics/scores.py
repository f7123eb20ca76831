"""Scores by seed, and contrasts of two cells: what the intervals and tests are about.

A seed repeats an experiment: its world, its base model, its data and its training. If it has
evaluation prompts of its own, too, seeds are independent in everything. If all seeds share their
prompts, the prompts are a second thing that could have been others: then a score also has the
values that it takes with one group of prompts left out (delete-a-group jackknife, Kott 2001).

Arrays may have leading dimensions: simulated studies, which all have the same seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GROUPS = 64  # of shared prompts


@dataclass(frozen=True)
class Scores:
    """A statistic of a cell's runs.

    Attributes:
        seeds: the S seeds, in rising order.
        values: the statistic of each seed's run, (S,); a score is in per cent.
        left_out: the same with one of G groups of prompts left out, (S, G); column g leaves out the
            same prompts in all runs. None if each seed has its own prompts.
        floor: the least value that a logarithm is taken of; for a score half a prompt, in per cent.
    """

    seeds: tuple[int, ...]
    values: np.ndarray
    left_out: np.ndarray | None = None
    floor: float = 0.0

    def on(self, seeds: Sequence[int]) -> "Scores":
        """Keep some of the seeds."""
        kept = [self.seeds.index(seed) for seed in seeds]
        left_out = None if self.left_out is None else self.left_out[..., kept, :]
        return Scores(tuple(seeds), self.values[..., kept], left_out, self.floor)

    @property
    def floored(self) -> int:
        """The number of seeds whose value is below the floor: their logarithm is the floor's."""
        return int((self.values < self.floor).sum())

    @property
    def itself(self) -> "Contrast":
        """The statistic as a contrast with nothing."""
        return Contrast(self.seeds, self.values, pseudo_values(self.values, self.left_out))


@dataclass(frozen=True)
class Contrast:
    """A number per seed, whose mean is estimated and tested.

    Attributes:
        seeds: the S seeds.
        values: the number of each seed, (S,).
        pseudo: its pseudo-values by seed and group of prompts, (S, G); None if each seed has its
            own prompts.
    """

    seeds: tuple[int, ...]
    values: np.ndarray
    pseudo: np.ndarray | None = None

    def on(self, seeds: Sequence[int]) -> "Contrast":
        """Keep some of the seeds."""
        kept = [self.seeds.index(seed) for seed in seeds]
        pseudo = None if self.pseudo is None else self.pseudo[..., kept, :]
        return Contrast(tuple(seeds), self.values[..., kept], pseudo)


def pseudo_values(values: np.ndarray, left_out: np.ndarray | None) -> np.ndarray | None:
    """Return the jackknife's pseudo-values, (S, G): G * value - (G - 1) * value without a group."""
    if left_out is None:
        return None
    groups = left_out.shape[-1]
    return groups * values[..., None] - (groups - 1) * left_out


def difference(first: Scores, second: Scores) -> Contrast:
    """Return first - second on the seeds that both have.

    Raises:
        ValueError: if one of them has shared prompts and the other has not, or other groups.
    """
    first, second = _paired(first, second)
    left_out = None
    if first.left_out is not None and second.left_out is not None:
        left_out = first.left_out - second.left_out
    values = first.values - second.values
    return Contrast(first.seeds, values, pseudo_values(values, left_out))


def log_ratio(first: Scores, second: Scores) -> Contrast:
    """Return log(first / second) on the seeds that both have; values below the floor are raised.

    Raises:
        ValueError: if one of them has shared prompts and the other has not, or other groups.
    """
    return difference(_logarithm(first), _logarithm(second))


def mean_of(contrasts: Sequence[Contrast]) -> Contrast:
    """Average contrasts seed by seed, on the seeds that all have.

    Raises:
        ValueError: if some have shared prompts and others have not, or other groups of prompts.
    """
    seeds = tuple(sorted(set.intersection(*(set(each.seeds) for each in contrasts))))
    contrasts = [each.on(seeds) for each in contrasts]
    values = np.mean([each.values for each in contrasts], axis=0)
    _require_alike([each.pseudo for each in contrasts], len(seeds))
    pseudo = [each.pseudo for each in contrasts if each.pseudo is not None]
    has_all = len(pseudo) == len(contrasts)
    return Contrast(seeds, values, np.mean(pseudo, axis=0) if has_all else None)


def _logarithm(scores: Scores) -> Scores:
    with np.errstate(divide="ignore", invalid="ignore"):  # without a floor, 0 has none
        values = np.log(np.maximum(scores.values, scores.floor))
        left_out = scores.left_out
        if left_out is not None:
            left_out = np.log(np.maximum(left_out, scores.floor))
    return Scores(scores.seeds, values, left_out)


def _paired(first: Scores, second: Scores) -> tuple[Scores, Scores]:
    seeds = sorted(set(first.seeds) & set(second.seeds))
    first, second = first.on(seeds), second.on(seeds)
    _require_alike([first.left_out, second.left_out], len(seeds))
    return first, second


def _require_alike(by_group: Sequence[np.ndarray | None], n_seeds: int) -> None:
    """Raise unless all have the same number of groups of shared prompts, or none has any."""
    groups = {None if each is None else each.shape[-1] for each in by_group}
    if len(groups) > 1 and n_seeds > 1:
        raise ValueError("scores on shared prompts and on own prompts cannot be compared")
