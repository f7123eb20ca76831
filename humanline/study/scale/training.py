"""The options that all runs of a task share, and the hyperparameters of each objective."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from humanline.files.validation import ConfigError, Strict, fault, first_fault
from humanline.study.scale.sampling import Sampling
from humanline.study.values import MOST, Lora, Objective, PositiveInt, RateList
from humanline.trainers.registry import OBJECTIVES, Options, find_objective


def _each_as_registered(given):
    """Validate each objective's hyperparameters by its row of the registry."""
    if not isinstance(given, dict):
        return given
    return {name: _options(name, options) for name, options in given.items()}


def _options(name, given):
    if not isinstance(given, dict) or not isinstance(name, str):
        return given  # pydantic refuses it afterwards
    try:
        kind = find_objective(name).options
    except ConfigError:  # the validator of names tells it
        return given
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        field, _, reason = first_fault(error, given).partition(": ")
        raise fault(f"{name}.{field}", reason) from None


class _OptionsByName:
    """The JSON schema of `objectives`: each known objective with its own hyperparameters."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema, handler):
        found = handler(schema)
        known = {
            name: handler(row.options.__pydantic_core_schema__) for name, row in OBJECTIVES.items()
        }
        return found | {"properties": known, "additionalProperties": {"type": "object"}}


OptionsByName = Annotated[
    dict[Objective, SerializeAsAny[Options]],
    Field(min_length=1),
    BeforeValidator(_each_as_registered),
    _OptionsByName,
]


class Training(Strict):
    """The options that all runs of a task share."""

    steps: PositiveInt = Field(description="optimizer steps of every run")
    evaluate_every: PositiveInt = Field(description="optimizer steps between kept checkpoints")
    group_size: int = Field(8, ge=2, le=MOST, description="completions per prompt")
    micro_batch_size: PositiveInt | None = Field(
        None, description="examples per device and backward pass; null: the whole batch"
    )
    learning_rate: float = Field(gt=0, description="learning rate of runs without a tuned one")
    tune_learning_rates: RateList = Field(description="learning rates that tuning tries")
    wider_learning_rates: RateList | None = Field(
        None,
        description="rates below and above them, tried by the variants whose best is the lowest or "
        "highest of them",
    )
    # Cells have it, so no hash of these options does.
    lora: Lora | None = Field(
        None,
        description="adapters that train in all runs whose row has no lora; null: the whole model",
    )
    lora_rate_factor: float = Field(
        10.0,
        gt=0,
        description="a run with LoRA has the rate of one without, times this, unless its own rate "
        "is tuned or given; tuning multiplies the rates that it tries",
    )
    warmup_steps: int = Field(
        ge=0, le=MOST, description="optimizer steps until the full learning rate"
    )
    # A hash of the options has it only if it is used.
    warmup_from: float = Field(
        0.0,
        ge=0,
        lt=1,
        exclude_if=lambda share: share == 0,
        description="share of the learning rate at the first of them",
    )
    max_grad_norm: float = Field(1.0, ge=0, description="gradients are clipped to this norm")
    weight_decay: float = Field(
        0.01, ge=0, description="AdamW's; it is multiplied by the learning rate"
    )
    adam_epsilon: float = Field(1e-5, gt=0, description="added to AdamW's denominator")
    bf16: bool = Field(False, description="compute in bfloat16")
    # A hash of the options has it only if it is used.
    save_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        exclude_if=lambda dtype: dtype == "float32",
        description="number format of the models that runs keep; bfloat16 halves the disk, and "
        "changes no sample of an engine whose dtype it is",
    )
    # No result depends on it, so no hash of the options has it.
    resumable: bool = Field(
        True,
        exclude=True,
        description="keep optimizer states, which are twice as large as the model, so that an "
        "interrupted run continues; false: it begins again, as is right for runs of minutes",
    )
    gradient_checkpointing: bool = Field(False, description="recompute activations, save memory")
    max_length: PositiveInt | None = Field(
        None, description="limit in tokens of prompt and completion"
    )
    min_score_difference: float = Field(
        0.01, ge=0, description="least difference of scores between a pair's two completions"
    )
    sampling: Sampling = Field(description="how training's completions are drawn")
    objectives: OptionsByName = Field(
        description="hyperparameters of each objective that a table may use"
    )

    @property
    def evaluations(self) -> int:
        """The number of a run's checkpoints that may be evaluated, with the last."""
        return -(-self.steps // self.evaluate_every)

    @property
    def save_every(self) -> int:
        """Steps between checkpoints: a divisor of `evaluate_every`, at most a quarter of a run.

        Without checkpoints to resume from, `evaluate_every`.
        """
        if not self.resumable:
            return self.evaluate_every
        quarter = max(1, self.steps // 4)
        return max(d for d in range(1, quarter + 1) if self.evaluate_every % d == 0)

    @property
    def batches_of_groups(self) -> dict[str, int]:
        """The batch sizes of the objectives that train on whole groups, by name."""
        return {
            name: options.batch_size
            for name, options in self.objectives.items()
            if find_objective(name).view.takes_groups
        }

    @model_validator(mode="after")
    def _completions_differ(self) -> Self:
        if self.sampling.temperature == 0:
            reason = "0 draws the same completion again and again; raise it"
            raise fault("sampling.temperature", reason)
        if self.sampling.stop:
            reason = "training samples until the end token, as TRL does; remove it"
            raise fault("sampling.stop", reason)
        return self

    @model_validator(mode="after")
    def _wider_is_outside(self) -> Self:
        lowest, highest = min(self.tune_learning_rates), max(self.tune_learning_rates)
        for index, rate in enumerate(self.wider_learning_rates or []):
            if lowest <= rate <= highest:
                reason = f"tune_learning_rates go from {lowest} to {highest}; give a rate beyond"
                raise fault(f"wider_learning_rates.{index}", reason)
        return self

    @model_validator(mode="after")
    def _reaches_its_rate(self) -> Self:
        if self.warmup_steps > self.steps:
            reason = f"{self.warmup_steps}, but steps is {self.steps}, so no step has the full rate"
            raise fault("warmup_steps", f"{reason}; lower it")
        return self

    @model_validator(mode="after")
    def _batches_fit(self) -> Self:
        for name, options in self.objectives.items():
            if options.batch_size > MOST:
                raise fault(f"objectives.{name}.batch_size", f"more than {MOST}; lower it")
            if found := self.objective_fault(name, options):
                field, reason = found
                raise fault(f"objectives.{name}.{field}", reason)
        micro = self.micro_batch_size
        for row in map(find_objective, self.objectives):
            if micro and row.view.has_halves and micro % 2:
                raise fault("micro_batch_size", f"{micro} is odd; {row.label} needs it even")
        return self

    def share(self, batch_size: int, devices: int) -> tuple[int, int]:
        """Divide a batch among devices.

        Args:
            batch_size: examples per step, over all devices.
            devices: the number of devices.

        Returns:
            Examples per backward pass, and backward passes per step, on each device.
        """
        micro = self.micro_batch_size or batch_size // devices
        return micro, batch_size // (micro * devices)

    def objective_fault(
        self, name: str, options: Options, devices: int = 1
    ) -> tuple[str, str] | None:
        """Find the first fault of an objective's hyperparameters.

        Args:
            name: the objective.
            options: its hyperparameters.
            devices: the number of devices that train together.

        Returns:
            The field, and reason with remedy. None: there is no fault.
        """
        row, size = find_objective(name), options.batch_size
        factors = {"training.micro_batch_size": self.micro_batch_size or 1}
        factors["training.group_size"] = self.group_size if row.view.takes_groups else 1
        for key, factor in factors.items():
            if size % factor:
                return "batch_size", f"{size} is not a multiple of {key}, {factor}; change either"
        if row.view.has_halves and size % 2:
            reason = f"{size} is odd; {row.label} pairs desirable with undesirable examples"
            return "batch_size", f"{reason}: make it even"
        micro = self.micro_batch_size or (2 if row.view.has_halves else 1)
        if size % (devices * micro):
            reason = f"{size} does not divide among {devices} devices, {micro} at once on each"
            remedy = "change it, training.micro_batch_size or resources.train.gpu"
            return "batch_size", f"{reason}; {remedy}"
        if row.needs_beta and not options.beta:
            return "beta", f"{name} learns nothing at 0; raise it"
        return None
