"""Limits of length: a model's context, and how many sequences a model takes at once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from humanline.files.validation import ConfigError

# Tokens in one call of a model, padding included: as many as in the miniature's largest batches.
TOKENS_AT_ONCE = 2**17
_UNSET = 10**9  # a tokenizer without a limit has a larger number
# With these kinds of rope max_position_embeddings is the whole context; others multiply it.
_WITHIN = ("llama3", "longrope", "default")


def context_of(config, tokenizer) -> int | None:
    """Find how many tokens a model's context holds.

    Args:
        config: the model's configuration.
        tokenizer: asked where the configuration has no limit.

    Returns:
        The number of tokens, or None if neither has a limit.
    """
    config = config.get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    if not length:
        given = tokenizer.model_max_length
        return given if given and given < _UNSET else None
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("factor") and rope.get("rope_type") not in _WITHIN:
        trained = rope.get("original_max_position_embeddings") or length
        length = max(length, int(trained * rope["factor"]))
    return length


def require_room(
    prompt_ids: Sequence[Sequence[int]], context: int | None, new_tokens: int, place: Path | str
) -> None:
    """Refuse prompts that leave no room for their completions, naming the first.

    Args:
        prompt_ids: the prompts' token ids.
        context: tokens that the model's context holds; None: no limit.
        new_tokens: tokens of a completion at most.
        place: the file or dataset that has the prompts, for the error.

    Raises:
        ConfigError: if a prompt and its completion may be longer than the context.
    """
    for row, ids in enumerate(prompt_ids):
        require_room_for(len(ids), context, new_tokens, f"{place}: row {row}")


def require_room_for(tokens: int, context: int | None, new_tokens: int, place: str) -> None:
    """Do what `require_room` does for one prompt of `tokens` tokens, which `place` names."""
    if context and tokens + new_tokens > context:
        raise ConfigError(
            f"{place}: a prompt of {tokens} tokens, and {new_tokens} for its completion, do not "
            f"fit the model's context of {context}; shorten or remove it, or ask for fewer new "
            "tokens"
        )


def batches(
    lengths: Sequence[int], sequences: int, tokens: int = TOKENS_AT_ONCE
) -> Iterator[slice]:
    """Split sequences into batches of consecutive ones.

    Args:
        lengths: tokens of each sequence.
        sequences: sequences of a batch at most.
        tokens: tokens of a batch at most, padding included. A longer sequence has its own batch.

    Yields:
        The slice of each batch.
    """
    start, longest = 0, 0
    for place, length in enumerate(lengths):
        longest = max(longest, length)
        count = place + 1 - start
        if count > 1 and (count > sequences or count * longest > tokens):
            yield slice(start, place)
            start, longest = place, length
    if start < len(lengths):
        yield slice(start, len(lengths))
