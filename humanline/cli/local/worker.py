"""A warm process that forks a child for each command, so that commands start without slow imports.

Importing TRL and transformers takes longer than many of the miniature's jobs. So a workflow on this
machine starts one `humanline worker`, which imports them once. A command that finds the worker's
socket in the environment sends its request there and waits. The worker forks a child, which runs
the command with its arguments, environment, folder and streams. If no worker answers, the command
runs itself.
"""

import atexit
import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from humanline.cli import WORKER
from humanline.cli.local import lifeline
from humanline.cli.local.requests import (
    STREAMS,
    Reader,
    RefusedError,
    Request,
    address,
    is_own,
    next_line,
    send,
)

_TAKEN = "taken"  # the worker's first line: it runs the command
_STOP = b"T"  # what a client sends after its request, to end the command by SIGTERM
_MOST_WAITING = 256  # clients whose requests are not whole; the oldest has to go


def delegate(argv: list[str]) -> int | None:
    """Send a command to the worker that the environment names, and wait for it.

    Args:
        argv: the command and its arguments.

    Returns:
        The exit status; None if no worker answers.
    """
    name = os.environ.get(WORKER)
    if not name or not hasattr(socket, "AF_UNIX"):
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address(name))
            if not is_own(connection):
                return None
            send(connection, argv)
        except OSError:
            return None
        # The command may have something to write before it ends, such as a checkpoint.
        signal.signal(signal.SIGTERM, lambda *_: _ask_to_stop(connection))
        with connection.makefile() as answer:
            lines = [next_line(answer), next_line(answer)]
    if lines[0] != _TAKEN:  # the worker has ended before it took the command
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return None
    return int(lines[1]) if lines[1] else 1  # the worker was killed, and the command with it


def _ask_to_stop(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the worker has ended
        connection.sendall(_STOP)


def can_serve() -> bool:
    """Say whether this system can fork a process that has imported torch.

    On macOS the child crashes in system libraries that torch loads. Windows has no fork.
    """
    return sys.platform == "linux"


def start(*study: Path, tell: Callable[[str], None] | None = None) -> None:
    """Start a worker for this process's commands; it ends with this process.

    On a system that cannot fork, nothing is started and each command runs itself. A workflow that
    a command of another workflow runs has that one's worker.

    Args:
        study: the arguments of `study.hold_study`, for the study that the commands will be about.
        tell: what prints a line of the worker's own errors; None: it prints them itself.
    """
    # Imported here, because every command imports this module and should start fast.
    import secrets
    import subprocess
    import threading

    if not can_serve() or _answers(os.environ.get(WORKER)):
        return
    # Without a file, so that nothing is left of it.
    name = f"@humanline-{os.getpid()}-{secrets.token_hex(8)}"
    # One thread: a thread pool would be lost in the fork, and each command sets its own number.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = os.environ | threads | {lifeline.VARIABLE: lifeline.PARENT}
    command = [sys.executable, "-m", "humanline", "worker", name, *map(str, study)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if tell else None,
        text=True,
        errors="replace",
        env=environment,
    )
    os.environ[WORKER] = name
    if tell and process.stderr:
        lines = map(str.rstrip, process.stderr)
        threading.Thread(target=lambda: [*map(tell, lines)], daemon=True).start()


def _answers(name: str | None) -> bool:
    """Say whether there is a worker of this name."""
    if not name:
        return False
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address(name))
        except OSError:
            return False
        return is_own(connection)


def warm_up(study: list[Path]) -> None:
    """Do once, before there are children, what is slow and what every command would do.

    Args:
        study: the arguments of `study.hold_study`; empty: commands read their study themselves.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the children handle it
    # The slow imports of the commands.
    import reasoning_gym  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    import humanline.analysis.predictors
    import humanline.scoring.math.grading  # noqa: F401
    from humanline.cli import parser  # noqa: F401
    from humanline.cli.local import run_locks  # noqa: F401
    from humanline.files.code_hashes import code_hash
    from humanline.files.user_code import working_directory
    from humanline.files.validation import ConfigError
    from humanline.generation import engines, offline, samples  # noqa: F401
    from humanline.scoring import annotations, rewards, score  # noqa: F401
    from humanline.scoring.judge import load_alpaca_eval
    from humanline.study.study import hold_study
    from humanline.trainers.classes import load
    from humanline.trainers.registry import OBJECTIVES
    from humanline.training import base_model, cell  # noqa: F401

    load_alpaca_eval()
    for row in OBJECTIVES.values():
        load(row.trainer)
    get_checkpoint_conversion_mapping("llama")  # the first call makes those of all models
    code_hash("train", by_value=True)  # the first call parses the package
    if study:
        with working_directory(), contextlib.suppress(ConfigError):  # a command will raise it
            hold_study(*study)


def serve(name: str, run: Callable[[list[str]], int]) -> None:
    """Listen and run commands in children, until the standard input ends.

    A child is killed with its command's process, and with this one. All are killed when the
    standard input ends: if a killed workflow is started again, old children could write the files
    of its new jobs.

    Args:
        name: the name of the socket: a path, or ``@name`` for one without a file.
        run: (a command's arguments) -> its exit status.

    Raises:
        ConfigError: if there can be no socket of this name; commands then run themselves.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the children handle it
    gc.freeze()  # a child's garbage collector would touch, and so copy, all imported objects
    with (
        socket.socket(socket.AF_UNIX) as listener,
        _signals_of_children() as signals,
        selectors.DefaultSelector() as selector,
    ):
        _bind(listener, name)
        listener.setblocking(False)
        listener.listen()
        commands = _Commands(selector, run)
        selector.register(listener, selectors.EVENT_READ, lambda: commands.accept(listener))
        selector.register(signals, selectors.EVENT_READ, lambda: commands.answer(signals))
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(commands.patience()):
                if key.data is None:
                    commands.end_all()
                    return
                key.data()
            commands.drop_silent()


def _bind(listener: socket.socket, name: str) -> None:
    try:
        listener.bind(address(name))
    except OSError as error:
        # Imported here, because every command imports this module and should start fast.
        from humanline.files.validation import ConfigError

        raise ConfigError(
            f"{name}: no socket can be made there ({error}), so each command starts by itself, "
            "which takes seconds; use a shorter path"
        ) from None


@contextlib.contextmanager
def _signals_of_children() -> Iterator[socket.socket]:
    """Make a socket that becomes readable when a child has ended: Python writes signals to it."""
    read, write = socket.socketpair()
    with read, write:
        read.setblocking(False)
        write.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler, Python writes nothing
        signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        try:
            yield read
        finally:
            signal.set_wakeup_fd(-1)


class _Commands:
    """The running commands, each in a child, and the connections that wait for their status."""

    def __init__(self, selector: selectors.BaseSelector, run: Callable[[list[str]], int]):
        self._selector, self._execute = selector, run
        self._readers: list[Reader] = []  # of requests that are not whole, the oldest first
        self._waiting: dict[int, socket.socket] = {}  # by the child's process id

    def accept(self, listener: socket.socket) -> None:
        """Accept a client, whose request is still to come."""
        if len(self._readers) >= _MOST_WAITING:
            self._drop(self._readers[0])
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # the client is gone
            return
        except OSError:  # no file descriptors are left
            if self._readers:
                self._drop(self._readers[0])
            else:
                time.sleep(0.1)
            return
        if not is_own(connection):
            connection.close()
            return
        self._readers.append(reader := Reader(connection))
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(reader))

    def patience(self) -> float | None:
        """Return the seconds until the first client has been silent for too long; None: never."""
        return max(0.0, self._readers[0].until - time.monotonic()) if self._readers else None

    def drop_silent(self) -> None:
        """Close the connections of clients that have been silent for too long."""
        while self._readers and self._readers[0].until <= time.monotonic():
            self._drop(self._readers[0])

    def _read(self, reader: Reader) -> None:
        try:
            request = reader.read()
        except RefusedError:
            self._drop(reader)
            return
        if request:
            self._start(request, reader)

    def _drop(self, reader: Reader) -> None:
        self._readers.remove(reader)
        self._selector.unregister(reader.connection)
        reader.close()

    def _start(self, request: Request, reader: Reader) -> None:
        """Run a request in a forked child, which does not return."""
        worker, connection = os.getpid(), reader.connection
        try:
            child = os.fork()
        except OSError:  # no memory, or no processes, are left; the client runs the command itself
            self._drop(reader)
            return
        if not child:
            self._become(request, worker)
        self._waiting[child] = connection
        self._readers.remove(reader)
        reader.close_streams()
        self._selector.modify(
            connection, selectors.EVENT_READ, lambda: self._end(child, connection)
        )
        with contextlib.suppress(OSError):  # the client may be gone; `_end` will know
            connection.sendall(f"{_TAKEN}\n".encode())

    def _become(self, request: Request, worker: int) -> NoReturn:
        """Run a command in this child, and end the child."""
        status = 1
        try:
            lifeline.die_with(worker)
            self._leave_the_worker(request)
            status = _run(request, self._execute)
            # Run the exit functions as Python does, but skip the slow teardown of modules.
            atexit._run_exitfuncs()
        except SystemExit as end:
            status = _status(end)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status & 0xFF)

    def _leave_the_worker(self, request: Request) -> None:
        """Close what is the worker's, in a child."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for reader in self._readers:
            if reader.streams is not request.streams:
                reader.close_streams()
        # A client notices the worker's end only if no child holds its connection.
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        # What the worker's imports registered is not for a child to undo: for torch alone that
        # takes 30 ms, a fifth of a short command.
        for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
            finalizer.atexit = False

    def answer(self, signals: socket.socket) -> None:
        """Send the exit status of each child that has ended to its client."""
        signals.recv(4096)  # one signal may stand for several children
        for child in list(self._waiting):
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                continue
            code = os.waitstatus_to_exitcode(status)
            with self._waiting.pop(child) as connection:
                with contextlib.suppress(OSError):  # the client may be gone
                    connection.sendall(f"{code if code >= 0 else 128 - code}\n".encode())
                with contextlib.suppress(KeyError):
                    self._selector.unregister(connection)

    def end_all(self) -> None:
        """Kill all children."""
        for child in self._waiting:
            os.kill(child, signal.SIGKILL)

    def _end(self, child: int, connection: socket.socket) -> None:
        """End a child whose client asks for it, by SIGTERM; kill one whose client is gone."""
        try:
            told = connection.recv(1)
        except BlockingIOError:
            return
        except OSError:
            told = b""
        if not told:
            self._selector.unregister(connection)
        # Its process id is still its own: nobody has waited for it.
        os.kill(child, signal.SIGTERM if told else signal.SIGKILL)


def _status(end: SystemExit) -> int:
    """Return the exit status of a process that ends so; as Python does, say what it says."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr, flush=True)
    return 1


def _run(request: Request, run: Callable[[list[str]], int]) -> int:
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, standard in zip(request.streams, STREAMS, strict=True):
        os.dup2(stream, standard)
        os.close(stream)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    # torch read this variable in the worker, before the command's environment was known.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    try:
        return run(request.argv)
    finally:
        sys.stdout.flush(), sys.stderr.flush()
