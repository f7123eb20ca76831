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
from collections.abc import Callable
from pathlib import Path

VARIABLE = "HUMANLINE_WORKER"  # names the worker's socket
_STREAMS = (0, 1, 2)


def delegate(argv: list[str]) -> int | None:
    """Have the environment's worker run a command: its exit status, or None without a worker."""
    path = os.environ.get(VARIABLE)
    if not path:
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


def serve(path: Path, run: Callable[[list[str]], int]) -> None:
    """Listen at `path` and run commands in children until the standard input ends.

    A child is ended when the command that waits for it is, as a killed job's.

    Args:
        run: from a command's arguments to its exit status.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the children
    gc.freeze()  # a child's collector would touch, and so copy, all that was imported
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(str(path))
        listener.listen()
        selector.register(listener, selectors.EVENT_READ, lambda: _accept(listener, selector, run))
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                key.data()


def _accept(listener: socket.socket, selector: selectors.BaseSelector, run) -> None:
    """Fork a child for the command at the door. A child does not return."""
    connection, _ = listener.accept()
    _, streams, *_ = socket.recv_fds(connection, 1, len(_STREAMS))
    with connection.makefile() as lines:
        request = json.loads(lines.readline())
    child = os.fork()
    if child == 0:
        # Or a command would not notice that its worker is gone.
        for key in list(selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        connection.close()
        status = _run(request, streams, run)
        # As the interpreter does when it ends, but without taking down what it has imported.
        atexit._run_exitfuncs()
        os._exit(status)
    for stream in streams:
        os.close(stream)
    _Child(child, connection, selector)


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


class _Child:
    """A running command: answers when it ends, and ends it when nobody waits for the answer."""

    def __init__(self, pid: int, connection: socket.socket, selector: selectors.BaseSelector):
        self._pid, self._connection, self._selector = pid, connection, selector
        self._watch = os.pidfd_open(pid)
        selector.register(self._watch, selectors.EVENT_READ, self._answer)
        selector.register(connection, selectors.EVENT_READ, self._kill)

    def _answer(self) -> None:
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):  # who asked may be gone
            self._connection.sendall(f"{code if code >= 0 else 128 - code}\n".encode())
        for watched in (self._watch, self._connection):
            with contextlib.suppress(KeyError):
                self._selector.unregister(watched)
        os.close(self._watch)
        self._connection.close()

    def _kill(self) -> None:
        self._selector.unregister(self._connection)
        signal.pidfd_send_signal(self._watch, signal.SIGTERM)
