"""A warm process that commands are forked from, so that they need not import for seconds.

Importing TRL and transformers takes longer than many of the miniature's jobs. A workflow that runs
on this machine starts one `humanline worker`, which imports them once. A command that finds its
socket in the environment hands itself over and waits, and the worker forks a child that runs it
with the command's arguments, environment, folder and streams. Without a worker that answers, the
command runs itself.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

VARIABLE = "HUMANLINE_WORKER"  # names the worker's socket
_STREAMS = (0, 1, 2)


def delegate(argv: list[str]) -> int | None:
    """Have the environment's worker run a command: its exit status, or None without a worker."""
    path = os.environ.get(VARIABLE)
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
    """Whether this system can fork a process that has imported torch.

    On macOS system libraries that torch loads crash in such a child, and Windows has no fork.
    """
    return sys.platform == "linux"


def start() -> None:
    """Start a worker that ends with this process, its standard input, and have commands use it.

    Where a system cannot fork it, each command runs itself.
    """
    # Here, as a client that imports this module should start fast.
    import shutil
    import subprocess
    import tempfile

    if not can_serve():
        return
    folder = tempfile.mkdtemp(prefix="humanline-")
    # The worker removes it as well, where this process is killed.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = str(Path(folder) / "socket")
    # Its threads are set by the commands: a pool made before the fork would be lost.
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "humanline", "worker", path]
    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    os.environ[VARIABLE] = path


def serve(path: Path, run: Callable[[list[str]], int]) -> None:
    """Listen at `path` and run commands in children until the standard input ends.

    A child is ended when the command that waits for it is, as a killed job's, and all are at the
    end: of a killed workflow, which is started anew, they would write what its jobs write.

    Args:
        run: from a command's arguments to its exit status.

    Raises:
        ConfigError: if there can be no socket at `path`; commands then run themselves.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the children
    gc.freeze()  # a child's collector would touch, and so copy, all that was imported
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


def _bind(listener: socket.socket, path: Path) -> None:
    try:
        listener.bind(str(path))
    except OSError as error:
        # Here, as a client that imports this module should start fast.
        from humanline.files.validation import ConfigError

        raise ConfigError(
            f"{path}: no socket can be made there ({error}), so each command starts by itself, "
            "which takes seconds; set TMPDIR to a shorter path"
        ) from None


@contextlib.contextmanager
def _signals_of_children() -> Iterator[socket.socket]:
    """A socket that can be read once a child has ended: Python writes its signals there."""
    read, write = socket.socketpair()
    with read, write:
        read.setblocking(False)
        write.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # of a signal without handler it tells not
        signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        try:
            yield read
        finally:
            signal.set_wakeup_fd(-1)


class _Commands:
    """The commands that run, each in a child, and the connections of those who wait for them."""

    def __init__(self, selector: selectors.BaseSelector, run: Callable[[list[str]], int]):
        self._selector, self._execute = selector, run
        self._waiting: dict[int, socket.socket] = {}  # by the child's process

    def accept(self, listener: socket.socket) -> None:
        """Fork a child for the command at the door. A child does not return."""
        connection, _ = listener.accept()
        _, streams, *_ = socket.recv_fds(connection, 1, len(_STREAMS))
        with connection.makefile() as lines:
            line = lines.readline()
        if not line.endswith("\n"):  # who asked was killed as it asked
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
        """Run a command in this process, and end it."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Or a command would not notice that its worker is gone.
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        connection.close()
        status = _run(request, streams, self._execute)
        # As the interpreter does when it ends, but without taking down what it has imported.
        atexit._run_exitfuncs()
        os._exit(status)

    def answer(self, signals: socket.socket) -> None:
        """Tell whose children have ended."""
        signals.recv(4096)  # several ends may be one signal
        for child in list(self._waiting):
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                continue
            code = os.waitstatus_to_exitcode(status)
            with self._waiting.pop(child) as connection:
                with contextlib.suppress(OSError):  # who asked may be gone
                    connection.sendall(f"{code if code >= 0 else 128 - code}\n".encode())
                with contextlib.suppress(KeyError):
                    self._selector.unregister(connection)

    def end_all(self) -> None:
        """End all children."""
        for child in self._waiting:
            os.kill(child, signal.SIGTERM)

    def _end(self, child: int, connection: socket.socket) -> None:
        """End a child that nobody waits for."""
        self._selector.unregister(connection)
        os.kill(child, signal.SIGTERM)  # it has not been waited for, so it has its number still


def _run(request: dict, streams: list[int], run) -> int:
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, standard in zip(streams, _STREAMS, strict=True):
        os.dup2(stream, standard)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    # Which was read when the worker imported torch.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    try:
        return run(request["argv"])
    finally:
        sys.stdout.flush(), sys.stderr.flush()
