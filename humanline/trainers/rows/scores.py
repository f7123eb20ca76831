"""Checking scores and rewards: each completion needs a finite number."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from numbers import Real

import numpy as np
from torch import Tensor
from torch.nn import Module

from humanline.files.validation import ConfigError, first_line
from humanline.trainers.rows.formats import LARGEST_SCORE

_TOLERANCE = 0.05  # by how much rounding may change an advantage
_NUMBER = "finite number of at most 1e15"
_LOST = (
    "are too large for their differences to count in single precision; subtract their mean, or "
    "scale them"
)


def is_number(value) -> bool:
    """Say whether single precision can hold a value and its square."""
    return isinstance(value, Real) and abs(float(value)) <= LARGEST_SCORE


def finite_numbers(values, prompts: Sequence, source: str, may_lack: bool = False) -> list:
    """Check the values that a scoring function returned: a finite number for each prompt.

    Args:
        values: a list, an array or a tensor.
        prompts: the prompt of each completion.
        source: the function's name in errors.
        may_lack: allow None, "not applicable", as TRL does with several reward functions.

    Returns:
        The values as a list.

    Raises:
        ConfigError: if the number of values is not that of prompts, or one is no finite number.
    """
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, list | tuple) or len(values) != len(prompts):
        count = len(values) if isinstance(values, list | tuple) else shortened(values)
        raise ConfigError(
            f"{source} returned {count} for {len(prompts)} completions; return a list with a "
            "number for each"
        )
    values = [value.item() if hasattr(value, "item") else value for value in values]
    for prompt, value in zip(prompts, values, strict=True):
        if not is_number(value) and not (may_lack and value is None):
            raise ConfigError(
                f"{source} returned {shortened(value)} for a completion of the prompt "
                f"{shortened(prompt)}; return a {_NUMBER}"
            )
    return list(values)


def checked_reward(function: Callable, name: str) -> Callable:
    """Wrap a reward function of TRL's so that its values are checked.

    Args:
        function: a reward function, or a coroutine.
        name: its name in errors.

    Returns:
        A function that raises a ConfigError if a value is neither a finite number nor None, or if
        the function itself raises an error.
    """
    source = f"reward function {name}"

    def check(values, prompts) -> list:
        values = finite_numbers(values, prompts, source, may_lack=True)
        _refuse_lost_differences(values, prompts, source)
        return values

    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object's method may be a coroutine
    ):

        async def score_later(prompts, **columns):
            with _told(source):
                values = await function(prompts=prompts, **columns)
            return check(values, prompts)

        return score_later

    def score(prompts, **columns):
        with _told(source):
            values = function(prompts=prompts, **columns)
        return check(values, prompts)

    return score


@contextmanager
def _told(source: str) -> Iterator[None]:
    """Turn whatever a user's function raises into one line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"{source} raised {reason}; mend it, or leave out such rows") from error


@contextmanager
def checked_rewards(trainer) -> Iterator[None]:
    """Wrap a GRPO trainer's reward functions in `checked_reward`; models stay as they are."""
    functions = trainer.reward_funcs
    named = zip(functions, trainer.reward_func_names, strict=True)
    trainer.reward_funcs = [
        function if isinstance(function, Module) else checked_reward(function, name)
        for function, name in named
    ]
    try:
        yield
    finally:
        trainer.reward_funcs = functions


def check_rewards(rewards: Tensor, trainer, prompts: Sequence, may_lack: bool = False) -> None:
    """Refuse a completion without any number, and a reward model's nan or infinity.

    Args:
        rewards: (N, F), rewards of all processes' completions by each function or model. For a
            function nan means "not applicable"; a model must give a number.
        trainer: the GRPO trainer.
        prompts: the prompts of this process's completions.
        may_lack: leave completions without any number to TRL, which warns and gives them 0.

    Raises:
        ConfigError: naming the prompt if it is this process's.
    """
    names, process = trainer.reward_func_names, trainer.accelerator.process_index
    are_models = [isinstance(function, Module) for function in trainer.reward_funcs]
    finite = rewards.isfinite().cpu()
    for index, (name, is_model) in enumerate(zip(names, are_models, strict=True)):
        lacks = ~finite[:, index] if is_model else rewards[:, index].isinf().cpu()
        if lacks.any():
            row = int(lacks.nonzero()[0])
            where = _prompt_of(row, prompts, process)
            raise ConfigError(
                f"reward model {name} gave {rewards[row, index].item()} for a completion of {where}"
                "; look for broken weights or an empty text"
            )
    if not may_lack and (unscored := ~finite.any(1)).any():
        where = _prompt_of(int(unscored.nonzero()[0]), prompts, process)
        raise ConfigError(
            f"{', '.join(names)} gave no number for a completion of {where}; return a number from "
            "at least one reward function"
        )


def _prompt_of(row: int, prompts, process: int) -> str:
    own = row - process * len(prompts)
    is_own = 0 <= own < len(prompts)
    return f"the prompt {shortened(prompts[own])}" if is_own else "another process's prompt"


def check_group(scores, count: int) -> None:
    """Refuse the scores of a stored group if they give no advantages.

    Args:
        scores: a list of scores.
        count: the number of completions.

    Raises:
        ValueError: if the scores are not `count` finite numbers, or if they are so large that
            single precision, in which TRL keeps rewards, loses their differences.
    """
    if not isinstance(scores, list) or len(scores) != count:
        given = len(scores) if isinstance(scores, list) else shortened(scores)
        raise ValueError(f"it has {count} completions and {given} scores; give one for each")
    for index, score in enumerate(scores):
        if isinstance(score, bool) or not is_number(score):
            raise ValueError(f"score {index} is {shortened(score)}; give a {_NUMBER}")
    if _loses_differences(scores):
        raise ValueError(f"the scores {shortened(scores)} {_LOST}")


def shortened(value) -> str:
    """Write a value in 60 characters or fewer, for an error."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _refuse_lost_differences(values: list, prompts: Sequence, source: str) -> None:
    """Refuse too large values, as `check_group` does, for the completions of each prompt."""
    keys = [repr(prompt) for prompt in prompts]
    for _, places in groupby(range(len(keys)), keys.__getitem__):
        own = [values[place] for place in places if values[place] is not None]
        if len(own) > 1 and _loses_differences(own):
            raise ConfigError(f"{source} returned {shortened(own)}, which {_LOST}")


def _loses_differences(scores: list) -> bool:
    """Say whether rounding to single precision, in which TRL keeps scores, changes advantages."""
    # Rounding changes a score by at most 6e-8 of it, and an advantage by at most twice the largest
    # of these changes, times 1 + the root of the count, over the least divisor, 1e-4.
    if max(map(abs, scores)) * (1 + len(scores) ** 0.5) * 1.2e-7 < 1e-4 * _TOLERANCE:
        return False
    exact = np.array(scores, np.float64)
    off = _advantages(exact) - _advantages(exact.astype(np.float32).astype(np.float64))
    return bool((np.abs(off) > _TOLERANCE).any())


def _advantages(scores: np.ndarray) -> np.ndarray:
    """Compute advantages as TRL does."""
    deviation = scores.std(ddof=1) if len(scores) > 1 else 0
    return (scores - scores.mean()) / (deviation + 1e-4)
