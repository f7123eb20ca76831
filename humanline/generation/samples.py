"""Sample completions for evaluation from the checkpoints of a run.

This is apart from scoring, so a change of scoring does not repeat the sampling.
"""

from pathlib import Path

from humanline.data.stage_files import prompts_of, samples_of
from humanline.data.training_files import Trained
from humanline.files.typed_files import read_record, read_rows, write_rows
from humanline.study.runs.resolved import Run

_STREAM = 7  # evaluation's stream of random numbers, the same for all runs of a seed


def checkpoints(run: Run) -> dict[int, Path]:
    """List the models of a run that are evaluated, as folders by optimizer step.

    A run with a learning curve has all of its kept checkpoints, others the last alone. The base
    model has step 0.

    Raises:
        ConfigError: if the record of the training is missing or damaged.
    """
    if not run.is_trained:
        return {0: run.paths.model}
    record = read_record(run.paths.record, Trained)
    final = {record.steps: run.paths.model}
    if not run.has_curve:
        return final
    kept = run.paths.directory / record.checkpoints
    every = run.training.evaluate_every
    steps = range(every, record.steps, every)
    return {step: kept / f"checkpoint-{step}" for step in steps} | final


def generate(run: Run) -> None:
    """Sample one completion per evaluation prompt from every evaluated checkpoint of a run.

    It writes `samples.jsonl`: step, prompt_id, prompt, completion, and the row's answer or
    reference.

    Raises:
        ConfigError: if the prompts are damaged, or one leaves no room in the model's context.
    """
    from humanline.generation.engines import open_engine, sample_text

    data = run.paths.evaluation_prompts
    rows = read_rows(data, prompts_of(run.cell.task))
    samples = []
    for step, path in checkpoints(run).items():
        with open_engine(path, run.generation, run.shards) as engine:
            completions = sample_text(
                engine,
                [row["prompt"] for row in rows],
                n=1,
                sampling=run.evaluation,
                seed=1000 * run.cell.seed + _STREAM,
                place=data,
                progress=True,
            )
        samples += [
            {"step": step, "prompt_id": i, **row, "completion": completion}
            for i, (row, (completion,)) in enumerate(zip(rows, completions, strict=True))
        ]
    write_rows(run.paths.samples, samples_of(run.cell.task), samples)
