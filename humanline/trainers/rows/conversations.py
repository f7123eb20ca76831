"""From conversations to tokens: what every trainer, sampler and scorer of ours sees of a text.

A conversation is a list of messages, ``{"role", "content", ...}``; `encode` renders it by the
tokenizer's chat template, as TRL's DPO does it. So the same conversation is the same tokens in DPO,
KTO, GRPO, fine-tuning and evaluation, whatever the template writes around a turn. A plain text is
tokenized as it is.

An end of sequence, or a beginning, that a text already has is not added again.
"""

import logging
from functools import cache

_log = logging.getLogger(__name__)


def encode(
    processing_class, prompt: str | list[dict], completion: str | list[dict], **options
) -> tuple[list[int], list[int]]:
    """The token ids of a prompt and of what follows it.

    The completion begins where prompt and whole part: a template may end a prompt with what it does
    not write before an answer (an empty think block), and tokens may merge across the boundary.

    Args:
        processing_class: a tokenizer, which has a chat template where there are conversations, or
            a processor.
        prompt, completion: two texts, or two lists of messages. A completion may have several
            turns, of tools and users too, and all of its tokens count.
        options: of the template, `tools` among them; see `template_options`.
    """
    return encode_all(processing_class, prompt, [completion], **options)[0]


def encode_all(
    processing_class, prompt, completions: list, **options
) -> list[tuple[list[int], list[int]]]:
    """`encode` for several completions of a prompt."""
    alone = encode_prompt(processing_class, prompt, **options)
    pairs = []
    for completion in completions:
        whole = encode_whole(processing_class, prompt, completion, **options)
        start = _common(alone, whole)
        if start < len(alone):
            _warn_once()
        pairs.append((whole[:start], whole[start:]))
    return pairs


def encode_prompt(processing_class, prompt: str | list[dict], **options) -> list[int]:
    """The token ids of a prompt, up to where the assistant speaks."""
    if isinstance(prompt, str):
        return _text_ids(processing_class, prompt)
    return _message_ids(processing_class, prompt, add_generation_prompt=True, **options)


def encode_whole(processing_class, prompt, completion, **options) -> list[int]:
    """The token ids of prompt and completion together, with their end of sequence."""
    if isinstance(prompt, str):
        eos = _tokenizer(processing_class).eos_token
        has_end = eos is None or completion.rstrip().endswith(eos)
        return _text_ids(processing_class, prompt + completion + ("" if has_end else eos))
    return _message_ids(processing_class, [*prompt, *completion], **options)


def template_options(row: dict) -> dict:
    """What a row of a dataset says to its template: columns `tools`, `chat_template_kwargs`.

    Raises:
        ValueError: if `tools` is a text that is no JSON, or one of the two is of another type.
    """
    import json

    tools = row.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except json.JSONDecodeError as error:
            raise ValueError(f"tools is no JSON ({error}); mend it") from None
    else:  # a text's nulls are its own
        tools = _without_filling(tools)
    own = row.get("chat_template_kwargs") or {}
    if not isinstance(tools, list | None):
        raise ValueError(f"tools is {type(tools).__name__}; give a list, or its JSON")
    if not isinstance(own, dict):
        raise ValueError(f"chat_template_kwargs is {type(own).__name__}; give a mapping")
    # Some templates write a heading for tools even where their list is empty.
    return {"tools": tools or None} | _without_filling(own)


def _message_ids(processing_class, messages: list[dict], *, tools=None, **options) -> list[int]:
    from trl.data_utils import _tokenize

    options |= {"tools": tools or None}
    messages = _ended_once(processing_class, _without_filling(messages), options)
    return _tokenize(processing_class, messages, **options)["input_ids"]


def _text_ids(processing_class, text: str) -> list[int]:
    from trl.data_utils import _tokenize

    tokenizer = _tokenizer(processing_class)
    ids = list(_tokenize(processing_class, text)["input_ids"])
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is not None and ids[:2] == [bos, bos]:  # the text has its own
        ids = ids[1:]
    if eos is not None and ids[-2:] == [eos, eos]:
        ids = ids[:-1]
    if ids and ids[-1] == eos and not text.rstrip().endswith(tokenizer.eos_token):
        ids = ids[:-1]  # some tokenizers end every text, a prompt too
    return ids


def _ended_once(processing_class, messages: list[dict], options: dict) -> list[dict]:
    """Messages whose assistant does not write the end of sequence that the template will."""
    eos = _tokenizer(processing_class).eos_token

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
    """Whether the chat template writes anything after what an assistant says then."""
    probe = [*before, {"role": "assistant", "content": "y"}]
    options = options | {"add_generation_prompt": False}
    text = processing_class.apply_chat_template(probe, tokenize=False, **options)
    return not text.rstrip().endswith("y")


def _without_filling(value):
    """Without keys of value None: Arrow gives each message the keys that any message has."""
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
        "think block, or tokens merge): what differs counts as the completion's"
    )
