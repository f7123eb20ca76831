"""The work of a job: the tokens that its models process, and how often they are called.

Everything comes from the configuration. What it does not say, the scale's `plan` assumes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from humanline.analysis.predictors import OWN, PROMPTS
from humanline.files.validation import ConfigError
from humanline.scoring.likelihood.tokens import BATCH as SCORED_AT_ONCE
from humanline.study.experiments import Cell
from humanline.study.runs.resolved import Run
from humanline.study.scale.data import HubData
from humanline.study.scale.judges import EnglishJudge
from humanline.study.scale.models import FineTunedModel
from humanline.study.scale.rewards import HubReward
from humanline.study.study import Study
from humanline.trainers.registry import find_objective


@dataclass(frozen=True)
class Work:
    """Tokens that a model trains on, samples or scores.

    Args:
        kind: ``train``, ``sample`` or ``score``, a field of `Rates` and of `Calls`.
        tokens: the number of tokens.
        billions: the model's parameters, in billions.
        calls: how often the model is called for them, on each GPU.
    """

    kind: str
    tokens: float
    billions: float
    calls: float = 0


def work_of(found: Callable[..., Iterator[Work]], study: Study, of: Cell | int) -> tuple[Work, ...]:
    """Collect the work that one of the functions below yields; none without assumptions."""
    return tuple(found(study, of)) if study.scale.plan else ()


def lessons(study: Study, base: Cell) -> Iterator[Work]:
    """Yield the work of making a base model: none, unless a real one is fine-tuned."""
    model = study.resolve(base).model
    if isinstance(model, FineTunedModel):
        examples = model.examples * model.epochs
        tokens, calls = examples * _text_tokens(study, base.task), examples / model.batch_size
        yield Work("train", tokens, billions_of(study, base), calls)


def training(study: Study, cell: Cell) -> Iterator[Work]:
    """Yield the work of a run's training, with its sampling if it is online."""
    run = study.resolve(cell)
    options, batch, group = run.training, run.objective.batch_size, run.training.group_size
    billions = billions_of(study, cell)
    row, tokens = find_objective(cell.objective), _text_tokens(study, cell.task)
    examples = options.steps * batch
    calls = options.steps * options.share(batch, max(1, run.gpus("train")))[1]
    yield Work("train", examples * row.view.completions * tokens, billions, calls)
    if row.scored_besides:
        yield Work("score", examples * row.scored_besides * tokens, billions, calls)
    if cell.data == "online":
        groups = batch // row.view.examples_of(group)
        of_step = groups * group
        yield from _sample_and_label(study, cell, options.steps * of_step, times=_samplings(run))


def _samplings(run: Run) -> int:
    """Count how often a run of online training samples."""
    last = run.cell.last_sampling or run.training.steps
    return math.ceil(min(last, run.training.steps) / (run.cell.sample_every or 1))


def offline(study: Study, base: Cell) -> Iterator[Work]:
    """Yield the work of sampling and labelling a base model's offline data."""
    run = study.resolve(base)
    if not run.is_stored:
        prompts = study.scale.assumptions.lengths[base.task].train_prompts
        yield from _sample_and_label(study, base, prompts * run.training.group_size)


def likelihood(study: Study, cell: Cell) -> Iterator[Work]:
    """Yield the work of scoring offline data under a cell's base model."""
    group = _group_size(study, cell.data_base)
    completions = study.scale.assumptions.lengths[cell.task].train_prompts * group
    yield _scoring(study, cell, completions, billions_of(study, cell.base))


def evaluation(study: Study, cell: Cell) -> Iterator[Work]:
    """Yield the work of sampling a cell's completions for the tables."""
    times = study.resolve(cell).evaluations
    most = study.resolve(cell).evaluation.max_new_tokens
    yield _sample(study, cell, outputs(study, cell), most, times)


def judging(study: Study, cell: Cell) -> Iterator[Work]:
    """Yield the work of a judge's own model; it scores each output, and its reference once."""
    judge = study.resolve(cell).judge
    if isinstance(judge, EnglishJudge):
        texts = outputs(study, cell) + prompts(study, cell)
        yield _scoring(study, cell, texts, study.scale.assumptions.parameters[judge.model.repo])


def predictors(study: Study, cell: Cell) -> Iterator[Work]:
    """Yield the work of predictors: sample the policy, and score its samples and the data."""
    used = min(PROMPTS, study.scale.assumptions.lengths[cell.task].train_prompts)
    group = _group_size(study, cell.data_base)
    yield _sample(study, cell, OWN * used, study.resolve(cell).training.sampling.max_new_tokens)
    scored = used * (2 * OWN + 3 * group)
    yield _scoring(study, cell, scored, billions_of(study, cell))


def surprisal(study: Study, seed: int) -> Iterator[Work]:
    """Yield the work of surprisals: both models score a completion of every source.

    The policy writes two for each prompt.
    """
    cells = list(study.experiments.perceived(seed).values())
    policy = cells[0]
    number, most = prompts(study, policy), study.resolve(policy).training.sampling.max_new_tokens
    for source in (policy, *cells):
        yield _sample(study, source, number, most)
        yield _scoring(study, policy, 2 * number, billions_of(study, policy))


def _sample(study: Study, cell: Cell, completions: float, most_tokens: int, times: int = 1) -> Work:
    """Return the work of sampling completions, of at most so many tokens, in equal parts."""
    tokens = completions * study.scale.assumptions.lengths[cell.task].completion_tokens
    most_at_once = study.scale.generation.most_at_once
    batches = times * math.ceil(completions / times / most_at_once)
    return Work("sample", tokens, billions_of(study, cell), batches * most_tokens)


def _sample_and_label(
    study: Study, cell: Cell, completions: float, times: int = 1
) -> Iterator[Work]:
    run = study.resolve(cell)
    yield _sample(study, cell, completions, run.training.sampling.max_new_tokens, times)
    if isinstance(run.reward, HubReward):
        billions = study.scale.assumptions.parameters[run.reward.repo]
        yield _scoring(study, cell, completions, billions)


def _scoring(study: Study, cell: Cell, completions: float, billions: float) -> Work:
    tokens = completions * _text_tokens(study, cell.task)
    return Work("score", tokens, billions, math.ceil(completions / SCORED_AT_ONCE))


def _group_size(study: Study, base: Cell) -> int:
    """Count the completions of each prompt in a base model's offline data."""
    run = study.resolve(base)
    if isinstance(run.data, HubData) and run.is_stored:
        return run.data.stored_group_size or run.training.group_size
    return run.training.group_size


def outputs(study: Study, cell: Cell) -> int:
    """Count the completions in a cell's evaluation, over all its checkpoints; 0: unknown."""
    if study.scale.plan is None:
        return 0
    return prompts(study, cell) * study.resolve(cell).evaluations


def prompts(study: Study, cell: Cell) -> int:
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
    return study.scale.assumptions.parameters[name_of_model(study, cell)]


def name_of_model(study: Study, cell: Cell) -> str:
    """Return the repository or package of the model that a cell starts from.

    Raises:
        ConfigError: if the model is generated: a plan knows only real models.
    """
    model = study.resolve(cell).model
    if model.kind == "miniature":
        where = f"scale {study.scale.scale}: plan"
        raise ConfigError(f"{where}: the model of {cell.task} is generated; remove plan")
    return model.repo
