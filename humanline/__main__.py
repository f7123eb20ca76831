"""`python -m humanline` is the command `humanline`, run by a warm worker where there is one."""

import sys

from humanline.cli.worker import delegate

status = delegate(sys.argv[1:])
if status is None:
    from humanline.cli.commands import main

    status = main()
sys.exit(status)
