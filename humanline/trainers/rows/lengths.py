"""How long sequences may be: what a model's context holds, and how many fit a machine at once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from humanline.files.validation import ConfigError

# With padding, in one call of a model. The miniature's largest batches have as many.
TOKENS_AT_ONCE = 2**17
_UNSET = 10**9  # of a tokenizer that knows no limit
_WITHIN = ("llama3", "longrope", "default")  # kinds of rope whose length is in the configuration


def context_of(config, tokenizer) -> int | None:
    """Tokens that a model's context holds, or None where neither it nor its tokenizer says so."""
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
        new_tokens: of a completion at most.
        place: what the prompts are rows of.

    Raises:
        ConfigError: if a prompt and its completion may be longer than the context.
    """
    for row, ids in enumerate(prompt_ids):
        require_room_for(len(ids), context, new_tokens, f"{place}: row {row}")


def require_room_for(tokens: int, context: int | None, new_tokens: int, place: str) -> None:
    """`require_room` of one prompt of so many tokens, which `place` names."""
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
        lengths: tokens of each.
        sequences: in a batch at most.
        tokens: in a batch at most, with the padding to its longest; a sequence that has more is
            alone.
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
