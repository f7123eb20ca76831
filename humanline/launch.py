"""One command on several devices: `accelerate launch` starts it once for each."""

import os
import subprocess
import sys
from pathlib import Path

from humanline.worker import VARIABLE

CONFIGURATION = Path("recipes/accelerate/fsdp2.yaml")  # weights sharded by FSDP2, one machine


def launch(arguments: list[str], devices: int, *, bf16: bool) -> None:
    """Run a humanline command in one process per device, and wait for all.

    Args:
        arguments: of the command, its name first.
        devices: how many of this machine's devices, in place of the configuration's number.
        bf16: whether to compute in bfloat16, in place of the configuration's precision.

    Raises:
        subprocess.CalledProcessError: if a process fails; all are ended then.
    """
    # Forked from a warm worker, the processes could not each have their device.
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    subprocess.run(command(arguments, devices, bf16=bf16), env=environment, check=True)


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
