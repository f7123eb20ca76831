"""Sample by transformers' `generate` with less work, and get the same samples.

transformers computes a prompt anew for each of its completions, and goes on with completions that
have ended until the longest has. Here a prompt is computed once; ended completions are left out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

_LEFT_OUT_AT = 0.25  # of the rows have ended; leaving them out copies the caches of the others
_INPUTS = {"input_ids", "attention_mask"}
# What `generate` can do that is not sampling, or not row by row. It is off as None, False, 0 or 1.
_MORE = (
    *("num_beams", "num_beam_groups", "constraints", "force_words_ids", "penalty_alpha"),
    *("dola_layers", "prompt_lookup_num_tokens", "use_mtp", "assistant_early_exit"),
    *("guidance_scale", "watermarking_config", "token_healing", "stop_strings"),
    *("encoder_repetition_penalty", "encoder_no_repeat_ngram_size", "is_assistant"),
    *("cache_implementation", "prefill_chunk_size", "compile_config"),
    *("return_dict_in_generate", "output_attentions", "output_hidden_states"),
)


@contextmanager
def lean_generate(model) -> Iterator[None]:
    """Let `model.generate` do less work within a block.

    The same state of torch's generator gives the samples that transformers would give, up to the
    rounding of larger and smaller batches. transformers samples itself where that is not so: beams,
    inputs other than text, caches other than a whole one for each layer, weights that processes
    share, and adapters that are a prompt.

    Args:
        model: a causal language model, or a PEFT model of one.
    """
    adapter = getattr(model, "active_peft_config", None)
    core = model if adapter is None else model.get_base_model()
    own = core.generate

    def generate(*args, **options):
        is_plain = not args and _continues_rows(core, options) and not _is_shared_out(core)
        return own(*args, **options, **({"custom_generate": _decode} if is_plain else {}))

    if adapter is not None and adapter.is_prompt_learning:
        yield
        return
    with mock.patch.object(core, "generate", generate):
        yield


def _continues_rows(model, options: dict[str, Any]) -> bool:
    """Tell whether these options of `generate` ask to continue rows of text, each by itself."""
    configs = options.get("generation_config"), model.generation_config

    def value(name):
        given = [options.get(name), *(getattr(config, name, None) for config in configs)]
        return next((found for found in given if found is not None), None)

    fields = {"generation_config", "stopping_criteria", *model.generation_config.to_dict()}
    return (
        _INPUTS <= set(options) <= _INPUTS | fields
        and value("use_cache") is not False
        and value("pad_token_id") is not None
        and value("eos_token_id") is not None
        and all(value(name) in (None, False, 1) for name in _MORE)
    )


def _is_shared_out(model) -> bool:
    """Tell whether processes share the weights: then all of them must compute equally often."""
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    kinds = FSDPModule, FullyShardedDataParallel
    return any(isinstance(module, kinds) for module in model.modules()) or any(
        hasattr(weight, "device_mesh") or hasattr(weight, "ds_id") for weight in model.parameters()
    )


def _decode(
    model, input_ids, logits_processor, stopping_criteria, generation_config, **kwargs
) -> Tensor:
    """Sample as transformers' `_sample` does; `generate` calls it with what it has prepared."""
    if not _can_leave_out(kwargs, len(input_ids)):
        criteria = {"stopping_criteria": stopping_criteria, "generation_config": generation_config}
        return model._sample(input_ids, logits_processor, **criteria, **kwargs)
    draw = _Draw(generation_config.do_sample)
    pad = generation_config.pad_token_id
    logits = _first_logits(model, input_ids, kwargs)
    ids, rows = input_ids, torch.arange(len(input_ids), device=input_ids.device)
    is_open = torch.ones_like(rows, dtype=torch.bool)
    ended: list[tuple[Tensor, Tensor]] = []
    while True:
        scores = logits_processor(ids, logits.to(ids.device, torch.float32, copy=True))
        tokens = draw(scores, rows).where(is_open, pad)
        ids = torch.cat([ids, tokens[:, None]], dim=1)
        is_open = is_open & ~stopping_criteria(ids, None)
        count = int(is_open.sum())
        if count <= (1 - _LEFT_OUT_AT) * len(rows):
            ended.append((rows[~is_open], ids[~is_open]))
            if not count:
                return _together(ended, len(input_ids), pad)
            kept = is_open.nonzero().squeeze(1)
            ids, rows, is_open = ids[kept], rows[kept], is_open[kept]
            _select(kwargs, kept)
            _select_lengths(logits_processor, kept)
        inputs = model.prepare_inputs_for_generation(ids, next_sequence_length=1, **kwargs)
        outputs = model(**inputs, return_dict=True)
        kwargs = model._update_model_kwargs_for_generation(outputs, kwargs)
        logits = outputs.logits[:, -1]


def _can_leave_out(kwargs: dict[str, Any], count: int) -> bool:
    """Tell whether all that the model is given belongs to the rows, and each layer has a cache."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = _cache(kwargs)
    tensors = [value for value in kwargs.values() if isinstance(value, Tensor)]
    return (
        type(cache) is DynamicCache
        and not cache.offloading
        and all(type(layer) is DynamicLayer for layer in cache.layers)
        and cache.get_seq_length() == 0
        and all(tensor.ndim and len(tensor) == count for tensor in tensors)
    )


def _first_logits(model, input_ids: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """Compute the logits (B, V) after the prompts (B, T), once for neighbours with the same one.

    The options of the model's next call are written into `kwargs`.
    """
    mask = kwargs.get("attention_mask")  # None: transformers leaves out a mask that is all ones
    differs = input_ids[1:] != input_ids[:-1]
    if mask is not None:
        differs = differs | (mask[1:] != mask[:-1])
    is_new = torch.cat([differs.new_ones(1), differs.any(1)])
    place = is_new.cumsum(0) - 1
    _select(kwargs, is_new.nonzero().squeeze(1))
    inputs = model.prepare_inputs_for_generation(
        input_ids[is_new], is_first_iteration=True, **kwargs
    )
    outputs = model(**inputs, return_dict=True)
    kwargs |= model._update_model_kwargs_for_generation(outputs, kwargs)
    _select(kwargs, place)
    return outputs.logits[place, -1]


def _select(kwargs: dict[str, Any], rows: Tensor) -> None:
    """Select rows of all that the model is given, in place."""
    for name, value in kwargs.items():
        if isinstance(value, Tensor):
            kwargs[name] = value.index_select(0, rows.to(value.device))
    _cache(kwargs).reorder_cache(rows)


def _select_lengths(logits_processor, rows: Tensor) -> None:
    """Select rows of what a repetition penalty knows of each: how much of it is the prompt."""
    for processor in logits_processor:
        if isinstance(lengths := getattr(processor, "prompt_ignore_length", None), Tensor):
            processor.prompt_ignore_length = lengths[rows.to(lengths.device)]


def _cache(kwargs: dict[str, Any]):
    """The cache of the layers, which transformers renamed in a version of our range."""
    return kwargs.get("cache", kwargs.get("past_key_values"))


def _together(parts: list[tuple[Tensor, Tensor]], count: int, pad: int) -> Tensor:
    """Put rows of different lengths, which ended at different times, into their places."""
    longest = parts[-1][1]
    whole = longest.new_full((count, longest.size(1)), pad)
    for rows, ids in parts:
        whole[rows, : ids.size(1)] = ids
    return whole


class _Draw:
    """Draw tokens as transformers does: there an ended row takes random numbers, too.

    So the others get the numbers that they would have got.
    """

    def __init__(self, samples: bool):
        self.samples = samples
        self.probabilities = torch.empty(0)  # (all rows, V); an ended row keeps its last

    def __call__(self, scores: Tensor, rows: Tensor) -> Tensor:
        """Return a token for each of these rows, of which `scores` (B, V) are the logits."""
        if not self.samples:
            return scores.argmax(-1)
        if len(self.probabilities) <= len(rows):
            self.probabilities = scores.softmax(-1)
        else:
            self.probabilities[rows] = scores.softmax(-1)
        return torch.multinomial(self.probabilities, 1).squeeze(1)[rows]
