"""`python -m humanline` is the command `humanline`."""

import sys

from humanline.cli import main

sys.exit(main())
