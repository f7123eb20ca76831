"""What clients ask of the worker: a command with its folder, its environment and its streams.

A request is read in parts as they come, so no client can keep the worker from the others.
"""

import json
import os
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

STREAMS = (0, 1, 2)
PATIENCE = 10.0  # seconds until a request must be whole
_LARGEST = 1 << 23  # bytes of a request; an environment is far smaller
_PART = 1 << 16
_UCRED = "3i"  # Linux' struct ucred: process, user, group


class RefusedError(Exception):
    """A client that sends no request, or is another user's."""


@dataclass(frozen=True)
class Request:
    """A command to run.

    Attributes:
        argv: its arguments.
        folder: its working directory.
        environment: its environment variables.
        streams: its standard input, output and errors, as this process's file descriptors.
    """

    argv: list[str]
    folder: str
    environment: dict[str, str]
    streams: list[int]


def address(name: str) -> str:
    """Return the address of a socket: ``@name`` is one without a file, as Linux has them."""
    return f"\0{name[1:]}" if name.startswith("@") else name


def is_own(connection: socket.socket) -> bool:
    """Say whether this user's process is at the other end.

    A socket without a file can be reached by all users of a machine.
    """
    if not hasattr(socket, "SO_PEERCRED"):  # not Linux: the socket has a file, which only we read
        return True
    size = struct.calcsize(_UCRED)
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return struct.unpack(_UCRED, peer)[1] == os.geteuid()


def send(connection: socket.socket, argv: list[str]) -> None:
    """Ask the worker to run a command as this process would run it."""
    request = {"argv": argv, "folder": os.getcwd(), "environment": dict(os.environ)}
    socket.send_fds(connection, [b"\n"], STREAMS)
    connection.sendall(json.dumps(request).encode() + b"\n")


def next_line(answer: TextIO) -> str:
    """Read a line of the worker's answer; empty if the worker has ended."""
    try:
        return answer.readline().strip()
    except ConnectionError:  # it was killed before it had read all that was sent
        return ""


class Reader:
    """Reads a request from a connection, in parts.

    Args:
        connection: the connection; it no longer blocks.

    Attributes:
        until: when the request must be whole, by the monotonic clock.
        streams: the streams that have come.
    """

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.until = time.monotonic() + PATIENCE
        self.streams: list[int] = []
        self._text = b""
        connection.setblocking(False)

    def read(self) -> Request | None:
        """Read what has come; return the request once it is whole.

        Raises:
            RefusedError: if it will never be one.
        """
        try:
            part, streams, *_ = socket.recv_fds(self.connection, _PART, len(STREAMS))
        except BlockingIOError:
            return None
        except OSError as error:
            raise RefusedError(str(error)) from None
        self.streams += streams
        self._text += part
        if not part or len(self._text) > _LARGEST or len(self.streams) > len(STREAMS):
            raise RefusedError("not a request")
        if self._text.count(b"\n", 1) == 0:
            return None
        return self._parsed(self._text[1 : self._text.index(b"\n", 1)])

    def _parsed(self, line: bytes) -> Request:
        try:
            asked = json.loads(line)
            argv = [str(word) for word in asked["argv"]]
            environment = {str(name): str(value) for name, value in asked["environment"].items()}
            request = Request(argv, str(asked["folder"]), environment, self.streams)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise RefusedError(f"not a request: {error}") from None
        if len(self.streams) != len(STREAMS):
            raise RefusedError("a request without its streams")
        return request

    def close_streams(self) -> None:
        """Close the streams that were sent."""
        for stream in self.streams:
            with suppress(OSError):
                os.close(stream)
        self.streams = []  # a new list: the request keeps its own

    def close(self) -> None:
        """Close the connection and the streams that were sent."""
        self.close_streams()
        self.connection.close()
