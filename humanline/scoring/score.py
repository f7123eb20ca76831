"""Score a run: judge or grade the completions that were sampled from it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from humanline.data.stage_files import (
    prompts_of,
    read_samples,
    samples_of,
)
from humanline.files.typed_files import read_rows, write_columns, write_record
from humanline.files.validation import ConfigError, pick
from humanline.scoring.score_files import JUDGE_AGAIN, CurvePoint, Summary, grades_of
from humanline.study.runs.resolved import Run
from humanline.study.scale.judges import EnglishJudge, FunctionJudge, LocalJudge, OpenAIJudge
from humanline.study.tasks import find_task, needed

_FEWEST = 5  # pairs; alpaca_eval's cross-validation needs as many


def score(run: Run) -> None:
    """Judge or grade a run's completions, whichever its task says."""
    scoring = find_task(run.cell.task).scoring
    pick("scoring", scoring, {"judge": judge, "grade": grade})(run)


def judge(run: Run) -> None:
    """Judge a run's completions against the references with AlpacaEval.

    It writes three files. `annotations.json` has the last step's annotations. `metrics.json`
    (`Summary`) has the last step's summary by alpaca_eval, our length-controlled win rate (per
    cent), why this may mislead, and how many pairs have no verdict. `curve.csv` has the
    length-controlled win rate of every evaluated step.

    Raises:
        ConfigError: if the samples are missing, damaged or not of the run's evaluation prompts,
            the judge fails, or too few pairs have a verdict.
    """
    import pandas as pd

    from humanline.scoring import judge as judging
    from humanline.scoring.annotations import length_controlled, write_annotations

    samples = _samples(run)
    annotate = _annotator(run)
    curve = []
    for step in list(samples):
        rows = samples.pop(step)  # a million fill a gigabyte; the annotations have their texts
        annotations = annotate(
            _alpaca_rows(rows, "completion", run.name),
            _alpaca_rows(rows, "reference", "reference"),
        )
        del rows
        _require_verdicts(run.name, step, annotations)
        controlled, warning = length_controlled(annotations)
        curve.append({"step": step, "length_controlled_win_rate": controlled})
        if warning:
            print(f"{run.name}, step {step}: length-controlled win rate may mislead: {warning}")
    write_annotations(annotations, run.paths.annotations)
    summary: dict[str, Any] = judging.summarize(annotations) | curve[-1]
    summary["length_control_warning"] = warning
    summary["n_left_out"] = int(annotations["preference"].isna().sum())
    write_record(run.paths.summary, Summary, summary, JUDGE_AGAIN)
    write_columns(run.paths.curve, CurvePoint, pd.DataFrame(curve))


def _samples(run: Run) -> dict[int, list[dict]]:
    """Read a run's samples by step; refuse samples of other prompts than the run's."""
    path, data = run.paths.samples, run.paths.evaluation_prompts
    samples = read_samples(path, samples_of(run.cell.task))
    if data.exists():  # samples may be scored elsewhere, without the prompts
        rows, expected = next(iter(samples.values())), read_rows(data, prompts_of(run.cell.task))
        numbers = {row["prompt_id"] for row in rows}
        if numbers != set(range(len(expected))) or not all(
            row.get(name) == value
            for row in rows
            for name, value in expected[row["prompt_id"]].items()
        ):
            raise ConfigError(f"{path}: its prompts are not those of {data}; generate it again")
    return samples


def _require_verdicts(name: str, step: int, annotations) -> None:
    left_out = int(annotations["preference"].isna().sum())
    if left_out:
        print(f"{name}, step {step}: {left_out} of {len(annotations)} pairs are left out")
    if len(annotations) - left_out < _FEWEST:
        raise ConfigError(
            f"{name}, step {step}: {len(annotations) - left_out} pairs have a verdict of the"
            f" judge; evaluate on {_FEWEST} prompts or more"
        )


def _annotator(run: Run) -> Callable:
    """Build the function that annotates the rows of the model and of the baseline."""
    config, answers = run.judge, run.paths.answers
    if config is None:
        raise ConfigError(f"task {run.cell.task}: judge: missing; add one")
    annotate = pick("judge", config.kind, _JUDGES)(config, answers)
    return partial(annotate, work_dir=answers.parent)


def _gold(config: LocalJudge, answers: Path) -> Callable:
    from humanline.scoring import judge as judging
    from humanline.worlds.letters import gold_reward

    options = {"temperature": config.temperature, "length_bias": config.length_bias}
    return partial(judging.annotate, judge=judging.sigmoid_judge(gold_reward, **options))


def _english(config: EnglishJudge, answers: Path) -> Callable:
    from humanline.scoring import judge as judging
    from humanline.scoring.likelihood.naturalness import english_judge

    return partial(judging.annotate_in_batches, compare=english_judge(config))


def _endpoint(config: OpenAIJudge, answers: Path) -> Callable:
    from humanline.scoring import api_judge

    return partial(api_judge.annotate, judge=api_judge.ApiJudge(config, answers))


def _function(config: FunctionJudge, answers: Path) -> Callable:
    from humanline.scoring import judge as judging

    return partial(judging.annotate_in_batches, compare=judging.function_judge(config.path))


# By kind of judge, the function that builds its annotator. It takes the judge's options and the
# file of an endpoint's answers.
_JUDGES: dict[str, Callable[[Any, Path], Callable]] = {
    "gold": _gold,
    "english_gold": _english,
    "openai": _endpoint,
    "function": _function,
}


def _alpaca_rows(samples: list[dict], field: str, generator: str) -> Iterator[dict]:
    """Yield samples as rows in AlpacaEval's format of outputs."""
    for sample in samples:
        yield {
            "instruction": sample["prompt"],
            "output": sample[field],
            "generator": generator,
            "dataset": "humanline",
        }


def grade(run: Run) -> None:
    """Grade a run's completions with its task's grading, and write `grades.csv`.

    Its columns are step, problem_id, sample, correct (0 or 1) and outcome (one of the task's).

    Raises:
        ConfigError: if the samples are missing, damaged or not of the run's evaluation prompts.
    """
    import pandas as pd
    from tqdm import tqdm

    task = find_task(run.cell.task)
    grade_completion = needed(run.cell.task, "grade_completion", task.grade_completion)
    steps = _samples(run)
    samples = [sample for rows in steps.values() for sample in rows]
    rows = []
    for s in tqdm(samples, desc="grading", unit="answer"):
        outcome = grade_completion(s["completion"], s["answer"])
        own = {"step": s["step"], "problem_id": s["prompt_id"], "sample": 0}
        rows.append(own | {"correct": int(outcome == task.outcomes[0]), "outcome": outcome})
    grades = pd.DataFrame(rows)
    counts = grades["outcome"].value_counts().to_dict()
    print(f"{run.name}: " + ", ".join(f"{counts.get(o, 0)} {o}" for o in task.outcomes))
    write_columns(run.paths.grades, grades_of(run.cell.task), grades)
