"""One command on several devices: `accelerate launch` starts it once for each."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from humanline.cli.worker import VARIABLE
from humanline.files.validation import ConfigError

CONFIGURATION = Path("recipes/accelerate/fsdp2.yaml")  # weights sharded by FSDP2, one machine


def launch(arguments: list[str], devices: int, *, bf16: bool) -> None:
    """Run a humanline command in one process per device, and wait for all, or end them if ended.

    Args:
        arguments: of the command, its name first.
        devices: how many of this machine's devices, in place of the configuration's number.
        bf16: whether to compute in bfloat16, in place of the configuration's precision.

    Raises:
        ConfigError: if a process fails; all are ended then.
    """
    # Forked from a warm worker, the processes could not each have their device.
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    words = command(arguments, devices, bf16=bf16)
    with subprocess.Popen(words, env=environment) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    if process.returncode:
        raise ConfigError("one of the processes that train together failed, and says why above")


def command(arguments: list[str], devices: int, *, bf16: bool) -> list[str]:
    """What `launch` runs."""
    options = {
        "config_file": CONFIGURATION,
        "num_processes": devices,
        "mixed_precision": "bf16" if bf16 else "no",
        "main_process_port": 0,  # a free one: other jobs may share the machine
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", *words]
    return [*accelerate, "-m", "humanline", *arguments]
