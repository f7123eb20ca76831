"""The jobs of the workflow at a scale, and the tokens that each job's models process.

Everything comes from the configuration. What it does not say, the scale's `plan` assumes. Without a
`plan` the jobs are the same, but their work is unknown.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from humanline.analysis.predictors import OWN, PROMPTS
from humanline.files.validation import ConfigError
from humanline.study.experiments import Cell
from humanline.study.scale.data import HubData
from humanline.study.scale.hub import HubSource
from humanline.study.scale.rewards import HubReward
from humanline.study.study import Study
from humanline.study.study_cells import TARGETS, Target
from humanline.study.tasks import find_task, score_rule
from humanline.study.values import Stage
from humanline.trainers.registry import find_objective

WEIGHTS = 4  # bytes per parameter: models are trained and kept in float32


@dataclass(frozen=True)
class Work:
    """Tokens that a model trains on, samples or scores.

    Args:
        kind: ``train``, ``sample`` or ``score``, a field of `Rates`.
        tokens: the number of tokens.
        billions: the model's parameters, in billions.
    """

    kind: str
    tokens: float
    billions: float


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Args:
        rule: the name of its rule.
        name: its name among the rule's jobs.
        stage: the stage whose resources it requests.
        work: the work of its GPUs.
        gigabytes: size of the weights that it leaves, in gigabytes.
        judged: number of pairs that a judge compares.
        gpus: number of GPUs that it requests.
        task: the task of the judge.
    """

    rule: str
    name: str
    stage: Stage
    work: tuple[Work, ...] = ()
    gigabytes: float = 0
    judged: int = 0
    gpus: int = 0
    task: str = ""


# The jobs, as the rules of the workflow have them.


def jobs(study: Study) -> dict[str, list[Job]]:
    """List the jobs of every target, without those of earlier targets.

    Returns:
        Jobs by target, in the order of `TARGETS`.
    """
    found: dict[str, list[Job]] = {}
    seen = set()
    for target in TARGETS:
        found[target] = []
        for job in _jobs_of(study, target):
            if (job.rule, job.name) not in seen:
                seen.add((job.rule, job.name))
                found[target].append(job)
    return found


def _jobs_of(study: Study, target: Target) -> Iterator[Job]:
    """Yield the jobs of a target; some come several times."""
    scored, measured = study.evaluated(target), _measured(study, target)
    perceived = _perceived(study) if target == "all" else []
    for cell in scored:
        yield from jobs_of_cell(study, cell)
    for cell in measured + perceived:
        yield from _preparation(study, cell)
    for cell in measured:
        gpus = study.resolve(cell).gpus("generate")
        yield Job("predictors", _name(cell), "generate", _work(_predictors, study, cell), gpus=gpus)
    yield from _summaries(study, target)


def jobs_of_cell(study: Study, cell: Cell) -> Iterator[Job]:
    """Yield the jobs that make a cell's score, in an order that does not depend on its seed."""
    yield from _preparation(study, cell)
    yield _generate(study, cell)
    yield _score(study, cell)


def _measured(study: Study, target: Target) -> list[Cell]:
    """List the cells of a target whose offline data are measured."""
    tables = study.experiments.tables
    comparing = [table for table in study.tables_of(target) if tables[table].compares_data]
    cells = [run.cell for table in comparing for run in study.table(table).measured]
    mapped = [run.cell for run, _ in study.mapped()] if target == "explore" else []
    return cells + mapped


def _perceived(study: Study) -> list[Cell]:
    """List the cells of the figures."""
    if not study.experiments.implied_capacity:
        return []
    seeds = study.figure_seeds()
    return [cell for seed in seeds for cell in study.experiments.perceived(seed).values()]


def _summaries(study: Study, target: Target) -> Iterator[Job]:
    """Yield the jobs that read many runs: tables, scores, claims, figures, map, tuning."""
    if target in ("tune", "power"):
        if study.evaluated(target):
            if target == "tune":
                yield Job("first_rates", "", "table")
            yield Job(target, "", "table")
        return
    for table in study.tables_of(target):
        yield Job(f"table_{table}", "", "table")
    if target == "explore":
        if study.mapped():
            yield Job("map", "", "table")
        return
    yield Job("scores", "", "table")
    yield Job("report", "", "table")
    if study.claims:
        yield Job("claims", "", "table")
    if study.experiments.implied_capacity:
        yield Job("figures", "", "table")
        for seed in study.figure_seeds():
            gpus = study.perceived(seed)["policy"].gpus("generate")
            work = _work(_surprisal, study, seed)
            yield Job("surprisal", str(seed), "generate", work, gpus=gpus)


def _preparation(study: Study, cell: Cell) -> Iterator[Job]:
    """Yield the jobs that make a cell's model."""
    yield Job("data", f"{cell.task}/{study.resolve(cell).paths.draw}", "data")
    yield from _base_model(study, cell.base)
    if cell.data == "offline":
        source = cell.data_base
        yield from _base_model(study, source)
        gpus = study.resolve(source).gpus("offline")
        yield Job("offline", _name(source), "offline", _work(_offline, study, source), gpus=gpus)
        if cell.quartile:
            name = f"{_name(source)} under {cell.base.name}"
            gpus = study.resolve(cell).gpus("generate")
            yield Job("likelihood", name, "generate", _work(_likelihood, study, cell), gpus=gpus)
    if cell.objective != "base":
        work = _work(_train, study, cell)
        gpus, kept = study.resolve(cell).gpus("train"), _kept_gigabytes(study, cell)
        yield Job("train", _name(cell), "train", work, gigabytes=kept, gpus=gpus)


def _base_model(study: Study, base: Cell) -> Iterator[Job]:
    if name := study.resolve(base).hashes.pretrained:
        yield Job("pretrained", f"{base.task}/{name}", "base_model")
    yield Job("base_model", _name(base), "base_model")  # links into the hub's cache


def _generate(study: Study, cell: Cell) -> Job:
    work = _work(_evaluated, study, cell)
    return Job("generate", _name(cell), "generate", work, gpus=study.resolve(cell).gpus("generate"))


def _score(study: Study, cell: Cell) -> Job:
    judged = _outputs(study, cell) if find_task(cell.task).scoring == "judge" else 0
    return Job(score_rule(cell.task), _name(cell), "score", judged=judged, task=cell.task)


def _name(cell: Cell) -> str:
    return f"{cell.task}/{cell.name}"


# What a job does.


def _work(found: Callable[..., Iterator[Work]], study: Study, of: Cell | int) -> tuple[Work, ...]:
    """Collect the work that one of the functions below yields; none without assumptions."""
    return tuple(found(study, of)) if study.scale.plan else ()


def _train(study: Study, cell: Cell) -> Iterator[Work]:
    run = study.resolve(cell)
    training, batch, group = run.training, run.objective.batch_size, run.training.group_size
    billions = billions_of(study, cell)
    row, tokens = find_objective(cell.objective), _text_tokens(study, cell.task)
    examples = training.steps * batch
    yield Work("train", examples * row.view.completions * tokens, billions)
    if row.scored_besides:
        yield Work("score", examples * row.scored_besides * tokens, billions)
    if cell.data == "online":
        groups = batch // row.view.examples_of(group)
        yield from _sample_and_label(study, cell, training.steps * groups * group)


def _offline(study: Study, base: Cell) -> Iterator[Work]:
    run = study.resolve(base)
    if not run.is_stored:
        prompts = study.scale.assumptions.lengths[base.task].train_prompts
        yield from _sample_and_label(study, base, prompts * run.training.group_size)


def _likelihood(study: Study, cell: Cell) -> Iterator[Work]:
    group = _group_size(study, cell.data_base)
    completions = study.scale.assumptions.lengths[cell.task].train_prompts * group
    tokens = completions * _text_tokens(study, cell.task)
    yield Work("score", tokens, billions_of(study, cell.base))


def _evaluated(study: Study, cell: Cell) -> Iterator[Work]:
    yield _sample(study, cell, _outputs(study, cell))


def _predictors(study: Study, cell: Cell) -> Iterator[Work]:
    """Yield the work of predictors: sample the policy, and score its samples and the data."""
    prompts = min(PROMPTS, study.scale.assumptions.lengths[cell.task].train_prompts)
    group = _group_size(study, cell.data_base)
    yield _sample(study, cell, OWN * prompts)
    scored = prompts * (2 * OWN + 3 * group)
    yield Work("score", scored * _text_tokens(study, cell.task), billions_of(study, cell))


def _surprisal(study: Study, seed: int) -> Iterator[Work]:
    """Yield the work of surprisals: both models score a completion of every source.

    The policy writes two for each prompt.
    """
    cells = list(study.experiments.perceived(seed).values())
    policy = cells[0]
    prompts = _prompts(study, policy)
    scored = 2 * prompts * _text_tokens(study, policy.task)
    for source in (policy, *cells):
        yield _sample(study, source, prompts)
        yield Work("score", scored, billions_of(study, policy))


def _sample(study: Study, cell: Cell, completions: float) -> Work:
    tokens = completions * study.scale.assumptions.lengths[cell.task].completion_tokens
    return Work("sample", tokens, billions_of(study, cell))


def _sample_and_label(study: Study, cell: Cell, completions: float) -> Iterator[Work]:
    yield _sample(study, cell, completions)
    reward = study.scale.tasks[cell.task].reward
    if isinstance(reward, HubReward):
        billions = study.scale.assumptions.parameters[reward.repo]
        yield Work("score", completions * _text_tokens(study, cell.task), billions)


def _group_size(study: Study, base: Cell) -> int:
    """Count the completions of each prompt in a base model's offline data."""
    run = study.resolve(base)
    if isinstance(run.data, HubData) and run.is_stored:
        return run.data.stored_group_size or run.training.group_size
    return run.training.group_size


def _outputs(study: Study, cell: Cell) -> int:
    """Count the completions in a cell's evaluation, over all its checkpoints; 0: unknown."""
    if study.scale.plan is None:
        return 0
    return _prompts(study, cell) * study.resolve(cell).evaluations


def _prompts(study: Study, cell: Cell) -> int:
    """Count the prompts in a cell's evaluation."""
    run = study.resolve(cell)
    if run.paths.split == "validation":
        return run.data.validation
    return study.scale.assumptions.lengths[cell.task].evaluation_prompts


def _text_tokens(study: Study, task: str) -> int:
    """Count the tokens of a prompt and its completion."""
    lengths = study.scale.assumptions.lengths[task]
    return lengths.prompt_tokens + lengths.completion_tokens


def billions_of(study: Study, cell: Cell) -> float:
    """Look up the parameters of a cell's model, in billions.

    Raises:
        ConfigError: if the scale has no `plan`, or the model is generated.
    """
    return study.scale.assumptions.parameters[model_of(study, cell).repo]


def model_of(study: Study, cell: Cell) -> HubSource:
    """Find the model that a cell starts from.

    Raises:
        ConfigError: if the model is generated: a plan knows only models of the hub.
    """
    model = study.resolve(cell).model
    if not isinstance(model, HubSource):
        where = f"scale {study.scale.scale}: plan"
        raise ConfigError(f"{where}: the model of {cell.task} is generated; remove plan")
    return model


def _kept_gigabytes(study: Study, cell: Cell) -> float:
    """Compute the size of all models that a run keeps, in gigabytes; 0: unknown."""
    if study.scale.plan is None:
        return 0
    return WEIGHTS * billions_of(study, cell) * study.resolve(cell).training.evaluations
