"""The configuration of a scale: every option, its bounds, and the only place where defaults live.

`load_scale` reads one file of workflow/config and refuses what it does not know, with one line
that names the file, the field and the remedy. Snakefiles import this module, so it is cheap.
"""

from inspect import signature
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, model_validator

from humanline.files.validation import ConfigError, Strict, fault, load_yaml, pick, validate
from humanline.study.tasks import Task, TaskName, find_task

Objective = Literal["dpo", "kto", "grpo"]
Stage = Literal["data", "base_model", "offline", "train", "generate", "score", "table"]
PositiveInt = Annotated[int, Field(gt=0)]
OBJECTIVES: tuple[str, ...] = get_args(Objective)

# The paper's reward model, and all repositories whose own code may run, each at one commit.
ARMORM = ("RLHFlow/ArmoRM-Llama3-8B-v0.1", "eb2676d20da2f2d41082289d23c59b9f7427f955")
REMOTE_CODE = {ARMORM}


def _distinct(values: list) -> list:
    if twice := [value for index, value in enumerate(values) if value in values[:index]]:
        raise fault("", f"{twice[0]} is listed twice; remove one")
    return values


SeedList = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1), AfterValidator(_distinct)
]
RateList = Annotated[
    list[Annotated[float, Field(gt=0)]], Field(min_length=1), AfterValidator(_distinct)
]


class HubSource(Strict):
    """A repository on the Hugging Face hub, or a local folder in the same format."""

    repo_type: ClassVar[str] = "model"
    kind: Literal["hub"] = Field(description="from the Hugging Face hub or a local folder")
    repo: str = Field(description="owner/name on the hub, or a local path that starts with / or .")
    revision: str | None = Field(
        pattern=r"^[0-9a-f]{40}$",
        description="commit hash, without which nothing is fetched; null for a local path",
    )
    # A check, on which no result depends: so it is in no hash of the options.
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
        """Whether it is the same content for everyone, or one's own files."""
        return self.is_local or self.revision is not None

    @property
    def how_to_pin(self) -> str:
        """The fault of a source that is not pinned: reason and remedy."""
        place = "datasets/" if self.repo_type == "dataset" else ""
        look_up = f"git ls-remote https://huggingface.co/{place}{self.repo} HEAD"
        return (
            f"revision: null, but {self.repo} on the hub can change; write the commit hash that "
            f"`{look_up}` prints"
        )

    @model_validator(mode="after")
    def _local_path_exists(self):
        if self.is_local and not Path(self.repo).exists():
            reason = f"no such folder: {self.repo!r}; mend the path, or name an owner/name"
            raise fault("repo", reason)
        return self


class HubModel(HubSource):
    """A causal language model."""

    # Where it computes, on which no result depends: so it is in no hash of the options.
    gpus: int | None = Field(
        None,
        gt=0,
        exclude=True,
        description="that share it, in training as in vLLM; null: it fits one, and trains on those "
        "of resources.train",
    )


class HubDataset(HubSource):
    """One split of a dataset."""

    repo_type: ClassVar[str] = "dataset"
    split: str = Field("train", description="the split")
    file: str | None = Field(
        None, description="its JSON file, where the repository has several; null: all files"
    )


class MiniatureData(Strict):
    """Procedurally generated prompts."""

    kind: Literal["miniature"] = Field(description="procedurally generated")
    train: int = Field(gt=0, description="prompts to train on")
    validation: int = Field(gt=0, description="prompts that tuning evaluates on")
    evaluation: int = Field(gt=0, description="prompts that the tables evaluate on")
    lengths: str | None = Field(
        None,
        pattern="^[SML]+$",
        description="how long lines are wished for, drawn from these letters, where the task has "
        "wishes: 5, 9 or 13 letters; null: SML",
    )


class HubData(Strict):
    """Real prompts, and for offline training real scored completions."""

    kind: Literal["hub"] = Field(description="from the Hugging Face hub or local folders")
    train: HubDataset = Field(description="the dataset to train on")
    evaluation: HubDataset = Field(description="the dataset that the tables evaluate on")
    validation: int = Field(256, gt=0, description="train prompts set aside for tuning")
    stored: dict[str, HubDataset] = Field(
        {}, description="completions, with scores, of other base models, by their names"
    )
    stored_group_size: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="stored completions kept of each prompt, from the best to the worst; null: all",
    )


class MiniatureModel(Strict):
    """A small model that is fine-tuned on procedurally generated completions."""

    kind: Literal["miniature"] = Field(description="a small model, made from nothing")
    architecture: Literal["llama", "qwen3"] = Field("llama", description="transformers' name of it")
    hidden_size: int = Field(gt=0, description="width of the residual stream")
    intermediate_size: int = Field(gt=0, description="width of the feed-forward layers")
    layers: int = Field(gt=0, description="transformer layers")
    heads: int = Field(gt=0, description="attention heads; twice as many divide hidden_size")
    examples: int = Field(gt=0, description="completions to fine-tune on")
    epochs: float = Field(gt=0, description="passes over the examples")
    batch_size: int = Field(gt=0, description="completions per optimizer step")
    learning_rate: float = Field(gt=0, description="peak learning rate of fine-tuning")
    carelessness: float = Field(
        ge=0, le=1, description="chance that a fine-tuning completion ignores a wish or errs"
    )

    @model_validator(mode="after")
    def _heads_fit(self):
        if self.hidden_size % (2 * self.heads):
            reason = f"{self.hidden_size} is not an even multiple of heads, {self.heads}"
            raise fault("hidden_size", f"{reason}; change either")
        return self


class ProxyReward(Strict):
    """The imperfect reward model of the miniature's wishes."""

    fits_every_task: ClassVar[bool] = False
    kind: Literal["proxy"] = Field(description="for the miniature's wishes")


class HubReward(HubSource):
    """A reward model on the hub."""

    trust_remote_code: bool = Field(
        False,
        description="run the repository's own code, where REMOTE_CODE allows it, or that of a "
        "local path with a fingerprint",
    )

    @model_validator(mode="after")
    def _runs_known_code_only(self):
        if not self.trust_remote_code or (self.repo, self.revision) in REMOTE_CODE:
            return self
        if not self.is_local:
            reason = f"true, but {self.repo} at this revision is not in REMOTE_CODE of"
            remedy = "humanline/study/config.py; read its code and add it there"
            raise fault("trust_remote_code", f"{reason} {remedy}")
        if not self.fingerprint:  # which a path, unlike a commit, needs to be always the same code
            reason = f"missing, but code of {self.repo} is to run; read it, and write what"
            raise fault("fingerprint", f"{reason} `humanline prefetch` prints for the hub's copy")
        return self


class VerifiableReward(Strict):
    """1 when the answer in the last box means what the gold answer does, else 0."""

    fits_every_task: ClassVar[bool] = False
    kind: Literal["math_verify"] = Field(description="for math")


class GradeReward(Strict):
    """1 for a completion that the task's own grading finds correct, else 0."""

    fits_every_task: ClassVar[bool] = False
    kind: Literal["grade"] = Field(description="for tasks that are graded")


class LocalJudge(Strict):
    """A judge that sees the miniature's gold reward."""

    kind: Literal["gold"] = Field(description="for the miniature's data")
    temperature: float = Field(gt=0, description="gold-reward difference that gives odds of e")
    length_bias: float = Field(description="gold reward that a much longer output is worth to it")


class Price(Strict):
    """What an endpoint asks for a model, in US dollars per million tokens."""

    input: float = Field(ge=0, description="of prompts")
    output: float = Field(ge=0, description="of answers")

    def dollars(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost."""
        return (self.input * prompt_tokens + self.output * completion_tokens) / 1e6


class OpenAIJudge(Strict):
    """The AlpacaEval 2 judge behind an OpenAI-compatible endpoint.

    Its key is in the environment, and nowhere else.
    """

    kind: Literal["openai"] = Field(description="an OpenAI-compatible endpoint")
    model: str = Field(min_length=1, description="the endpoint's name of the model")
    base_url: str = Field(
        "https://api.openai.com/v1", pattern="^https?://", description="the endpoint"
    )
    concurrency: int = Field(8, gt=0, description="requests at a time, of each job")
    timeout: float = Field(60, gt=0, description="seconds that an answer may take")
    retries: int = Field(
        8, ge=0, description="further requests for a pair, after failures and useless answers"
    )
    max_left_out: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="share of a checkpoint's pairs that may be left out for want of a verdict",
    )
    max_dollars: float = Field(
        ge=0, description="what one run's answers may cost; its job stops before it is more"
    )
    prices: dict[str, Price] = Field(description="of models by name; zero where nothing is asked")

    @property
    def price(self) -> Price:
        """Of the judge's own model."""
        return self.prices[self.model]

    @model_validator(mode="after")
    def _has_its_price(self):
        if self.model not in self.prices:
            raise fault("prices", f"none of {self.model}; add its input and output, maybe zero")
        return self


# Of a judge's options those that change how answers are got, and no answer.
ERRANDS = frozenset({"concurrency", "timeout", "retries", "max_dollars", "prices"})


class Sampling(Strict):
    """How completions are drawn."""

    temperature: float = Field(ge=0, description="divides the logits; 0: the likeliest token")
    top_p: float = Field(1.0, gt=0, le=1, description="probability mass of the tokens kept")
    max_new_tokens: int = Field(gt=0, description="tokens of a completion at most")
    # In no hash of the options unless it is used.
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        exclude_if=lambda strings: not strings,
        description="strings that end a completion, and are not part of its text",
    )


class Generation(Strict):
    """What draws the completions, and where."""

    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="vllm has to be installed: pip install 'humanline[vllm]'"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="what a trained or base model computes in when it samples"
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="vLLM: share of a GPU's memory, or of the machine's on a CPU"
    )
    max_model_length: PositiveInt | None = Field(
        None, description="vLLM: tokens of prompt and completion; null: as many as the model knows"
    )
    online: Literal["colocate", "server"] = Field(
        "colocate", description="vLLM of online training: on the training's own GPUs, or served"
    )
    online_memory_utilization: float = Field(
        0.3, gt=0, le=1, description="colocated vLLM: its share of the memory"
    )
    server_url: str | None = Field(
        None, description="where vLLM is served; null: this machine, port 8000"
    )


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


class TaskConfig(Strict):
    """One task at one scale."""

    data: MiniatureData | HubData = Field(discriminator="kind", description="its prompts")
    base_model: MiniatureModel | HubModel = Field(
        discriminator="kind", description="the model that training starts from"
    )
    base_models: dict[
        Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")],
        Annotated[MiniatureModel | HubModel, Field(discriminator="kind")],
    ] = Field({}, description="other models, by the name that rows of experiments.yaml know")
    reward: ProxyReward | HubReward | VerifiableReward | GradeReward = Field(
        discriminator="kind", description="what scores completions for training"
    )
    judge: Annotated[LocalJudge | OpenAIJudge, Field(discriminator="kind")] | None = Field(
        None, description="what compares outputs with the references, where tables need it"
    )
    training: Training = Field(description="what all runs share")
    evaluation: Sampling = Field(description="how the completions of the tables are drawn")

    @model_validator(mode="after")
    def _understands_its_prompts(self):
        for name in {"base", "none"} & set(self.base_models):
            raise fault(f"base_models.{name}", "the name has a meaning of its own; use another")
        parts = {"base_model": self.base_model, "reward": self.reward, "judge": self.judge}
        parts |= {f"base_models.{name}": model for name, model in self.base_models.items()}
        for field, part in parts.items():
            if self.data.kind == "hub" and part and part.kind in ("miniature", "proxy", "gold"):
                reason = f"{part.kind} understands the miniature's prompts only"
                raise fault(f"{field}.kind", f"{reason}, but data.kind is hub; change either")
        if self.data.kind == "hub" and (unknown := set(self.data.stored) - set(self.base_models)):
            raise fault(
                f"data.stored.{min(unknown)}", "not a name in base_models; add it there, or mend it"
            )
        self._require_divisor()
        return self

    @property
    def shards(self) -> set[int]:
        """The numbers of GPUs that share a model, of models that say one."""
        models = (self.base_model, *self.base_models.values())
        return {model.gpus for model in models if model.kind == "hub" and model.gpus}

    def _require_divisor(self):
        """Whole stored groups fill GRPO's batches."""
        size = self.data.stored_group_size if self.data.kind == "hub" else None
        grpo = self.training.objectives.get("grpo")
        if size and grpo and grpo.batch_size % size:
            reason = f"{size} does not divide training.objectives.grpo.batch_size"
            raise fault("data.stored_group_size", f"{reason}, {grpo.batch_size}; change either")


def _world_fault(task: Task, config: TaskConfig) -> tuple[str, str] | None:
    """What a task's options ask of its generated world that it has not: field and reason."""
    models = {"base_model": config.base_model} | {
        f"base_models.{name}": model for name, model in config.base_models.items()
    }
    for field, part in ({"data": config.data} | models).items():
        if part.kind == "miniature" and task.draw_prompts is None:
            return f"{field}.kind", "miniature, but the task has no generated world; use hub"
    lengths = getattr(config.data, "lengths", None)
    if lengths and "lengths" not in signature(task.draw_prompts).parameters:
        return "data.lengths", "the task's world has no lengths to wish for; remove it"
    return None


class Seeds(Strict):
    """Reporting and sweep seeds fill the tables; tuning seeds choose learning rates only."""

    report: SeedList = Field(description="seeds that the headline tables report")
    sweep: SeedList | None = Field(
        None, description="seeds of the wide tables, best some of report's; null: report's"
    )
    tune: SeedList = Field(description="seeds that choose learning rates")

    @model_validator(mode="after")
    def _disjoint(self):
        for name in ("report", "sweep"):
            if both := set(getattr(self, name) or []) & set(self.tune):
                raise fault("tune", f"shares {sorted(both)} with seeds.{name}; use other seeds")
        return self


class Resources(Strict):
    """What a stage's jobs ask of the scheduler, at their first attempt."""

    gpu: int = Field(0, ge=0, description="GPUs; training uses several, the other stages one")
    mem_mb: int = Field(3000, gt=0, description="main memory, megabytes")
    runtime: int = Field(60, gt=0, description="minutes")


class Rates(Strict):
    """Tokens per second and GPU for a model of a billion parameters.

    Proportionally fewer for a larger model; several GPUs are as fast as their number.
    """

    train: float = Field(gt=0, description="of a step, the reference's pass included")
    sample: float = Field(gt=0, description="sampled, prompts not counted")
    score: float = Field(gt=0, description="of prompts and completions in a forward pass")


class Lengths(Strict):
    """How many prompts a task has, and how long its texts are."""

    train_prompts: PositiveInt = Field(description="prompts to train on")
    evaluation_prompts: PositiveInt = Field(description="prompts that the tables evaluate on")
    prompt_tokens: PositiveInt = Field(description="of a prompt, on average")
    completion_tokens: PositiveInt = Field(description="of a completion, on average")


class Assumptions(Strict):
    """What `snakemake plan` reckons with where the configuration says nothing. Not measured."""

    device: str = Field(min_length=1, description="the GPU that the rates are of")
    device_gigabytes: float = Field(gt=0, description="of its memory")
    tokens_per_second: Rates = Field(description="per GPU, for a billion parameters")
    startup_minutes: float = Field(ge=0, description="of a GPU job until it computes")
    judge_tokens: PositiveInt = Field(
        description="of a judge's instructions, besides the prompt and two completions"
    )
    parameters: dict[str, Annotated[float, Field(gt=0)]] = Field(
        description="billions of parameters of every model, by repository"
    )
    lengths: dict[TaskName, Lengths] = Field(description="prompts and tokens of every task")


class Scale(Strict):
    """One file of workflow/config."""

    scale: str = Field(
        pattern=r"^\w[\w.-]*$", description="its name: of this file, and of its folder of results"
    )
    description: str = Field(description="one line: what it is for")
    seeds: Seeds = Field(description="seeds of the runs")
    bootstrap_replicates: int = Field(2000, gt=0, description="resamples behind each interval")
    learning_rates: str | None = Field(
        None, min_length=1, description="file of tuned learning rates, relative to this file"
    )
    generation: Generation = Field(Generation(), description="what draws the completions")
    resources: dict[Stage, Resources] = Field({}, description="what each stage's jobs ask for")
    plan: Assumptions | None = Field(None, description="what `snakemake plan` reckons with")
    tasks: dict[TaskName, TaskConfig] = Field(min_length=1, description="the tasks, by name")

    @model_validator(mode="after")
    def _fits_the_tasks(self):
        for name, config in self.tasks.items():
            task, kind = find_task(name), config.reward.kind
            if kind not in task.rewards and not getattr(config.reward, "fits_every_task", True):
                right = " or ".join(task.rewards)
                raise fault(f"tasks.{name}.reward.kind", f"{kind} does not fit; use {right}")
            if task.scoring == "judge" and config.judge is None:
                raise fault(f"tasks.{name}.judge", "missing; add a judge, gold or openai")
            if found := _world_fault(task, config):
                field, reason = found
                raise fault(f"tasks.{name}.{field}", reason)
        return self

    @model_validator(mode="after")
    def _devices_are_used(self):
        for stage, resources in self.resources.items():
            if stage != "train" and resources.gpu > 1:
                reason = (
                    f"{resources.gpu}, but a model takes 1; say the gpus of one that takes more"
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
    def _plan_knows_the_models(self):
        if self.plan is None:
            return self
        for name, task in self.tasks.items():
            if name not in self.plan.lengths:
                raise fault(f"plan.lengths.{name}", "missing; add this key")
            for model in (task.base_model, *task.base_models.values(), task.reward):
                if model.kind == "miniature":
                    raise fault("plan", f"knows no miniature models, but {name} has one; remove it")
                if model.kind == "hub" and model.repo not in self.plan.parameters:
                    raise fault(f"plan.parameters.{model.repo}", "missing; add this key")
        return self

    @property
    def devices(self) -> int:
        """How many devices a training runs on."""
        return max(1, self.resources.get("train", Resources()).gpu)


def hub_sources(part, field: str = "") -> dict[str, HubSource]:
    """Every repository that a part of the configuration names, by its dotted field."""
    if isinstance(part, HubSource):
        return {field: part}
    inner = dict(part) if isinstance(part, BaseModel | dict) else {}
    found = {}
    for name, value in inner.items():
        found |= hub_sources(value, f"{field}.{name}" if field else name)
    return found


def load_scale(path: Path) -> Scale:
    """Read and validate a scale's file, laid over the file that it extends."""
    scale = validate(Scale, _extended(path), path)
    if scale.scale != path.stem:
        raise ConfigError(
            f"{path}: scale: {scale.scale!r} is not the file's name; write {path.stem}, or its "
            "results would mix with those of the other file"
        )
    return scale


def _extended(path: Path, *above: Path) -> dict:
    """A file's content over that of the file that its `extends` names, if it has one."""
    content = load_yaml(path)
    if (name := content.pop("extends", None)) is None:
        return content
    if not isinstance(name, str) or path.with_name(name) in (path, *above):
        raise ConfigError(f"{path}: extends: {name!r} is not another file beside it; name one")
    return _overlay(_extended(path.with_name(name), path, *above), content)


def _overlay(below: dict, above: dict) -> dict:
    """Mappings key by key; all else is replaced."""
    both = below | above
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = _overlay(below[key], above[key])
    return both
