"""The one line of a command's error, and which errors of the system are the user's."""

import os
import sys
import time
import traceback

from humanline.files.json_files import disk_fault
from humanline.files.validation import TRACEBACK, ConfigError, of_system

ERROR_DELAY = 15.0  # seconds that further processes of a machine wait before they print an error


def fault_of(error: Exception, log: str | None = None) -> ConfigError | None:
    """Describe an error of the disk or of a path; None: it is of another kind.

    Args:
        error: the error.
        log: the command's log: an error of the system that names no file is of writing it.
    """
    if log and isinstance(error, OSError):
        error.filename = error.filename or log
    if (found := disk_fault(error)) or not isinstance(error, OSError):
        return found
    return of_system(error) if error.errno is not None and error.filename else None


def print_error(error: ConfigError) -> None:
    """Print a user's error once per machine: processes that train together have the same error.

    A machine's first process prints at once, and accelerate then ends the others. They wait before
    they print, so they print only an error that the first process did not have.
    """
    if int(os.environ.get("LOCAL_RANK", 0)):
        time.sleep(ERROR_DELAY)
    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exc()
    print(f"humanline: error: {error}", file=sys.stderr, flush=True)
