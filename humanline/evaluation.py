"""Evaluation of a run: sample its completions, judge or grade them."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

from humanline.config import OpenAIJudge
from humanline.experiments import Cell
from humanline.files import read_json, read_jsonl, write_json, write_jsonl, write_text
from humanline.study import Study
from humanline.validation import ConfigError

_SEED = 7  # of evaluation's sampling, the same for every run
_FEWEST = 5  # pairs that alpaca_eval's cross-validation takes


def checkpoints(study: Study, cell: Cell) -> dict[int, Path]:
    """The models of a cell that are evaluated, by optimizer step.

    All kept ones of the runs whose learning curves are looked at, else the last. The base model
    has step 0.
    """
    directory = study.directory(cell)
    if cell.objective == "base":
        return {0: directory / "model"}
    record = read_json(directory / "train.json")
    final = {record["steps"]: directory / "model"}
    if not study.has_curve(cell):
        return final
    kept = directory / record["checkpoints"]
    every = study.scale.tasks[cell.task].training.evaluate_every
    steps = range(every, record["steps"], every)
    return {step: kept / f"checkpoint-{step}" for step in steps} | final


def generate(study: Study, cell: Cell) -> None:
    """Sample one completion per evaluation prompt from every evaluated checkpoint of a cell.

    Writes `samples.jsonl`: step, prompt_id, prompt, completion, and the row's answer or reference.
    """
    from humanline.generation import open_engine, sample_text

    rows = read_jsonl(study.data(cell.task, study.split(cell.seed)), ("prompt",))
    sampling = study.scale.tasks[cell.task].evaluation
    samples = []
    for step, path in checkpoints(study, cell).items():
        prompts = [row["prompt"] for row in rows]
        options = {"n": 1, "sampling": sampling, "seed": _SEED, "progress": True}
        with open_engine(path, study.scale.generation, study.shards(cell)) as engine:
            completions = sample_text(engine, prompts, **options)
        samples += [
            {"step": step, "prompt_id": i, **row, "completion": completion}
            for i, (row, (completion,)) in enumerate(zip(rows, completions, strict=True))
        ]
    write_jsonl(study.directory(cell) / "samples.jsonl", samples)


def judge(study: Study, cell: Cell) -> None:
    """Judge a run's completions against the references with AlpacaEval.

    Writes, of the last step, `annotations.json`, and `metrics.json` with alpaca_eval's own summary,
    our length-controlled win rate (`length_controlled_win_rate`, per cent), why that may mislead
    (`length_control_warning`, or null), and how many pairs have no verdict (`n_left_out`); and of
    every step `curve.csv` with the length-controlled win rate.
    """
    import pandas as pd

    from humanline import judging
    from humanline.annotations import length_controlled

    directory = study.directory(cell)
    samples = read_jsonl(directory / "samples.jsonl", ("step", "prompt", "completion", "reference"))
    annotate = _annotator(study, cell)
    curve = []
    for step, group in itertools.groupby(samples, key=lambda sample: sample["step"]):
        rows = list(group)
        annotations = annotate(
            _alpaca_rows(rows, "completion", cell.name),
            _alpaca_rows(rows, "reference", "reference"),
        )
        _require_verdicts(cell, step, annotations)
        controlled, warning = length_controlled(annotations)
        curve.append({"step": step, "length_controlled_win_rate": controlled})
        if warning:
            print(f"{cell.name}, step {step}: length-controlled win rate may mislead: {warning}")
    judging.write_annotations(annotations, directory / "annotations.json")
    summary = judging.summarize(annotations) | curve[-1]
    summary["length_control_warning"] = warning
    summary["n_left_out"] = int(annotations["preference"].isna().sum())
    write_json(directory / "metrics.json", summary)
    write_text(directory / "curve.csv", pd.DataFrame(curve).to_csv(index=False))


def _require_verdicts(cell: Cell, step: int, annotations) -> None:
    left_out = int(annotations["preference"].isna().sum())
    if left_out:
        print(f"{cell.name}, step {step}: {left_out} of {len(annotations)} pairs are left out")
    if len(annotations) - left_out < _FEWEST:
        raise ConfigError(
            f"{cell.name}, step {step}: {len(annotations) - left_out} pairs have a verdict of the"
            f" judge; evaluate on {_FEWEST} prompts or more"
        )


def _annotator(study: Study, cell: Cell) -> Callable:
    """What makes annotations of the model's and the baseline's rows."""
    config = study.scale.tasks[cell.task].judge
    work_dir = study.answers(cell).parent
    if isinstance(config, OpenAIJudge):
        from humanline import api_judge

        judge = api_judge.ApiJudge(config, study.answers(cell))
        return partial(api_judge.annotate, judge=judge, work_dir=work_dir)
    from humanline import judging

    judge = judging.sigmoid_judge(
        _gold_reward(), temperature=config.temperature, length_bias=config.length_bias
    )
    return partial(judging.annotate, judge=judge, work_dir=work_dir)


def _alpaca_rows(samples: list[dict], field: str, generator: str) -> list[dict]:
    """Rows in AlpacaEval's format of model outputs."""
    return [
        {
            "instruction": sample["prompt"],
            "output": sample[field],
            "generator": generator,
            "dataset": "humanline",
        }
        for sample in samples
    ]


def _gold_reward():
    from humanline.data.wishes import gold_reward

    return gold_reward


def grade(study: Study, cell: Cell) -> None:
    """Grade a run's math completions: `grades.csv`.

    Its columns: step, problem_id, sample, correct (0 or 1) and outcome, `grading.Outcome`.
    """
    import pandas as pd
    from tqdm import tqdm

    from humanline import grading

    directory = study.directory(cell)
    samples = read_jsonl(directory / "samples.jsonl", ("step", "prompt_id", "completion", "answer"))
    rows = []
    for s in tqdm(samples, desc="grading", unit="answer"):
        outcome = grading.grade(s["completion"], s["answer"])
        own = {"step": s["step"], "problem_id": s["prompt_id"], "sample": 0}
        rows.append(own | {"correct": int(outcome == "correct"), "outcome": outcome})
    grades = pd.DataFrame(rows)
    counts = grades["outcome"].value_counts().to_dict()
    print(f"{cell.name}: " + ", ".join(f"{counts.get(o, 0)} {o}" for o in grading.OUTCOMES))
    write_text(directory / "grades.csv", grades.to_csv(index=False))
