"""Evaluation's samples: the checkpoints of a run that are looked at, and what they write.

Apart from `evaluation`, so that a change of scoring samples nothing anew.
"""

from pathlib import Path

from humanline.data.run_records import Trained
from humanline.data.stage_files import Sample, prompts_of
from humanline.files.records import read_record, read_rows, write_rows
from humanline.study.experiments import Cell
from humanline.study.study import Study

_SEED = 7  # of evaluation's sampling, the same for every run


def checkpoints(study: Study, cell: Cell) -> dict[int, Path]:
    """The models of a cell that are evaluated, by optimizer step.

    All kept ones of the runs whose learning curves are looked at, else the last. The base model
    has step 0.
    """
    directory = study.directory(cell)
    if cell.objective == "base":
        return {0: directory / "model"}
    record = read_record(directory / "train.json", Trained)
    final = {record.steps: directory / "model"}
    if not study.has_curve(cell):
        return final
    kept = directory / record.checkpoints
    every = study.scale.tasks[cell.task].training.evaluate_every
    steps = range(every, record.steps, every)
    return {step: kept / f"checkpoint-{step}" for step in steps} | final


def generate(study: Study, cell: Cell) -> None:
    """Sample one completion per evaluation prompt from every evaluated checkpoint of a cell.

    Writes `samples.jsonl`: step, prompt_id, prompt, completion, and the row's answer or reference.
    """
    from humanline.generation.engines import open_engine, sample_text

    data = study.data(cell.task, study.split(cell.seed))
    rows = read_rows(data, prompts_of(cell.task))
    sampling = study.scale.tasks[cell.task].evaluation
    samples = []
    for step, path in checkpoints(study, cell).items():
        prompts = [row["prompt"] for row in rows]
        with open_engine(path, study.scale.generation, study.shards(cell)) as engine:
            completions = sample_text(
                engine, prompts, n=1, sampling=sampling, seed=_SEED, place=data, progress=True
            )
        samples += [
            {"step": step, "prompt_id": i, **row, "completion": completion}
            for i, (row, (completion,)) in enumerate(zip(rows, completions, strict=True))
        ]
    write_rows(study.directory(cell) / "samples.jsonl", Sample, samples)
