"""The judge of the English world: it knows the wishes' gold grade and how natural a text is.

A text is natural if a model that was never trained on the task finds it likely after the request
without its wishes, and if it does not repeat itself: repetition is likely, and nobody likes it.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from humanline.data.packages import folder_of
from humanline.files.validation import ConfigError
from humanline.files.weights import load_folder
from humanline.scoring.judge import BatchJudge, sigmoid_judge
from humanline.study.scale.judges import EnglishJudge
from humanline.worlds.english.instructions import asked_of, gold_grade
from humanline.worlds.english.wishes import words_of

# The mean log-probability of a token, in nats, from which a text is fully natural, and the nats
# below it that divide its naturalness by e.
LIKELY, FALL = -2.5, 1.5

Score = Callable[[Sequence[tuple[str, str]]], list[float]]


def english_judge(config: EnglishJudge, score: Score | None = None) -> BatchJudge:
    """Build the judge; its model is loaded once.

    Args:
        config: the judge's options.
        score: scores pairs of prompt and text; None: `gold_scores` of the configured model.
    """
    score = score or gold_scores(config)

    def compare(prompts: list[str], first: list[str], second: list[str]) -> list[float]:
        pairs = sorted({*zip(prompts, first, strict=True), *zip(prompts, second, strict=True)})
        known = dict(zip(pairs, score(pairs), strict=True))
        options = {"temperature": config.temperature, "length_bias": config.length_bias}
        judge = sigmoid_judge(lambda prompt, text: known[prompt, text], **options)
        return [judge(*texts) for texts in zip(prompts, first, second, strict=True)]

    return compare


def gold_scores(config: EnglishJudge) -> Score:
    """Load the judge's model, and return the function that scores texts, in [0, 1].

    Raises:
        ConfigError: if the model cannot be fetched or loaded; and from the function if it gives
            log-probabilities that are not finite.
    """
    import torch

    from humanline.scoring.likelihood.tokens import token_log_probabilities

    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = folder_of(config.model)
    model, tokenizer = load_folder(folder, dtype=torch.float32, device_map={"": device})

    def score(pairs: Sequence[tuple[str, str]]) -> list[float]:
        asked = [(asked_of(prompt), text) for prompt, text in pairs]
        found = token_log_probabilities(model, tokenizer, asked)
        if not all(np.isfinite(tokens).all() for tokens in found):
            raise ConfigError(f"{folder}: its log-probabilities are not finite; take another model")
        weight = config.naturalness
        return [
            (1 - weight) * gold_grade(prompt, text) + weight * naturalness(text, tokens)
            for (prompt, text), tokens in zip(pairs, found, strict=True)
        ]

    return score


def naturalness(text: str, log_probabilities: np.ndarray) -> float:
    """Compute how natural a text is, in [0, 1].

    Args:
        text: the text.
        log_probabilities: (T,) of its tokens, in nats.
    """
    likely = np.exp(min(0.0, (float(log_probabilities.mean()) - LIKELY) / FALL))
    return float(likely * _variety(text))


def _variety(text: str) -> float:
    """Compute the share of different pairs of neighbouring words, in [0, 1]."""
    pairs = list(pairwise(word.lower() for word in words_of(text)))
    return len(set(pairs)) / len(pairs) if pairs else 1.0
