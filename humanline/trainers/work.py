"""Training that does its work: steps are taken, and rows that are not trained on are counted."""

from collections import Counter
from contextlib import contextmanager
from unittest import mock

from accelerate.logging import get_logger
from datasets import Dataset, IterableDataset
from transformers import TrainerCallback
from transformers.trainer_utils import has_length

from humanline.validation import ConfigError

logger = get_logger(__name__)


class CountedRows:
    """Mixin before a TRL trainer: rows that are dropped or cut are told once, and logged.

    They are `dropped_rows` and `truncated_rows` in each row of the log. It is an error if none is
    left.
    """

    examples_per_pair = 1  # rows that a pair of chosen and rejected becomes
    _rows_lost: Counter = Counter()  # training rows by what befalls them

    def log(self, logs: dict, *args, **kwargs) -> None:
        if self.model.training:
            logs |= {f"{kind}_rows": number for kind, number in self._rows_lost.items() if number}
        super().log(logs, *args, **kwargs)

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        name = f"{dataset_name} dataset"
        if next(iter(dataset), None) is None:
            raise ConfigError(f"the {name} has no rows; give it some")
        with _counting_streams() as lost:
            prepared = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if not isinstance(prepared, Dataset):  # whose rows are not known yet
            if dataset_name == "train":
                self._rows_lost = lost
            return prepared
        is_paired = {"chosen", "rejected"} <= set(dataset.column_names)
        given = len(dataset) * (self.examples_per_pair if is_paired else 1)
        dropped, cut = given - len(prepared), _longer(prepared, args.max_length)
        reason = f"longer than max_length={args.max_length}"
        if not len(prepared):
            raise ConfigError(
                f"all {given} rows of the {name} are dropped, as their prompts leave no room for a "
                f"completion in max_length={args.max_length}; raise it, or shorten the prompts"
            )
        if dropped:
            logger.warning(f"{dropped} of {given} rows of the {name} are dropped: prompts {reason}")
        if cut:
            logger.warning(f"{cut} of {given} rows of the {name} are truncated: {reason}")
        if dataset_name == "train":
            self._rows_lost = Counter(dropped=dropped, truncated=cut)
        return prepared


@contextmanager
def _counting_streams():
    """Count what the filters drop that streams get here, when they are read."""
    lost, filter_rows = Counter(), IterableDataset.filter

    def counted(dataset, is_kept, *args, **kwargs):
        return filter_rows(dataset, _CountedFilter(is_kept, lost), *args, **kwargs)

    with mock.patch.object(IterableDataset, "filter", counted):
        yield lost


class _CountedFilter:
    """A filter of rows that counts what it drops."""

    def __init__(self, is_kept, lost: Counter):
        self._is_kept, self._lost = is_kept, lost

    def __call__(self, row) -> bool:
        is_kept = self._is_kept(row)
        self._lost["dropped"] += not is_kept
        return is_kept


def _longer(dataset: Dataset, max_length: int | None) -> int:
    """How many rows are longer than a collator lets them be."""
    columns = set(dataset.column_names)
    answers = sorted(columns & {"completion_ids", "chosen_ids", "rejected_ids"})
    if max_length is None or "prompt_ids" not in columns:
        return 0
    rows = dataset.select_columns(["prompt_ids", *answers]).with_format("numpy")
    return sum(
        len(row["prompt_ids"]) + max(len(row[name]) for name in answers) > max_length
        for row in rows
    )


def require_full_batch(dataset, args) -> int:
    """How many prompts each epoch of GRPO leaves out, as they do not fill a generation batch.

    Raises:
        ConfigError: if it leaves out all.
    """
    if not has_length(dataset):
        return 0
    needed = args.generation_batch_size // args.num_generations
    left = len(dataset) % needed
    if left == len(dataset):
        raise ConfigError(
            f"no step can be taken: {left} prompts do not fill one generation batch of {needed}; "
            "give more, or lower per_device_train_batch_size or steps_per_generation"
        )
    if left:
        logger.warning(
            f"{left} of {len(dataset)} prompts are left out of each epoch, drawn anew: a generation "
            f"batch takes {needed}"
        )
    return left


class RequireSteps(TrainerCallback):
    """Refuses a training, or an epoch of it, that takes no step, before anything is saved."""

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        if 0 < state.max_steps <= state.global_step:
            raise ConfigError(
                f"step {state.global_step} of {state.max_steps} is reached already, and nothing is "
                "left to train; raise max_steps or num_train_epochs, or begin anew"
            )
        if has_length(train_dataloader) and not len(train_dataloader):
            raise ConfigError(_no_batch(args))

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._first_step = state.global_step

    def on_epoch_end(self, args, state, control, **kwargs):
        if state.global_step == self._first_step:
            raise ConfigError(_no_batch(args))


def _no_batch(args) -> str:
    size = args.per_device_train_batch_size * args.world_size
    return (
        f"no step can be taken: the training rows do not fill one batch of {size}; give more rows, "
        "or lower per_device_train_batch_size"
    )
