"""Rewards that label training data: functions of prompts, completions and gold answers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from humanline.files import user_code
from humanline.files.validation import ConfigError, pick
from humanline.study.scale.hub import ARMORM
from humanline.study.scale.rewards import (
    EnglishProxyReward,
    FunctionReward,
    HubReward,
    ProxyReward,
    Reward,
    VerifiableReward,
)
from humanline.study.tasks import find_task, needed

Score = Callable[[list[str], list[str], list[str | None]], list[float]]


def load_reward(config: Reward, task: str | None = None) -> "CheckedReward":
    """Load the scoring function of a configured reward.

    Args:
        config: the reward's options.
        task: name of the task whose grading the reward `grade` uses; others ignore it.

    Returns:
        A function of three lists of equal length: prompts (the user's texts), completions and gold
        answers (None if the task has none). It returns one finite float per row; higher is better.

    Raises:
        ConfigError: if the reward cannot be loaded. The function raises it for a score that is not
            a finite number, and names the prompt.
    """
    score = _grade_reward(task) if config.kind == "grade" else _score_of(config)
    name = next(getattr(config, key) for key in ("repo", "path", "kind") if hasattr(config, key))
    return CheckedReward(score, name, getattr(score, "shares", {}))


def _score_of(config: Reward) -> Score:
    return pick("reward", config.kind, _LOADERS)(config)


@dataclass(frozen=True)
class CheckedReward:
    """A scoring function whose results are checked: one finite number per completion.

    Attributes:
        score: the function.
        name: its name in errors.
        shares: the `shares` of a `GradedReward`; empty for other functions.
    """

    score: Score
    name: str
    shares: Mapping[str, float]

    def __call__(self, prompts: list, completions: list, answers: list) -> list[float]:
        scores = self.score(prompts, completions, answers)
        if len(scores) != len(prompts):
            raise ConfigError(
                f"reward {self.name}: {len(scores)} scores for {len(prompts)} completions, the "
                f"first of prompt {_short(prompts[0])}; return one for each"
            )
        for prompt, value in zip(prompts, scores, strict=True):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value):
                raise ConfigError(
                    f"reward {self.name}: {value!r} for a completion of prompt {_short(prompt)}; "
                    "the score has to be a finite number"
                )
        return scores


def _short(prompt) -> str:
    text = repr(prompt)
    return text if len(text) <= 62 else f"{text[:62]}..."


def _proxy_reward(config: ProxyReward) -> Score:
    from humanline.worlds.letters import proxy_reward

    return lambda prompts, completions, answers: [
        proxy_reward(p, c) for p, c in zip(prompts, completions, strict=True)
    ]


def _english_reward(config: EnglishProxyReward) -> Score:
    from humanline.worlds.english.instructions import proxy_reward

    return lambda prompts, completions, answers: [
        proxy_reward(p, c) for p, c in zip(prompts, completions, strict=True)
    ]


def _math_reward(config: VerifiableReward) -> Score:
    from humanline.scoring.math.grading import OUTCOMES, grade

    return GradedReward(grade, OUTCOMES)


def _grade_reward(task: str | None) -> Score:
    if task is None:
        raise ConfigError("reward: kind grade needs a task's grading; name the task")
    found = find_task(task)
    grade = needed(task, "grade_completion", found.grade_completion)
    return GradedReward(grade, found.outcomes)


class GradedReward:
    """A reward that is 1 for a completion that a task's grading finds correct, else 0.

    Args:
        grade: returns the outcome of (completion, gold answer).
        outcomes: the first is success, the second plain failure, the others special failures.

    Attributes:
        shares: for each special failure, its share (0 to 1) among the last call's completions, by
            the name of a metric such as ``grading/timed_out``.
    """

    def __init__(self, grade: Callable[[str, str], str], outcomes: tuple[str, ...]):
        self._grade = grade
        self._success, self._told = outcomes[0], outcomes[2:]
        self.shares: dict[str, float] = {}

    def __call__(self, prompts: list, completions: list, answers: list) -> list[float]:
        outcomes = [self._grade(c, a) for c, a in zip(completions, answers, strict=True)]
        counts = {name: outcomes.count(name) for name in self._told}
        if late := counts.get("timed_out"):
            print(f"grading: {late} of {len(outcomes)} answers ran into its limit", flush=True)
        total = max(1, len(outcomes))
        self.shares.update({f"grading/{name}": count / total for name, count in counts.items()})
        return [float(outcome == self._success) for outcome in outcomes]


def _function_reward(config: FunctionReward) -> Score:
    """Wrap a user's function, which gets the keywords that it takes.

    The keywords are `prompts`, `completions` and `answers` (or `answer`, the name of TRL's column):
    lists of equal length. A gold answer is None if the task has none.

    Raises:
        ConfigError: if the function cannot be imported or does not take these keywords. The reward
            raises it if the function fails.
    """
    function = user_code.UserFunction("reward", config.path, "prompts, completions, answers")
    names = ("prompts", "completions", "answers", "answer")
    taken = function.names(names)
    function.require(**dict.fromkeys(taken))

    def score(prompts, completions, answers):
        columns = dict(zip(names, (prompts, completions, answers, answers), strict=True))
        return function(**{name: columns[name] for name in taken})

    return score


def armorm(prompts: list, completions: list, **_) -> list[float]:
    """Score with ArmoRM, the paper's reward model; the signature is that of TRL's reward functions.

    Args:
        prompts: N prompts, texts or conversations.
        completions: N completions, texts or conversations; each is scored with its whole prompt.

    Returns:
        N scores; higher is better.

    Raises:
        ConfigError: if the model cannot be loaded, or a conversation exceeds its context.
    """
    return _armorm()(prompts, completions, [None] * len(prompts))


@cache
def _armorm() -> Score:
    repo, revision = ARMORM
    return load_reward(HubReward(kind="hub", repo=repo, revision=revision, trust_remote_code=True))


def _hub_reward(config: HubReward) -> Score:
    """Load a sequence classifier from the hub, such as ArmoRM."""
    import torch

    from humanline.trainers.rows.conversations import encode_whole
    from humanline.trainers.rows.examples import read
    from humanline.trainers.rows.lengths import context_of

    model, tokenizer = _load_classifier(config)
    context = context_of(model.config, tokenizer)

    @torch.no_grad()
    def score(prompts, completions, answers):
        scores = []
        for prompt, completion in zip(prompts, completions, strict=True):
            turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            turns, (answer,) = read(turns, [completion], ("completion",))
            ids = torch.tensor([encode_whole(tokenizer, turns, answer)], device=model.device)
            if context and (length := ids.size(1)) > context:
                raise ConfigError(
                    f"reward {config.repo}: prompt {_short(prompt)} has {length} tokens with its "
                    f"completion, more than its context of {context}; shorten or remove the prompt,"
                    " or ask for fewer new tokens"
                )
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids))
            # ArmoRM returns its own output class with `score`; plain classifiers return logits.
            value = output.score if hasattr(output, "score") else output.logits
            if value.numel() != 1:
                raise ConfigError(
                    f"reward {config.repo}: {value.numel()} numbers for a completion, not one; "
                    "choose a classifier with one label"
                )
            scores.append(value.float().item())
        return scores

    return score


def _load_classifier(config: HubReward):
    """Load a reward model in bfloat16 and its tokenizer, or raise a one-line `ConfigError`."""
    import torch
    from accelerate import PartialState
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from humanline.data.hub import model_folder
    from humanline.files.weights import load_whole

    folder, trust = model_folder(config), config.trust_remote_code
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
        model = load_whole(
            AutoModelForSequenceClassification.from_pretrained,
            folder,
            dtype=torch.bfloat16,
            device_map={"": PartialState().device},  # this process's own device
            use_safetensors=True,
            trust_remote_code=trust,
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"reward model {config.repo}: cannot be loaded ({reason}); choose a sequence "
            "classifier, or set trust_remote_code where its code knows the weights"
        ) from None
    return model.eval(), tokenizer


# By kind of reward, the function that loads it from its options.
_LOADERS: dict[str, Callable[[Any], Score]] = {
    "proxy": _proxy_reward,
    "english_proxy": _english_reward,
    "math_verify": _math_reward,
    "hub": _hub_reward,
    "function": _function_reward,
}
