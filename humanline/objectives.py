"""The losses of `humanline.method.losses` at their old path.

The registry of objectives is `humanline.trainers.registry`.
"""

from humanline.method.losses import *  # noqa: F403
