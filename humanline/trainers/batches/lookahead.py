"""Reading the batches of the next optimizer steps before the Trainer asks for them."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

import torch

from humanline.files.validation import ConfigError
from humanline.trainers.batches.order import set_epoch


class Lookahead:
    """Reads a Trainer's dataloader ahead, across the ends of epochs.

    Args:
        loader: the Trainer's dataloader, for the epochs after the present one.
        accumulation: batches per optimizer step. The last step of an epoch may have fewer.
    """

    def __init__(self, loader, accumulation: int):
        self._loader = loader
        self._accumulation = accumulation
        self._updates: deque[tuple[int, list]] = deque()  # (epoch, batches), not yet taken
        self._iterator: Iterator = iter(())
        self._epoch = -1  # the epoch that `_iterator` reads
        self._begun = -1  # the last epoch that the Trainer began

    def begin(self, epoch: int, iterator: Iterator) -> None:
        """Begin an epoch of the Trainer, or continue it; a part may have been read already.

        Args:
            epoch: the epoch's number.
            iterator: the Trainer's iterator of the epoch.

        Raises:
            ConfigError: if batches of an earlier epoch were read ahead and never taken.
        """
        if epoch == self._begun:
            return
        self._begun = epoch
        if self._updates and self._updates[0][0] < epoch:
            raise ConfigError(
                f"epoch {self._updates[0][0]} was ended by a callback, but reference='cached' has "
                "scored later batches of it already; use reference='model' or 'adapter'"
            )
        if epoch > self._epoch:
            self._epoch, self._iterator = epoch, iterator
        else:  # the iterator stays unused: draw the seed that it would have drawn
            torch.empty((), dtype=torch.int64).random_()

    def take(self, epoch: int) -> list:
        """Return the batches of the next step; none if the epoch has no more."""
        if not self._updates and self._epoch == epoch:
            self._read()
        if self._updates and self._updates[0][0] == epoch:
            return self._updates.popleft()[1]
        return []

    def peek(self, index: int) -> list:
        """Return the batches of the step that is `index` steps after the next one.

        Raises:
            RuntimeError: if the dataloader is empty.
        """
        while len(self._updates) <= index:
            if not self._read():
                # A dataloader draws a seed when it starts. Here it is too early for that draw.
                with torch.random.fork_rng(devices=[]):
                    self._begin_next_epoch()
                    if not self._read():
                        raise RuntimeError("the training set gives no batch")
        return self._updates[index][1]

    def _read(self) -> bool:
        batches = list(islice(self._iterator, self._accumulation))
        if batches:
            self._updates.append((self._epoch, batches))
        return bool(batches)

    def _begin_next_epoch(self) -> None:
        """Start the loader as the Trainer will, in the order of the next epoch."""
        self._epoch += 1
        set_epoch(self._loader, self._epoch)
        self._iterator = iter(self._loader)
