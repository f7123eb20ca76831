"""What all training runs of a task share, and the hyperparameters of each objective."""

from pydantic import Field, model_validator

from humanline.files.validation import Strict, fault, pick
from humanline.study.scale.sampling import Sampling
from humanline.study.values import Objective, PositiveInt, RateList


class ObjectiveConfig(Strict):
    """Hyperparameters of one objective. `batch_size` counts pairs (DPO), completions (others)."""

    batch_size: int = Field(gt=0, description="per optimizer step, over all devices")
    beta: float = Field(ge=0, description="weight of the divergence from the reference model")
    epsilon: float = Field(0.2, gt=0, lt=1, description="GRPO's clip range around a ratio of 1")
    desirable_weight: float = Field(1.0, gt=0, description="KTO's weight of desirable examples")


class Training(Strict):
    """What all runs of a task share."""

    steps: int = Field(gt=0, description="optimizer steps of every run")
    evaluate_every: int = Field(gt=0, description="optimizer steps between kept checkpoints")
    group_size: int = Field(8, ge=2, description="completions per prompt")
    micro_batch_size: PositiveInt | None = Field(
        None, description="per device and backward pass; null: the whole batch"
    )
    learning_rate: float = Field(gt=0, description="where tuning chose none")
    tune_learning_rates: RateList = Field(description="what tuning tries")
    warmup_steps: int = Field(ge=0, description="optimizer steps until the full learning rate")
    max_grad_norm: float = Field(1.0, ge=0, description="gradients are clipped to this norm")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, per unit of learning rate")
    adam_epsilon: float = Field(1e-5, gt=0, description="added to AdamW's denominator")
    bf16: bool = Field(False, description="compute in bfloat16")
    gradient_checkpointing: bool = Field(False, description="recompute activations, save memory")
    max_length: PositiveInt | None = Field(None, description="tokens of prompt and completion")
    min_score_difference: float = Field(
        0.01, ge=0, description="of a pair's chosen over its rejected"
    )
    sampling: Sampling = Field(description="how training's completions are drawn")
    objectives: dict[Objective, ObjectiveConfig] = Field(
        min_length=1, description="hyperparameters of each objective that a table may use"
    )

    @property
    def save_every(self) -> int:
        """Steps between checkpoints: all that are evaluated, and no more than a quarter to lose."""
        quarter = max(1, self.steps // 4)
        return max(d for d in range(1, quarter + 1) if self.evaluate_every % d == 0)

    @model_validator(mode="after")
    def _completions_differ(self):
        if self.sampling.temperature == 0:
            reason = "0 draws the same completion again and again; make it more"
            raise fault("sampling.temperature", reason)
        if self.sampling.stop:
            reason = "training samples until the end token, as TRL does; remove it"
            raise fault("sampling.stop", reason)
        return self

    @model_validator(mode="after")
    def _batches_fit(self):
        for name, objective in self.objectives.items():
            if found := self.objective_fault(name, objective):
                field, reason = found
                raise fault(f"objectives.{name}.{field}", reason)
        if "kto" in self.objectives and self.micro_batch_size and self.micro_batch_size % 2:
            raise fault("micro_batch_size", f"{self.micro_batch_size} is odd; KTO needs it even")
        return self

    def share(self, batch_size: int, devices: int) -> tuple[int, int]:
        """A device's part of a batch: examples per backward pass, backward passes per step."""
        micro = self.micro_batch_size or batch_size // devices
        return micro, batch_size // (micro * devices)

    def objective_fault(
        self, name: str, options: ObjectiveConfig, devices: int = 1
    ) -> tuple[str, str] | None:
        """The field of an objective's options that is wrong, and reason and remedy, if any is."""
        size = options.batch_size
        group = pick("objective", name, {"dpo": 1, "kto": 1, "grpo": self.group_size})
        factors = {"training.micro_batch_size": self.micro_batch_size or 1}
        factors["training.group_size"] = group
        for key, factor in factors.items():
            if size % factor:
                return "batch_size", f"{size} is not a multiple of {key}, {factor}; change either"
        if name == "kto" and size % 2:
            reason = f"{size} is odd; KTO pairs desirable with undesirable examples: make it even"
            return "batch_size", reason
        micro = self.micro_batch_size or (2 if name == "kto" else 1)
        if size % (devices * micro):
            reason = f"{size} does not divide among {devices} devices, {micro} at once on each"
            remedy = "change it, training.micro_batch_size or resources.train.gpu"
            return "batch_size", f"{reason}; {remedy}"
        if name != "grpo" and not options.beta:
            return "beta", f"{name} learns nothing at 0; make it more"
        return None
