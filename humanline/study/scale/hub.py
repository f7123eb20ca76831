"""Repositories on the Hugging Face hub, each at one commit, or local folders in the same format."""

import re
from os.path import isdir
from typing import ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, Field, model_validator

from humanline.files.validation import Strict, fault

# The paper's reward model; and the repositories that may run their own code, each at one commit.
ARMORM = ("RLHFlow/ArmoRM-Llama3-8B-v0.1", "eb2676d20da2f2d41082289d23c59b9f7427f955")
REMOTE_CODE = {ARMORM}
_NAME = r"(?:\w[\w.-]{0,95}/)?\w[\w.-]{0,95}"  # owner/name, or a name of the hub's first years

Found = TypeVar("Found", bound=BaseModel)


class HubSource(Strict):
    """A repository on the Hugging Face hub, or a local folder in the same format."""

    repo_type: ClassVar[str] = "model"
    kind: Literal["hub"] = Field(description="from the Hugging Face hub or a local folder")
    repo: str = Field(description="owner/name on the hub, or a local path that starts with / or .")
    revision: str | None = Field(
        pattern=r"^[0-9a-f]{40}$",
        description="commit hash; nothing is fetched without it; null for a local path",
    )
    # It is a check. No result depends on it, so no hash of the options has it.
    fingerprint: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        exclude=True,
        description="sha256 of the content, checked when it is loaded; humanline prefetch prints "
        "it; null: not checked",
    )

    @property
    def is_local(self) -> bool:
        """Whether `repo` is a path."""
        return self.repo.startswith(("/", "."))

    @property
    def is_pinned(self) -> bool:
        """Whether the content cannot change on the hub: a commit, or a local path."""
        return self.is_local or self.revision is not None

    @property
    def how_to_pin(self) -> str:
        """The error of a source that is not pinned: field, reason and remedy."""
        place = "datasets/" if self.repo_type == "dataset" else ""
        look_up = f"git ls-remote https://huggingface.co/{place}{self.repo} HEAD"
        return (
            f"revision: null, but {self.repo} on the hub can change; write the commit hash that "
            f"`{look_up}` prints"
        )

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if not self.is_local:
            if not re.fullmatch(_NAME, self.repo) or ".." in self.repo:
                reason = f"{self.repo!r} is no owner/name of the hub, and no path with / or ."
                raise fault("repo", f"{reason} first; mend it")
            return self
        if not isdir(self.repo):  # unlike Path.is_dir, for any text
            reason = f"no such folder: {self.repo!r}; mend the path, or name an owner/name"
            raise fault("repo", reason)
        if self.revision is not None:
            raise fault("revision", f"{self.repo} is a local path, which has none; write null")
        return self


def hub_sources(part: object) -> dict[str, HubSource]:
    """Find every repository in a part of the configuration, by its dotted field."""
    return found_in(part, HubSource)


def found_in(part: object, kind: type[Found], field: str = "") -> dict[str, Found]:
    """Find the models of a kind in a part of the configuration.

    Args:
        part: a pydantic model, a mapping, or any value.
        kind: the class of the models.
        field: the dotted field of the part itself.

    Returns:
        The models by their dotted fields.
    """
    if isinstance(part, kind):
        return {field: part}
    inner = dict(part) if isinstance(part, BaseModel | dict) else {}
    found: dict[str, Found] = {}
    for name, value in inner.items():
        found |= found_in(value, kind, f"{field}.{name}" if field else name)
    return found
