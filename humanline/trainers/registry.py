"""The registry of objectives: what the rest of the package knows of a loss, by its name.

An objective of this package is one file of this folder, with a trainer and its config, and one row
of `OBJECTIVES`. An objective of a user's own is a module with `OBJECTIVE = Objective(...)`, and its
name is the module's dotted path. Snakefiles import this module, so it is cheap: it names classes
by strings, "module:Class", which `trainers.classes` imports when they are needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

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
    """What an objective trains on of a group: a prompt's completions with their scores.

    Args:
        rows: the function that makes a trainer's rows of scored groups and the least difference of
            scores in a pair, as "module:function".
        columns: sets of columns, one of which a recipe's rows have; those of `PAIRED` may lack the
            prompt.
        completions: of an example, on which the policy is trained.
        examples_of_pair: how many examples the best and the worst completion of a group are; None:
            every completion of a group is an example, and a batch has whole groups.
        sampled_columns: the same as `columns` where a recipe samples completions itself.
        script: TRL's arguments of a recipe besides the config, as "module:Class".
        is_in_order: whether TRL trains on the rows in the order of the dataset, so that a recipe
            has to shuffle them.
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
        """Whether a batch has whole groups; online its trainer samples them, without rounds."""
        return self.examples_of_pair is None

    @property
    def has_halves(self) -> bool:
        """Whether a pair is two examples, a desirable and an undesirable one."""
        return self.examples_of_pair == 2

    def examples_of(self, group_size: int) -> int:
        """How many examples one group of completions gives."""
        return group_size if self.examples_of_pair is None else self.examples_of_pair

    def least_difference(self, of_pair: float) -> float:
        """What scores of a group must differ by to be learned from; groups need no pair.

        Args:
            of_pair: what those of a pair must differ by.
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
    """What a study sets of an objective in `training.objectives`.

    An objective with more hyperparameters has a subclass. All but `batch_size`, which counts
    examples, are options of the objective's config, by the same names.
    """

    batch_size: int = Field(gt=0, description="examples per optimizer step, over all devices")
    beta: float = Field(ge=0, description="weight of the divergence from the reference model")


def with_overrides(options: Options, overrides: Mapping[str, float]) -> Options:
    """The options with those overrides that are among them.

    Raises:
        ValidationError: if a value is out of bounds.
    """
    own = {key: value for key, value in overrides.items() if key in type(options).model_fields}
    return type(options).model_validate(options.model_dump() | own)


class WeightedOptions(Options):
    """Of an objective on labelled completions."""

    desirable_weight: float = Field(1.0, gt=0, description="weight of desirable examples")


class ClippedOptions(Options):
    """Of an objective on groups, whose loss clips ratios."""

    epsilon: float = Field(0.2, gt=0, lt=1, description="clip range around a ratio of 1")


@dataclass(frozen=True)
class Objective:
    """A loss, and what is to be known of it to train with it.

    Args:
        label: what tables call it.
        view: what it trains on.
        trainer, config: classes, as "module:Class"; a trainer is a TRL trainer with
            `HumanlineTrainer` before it, a config one with `HumanlineOptions` before it.
        options: what a study may set, and its defaults.
        arguments: of the config, that every run of a study has.
        needs_beta: whether the loss has no gradient where beta is 0.
        scored_besides: completions of an example that are scored without a gradient, for the plan.
        name: its key in the registry, which sets it.
    """

    label: str
    view: View
    trainer: str
    config: str
    options: type[Options] = Options
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs_beta: bool = True
    scored_besides: int = 0
    name: str = ""

    def identity(self) -> dict:
        """What of this row, or of a user's own code, a trained model depends on; for hashes."""
        found = {"trainer": self.trainer, "rows": self.view.rows, **self.arguments}
        if self.name not in OBJECTIVES:
            named = (self.trainer, self.config, self.view.rows)
            modules = {text.partition(":")[0] for text in named} - {""}
            own = {name for name in modules if not name.startswith(".")}
            found["code"] = user_code.source_hash(self.name, *own)
        return found


_ROWS = {
    "dpo": Objective(
        label="DPO",
        view=PAIRS,
        trainer=".dpo:HumanlineDPOTrainer",
        config=".dpo:HumanlineDPOConfig",
    ),
    "kto": Objective(
        label="KTO",
        view=LABELS,
        trainer=".kto:HumanlineKTOTrainer",
        config=".kto:HumanlineKTOConfig",
        options=WeightedOptions,
        scored_besides=1,  # the mismatched completion of its KL term
    ),
    "grpo": Objective(
        label="GRPO",
        view=GROUPS,
        trainer=".grpo:HumanlineGRPOTrainer",
        config=".grpo:HumanlineGRPOConfig",
        options=ClippedOptions,
        # The paper's penalty, for all variants.
        arguments={"loss_type": "dapo", "use_bias_correction_kl": False},
        needs_beta=False,
    ),
}
OBJECTIVES: dict[str, Objective] = {name: replace(row, name=name) for name, row in _ROWS.items()}


def find_objective(name: str) -> Objective:
    """The objective of a name: one of `OBJECTIVES`, or the dotted path of a user's own module.

    Raises:
        ConfigError: if there is no such objective, or the module is not one.
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    if not user_code.is_module(name):
        return pick("objective", name, OBJECTIVES)  # the error with the known names
    try:
        found = user_code.load(name, "OBJECTIVE")
    except ConfigError as error:
        raise ConfigError(f"objective: {error}; mend that module") from error
    if not isinstance(found, Objective):
        kind = type(found).__name__
        raise ConfigError(f"objective: {name}.OBJECTIVE is {kind}, not an Objective; mend it")
    return replace(found, name=name)


def option_names() -> list[str]:
    """The hyperparameters of all objectives of this package, once each."""
    found = [name for row in OBJECTIVES.values() for name in row.options.model_fields]
    return list(dict.fromkeys(found))
