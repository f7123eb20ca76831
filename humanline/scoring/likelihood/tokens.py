"""Compute the log-probabilities of given completions under a model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from humanline.files.validation import ConfigError
from humanline.trainers.rows.lengths import batches, context_of

BATCH = 512  # sequences at once
LOGITS = 2**28  # most logits at once; with a large vocabulary they belong to few sequences


def token_log_probabilities(
    model,
    tokenizer,
    pairs: Sequence[tuple[str, str]],
    *,
    batch_size: int = BATCH,
    progress: bool = False,
    place: Path | str = "completions",
) -> list[np.ndarray]:
    """Compute log-probabilities of completions, token by token, at temperature 1.

    Args:
        model, tokenizer: a causal language model and its tokenizer, which has a chat template.
        pairs: prompts of one user turn with a completion each.
        batch_size: most sequences scored at once.
        progress: show a bar.
        place: the file of the pairs, for errors.

    Returns:
        For each pair an array (T,) in nats, over the completion's tokens and its end of sequence.

    Raises:
        ConfigError: if a prompt with its completion is longer than the model's context.
    """
    encoded = _encode(tokenizer, pairs)
    context = context_of(model.config, tokenizer)
    for (prompt, _), (prompt_ids, ids) in zip(pairs, encoded, strict=True):
        if context and (length := len(prompt_ids) + len(ids)) > context:
            raise ConfigError(
                f"{place}: prompt {prompt[:40]!r} has {length} tokens with its completion, more "
                f"than the model's context of {context}; shorten or remove them"
            )
    return score_ids(model, tokenizer, encoded, batch_size=batch_size, progress=progress)


def score_ids(
    model,
    tokenizer,
    pairs: Sequence[tuple[list[int], list[int]]],
    *,
    batch_size: int = BATCH,
    progress: bool = False,
) -> list[np.ndarray]:
    """Compute log-probabilities of completions that are given as token ids.

    Args:
        pairs: token ids of a prompt and of its completion; no end of sequence is added.

    Other arguments and the result are those of `token_log_probabilities`.
    """
    import torch
    from tqdm import tqdm

    scores: list[np.ndarray] = []
    longest = max((1 + len(completion) for _, completion in pairs), default=1)
    size = min(batch_size, LOGITS // (longest * model.config.vocab_size))
    chunks = list(batches([len(prompt) + len(own) for prompt, own in pairs], size))
    for chunk in tqdm(chunks, desc="scoring", unit="batch", disable=not progress):
        with torch.no_grad():
            scores += _score(model, tokenizer, pairs[chunk])
    return scores


def _encode(tokenizer, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
    from humanline.trainers.rows.conversations import encode_rows
    from humanline.trainers.rows.preferences import assistant_turn, user_turn

    prompts = [user_turn(prompt) for prompt, _ in pairs]
    return encode_rows(tokenizer, prompts, [assistant_turn(text) for _, text in pairs])


def _score(model, tokenizer, batch: list[tuple[list[int], list[int]]]) -> list[np.ndarray]:
    inputs = tokenizer.pad(
        {"input_ids": [prompt + completion for prompt, completion in batch]},
        padding_side="left",
        return_tensors="pt",
    ).to(model.device)
    keep = 1 + max(len(completion) for _, completion in batch)
    logits = model(**inputs, logits_to_keep=keep).logits[:, :-1].float()
    targets = inputs["input_ids"][:, -logits.size(1) :, None]
    log_probs = logits.log_softmax(-1).gather(-1, targets).squeeze(-1).cpu().numpy()
    return [row[-len(completion) :] for row, (_, completion) in zip(log_probs, batch, strict=True)]
