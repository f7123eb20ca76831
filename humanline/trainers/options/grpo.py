"""The options of GRPO and its humanline variant."""

from dataclasses import dataclass, field
from typing import ClassVar

from trl import GRPOConfig

from humanline.trainers.options.humanline import HumanlineOptions

# Values of options of sampling that leave the policy's distribution, at its temperature, as it is.
_SAMPLES_ALL = {
    "top_p": (1.0, None),
    "top_k": (0, -1, None),
    "min_p": (None, 0.0),
    "repetition_penalty": (1.0, None),
    "vllm_structured_outputs_regex": (None,),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "min_tokens"), (0, None)),
    **dict.fromkeys(("structured_outputs", "allowed_token_ids", "logits_processors"), (None,)),
    **dict.fromkeys(("logit_bias", "bad_words"), (None, {}, [])),
}


@dataclass
class HumanlineGRPOConfig(HumanlineOptions, GRPOConfig):
    """TRL's `GRPOConfig` with `humanline`, `log_eps_p`, `log_eps_r` and `sync_interval`."""

    needs: ClassVar = {
        "importance_sampling_level": ("token", "humanline perceives token by token"),
        "sync_ref_model": (False, "humanline syncs the reference itself, before the update"),
        "use_liger_kernel": (False, "Liger's fused loss cannot perceive log-ratios"),
        "top_entropy_quantile": (1.0, "the paper's loss counts all tokens"),
        "entropy_coef": (0.0, "the paper's loss has no entropy bonus"),
        "off_policy_mask_threshold": (None, "clipping takes the place of masking"),
        "delta": (None, "clipping takes the place of the second bound"),
        "use_adaptive_entropy": (False, "the paper's loss has no entropy bonus"),
    }
    use_bias_correction_kl: bool | None = field(
        default=None,
        metadata={
            "help": "Multiply the KL penalty by the ratio, as TRL does. None: with humanline=False "
            "alone, for the paper's penalty has no such factor."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.humanline and self.loss_type not in ("grpo", "bnpo", "dapo", "dr_grpo"):
            raise ValueError(
                f"loss_type={self.loss_type!r} has no humanline meaning; choose grpo, bnpo, dapo "
                "or dr_grpo, or humanline=False"
            )
        for name in ("split_batches", "dispatch_batches"):
            if self.world_size > 1 and getattr(self.accelerator_config, name):
                raise ValueError(
                    f"accelerator_config: {name}=true gives a process rows of several rollouts; "
                    "leave it out"
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
                f"{biased[0]} is biased by {narrowing}, for vLLM then samples from a part of the "
                "policy that TRL's ratio does not know; switch it off, as in the authors' code"
            )

    def narrowing(self) -> str | None:
        """The option, if any, by which sampling is from another distribution than the policy's."""
        options = dict(self.generation_kwargs or {})
        of_config = {"temperature": (self.temperature,)}
        for name, (neutral, *others) in (_SAMPLES_ALL | of_config).items():
            value = options.get(name, getattr(self, name, neutral))
            if value not in (neutral, *others):
                return f"{name}={value!r}"
        return None
