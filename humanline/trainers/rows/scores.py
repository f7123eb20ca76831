"""Scores and rewards: a finite number for each completion, or an error that names it."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from numbers import Real

import numpy as np
from torch import Tensor
from torch.nn import Module

from humanline.files.validation import ConfigError
from humanline.trainers.rows.formats import LARGEST_SCORE

_TOLERANCE = 0.05  # of an advantage
_NUMBER = "finite number of at most 1e15"
_LOST = (
    "are too large for their differences to count in single precision; subtract their mean, or "
    "scale them"
)


def is_number(value) -> bool:
    """Whether a value is a number that single precision can hold, and its square."""
    return isinstance(value, Real) and abs(float(value)) <= LARGEST_SCORE


def numbers(values, prompts: Sequence, source: str, may_lack: bool = False) -> list:
    """What a scoring function has returned, as a list with a finite number for each prompt.

    Args:
        values: a list, an array or a tensor.
        source: what to call the function in an error.
        may_lack: allow None for "not applicable", as TRL does with several reward functions.

    Raises:
        ConfigError: if there are more or fewer values than prompts, or one is no finite number.
    """
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, list | tuple) or len(values) != len(prompts):
        count = len(values) if isinstance(values, list | tuple) else short(values)
        raise ConfigError(
            f"{source} returned {count} for {len(prompts)} completions; return a list with a "
            "number for each"
        )
    values = [value.item() if hasattr(value, "item") else value for value in values]
    for prompt, value in zip(prompts, values, strict=True):
        if not is_number(value) and not (may_lack and value is None):
            raise ConfigError(
                f"{source} returned {short(value)} for a completion of the prompt "
                f"{short(prompt)}; return a {_NUMBER}"
            )
    return list(values)


def checked(function: Callable, name: str) -> Callable:
    """A reward function of TRL's whose values are `numbers`, or None where it does not apply."""
    source = f"reward function {name}"

    def check(values, prompts) -> list:
        values = numbers(values, prompts, source, may_lack=True)
        _refuse_lost_differences(values, prompts, source)
        return values

    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an object, it may be a coroutine
    ):

        async def score_later(prompts, **columns):
            return check(await function(prompts=prompts, **columns), prompts)

        return score_later

    def score(prompts, **columns):
        return check(function(prompts=prompts, **columns), prompts)

    return score


@contextmanager
def checking(trainer) -> Iterator[None]:
    """Have a GRPO trainer's reward functions checked as they are called; models are none."""
    functions = trainer.reward_funcs
    named = zip(functions, trainer.reward_func_names, strict=True)
    trainer.reward_funcs = [
        function if isinstance(function, Module) else checked(function, name)
        for function, name in named
    ]
    try:
        yield
    finally:
        trainer.reward_funcs = functions


def check_rewards(rewards: Tensor, trainer, prompts: Sequence) -> None:
    """Refuse completions that no reward function has given a number, and reward models' nan.

    Args:
        rewards: (N, F), of the completions of all processes and each function; nan: none given.
        trainer: whose reward functions they are of. Its models have a number for everything.
        prompts: of this process's completions.

    Raises:
        ConfigError: naming the prompt, where it is this process's.
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
    if (unscored := ~finite.any(1)).any():
        where = _prompt_of(int(unscored.nonzero()[0]), prompts, process)
        raise ConfigError(
            f"{', '.join(names)} gave no number for a completion of {where}; return a number from "
            "at least one reward function"
        )


def _prompt_of(row: int, prompts, process: int) -> str:
    own = row - process * len(prompts)
    is_own = 0 <= own < len(prompts)
    return f"the prompt {short(prompts[own])}" if is_own else "another process's prompt"


def check_group(scores, count: int) -> None:
    """Refuse scores of a stored group that its advantages cannot be computed from.

    Raises:
        ValueError: if they are not as many finite numbers, or so close for their size that single
            precision, in which TRL keeps rewards, loses their differences.
    """
    if not isinstance(scores, list) or len(scores) != count:
        given = len(scores) if isinstance(scores, list) else short(scores)
        raise ValueError(f"it has {count} completions and {given} scores; give one for each")
    for index, score in enumerate(scores):
        if isinstance(score, bool) or not is_number(score):
            raise ValueError(f"score {index} is {short(score)}; give a {_NUMBER}")
    if _loses_differences(scores):
        raise ValueError(f"the scores {short(scores)} {_LOST}")


def short(value) -> str:
    """A value as it may stand in a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _refuse_lost_differences(values: list, prompts: Sequence, source: str) -> None:
    """As `check_group` does it, for what a function has given the completions of each prompt."""
    keys = [repr(prompt) for prompt in prompts]
    for _, places in groupby(range(len(keys)), keys.__getitem__):
        own = [values[place] for place in places if values[place] is not None]
        if len(own) > 1 and _loses_differences(own):
            raise ConfigError(f"{source} returned {short(own)}, which {_LOST}")


def _loses_differences(scores: list) -> bool:
    """Whether scores rounded to single precision, as TRL keeps them, have other advantages."""
    exact = np.array(scores, np.float64)
    off = _advantages(exact) - _advantages(exact.astype(np.float32).astype(np.float64))
    return bool((np.abs(off) > _TOLERANCE).any())


def _advantages(scores: np.ndarray) -> np.ndarray:
    """TRL's."""
    deviation = scores.std(ddof=1) if len(scores) > 1 else 0
    return (scores - scores.mean()) / (deviation + 1e-4)
