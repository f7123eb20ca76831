"""Scoring several batches at once, where a device has room for more than one."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

# Tokens that are scored at once, padding included: more keep no device busier.
_TOKENS = 2**15
_MOST_PADDING = 1.1  # tokens of batches together, by their tokens one by one
_KINDS_OF_TOKENS = ("token_type_ids", "mm_token_type_ids")
_OF_IMAGES = (
    *_KINDS_OF_TOKENS,
    *("pixel_values", "pixel_attention_mask", "pixel_position_ids", "spatial_shapes"),
    *("image_sizes", "image_grid_thw", "image_position_ids"),
)


class Sequences(NamedTuple):
    """The sequences of a batch, which may end with padding.

    input_ids, attention_mask and scored, which is non-zero on the tokens to score, are (B, T). The
    scores of the last `width` tokens are wanted. `images` is what else the model reads.
    """

    input_ids: Tensor
    attention_mask: Tensor
    scored: Tensor
    width: int
    images: Mapping[str, Tensor] = MappingProxyType({})

    def labels(self) -> Tensor:
        """Make the labels (B, T) of TRL's fused head."""
        return token_labels(self.input_ids, self.scored)


def token_labels(input_ids: Tensor, mask: Tensor) -> Tensor:
    """Make labels (B, T): the token ids (B, T) where the mask (B, T) is non-zero, else -100."""
    return input_ids.masked_fill(mask == 0, -100)


def images_of(inputs: dict, prefix: str = "") -> dict[str, Tensor]:
    """Find what of a batch the model reads beside the tokens, if the rows have images.

    Args:
        inputs: the batch, from TRL's collator or a rollout.
        prefix: "KL_" for the kinds of tokens of KTO's mismatched completions.
    """
    found = {name: inputs.get(name) for name in _OF_IMAGES}
    found |= {name: inputs.get(prefix + name) for name in _KINDS_OF_TOKENS}
    return {name: values for name, values in found.items() if values is not None}


def scores_of(model, batches: Sequence[Sequences], at_once: int = 1) -> list[Tensor]:
    """Compute the log-probabilities of tokens, in nats, by TRL's fused head.

    Args:
        model: has TRL's fused head.
        batches: of one device.
        at_once: how many of them may be scored together.

    Returns:
        (B, width) for each batch.
    """
    scores: list[Tensor] = []
    for start, end in _together(batches, at_once):
        some = batches[start:end]
        together = some[0] if len(some) == 1 else _joined(some)
        log_probs = model(
            input_ids=together.input_ids,
            attention_mask=together.attention_mask,
            labels=together.labels(),
            use_cache=False,
            fused_lm_head=True,
            **together.images,
        ).log_probs
        # A learned prompt of PEFT's makes the sequences longer at their beginning.
        log_probs = log_probs[:, -(together.input_ids.size(1) - 1) :]
        parts = log_probs.split([len(batch.input_ids) for batch in some])
        for batch, part in zip(some, parts, strict=True):
            last = batch.input_ids.size(1) - 1
            scores.append(part[:, last - batch.width : last])
    return scores


def _together(batches: Sequence[Sequences], at_once: int) -> Iterator[tuple[int, int]]:
    """Yield the beginnings and ends of runs of batches to score together."""
    start = 0
    for end in range(1, len(batches) + 1):
        some = batches[start : end + 1]
        longest = max(batch.input_ids.size(1) for batch in some)
        tokens = sum(len(batch.input_ids) for batch in some) * longest
        alone = sum(batch.input_ids.numel() for batch in some)
        is_too_much = tokens > min(_TOKENS, _MOST_PADDING * alone)
        is_too_much |= any(batch.images for batch in some)
        if end == len(batches) or end - start == at_once or is_too_much:
            yield start, end
            start = end


def _joined(batches: Sequence[Sequences]) -> Sequences:
    """Join batches to one, with padding at the end of the shorter ones."""
    longest = max(batch.input_ids.size(1) for batch in batches)

    def joined(tensors: Iterator[Tensor]) -> Tensor:
        return torch.cat([pad(x, (0, longest - x.size(1))) for x in tensors])

    return Sequences(
        joined(batch.input_ids for batch in batches),
        joined(batch.attention_mask for batch in batches),
        joined(batch.scored for batch in batches),
        longest - 1,
    )
