"""The file of an endpoint's answers: every reply that was paid for, and what all of them cost."""

import os
import threading
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from humanline.files import validation
from humanline.files.json_files import parse_json
from humanline.files.typed_files import Count
from humanline.files.validation import ConfigError, Strict, validate
from humanline.study.scale.judges import OpenAIJudge

NAMES = {"m", "M"}  # the names of the two outputs in the prompt
# Faults that are the judge's own decision. They count as tries of a pair in every later job, and a
# pair with no other answer may be left out.
REFUSAL, NEITHER = "a refusal", "an answer that is neither m nor M"
FILTERED = "an answer that a filter has blocked"
VERDICTS = {REFUSAL, NEITHER, FILTERED}


class Token(Strict):
    """One of the likeliest first tokens of the judge's answer."""

    token: str = Field(description="its text")
    # Some endpoints round a probability of 1 to a little more.
    logprob: float = Field(le=0.01, description="its log-probability, nats")


class Answer(Strict):
    """A row of the file of answers: a reply that was paid for."""

    key: str = Field(min_length=1, description="hash of the endpoint and the whole request")
    retries: Count = Field(description="failed requests before it")
    prompt_tokens: Count = Field(
        description="as billed; an estimate where the answer does not tell"
    )
    completion_tokens: Count = Field(description="likewise")
    top_logprobs: list[Token] = Field([], description="the likeliest first tokens")
    fault: str | None = Field(None, min_length=1, description="why it is useless, if it is")

    @model_validator(mode="after")
    def _answers_or_says_why_not(self) -> Self:
        names = {entry.token for entry in self.top_logprobs}
        if (self.fault is None) != bool(NAMES & names):
            reason = "has neither m nor M" if self.fault is None else f"beside {self.fault}"
            raise validation.fault("top_logprobs", f"{reason}; remove the line")
        return self


class Answers:
    """The file of a run's answers (JSON Lines of `Answer`), and their cost in dollars."""

    def __init__(self, config: OpenAIJudge, path: Path):
        self.path = path
        self._config = config
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_off_half_a_row(path)
        rows = read_answers(path)
        self._dollars = sum(self._cost(row) for row in rows)
        self.useful: dict[str, Answer] = {}
        self.verdicts: dict[str, list[str]] = {}
        for row in rows:
            self._sort(row)

    def may_cost(self, dollars: float) -> bool:
        """Set money aside for a request, in dollars; False if the budget has not enough left."""
        with self._lock:
            if self._dollars + dollars > self._config.max_dollars:
                return False
            self._dollars += dollars
            return True

    def give_back(self, dollars: float) -> None:
        """Return dollars to the budget that were set aside for a request that cost nothing."""
        with self._lock:
            self._dollars -= dollars

    def add(self, answer: Answer, set_aside: float) -> None:
        """Write an answer to disk, and count its cost instead of the dollars set aside for it."""
        line = answer.model_dump_json(exclude_defaults=True) + "\n"
        with self._lock:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self._dollars += self._cost(answer) - set_aside
            self._sort(answer)

    def _sort(self, answer: Answer) -> None:
        if not answer.fault:
            self.useful[answer.key] = answer
        elif answer.fault in VERDICTS:
            self.verdicts.setdefault(answer.key, []).append(answer.fault)

    def _cost(self, answer: Answer) -> float:
        return self._config.price.dollars(answer.prompt_tokens, answer.completion_tokens)


def read_answers(path: Path) -> list[Answer]:
    """Read a file of answers, without a half-written last row; no answers if there is no file.

    Raises:
        ConfigError: if another row is damaged.
    """
    rows = []
    *lines, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_read_answer(path, line, number))
        except ConfigError as error:
            what = "remove that line, and it is asked for again"
            raise ConfigError(f"{str(error).rpartition(';')[0]}; {what}") from None
    return rows


def _read_answer(path: Path, line: bytes, number: int) -> Answer:
    try:
        content = parse_json(path, line.decode(), number)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: line {number}: not UTF-8 ({error.reason}); ") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: line {number}: not an object; ")
    return validate(Answer, content, f"{path}: line {number}")


def _cut_off_half_a_row(path: Path) -> None:
    """Remove the incomplete last row that a killed job can leave."""
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: no regular file; remove it")
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
