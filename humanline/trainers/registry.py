"""The registry of objectives: the rest of the package knows a loss by its row here.

An objective of this package is one file of this folder, with a trainer and its config, and one row
of `OBJECTIVES`. Your own objective is a module with `OBJECTIVE = Objective(...)`; its name is the
module's dotted path. Snakefiles import this module, so it must be cheap: it names classes by
strings, "module:Class", and `trainers.classes` imports them when they are needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import Field

from humanline.files import user_code
from humanline.files.validation import ConfigError, Strict, pick

# Columns of the rows that users write.
PAIRED = frozenset({"chosen", "rejected"})
LABELLED = frozenset({"prompt", "completion", "label"})
STORED = frozenset({"prompt", "completions", "scores"})
PROMPTS = frozenset({"prompt"})


@dataclass(frozen=True)
class View:
    """How an objective sees its data. A group is a prompt's completions with their scores.

    Args:
        rows: "module:function"; the function makes a trainer's rows from scored groups and the
            least difference of scores in a pair.
        columns: sets of columns; a recipe's rows must have one of them. With `PAIRED` the prompt
            may be missing.
        completions: how many completions of an example the policy is trained on.
        examples_of_pair: how many examples the best and the worst completion of a group make.
            None: every completion of a group is an example, and a batch has whole groups.
        sampled_columns: as `columns`, for a recipe that samples completions itself.
        script: "module:Class"; TRL's class of a recipe's arguments besides the config.
        is_in_order: whether TRL trains on rows in the order of the dataset; a recipe then shuffles.
    """

    rows: str
    columns: tuple[frozenset[str], ...]
    completions: int
    examples_of_pair: int | None
    sampled_columns: tuple[frozenset[str], ...] = ()
    script: str = "trl:ScriptArguments"
    is_in_order: bool = False

    @property
    def takes_groups(self) -> bool:
        """Whether a batch has whole groups. Online, its trainer then samples without rounds."""
        return self.examples_of_pair is None

    @property
    def has_halves(self) -> bool:
        """Whether a pair makes two examples, a desirable and an undesirable one."""
        return self.examples_of_pair == 2

    def examples_of(self, group_size: int) -> int:
        """Count the examples that a group of `group_size` completions makes."""
        return group_size if self.examples_of_pair is None else self.examples_of_pair

    def least_difference(self, of_pair: float) -> float:
        """Give the least difference of scores that makes a group useful.

        Args:
            of_pair: the least difference in a pair. Whole groups need no pair: the result is 0.
        """
        return 0 if self.takes_groups else of_pair


PAIRS = View(
    rows=".rows.preferences:pairs",
    columns=(PAIRED,),
    completions=2,
    examples_of_pair=1,
)
LABELS = View(
    rows=".rows.preferences:labelled",
    columns=(PAIRED, LABELLED),
    completions=1,
    examples_of_pair=2,
    is_in_order=True,
)
GROUPS = View(
    rows=".rows.preferences:stored_groups",
    columns=(STORED,),
    completions=1,
    examples_of_pair=None,
    sampled_columns=(PROMPTS,),
    script="trl.scripts.grpo:GRPOScriptArguments",
)


class Options(Strict):
    """The hyperparameters that a study sets for an objective, in `training.objectives`.

    An objective with more hyperparameters has a subclass. Those that are not in `OF_STUDIES` are
    options of the objective's config, with the same names.
    """

    OF_STUDIES: ClassVar[frozenset[str]] = frozenset({"batch_size", "online_max_grad_norm"})
    # Those that no row overrides: it overrides max_grad_norm.
    OF_SCALES: ClassVar[frozenset[str]] = frozenset({"online_max_grad_norm"})

    batch_size: int = Field(gt=0, description="examples per optimizer step, over all devices")
    beta: float = Field(ge=0, description="weight of the divergence from the reference model")
    # A hash of the options has it only if it is used.
    online_max_grad_norm: float | None = Field(
        None,
        gt=0,
        exclude_if=lambda norm: norm is None,
        description="of plain online training: gradients are clipped to this norm; null: to "
        "training.max_grad_norm, as all other gradients",
    )


def with_overrides(options: Options, overrides: Mapping[str, float]) -> Options:
    """Apply the overrides that name one of the options, and ignore the others.

    Raises:
        ValidationError: if a value is out of bounds.
    """
    own = {key: value for key, value in overrides.items() if key in type(options).model_fields}
    # Not strictly: an override of a whole number is a float that has no fraction.
    return type(options).model_validate(options.model_dump() | own, strict=False)


class AnchoredOptions(Options):
    """The hyperparameters of an objective that has a reference for an anchor."""

    sft_weight: float = Field(
        0.0,
        ge=0,
        description="of humanline: weight of the chosen completions' plain likelihood, an anchor",
    )


class WeightedOptions(AnchoredOptions):
    """The hyperparameters of an objective on labelled completions."""

    desirable_weight: float = Field(1.0, gt=0, description="weight of desirable examples")
    undesirable_weight: float = Field(1.0, ge=0, description="weight of undesirable examples")


class ClippedOptions(Options):
    """The hyperparameters of an objective on groups, whose loss clips ratios."""

    epsilon: float = Field(0.2, gt=0, lt=1, description="clip range around a ratio of 1")


@dataclass(frozen=True)
class Objective:
    """A loss, and all that is needed to train with it.

    Args:
        label: its name in tables.
        view: how it sees its data.
        trainer: "module:Class"; a TRL trainer with the mixin `HumanlineTrainer` before it.
        config: "module:Class"; a TRL config with the mixin `HumanlineOptions` before it.
        options: the hyperparameters that a study may set, with defaults.
        arguments: options of the config that every run of a study has.
        humanline_only: the hyperparameters without a meaning where humanline is off.
        needs_beta: whether the loss has no gradient if beta is 0.
        scored_besides: completions of an example that are scored without a gradient, for the plan.
        name: its key in the registry. The registry sets it.
    """

    label: str
    view: View
    trainer: str
    config: str
    options: type[Options] = Options
    arguments: Mapping[str, Any] = field(default_factory=dict)
    humanline_only: frozenset[str] = frozenset()
    needs_beta: bool = True
    scored_besides: int = 0
    name: str = ""

    def __post_init__(self):
        if not isinstance(self.label, str) or not self.label.strip():
            raise ConfigError(f"label: {self.label!r} is no text; write its name in tables")
        if not isinstance(self.view, View):
            raise ConfigError(f"view: {self.view!r} is no View; use PAIRS, LABELS or GROUPS")
        if not isinstance(self.options, type) or not issubclass(self.options, Options):
            raise ConfigError(f"options: {self.options!r} is no class of Options; derive it of it")

    @property
    def own_names(self) -> list[str]:
        """The "module:name" of its classes and functions outside this folder."""
        named = (self.trainer, self.config, self.view.rows)
        return [text for text in named if not text.startswith(".")]

    @property
    def modules(self) -> list[str] | None:
        """The modules here with its classes and functions, by dotted names within the package.

        None: your own ones, which may import any.
        """
        if self.own_names:
            return None
        named = (self.trainer, self.config, self.view.rows)
        return [f"trainers{text.partition(':')[0]}" for text in named]

    def require_code(self) -> None:
        """Check your own code without running it: it is imported only when training starts.

        Raises:
            ConfigError: one line, if a name leads nowhere or a module is not Python.
        """
        try:
            for text in self.own_names:
                if ":" not in text:
                    raise ConfigError(f"{text!r} names no class or function; write module:name")
                user_code.require(text.replace(":", "."))
            user_code.sources(self.name)
        except ValueError as error:
            raise ConfigError(f"objective: {error}") from error

    def identity(self) -> dict:
        """Collect the parts of this row, and of your own code, that decide a trained model.

        Hashes of runs contain them.
        """
        found: dict[str, Any] = {"trainer": self.trainer, "config": self.config}
        found |= {"rows": self.view.rows, "examples_of_pair": self.view.examples_of_pair}
        found |= self.arguments
        if self.name not in OBJECTIVES:
            own = {text.partition(":")[0] for text in self.own_names}
            found["code"] = user_code.source_hash(self.name, *own)
        return found


_ROWS = {
    "dpo": Objective(
        label="DPO",
        view=PAIRS,
        trainer=".dpo:HumanlineDPOTrainer",
        config=".dpo:HumanlineDPOConfig",
        options=AnchoredOptions,
        humanline_only=frozenset({"sft_weight"}),
    ),
    "kto": Objective(
        label="KTO",
        view=LABELS,
        trainer=".kto:HumanlineKTOTrainer",
        config=".kto:HumanlineKTOConfig",
        options=WeightedOptions,
        humanline_only=frozenset({"sft_weight"}),
        scored_besides=1,  # the mismatched completion of its KL term
    ),
    "grpo": Objective(
        label="GRPO",
        view=GROUPS,
        trainer=".grpo:HumanlineGRPOTrainer",
        config=".grpo:HumanlineGRPOConfig",
        options=ClippedOptions,
        # All variants have the KL penalty of the paper.
        arguments={"loss_type": "dapo", "use_bias_correction_kl": False},
        needs_beta=False,
    ),
}
OBJECTIVES: dict[str, Objective] = {name: replace(row, name=name) for name, row in _ROWS.items()}


def find_objective(name: str) -> Objective:
    """Find an objective by its name: a key of `OBJECTIVES`, or your own module's dotted path.

    Raises:
        ConfigError: if there is no such objective, or the module is not one.
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    if not user_code.is_module(name):
        return pick("objective", name, OBJECTIVES)  # raises the error with the known names
    try:
        found = user_code.load(name, "OBJECTIVE")
    except ConfigError as error:
        raise ConfigError(f"objective: {error}; mend that module") from error
    if not isinstance(found, Objective):
        kind = type(found).__name__
        raise ConfigError(f"objective: {name}.OBJECTIVE is {kind}, not an Objective; mend it")
    return replace(found, name=name)


def option_names() -> list[str]:
    """List the hyperparameters of all objectives of this package, once each."""
    found = [name for row in OBJECTIVES.values() for name in row.options.model_fields]
    return list(dict.fromkeys(found))


def takers_of_groups() -> list[str]:
    """List the labels of this package's objectives that take whole groups."""
    return [row.label for row in OBJECTIVES.values() if row.view.takes_groups]
