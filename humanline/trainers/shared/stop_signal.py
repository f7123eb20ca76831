"""SIGTERM ends training after the running step, with a checkpoint to go on from.

Batch systems and clouds send SIGTERM some seconds before they kill a process. Training then ends
with `Stopped`, the exit status that shells give to a process that SIGTERM has ended.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import TrainerCallback
from transformers.trainer_jit_checkpoint import JITCheckpointCallback

from humanline.trainers.options.trainer import TrainerOfTrl

STATUS = 128 + signal.SIGTERM


class Stopped(SystemExit):
    """SIGTERM has ended training, after a checkpoint was written."""

    def __init__(self, message: str):
        super().__init__(STATUS)
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopsOnSigterm(TrainerOfTrl):
    """Mixin before a Trainer with the option `enable_jit_checkpoint`.

    The callback of transformers saves within a step, three seconds after the signal, and then lets
    `train` return as if training were complete. A run that goes on from there trains on other
    batches. This mixin takes its place.
    """

    _is_asked_to_stop = False

    def _watch_signal(self) -> None:
        """Take the place of transformers' callback. To be called last in `__init__`."""
        theirs = self.pop_callback(JITCheckpointCallback)
        if not isinstance(theirs, JITCheckpointCallback):
            return
        if theirs.jit_manager:
            _restore(theirs.jit_manager._original_sigterm_handler)
        self.add_callback(_StopAfterStep(self))

    def train(self, *args, **kwargs):
        """Train as TRL does; with `enable_jit_checkpoint`, SIGTERM ends it with a checkpoint.

        Raises:
            Stopped: if a signal came, after the checkpoint was written. It is a `SystemExit`.
        """
        if not self.args.enable_jit_checkpoint:
            return super().train(*args, **kwargs)
        with self._listening():
            return super().train(*args, **kwargs)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        self._is_asked_to_stop = False
        if threading.current_thread() is not threading.main_thread():  # it gets no signals
            yield
            return

        def ask(*_) -> None:
            self._is_asked_to_stop = True

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield
        finally:
            _restore(before)

    def _must_stop(self) -> bool:
        """Say whether any process got the signal. All processes must ask at the same step."""
        if self.args.world_size == 1:
            return self._is_asked_to_stop
        asked = torch.tensor(float(self._is_asked_to_stop), device=self.accelerator.device)
        self._is_asked_to_stop = bool(self.accelerator.reduce(asked, reduction="sum") > 0)
        return self._is_asked_to_stop

    def _finalize_training(self, *args, **kwargs):
        """End training, unless the signal has: then nothing may be deleted or taken for its end."""
        if self._is_asked_to_stop and self.state.global_step < self.state.max_steps:
            run, step = Path(self.args.output_dir), self.state.global_step
            stopped = Stopped(
                f"SIGTERM: stopped after step {step} of {self.state.max_steps}; go on from "
                f"{run / f'checkpoint-{step}'}, which is whole"
            )
            if self.is_world_process_zero():
                print(f"humanline: {stopped}", file=sys.stderr, flush=True)
            raise stopped
        return super()._finalize_training(*args, **kwargs)


class _StopAfterStep(TrainerCallback):
    """Asks the Trainer for a checkpoint and the end of training, if a signal came."""

    def __init__(self, trainer: StopsOnSigterm):
        self._trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        if self._trainer._must_stop():
            control.should_save = control.should_training_stop = True

    def on_evaluate(self, args, state, control, **kwargs):  # it may take as long as many steps
        if state.global_step:
            self.on_step_end(args, state, control)


def _restore(handler) -> None:
    """Set the handler that `signal.signal` returned; None: one that Python did not set."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)
