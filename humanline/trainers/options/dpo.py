"""The options of DPO, and the losses of TRL that have a humanline variant."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from trl import DPOConfig

from humanline.trainers.options.humanline import HumanlineOptions

# TRL's losses that are functions of two log-ratios: of the chosen and the rejected completion.
PERCEIVED = (
    *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard"),
    *("aot_unpaired", "apo_zero", "apo_down", "discopop", "sigmoid_norm"),
)
_SMOOTHED = {"robust", "exo_pair", "aot_unpaired"}  # these read label_smoothing
_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
# TRL's loss is the paper's if these options have these values.
_PAPERS = {
    "loss_type": ["sigmoid"],
    "loss_weights": None,
    "f_divergence_type": "reverse_kl",
    "ld_alpha": None,
    "use_weighting": False,
}


@dataclass
class HumanlineDPOConfig(HumanlineOptions, DPOConfig):
    """TRL's `DPOConfig` with the options of `HumanlineOptions`.

    Raises:
        ValueError: if an option is out of bounds, or has no humanline meaning.
    """

    positive: ClassVar = frozenset({"beta"})
    needs: ClassVar = {
        "precompute_ref_log_probs": (False, "the reference changes during training"),
    }

    loss_type: list[str] = field(
        default_factory=lambda: ["sigmoid"],
        metadata={
            "help": "One or more of TRL's losses, added up with loss_weights. With humanline, "
            f"{', '.join(PERCEIVED)} get the perceived log-ratios of tokens, summed over a "
            "completion; ipo and sigmoid_norm divide by the number of all tokens. sft is added to "
            "others: the plain likelihood of the chosen completion. aot has no humanline variant."
        },
    )

    sft_weight: float = field(
        default=0.0,
        metadata={
            "help": "Of humanline: add this times the mean negative log-probability of the tokens "
            "of chosen completions: an anchor, since a reference that follows the policy "
            "is none."
        },
    )

    def __post_init__(self):
        self.loss_type = _as_list("loss_type", self.loss_type, str, "names")
        if self.loss_weights is not None:
            self.loss_weights = _as_list("loss_weights", self.loss_weights, float | int, "numbers")
        super().__post_init__()
        if self.loss_weights is not None and not any(self.loss_weights):
            raise ValueError("loss_weights are all 0, so nothing is learned; raise one")

    @property
    def is_papers_loss(self) -> bool:
        """Whether the loss is the one of the humanline paper: DPO's own (arXiv 2305.18290)."""
        return all(getattr(self, name) == value for name, value in _PAPERS.items())

    def refuse_other_losses(self, trainer: str) -> None:
        for name, value in _PAPERS.items():
            if (given := getattr(self, name)) != value:
                raise ValueError(
                    f"{name}={given!r} has no meaning for {trainer}, which has a loss of its own; "
                    f"set {name}={value!r}"
                )

    def _refuse_meaningless_options(self):
        super()._refuse_meaningless_options()
        for fault in self._faults():
            raise ValueError(fault)

    def _faults(self) -> Iterator[str]:
        losses, smoothing = set(self.loss_type), self.label_smoothing
        remedy = f"Choose among {', '.join(PERCEIVED)}, or set humanline=False"
        if "aot" in losses:
            yield (
                "loss_type='aot' has no humanline meaning: it compares the policy's probability of "
                "one pair with the reference's of another, which have no log-ratio. Choose "
                "aot_unpaired, which compares log-ratios, or set humanline=False"
            )
        for name in losses - {*PERCEIVED, "sft"}:
            yield f"loss_type={name!r} has no humanline meaning that we know. {remedy}"
        if losses <= {"sft"}:
            yield (
                f"loss_type={self.loss_type!r} has no humanline meaning: it has no log-ratio. Add "
                "to it, as in ['sigmoid', 'sft'], or set humanline=False"
            )
        if self.use_weighting and "sft" in losses:
            yield (
                "use_weighting=True has no humanline meaning with sft: it weighs pairs, and sft is "
                "a mean over the tokens of all pairs. Leave sft out, or set use_weighting=False"
            )
        if smoothing and not losses & _SMOOTHED:
            yield (
                f"label_smoothing={smoothing} has no humanline meaning in {self.loss_type!r}: only "
                f"{', '.join(sorted(_SMOOTHED))} read it. Set label_smoothing=0.0, or choose "
                "robust, which is sigmoid with smoothing"
            )
        if "exo_pair" in losses and not 0 < smoothing < 1:
            yield f"label_smoothing must be above 0 and below 1 for exo_pair; got {smoothing}"
        if "robust" in losses and smoothing >= 0.5:
            yield f"label_smoothing must be below 0.5 for robust; got {smoothing}"
        if self.f_divergence_type not in _DIVERGENCES:
            choices = ", ".join(_DIVERGENCES)
            yield f"f_divergence_type must be one of {choices}; got {self.f_divergence_type!r}"


def _as_list(name: str, value, kind, kinds: str) -> list:
    """Make a list of the values of an option, of which there may be one alone."""
    values = [value] if isinstance(value, kind) else value
    if not isinstance(values, list | tuple) or not all(isinstance(one, kind) for one in values):
        raise ValueError(f"{name} must be a list of {kinds}; got {value!r}")
    return list(values)
