"""The losses at the path that the README promised; they live in `humanline.method.losses`."""

from humanline.method.losses import *  # noqa: F403
