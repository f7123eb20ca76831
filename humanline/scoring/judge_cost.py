"""Estimate what a scale's judgements will cost, and add up what they have cost so far."""

from collections.abc import Iterator
from functools import cache

import pandas as pd

from humanline.data.stage_files import Instruction
from humanline.files.typed_files import read_rows
from humanline.scoring.api_judge import estimated_tokens
from humanline.scoring.endpoint.answers import read_answers
from humanline.scoring.judge import CONFIGURATIONS
from humanline.study.runs.resolved import Run
from humanline.study.scale.judges import OpenAIJudge, Price
from humanline.study.scale.scale import TaskConfig

_FREE = Price(input=0, output=0)


def describe(scale: str, tasks: dict[str, TaskConfig], targets: dict[str, list[Run]]) -> str:
    """Describe the tokens and dollars of all judgements as a text for people.

    Args:
        scale: the scale's name.
        tasks: the tasks that are judged, by name.
        targets: their runs, by the target that needs them.
    """
    if not tasks:
        return f"scale {scale}: no task of it is judged, so judging costs nothing"
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
        return f"scale {scale}: no table has a judged run, so judging costs nothing"
    counts = {str(name): "{:,}".format for name in table.select_dtypes("int")}
    longest = task.evaluation.max_new_tokens
    return f"""\
{judge.model} at {judge.base_url}, ${judge.price.input:g} per million tokens of prompts and
${judge.price.output:g} of answers. Tokens are estimates, at four characters each.
{table.to_string(index=False, formatters=counts, float_format="{:,.2f}".format)}
The lengths of outputs are those in samples.jsonl; a run without samples counts {longest:,} tokens
an output, the most (max_new_tokens).
A run's job stops before it costs more than ${judge.max_dollars:g}."""


def estimate(targets: dict[str, list[Run]]) -> pd.DataFrame:
    """Estimate the cost of the runs that are judged, summed up by target.

    Args:
        targets: runs by the target that needs them; each run counts once, for its first target.

    Returns:
        Columns target, lengths (the file or option that gave the outputs' lengths), runs, pairs,
        prompt_tokens, answer_tokens, dollars (for all pairs) and spent (dollars so far, retries
        included). The table is empty if nothing is judged.
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
    """Yield every run once, with the first target that needs it."""
    seen: set[tuple[str, str]] = set()
    for target, wanted in targets.items():
        for run in wanted:
            if (key := (run.cell.task, run.name)) not in seen:
                seen.add(key)
                yield target, run


class _Judged(Instruction):
    """The texts of a sample, without its step."""

    key = ()
    completion: str


def _prompt_tokens(run: Run) -> tuple[list[int], str]:
    """Estimate the prompt tokens of each pair of a run, and name the source of the lengths."""
    path = run.paths.samples
    if path.exists():
        samples = read_rows(path, _Judged)
        # Identical outputs are a tie: no judge is asked.
        pairs = [row for row in samples if row["completion"] != row["reference"]]
        return [_tokens(row) for row in pairs], path.name
    prompts = read_rows(run.paths.evaluation_prompts, Instruction)
    longest = run.evaluation.max_new_tokens
    return [_tokens(row) + longest for row in prompts] * run.evaluations, "max_new_tokens"


def _tokens(row: dict) -> int:
    """Estimate the tokens of the judge's prompt with a row's texts."""
    texts = (row.get(name, "") for name in ("prompt", "completion", "reference"))
    return estimated_tokens(_template_length() + sum(map(len, texts)))


@cache
def _template_length() -> int:
    return len((CONFIGURATIONS / "openai" / "prompt.txt").read_text(encoding="utf-8"))
