"""Turning conversations into tokens, in one way for all trainers, samplers and scorers.

A conversation is a list of messages, ``{"role", "content", ...}``. `encode` renders it by the
tokenizer's chat template, as TRL's `DPOTrainer` does. So a conversation has the same tokens in DPO,
KTO, GRPO, fine-tuning and evaluation. A plain text is tokenized as it is.

A beginning or an end of sequence that a text already has is not added again.
"""

import logging
from functools import cache

_log = logging.getLogger(__name__)


def encode(
    processing_class, prompt: str | list[dict], completion: str | list[dict], **options
) -> tuple[list[int], list[int]]:
    """Tokenize a prompt and a completion.

    The completion begins at the first token in which the prompt alone and the whole differ. Some
    templates end a prompt with text that they do not write before an answer (an empty think block),
    and tokens may merge across the boundary.

    Args:
        processing_class: a tokenizer or processor, with a chat template if messages are given.
        prompt, completion: two texts, or two lists of messages. A completion may have several
            turns, also of tools and users; all of its tokens count.
        options: options of the template, such as `tools`; see `template_options`.

    Returns:
        The token ids of the prompt and of the completion.
    """
    return encode_all(processing_class, prompt, [completion], **options)[0]


def encode_all(
    processing_class, prompt, completions: list, **options
) -> list[tuple[list[int], list[int]]]:
    """Do what `encode` does for several completions of one prompt."""
    alone = encode_prompt(processing_class, prompt, **options)
    prompts = [prompt] * len(completions)
    wholes = _encode_wholes(processing_class, prompts, completions, **options)
    return [_parted(alone, whole) for whole in wholes]


def encode_rows(
    processing_class, prompts: list[list[dict]], completions: list[list[dict]]
) -> list[tuple[list[int], list[int]]]:
    """Do what `encode` does for many prompts, each with its completion; all are messages."""
    found = encode_groups(processing_class, prompts, [[each] for each in completions])
    return [pair for pairs in found for pair in pairs]


def encode_groups(
    processing_class, prompts: list[list[dict]], groups: list[list[list[dict]]]
) -> list[list[tuple[list[int], list[int]]]]:
    """Do what `encode_all` does for many prompts, each with its completions; all are messages."""
    alone = _message_ids(processing_class, prompts, add_generation_prompt=True)
    repeated = [prompt for prompt, group in zip(prompts, groups, strict=True) for _ in group]
    flat = [completion for group in groups for completion in group]
    wholes = iter(_encode_wholes(processing_class, repeated, flat))
    pairs = zip(alone, groups, strict=True)
    return [[_parted(ids, next(wholes)) for _ in group] for ids, group in pairs]


def _parted(alone: list[int], whole: list[int]) -> tuple[list[int], list[int]]:
    start = _common(alone, whole)
    if start < len(alone):
        _warn_once()
    return whole[:start], whole[start:]


def encode_prompt(processing_class, prompt: str | list[dict], **options) -> list[int]:
    """Tokenize a prompt, up to the beginning of the assistant's turn."""
    if isinstance(prompt, str):
        return _text_ids(processing_class, prompt)
    return _message_ids(processing_class, [prompt], add_generation_prompt=True, **options)[0]


def encode_prompts(processing_class, prompts: list) -> list[list[int]]:
    """Do what `encode_prompt` does for many prompts, in half the time for a tokenizer."""
    if all(isinstance(prompt, list) for prompt in prompts):
        return _message_ids(processing_class, prompts, add_generation_prompt=True)
    return [encode_prompt(processing_class, prompt) for prompt in prompts]


def encode_whole(processing_class, prompt, completion, **options) -> list[int]:
    """Tokenize prompt and completion together, with an end of sequence."""
    return _encode_wholes(processing_class, [prompt], [completion], **options)[0]


def _encode_wholes(processing_class, prompts: list, completions: list, **options):
    """Do what `encode_whole` does for several; all are texts, or all are messages."""
    pairs = list(zip(prompts, completions, strict=True))
    if not all(isinstance(prompt, str) for prompt in prompts):
        conversations = [[*prompt, *completion] for prompt, completion in pairs]
        return _message_ids(processing_class, conversations, **options)
    eos = _tokenizer(processing_class).eos_token
    wholes = []
    for prompt, completion in pairs:
        has_end = eos is None or completion.rstrip().endswith(eos)
        whole = prompt + completion + ("" if has_end else eos)
        wholes.append(_text_ids(processing_class, whole))
    return wholes


def template_options(row: dict) -> dict:
    """Collect a row's options for the chat template: columns `tools` and `chat_template_kwargs`.

    Raises:
        ValueError: if `tools` is neither a list nor JSON, or the other no mapping.
    """
    import json

    tools = row.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except json.JSONDecodeError as error:
            raise ValueError(f"tools is no JSON ({error}); mend it") from None
    else:  # nulls within a text were written by the user and stay
        tools = _without_filling(tools)
    own = row.get("chat_template_kwargs") or {}
    if not isinstance(tools, list | None):
        raise ValueError(f"tools is {type(tools).__name__}; give a list, or its JSON")
    if not isinstance(own, dict):
        raise ValueError(f"chat_template_kwargs is {type(own).__name__}; give a mapping")
    # Some templates write a heading for tools even where their list is empty.
    return {"tools": tools or None} | _without_filling(own)


def _message_ids(
    processing_class, conversations: list[list[dict]], *, tools=None, **options
) -> list[list[int]]:
    """Tokenize conversations, all in one call: one call each takes twice as long."""
    from transformers import ProcessorMixin
    from trl.data_utils import _tokenize

    options |= {"tools": tools or None}
    eos = _tokenizer(processing_class).eos_token  # which takes long to look up
    plain = map(_without_filling, conversations)
    ready = [_ended_once(processing_class, messages, eos, options) for messages in plain]
    # TRL takes what a processor makes of one conversation out of its batch.
    if isinstance(processing_class, ProcessorMixin) or not (ready and all(ready)):
        return [_tokenize(processing_class, m, **options)["input_ids"] for m in ready]
    options |= {"tokenize": True, "return_dict": True}
    options |= {"tokenizer_kwargs": {"return_attention_mask": False}}  # it would be made of lists
    return list(processing_class.apply_chat_template(ready, **options)["input_ids"])


def _text_ids(processing_class, text: str) -> list[int]:
    from trl.data_utils import _tokenize

    tokenizer = _tokenizer(processing_class)
    ids = list(_tokenize(processing_class, text)["input_ids"])
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is not None and ids[:2] == [bos, bos]:  # the text begins with one of its own
        ids = ids[1:]
    if eos is not None and ids[-2:] == [eos, eos]:
        ids = ids[:-1]
    if ids and ids[-1] == eos and not text.rstrip().endswith(tokenizer.eos_token):
        ids = ids[:-1]  # some tokenizers end every text, a prompt too
    return ids


def _ended_once(processing_class, messages: list[dict], eos, options: dict) -> list[dict]:
    """Remove the end of sequence from the assistant's messages where the template adds one."""

    def has_end(message) -> bool:
        content = message.get("content")
        speaks = message.get("role") == "assistant" and isinstance(content, str)
        return bool(eos) and speaks and content.rstrip().endswith(eos)

    first = next((i for i, message in enumerate(messages) if has_end(message)), None)
    if first is None or not _closes_turn(processing_class, messages[:first], options):
        return messages
    return [
        m | {"content": m["content"].rstrip().removesuffix(eos)} if has_end(m) else m
        for m in messages
    ]


def _closes_turn(processing_class, before: list[dict], options: dict) -> bool:
    """Say whether the chat template writes anything after an assistant's message."""
    probe = [*before, {"role": "assistant", "content": "y"}]
    options = options | {"add_generation_prompt": False}
    text = processing_class.apply_chat_template(probe, tokenize=False, **options)
    return not text.rstrip().endswith("y")


def _without_filling(value):
    """Remove keys of value None: Arrow gives each message the keys of all messages."""
    if isinstance(value, dict):
        return {k: _without_filling(v) for k, v in value.items() if v is not None}
    return [_without_filling(v) for v in value] if isinstance(value, list) else value


def _tokenizer(processing_class):
    return getattr(processing_class, "tokenizer", processing_class)


def _common(first: list[int], second: list[int]) -> int:
    from trl.data_utils import common_prefix_length

    return common_prefix_length(first, second)


@cache
def _warn_once() -> None:
    _log.warning(
        "a prompt alone ends otherwise than before its answer (the template ends it with an empty "
        "think block, or tokens merge): the differing tokens count as the completion's"
    )
