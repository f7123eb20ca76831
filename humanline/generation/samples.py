"""Evaluation's samples: the checkpoints of a run that are looked at, and what they write.

Apart from `evaluation`, so that a change of scoring samples nothing anew.
"""

from pathlib import Path

from humanline.data.stage_files import prompts_of, samples_of
from humanline.data.training_files import Trained
from humanline.files.typed_files import read_record, read_rows, write_rows
from humanline.study.runs.resolved import Run

_SEED = 7  # of evaluation's sampling, the same for every run


def checkpoints(run: Run) -> dict[int, Path]:
    """The models of a cell that are evaluated, by optimizer step.

    All kept ones of the runs whose learning curves are looked at, else the last. The base model
    has step 0.
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
    """Sample one completion per evaluation prompt from every evaluated checkpoint of a cell.

    Writes `samples.jsonl`: step, prompt_id, prompt, completion, and the row's answer or reference.
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
                seed=_SEED,
                place=data,
                progress=True,
            )
        samples += [
            {"step": step, "prompt_id": i, **row, "completion": completion}
            for i, (row, (completion,)) in enumerate(zip(rows, completions, strict=True))
        ]
    write_rows(run.paths.samples, samples_of(run.cell.task), samples)
