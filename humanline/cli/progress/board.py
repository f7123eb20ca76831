"""The state of a running workflow: the jobs that run, those that are done, and the time left.

A `Board` is told what happens. Its `snapshot` is plain data, from which this process and
`humanline status` in another one make the same lines.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from humanline.cli.progress.joblog import SILENT, Reading, cause, read
from humanline.cli.progress.names import Named
from humanline.cli.progress.seconds import Seconds


class Running(TypedDict):
    """A job that runs, or one that has failed; times in seconds since the epoch.

    ``cause`` has the lines that say why it has failed, from its log of that time.
    """

    stage: str
    of: str
    log: str | None
    started: float
    expected: float | None
    command: NotRequired[str]
    cause: NotRequired[list[str]]


class Snapshot(TypedDict):
    """The state of a workflow.

    ``jobs`` and ``cells`` are the numbers of those that are done and of all. ``waiting`` is the sum
    of the seconds that the jobs need that have not begun; None: unknown. ``parallel`` is how many
    jobs run at a time. ``ended`` is None, ``done``, ``failed`` or ``stopped``.
    ``logs`` are the paths of Snakemake's own logs.
    """

    name: str
    process: int
    host: str
    started: float
    changed: float
    jobs: tuple[int, int]
    cells: tuple[int, int]
    waiting: float | None
    parallel: int
    running: list[Running]
    failed: list[Running]
    ended: str | None
    logs: NotRequired[list[str]]


@dataclass(frozen=True)
class Finished:
    """A job that has ended.

    Args:
        named: what it was.
        reading: what its log says at the end.
        seconds: its seconds, with those that it waited after its start.
        log: the path of its log; None: it is a target, and did nothing.
    """

    named: Named
    reading: Reading
    seconds: float
    log: str | None


class Board:
    """The state of a running workflow.

    Args:
        name: the scale's name.
        planned: the jobs that will run, by Snakemake's number.
        seconds: what is known of their time.
        cores: how many jobs run at a time; None: unknown, as on a cluster.
        clock: the time, in seconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        planned: Mapping[int, Named],
        seconds: Seconds,
        cores: int | None,
        clock: Callable[[], float] = time.time,
    ):
        self._name, self._cores, self._clock = name, cores, clock
        self._named = dict(planned)
        self._waiting = dict(planned)
        self._running: dict[int, Running] = {}
        self._first: set[int] = set()  # those that began before any had ended
        self._failed: dict[int, Running] = {}
        self._done: set[int] = set()
        self._total = len(self._named)
        self._started = self._changed = clock()
        self.seconds = seconds
        self.ended: str | None = None
        self.is_stopped = self._are_jobs_stopped = False

    def start(self, number: int) -> None:
        """A job has begun; on a cluster, it was submitted."""
        if number not in self._named:
            return
        named = self._named[number]
        self._waiting.pop(number, None)
        self._failed.pop(number, None)  # it is tried again
        if not self._done:
            self._first.add(number)
        self._running[number] = Running(
            stage=named.stage,
            of=named.of,
            log=None,
            started=self._clock(),
            expected=self.seconds.expected(named.kind),
        )
        self._changed = self._clock()

    def describe(self, number: int, named: Named, log: Iterable[str], command: str | None) -> None:
        """A job that has begun: what it is, its logs and its command."""
        if number not in self._named:  # a checkpoint's job has added it
            self._named[number] = named
            self._total = max(self._total, len(self._named))
        if number not in self._running:
            self.start(number)
        self._running[number]["log"] = next(iter(log), None)
        if command:
            self._running[number]["command"] = command

    def finish(self, number: int) -> Finished | None:
        """A job has ended; None of a job that never began, or is unknown."""
        self._changed = self._clock()
        self._done.add(number)
        self._waiting.pop(number, None)
        self._failed.pop(number, None)
        if (job := self._running.pop(number, None)) is None:
            return None
        reading = read(job["log"], job["started"]) or Reading()
        seconds = self._clock() - job["started"]
        named = self._named[number]
        is_first = number in self._first and self._cores is not None
        # The first jobs start before the worker has imported what they need, and others on a
        # cluster wait in a queue: by their own words they took less.
        own = reading.took if is_first or self._cores is None else None
        self.seconds.add(named.kind, seconds if own is None else own, is_usual=not is_first)
        return Finished(named, reading, seconds, job["log"])

    def fail(self, number: int, *, is_of_group: bool = False) -> Running | None:
        """A job has failed; None if it is unknown, or was ended because the user stops.

        Of a group, which is one submission on a cluster, Snakemake says that all jobs have failed;
        None for one that had not begun or has ended, by its log.
        """
        self._changed = self._clock()
        if (own := self._running.pop(number, None)) is None or self._are_jobs_stopped:
            return None
        if is_of_group:
            reading = read(own["log"], own["started"])
            if reading is None or reading.took is not None:
                self._waiting[number] = self._named[number]
                return None
        own["cause"] = [SILENT]
        self._failed[number] = own
        own["cause"] = cause(own["log"]) or [SILENT]
        return own

    def stop(self, *, with_jobs: bool = True) -> None:
        """The user stops the workflow; with its jobs, what fails from now on was ended by that."""
        self.is_stopped = True
        self._are_jobs_stopped |= with_jobs

    def count(self, total: int) -> None:
        """The number of jobs in all, after a checkpoint's job has added some."""
        self._total = total

    @property
    def failed(self) -> list[Running]:
        """The jobs that have failed, in the order of their failures."""
        return list(self._failed.values())

    def end(self) -> None:
        """The workflow has ended."""
        if len(self._done) >= self._total and not self._failed:
            self.ended = "done"
        else:  # without a failed job, Snakemake itself has failed
            self.ended = "stopped" if self.is_stopped and not self._failed else "failed"
        self._changed = self._clock()

    def snapshot(self) -> Snapshot:
        """Return the state, as plain data."""
        cells = [number for number, named in self._named.items() if named.stage == "score"]
        return Snapshot(
            name=self._name,
            process=os.getpid(),
            host=socket.gethostname(),
            started=self._started,
            changed=self._changed,
            jobs=(len(self._done), self._total),
            cells=(sum(number in self._done for number in cells), len(cells)),
            waiting=self._seconds_waiting(),
            parallel=self._cores or max(1, len(self._running)),
            running=list(self._running.values()),
            failed=self.failed,
            ended=self.ended,
        )

    def _seconds_waiting(self) -> float | None:
        """Sum the seconds of the jobs that have not begun; an unknown one counts as the mean.

        Returns:
            None if most are unknown.
        """
        by_kind: dict = {}
        for named in self._waiting.values():
            by_kind[named.kind] = by_kind.get(named.kind, 0) + 1
        expected = {kind: self.seconds.expected(kind) for kind in by_kind}
        known = [(own, by_kind[kind]) for kind, own in expected.items() if own is not None]
        jobs = sum(number for _, number in known)
        total = sum(own * number for own, number in known)
        if 2 * jobs < len(self._waiting):
            return None
        return total * len(self._waiting) / jobs if jobs else 0.0
