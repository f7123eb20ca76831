"""How likely a model finds given completions."""

from collections.abc import Sequence

import numpy as np

BATCH = 512  # sequences at once
_LOGITS = 2**28  # at once; of a large vocabulary these are few sequences


def token_log_probabilities(
    model,
    tokenizer,
    pairs: Sequence[tuple[str, str]],
    *,
    batch_size: int = BATCH,
    progress: bool = False,
) -> list[np.ndarray]:
    """Log-probabilities of completions, token by token, at temperature 1.

    Args:
        model, tokenizer: a causal language model and its tokenizer, which has a chat template.
        pairs: prompts of one user turn with a completion each.
        batch_size: sequences scored at once, at most.
        progress: show a bar.

    Returns:
        For each pair an array (T,) in nats, over the tokens of the completion and of its end.
    """
    encoded = [_encode(tokenizer, *pair) for pair in pairs]
    return score_ids(model, tokenizer, encoded, batch_size=batch_size, progress=progress)


def score_ids(
    model,
    tokenizer,
    pairs: Sequence[tuple[list[int], list[int]]],
    *,
    batch_size: int = BATCH,
    progress: bool = False,
) -> list[np.ndarray]:
    """`token_log_probabilities` of token ids: prompts with a completion each, as it is."""
    import torch
    from tqdm import tqdm

    scores: list[np.ndarray] = []
    longest = max((1 + len(completion) for _, completion in pairs), default=1)
    size = max(1, min(batch_size, _LOGITS // (longest * model.config.vocab_size)))
    starts = range(0, len(pairs), size)
    for start in tqdm(starts, desc="scoring", unit="batch", disable=not progress):
        with torch.no_grad():
            scores += _score(model, tokenizer, pairs[start : start + size])
    return scores


def _encode(tokenizer, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    from humanline.conversations import encode
    from humanline.data.preferences import assistant_turn, user_turn

    return encode(tokenizer, user_turn(prompt), assistant_turn(completion))


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
