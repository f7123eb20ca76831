"""The command `humanline`, also `python -m humanline`; a warm worker runs it if there is one."""

import sys

try:
    from humanline.cli.local.lifeline import watch
    from humanline.cli.local.worker import delegate

    watch()
    status = delegate(sys.argv[1:])
    if status is None:
        from humanline.cli.commands import main

        status = main()
except KeyboardInterrupt:  # while packages are imported, or while a worker runs the command
    status = 130
sys.exit(status)
