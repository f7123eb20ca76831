"""Refusing a training that takes no step, before anything is saved."""

from accelerate.logging import get_logger
from transformers import TrainerCallback
from transformers.trainer_utils import has_length

from humanline.files.validation import ConfigError

logger = get_logger(__name__)


def require_full_batch(dataset, args) -> dict[str, int]:
    """Count the prompts that an epoch of GRPO leaves out because they fill no generation batch.

    Args:
        dataset: the training set, or None.
        args: a GRPO config.

    Returns:
        ``{"prompts_left_out": number}``; empty for a stream, whose length is unknown.

    Raises:
        ConfigError: if an epoch leaves out all prompts.
    """
    if dataset is None or not has_length(dataset):
        return {}
    needed = args.generation_batch_size // args.num_generations
    left = len(dataset) % needed
    if left == len(dataset):
        raise ConfigError(
            f"no step can be taken: {left} prompts do not fill one generation batch of {needed}; "
            "give more, or lower per_device_train_batch_size or steps_per_generation"
        )
    if left:
        logger.warning(
            f"{left} of {len(dataset)} prompts, others each time, are left out of an epoch: a "
            f"generation batch takes {needed}"
        )
    return {"prompts_left_out": left}


def require_batches(loader, args):
    """Return the loader of training; raise a ConfigError if it is known to give no batch."""
    if has_length(loader) and not len(loader):
        raise ConfigError(_no_batch(args))
    return loader


class RequireSteps(TrainerCallback):
    """Refuses an epoch that takes no step, before anything is saved.

    A run that is resumed from its last checkpoint begins no epoch, so it ends without an error.
    """

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._first_step = state.global_step

    def on_epoch_end(self, args, state, control, **kwargs):
        if state.global_step == self._first_step:
            raise ConfigError(_no_batch(args))


def _no_batch(args) -> str:
    size = args.per_device_train_batch_size * args.world_size
    return (
        f"no step can be taken: the training rows that are left do not fill one batch of {size}; "
        "give more, raise max_length where it drops them, or lower per_device_train_batch_size"
    )
