"""A warm process that forks a child for each command, so that commands start without slow imports.

Importing TRL and transformers takes longer than many of the miniature's jobs. So a workflow on this
machine starts one `humanline worker`, which imports them once. A command that finds the worker's
socket in the environment sends its request there and waits. The worker forks a child, which runs
the command with its arguments, environment, folder and streams. If no worker answers, the command
runs itself.
"""

import array
import atexit
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from humanline.cli import WORKER

_STREAMS = (0, 1, 2)


def delegate(argv: list[str]) -> int | None:
    """Send a command to the worker that the environment names, and wait for it.

    Args:
        argv: the command and its arguments.

    Returns:
        The exit status; None if no worker answers.
    """
    path = os.environ.get(WORKER)
    if not path or not hasattr(socket, "AF_UNIX"):
        return None
    request = {"argv": argv, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            streams = array.array("i", _STREAMS)
            connection.sendmsg([b"\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
            connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            return None
        with connection.makefile() as answer:
            status = answer.readline()
    return int(status) if status else 1  # the worker was killed, and the command with it


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
    import shutil
    import subprocess
    import tempfile
    import threading

    if not can_serve() or Path(os.environ.get(WORKER) or os.devnull).is_socket():
        return
    folder = tempfile.mkdtemp(prefix="humanline-")
    # The worker also removes it, in case this process is killed.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = str(Path(folder) / "socket")
    # One thread: a thread pool would be lost in the fork, and each command sets its own number.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = os.environ | threads
    command = [sys.executable, "-m", "humanline", "worker", path, *map(str, study)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if tell else None,
        text=True,
        errors="replace",
        env=environment,
    )
    os.environ[WORKER] = path
    if tell and process.stderr:
        lines = map(str.rstrip, process.stderr)
        threading.Thread(target=lambda: [*map(tell, lines)], daemon=True).start()


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
    from humanline.cli import parser, run_locks  # noqa: F401
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


def serve(path: Path, run: Callable[[list[str]], int]) -> None:
    """Listen at `path` and run commands in children, until the standard input ends.

    A child is ended if its command is killed. All children are ended when the standard input ends:
    if a killed workflow is started again, old children could write the files of its new jobs.

    Args:
        path: the path of the socket.
        run: (a command's arguments) -> its exit status.

    Raises:
        ConfigError: if no socket can be made at `path`; commands then run themselves.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the children handle it
    gc.freeze()  # a child's garbage collector would touch, and so copy, all imported objects
    with (
        socket.socket(socket.AF_UNIX) as listener,
        _signals_of_children() as signals,
        selectors.DefaultSelector() as selector,
    ):
        _bind(listener, path)
        listener.listen()
        commands = _Commands(selector, run)
        selector.register(listener, selectors.EVENT_READ, lambda: commands.accept(listener))
        selector.register(signals, selectors.EVENT_READ, lambda: commands.answer(signals))
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    commands.end_all()
                    return
                key.data()


def serve_workflow(path: Path, run: Callable[[list[str]], int]) -> None:
    """Serve a workflow at `path`, unless it has ended, and remove the folder of the socket after.

    Args and errors are those of `serve`.
    """
    if not path.parent.exists():  # the workflow has ended and removed its folder
        return
    try:
        serve(path, run)
    finally:  # a killed workflow does not remove its folder
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _bind(listener: socket.socket, path: Path) -> None:
    try:
        listener.bind(str(path))
    except OSError as error:
        # Imported here, because every command imports this module and should start fast.
        from humanline.files.validation import ConfigError

        raise ConfigError(
            f"{path}: no socket can be made there ({error}), so each command starts by itself, "
            "which takes seconds; set TMPDIR to a shorter path"
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
        self._waiting: dict[int, socket.socket] = {}  # by the child's process id

    def accept(self, listener: socket.socket) -> None:
        """Accept one request and run it in a forked child, which does not return."""
        connection, _ = listener.accept()
        _, streams, *_ = socket.recv_fds(connection, 1, len(_STREAMS))
        with connection.makefile() as lines:
            line = lines.readline()
        if not line.endswith("\n"):  # the client was killed while it sent the request
            connection.close()
        elif child := os.fork():
            self._waiting[child] = connection
            self._selector.register(
                connection, selectors.EVENT_READ, lambda: self._end(child, connection)
            )
        else:
            self._become(json.loads(line), streams, connection)
        for stream in streams:
            os.close(stream)

    def _become(self, request: dict, streams: list[int], connection: socket.socket) -> NoReturn:
        """Run a command in this child, and end the child."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Close the worker's sockets: a client notices the worker's end only if no child holds them.
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        connection.close()
        # What the worker's imports registered is not for a child to undo: for torch alone that
        # takes 30 ms, a fifth of a short command.
        for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
            finalizer.atexit = False
        status = _run(request, streams, self._execute)
        # Run the exit functions as Python does, but skip the slow teardown of modules.
        atexit._run_exitfuncs()
        os._exit(status)

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
        """End all children."""
        for child in self._waiting:
            os.kill(child, signal.SIGTERM)

    def _end(self, child: int, connection: socket.socket) -> None:
        """End a child whose client is gone."""
        self._selector.unregister(connection)
        os.kill(child, signal.SIGTERM)  # its process id is still its own: nobody has waited for it


def _run(request: dict, streams: list[int], run) -> int:
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, standard in zip(streams, _STREAMS, strict=True):
        os.dup2(stream, standard)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    # torch read this variable in the worker, before the command's environment was known.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    try:
        return run(request["argv"])
    finally:
        sys.stdout.flush(), sys.stderr.flush()
