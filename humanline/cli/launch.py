"""One command on several devices: `accelerate launch` starts one process for each."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from humanline.cli import WORKER
from humanline.files.validation import ConfigError

CONFIGURATION = Path("recipes/accelerate/fsdp2.yaml")  # weights sharded by FSDP2, one machine


def launch(arguments: list[str], devices: int, *, bf16: bool) -> None:
    """Run a humanline command in one process per device, and wait for all of them.

    If this process is ended, it ends them first.

    Args:
        arguments: the command's name and its arguments.
        devices: number of this machine's devices; it replaces the number in `CONFIGURATION`.
        bf16: whether to compute in bfloat16; it replaces the precision in `CONFIGURATION`.

    Raises:
        ConfigError: if a process fails; accelerate ends the others.
    """
    # Without the warm worker: processes forked from it could not each take their own device.
    environment = {key: value for key, value in os.environ.items() if key != WORKER}
    words = command(arguments, devices, bf16=bf16)
    was_stopped = False

    def stop(*_: object) -> None:
        nonlocal was_stopped
        was_stopped = True
        process.terminate()  # accelerate sends it on

    with subprocess.Popen(words, env=environment) as process:
        signal.signal(signal.SIGTERM, stop)
    if process.returncode and was_stopped:
        sys.exit(128 + signal.SIGTERM)
    if process.returncode:
        raise ConfigError("one of the processes that train together failed, and says why above")


def command(arguments: list[str], devices: int, *, bf16: bool) -> list[str]:
    """Build the command line that `launch` runs, with the same arguments."""
    options = {
        "config_file": CONFIGURATION,
        "num_processes": devices,
        "mixed_precision": "bf16" if bf16 else "no",
        "main_process_port": 0,  # a free one: other jobs may share the machine
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", *words]
    return [*accelerate, "-m", "humanline", *arguments]
