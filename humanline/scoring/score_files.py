"""The files that scoring writes for the tables: a judged run's summary and curve, or grades.

A reader uses the smallest of these models that has its fields, so it still reads older files, which
lack newer fields.
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
    """The part of `metrics.json` with a judged run's headline figure, in per cent."""

    length_controlled_win_rate: Percent


class WinRates(Record):
    """The part of `metrics.json` with alpaca_eval's figures: per cent, and characters an output."""

    win_rate: Percent
    length_controlled_winrate: Percent
    avg_length: NonNegative


class Notices(Record):
    """The part of `metrics.json` that warns readers; older files lack it."""

    n_left_out: Count = 0  # pairs without a verdict
    length_control_warning: str | None = None


class Summary(Judgement, WinRates, Notices):
    """`metrics.json`: the summary of the judge's verdicts on a run's last step."""

    step: Count
    standard_error: float
    lc_standard_error: float
    discrete_win_rate: Percent
    n_wins: Count
    n_wins_base: Count
    n_draws: Count
    n_total: Count


class CurvePoint(Columns):
    """A row of `curve.csv`: a judged run's headline figure (per cent) at an optimizer step."""

    remedy: ClassVar[str] = JUDGE_AGAIN
    step: Count
    length_controlled_win_rate: Percent


class Correctness(Columns):
    """The part of a row of `grades.csv` that says whether a sample is correct."""

    remedy: ClassVar[str] = GRADE_AGAIN
    step: Count
    correct: int

    @classmethod
    def fault(cls, frame: "pd.DataFrame") -> str | None:
        """Name the first value of `correct` that is neither 0 nor 1."""
        good = frame["correct"].isin([0, 1])
        if good.all():
            return None
        row = int(np.argmin(good))
        return f"field correct: not always 0 or 1, but {frame['correct'].iloc[row]} in row {row}"


class Grade(Correctness):
    """A row of `grades.csv`: a graded sample. Older files have no outcomes."""

    problem_id: int
    sample: Count = 0
    outcome: str = ""
    outcomes: ClassVar[tuple[str, ...]] = ()  # the first is success

    @classmethod
    def fault(cls, frame: "pd.DataFrame") -> str | None:
        """Name also an outcome that is unknown or contradicts the row's `correct`."""
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
    """Make the model of a row of a task's `grades.csv`, with the task's outcomes."""

    class TasksGrade(Grade):
        outcomes: ClassVar[tuple[str, ...]] = find_task(task).outcomes

    return TasksGrade
