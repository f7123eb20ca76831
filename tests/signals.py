"""SIGTERM for tests: training in a child process that gets the signal within a step."""

import os
import signal
import sys
import traceback
from collections.abc import Callable

from transformers import TrainerCallback


class SignalAt(TrainerCallback):
    """Sends SIGTERM to its own process at a moment of a step, as a batch system would.

    Args:
        step: the number of steps before.
        moment: the callback's method.
    """

    def __init__(self, step: int, moment: str = "on_step_begin"):
        self._step = step
        setattr(self, moment, self._send)

    def _send(self, args, state, control, **kwargs):
        if state.global_step == self._step:
            os.kill(os.getpid(), signal.SIGTERM)


def in_a_child(work: Callable[[], object]) -> int:
    """Do work in a forked process; return its exit status, or minus the signal it died of."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        work()
        status = 0
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
