"""Processes that train together, forked from one that has imported what they need: `forkserver`.

As `torchrun --standalone` starts them, but for the minute that imports take in each.
"""

import multiprocessing
import os
import runpy
import socket
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORKS = multiprocessing.get_context("forkserver")
# It computes nothing: a fork of a process that has would not train.
FORKS.set_forkserver_preload(
    [
        "peft",
        "transformers.models.llama.modeling_llama",
        "humanline.trainers.dpo",
        "humanline.trainers.kto",
        "humanline.trainers.grpo",
        "humanline.training.cell",
        "humanline.training.recipes.recipe",
    ]
)


def run_together(log: Path, *words, processes: int = 2, **environment) -> None:
    """Run a program as torchrun does.

    Args:
        log: what the processes print goes there.
        words: the program's file, or ``-m`` and a module, and arguments.
        environment: variables beside this process's own.

    Raises:
        AssertionError: if a process fails, with the log; the others are ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | environment | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
    started = []
    for rank in map(str, range(processes)):
        own = dict(shared) | {"RANK": rank, "LOCAL_RANK": rank}
        started.append(FORKS.Process(target=_become, args=([*map(str, words)], own, log)))
        started[-1].start()
    while None in (statuses := [process.exitcode for process in started]):
        if any(statuses):  # it would wait for those that have failed
            for process in started:
                process.kill()
        time.sleep(0.02)
    assert not any(statuses), f"{statuses}\n{log.read_text()}"


def _become(words: list[str], environment: dict[str, str], log: Path) -> None:
    with open(log, "a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    if words[0] == "-m":
        sys.argv[:] = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = words
        runpy.run_path(words[0], run_name="__main__")
