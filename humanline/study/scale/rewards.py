"""The options of rewards, which score completions for training."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from humanline.files.validation import Strict, fault
from humanline.study.scale.hub import REMOTE_CODE, HubSource
from humanline.study.values import OwnFunction


class ProxyReward(Strict):
    """The imperfect reward model of the miniature's wishes."""

    fits_every_task: ClassVar[bool] = False
    kind: Literal["proxy"] = Field(description="for the miniature's wishes")


class EnglishProxyReward(Strict):
    """The imperfect reward model of wishes in English."""

    fits_every_task: ClassVar[bool] = False
    kind: Literal["english_proxy"] = Field(description="for instructions in English")


class HubReward(HubSource):
    """A reward model on the hub."""

    trust_remote_code: bool = Field(
        False,
        description="run the repository's own code; it must be in REMOTE_CODE, or be a local path "
        "with a fingerprint",
    )

    @model_validator(mode="after")
    def _runs_known_code_only(self) -> Self:
        if not self.trust_remote_code or (self.repo, self.revision) in REMOTE_CODE:
            return self
        if not self.is_local:
            reason = f"true, but {self.repo} at this revision is not in REMOTE_CODE of"
            remedy = "humanline/study/scale/hub.py; read its code and add it there"
            raise fault("trust_remote_code", f"{reason} {remedy}")
        if not self.fingerprint:  # a path, unlike a commit, can change its code
            reason = f"missing, but trust_remote_code runs the code of {self.repo}; read it, and"
            remedy = "write the fingerprint that `humanline prefetch` prints for the hub's copy"
            raise fault("fingerprint", f"{reason} {remedy}")
        return self


class VerifiableReward(Strict):
    """1 if the answer in the last box is equivalent to the gold answer, else 0."""

    fits_every_task: ClassVar[bool] = False
    kind: Literal["math_verify"] = Field(description="for math")


class GradeReward(Strict):
    """1 if the task's own grading finds a completion correct, else 0."""

    fits_every_task: ClassVar[bool] = False
    kind: Literal["grade"] = Field(description="for tasks that are graded")


class FunctionReward(OwnFunction):
    """The user's own reward function; see `scoring.rewards`."""


Reward = Annotated[
    ProxyReward | EnglishProxyReward | HubReward | VerifiableReward | GradeReward | FunctionReward,
    Field(discriminator="kind"),
]
