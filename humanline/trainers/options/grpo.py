"""The options of GRPO and its humanline variant."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import GenerationConfig
from trl import GRPOConfig

from humanline.trainers.options.humanline import HumanlineOptions

if TYPE_CHECKING:

    class _Config(GRPOConfig):
        """As `__post_init__` leaves it: numbers are set, texts are parsed."""

        generation_batch_size: int
        steps_per_generation: int
        generation_kwargs: dict[str, Any] | None

else:
    _Config = GRPOConfig

# With these values of its options, sampling leaves the policy's distribution unchanged.
_SAMPLES_ALL: dict[str, tuple] = {
    "top_p": (1.0, None),
    "top_k": (0, -1, None),
    "min_p": (None, 0.0),
    "repetition_penalty": (1.0, None),
    "vllm_structured_outputs_regex": (None,),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "min_tokens"), (0, None)),
    **dict.fromkeys(("structured_outputs", "allowed_token_ids", "logits_processors"), (None,)),
    **dict.fromkeys(("logit_bias", "bad_words"), (None, {}, [])),
}
# The values whose loss TRL computes from the ratio and the gradient that we give it.
_KNOWN = {
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
}


def _with_help(name: str, addition: str):
    """Copy TRL's field, and add to its help what it means with humanline."""
    of_trl = GRPOConfig.__dataclass_fields__[name]
    return field(default=of_trl.default, metadata={"help": f"{of_trl.metadata['help']} {addition}"})


@dataclass
class HumanlineGRPOConfig(HumanlineOptions, _Config):
    """TRL's `GRPOConfig` with the options of `HumanlineOptions`.

    Raises:
        ValueError: if an option is out of bounds, or has no humanline meaning.
    """

    positive: ClassVar = frozenset(
        {"sapo_temperature_pos", "sapo_temperature_neg", "delta", "off_policy_mask_threshold"}
    )

    loss_type: str = _with_help(
        "loss_type",
        "With humanline, the ratio is the perceived one, token by token. cispo and vespo weigh "
        "log-probabilities; there, too, tokens beyond the bounds pass no gradient.",
    )
    importance_sampling_level: str = _with_help(
        "importance_sampling_level",
        "With humanline, a sequence's ratio comes from the mean of its tokens' perceived "
        "log-ratios.",
    )
    delta: float | None = _with_help("delta", "With humanline, it bounds the perceived ratio.")
    off_policy_mask_threshold: float | None = _with_help(
        "off_policy_mask_threshold",
        "With humanline, the distance is the perceived one to the reference; if vLLM samples, it "
        "is the distance to vLLM's probabilities.",
    )
    top_entropy_quantile: float = _with_help(
        "top_entropy_quantile", "Entropies are the policy's own, with humanline too."
    )
    entropy_coef: float = _with_help(
        "entropy_coef", "Entropies are the policy's own, with humanline too."
    )
    use_bias_correction_kl: bool | None = field(  # type: ignore[assignment]  # None until checked
        default=None,
        metadata={
            "help": "Multiply the KL penalty by the ratio, as TRL does. None: only with "
            "humanline=False, because the paper's penalty has no such factor."
        },
    )

    def __post_init__(self):
        if self.num_generations in (None, 1):
            raise ValueError(
                "num_generations must be at least 2, since advantages compare completions; "
                f"got {self.num_generations}"
            )
        super().__post_init__()
        self._require_generation_options()
        if self.reward_weights and not any(self.reward_weights):
            raise ValueError("reward_weights are all 0, so nothing is rewarded; raise one")
        for name, known in _KNOWN.items():
            if self.humanline and getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} has no humanline meaning; choose one of "
                    f"{', '.join(known)}, or humanline=False"
                )
        for name in ("split_batches", "dispatch_batches"):
            if self.world_size > 1 and getattr(self.accelerator_config, name):
                raise ValueError(
                    f"accelerator_config: {name}=true gives a process rows of several rollouts; "
                    "leave it out"
                )
        if self.use_adaptive_entropy and self.entropy_coef_min > self.entropy_coef_max:
            raise ValueError(
                f"entropy_coef_min must be at most entropy_coef_max={self.entropy_coef_max}; "
                f"got {self.entropy_coef_min}"
            )
        if self.use_bias_correction_kl is None:
            self.use_bias_correction_kl = not self.humanline
        if self.humanline and self.use_bias_correction_kl and self.beta:
            raise ValueError(
                "use_bias_correction_kl=True has no humanline meaning: the paper's KL penalty is "
                "not multiplied by the ratio. Leave it out, or set humanline=False"
            )
        narrowing = self.narrowing()
        compares = "vllm_importance_sampling_correction", "off_policy_mask_threshold"
        biased = [name for name in compares if getattr(self, name)]
        if self.use_vllm and narrowing and biased:
            raise ValueError(
                f"{biased[0]} is biased by {narrowing}: vLLM then samples from a part of the "
                "policy alone, and TRL's ratio ignores that; switch it off, as in the authors' code"
            )

    def _require_generation_options(self) -> None:
        """Refuse keys of `generation_kwargs` that transformers would pass over in silence."""
        given = self.generation_kwargs
        if not isinstance(given, dict) or self.use_vllm:  # vLLM refuses them itself
            return
        if unknown := sorted(set(given) - set(GenerationConfig().to_dict())):
            raise ValueError(f"generation_kwargs has no option {unknown[0]!r}; mend its spelling")
        if given.get("num_return_sequences", 1) != 1:
            raise ValueError(
                "generation_kwargs: num_return_sequences is for num_generations to say; remove it"
            )

    def narrowing(self) -> str | None:
        """Name an option, with its value, that makes sampling leave the policy's distribution.

        Returns:
            "name=value", or None if sampling is from the policy's own distribution.
        """
        options = dict(self.generation_kwargs or {})
        of_config = {"temperature": (self.temperature,)}
        for name, (neutral, *others) in (_SAMPLES_ALL | of_config).items():
            value = options.get(name, getattr(self, name, neutral))
            if value not in (neutral, *others):
                return f"{name}={value!r}"
        return None
