"""What a scale's judgements would cost, told before money is spent, and what they have cost."""

from collections.abc import Iterator
from functools import cache

import pandas as pd

from humanline.data.stage_files import Instruction
from humanline.files.typed_files import read_rows
from humanline.scoring.api_judge import estimated_tokens, read_answers
from humanline.scoring.judge import CONFIGURATIONS
from humanline.study.runs.resolved import Run
from humanline.study.scale.judges import OpenAIJudge, Price
from humanline.study.scale.scale import TaskConfig

_FREE = Price(input=0, output=0)


def describe(scale: str, tasks: dict[str, TaskConfig], targets: dict[str, list[Run]]) -> str:
    """Tokens and dollars of all that judges, for people.

    Args:
        scale: its name.
        tasks: those that are judged.
        targets: their runs, by the target that wants them.
    """
    if not tasks:
        return f"scale {scale}: no task of it is judged, which costs nothing"
    texts = {}
    for name, task in tasks.items():
        own = {
            target: [run for run in runs if run.cell.task == name]
            for target, runs in targets.items()
        }
        texts[name] = _described(scale, task, own)
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "\n\n".join(f"{name}\n{text}" for name, text in texts.items())


def _described(scale: str, task: TaskConfig, targets: dict[str, list[Run]]) -> str:
    judge = task.judge
    if not isinstance(judge, OpenAIJudge):
        kind = judge.kind if judge else "none"
        return f"scale {scale}: its judge, {kind}, costs nothing"
    table = estimate(targets)
    if table.empty:
        return f"scale {scale}: no table has a run that is judged, which costs nothing"
    counts = {str(name): "{:,}".format for name in table.select_dtypes("int")}
    longest = task.evaluation.max_new_tokens
    return f"""\
{judge.model} at {judge.base_url}, ${judge.price.input:g} per million tokens of prompts and
${judge.price.output:g} of answers. Tokens are estimates, at four characters each.
{table.to_string(index=False, formatters=counts, float_format="{:,.2f}".format)}
Outputs are as long as in samples.jsonl, or where a run has none yet, {longest:,} tokens, which is
max_new_tokens and the most. A run's job stops before it costs more than ${judge.max_dollars:g}."""


def estimate(targets: dict[str, list[Run]]) -> pd.DataFrame:
    """Estimate the cost of every run that is judged, once, summed up by target.

    Args:
        targets: runs by the target that wants them; a run counts for the first of these.

    Returns:
        Columns target (`all`, and what `tune` and `explore` judge besides), lengths (the file or
        option that they are of), runs, pairs, prompt_tokens, answer_tokens, dollars (for all pairs)
        and spent (so far, retries included); no rows where nothing is judged.
    """
    rows = []
    for target, run in _once(targets):
        price = run.judge.price if isinstance(run.judge, OpenAIJudge) else _FREE
        tokens, lengths = _prompt_tokens(run)
        paid = read_answers(run.paths.answers)
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


def _once(targets: dict[str, list[Run]]) -> Iterator[tuple[str, Run]]:
    """Every run, with the first target that wants it."""
    seen: set[tuple[str, str]] = set()
    for target, wanted in targets.items():
        for run in wanted:
            if (key := (run.cell.task, run.name)) not in seen:
                seen.add(key)
                yield target, run


class _Judged(Instruction):
    """What is judged of a sample, of whatever step."""

    key = ()
    completion: str


def _prompt_tokens(run: Run) -> tuple[list[int], str]:
    """Estimated tokens of the prompts of a run's pairs, and what the outputs' lengths are of."""
    path = run.paths.samples
    if path.exists():
        samples = read_rows(path, _Judged)
        # Identical outputs are a tie that no judge is asked about.
        pairs = [row for row in samples if row["completion"] != row["reference"]]
        return [_tokens(row) for row in pairs], path.name
    prompts = read_rows(run.paths.evaluation_prompts, Instruction)
    longest = run.evaluation.max_new_tokens
    return [_tokens(row) + longest for row in prompts] * run.evaluations, "max_new_tokens"


def _tokens(row: dict) -> int:
    """Estimated tokens of the judge's prompt with a row's texts."""
    texts = (row.get(name, "") for name in ("prompt", "completion", "reference"))
    return estimated_tokens(_template_length() + sum(map(len, texts)))


@cache
def _template_length() -> int:
    return len((CONFIGURATIONS / "openai" / "prompt.txt").read_text(encoding="utf-8"))
