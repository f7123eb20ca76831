"""Training that does its work: it takes steps, or says why not before anything is saved."""

from accelerate.logging import get_logger
from transformers import TrainerCallback
from transformers.trainer_utils import has_length

from humanline.files.validation import ConfigError

logger = get_logger(__name__)


def require_full_batch(dataset, args) -> dict[str, int]:
    """The number of prompts that each epoch of GRPO leaves out, as they fill no generation batch.

    Raises:
        ConfigError: if it leaves out all.
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
    """The loader of training, or an error if it is known to give no batch."""
    if has_length(loader) and not len(loader):
        raise ConfigError(_no_batch(args))
    return loader


class RequireSteps(TrainerCallback):
    """Refuses a training, or an epoch of it, that takes no step, before anything is saved.

    A run that is resumed from its last checkpoint has no step left, and ends as it would have.
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
