"""What a scale's judgements would cost, told before money is spent, and what they have cost."""

from collections.abc import Iterator
from functools import cache

import pandas as pd

from humanline.data.stage_files import Instruction, prompts_of
from humanline.files.records import read_rows
from humanline.scoring.api_judge import estimated_tokens, read_answers
from humanline.scoring.judge import CONFIGURATIONS
from humanline.study.experiments import Cell
from humanline.study.scale.judges import OpenAIJudge, Price
from humanline.study.study import Study


def describe(study: Study) -> str:
    """Tokens and dollars of all that judges, for people."""
    tasks = study.scored_by("judge")
    if not tasks:
        return f"scale {study.scale.scale}: no task of it is judged, which costs nothing"
    if len(tasks) == 1:
        return _described(study, tasks[0])
    return "\n\n".join(f"{task}\n{_described(study, task)}" for task in tasks)


def _described(study: Study, task: str) -> str:
    judge = study.scale.tasks[task].judge
    if not isinstance(judge, OpenAIJudge):
        kind = judge.kind if judge else "none"
        return f"scale {study.scale.scale}: its judge, {kind}, costs nothing"
    table = estimate(study, task)
    if table.empty:
        return f"scale {study.scale.scale}: no table has a run that is judged, which costs nothing"
    counts = {str(name): "{:,}".format for name in table.select_dtypes("int")}
    longest = study.scale.tasks[task].evaluation.max_new_tokens
    return f"""\
{judge.model} at {judge.base_url}, ${judge.price.input:g} per million tokens of prompts and
${judge.price.output:g} of answers. Tokens are estimates, at four characters each.
{table.to_string(index=False, formatters=counts, float_format="{:,.2f}".format)}
Outputs are as long as in samples.jsonl, or where a run has none yet, {longest:,} tokens, which is
max_new_tokens and the most. A run's job stops before it costs more than ${judge.max_dollars:g}."""


def estimate(study: Study, task: str) -> pd.DataFrame:
    """Estimate the cost of every run of a task that is judged, summed up by target.

    Returns:
        Columns target (`all`, and what `explore` and `tune` judge besides), lengths (the file or
        option that they are of), runs, pairs, prompt_tokens, answer_tokens, dollars (for all pairs)
        and spent (so far, retries included); no rows where nothing is judged.
    """
    judge = study.scale.tasks[task].judge
    price = judge.price if isinstance(judge, OpenAIJudge) else Price(input=0, output=0)
    rows = []
    for target, cell in _judged(study, task):
        tokens, lengths = _prompt_tokens(study, cell)
        paid = read_answers(study.answers(cell))
        rows.append(
            {
                "target": target,
                "lengths": lengths,
                "runs": 1,
                "pairs": len(tokens),
                "prompt_tokens": sum(tokens),
                "answer_tokens": len(tokens),
                "dollars": price.dollars(sum(tokens), len(tokens)),
                "spent": sum(
                    (price.dollars(a.prompt_tokens, a.completion_tokens) for a in paid), 0.0
                ),
            }
        )
    if not rows:
        return pd.DataFrame()
    return pd.DataFrame(rows).groupby(["target", "lengths"], sort=False, as_index=False).sum()


def _judged(study: Study, task: str) -> Iterator[tuple[str, Cell]]:
    """Every run of a task, once, with the first target that wants it."""

    def cells(exploratory: bool) -> list[Cell]:
        tables = study.tables(exploratory=exploratory)
        return [cell for table in tables for cell in study.report_cells(table)]

    targets = {"all": cells(False), "explore": cells(True), "tune": study.tune_cells(task)}
    seen = set()
    for target, wanted in targets.items():
        for cell in wanted:
            if cell.task == task and cell.name not in seen:
                seen.add(cell.name)
                yield target, cell


class _Judged(Instruction):
    """What is judged of a sample, of whatever step."""

    key = ()
    completion: str


def _prompt_tokens(study: Study, cell: Cell) -> tuple[list[int], str]:
    """Estimated tokens of the prompts of a run's pairs, and what the outputs' lengths are of."""
    path = study.directory(cell) / "samples.jsonl"
    if path.exists():
        samples = read_rows(path, _Judged)
        # Identical outputs are a tie that no judge is asked about.
        pairs = [row for row in samples if row["completion"] != row["reference"]]
        return [_tokens(row) for row in pairs], path.name
    prompts = read_rows(study.data(cell.task, study.split(cell.seed)), prompts_of(cell.task))
    longest = study.scale.tasks[cell.task].evaluation.max_new_tokens
    return [_tokens(row) + longest for row in prompts] * _steps(study, cell), "max_new_tokens"


def _tokens(row: dict) -> int:
    """Estimated tokens of the judge's prompt with a row's texts."""
    texts = (row.get(name, "") for name in ("prompt", "completion", "reference"))
    return estimated_tokens(_template_length() + sum(map(len, texts)))


@cache
def _template_length() -> int:
    return len((CONFIGURATIONS / "openai" / "prompt.txt").read_text(encoding="utf-8"))


def _steps(study: Study, cell: Cell) -> int:
    """How many of a run's checkpoints are evaluated; see `samples.checkpoints`."""
    training = study.scale.tasks[cell.task].training
    if cell.objective == "base" or not study.has_curve(cell):
        return 1
    return len(range(0, training.steps, training.evaluate_every))
