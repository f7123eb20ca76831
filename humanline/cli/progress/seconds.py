"""How long jobs take: by the runs before this one, corrected by what this one has shown.

A scale's own `seconds.csv` has the means of all its runs so far. A scale without one takes that of
the reference results, if they have one; `results/reference/laptop` does.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

FILE = "seconds.csv"
_PRIOR = 60.0  # seconds of jobs at the expected pace that count as seen before any job has ended


@dataclass(frozen=True)
class Kind:
    """What the seconds of a job depend on.

    Args:
        stage: the job's rule; all rules that score are `score`, all that write tables `table`.
        task: the task; empty if it is about several.
        base_model: the model's name among the task's; empty for the task's own.
        objective: the loss; empty if it is about no cell.
        data: ``offline``, ``online`` or empty.
        evaluations: the number of checkpoints that it evaluates; empty if it evaluates none.
    """

    stage: str
    task: str = ""
    base_model: str = ""
    objective: str = ""
    data: str = ""
    evaluations: str = ""


@dataclass
class _Mean:
    jobs: int = 0
    total: float = 0.0

    def add(self, seconds: float, jobs: int = 1) -> None:
        self.jobs, self.total = self.jobs + jobs, self.total + seconds * jobs

    @property
    def mean(self) -> float:
        return self.total / self.jobs


_KIND = [field.name for field in fields(Kind)]
# A kind that was never seen takes the mean of kinds that are alike, the closest first.
_ALIKE: list[Callable[[Kind], tuple]] = [
    lambda kind: (kind.stage, kind.task, kind.objective, kind.data),
    lambda kind: (kind.stage, kind.task),
    lambda kind: (kind.stage,),
]


class Seconds:
    """Seconds of jobs by kind.

    Args:
        before: the number of jobs of each kind in earlier runs, and their mean seconds.
    """

    def __init__(self, before: dict[Kind, tuple[int, float]]):
        self._before = dict(before)
        self._seen: dict[Kind, _Mean] = defaultdict(_Mean)
        self._found = _Mean()  # this run's seconds of kinds that were seen before
        self._expected = 0.0  # and what they should have been

    def add(self, kind: Kind, seconds: float) -> None:
        """Take note of a job that has ended."""
        self._seen[kind].add(seconds)
        if kind in self._before:
            self._found.add(seconds)
            self._expected += self._before[kind][1]

    @property
    def pace(self) -> float:
        """This run's seconds per second of the runs before, for the same jobs."""
        return (self._found.total + _PRIOR) / (self._expected + _PRIOR)

    def expected(self, kind: Kind) -> float | None:
        """Estimate the seconds of a job; None if no job like it was seen."""
        seen = self._seen.get(kind)
        before = self._before.get(kind)
        if before and seen:  # the runs before count as one job of this run
            return (seen.total + before[1] * self.pace) / (seen.jobs + 1)
        if seen:
            return seen.mean
        if before:
            return before[1] * self.pace
        return self._alike(kind)

    def _alike(self, kind: Kind) -> float | None:
        for key in _ALIKE:
            mean = _Mean()
            for known, (jobs, seconds) in self._before.items():
                if key(known) == key(kind):
                    mean.add(seconds * self.pace, jobs)
            for known, own in self._seen.items():
                if key(known) == key(kind):
                    mean.add(own.mean, own.jobs)
            if mean.jobs:
                return mean.mean
        return None

    @property
    def mean(self) -> float | None:
        """The mean seconds of all jobs of this run; None: none has ended."""
        jobs = sum(own.jobs for own in self._seen.values())
        return sum(own.total for own in self._seen.values()) / jobs if jobs else None

    def write(self, path: Path) -> None:
        """Write the means of this run and those before, CSV; nothing if no job has ended."""
        if not self._seen:
            return
        whole: dict[Kind, _Mean] = defaultdict(_Mean)
        for kind, (jobs, seconds) in read(path).items():
            # This run counts for half at least: code and machines change.
            new = self._seen[kind].jobs if kind in self._seen else jobs
            whole[kind].add(seconds, min(jobs, new))
        for kind, own in self._seen.items():
            whole[kind].add(own.mean, own.jobs)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*_KIND, "jobs", "seconds"])
            for kind in sorted(whole, key=astuple):
                writer.writerow([*astuple(kind), whole[kind].jobs, f"{whole[kind].mean:.2f}"])


def read(path: Path) -> dict[Kind, tuple[int, float]]:
    """Read `Seconds.write`'s file: the jobs of each kind and their mean seconds.

    A missing or damaged file is as good as none: only estimates depend on it.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {
                Kind(*(row[name] for name in _KIND)): (int(row["jobs"]), float(row["seconds"]))
                for row in csv.DictReader(file)
            }
    except (OSError, KeyError, TypeError, ValueError):
        return {}


def first_of(paths: Iterable[Path]) -> Seconds:
    """Make `Seconds` from the first of some files that has any."""
    return Seconds(next(filter(None, map(read, paths)), {}))
