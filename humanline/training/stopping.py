"""SIGTERM while a run trains: it ends its step, writes a checkpoint and stops.

Snakemake's SIGTERM reaches its jobs (see `cli.local.lifeline`), and that of a cluster, too.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback

STOPPED = 128 + signal.SIGTERM  # exit status, as shells have it


class StopsOnTerm(TrainerCallback):
    """Makes a trainer write a checkpoint and stop at the end of the step in which SIGTERM comes.

    Args:
        trainer: the trainer. If several processes train, they stop after the same step.
    """

    def __init__(self, trainer: Any):
        self._trainer = trainer
        self._is_asked = self.has_stopped = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM for a request to stop; elsewhere than in the main thread it cannot be."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _ask(self, *_: object) -> None:
        self._is_asked = True
        # The process may be within a write to the log: print would not be safe here.

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step < args.max_steps and self._is_agreed():
            self.has_stopped = control.should_save = control.should_training_stop = True

    def _is_agreed(self) -> bool:
        """Say whether a process was asked; every process must know it after the same step."""
        if self._trainer.args.world_size == 1:
            return self._is_asked
        import torch

        accelerator = self._trainer.accelerator
        asked = torch.tensor(float(self._is_asked), device=accelerator.device)
        return bool(accelerator.reduce(asked, "sum") > 0)

    def exit_if_stopped(self) -> None:
        """End this process if the training was stopped, so that no result is written."""
        if self.has_stopped:
            step = self._trainer.state.global_step
            print(
                f"humanline: stopped after step {step}; the same command goes on from there",
                file=sys.stderr,
                flush=True,
            )
            sys.exit(STOPPED)
