"""What scoring leaves for the tables: a judged run's summary and curve, a graded run's grades.

Each reader takes one of a file's parts, the models that it inherits from, so that files of before
a field was invented are still read.
"""

from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from humanline.files.typed_files import Columns, Count, NonNegative, Percent
from humanline.files.validation import Record
from humanline.study.tasks import find_task

if TYPE_CHECKING:
    import pandas as pd

JUDGE_AGAIN, GRADE_AGAIN = "judge that run again", "grade that run again"


class Judgement(Record):
    """Of `metrics.json`: a judged run's headline figure."""

    length_controlled_win_rate: Percent


class WinRates(Record):
    """Of `metrics.json`: alpaca_eval's own figures, and the mean length in characters."""

    win_rate: Percent
    length_controlled_winrate: Percent
    avg_length: NonNegative


class Notices(Record):
    """Of `metrics.json`: what a reader has to know. Files of before are silent."""

    n_left_out: Count = 0  # pairs without a verdict
    length_control_warning: str | None = None


class Summary(Judgement, WinRates, Notices):
    """`metrics.json`: what the judge's verdicts on a run's last step come to."""

    step: Count
    standard_error: float
    lc_standard_error: float
    discrete_win_rate: Percent
    n_wins: Count
    n_wins_base: Count
    n_draws: Count
    n_total: Count


class CurvePoint(Columns):
    """`curve.csv`: a judged run's headline figure by evaluated optimizer step."""

    remedy: ClassVar[str] = JUDGE_AGAIN
    step: Count
    length_controlled_win_rate: Percent


class Correctness(Columns):
    """Of `grades.csv`: whether a sample of a step is correct."""

    remedy: ClassVar[str] = GRADE_AGAIN
    step: Count
    correct: int

    @classmethod
    def fault(cls, frame: "pd.DataFrame") -> str | None:
        """A value of `correct` that is neither 0 nor 1."""
        good = frame["correct"].isin([0, 1])
        if good.all():
            return None
        row = int(np.argmin(good))
        return f"field correct: not always 0 or 1, but {frame['correct'].iloc[row]} in row {row}"


class Grade(Correctness):
    """`grades.csv`: a graded sample. Files of before outcomes were written have none."""

    problem_id: int
    sample: Count = 0
    outcome: str = ""
    outcomes: ClassVar[tuple[str, ...]] = ()  # the first is success

    @classmethod
    def fault(cls, frame: "pd.DataFrame") -> str | None:
        """Also an outcome that is not known, or that is not one of the row's `correct`."""
        if (reason := super().fault(frame)) or "outcome" not in frame:
            return reason
        outcome, is_correct = frame["outcome"], frame["correct"] == 1
        good = outcome.isin(cls.outcomes) & outcome.eq(cls.outcomes[0]).eq(is_correct)
        if good.all():
            return None
        row = int(np.argmin(good))
        what = f"{outcome.iloc[row]} is no outcome of {frame['correct'].iloc[row]} in row {row}"
        return f"field outcome: {what}"


@cache
def grades_of(task: str) -> type[Grade]:
    """What a row of a task's `grades.csv` is: its outcomes are the task's."""

    class TasksGrade(Grade):
        outcomes: ClassVar[tuple[str, ...]] = find_task(task).outcomes

    return TasksGrade
