"""The warm worker: a command that it runs cannot be told from one that runs itself."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from humanline.cli.local.requests import PATIENCE

# A worker whose commands tell what they see; 'sleep' waits to be killed.
WORKER = """
import os, pathlib, signal, sys, time
import torch  # else each child has to import it
from humanline.cli.local.worker import serve

def run(argv):
    match argv:
        case ["exit", status]:
            return int(status)
        case ["refuse"]:
            sys.exit("on purpose")
        case ["sleep", path]:
            pathlib.Path(path).write_text(str(os.getpid()))
            time.sleep(60)
        case ["finish", path]:  # what it does when it is asked to end
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
            pathlib.Path(path).write_text(str(os.getpid()))
            time.sleep(60)
        case ["raise"]:
            raise ValueError("on purpose")
        case ["die"]:
            os.kill(os.getpid(), 9)
    print(os.getcwd(), os.environ.get("COLOUR"), sys.stdin.readline().strip())
    print("aside", file=sys.stderr)
    return 0

serve(sys.argv[1], run)
"""
CLIENT = (
    "import sys; from humanline.cli.local.worker import delegate; sys.exit(delegate(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """One for all tests: what a client does may harm none of the others."""
    path = tmp_path_factory.mktemp("worker") / "socket"
    command = [sys.executable, "-c", WORKER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        wait_for(path.exists)
        yield path
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def client(socket: Path, *argv, **options) -> subprocess.Popen:
    environment = os.environ | {"HUMANLINE_WORKER": str(socket), "COLOUR": "green"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", CLIENT, *map(str, argv)]
    return subprocess.Popen(command, env=environment, text=True, **pipes, **options)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_command_has_its_callers_folder_environment_and_streams(worker, tmp_path):
    process = client(worker, "show", cwd=tmp_path)
    out, err = process.communicate("a line\n")
    assert (process.returncode, out) == (0, f"{tmp_path} green a line\n")
    assert err == "aside\n"


@pytest.mark.parametrize("status", [0, 1, 3])
def test_its_exit_status_is_that_of_the_command(worker, status):
    assert client(worker, "exit", status).wait() == status


def test_a_command_that_exits_with_a_text_says_it(worker):
    refused = client(worker, "refuse")
    assert refused.communicate()[1] == "on purpose\n" and refused.returncode == 1


def test_commands_run_side_by_side(worker, tmp_path):
    slow = client(worker, "sleep", tmp_path / "pid")
    wait_for((tmp_path / "pid").exists)
    assert client(worker, "exit", 0).wait() == 0
    slow.kill()


def test_an_error_and_a_kill_are_failures_and_the_worker_lives_on(worker):
    process = client(worker, "raise")
    _, err = process.communicate()
    assert process.returncode == 1 and "on purpose" in err
    assert client(worker, "die").wait() == 128 + signal.SIGKILL
    assert client(worker, "exit", 0).wait() == 0


def test_a_command_ends_with_the_one_who_waits_for_it(worker, tmp_path):
    process = client(worker, "sleep", tmp_path / "pid")
    wait_for((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    assert is_running(pid)
    process.kill()
    wait_for(lambda: not is_running(pid))
    assert client(worker, "exit", 0).wait() == 0


def test_a_worker_needs_nothing_that_linux_alone_has(tmp_path):
    """As on macOS: neither pidfd_open nor what goes with it."""
    without = "import os, signal\ndel os.pidfd_open, signal.pidfd_send_signal\n" + WORKER
    socket = tmp_path / "socket"
    command = [sys.executable, "-c", without, socket]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        wait_for(socket.exists)
        assert client(socket, "exit", 3).wait() == 3
        waiting = client(socket, "sleep", tmp_path / "pid")
        wait_for((tmp_path / "pid").exists)
        waiting.kill()
        wait_for(lambda: not is_running(int((tmp_path / "pid").read_text())))
        assert client(socket, "exit", 0).wait() == 0
        process.stdin.close()
        assert process.wait(timeout=10) == 0


def test_many_ends_at_once_are_all_told(worker):
    clients = [client(worker, "exit", number % 7) for number in range(4)]
    assert [each.wait(timeout=20) for each in clients] == [number % 7 for number in range(4)]


def connected(worker: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(worker))
    return connection


GARBAGE = {
    "nothing": b"",
    "half a request": b'\n{"argv": ["exit"',
    "no JSON": b"\nGET / HTTP/1.1\n",
    "no UTF-8": b"\n\xff\xfe\n",
    "no request": b"\n[1, 2]\n",
    "no arguments": b'\n{"argv": 3, "folder": ".", "environment": {}}\n',
    "no streams": b'\n{"argv": ["exit", "0"], "folder": ".", "environment": {}}\n',
    "deep": b"\n" + b"[" * 100_000 + b"\n",
    "large": b"\n" + b" " * (1 << 24),
}


@pytest.mark.parametrize("request_", GARBAGE.values(), ids=GARBAGE)
def test_garbage_ends_its_own_connection_alone(worker, request_):
    with connected(worker) as connection:
        connection.settimeout(30)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    assert client(worker, "exit", 5).wait() == 5


def test_many_silent_clients_keep_nobody_waiting(worker):
    """Half of them say nothing, half send a part of a request."""
    silent = [connected(worker) for _ in range(300)]
    for connection in silent[::2]:
        with contextlib.suppress(BrokenPipeError):  # more than the worker waits for
            connection.sendall(b'\n{"argv"')
    started = time.monotonic()
    assert client(worker, "exit", 3).wait() == 3
    assert time.monotonic() - started < PATIENCE
    wait_for(lambda: all(is_closed(connection) for connection in silent))
    assert client(worker, "exit", 4).wait() == 4
    for connection in silent:
        connection.close()


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_who_leaves_in_the_middle_of_its_command_leaves_no_child(worker, tmp_path):
    process = client(worker, "finish", tmp_path / "pid")
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    process.kill()  # it cannot wait for what the command would still do
    wait_for(lambda: not is_running(pid))


def test_who_is_asked_to_end_asks_its_command_and_waits_for_it(worker, tmp_path):
    process = client(worker, "finish", tmp_path / "pid")
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    process.terminate()
    assert process.wait(timeout=30) == 7


def test_children_end_with_a_killed_worker(tmp_path):
    path = tmp_path / "socket"
    worker = subprocess.Popen([sys.executable, "-c", WORKER, path], stdin=subprocess.PIPE)
    wait_for(path.exists)
    process = client(path, "sleep", tmp_path / "pid")
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    worker.kill()
    worker.wait()
    worker.stdin.close()
    wait_for(lambda: not is_running(int((tmp_path / "pid").read_text())), seconds=5)
    assert process.wait(timeout=10) == 1
    # And who comes later runs itself.
    assert client(path, "exit", 3).wait() == 0  # None: there is no worker


def test_a_worker_that_ends_before_it_takes_a_command_leaves_it_to_its_client(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        process = client(path, "exit", 3)
        listener.accept()[0].close()
        assert process.wait(timeout=60) == 0  # None


@pytest.mark.skipif(sys.platform != "linux", reason="sockets without a file are Linux'")
def test_a_socket_without_a_file_serves_its_own_user_and_leaves_nothing():
    name = f"@humanline-test-{os.getpid()}"
    with subprocess.Popen([sys.executable, "-c", WORKER, name], stdin=subprocess.PIPE) as process:
        wait_for(lambda: client(name, "exit", 3).wait() == 3)
        if os.geteuid() == 0:  # only root can be somebody else
            other = subprocess.run([sys.executable, "-c", STRANGER, name], capture_output=True)
            assert other.stdout == b"b''\n", other
        process.kill()
    assert client(name, "exit", 3).wait() == 0  # None


STRANGER = """
import os, socket, sys
os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
connection.connect("\\0" + sys.argv[1][1:])
connection.settimeout(5)
print(connection.recv(1))
"""


def test_a_path_too_long_for_a_socket_is_one_line_and_commands_run_themselves(tmp_path):
    """As under a long TMPDIR: a path of a socket has 108 bytes at most, 104 on macOS."""
    path = tmp_path / ("long" * 30) / "socket"
    path.parent.mkdir()
    command = [sys.executable, "-c", WORKER, path]
    worker = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    message = worker.stderr.splitlines()[-1]
    # The command tells it alone.
    assert message.startswith("humanline.files.validation.ConfigError: ")
    assert f"{path}: no socket can be made there (" in message
    assert client(path, "exit", 3).wait() == 0  # None: there is no worker


@pytest.mark.parametrize(("platform", "serves"), [("linux", True), ("darwin", False)])
def test_a_worker_is_for_systems_that_can_fork_torch(platform, serves, monkeypatch):
    from humanline.cli.local.worker import can_serve

    monkeypatch.setattr(sys, "platform", platform)
    assert can_serve() is serves


def test_without_a_worker_a_command_runs_itself(monkeypatch, tmp_path):
    from humanline.cli.local.worker import delegate

    monkeypatch.delenv("HUMANLINE_WORKER", raising=False)
    assert delegate(["check"]) is None
    monkeypatch.setenv("HUMANLINE_WORKER", str(tmp_path / "nobody"))
    assert delegate(["check"]) is None
    command = [sys.executable, "-m", "humanline", "check", "--scale", "smoke"]
    checked = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert checked.returncode == 0 and "valid" in checked.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the worker is not used")
@pytest.mark.parametrize("answer", [b"", b"taken\n"])
def test_a_worker_that_is_killed_before_it_read_everything_ends_its_clients_quietly(
    answer, tmp_path
):
    """What is unread resets the connection, which is no end of a file."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        asking = client(path, "exit", "0")
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(1) == b"\n"  # with the streams, before the command
            assert select.select([connection], [], [], 60)[0]  # the command, which stays unread
            connection.sendall(answer)
    output, errors = asking.communicate(timeout=60)
    assert asking.returncode == (1 if answer else 0)  # 0: it would run the command itself
    assert (output, errors) == ("", "")
