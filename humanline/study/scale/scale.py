"""A scale: one file of workflow/config, every option with its bounds and default.

`load_scale` reads such a file and refuses unknown options; the error is one line with the file, the
field and the remedy. Snakefiles import this module, so it is cheap.
"""

import itertools
from importlib.util import find_spec
from inspect import signature
from os.path import normpath, realpath, relpath
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from humanline.files.validation import ConfigError, Strict, at, fault, load_yaml, validate
from humanline.study.scale.data import Data
from humanline.study.scale.judges import Judge
from humanline.study.scale.models import AnyModel, Model
from humanline.study.scale.plan import Assumptions, Resources
from humanline.study.scale.rewards import Reward
from humanline.study.scale.sampling import Generation, Sampling
from humanline.study.scale.training import Training
from humanline.study.tasks import Task, TaskName, find_task
from humanline.study.values import FileName, SeedList, Stage, distinct

RELEASED = "reference"  # the folder of the results that are shipped, beside those of the scales
_MODELS = ("base_models", "absent_models")  # no name is in both
_MOST_BELOW = 20  # files that a scale extends, one on top of the other


def _installed(name: str) -> str:
    """Refuse a tracker whose package is missing, before a job runs."""
    if find_spec(name) is None:
        reason = f"{name} needs the package {name}, which is not installed; pip install {name}"
        raise fault("", f"{reason}, or remove it")
    return name


# The names by which transformers' Trainer knows them; each is also its package's.
Tracker = Annotated[Literal["tensorboard", "trackio", "wandb"], AfterValidator(_installed)]


# The prompts that models, rewards and judges of a kind understand, by the kind of data; those of
# other kinds take any.
_MINIATURE = {"miniature": "the miniature's prompts"}
_ENGLISH = {"english": "prompts in English"}
_WORLDS = {
    "miniature": _MINIATURE,
    "proxy": _MINIATURE,
    "gold": _MINIATURE,
    "fine_tuned": _MINIATURE | _ENGLISH,
    "english_proxy": _ENGLISH,
    "english_gold": _ENGLISH,
}


class TaskConfig(Strict):
    """One task at one scale."""

    data: Data = Field(discriminator="kind", description="its prompts")
    base_model: AnyModel = Field(description="the model that training starts from")
    base_models: dict[
        Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)], AnyModel
    ] = Field({}, description="other models, by their names in rows of experiments.yaml")
    # No result depends on it: it says which runs there are.
    absent_models: dict[str, Annotated[str, Field(min_length=1)]] = Field(
        {},
        description="models of experiments.yaml that this scale lacks, by their names there, and "
        "why: rows of tables and tests of claims that name one are left out, and say so",
    )
    reward: Reward = Field(description="what scores completions for training")
    judge: Judge | None = Field(
        None, description="what compares outputs with references; null for a graded task"
    )
    training: Training = Field(description="what all runs share")
    evaluation: Sampling = Field(description="how the completions of the tables are drawn")

    @model_validator(mode="after")
    def _understands_its_prompts(self) -> Self:
        for name in {"base", "none"} & set(self.base_models):
            raise fault(f"base_models.{name}", "the name has a meaning of its own; use another")
        for name in set(self.absent_models) & set(self.base_models):
            raise fault(f"absent_models.{name}", "in base_models, too; remove one")
        parts = {"base_model": self.base_model, "reward": self.reward, "judge": self.judge}
        parts |= {f"base_models.{name}": model for name, model in self.base_models.items()}
        for field, part in parts.items():
            worlds = _WORLDS.get(part.kind if part else "")
            if part and worlds and self.data.kind not in worlds:
                known = " and ".join(worlds.values())
                reason = f"{part.kind} understands {known} only"
                raise fault(
                    f"{field}.kind", f"{reason}, but data.kind is {self.data.kind}; change either"
                )
        if self.data.kind == "hub" and (unknown := set(self.data.stored) - set(self.base_models)):
            raise fault(
                f"data.stored.{min(unknown)}", "not a name in base_models; add it there, or mend it"
            )
        self._require_divisor()
        return self

    def model(self, name: str | None) -> Model:
        """Return the options of a base model; None: of the task's own."""
        return self.base_models[name] if name else self.base_model

    @property
    def requests(self) -> int:
        """The number of requests that a judging job sends to an endpoint at the same time."""
        return getattr(self.judge, "concurrency", 0)

    @property
    def shards(self) -> set[int]:
        """The numbers of GPUs that share a model, for all models with such a number."""
        models = (self.base_model, *self.base_models.values())
        return {model.gpus for model in models if model.kind == "hub" and model.gpus}

    def _require_divisor(self):
        """Check that stored groups fill the batches of the objectives that take whole groups."""
        size = self.data.stored_group_size if self.data.kind == "hub" else None
        for name, batch in self.training.batches_of_groups.items():
            if size and batch % size:
                reason = f"{size} does not divide training.objectives.{name}.batch_size"
                raise fault("data.stored_group_size", f"{reason}, {batch}; change either")


def _world_fault(task: Task, config: TaskConfig) -> tuple[str, str] | None:
    """Find an option that the task's generated world does not have: field and reason."""
    models = {"base_model": config.base_model} | {
        f"base_models.{name}": model for name, model in config.base_models.items()
    }
    for field, part in ({"data": config.data} | models).items():
        if part.kind == "miniature" and task.draw_prompts is None:
            return f"{field}.kind", "miniature, but the task has no generated world; use hub"
        if part is config.data and not task.has_data(part.kind):
            return f"{field}.kind", f"{part.kind}, but the task has no such world; use hub"
    if ignored := task.ignored(config.data.kind, config.data.model_fields_set):
        return f"data.{min(ignored)}", "this task's world has no such option; remove it"
    lengths = getattr(config.data, "lengths", None)
    draw = task.draw_prompts
    if lengths and draw and "lengths" not in signature(draw).parameters:
        return "data.lengths", "the task's world has no lengths to wish for; remove it"
    return None


class Seeds(Strict):
    """The seeds: `report`, `sweep` and `more` decide; `tune` and `pilot` only prepare that."""

    report: SeedList = Field(description="seeds of the cells that a primary claim compares")
    sweep: SeedList | None = Field(
        None, description="seeds of all other cells, preferably some of report; null: report"
    )
    tune: SeedList = Field(description="seeds that choose learning rates")
    more: SeedList | None = Field(
        None, description="seeds that `snakemake decide` adds, in this order; null: none"
    )
    pilot: SeedList | None = Field(
        None, description="seeds that power is computed from, and that no table reports; null: tune"
    )

    @property
    def piloting(self) -> list[int]:
        """The seeds of the pilot."""
        return self.pilot or self.tune

    @property
    def validating(self) -> list[int]:
        """The seeds that are evaluated on validation prompts, and that no table reports."""
        return list(dict.fromkeys([*self.tune, *(self.pilot or [])]))

    def require_unreported(self, seeds: list[int], what: str) -> None:
        """Refuse preparations on seeds that decide.

        Args:
            seeds: seeds of a file of rates or of a pilot.
            what: what is done on them, for the error.

        Raises:
            ConfigError: the seeds, and the remedy.
        """
        deciding = {*self.report, *(self.sweep or []), *(self.more or [])}
        if both := sorted(deciding & set(seeds)):
            raise ConfigError(
                f"seeds: {both} are reported at this scale, and {what} on others alone; use others"
            )

    def split(self, seed: int) -> str:
        """Name the split for a seed's evaluation: validation if no table reports the seed."""
        return "validation" if seed in self.validating else "evaluation"

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        apart = list(itertools.product(("tune", "pilot"), ("report", "sweep")))
        apart += [("more", name) for name in ("report", "sweep", "tune", "pilot")]
        for own, name in apart:
            if both := set(getattr(self, name) or []) & set(getattr(self, own) or []):
                raise fault(own, f"shares {sorted(both)} with seeds.{name}; use other seeds")
        if self.pilot is not None and len(self.pilot) < 2:
            raise fault("pilot", f"{self.pilot} has no spread; add seeds, or remove it")
        return self


class Scale(Strict):
    """One file of workflow/config."""

    scale: FileName = Field(description="its name, the same as that of this file")
    description: str = Field(description="one line: what it is for")
    seeds: Seeds = Field(description="seeds of the runs")
    learning_rates: str | None = Field(
        None, min_length=1, description="file of tuned learning rates, relative to this file"
    )
    pilot: str | None = Field(
        None,
        min_length=1,
        description="file of the pilot by `snakemake power`, relative to this file: claims with "
        "too little power are refused; a scale that extends this one does not inherit it",
    )
    generation: Generation = Field(Generation(), description="what draws the completions")
    resources: dict[Stage, Resources] = Field({}, description="resources of each stage's jobs")
    plan: Assumptions | None = Field(None, description="assumptions of `snakemake plan`")
    report_to: Annotated[list[Tracker], AfterValidator(distinct)] = Field(
        [], description="where the metrics of training also go, besides each run's metrics.csv"
    )
    tasks: dict[TaskName, TaskConfig] = Field(min_length=1, description="the tasks, by name")

    @model_validator(mode="before")
    @classmethod
    def _no_bootstrap(cls, content: Any) -> Any:
        if isinstance(content, dict) and "bootstrap_replicates" in content:
            reason = "not used any more: intervals are t intervals over seeds; remove it"
            raise fault("bootstrap_replicates", reason)
        return content

    @model_validator(mode="after")
    def _fits_the_tasks(self) -> Self:
        for name, config in self.tasks.items():
            task, kind = find_task(name), config.reward.kind
            if kind not in task.rewards and not getattr(config.reward, "fits_every_task", True):
                right = " or ".join(task.rewards)
                raise fault(f"tasks.{name}.reward.kind", f"{kind} does not fit; use {right}")
            if task.scoring == "judge" and config.judge is None:
                raise fault(f"tasks.{name}.judge", "missing; add a judge, gold or openai")
            if task.scoring == "grade" and config.judge is not None:
                raise fault(f"tasks.{name}.judge", "the task is graded; remove it, or write null")
            if found := _world_fault(task, config):
                field, reason = found
                raise fault(f"tasks.{name}.{field}", reason)
        return self

    @model_validator(mode="after")
    def _devices_are_used(self) -> Self:
        for stage, resources in self.resources.items():
            if stage != "train" and resources.gpu > 1:
                reason = (
                    f"{resources.gpu}, but this stage takes 1; set gpus of a model that needs more"
                )
                raise fault(f"resources.{stage}.gpu", reason)
        for name, task in self.tasks.items():
            for objective, options in task.training.objectives.items():
                for devices in {self.devices, *task.shards}:
                    if found := task.training.objective_fault(objective, options, devices):
                        field, reason = found
                        raise fault(f"tasks.{name}.training.objectives.{objective}.{field}", reason)
        return self

    @model_validator(mode="after")
    def _plan_knows_the_models(self) -> Self:
        if self.plan is None:
            return self
        for name, task in self.tasks.items():
            if name not in self.plan.lengths:
                raise fault(f"plan.lengths.{name}", "missing; add this key")
            judging = getattr(task.judge, "model", None)
            for model in (task.base_model, *task.base_models.values(), task.reward, judging):
                if getattr(model, "kind", None) == "miniature":
                    raise fault("plan", f"knows no miniature models, but {name} has one; remove it")
                if (repo := getattr(model, "repo", None)) and repo not in self.plan.parameters:
                    raise fault(f"plan.parameters.{repo}", "missing; add this key")
        return self

    @property
    def devices(self) -> int:
        """The number of devices that train together."""
        return max(1, self.resources_for("train").gpu)

    @property
    def assumptions(self) -> Assumptions:
        """The assumptions of `snakemake plan`.

        Raises:
            ConfigError: if the scale has none.
        """
        if self.plan is None:
            raise ConfigError(f"scale {self.scale}: plan: missing; add it, as paper.yaml has it")
        return self.plan

    def resources_for(self, stage: Stage) -> Resources:
        """Return the resources of a stage's jobs."""
        return self.resources.get(stage, Resources())


def load_scale(path: Path) -> Scale:
    """Read and validate a scale's file, on top of the file that it `extends`.

    Raises:
        ConfigError: at the first fault, with file, field and remedy; also if the scale does not
            have the file's name.
    """
    own = load_yaml(path)
    scale = validate(Scale, _extended(path, own), path)
    with at(path):
        scale.generation.require_read(own.get("generation") or {})
    if scale.scale == RELEASED:
        raise ConfigError(f"{path}: scale: its results would be the released ones; rename it")
    if scale.scale != path.stem:
        raise ConfigError(
            f"{path}: scale: {scale.scale!r} is not the file's name; write {path.stem}, or its "
            "results would mix with those of the other file"
        )
    return scale


def _extended(path: Path, own: dict, *above: Path) -> dict:
    """Put a file's content on top of that of the file that its `extends` names, if it has one."""
    content = dict(own)
    if (name := content.pop("extends", None)) is None:
        return content
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"{path}: extends: {name!r} is no file; name one beside this file")
    if len(above) >= _MOST_BELOW:
        reason = f"{_MOST_BELOW} files extend each other"
        raise ConfigError(f"{path}: extends: {reason}; put them together")
    below = Path(normpath(path.parent / name))
    if realpath(below) in {realpath(file) for file in (path, *above)}:
        raise ConfigError(f"{path}: extends: {name!r} is not another file; name one")
    extended = _extended(below, load_yaml(below), path, *above)
    extended.pop("pilot", None)  # it measured the runs of the scale below
    if isinstance(plan := extended.get("plan"), dict):
        plan.pop("limits", None)  # what the scale below may take, by its tables
    rates = extended.get("learning_rates")
    if isinstance(rates, str) and below.parent != path.parent:  # relative to the file below
        extended["learning_rates"] = relpath(below.parent / rates, path.parent)
    return _overlay(_without_opposites(extended, content), content)


def _without_opposites(below: dict, above: dict) -> dict:
    """Remove absent models that the file above has, and models that it says are absent."""
    tasks = dict(_mapping(below, "tasks"))
    for task in tasks.keys() & _mapping(above, "tasks").keys():
        for key, opposite in (_MODELS, _MODELS[::-1]):
            said = _mapping(above, "tasks", task, key)
            if kept := _mapping(tasks, task, opposite):
                kept = {name: value for name, value in kept.items() if name not in said}
                tasks[task] = tasks[task] | {opposite: kept}
    return below | {"tasks": tasks} if tasks else below


def _mapping(content: dict, *keys: str) -> dict:
    """Return the mapping at a path of keys; an empty one where there is none."""
    for key in keys:
        found = content.get(key)
        content = found if isinstance(found, dict) else {}
    return content


def _overlay(below: dict, above: dict) -> dict:
    """Merge two mappings key by key; a mapping of another `kind`, or any other value, replaces."""
    both = below | above
    for key in below.keys() & above.keys():
        one, other = below[key], above[key]
        if isinstance(one, dict) and isinstance(other, dict):
            has_other_kind = other.get("kind", one.get("kind")) != one.get("kind")
            both[key] = other if has_other_kind else _overlay(one, other)
    return both
