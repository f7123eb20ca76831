"""The losses, at their old path: they live in `humanline.method.losses`.

Objectives, the trainers' names for them, are in `humanline.trainers.registry`.
"""

from humanline.method.losses import *  # noqa: F403
