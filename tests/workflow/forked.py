"""The command `snakemake`, forked from a process that has imported it, so that it starts sooner.

For the many runs that plan, or refuse, with the code of this repository.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from humanline.cli import WORKER

ROOT = Path(__file__).parents[2]
GIVEN = "WORKER_OF_A_TEST"
# With what a Snakefile of ours imports, and the code parsed whose hashes it makes.
SERVER = f"""
import os, sys
from pathlib import Path

import torch
import snakemake.cli, snakemake.workflow
import humanline.study.study, humanline.tables.power
from humanline.cli.local.worker import serve
from humanline.files.code_hashes import code_hash

def run(argv):
    # Of this process; a workflow starts a worker of its own, if it is given none.
    del os.environ["{WORKER}"]
    if worker := os.environ.pop("{GIVEN}", None):
        os.environ["{WORKER}"] = worker
    sys.argv[:] = ["snakemake", *argv]
    snakemake.cli.main()

code_hash("train", by_value=True)
serve(sys.argv[1], run)
"""
CLIENT = """
import sys
from humanline.cli.local.worker import delegate

status = delegate(sys.argv[1:])
assert status is not None, "the process that forks has ended"
sys.exit(status)
"""


@cache
def server() -> tuple[Path, subprocess.Popen]:
    """Start the process, which ends with this one, and return it with the path of its socket."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # a socket's path is short
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    socket = folder / "socket"
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, socket], stdin=subprocess.PIPE, cwd=ROOT
    )
    while not socket.exists():
        assert process.poll() is None
        time.sleep(0.05)
    return socket, process


def snakemake(
    *arguments, cwd: Path = ROOT, worker: Path | None = None
) -> subprocess.CompletedProcess:
    """Run snakemake.

    Args:
        worker: the socket of a worker for its jobs; without one it starts its own.
    """
    socket, _ = server()
    given = {GIVEN: str(worker)} if worker else {}
    return subprocess.run(
        [sys.executable, "-c", CLIENT, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | given | {WORKER: str(socket)},
        capture_output=True,
        text=True,
    )
