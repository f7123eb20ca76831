"""The model card: TRL's, with what humanline did, its paper, and the base model by its name."""

import json
import os
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from humanline.trainers.options.trainer import TrainerOfTrl

_TITLE, _ARXIV = "Humanline: Online Alignment as Perceptual Loss", "2509.24207"
# As in CITATION.cff.
_CITATION = f"""@misc{{liu2025humanline,
    title         = {{{{{_TITLE}}}}},
    author        = {{Liu and Muennighoff and Ethayarajh}},
    year          = 2025,
    eprint        = {{{_ARXIV}}},
    archivePrefix = {{arXiv}},
    url           = {{https://arxiv.org/abs/{_ARXIV}}}
}}"""
# Options that the card tells, and what they are.
_TOLD = {
    "perception": "what happens at the bounds",
    "log_eps_p": "lower bound of a token's log-ratio, in nats",
    "log_eps_r": "upper bound of a token's log-ratio, in nats",
    "gamma_p": "spread of the random lower bound",
    "gamma_r": "spread of the random upper bound",
    "second_moment": "mean square of the log-ratios that pass a gradient, at most",
    "sync_interval": "k: optimizer steps between two syncs of the reference",
    "reference": "how the reference is kept",
    "sync_after_update": "sync after the update instead of before it",
    "sync_alpha": "share of the policy in a sync",
    "sft_weight": "weight of the likelihood of chosen completions",
}
_BOUNDED = ("clip", "sample")  # perceptions that read log_eps_p and log_eps_r
_NEUTRAL: dict[str, Any] = {"sync_after_update": False, "sync_alpha": 1.0, "sft_weight": 0.0}


class WritesCard(TrainerOfTrl):
    """Mixin before a TRL trainer: its model cards and tags name humanline, if it was trained so."""

    def create_accelerator_and_postprocess(self):
        """Do what the Trainer does first while it is made; set what card and tags say."""
        if self.args.humanline:
            citation = f"{_CITATION}\n\n{self._paper['citation'].strip()}"
            self._paper = {"title": _TITLE, "id": _ARXIV, "citation": citation}
            self._name = f"Humanline {self._name}"
            self._tag_names = [*self._tag_names, "humanline"]
        super().create_accelerator_and_postprocess()

    def create_model_card(self, *args, **kwargs):
        """Write TRL's model card, and add the options of humanline and the base model's name."""
        super().create_model_card(*args, **kwargs)
        if not self.is_world_process_zero():
            return
        path = Path(self.args.output_dir) / "README.md"
        card = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
        name, is_on_hub = base_model(self.model.config._name_or_path)
        card.data["base_model"] = name if is_on_hub else None
        card.text = _with_base(card.text, name, is_on_hub)
        if self.args.humanline:
            card.text = _with_options(card.text, self.args, type(self)._name)
        card.save(path)


def base_model(path: str) -> tuple[str, bool]:
    """Find the name of the model that training began with.

    Args:
        path: what its config knows: a repository of the Hub, or a folder.

    Returns:
        The repository and True, or the folder's name and False; an empty name if nothing is known.
    """
    if not os.path.isdir(path):
        return path, bool(path)
    folder = Path(path).resolve()
    if found := re.search(r"models--([^/\\]+)[/\\]snapshots", path) or re.search(
        r"models--([^/\\]+)[/\\]snapshots", str(folder)
    ):
        return found[1].replace("--", "/", 1), True
    try:  # transformers before 5 wrote the repository into the config of a copy
        known = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        known = ""
    is_repository = re.fullmatch(r"[\w.-]+/[\w.-]+", str(known)) and not os.path.isdir(known)
    return (known, True) if is_repository else (folder.name, False)


def _with_base(text: str, name: str, is_on_hub: bool) -> str:
    """Name the base model in TRL's first sentence, which links to `None` for a folder."""
    link = f"[{name}](https://huggingface.co/{name})" if is_on_hub else f"`{name}`"
    return text.replace("[None](https://huggingface.co/None)", link if name else "a base model", 1)


def _with_options(text: str, args, objective: str) -> str:
    """Add a section with the options of humanline before TRL's list of versions."""
    rows = [f"| `{name}` | {getattr(args, name)} | {_TOLD[name]} |" for name in _told(args)]
    section = "\n".join(
        [
            "### Humanline",
            "",
            f"Trained with humanline{_version()}: {objective} whose token log-ratios, policy minus "
            "reference, are kept within bounds, and whose reference follows the policy "
            f"([arXiv {_ARXIV}](https://arxiv.org/abs/{_ARXIV})).",
            "",
            "| option | value | |",
            "| --- | --- | --- |",
            *rows,
        ]
    )
    before, heading, after = text.partition("### Framework versions")
    return f"{before}{section}\n\n{heading}{after}" if heading else f"{text}\n{section}\n"


def _told(args) -> list[str]:
    """The options that say something about this run."""

    def is_told(name: str) -> bool:
        if name in ("log_eps_p", "log_eps_r"):
            return args.perception in _BOUNDED
        value = getattr(args, name, _NEUTRAL.get(name))
        return name == "sync_interval" or (value is not None and value != _NEUTRAL.get(name))

    return [name for name in _TOLD if is_told(name)]


def _version() -> str:
    try:
        return f" {version('humanline')}"
    except PackageNotFoundError:  # it runs from its source
        return ""
