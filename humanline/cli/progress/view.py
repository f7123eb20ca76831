"""What a workflow prints while it runs, in place of Snakemake's lines.

On a terminal: a line for the whole and one for each running job, once a second. Elsewhere: a line
for each job that has ended, and one for each running job if nothing has ended for a minute. At the
end, why a job has failed. Snakemake's log has its own lines, and `snakemake -p` prints them.

A fault of this view never stops a workflow: it is one warning, and Snakemake's own lines come back.

It is no logger plugin: Snakemake does not find plugins of editable installs, and the profile of a
cluster would replace the one that names it.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from humanline.cli.local import lifeline
from humanline.cli.progress.board import Board, Finished, Running, Snapshot
from humanline.cli.progress.joblog import VIEW, read, visible
from humanline.cli.progress.lines import duration, head, left_of, lines
from humanline.cli.progress.names import Namer, words
from humanline.cli.progress.short import shortened
from humanline.cli.progress.status import GOES_ON, begin, write
from humanline.files.validation import TRACEBACK

SILENCE = 60.0  # seconds without a line, where there is no terminal
FULLY = 5  # failed jobs of which all is told at the end; more have a line each
_WIDTH = 200  # of lines where there is no terminal
# Their jobs print for people, and must not do so into the terminal's view.
_TALKING = ("decide", "judge_cost", "plan", "power", "prefetch")
_STOPPED = "on user request"  # what Snakemake says after Ctrl-C
_STOPS_LATER = "Will exit after finishing currently running jobs"  # and after SIGTERM
# A failed job's command, and that it failed. `close` says so, with the cause.
_SAID_AT_THE_END = (
    "CalledProcessError",
    "At least one job did not complete successfully",
    "Exiting because a job execution failed",
)


class View(logging.Handler):
    """A handler of Snakemake's logger that prints a board.

    Args:
        board: the state of the workflow.
        namer: what names jobs that the board does not know.
        stream: where it prints; None: it prints nothing, as Snakemake or another logger does.
        state: the file that `humanline status` reads.
        means: the file of the scale's seconds.
        logs: Snakemake's own logs.
        give_back: what makes Snakemake print its own lines again.
    """

    def __init__(
        self,
        board: Board,
        namer: Namer,
        stream: TextIO | None,
        state: Path,
        means: Path,
        logs: list[str],
        give_back: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        self._board, self._namer, self._stream = board, namer, stream
        self._state, self._means, self._logs = state, means, logs
        self._give_back, self._is_faulty = give_back, False
        self._talking: set[int] = set()
        self._grouped: set[int] = set()  # the jobs of submissions that have failed
        self._page: str | None = None
        self._printed = time.monotonic()
        self._over = threading.Event()
        self._live = _live(stream)
        self._write_state()
        self._clock = threading.Thread(target=self._tick_on, name="view", daemon=True)
        self._clock.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of one of Snakemake's events, or print its warning."""
        with self._kept_from_the_workflow():
            act = getattr(self, f"_on_{getattr(record, 'event', None)}", None)
            if act:
                act(record)
            elif record.levelno >= logging.WARNING:
                self._warn(record)
            elif _STOPPED in (text := record.getMessage()):
                self._board.stop()
                self._print("stops; the running jobs are ended")
            elif _STOPS_LATER in text and not self._board.is_stopped:  # it says so again and again
                self._board.stop(with_jobs=lifeline.is_held())
                if lifeline.is_held():
                    self._print("stops; trainings write a checkpoint, other jobs are ended")

    @contextlib.contextmanager
    def _kept_from_the_workflow(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:
            self._fall_back(fault)

    def _fall_back(self, fault: Exception) -> None:
        """Warn once, and leave the lines to Snakemake; the end and the causes are still told."""
        if self._is_faulty:
            return
        self._is_faulty = True
        with contextlib.suppress(Exception):
            self._hide()
        self._live = None
        os.environ.pop(VIEW, None)
        with contextlib.suppress(Exception):
            self._give_back()
            warn(fault)

    # Snakemake's events, by the names of `LogEvent`.

    def _on_job_started(self, record) -> None:
        for number in record.jobs:
            self._board.start(number)

    def _on_job_info(self, record) -> None:
        if record.rule_name == "report":
            self._page = next(iter(record.output), None)
        if record.rule_name in _TALKING:
            self._talking.add(record.jobid)
            self._hide()
        named = self._namer.name(record.rule_name, record.wildcards or {})
        self._board.describe(record.jobid, named, record.log or (), record.shellcmd)

    def _on_job_finished(self, record) -> None:
        self._talking.discard(record.job_id)
        found = self._board.finish(record.job_id)
        if found and found.log and (self._live is None or not found.named.is_of_cell):
            self._print(self._finished(found))

    def _on_group_error(self, record) -> None:
        self._grouped |= {job["jobid"] for job in record.job_error_info}
        log = "".join(f"; its log: {path}" for path in record.aux_logs[:1])
        count = len(record.job_error_info)
        self._print(f"failed: a submission of {count} jobs, whose outputs are removed{log}")

    def _on_job_error(self, record) -> None:
        is_of_group = record.jobid in self._grouped
        if job := self._board.fail(record.jobid, is_of_group=is_of_group):
            self._talking.discard(record.jobid)
            self._print(f"failed: {words(job['stage'], job['of'])}: {job['cause'][-1]}")

    def _on_progress(self, record) -> None:
        self._board.count(record.total)

    def _on_error(self, record) -> None:
        if _STOPPED in record.getMessage():
            self._board.stop()
        self._warn(record)

    def _warn(self, record) -> None:
        text = record.getMessage()
        if not any(said in text for said in _SAID_AT_THE_END):
            self._print(shortened(text))

    def _on_shellcmd(self, record) -> None: ...

    _on_run_info = _on_group_info = _on_resources_info = _on_shellcmd

    # Printing.

    def _finished(self, found: Finished) -> str:
        own = [found.named.words, f"took {duration(found.seconds)}", found.reading.metrics_words]
        told = ", ".join(filter(None, own))
        if self._live:  # the whole is on the screen
            return told
        now, state = time.time(), self._board.snapshot()
        left = [left_of(job, read(job["log"], job["started"]), now) for job in state["running"]]
        return f"{told} | {head(state, left, now).partition(': ')[2]}"

    def tell(self, text: str) -> None:
        """Print a line of another thread."""
        with self.lock or contextlib.nullcontext(), self._kept_from_the_workflow():
            self._write(text)

    def _print(self, text: str) -> None:
        if not self._is_faulty:  # else Snakemake prints it
            self._write(text)

    def _write(self, text: str) -> None:
        self._printed, text = time.monotonic(), visible(text)
        try:
            if self._live and self._live.is_started:
                self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
            elif self._stream:
                self._stream.write(f"{text}\n")
                self._stream.flush()
        except OSError:  # nobody reads any more
            with contextlib.suppress(Exception):
                self._hide()
            self._live = self._stream = None

    def _hide(self) -> None:
        if self._live and self._live.is_started:
            self._live.update("", refresh=True)
            self._live.stop()

    def _tick_on(self) -> None:
        while not self._over.wait(1.0):
            with self.lock or contextlib.nullcontext(), self._kept_from_the_workflow():
                if not self._over.is_set():  # while it waited for the lock
                    self._tick()

    def _tick(self) -> None:
        """Show the state, once a second."""
        self._write_state()
        if not self._is_faulty:
            with contextlib.suppress(OSError):  # of a terminal that is gone
                self._show(self._board.snapshot())

    def _write_state(self) -> None:
        with contextlib.suppress(OSError):  # a full disk; estimates and `status` alone read it
            write(self._state, self._board.snapshot() | {"logs": self._logs})

    def _show(self, state: Snapshot) -> None:
        if self._live is None:
            if time.monotonic() - self._printed > SILENCE:
                for line in lines(state, width=_WIDTH):
                    self._print(line)
        elif not self._talking:
            if not self._live.is_started:
                self._live.start()
            size = self._live.console.size
            shown = "\n".join(lines(state, width=size.width - 1, height=size.height - 1))
            self._live.update(_plain(shown), refresh=True)

    def close(self) -> None:
        """Say how the workflow has ended, and why a job failed; Snakemake calls it at its end."""
        with self.lock or contextlib.nullcontext():
            if self._over.is_set():
                return
            self._over.set()
            for act in (self._end, self._write_state, self._write_seconds, self._tell_end):
                with self._kept_from_the_workflow():
                    act()
        super().close()

    def _end(self) -> None:
        if isinstance(sys.exc_info()[1], KeyboardInterrupt):
            self._board.stop()
        self._board.end()
        self._hide()
        self._live = None

    def _write_seconds(self) -> None:
        with contextlib.suppress(OSError):
            self._board.seconds.write(self._means)

    def _tell_end(self) -> None:
        try:
            told = self._last_lines()
        except Exception as fault:
            self._fall_back(fault)
            told = [line for job in self._board.failed[:FULLY] for line in why(job)]
        for text in told:
            self._write(text)

    def _last_lines(self) -> list[str]:
        state = self._board.snapshot()
        done, jobs = state["jobs"]
        took = duration(state["changed"] - state["started"])
        if self._board.ended == "done":
            page = [f"the page of all results: {self._page}"] if self._page else []
            return [f"{state['name']}: all {jobs} jobs done, in {took}", *page]
        found = [f"{state['name']}: {self._board.ended} after {took}, {done} of {jobs} jobs done"]
        if self._board.ended == "failed" and not self._board.failed:
            found.append("no job has failed, but Snakemake itself: see above")
        found += [f"Snakemake's log: {path}" for path in self._logs]
        if self._board.ended == "stopped":
            found.append(GOES_ON)
        failed = self._board.failed
        found += [
            f"failed: {words(job['stage'], job['of'])}; {job['log']}" for job in failed[FULLY:]
        ]
        for job in failed[:FULLY]:
            found += why(job)
        return found


def why(job: Running) -> list[str]:
    """Say why a job failed, the command that shows more, and the cause last."""
    shell = job.get("command", "")
    command = shell.replace('"$HUMANLINE_PYTHON"', sys.executable).partition(" --log=")[0].strip()
    more = [f"the whole log: less -R {job['log']}"] if job["log"] else []
    more += [f"again, with more: {TRACEBACK}=1 {command}"] if command else []
    told = job["cause"]
    last = "the cause:" if len(told) == 1 else "its last lines:"
    failed = f"failed: {words(job['stage'], job['of'])}"
    return ["", failed, *more, last, *(f"  {line}" for line in told)]


def warn(fault: Exception) -> None:
    """Warn of a fault of the view, by Snakemake's logger."""
    from snakemake.logging import logger

    name = f"{type(fault).__name__}: {fault}".partition("\n")[0]
    logger.warning(f"humanline: warning: the view of the progress has a fault ({name}); it is off")


def _plain(text: str):
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


def _live(stream):
    """Make the view of a terminal; None if there is no stream, or it cannot move a cursor."""
    if not stream or not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    from rich.console import Console
    from rich.live import Live

    return Live(console=Console(file=stream), auto_refresh=False, transient=True)


def watch(
    workflow, study, jobs: list, means: list[Path], other: Path
) -> Callable[[str], None] | None:
    """Print a workflow's progress in place of Snakemake's own lines, from now on.

    If the user asks Snakemake for more or less output, or for another logger, what is printed does
    not change, and `humanline status` alone tells the progress.

    Args:
        workflow: Snakemake's workflow.
        study: the study.
        jobs: its jobs that will run.
        means: files with the seconds of earlier runs: this scale's own, which is written at the
            end, and others that count if there is none.
        other: such a file of another scale.

    Returns:
        What prints a line for another thread; None: everything is printed as Snakemake does.
    """
    try:
        return _watch(workflow, study, jobs, means, other)
    except Exception as fault:
        warn(fault)
        return None


def _watch(workflow, study, jobs: list, means: list[Path], other: Path):
    from snakemake.logging import logger

    from humanline.cli.progress.seconds import first_of

    asked = workflow.output_settings
    below = next((h for h in logger.handlers if h.name == "DefaultStreamHandler"), None)
    is_other = asked.quiet or asked.verbose or asked.debug_dag or asked.printshellcmds
    stream = None if below is None or is_other else below.stream
    namer = Namer(study)
    named = {workflow.dag.jobid(job): namer.name(job.rule.name, job.wildcards_dict) for job in jobs}
    cores = workflow.cores if workflow.local_exec else None
    board = Board(study.scale.scale, named, first_of(means, other), cores)
    logs = [path for path in workflow.logger_manager.get_logfile() if path]
    workflow.scheduler.print_progress = True  # else a quiet one does not say that a job has ended
    state = begin(Path(".snakemake"))

    def give_back():
        if stream is not None:
            logger.addHandler(below)

    view = View(board, namer, stream, state, means[0], logs, give_back)
    logger.addHandler(view)
    if stream is None:
        return None
    logger.removeHandler(below)
    if workflow.local_exec:
        os.environ[VIEW] = "1"
    return view.tell
