"""Finding the prompt and the completions in a row of training data.

A prompt is a text, a list of messages, or the beginning of the conversations that answer it. A
completion is a text, the turns after the prompt, or a whole conversation. `read` tells them apart
row by row, and refuses a row with two readings.
"""

import os
from collections.abc import Sequence

_OPENING = ("system", "developer", "user")  # roles of the prompt: no completion begins with them
_SYSTEM = ("system", "developer")
_MEDIA = ("image", "image_url", "video", "audio", "input_audio", "input_image")


def read(prompt, completions: Sequence, names: Sequence[str]) -> tuple:
    """Find a row's prompt and its completions.

    Args:
        prompt: a text, a list of messages, or None if the completions begin with it.
        completions: the row's completions: one, a pair, or a group.
        names: the completions' names in errors.

    Returns:
        The prompt and a list of completions, all of them texts or all of them lists of messages.

    Raises:
        ValueError: with the reason and the remedy, if the row has no reading or more than one.
    """
    for name, value in [*zip(names, completions, strict=True), ("prompt", prompt)]:
        if value is not None or name != "prompt":
            _check(name, value)
    are_texts = [isinstance(completion, str) for completion in completions]
    if all(are_texts):
        return _read_texts(prompt, list(completions), names)
    if any(are_texts):
        raise ValueError(f"{_joined(names)} are texts and conversations; make all of them one form")
    conversations = [_plain(completion) for completion in completions]
    prompt = prompt if prompt is None or isinstance(prompt, str) else _plain(prompt)
    are_whole = [turns[0]["role"] in _OPENING for turns in conversations]
    if all(are_whole):
        return _split(prompt, conversations, names)
    if any(are_whole):
        raise ValueError(
            f"{_joined(names)}: some begin with the prompt, others after it; write all alike"
        )
    if prompt is None:
        raise ValueError(f"{_joined(names)} begin with an answer, and there is no prompt; add it")
    return (_user(prompt) if isinstance(prompt, str) else prompt), conversations


def has_media(value) -> bool:
    """Say whether a list of messages has images or other media."""
    parts = [part for content in _lists_of_parts(value) for part in content]
    return any(isinstance(part, dict) and part.get("type") in _MEDIA for part in parts)


def has_parts_of_content(value) -> bool:
    """Say whether a list of messages has contents in parts, which may be text or media."""
    return bool(_lists_of_parts(value))


def _lists_of_parts(value) -> list[list]:
    messages = value if isinstance(value, list) else []
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    return [content for content in contents if isinstance(content, list)]


def _read_texts(prompt, completions: list[str], names) -> tuple:
    if isinstance(prompt, list):
        return _plain(prompt), [[{"role": "assistant", "content": text}] for text in completions]
    if prompt is not None:
        return prompt, completions
    prompt = ""
    if len(completions) > 1:
        # As in TRL, one letter at least is left to the answers, even if one text begins another.
        longest = min(map(len, completions)) - 1
        prompt = os.path.commonprefix(completions)[: max(longest, 0)].removesuffix(" ")
    if not prompt:
        raise ValueError(f"there is no prompt, and {_joined(names)} do not begin with one; add it")
    return prompt, [text[len(prompt) :] for text in completions]


def _split(prompt, conversations: list[list[dict]], names) -> tuple:
    """Split whole conversations where their prompt ends."""
    if isinstance(prompt, list):
        return _after(prompt, conversations, names)
    end = _end_of_prompt(conversations, names)
    opening = conversations[0][:end]
    if isinstance(prompt, str):
        ends = [i + 1 for i, turn in enumerate(opening) if _is_user_turn(turn, prompt)]
        if not ends:
            raise ValueError(
                f"prompt is not among the user's turns that {_joined(names)} begin with; give the "
                "conversations alone, or mend the prompt"
            )
        if len(conversations) == 1:  # the rest of it answers the prompt
            end = ends[-1]
    return conversations[0][:end], [turns[end:] for turns in conversations]


def _after(prompt: list[dict], conversations: list[list[dict]], names) -> tuple:
    """Remove from conversations the prompt that they repeat, with or without its system turn."""
    parts = [_system_and_rest(turns) for turns in conversations]
    (system, body), own = _system_and_rest(prompt), parts[0][0]
    rests = [rest[len(body) :] for _, rest in parts]
    repeat = all(rest[: len(body)] == body for _, rest in parts)
    agree = all(other == own for other, _ in parts) and (own == system or not own or not system)
    if not repeat or not agree or not all(rests):
        raise ValueError(
            f"{_joined(names)} begin with other turns than the prompt, or have nothing after it; "
            "give the turns that follow the prompt, or leave the prompt out"
        )
    start = (system or own) + body
    if rests[0][0]["role"] in _OPENING:  # the prompt is only the beginning of theirs
        end = _end_of_prompt(rests, names)
        start, rests = start + rests[0][:end], [turns[end:] for turns in rests]
    return start, rests


def _system_and_rest(turns: list[dict]) -> tuple[list[dict], list[dict]]:
    begin = 1 if turns[0]["role"] in _SYSTEM else 0
    return turns[:begin], turns[begin:]


def _end_of_prompt(conversations: list[list[dict]], names) -> int:
    """Count the turns that conversations share before they answer."""
    shortest = min(conversations, key=len)
    alike = [all(turns[i] == turn for turns in conversations) for i, turn in enumerate(shortest)]
    end = (*alike, False).index(False)
    if end == len(shortest):  # one conversation, or equal ones, or one that continues another
        roles = [turn["role"] for turn in shortest]
        end -= next(i for i, role in enumerate(reversed(roles)) if role in _OPENING)
    if end == len(shortest):
        raise ValueError(f"{_joined(names)} end with the prompt; add the assistant's turn")
    if any(turns[end]["role"] in _OPENING for turns in conversations):
        raise ValueError(
            f"{_joined(names)} have different prompts; give completions of the same prompt"
        )
    return end


def _check(name: str, value) -> None:
    """Refuse a value that is neither a text nor a list of messages with text."""
    if isinstance(value, str):
        return
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} is {_short(value)}; give a text or a list of messages")
    for turn in value:
        if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
            raise ValueError(f"{name} has {_short(turn)} for a message; give role and content")
        content = turn.get("content")
        if all(value is None for key, value in turn.items() if key != "role"):
            raise ValueError(f"{name} has a message without content; add it")
        if not isinstance(content, str | list | None):
            raise ValueError(f"{name} has {_short(content)} for a content; give a text")
    if has_media(value):
        raise ValueError(
            f"{name} has images or other media in a dataset of text only; remove the row, or give "
            "the images in a column `images`, to a model with a processor of images"
        )


def _plain(turns: list[dict]) -> list[dict]:
    """Remove the keys that Arrow filled with None."""
    return [{key: value for key, value in turn.items() if value is not None} for turn in turns]


def _is_user_turn(turn: dict, text: str) -> bool:
    content = turn.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content)
    return turn["role"] == "user" and (content or "").strip() == text.strip()


def _user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def _joined(names: Sequence[str]) -> str:
    """Name a row's completions in an error."""
    if len(names) == 1:
        return names[0]
    return f"{names[0]} and {names[1]}" if len(names) == 2 else f"{names[0]} to {names[-1]}"


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
