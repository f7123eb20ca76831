"""How long jobs take: by the runs before this one, corrected by what this one has shown.

A scale's own `seconds.csv` has the means of all its runs so far. A scale without one takes that of
its reference results, or else the laptop's: it tells how jobs compare, and this run their pace.
"""

import csv
import io
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from humanline.files.json_files import write_text

FILE = "seconds.csv"
_PRIOR = 60.0  # seconds of jobs at the expected pace that count as seen before any job has ended
# The last jobs count, of all and of a kind: a machine's pace changes within an hour.
_LAST, _LAST_OF_KIND = 100, 5


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


def _alike(kind: Kind, means: Mapping[Kind, tuple[int, float]]) -> float | None:
    for key in _ALIKE:
        mean = _Mean()
        for known, (jobs, seconds) in means.items():
            if key(known) == key(kind):
                mean.add(seconds, jobs)
        if mean.jobs:
            return mean.mean
    return None


class Seconds:
    """Seconds of jobs by kind.

    Args:
        before: the number of jobs of each kind in earlier runs, and their mean seconds.
        of_scale: whether those runs were of this scale; if not, they say nothing of the pace.
    """

    def __init__(self, before: dict[Kind, tuple[int, float]], *, of_scale: bool = True):
        self._before = dict(before)
        self._seen: dict[Kind, _Mean] = defaultdict(_Mean)
        # Of the last jobs: the seconds, by kind; and beside those that such jobs took before.
        self._last: dict[Kind, deque[float]] = defaultdict(lambda: deque(maxlen=_LAST_OF_KIND))
        self._pairs: deque[tuple[float, float]] = deque(maxlen=_LAST)
        self._prior = _PRIOR if of_scale else 0.0

    def add(self, kind: Kind, seconds: float, *, is_usual: bool = True) -> None:
        """Take note of a job that has ended; one that is not usual says nothing of the pace."""
        before = self._mean_before(kind)
        self._seen[kind].add(seconds)
        self._last[kind].append(seconds)
        if is_usual and before is not None:
            self._pairs.append((seconds, before))

    @property
    def pace(self) -> float | None:
        """This run's seconds per second of the runs before, for the same jobs; None: unknown."""
        found, before = map(sum, zip(*self._pairs, (self._prior, self._prior), strict=True))
        return found / before if before else None

    def expected(self, kind: Kind) -> float | None:
        """Estimate the seconds of a job; None if it is unknown."""
        seen, before = self._last.get(kind), self._mean_before(kind)
        by_pace = None if before is None or self.pace is None else before * self.pace
        if seen and by_pace is not None:  # the runs before count as one job of this run
            return (sum(seen) + by_pace) / (len(seen) + 1)
        if seen:
            return sum(seen) / len(seen)
        if by_pace is not None:
            return by_pace
        return _alike(kind, {known: (own.jobs, own.mean) for known, own in self._seen.items()})

    def _mean_before(self, kind: Kind) -> float | None:
        """The mean of the runs before, of this kind or the closest; None if none is like it."""
        found = self._before.get(kind)
        return found[1] if found else _alike(kind, self._before)

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
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_KIND, "jobs", "seconds"])
        for kind in sorted(whole, key=astuple):
            writer.writerow([*astuple(kind), whole[kind].jobs, f"{whole[kind].mean:.2f}"])
        write_text(path, text.getvalue())


def read(path: Path) -> dict[Kind, tuple[int, float]]:
    """Read `Seconds.write`'s file: the jobs of each kind and their mean seconds.

    A missing or damaged file is as good as none: only estimates depend on it.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            found = {
                Kind(*(row[name] for name in _KIND)): (int(row["jobs"]), float(row["seconds"]))
                for row in csv.DictReader(file)
            }
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return {}
    is_sound = all(jobs > 0 and 0 <= seconds < math.inf for jobs, seconds in found.values())
    return found if is_sound else {}


def first_of(paths: Iterable[Path], other: Path | None = None) -> Seconds:
    """Make `Seconds` from the first of a scale's files that has any, or from another scale's."""
    if before := next(filter(None, map(read, paths)), None):
        return Seconds(before)
    return Seconds(read(other) if other else {}, of_scale=False)
