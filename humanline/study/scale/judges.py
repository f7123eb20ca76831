"""The options of a judge, which compares outputs with references."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from humanline.files.validation import Strict, fault
from humanline.study.scale.models import HubModel, PackageModel
from humanline.study.values import OwnFunction, PositiveInt


def _endpoint(url: str) -> str:
    """Check an endpoint's address. It is written into results and logs, so it may hold no secret.

    The errors do not repeat it, because they are written into logs, too.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets that do not fit, or a port that is no number
        is_address = False
    if not is_address or re.search(r"[\s\x00-\x1f\x7f\\]", url):
        raise fault("", "is no address of an endpoint; change it to http:// or https:// and a host")
    if "@" in url or "?" in url or "#" in url:
        reason = "has a user, a password or a query, which results and logs would show"
        raise fault("", f"{reason}; leave it out, and export the key as OPENAI_API_KEY")
    return url


Endpoint = Annotated[
    str,
    AfterValidator(_endpoint),
    WithJsonSchema({"type": "string", "pattern": r"^https?://[^\s@?#]+$"}),
]


class LocalJudge(Strict):
    """A judge that knows the miniature's gold reward."""

    kind: Literal["gold"] = Field(description="for the miniature's data")
    temperature: float = Field(gt=0, description="difference in gold reward that gives odds of e")
    length_bias: float = Field(description="gold reward that it adds to a much longer output")


class EnglishJudge(LocalJudge):
    """A judge that knows the English world's gold grade, and finds some texts more natural."""

    kind: Literal["english_gold"] = Field(description="for instructions in English")  # type: ignore[assignment]
    naturalness: float = Field(
        0.25, ge=0, lt=1, description="weight of how natural a text is; the wishes have the rest"
    )
    model: Annotated[PackageModel | HubModel, Field(discriminator="kind")] = Field(
        description="the untrained model under which natural texts are likely"
    )


class Price(Strict):
    """An endpoint's price of a model, in US dollars per million tokens."""

    input: float = Field(ge=0, description="dollars per million tokens of prompts")
    output: float = Field(ge=0, description="dollars per million tokens of answers")

    def dollars(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Compute the price of some tokens, in US dollars."""
        return (self.input * prompt_tokens + self.output * completion_tokens) / 1e6


class OpenAIJudge(Strict):
    """The AlpacaEval 2 judge behind an OpenAI-compatible endpoint.

    Its key is read from the environment, and from nowhere else.
    """

    kind: Literal["openai"] = Field(description="an OpenAI-compatible endpoint")
    model: str = Field(min_length=1, description="the endpoint's name of the model")
    base_url: Endpoint = Field("https://api.openai.com/v1", description="the endpoint")
    concurrency: PositiveInt = Field(8, description="requests at a time in each job")
    timeout: float = Field(60, gt=0, description="seconds that an answer may take")
    retries: int = Field(
        8, ge=0, description="further requests for a pair, after failures and useless answers"
    )
    max_left_out: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="share of a checkpoint's pairs that may lack a verdict and be left out",
    )
    max_dollars: float = Field(
        ge=0, description="limit for one run's answers; its job stops before they cost more"
    )
    prices: dict[str, Price] = Field(description="prices by model name; zero for a free model")

    @property
    def price(self) -> Price:
        """The price of the judge's model."""
        return self.prices[self.model]

    @model_validator(mode="after")
    def _has_its_price(self) -> Self:
        if self.model not in self.prices:
            raise fault("prices", f"none of {self.model}; add its input and output, maybe zero")
        return self


class FunctionJudge(OwnFunction):
    """The user's own judge function; see `scoring.judge.function_judge`."""


Judge = Annotated[
    LocalJudge | EnglishJudge | OpenAIJudge | FunctionJudge, Field(discriminator="kind")
]

# Judge options that change how requests are sent, not what is answered.
REQUEST_OPTIONS = frozenset({"concurrency", "timeout", "retries", "max_dollars", "prices"})
