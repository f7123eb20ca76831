"""AlpacaEval 2's judge behind an OpenAI-compatible endpoint, which costs money and can fail.

alpaca_eval makes the prompts and reads preferences from log-probabilities, as `judges/openai`
configures it. This module gets the answers: several at a time, with retries, within a budget. Every
answer is written to disk when it arrives, so an interrupted job pays for no answer twice.
"""

import json
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openai
import pandas as pd

from humanline.files.validation import ConfigError
from humanline.scoring.endpoint.answers import (
    FILTERED,
    NAMES,
    NEITHER,
    REFUSAL,
    VERDICTS,
    Answer,
    Answers,
    Token,
)
from humanline.scoring.judge import Rows, annotate_as_configured
from humanline.study.runs.hashes import content_hash
from humanline.study.scale.judges import OpenAIJudge

KEY = "OPENAI_API_KEY"  # the environment variable

# Errors that concern one request alone, such as its length or a filter.
_UNWANTED = (openai.BadRequestError, openai.UnprocessableEntityError)
# What alpaca_eval would read as its template or ChatML, and noncharacters that replace it there.
_STAND_INS = {
    "{instruction}": "\ufdd0",
    "{output_1}": "\ufdd1",
    "{output_2}": "\ufdd2",
    "<|im_start|>": "\ufdd3",
    "<|im_end|>": "\ufdd4",
}
_REMEDIES = {
    openai.AuthenticationError: f"check {KEY}",
    openai.PermissionDeniedError: f"check what {KEY} may use",
    openai.NotFoundError: "check the judge's model and base_url",
    openai.RateLimitError: "wait, check the account's limits, or lower the judge's concurrency",
    openai.APITimeoutError: "raise the judge's timeout or retries",
    openai.APIConnectionError: "check the judge's base_url and the network",
    openai.InternalServerError: "wait, or raise the judge's retries",
}


def estimated_tokens(characters: int) -> int:
    """Estimate tokens from characters by OpenAI's rule of thumb for English: four characters each.

    AlpacaEval's published prompts have 4.9 characters a token; code and other languages have fewer.
    """
    return math.ceil(characters / 4)


def annotate(outputs: Rows, baseline: Rows, judge: "ApiJudge", *, work_dir: Path) -> pd.DataFrame:
    """Compare a model's outputs with the baseline's; see `judge.annotate`.

    The judge sees the two outputs of a pair in the order of AlpacaEval's published annotations. A
    pair without a verdict has the preference nan. Errors are those of `ApiJudge.complete`, too.
    """
    judge.expect(len(baseline := list(baseline)))
    return annotate_as_configured(
        "openai",
        outputs,
        baseline,
        encode=_with_stand_ins,
        work_dir=work_dir,
        fn_completions=judge.complete,
    )


class ApiJudge:
    """Gets the judge's answers to alpaca_eval's prompts, from the file or from the endpoint.

    Args:
        config: the endpoint, the options of requests, and the budget.
        path: the file of answers. An answer in it is not asked for again.

    Raises:
        ConfigError: if the key is not in the environment, or the file is damaged.
    """

    def __init__(self, config: OpenAIJudge, path: Path):
        if not re.fullmatch("[!-~]+", os.environ.get(KEY, "")):
            raise ConfigError(
                f"environment variable {KEY}: not set, or not a word of ASCII; export the key of"
                f" {config.base_url}, or any word if that needs no key"
            )
        self._config = config
        self._answers = Answers(config, path)
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._left_out: set[str] = set()
        self.expect(0)
        self._client = openai.OpenAI(
            base_url=config.base_url,
            timeout=config.timeout,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [self._begin]}),
        )

    def expect(self, pairs: int) -> None:
        """Begin another checkpoint. Of its pairs, the share `max_left_out` may have no verdict."""
        self._pairs, self._may_leave_out = pairs, math.floor(self._config.max_left_out * pairs)
        self._left_out.clear()

    def complete(self, prompts: list[str], **options) -> dict[str, list[dict]]:
        """Get the likeliest first tokens (nats) for prompts, in the form of `fn_completions`.

        Args:
            prompts: the prompts in ChatML.
            options: options of every request, alpaca_eval's `completions_kwargs`.

        Raises:
            ConfigError: if a request fails after all retries, more pairs have no verdict than may
                be left out, or the budget is spent. The answers so far are kept.
        """
        requests = [
            {"model": self._config.model, "messages": _messages(prompt), **options}
            for prompt in prompts
        ]
        try:
            answers = self._all_answers(requests)
        except _AskingError as error:
            raise ConfigError(self._told(*error.args)) from None
        # alpaca_eval turns an empty list of tokens into nan.
        tops = [
            answer.model_dump(include={"top_logprobs"}) if answer else {"top_logprobs": []}
            for answer in answers
        ]
        return {"completions_all": [{"logprobs": {"content": [top]}} for top in tops]}

    def _all_answers(self, requests: list[dict]) -> list["Answer | None"]:
        self._ending.clear()
        # At its end the pool waits for the requests in flight: they are already paid for.
        with _sigterm_raises(), ThreadPoolExecutor(self._config.concurrency) as pool:
            try:
                return list(pool.map(self._answer, requests))
            except BaseException:
                self._ending.set()
                raise

    def _begin(self, _) -> None:
        """Refuse to begin a request, or the client's retry of one, when the job is ending."""
        if self._ending.is_set():
            raise openai.OpenAIError("the job is ending")  # the client does not retry this error

    def _answer(self, request: dict) -> "Answer | None":
        """Return the useful answer to a request, kept or new; None if its pair is left out."""
        # The key includes the endpoint, so answers of a test server are never used for another.
        key = content_hash([self._config.base_url, request])
        if key in self._answers.useful:
            return self._answers.useful[key]
        text = "".join(message["content"] for message in request["messages"])
        usage = {"prompt_tokens": estimated_tokens(len(text)), "completion_tokens": 1}
        dollars = self._config.price.dollars(**usage)
        verdicts = self._answers.verdicts.get(key, [])
        fault = verdicts[-1] if verdicts else None
        tries = self._config.retries + 1 - len(verdicts)
        while tries > 0:
            if not self._answers.may_cost(dollars):
                limit = f"max_dollars, {self._config.max_dollars:g},"
                raise _AskingError(f"another answer may cost more than {limit} allows", "raise it")
            try:
                reply = self._request(request, tries - 1)
            except _UnwantedError as error:
                self._answers.give_back(dollars)
                self._leave_out(key, text, str(error), "mend that")
                return None
            tries -= 1 + reply.retries_taken
            known = {"key": key, "retries": reply.retries_taken, **usage}
            answer = Answer(**known | _read(reply.text))
            self._answers.add(answer, set_aside=dollars)
            if not answer.fault:
                return answer
            fault = answer.fault
        remedy = "raise the judge's retries to ask again"
        if fault in VERDICTS:
            self._leave_out(key, text, f"{fault}, every time", remedy)
            return None
        raise _AskingError(f"{fault}, every time, for {_named(text)}", remedy)

    def _leave_out(self, key: str, text: str, reason: str, remedy: str) -> None:
        """Count a pair that has no verdict; raise if there are too many."""
        with self._lock:
            self._left_out.add(key)
            count = len(self._left_out)
        reason = f"{reason}, for {_named(text)}"
        if count > self._may_leave_out:
            allowed = f"max_left_out, {self._config.max_left_out:g}, allows {self._may_leave_out}"
            reason += f"; {count} of {self._pairs} pairs have no verdict, but {allowed}"
            raise _AskingError(reason, f"{remedy}, or raise max_left_out")
        print(f"left out: {self._without_key(reason)}", flush=True)

    def _request(self, request: dict, retries: int):
        """Ask the endpoint. Before a retry the client waits as long as Retry-After says."""
        client = self._client.with_options(max_retries=retries)
        try:
            return client.chat.completions.with_raw_response.create(**request)
        except _UNWANTED as error:
            raise _UnwantedError(error) from None
        except openai.OpenAIError as error:
            remedies = (text for kind, text in _REMEDIES.items() if isinstance(error, kind))
            cause = f" {error.__cause__}" if error.__cause__ else ""
            raise _AskingError(f"{error}{cause}", next(remedies, "mend that")) from None

    def _told(self, reason: str, remedy: str) -> str:
        """Write the one line that tells the user about a failure."""
        return (
            f"judge {self._config.model} at {self._config.base_url}: {self._without_key(reason)};"
            f" {len(self._answers.useful)} answers are kept in {self._answers.path}; {remedy}, and"
            " run again"
        )

    def _without_key(self, reason: str) -> str:
        """Put a reason on one line without the key: endpoints may repeat a key they refuse."""
        return " ".join(reason.replace(os.environ[KEY], f"${KEY}").split())[:400]


def _named(text: str) -> str:
    """Name the instruction of a request by its first characters."""
    start = text.partition('"""')[2][:40]
    return f"the instruction that starts {start!r}"


class _UnwantedError(Exception):
    """The endpoint refuses this request, but perhaps no other."""


class _AskingError(Exception):
    """The job cannot continue; the arguments are reason and remedy."""


def _read(reply: str) -> dict:
    """Read from a reply the fields of an `Answer` that it tells."""
    try:
        body = json.loads(reply)
        choice = body["choices"][0]
        refusal = choice["message"].get("refusal")
        usage = dict(body.get("usage") or {})
    except (ValueError, LookupError, TypeError, AttributeError):
        return {"fault": "an answer that is not whole"}
    told = {
        name: usage[name]
        for name in ("prompt_tokens", "completion_tokens")
        if type(usage.get(name)) is int and usage[name] >= 0  # a negative number would add money
    }
    if refusal:
        return told | {"fault": REFUSAL}
    if choice.get("finish_reason") == "content_filter":
        return told | {"fault": FILTERED}
    try:
        top = choice["logprobs"]["content"][0]["top_logprobs"]
        top = [Token(token=entry["token"], logprob=entry["logprob"]) for entry in top]
    except (ValueError, LookupError, TypeError):
        return told | {"fault": "an answer without log-probabilities"}
    if not NAMES & {entry.token for entry in top}:
        return told | {"fault": NEITHER}
    return told | {"top_logprobs": top}


def _messages(prompt: str) -> list[dict[str, str]]:
    """Parse a prompt in ChatML into chat messages, and restore the original texts."""
    from alpaca_eval.utils import prompt_to_chatml

    return [
        message | {"content": _without_stand_ins(message["content"])}
        for message in prompt_to_chatml(prompt)
    ]


def _with_stand_ins(text: str) -> str:
    for special, stand_in in _STAND_INS.items():
        text = text.replace(special, stand_in)
    return text


def _without_stand_ins(text: str) -> str:
    for special, stand_in in _STAND_INS.items():
        text = text.replace(stand_in, special)
    return text


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Make SIGTERM raise in the main thread, as SIGINT does, so that the job ends in order."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
